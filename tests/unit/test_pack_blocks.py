"""pack_blocks: pack_block and Unpacker: bytes and back."""

import pytest

from schemas.email_histories import KnownUser, PersonBlock
from schemas.email_logs import LogBlock, LogLine
from transforms.pack_blocks import Unpacker, pack_block

LINE = LogLine("w1", "log:l1", "opened", 1, 2, "ann@example.com", user_agent="\U0001f600", is_machine=True)


@pytest.mark.parametrize(
    "block", [LogBlock([]), LogBlock([LINE] * 1000), PersonBlock([LINE], [KnownUser("w1", "p1", "u1", 3, 4)])]
)
def test_what_is_packed_is_unpacked(block: LogBlock | PersonBlock) -> None:
    assert Unpacker(type(block)).unpack(pack_block(block)) == block


def test_lines_of_one_campaign_take_little_room() -> None:
    lines = [
        LogLine("w1", f"log:{number}", "opened", number, number, f"reader{number}@example.com", campaign_id="spring")
        for number in range(1000)
    ]

    assert len(pack_block(LogBlock(lines))) < 50 * len(lines)
