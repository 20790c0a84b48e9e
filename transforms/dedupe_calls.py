"""DedupeCalls: each message once, however often it is delivered, and none of people who were erased."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import AsMultiMap, PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration

from schemas.calls import CallBlock, Caller, CallerBlock, DroppedRows
from schemas.outcomes import Outcome, OutcomeKey
from transforms.cached_log import LogCache
from transforms.coders import CompressedStructCoder
from transforms.logic.count_calls import count_calls
from transforms.logic.drop_repeats import SeenMessages, extract_caller, sort_out
from transforms.logic.suppress_calls import SuppressedIdentifiers
from transforms.pack_blocks import PackBlocks
from transforms.several_outputs import gives_several

MICROS_A_SECOND = 1_000_000

# Enough shards to spread over the workers of a large job, few enough that a block of a thousand calls still gives each
# shard a block worth shuffling. Part of the state's key: changing it forgets what was seen.
SHARDS = 32

_CALLER_BLOCKS = CompressedStructCoder(CallerBlock)


class DedupedCalls(NamedTuple):
    """What comes out of DedupeCalls; every call comes out of `calls` or is counted in `counts`."""

    calls: PCollection
    """`CallBlock`: the calls that were not seen before and carry no suppressed identifier."""
    callers: PCollection
    """Who made them: `CallBlock` in a stream, `CallerBlock` in bounded input."""
    counts: PCollection
    """`tuple[OutcomeKey, int]`: the duplicates, and what was suppressed."""


class DedupeCalls(beam.PTransform):
    """Drop calls whose workspace and messageId were seen less than the horizon before, across windows.

    The clock is the arrival of the messages, not their own time: a call of last month that is sent twice today is sent
    twice. Repeats that arrive further apart are both kept; the views show one of them. Bounded input is grouped and
    sorted by arrival; unbounded input is remembered in state, so there the call that arrives first is kept.

    Calls that carry a suppressed identifier are dropped: in bounded input wherever they stand, in a stream from the
    moment when the suppression is heard. Of two such calls with one messageId the second is a duplicate.

    In bounded input only the callers are shuffled. The calls wait in their blocks to hear which rows are dropped.
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
        drop = beam.ParDo(_DropRepeatsFn(self._horizon_micros)).with_outputs("dropped", "counts", main="callers")
        sorted_out = (
            calls
            | "ShardCallers" >> beam.ParDo(_ShardCallersFn())
            | "PackCallers" >> PackBlocks(_CALLER_BLOCKS)
            | "GroupShards" >> beam.GroupByKey()
            | "DropRepeats" >> drop
        )
        kept = calls | "DropRows" >> beam.ParDo(_DropRowsFn(), AsMultiMap(sorted_out.dropped))
        return DedupedCalls(kept, sorted_out.callers, sorted_out.counts)


def shard_of(call: Caller) -> int:
    """The shard that remembers the message."""
    return crc32(call.message_id.encode()) % SHARDS


class _ShardCallsFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[tuple[int, CallBlock]]:
        shards: dict[int, CallBlock] = {}
        for call in block.calls:
            shards.setdefault(shard_of(call), CallBlock([])).calls.append(call)
        # The calls first: what was sent before a delete call, in the same block, still tells who is who.
        yield from shards.items()
        if block.suppress:
            yield from ((shard, CallBlock([], block.suppress)) for shard in range(SHARDS))


class _ShardCallersFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[tuple[int, CallerBlock]]:
        shards: dict[int, CallerBlock] = {}
        for row, call in enumerate(block.calls):
            shard = shard_of(call)
            if shard not in shards:
                shards[shard] = CallerBlock([], [], block.block_id, [])
            shards[shard].calls.append(extract_caller(call))
            shards[shard].rows.append(row)
        yield from shards.items()
        if block.suppress:
            yield from ((shard, CallerBlock([], block.suppress)) for shard in range(SHARDS))


class _DropRepeatsFn(beam.DoFn):
    def __init__(self, horizon_micros: int) -> None:
        self._horizon_micros = horizon_micros
        self._dropped = _DroppedCalls()

    def process(
        self, shard: tuple[int, Iterable[bytes]]
    ) -> Iterator[
        CallerBlock
        | TaggedOutput[Literal["dropped"], tuple[bytes, DroppedRows]]
        | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]
    ]:
        sorted_out = sort_out(map(_CALLER_BLOCKS.decode, shard[1]), self._horizon_micros)
        yield CallerBlock(sorted_out.kept)
        for block_id, rows in sorted_out.dropped.items():
            told: TaggedOutput[Literal["dropped"], tuple[bytes, DroppedRows]] = TaggedOutput(
                "dropped", (block_id, DroppedRows(rows))
            )
            yield told
        for count in self._dropped.count(sorted_out.repeats, sorted_out.suppressed):
            counted: TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]] = TaggedOutput("counts", count)
            yield counted


class _DropRowsFn(beam.DoFn):
    def process(self, block: CallBlock, dropped: Mapping[bytes, Iterable[DroppedRows]]) -> Iterator[CallBlock]:
        rows = {row for each in dropped[block.block_id] for row in each.rows}
        yield CallBlock([call for row, call in enumerate(block.calls) if row not in rows])


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
