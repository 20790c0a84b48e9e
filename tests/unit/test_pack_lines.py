"""What waits to be grouped: every line in one pack of its shard, as the coder of its block would write it."""

from typing import Any

import msgspec
import pytest

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, LogLine, SealedBlock
from tests.unit.email_histories import line
from transforms.coders import CompressedStructCoder
from transforms.pack_lines import PACK_BYTES, WAITING_BYTES, LinePacks

LINES = [line(f"l{number}", at=number, email_link_url="https://x/ü") for number in range(5)]


@pytest.mark.parametrize("block_type", [LogBlock, PersonBlock])
def test_a_pack_is_read_as_a_block(block_type: type) -> None:
    packs = LinePacks(16)
    for one in LINES:
        assert not packs.add(3, one)

    assert decode(packs.take(3), block_type) == (3, block_type(LINES))


def test_a_line_that_is_encoded_is_packed_as_it_is() -> None:
    packs = LinePacks(16)
    for one in LINES:
        packs.add_sealed(3, msgspec.Raw(msgspec.msgpack.encode(one)))
    packs.add(3, LINES[0])
    _, block = decode(packs.take(3), SealedBlock)

    assert [msgspec.msgpack.decode(sealed, type=LogLine) for sealed in block.lines] == [*LINES, LINES[0]]


def test_a_pack_is_full_when_it_has_its_bytes_and_the_next_begins_with_nothing() -> None:
    packs = LinePacks(16)
    size = len(msgspec.msgpack.encode(LINES[0]))
    added = -(-PACK_BYTES // size)

    assert [packs.add(0, LINES[0]) for _ in range(added)] == [False] * (added - 1) + [True]
    assert decode(packs.take(0), LogBlock)[1].lines == [LINES[0]] * added
    assert not packs.add(0, LINES[1])
    assert decode(packs.take(0), LogBlock)[1].lines == [LINES[1]]


def test_a_pack_of_encoded_lines_is_full_as_well() -> None:
    packs = LinePacks(16)
    sealed = msgspec.Raw(msgspec.msgpack.encode(LINES[0]))
    added = -(-PACK_BYTES // len(bytes(sealed)))

    assert [packs.add_sealed(0, sealed) for _ in range(added)] == [False] * (added - 1) + [True]


def test_packs_of_many_shards_are_smaller() -> None:
    packs = LinePacks(WAITING_BYTES // 200)
    size = len(msgspec.msgpack.encode(LINES[0]))

    assert [packs.add(0, LINES[0]) for _ in range(-(-200 // size))][-2:] == [False, True]


def test_the_rest_comes_out_at_the_end_each_shard_once() -> None:
    packs = LinePacks(16)
    for number, one in enumerate(LINES):
        packs.add(number % 2, one)

    rest = dict(decode(value.value, LogBlock) for value in packs.take_rest())

    assert rest == {0: LogBlock(LINES[::2]), 1: LogBlock(LINES[1::2])}
    assert list(packs.take_rest()) == []


def decode(pack: tuple[int, bytes], block_type: type) -> tuple[int, Any]:
    return pack[0], CompressedStructCoder(block_type).decode(pack[1])
