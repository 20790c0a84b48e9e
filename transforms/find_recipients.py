"""FindRecipients: log lines to the persons whom they are about, each line once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, LogLine
from transforms.cached_log import LogCache
from transforms.coders import CompressedStructCoder
from transforms.logic.find_recipients import (
    AddressBook,
    drop_repeated_lines,
    line_node,
    set_persons,
    settle_updates,
    update_node,
)
from transforms.pack_blocks import PackBlocks
from transforms.several_outputs import gives_several

MICROS_A_SECOND = 1_000_000

# A shard may have the lines of a whole file; what travels as one element must stay small.
LINES_A_BLOCK = 10_000

# The shard under which repeats travel to SplitRepeats. An output of its own would give the steps other names, and a
# step that is renamed loses its state: a running job could not begin to tell them.
REPEATS = -1

_LOG_BLOCKS = CompressedStructCoder(LogBlock)


class FindRecipients(beam.PTransform):
    """Set the person of each line, by what identity updates say of its address, and tell persons what became of them.

    Each line comes out once: repeats are dropped and counted, in a stream those that come within the horizon. They are
    looked for at the address, since copies of a line may name different persons. In bounded input all updates hold from
    the beginning.

    With `tells_repeats` the repeats come out, too, and SplitRepeats must follow.
    """

    def __init__(
        self,
        shards: int,
        horizon_seconds: int,
        ttl_seconds: int | None = None,
        updates: PCollection | None = None,
        *,
        tells_repeats: bool = False,
    ) -> None:
        super().__init__()
        self._tells_repeats = tells_repeats
        self._shards = shards
        self._horizon_micros = horizon_seconds * MICROS_A_SECOND
        self._ttl_micros = None if ttl_seconds is None else ttl_seconds * MICROS_A_SECOND
        self._updates = updates

    def expand(self, lines: PCollection) -> PCollection:
        """Apply it to a PCollection of `LogBlock`; gives `tuple[int, PersonBlock]`, by the person's shard."""
        blocks = lines
        if self._updates is not None:
            blocks = (lines, self._updates) | "AddUpdates" >> beam.Flatten()
        homes = blocks | "SendHome" >> beam.ParDo(_SendHomeFn(self._shards))
        found: PCollection
        if blocks.is_bounded:
            found = (
                homes
                | "PackHome" >> PackBlocks(_LOG_BLOCKS)
                | "GatherHome" >> beam.GroupByKey()
                | "FindInFiles" >> beam.ParDo(_FindInFilesFn(self._shards, self._tells_repeats))
            )
        else:
            find = _FindInStreamFn(self._shards, self._horizon_micros, self._ttl_micros, self._tells_repeats)
            found = homes | "FindInStream" >> beam.ParDo(find)
        return found


class SplitPersons(NamedTuple):
    """What FindRecipients found, and what it dropped."""

    persons: PCollection
    """`tuple[int, PersonBlock]`, by the person's shard."""
    repeats: PCollection
    """`LogBlock`: lines that have come before."""


class SplitRepeats(beam.PTransform):
    """Take the repeats from among what FindRecipients gives."""

    @gives_several
    def expand(self, found: PCollection) -> SplitPersons:
        """Apply it to a PCollection of `tuple[int, PersonBlock]`."""
        split = found | "SplitBlock" >> beam.ParDo(_SplitBlockFn()).with_outputs("repeats", main="persons")
        return SplitPersons(split.persons, split.repeats)


class _SplitBlockFn(beam.DoFn):
    def process(
        self, element: tuple[int, PersonBlock]
    ) -> Iterator[tuple[int, PersonBlock] | TaggedOutput[Literal["repeats"], LogBlock]]:
        if element[0] == REPEATS:
            yield TaggedOutput("repeats", LogBlock(element[1].lines))
        else:
            yield element


class _SendHomeFn(beam.DoFn):
    """Lines to the shard of their address, updates to that of their identifier."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, block: LogBlock) -> Iterator[tuple[int, LogBlock]]:
        homes: dict[int, LogBlock] = {}
        for line in block.lines:
            homes.setdefault(_shard(line_node(line), self._shards), LogBlock([], [])).lines.append(line)
        for update in block.updates:
            homes.setdefault(_shard(update_node(update), self._shards), LogBlock([], [])).updates.append(update)
        yield from homes.items()


class _FindInFilesFn(beam.DoFn):
    def __init__(self, shards: int, tells_repeats: bool) -> None:
        self._shards = shards
        self._tells_repeats = tells_repeats
        self._repeats = Metrics.counter("find_recipients", "duplicates")

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, PersonBlock]]:
        everything = LogBlock([], [])
        for packed in group[1]:
            block = _LOG_BLOCKS.decode(packed)
            everything.lines += block.lines
            everything.updates += block.updates
        persons, users = settle_updates(everything.updates)
        lines, repeats = drop_repeated_lines(everything.lines)
        set_persons(lines, persons)
        self._repeats.inc(len(repeats))
        if self._tells_repeats:
            yield from _tell_repeats(repeats)
        yield from _spread_persons(PersonBlock([], users), self._shards)
        for start in range(0, len(lines), LINES_A_BLOCK):
            yield from _spread_persons(PersonBlock(lines[start : start + LINES_A_BLOCK]), self._shards)


def _rebuild_book(log: Iterable[bytes]) -> AddressBook:
    book = AddressBook()
    book.replay(log)
    return book


_MEMORY: LogCache[AddressBook] = LogCache(capacity=4096)


class _FindInStreamFn(beam.DoFn):
    """Remembers an `AddressBook` a shard.

    A line for the horizon after its arrival, and at most half of it longer: 24 bytes. What happened at an address for
    the time to live after the last of it, for ever if there is none. Whose an identifier is, for ever. The timer
    forgets, when the watermark has passed.
    """

    BOOK = BagStateSpec("book", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())
    FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

    def __init__(self, shards: int, horizon_micros: int, ttl_micros: int | None, tells_repeats: bool) -> None:
        self._shards = shards
        self._tells_repeats = tells_repeats
        self._horizon = Duration(micros=horizon_micros)
        self._ttl = None if ttl_micros is None else Duration(micros=ttl_micros)
        self._pause = Duration(micros=horizon_micros if ttl_micros is None else min(horizon_micros, ttl_micros))
        self._repeats = Metrics.counter("find_recipients", "duplicates")
        self._moved = Metrics.counter("find_recipients", "moved_addresses")

    def process(
        self,
        element: tuple[int, LogBlock],
        timestamp: Any = beam.DoFn.TimestampParam,
        log: Any = beam.DoFn.StateParam(BOOK),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> Iterator[tuple[int, PersonBlock]]:
        book = _MEMORY.take(token, log, _rebuild_book)
        if element[1].lines and not book.lines_remembered:
            forget.set(timestamp + self._pause)
        found, record = book.find(element[1])
        if record:
            log.add(record)
            _MEMORY.put(token, book)
        else:
            _MEMORY.put_back(token, book)
        self._repeats.inc(len(found.repeats))
        self._moved.inc(len(found.block.histories))
        if self._tells_repeats:
            yield from _tell_repeats(found.repeats)
        yield from _spread_persons(found.block, self._shards)

    @on_timer(FORGET)
    def forget_expired(
        self,
        timestamp: Any = beam.DoFn.TimestampParam,
        log: Any = beam.DoFn.StateParam(BOOK),
        token: Any = beam.DoFn.StateParam(TOKEN),
        forget: Any = beam.DoFn.TimerParam(FORGET),
    ) -> None:
        book = _MEMORY.take(token, log, _rebuild_book)
        rest = book.forget_before(
            (timestamp - self._horizon).micros, None if self._ttl is None else (timestamp - self._ttl).micros
        )
        log.clear()
        log.add(rest)
        _MEMORY.put(token, book)
        if book.lines_remembered:
            forget.set(timestamp + Duration(micros=self._pause.micros // 2))


def _tell_repeats(repeats: Sequence[LogLine]) -> Iterator[tuple[int, PersonBlock]]:
    for start in range(0, len(repeats), LINES_A_BLOCK):
        yield REPEATS, PersonBlock(list(repeats[start : start + LINES_A_BLOCK]))


def _spread_persons(block: PersonBlock, shards: int) -> Iterator[tuple[int, PersonBlock]]:
    """What concerns each shard of persons."""
    spread: dict[int, PersonBlock] = {}
    for line in block.lines:
        _of_person(spread, line.workspace_id, line.person_id or "", shards).lines.append(line)
    for user in block.users:
        _of_person(spread, user.workspace_id, user.person_id, shards).users.append(user)
    for history in block.histories:
        _of_person(spread, history.workspace_id, history.person_id, shards).histories.append(history)
    yield from spread.items()


def _of_person(spread: dict[int, PersonBlock], workspace_id: str, person_id: str, shards: int) -> PersonBlock:
    shard = crc32(f"{workspace_id}\n{person_id}".encode()) % shards
    block = spread.get(shard)
    if block is None:
        block = spread[shard] = PersonBlock([], [], [])
    return block


def _shard(node: tuple[str, ...], shards: int) -> int:
    return crc32("\n".join(node).encode()) % shards
