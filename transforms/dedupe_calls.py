"""DedupeCalls: each message once, however often it is delivered, and none of people who were erased."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias
from zlib import crc32

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import AsList, AsMultiMap, PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration

from schemas.calls import BLOCK_ID_BYTES, GROUP_ID_BYTES, CallBlock, Caller, CallerBlock, DroppedRows, SegmentCall
from schemas.outcomes import Outcome, OutcomeKey
from transforms.cached_log import LogCache
from transforms.logic.count_calls import count_calls
from transforms.logic.drop_repeats import SeenMessages, find_repeats, pack_keys
from transforms.logic.identify_callers import take_callers
from transforms.logic.suppress_calls import SuppressedIdentifiers
from transforms.several_outputs import gives_several

MICROS_A_SECOND = 1_000_000

# Enough shards to spread over the workers of a large job, few enough that a block of a thousand calls still gives each
# shard a block worth shuffling. Part of the state's key: changing it forgets what was seen.
SHARDS = 32

_Repeats: TypeAlias = Mapping[bytes, Iterable[DroppedRows]]
"""Group id -> its repeats, a shard each."""

# Of so many groups of blocks the repeats are held: a runner may mix the blocks of several.
GROUPS_AT_HAND = 16


class DedupedCalls(NamedTuple):
    """What comes out of DedupeCalls; every call comes out of `calls` or is counted in `counts`."""

    calls: PCollection
    """`CallBlock`: the calls that were not seen before and carry no suppressed identifier."""
    callers: PCollection
    """Who made them: `CallBlock` in a stream; `CallerBlock` in bounded input, of those that tell who is who."""
    counts: PCollection
    """`tuple[OutcomeKey, int]`: the duplicates, and what was suppressed."""


class DedupeCalls(beam.PTransform):
    """Drop calls whose workspace and messageId were seen less than the horizon before, across windows.

    The clock is the arrival of the messages, not their own time: a call of last month that is sent twice today is sent
    twice. Repeats that arrive further apart are both kept; the views show one of them. Bounded input is grouped and
    sorted by arrival; unbounded input is remembered in state, so there the call that arrives first is kept.

    Calls that carry a suppressed identifier are dropped: in bounded input wherever they stand, in a stream from the
    moment when the suppression is heard. Of two such calls with one messageId the second is a duplicate.

    In bounded input only the keys of messages are shuffled, 40 bytes a call. The calls wait in their blocks, and their
    callers in blocks of their own, to hear which rows are dropped.
    """

    def __init__(self, horizon_seconds: int) -> None:
        super().__init__()
        self._horizon_micros = horizon_seconds * MICROS_A_SECOND

    @gives_several
    def expand(self, calls: PCollection) -> DedupedCalls:
        """Apply it to a PCollection of `CallBlock`."""
        if not calls.is_bounded:
            sharded = calls | "ShardCalls" >> beam.ParDo(_ShardCallsFn())
            deduped = sharded | "DropSeen" >> beam.ParDo(_DropSeenFn(self._horizon_micros)).with_outputs(
                "counts", main="calls"
            )
            return DedupedCalls(deduped.calls, deduped.calls, deduped.counts)
        repeats = (
            calls
            | "ShardKeys" >> beam.ParDo(_ShardKeysFn())
            | "GroupKeys" >> beam.GroupByKey()
            | "FindRepeats" >> beam.ParDo(_FindRepeatsFn(self._horizon_micros))
        )
        dropped = AsMultiMap(repeats), AsList(calls | "TellSuppressed" >> beam.ParDo(_TellSuppressedFn()))
        kept = calls | "DropRows" >> beam.ParDo(_DropRowsFn(), *dropped).with_outputs("counts", main="calls")
        callers = (
            calls
            | "TakeCallers" >> beam.ParDo(_TakeCallersFn())
            | "DropCallers" >> beam.ParDo(_DropCallersFn(), *dropped)
        )
        return DedupedCalls(kept.calls, callers, kept.counts)


def shard_of(call: Caller) -> int:
    """The shard that remembers the message."""
    return crc32(call.message_id.encode()) % SHARDS


class _ShardCallsFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[tuple[int, CallBlock]]:
        shards: defaultdict[int, list[SegmentCall]] = defaultdict(list)
        for call in block.calls:
            shards[shard_of(call)].append(call)
        # The calls first: what was sent before a delete call, in the same block, still tells who is who.
        yield from ((shard, CallBlock(calls)) for shard, calls in shards.items())
        if block.suppress:
            yield from ((shard, CallBlock([], block.suppress)) for shard in range(SHARDS))


class _ShardKeysFn(beam.DoFn):
    """Keys travel as bytes, behind the id of their block: a local runner decodes and encodes again what it groups."""

    def process(self, block: CallBlock) -> Iterator[tuple[int, bytes]]:
        for shard, keys in pack_keys(block.calls, SHARDS).items():
            yield shard, block.block_id + keys


class _FindRepeatsFn(beam.DoFn):
    def __init__(self, horizon_micros: int) -> None:
        self._horizon_micros = horizon_micros

    def process(self, shard: tuple[int, Iterable[bytes]]) -> Iterator[tuple[bytes, DroppedRows]]:
        blocks = ((packed[:BLOCK_ID_BYTES], packed[BLOCK_ID_BYTES:]) for packed in shard[1])
        groups: defaultdict[bytes, dict[bytes, list[int]]] = defaultdict(dict)
        for block_id, rows in find_repeats(blocks, self._horizon_micros).items():
            groups[block_id[:GROUP_ID_BYTES]][block_id] = rows
        yield from ((group_id, DroppedRows(rows)) for group_id, rows in groups.items())


class _TellSuppressedFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[bytes]:
        yield from block.suppress


class _TakeCallersFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[CallerBlock]:
        callers, rows = take_callers(block.calls)
        if callers:
            yield CallerBlock(callers, block.block_id, rows)


class _DropFn(beam.DoFn):
    """What calls and their callers are dropped by: the rows of repeats, and the suppressed identifiers."""

    def start_bundle(self) -> None:
        self._suppressed: SuppressedIdentifiers | None = None
        self._groups: dict[bytes, defaultdict[bytes, set[int]]] = {}

    def suppressed(self, keys: Sequence[bytes]) -> SuppressedIdentifiers:
        """The same for each block of a bundle, which may be many keys."""
        if self._suppressed is None:
            self._suppressed = SuppressedIdentifiers()
            self._suppressed.learn(keys)
        return self._suppressed

    def rows_of(self, block_id: bytes, repeats: _Repeats) -> set[int]:
        """Where the repeats of a block stand."""
        group_id = block_id[:GROUP_ID_BYTES]
        if group_id not in self._groups:
            if len(self._groups) == GROUPS_AT_HAND:
                self._groups.clear()
            group = self._groups[group_id] = defaultdict(set)
            for shard in repeats[group_id]:
                for each, rows in shard.rows.items():
                    group[each].update(rows)
        return self._groups[group_id][block_id]


class _DropCallersFn(_DropFn):
    def process(self, block: CallerBlock, repeats: _Repeats, suppressed: Sequence[bytes]) -> Iterator[CallerBlock]:
        rows = self.rows_of(block.block_id, repeats)
        new = [caller for row, caller in zip(block.rows, block.calls, strict=True) if row not in rows]
        kept, _ = self.suppressed(suppressed).drop_carriers(new)
        yield CallerBlock(kept, block.block_id, [])


class _DropRowsFn(_DropFn):
    def __init__(self) -> None:
        self._dropped = _DroppedCalls()

    def process(
        self, block: CallBlock, repeats: _Repeats, suppressed: Sequence[bytes]
    ) -> Iterator[CallBlock | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]]:
        rows = self.rows_of(block.block_id, repeats)
        new = [call for row, call in enumerate(block.calls) if row not in rows]
        kept, erased = self.suppressed(suppressed).drop_carriers(new)
        yield CallBlock(kept)
        for count in self._dropped.count([block.calls[row] for row in rows], erased):
            yield TaggedOutput("counts", count)


class _DroppedCalls:
    """What both ways of dropping count."""

    def __init__(self) -> None:
        self._duplicates = Metrics.counter("dedupe_calls", "duplicates")
        self._suppressed = Metrics.counter("dedupe_calls", "suppressed")

    def count(self, repeats: Sequence[Caller], erased: Sequence[Caller]) -> Iterator[tuple[OutcomeKey, int]]:
        self._duplicates.inc(len(repeats))
        self._suppressed.inc(len(erased))
        yield from count_calls(repeats, Outcome.DUPLICATE).items()
        yield from count_calls(erased, Outcome.SUPPRESSED).items()


class _Shard(NamedTuple):
    """What a shard remembers."""

    seen: SeenMessages
    suppressed: SuppressedIdentifiers


def _rebuild_shard(seen_log: Iterable[bytes], suppressed_log: Iterable[bytes]) -> _Shard:
    shard = _Shard(SeenMessages(), SuppressedIdentifiers())
    shard.seen.replay(seen_log)
    shard.suppressed.replay(suppressed_log)
    return shard


_MEMORY: LogCache[_Shard] = LogCache(capacity=4096)


class _DropSeenFn(beam.DoFn):
    """Remembers, per shard, every message that was kept and every identifier that is suppressed: 24 bytes each.

    A message for the horizon after its arrival, and at most half of it longer; the timer forgets, when the watermark
    has passed. An identifier for ever: nobody forgets it, else a late device would bring an erased person back. Both
    logs share the token.
    """

    SEEN = BagStateSpec("seen", BytesCoder())
    SUPPRESSED = BagStateSpec("suppressed", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, horizon_micros: int) -> None:
        self._horizon = Duration(micros=horizon_micros)
        self._dropped = _DroppedCalls()

    def process(
        self,
        element: tuple[int, CallBlock],
        timestamp: Any = beam.DoFn.TimestampParam,
        seen_log: Any = beam.DoFn.StateParam(SEEN),
        suppressed_log: Any = beam.DoFn.StateParam(SUPPRESSED),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[CallBlock | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]]:
        block = element[1]
        shard = _MEMORY.take(token, seen_log, lambda log: _rebuild_shard(log, suppressed_log.read()))
        if block.calls and not len(shard.seen):
            forget.set(timestamp + self._horizon)
        new, repeats, record = shard.seen.keep_new(block.calls, self._horizon.micros)
        if record:
            seen_log.add(record)
        learned = shard.suppressed.learn(block.suppress)
        if learned:
            suppressed_log.add(learned)
        _MEMORY.put(token, shard)
        kept, erased = shard.suppressed.drop_carriers(new)
        if kept:
            yield CallBlock(kept)
        for count in self._dropped.count(repeats, erased):
            yield TaggedOutput("counts", count)

    @on_timer(FORGET)
    def forget_expired(
        self,
        timestamp: Any = beam.DoFn.TimestampParam,
        seen_log: Any = beam.DoFn.StateParam(SEEN),
        suppressed_log: Any = beam.DoFn.StateParam(SUPPRESSED),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> None:
        shard = _MEMORY.take(token, seen_log, lambda log: _rebuild_shard(log, suppressed_log.read()))
        rest = shard.seen.forget_before((timestamp - self._horizon).micros)
        seen_log.clear()
        token.clear()
        if rest:
            seen_log.add(rest)
            _MEMORY.put(token, shard)
            forget.set(timestamp + Duration(micros=self._horizon.micros // 2))
