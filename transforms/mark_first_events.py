"""MarkFirstEvents: what happened to persons, to the calls that tell of it."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration, Timestamp

from schemas.email_calls import EmailCallBlock
from schemas.email_histories import PersonBlock
from transforms.cached_log import LogCache
from transforms.coders import CompressedStructCoder
from transforms.logic.email_facts import in_full
from transforms.logic.find_recipients import own_person
from transforms.logic.mark_first_events import PersonHistories

MICROS_A_SECOND = 1_000_000

# Few enough that the next steps work on memory that is still in the processor's cache.
CALLS_A_BLOCK = 2000

_PERSON_BLOCKS = CompressedStructCoder(PersonBlock)


class MarkFirstEvents(beam.PTransform):
    """One call a line, one more for each first open and click, and an identify when a person's user_id is known.

    In bounded input things happen in the order of their time. In a stream as they arrive: what has been sent cannot be
    withdrawn when an earlier one comes in late, but it is sent once in any case.
    """

    def __init__(self, *, implied_open_on_click: bool = False, ttl_seconds: int | None = None) -> None:
        super().__init__()
        self._implied_open_on_click = implied_open_on_click
        self._ttl_micros = None if ttl_seconds is None else ttl_seconds * MICROS_A_SECOND

    def expand(self, blocks: PCollection) -> PCollection:
        """Apply it to what FindRecipients gives, keyed by shard; gives `EmailCallBlock`."""
        calls: PCollection
        if blocks.is_bounded:
            fn = _MarkInFilesFn(self._implied_open_on_click)
            calls = blocks | "GatherPersons" >> beam.GroupByKey() | "MarkInFiles" >> beam.ParDo(fn)
        else:
            calls = blocks | "MarkInStream" >> beam.ParDo(
                _MarkInStreamFn(self._implied_open_on_click, self._ttl_micros)
            )
        return calls


class _MarkInFilesFn(beam.DoFn):
    def __init__(self, implied_open_on_click: bool) -> None:
        self._implied_open_on_click = implied_open_on_click

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[EmailCallBlock]:
        everything = PersonBlock([], [], [])
        for packed in group[1]:
            block = _PERSON_BLOCKS.decode(packed)
            everything.lines += block.lines
            everything.users += block.users
        for line in everything.lines:  # no update says whose its address is, where it names nobody
            line.person_id = own_person(line)
        histories = PersonHistories(implied_open_on_click=self._implied_open_on_click, make_fact=in_full)
        calls = histories.advance(everything)
        for start in range(0, len(calls), CALLS_A_BLOCK):
            yield EmailCallBlock(calls[start : start + CALLS_A_BLOCK])


_MEMORY: LogCache[PersonHistories] = LogCache(capacity=4096)


class _MarkInStreamFn(beam.DoFn):
    """Remembers `PersonHistories` a shard.

    What happened for the time to live, and at most half of it longer; for ever if there is none. Who was identified,
    and a few texts a person, for ever. The timer forgets, when the watermark has passed.
    """

    HISTORIES = BagStateSpec("histories", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, implied_open_on_click: bool, ttl_micros: int | None) -> None:
        self._implied_open_on_click = implied_open_on_click
        self._ttl = None if ttl_micros is None else Duration(micros=ttl_micros)

    def process(
        self,
        element: tuple[int, PersonBlock],
        log: Any = beam.DoFn.StateParam(HISTORIES),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[EmailCallBlock]:
        histories = _MEMORY.take(token, log, self._rebuild)
        is_set = bool(histories.facts_remembered)
        calls = histories.advance(element[1])
        # By the facts and not by the element: what files tell has Beam's earliest time.
        if self._ttl is not None and histories.facts_remembered and not is_set:
            forget.set(Timestamp(micros=histories.oldest_fact) + self._ttl)
        record = histories.take_record()
        if record:
            log.add(record)
            _MEMORY.put(token, histories)
        else:
            _MEMORY.put_back(token, histories)
        if calls:
            yield EmailCallBlock(calls)

    @on_timer(FORGET)
    def forget_expired(
        self,
        timestamp: Any = beam.DoFn.TimestampParam,
        log: Any = beam.DoFn.StateParam(HISTORIES),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> None:
        if self._ttl is None:  # the job was updated, and remembers for ever from now on
            return
        histories = _MEMORY.take(token, log, self._rebuild)
        rest = histories.forget_before((timestamp - self._ttl).micros)
        log.clear()
        log.add(rest)
        _MEMORY.put(token, histories)
        if histories.facts_remembered:
            next_time = timestamp + Duration(micros=self._ttl.micros // 2)
            forget.set(max(next_time, Timestamp(micros=histories.oldest_fact) + self._ttl))  # before, nothing is

    def _rebuild(self, log: Iterable[bytes]) -> PersonHistories:
        histories = PersonHistories(implied_open_on_click=self._implied_open_on_click)
        histories.replay(log)
        return histories
