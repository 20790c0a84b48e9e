"""DedupeCalls: each message once, however often it is delivered."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration

from schemas.calls import CallBlock, SegmentCall
from schemas.outcomes import Outcome, OutcomeKey
from transforms.cached_log import LogCache
from transforms.logic.count_calls import count_calls
from transforms.logic.drop_repeats import SeenMessages, drop_repeats
from transforms.several_outputs import gives_several

MICROS_A_SECOND = 1_000_000


class DedupedCalls(NamedTuple):
    """What comes out of DedupeCalls; every call comes out of `calls` or is counted in `counts`."""

    calls: PCollection
    """`CallBlock`: the calls that were not seen before."""
    counts: PCollection
    """`tuple[OutcomeKey, int]`: the duplicates."""


class DedupeCalls(beam.PTransform):
    """Drop calls whose workspace and messageId were seen less than the horizon before, across windows.

    The clock is the arrival of the messages, not their own time: a call of last month that is sent twice today is sent
    twice. Repeats that arrive further apart are both kept; the views show one of them. Bounded input is grouped and
    sorted by arrival; unbounded input is remembered in state, so there the call that arrives first is kept.
    """

    def __init__(self, horizon_seconds: int) -> None:
        super().__init__()
        self._horizon_micros = horizon_seconds * MICROS_A_SECOND

    @gives_several
    def expand(self, calls: PCollection) -> DedupedCalls:
        """Apply it to a PCollection of `tuple[int, CallBlock]`, keyed by shard."""
        if calls.is_bounded:
            grouped = calls | "GroupShards" >> beam.GroupByKey()
            deduped = grouped | "DropRepeats" >> beam.ParDo(_DropRepeatsFn(self._horizon_micros)).with_outputs(
                "counts", main="calls"
            )
        else:
            deduped = calls | "DropSeen" >> beam.ParDo(_DropSeenFn(self._horizon_micros)).with_outputs(
                "counts", main="calls"
            )
        return DedupedCalls(deduped.calls, deduped.counts)


class _DropRepeatsFn(beam.DoFn):
    def __init__(self, horizon_micros: int) -> None:
        self._horizon_micros = horizon_micros
        self._duplicates = Metrics.counter("dedupe_calls", "duplicates")

    def process(
        self, group: tuple[int, Iterable[CallBlock]]
    ) -> Iterator[CallBlock | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]]:
        kept: list[SegmentCall] = []
        repeats: list[SegmentCall] = []
        arrived = (call for block in group[1] for call in block.calls)
        for call, is_repeat in drop_repeats(arrived, self._horizon_micros):
            (repeats if is_repeat else kept).append(call)
        self._duplicates.inc(len(repeats))
        yield CallBlock(kept)
        for count in count_calls(repeats, Outcome.DUPLICATE).items():
            yield TaggedOutput("counts", count)


def _rebuild_seen(log: Iterable[bytes]) -> SeenMessages:
    seen = SeenMessages()
    seen.replay(log)
    return seen


_SEEN: LogCache[SeenMessages] = LogCache(capacity=4096)


class _DropSeenFn(beam.DoFn):
    """Remembers, per shard, every message that was kept: 24 bytes each.

    For the horizon after its arrival, and at most half of it longer; the timer forgets, when the watermark has passed.
    """

    SEEN = BagStateSpec("seen", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, horizon_micros: int) -> None:
        self._horizon = Duration(micros=horizon_micros)
        self._duplicates = Metrics.counter("dedupe_calls", "duplicates")

    def process(
        self,
        element: tuple[int, CallBlock],
        timestamp: Any = beam.DoFn.TimestampParam,
        seen_log: Any = beam.DoFn.StateParam(SEEN),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[CallBlock | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]]:
        seen = _SEEN.take(token, seen_log, _rebuild_seen)
        if not len(seen):
            forget.set(timestamp + self._horizon)
        kept, repeats, record = seen.keep_new(element[1].calls, self._horizon.micros)
        if record:
            seen_log.add(record)
        _SEEN.put(token, seen)
        self._duplicates.inc(len(repeats))
        if kept:
            yield CallBlock(kept)
        for count in count_calls(repeats, Outcome.DUPLICATE).items():
            yield TaggedOutput("counts", count)

    @on_timer(FORGET)
    def forget_expired(
        self,
        timestamp: Any = beam.DoFn.TimestampParam,
        seen_log: Any = beam.DoFn.StateParam(SEEN),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> None:
        seen = _SEEN.take(token, seen_log, _rebuild_seen)
        rest = seen.forget_before((timestamp - self._horizon).micros)
        seen_log.clear()
        token.clear()
        if rest:
            seen_log.add(rest)
            _SEEN.put(token, seen)
            forget.set(timestamp + Duration(micros=self._horizon.micros // 2))
