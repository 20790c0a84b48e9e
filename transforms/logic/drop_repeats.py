"""Which calls repeat one that was seen before: the same workspace and messageId within the horizon."""

import struct
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, starmap
from typing import TypeAlias

from schemas.calls import SegmentCall

_RECORD = struct.Struct("<16sq")

_KEY = struct.Struct("<16sqqII")
"""Of one call of a block: `message_key`, arrived_at, timestamp, checksum, and its row."""

_Copy: TypeAlias = tuple[int, int, int, bytes, int]
"""arrived_at, timestamp, checksum, block id and row, in the order that decides which copy is kept."""


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
        self._kept_at = {key: last for key, last in self._kept_at.items() if last >= micros}
        before = ((key, [one for one in times if one >= micros]) for key, times in self._kept_before.items())
        self._kept_before = {key: times for key, times in before if times}
        others = ((key, one) for key, times in self._kept_before.items() for one in times)
        return b"".join(starmap(_RECORD.pack, chain(self._kept_at.items(), others)))

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
    digest = _workspace_digest(call.workspace_id).copy()
    digest.update(f"{call.message_id}{call.replay}".encode())
    return digest.digest()


@lru_cache(maxsize=1024)
def _workspace_digest(workspace_id: str) -> blake2b:
    """What each key of the workspace begins with: to go on from there takes half of the time."""
    return blake2b(f"{len(workspace_id)} {workspace_id}".encode(), digest_size=16)


def pack_keys(calls: Iterable[SegmentCall], shards: int) -> dict[int, bytearray]:
    """Shard -> what tells which of the calls of a block are repeats: `_KEY` of each of its calls."""
    packed: dict[int, bytearray] = {}
    for row, call in enumerate(calls):
        key = message_key(call)
        shard = key[0] % shards
        if shard not in packed:
            packed[shard] = bytearray()
        packed[shard] += _KEY.pack(key, call.arrived_at, call.timestamp, call.checksum, row)
    return packed


def find_repeats(blocks: Iterable[tuple[bytes, bytes]], horizon_micros: int) -> dict[bytes, list[int]]:
    """Block id -> the rows of its repeats, from each block's id and keys.

    Which calls of the same message are kept does not depend on the order of the blocks.
    """
    first: dict[bytes, _Copy] = {}
    copies: dict[bytes, list[_Copy]] = {}
    for block_id, keys in blocks:
        for key, arrived_at, timestamp, checksum, row in _KEY.iter_unpack(keys):
            copy = arrived_at, timestamp, checksum, block_id, row
            earlier = first.setdefault(key, copy)
            if earlier is not copy:
                copies.setdefault(key, [earlier]).append(copy)
    repeats: dict[bytes, list[int]] = {}
    for same in copies.values():
        kept_at = None
        for arrived_at, _, _, block_id, row in sorted(same):
            if kept_at is not None and arrived_at - kept_at < horizon_micros:
                repeats.setdefault(block_id, []).append(row)
            else:
                kept_at = arrived_at
    return repeats
