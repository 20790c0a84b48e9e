"""Blocks wait in files that several processes read, and travel as they are where they cannot."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.email_logs import LogBlock, LogLine
from transforms import coders
from transforms.spill import SMALLEST_BYTES, Spill

BLOCK = bytes(range(256)) * (SMALLEST_BYTES // 256)


@pytest.fixture
def workers() -> Iterator[tuple[Spill, Spill]]:
    run, first, second = Spill(), Spill(), Spill()
    run.open_files(2)
    first.adopt(run.files, 0)
    second.adopt(run.files, 1)
    yield first, second
    for file in {*run.files, *first.files}:
        with suppress(OSError):  # a test has closed it
            os.close(file)


def test_a_reference_travels_and_anybody_takes_the_block(workers: tuple[Spill, Spill]) -> None:
    first, second = workers

    travelled = [first.put(BLOCK), second.put(BLOCK + b"2"), first.put(BLOCK + b"3")]

    assert all(len(reference) == 20 for reference in travelled)
    for worker in workers:
        assert [worker.take(reference) for reference in travelled] == [BLOCK, BLOCK + b"2", BLOCK + b"3"]
        assert worker.take(travelled[0]) == BLOCK


@given(st.lists(st.binary(max_size=2 * SMALLEST_BYTES).filter(lambda block: not block.startswith(b"\xff\xff\xff\xff"))))
def test_every_block_comes_out_as_it_went_in(blocks: list[bytes]) -> None:
    spill = Spill()
    spill.open_files(1)
    spill.adopt(spill.files, 0)

    assert [spill.take(travelled) for travelled in map(spill.put, blocks)] == blocks

    os.close(spill.files[0])


def test_threads_do_not_mix_their_blocks(workers: tuple[Spill, Spill]) -> None:
    blocks = [bytes([number]) * (SMALLEST_BYTES + number) for number in range(200)]

    with ThreadPoolExecutor(8) as pool:
        travelled = list(pool.map(workers[0].put, blocks))

    assert list(map(workers[1].take, travelled)) == blocks


def test_another_run_has_files_of_its_own(workers: tuple[Spill, Spill]) -> None:
    first, _ = workers
    first.put(BLOCK)

    first.open_files(1)

    assert os.fstat(first.files[0]).st_size == 0


def test_where_nobody_has_opened_files_blocks_travel() -> None:
    assert Spill().put(BLOCK) == BLOCK
    assert Spill().take(BLOCK) == BLOCK


def test_what_is_small_travels(workers: tuple[Spill, Spill]) -> None:
    assert workers[0].put(BLOCK[1:]) == BLOCK[1:]


def test_a_block_travels_when_the_disk_is_full() -> None:
    spill = Spill()
    full = os.open("/dev/full", os.O_RDWR)
    spill.adopt([full], 0)

    assert spill.put(BLOCK) == BLOCK

    os.close(full)


def test_a_block_that_is_cut_off_travels_and_the_next_is_found(
    workers: tuple[Spill, Spill], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = workers
    write = os.pwrite
    with monkeypatch.context() as nearly_full:
        nearly_full.setattr(os, "pwrite", lambda file, block, start: write(file, block[:10], start))
        assert first.put(BLOCK) == BLOCK

    assert second.take(first.put(BLOCK[::-1])) == BLOCK[::-1]


def test_a_block_that_is_gone_is_an_error(workers: tuple[Spill, Spill]) -> None:
    travelled = workers[0].put(BLOCK)
    os.ftruncate(workers[0].files[0], 10)

    with pytest.raises(OSError, match=r"10 of 1,024 bytes could be read"):
        workers[1].take(travelled)


def test_files_have_no_name(workers: tuple[Spill, Spill]) -> None:
    assert not [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("spill_")]


def test_compressed_structs_wait_there(workers: tuple[Spill, Spill], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coders, "SPILL", workers[0])
    coder = coders.CompressedStructCoder(LogBlock)
    lines = [LogLine("w", os.urandom(8).hex(), "opened", number, 0, f"{number}@a.example") for number in range(500)]

    encoded = coder.encode(LogBlock(lines))

    assert len(encoded) == 20
    assert coder.decode(encoded) == LogBlock(lines)
