"""How large Beam is told that a block is, without encoding all of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.calls import CallBlock
from schemas.email_histories import KnownUser, PersonBlock
from schemas.email_logs import LogBlock, LogLine
from schemas.messages import Message, MessageBlock
from schemas.rejections import DeadLetter, LetterBlock
from schemas.rows import TableRows
from tests.factories import NOW, call
from transforms.coders import CompressedStructCoder, StructCoder


def blocks() -> Iterator[tuple[type, Any]]:
    yield CallBlock, CallBlock([call(f"m{number}") for number in range(1000)])
    yield LogBlock, LogBlock([LogLine("w1", f"log:{number}", "opened", NOW, NOW, "ann@x.y") for number in range(1000)])
    yield MessageBlock, MessageBlock([Message(b"x" * 300, {}, None)] * 1000, "file", NOW)
    yield TableRows, TableRows("counts", [(1, "w1", None, "track", "written", None, 5)] * 1000)
    letter = DeadLetter(b"x" * 500, "ParseCalls", "bad_request", "no JSON", NOW, "w1")
    yield LetterBlock, LetterBlock([letter] * 100)


@pytest.mark.parametrize(("kind", "block"), list(blocks()), ids=lambda value: getattr(value, "__name__", ""))
def test_the_size_of_a_block_is_about_right(kind: type, block: Any) -> None:
    coder = StructCoder(kind)

    assert 0.8 < coder.estimate_size(block) / len(coder.encode(block)) < 1.2


def test_a_block_of_nothing_has_no_size() -> None:
    assert StructCoder(CallBlock).estimate_size(CallBlock([])) == 0


def test_messages_travel() -> None:
    block = MessageBlock([Message(b"\xff", {"workspace_id": "w1"}, 5)], "subscription", NOW)

    assert StructCoder(MessageBlock).decode(StructCoder(MessageBlock).encode(block)) == block


LINE = LogLine("w1", "log:l1", "opened", 1, 2, "ann@example.com", user_agent="\U0001f600", is_machine=True)


@pytest.mark.parametrize(
    "block", [LogBlock([]), LogBlock([LINE] * 1000), PersonBlock([LINE], [KnownUser("w1", "p1", "u1", 3, 4)])]
)
def test_what_is_compressed_comes_back(block: LogBlock | PersonBlock) -> None:
    coder = CompressedStructCoder(type(block))

    assert coder.decode(coder.encode(block)) == block


def test_lines_of_one_campaign_take_little_room() -> None:
    lines = [
        LogLine("w1", f"log:{number}", "opened", number, number, f"reader{number}@example.com", campaign_id="spring")
        for number in range(1000)
    ]

    assert len(CompressedStructCoder(LogBlock).encode(LogBlock(lines))) < 50 * len(lines)
