"""Which calls repeat one that was seen before: the same workspace and messageId within the horizon."""

import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

import msgspec

from schemas.calls import Caller, CallerBlock, SegmentCall
from transforms.logic.suppress_calls import SuppressedIdentifiers

_encode = msgspec.msgpack.Encoder().encode
_RECORD = struct.Struct("<16sq")


class SeenMessages:
    """The messages that were kept, each with its arrival.

    A call is a repeat if one with its workspace and messageId was kept that arrived less than the horizon away; which
    of the two comes first does not matter.
    """

    def __init__(self) -> None:
        self._kept_at: dict[bytes, int] = {}
        """When the message was kept last."""
        self._kept_before: dict[bytes, list[int]] = {}
        """The other times, for the few messages that were kept more than once."""

    def __len__(self) -> int:
        return len(self._kept_at)

    def keep_new(
        self, calls: Iterable[SegmentCall], horizon_micros: int
    ) -> tuple[list[SegmentCall], list[SegmentCall], bytes]:
        """The calls that are new, those that are repeats, and the log record of the new ones."""
        kept, repeats, record = [], [], bytearray()
        for call in calls:
            key = message_key(call)
            if key not in self._kept_at:
                self._kept_at[key] = call.arrived_at
            elif self._is_repeat(key, call.arrived_at, horizon_micros):
                repeats.append(call)
                continue
            else:
                self._keep(key, call.arrived_at)
            record += _RECORD.pack(key, call.arrived_at)
            kept.append(call)
        return kept, repeats, bytes(record)

    def replay(self, log: Iterable[bytes]) -> None:
        """Remember what a log holds."""
        for record in log:
            for key, arrived_at in _RECORD.iter_unpack(record):
                self._keep(key, arrived_at)

    def forget_before(self, micros: int) -> bytes:
        """Forget what arrived before; a log record of the rest."""
        rest = [(key, kept_at) for key in self._kept_at for kept_at in self._times(key) if kept_at >= micros]
        self._kept_at, self._kept_before = {}, {}
        for key, kept_at in rest:
            self._keep(key, kept_at)
        return b"".join(_RECORD.pack(key, kept_at) for key, kept_at in rest)

    def _is_repeat(self, key: bytes, arrived_at: int, horizon_micros: int) -> bool:
        return any(abs(arrived_at - kept_at) < horizon_micros for kept_at in self._times(key))

    def _times(self, key: bytes) -> tuple[int, ...]:
        return (self._kept_at[key], *self._kept_before.get(key, ()))

    def _keep(self, key: bytes, arrived_at: int) -> None:
        last = self._kept_at.get(key)
        if last is not None:
            self._kept_before.setdefault(key, []).append(min(last, arrived_at))
            arrived_at = max(last, arrived_at)
        self._kept_at[key] = arrived_at


def message_key(call: SegmentCall) -> bytes:
    """16 bytes that stand for the workspace and the messageId: a digest, so that state costs the same for any id."""
    return blake2b(
        f"{len(call.workspace_id)} {call.workspace_id}{call.message_id}{call.replay}".encode(), digest_size=16
    ).digest()


def extract_caller(call: SegmentCall) -> Caller:
    """The caller of a call, for a journey without it."""
    caller = Caller(
        call.workspace_id,
        call.message_id,
        call.type,
        call.timestamp,
        call.received_at,
        call.arrived_at,
        call.connection_id,
        call.user_id,
        call.anonymous_id,
        call.email,
        call.context_email,
        call.previous_id,
        call.replay,
    )
    caller.checksum = crc32(_encode(call))
    return caller


class SortedOut(NamedTuple):
    """Every caller is in exactly one of the first three."""

    kept: list[Caller]
    repeats: list[Caller]
    suppressed: list[Caller]
    dropped: dict[bytes, list[int]]
    """Block id -> the rows of the repeats and of what is suppressed."""


def sort_out(blocks: Iterable[CallerBlock], horizon_micros: int) -> SortedOut:
    """All callers of a shard: which calls are kept and which are dropped, wherever they stand."""
    callers: list[Caller] = []
    places: list[tuple[bytes, int]] = []
    suppressing = SuppressedIdentifiers()
    for block in blocks:
        suppressing.learn(block.suppress)
        callers += block.calls
        places += ((block.block_id, row) for row in block.rows)
    repeats = find_repeats(callers, horizon_micros)
    sorted_out = SortedOut([], [], [], {})
    for position, (caller, (block_id, row)) in enumerate(zip(callers, places, strict=True)):
        if position in repeats:
            sorted_out.repeats.append(caller)
        elif suppressing.is_suppressed(caller):
            sorted_out.suppressed.append(caller)
        else:
            sorted_out.kept.append(caller)
            continue
        sorted_out.dropped.setdefault(block_id, []).append(row)
    return sorted_out


def find_repeats(callers: Sequence[Caller], horizon_micros: int) -> set[int]:
    """The positions of the repeats. Which of the same message are kept does not depend on the order."""
    by_message: dict[tuple[str, str, str], list[int]] = {}
    for position, caller in enumerate(callers):
        by_message.setdefault((caller.message_id, caller.workspace_id, caller.replay), []).append(position)
    repeats = set()
    for positions in by_message.values():
        if len(positions) == 1:
            continue
        kept_at = None
        for position in sorted(positions, key=lambda position: _arrival_order(callers[position])):
            arrived_at = callers[position].arrived_at
            if kept_at is not None and arrived_at - kept_at < horizon_micros:
                repeats.add(position)
            else:
                kept_at = arrived_at
    return repeats


def _arrival_order(caller: Caller) -> tuple[int, int, int, int]:
    return caller.arrived_at, caller.timestamp, caller.received_at, caller.checksum
