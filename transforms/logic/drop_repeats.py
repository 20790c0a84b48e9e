"""Which calls repeat one that was seen before: the same workspace and messageId within the horizon."""

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from operator import attrgetter

from schemas.calls import SegmentCall

_RECORD = struct.Struct("<16sq")


class SeenMessages:
    """The messages that were kept, each with its arrival.

    A call is a repeat if one with its workspace and messageId was kept that arrived less than the horizon away; which of
    the two comes first does not matter.
    """

    def __init__(self) -> None:
        self._kept_at: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._kept_at)

    def keep_new(
        self, calls: Iterable[SegmentCall], horizon_micros: int
    ) -> tuple[list[SegmentCall], list[SegmentCall], bytes]:
        """The calls that are new, those that are repeats, and the log record of the new ones."""
        kept, repeats, record = [], [], bytearray()
        for call in calls:
            key = message_key(call)
            kept_at = self._kept_at.get(key)
            if kept_at is not None and abs(call.arrived_at - kept_at) < horizon_micros:
                repeats.append(call)
                continue
            self._kept_at[key] = call.arrived_at if kept_at is None else max(kept_at, call.arrived_at)
            record += _RECORD.pack(key, call.arrived_at)
            kept.append(call)
        return kept, repeats, bytes(record)

    def replay(self, log: Iterable[bytes]) -> None:
        """Remember what a log holds."""
        for record in log:
            for key, arrived_at in _RECORD.iter_unpack(record):
                self._kept_at[key] = max(arrived_at, self._kept_at.get(key, arrived_at))

    def forget_before(self, micros: int) -> bytes:
        """Forget what arrived before; a log record of the rest."""
        self._kept_at = {key: arrived_at for key, arrived_at in self._kept_at.items() if arrived_at >= micros}
        return b"".join(_RECORD.pack(key, arrived_at) for key, arrived_at in self._kept_at.items())


def message_key(call: SegmentCall) -> bytes:
    """16 bytes that stand for the workspace and the messageId: a digest, so that state costs the same for any id."""
    return blake2b(f"{call.workspace_id}\n{call.message_id}".encode(), digest_size=16).digest()


arrival_order = attrgetter("arrived_at", "message_id", "timestamp", "body", "context")
"""What bounded input is sorted by, so that the call that is kept does not depend on the shuffle."""


def drop_repeats(calls: Iterable[SegmentCall], horizon_micros: int) -> Iterator[tuple[SegmentCall, bool]]:
    """Each call in the order of arrival, and whether it is a repeat."""
    kept_at: dict[tuple[str, str], int] = {}
    for call in sorted(calls, key=arrival_order):
        key = call.workspace_id, call.message_id
        before = kept_at.get(key)
        is_repeat = before is not None and call.arrived_at - before < horizon_micros
        if not is_repeat:
            kept_at[key] = call.arrived_at
        yield call, is_repeat
