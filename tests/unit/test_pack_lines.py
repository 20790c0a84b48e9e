"""What waits to be grouped: every line in one pack of its shard, as the coder of its block would write it."""

from typing import Any

import msgspec
import pytest

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, SealedBlock
from tests.unit.email_histories import line
from transforms.coders import CompressedStructCoder
from transforms.pack_lines import PACK_BYTES, WAITING_BYTES, LinePacks

LINES = [line(f"l{number}", at=number, email_link_url="https://x/ü") for number in range(5)]
SIZE = len(msgspec.msgpack.encode(LINES[0]))


@pytest.mark.parametrize("block_type", [LogBlock, PersonBlock])
def test_a_pack_is_read_as_a_block(block_type: type) -> None:
    packs = LinePacks(16)

    assert list(packs.add(LINES, [3] * len(LINES))) == []
    assert rest(packs, block_type) == {3: block_type(LINES)}


def test_a_line_that_is_encoded_is_packed_as_it_is() -> None:
    packs = LinePacks(16)
    sealed = [msgspec.Raw(msgspec.msgpack.encode(one)) for one in LINES]

    assert list(packs.add([*sealed, LINES[0]], [3] * 6)) == []
    lines = rest(packs, SealedBlock)[3].lines
    assert list(map(bytes, lines)) == list(map(bytes, [*sealed, sealed[0]]))


def test_a_pack_is_full_when_it_has_its_bytes_and_the_next_begins_with_nothing() -> None:
    packs = LinePacks(16)
    enough = -(-PACK_BYTES // SIZE)

    assert list(packs.add(LINES[:1] * (enough - 1), [0] * (enough - 1))) == []
    [full] = packs.add(LINES[:1], [0])
    assert decode(full, LogBlock) == (0, LogBlock(LINES[:1] * enough))
    assert list(packs.add(LINES[1:2], [0])) == []
    assert rest(packs) == {0: LogBlock(LINES[1:2])}


def test_packs_that_fill_at_once_all_come_out() -> None:
    packs = LinePacks(WAITING_BYTES // SIZE)

    full = packs.add(LINES, [2, 0, 2, 1, 0])

    assert [decode(each, LogBlock) for each in full] == [
        (shard, LogBlock([one])) for shard, one in zip([2, 0, 2, 1, 0], LINES, strict=True)
    ]
    assert list(packs.take_rest()) == []


def test_packs_of_many_shards_are_smaller() -> None:
    packs = LinePacks(WAITING_BYTES // 200)
    enough = -(-200 // SIZE)

    assert list(packs.add(LINES[:1] * (enough - 1), [0] * (enough - 1))) == []
    assert len(list(packs.add(LINES[:1], [0]))) == 1


def test_the_rest_comes_out_at_the_end_each_shard_once() -> None:
    packs = LinePacks(16)

    assert list(packs.add(LINES, [0, 1, 0, 1, 0])) == []
    assert rest(packs) == {0: LogBlock(LINES[::2]), 1: LogBlock(LINES[1::2])}
    assert list(packs.take_rest()) == []


def test_each_line_has_its_shard() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(LinePacks(16).add(LINES, [0]))


def rest(packs: LinePacks, block_type: type = LogBlock) -> dict[int, Any]:
    return dict(decode(value.value, block_type) for value in packs.take_rest())


def decode(pack: tuple[int, bytes], block_type: type) -> tuple[int, Any]:
    return pack[0], CompressedStructCoder(block_type).decode(pack[1])
