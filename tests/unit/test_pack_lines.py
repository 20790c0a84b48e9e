"""What waits to be grouped: every line in one pack of its shard, as the coder of its block would write it."""

from typing import Any

import msgspec
import pytest

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, SealedBlock
from tests.unit.email_histories import line
from transforms import pack_lines
from transforms.coders import CompressedStructCoder
from transforms.pack_lines import LinePacks, seal

LINES = [line(f"l{number}", at=number, email_link_url="https://x/ü") for number in range(5)]
SIZE = len(msgspec.msgpack.encode(LINES[0]))


@pytest.mark.parametrize("block_type", [LogBlock, PersonBlock])
def test_a_pack_is_read_as_a_block(block_type: type) -> None:
    packs = LinePacks()

    assert list(packs.add(seal(LINES), [3] * len(LINES))) == []
    assert rest(packs, block_type) == {3: block_type(LINES)}


def test_a_line_that_is_encoded_is_packed_as_it_is() -> None:
    assert list(map(bytes, seal(LINES))) == list(map(msgspec.msgpack.encode, LINES))
    packs = LinePacks()
    assert list(packs.add([msgspec.Raw(b"\x01"), msgspec.Raw(b"\xa1x")], [3, 3])) == []
    assert list(map(bytes, rest(packs, SealedBlock)[3].lines)) == [b"\x01", b"\xa1x"]


def test_packs_are_full_when_they_have_their_bytes_together_and_the_next_begin_with_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pack_lines, "WAITING_BYTES", 10 * SIZE)
    packs = LinePacks()

    assert list(packs.add(seal(LINES[:1] * 5), [0, 1, 0, 1, 2])) == []
    full = dict(decode(each, LogBlock) for each in packs.add(seal(LINES[1:2] * 5), [0, 0, 0, 3, 0]))
    assert {shard: [one.log_id for one in block.lines] for shard, block in full.items()} == {
        0: ["l0", "l0", "l1", "l1", "l1", "l1"],
        1: ["l0", "l0"],
        2: ["l0"],
        3: ["l1"],
    }
    assert list(packs.add(seal(LINES[1:2]), [0])) == []
    assert rest(packs) == {0: LogBlock(LINES[1:2])}


def test_the_rest_comes_out_at_the_end_each_shard_once() -> None:
    packs = LinePacks()

    assert list(packs.add(seal(LINES), [0, 1, 0, 1, 0])) == []
    assert rest(packs) == {0: LogBlock(LINES[::2]), 1: LogBlock(LINES[1::2])}
    assert list(packs.take_rest()) == []


def test_each_line_has_its_shard() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(LinePacks().add(seal(LINES), [0]))


def rest(packs: LinePacks, block_type: type = LogBlock) -> dict[int, Any]:
    return dict(decode(value.value, block_type) for value in packs.take_rest())


def decode(pack: tuple[int, bytes], block_type: type) -> tuple[int, Any]:
    return pack[0], CompressedStructCoder(block_type).decode(pack[1])
