"""Blocks of calls on their way out, taken apart for those who send them one by one."""

from collections.abc import Iterable

from schemas.outgoing_calls import OutgoingBlock, OutgoingCall


def split_block(block: OutgoingBlock) -> list[OutgoingCall]:
    """The calls of a block. A line end in one of their texts is escaped, as JSON has it."""
    payloads = block.lines.split(b"\n")[:-1]
    return [OutgoingCall(*each) for each in zip(block.calls, payloads, strict=True)]


def join_block(calls: Iterable[OutgoingCall]) -> OutgoingBlock:
    """The block of these calls."""
    calls = list(calls)
    return OutgoingBlock([call.made_of for call in calls], b"".join([call.payload + b"\n" for call in calls]))
