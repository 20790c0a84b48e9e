"""Which calls repeat one that was seen before: the same workspace and messageId within the horizon."""

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from schemas.calls import SegmentCall

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
            if self._is_repeat(key, call.arrived_at, horizon_micros):
                repeats.append(call)
                continue
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
        if key not in self._kept_at:
            return False
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


def arrival_order(call: SegmentCall) -> tuple[int | str, ...]:
    """What repeats are sorted by: all that a row shows, so that the one that is kept does not depend on the shuffle."""
    return (
        call.arrived_at,
        call.timestamp,
        call.received_at,
        call.sent_at or 0,
        call.original_timestamp or 0,
        call.future_timestamp or 0,
        call.type,
        call.event or "",
        call.user_id or "",
        call.anonymous_id or "",
        call.previous_id or "",
        call.group_id or "",
        call.name or "",
        call.category or "",
        call.connection_id or "",
        call.body,
        call.context,
    )


def drop_repeats(calls: Iterable[SegmentCall], horizon_micros: int) -> Iterator[tuple[SegmentCall, bool]]:
    """Each call, and whether it is a repeat. Those of one messageId come in the order of their arrival."""
    by_message: dict[tuple[str, str, str], list[SegmentCall]] = {}
    for call in calls:
        by_message.setdefault((call.workspace_id, call.message_id, call.replay), []).append(call)
    for same in by_message.values():
        kept_at = None
        for call in same if len(same) == 1 else sorted(same, key=arrival_order):
            is_repeat = kept_at is not None and call.arrived_at - kept_at < horizon_micros
            if not is_repeat:
                kept_at = call.arrived_at
            yield call, is_repeat
