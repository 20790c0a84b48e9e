"""FindRecipients: log lines to the persons whom they are about, each line once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration
from apache_beam.utils.windowed_value import WindowedValue

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, SealedBlock
from transforms.cached_log import LogCache
from transforms.coders import CompressedStructCoder
from transforms.logic.find_recipients import (
    AddressBook,
    find_in_files,
    line_node,
    settle_updates,
    update_node,
)
from transforms.pack_lines import LinePacks, seal
from transforms.several_outputs import gives_several

MICROS_A_SECOND = 1_000_000

# A worker holds all lines of a shard at once, and does best with no more than its processor's cache has room for.
SHARDS_OF_FILES = 512
# At its address a line stays as it is encoded; at its person it is read whole, which takes several times the room.
PERSON_SHARDS_A_SHARD = 4
# What running jobs were started with: each shard would find another one's memory.
SHARDS_OF_A_STREAM = 16

# The shard under which repeats travel to SplitRepeats. An output of its own would give the steps other names, and a
# step that is renamed loses its state: a running job could not begin to tell them.
REPEATS = -1

_LOG_BLOCKS = CompressedStructCoder(LogBlock)
_SEALED_BLOCKS = CompressedStructCoder(SealedBlock)
_PERSON_BLOCKS = CompressedStructCoder(PersonBlock)


class FindRecipients(beam.PTransform):
    """Set the person of each line, by what identity updates say of its address, and tell persons what became of them.

    Each line comes out once: repeats are dropped and counted, in a stream those that come within the horizon. They are
    looked for at the address, since copies of a line may name different persons. In bounded input all updates hold from
    the beginning.

    With `tells_repeats` the repeats come out, too, and SplitRepeats must follow.
    """

    def __init__(
        self,
        shards: int | None,
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
        """Apply it to a PCollection of `LogBlock`; gives `tuple[int, PersonBlock]`, by the person's shard.

        In bounded input the blocks are encoded, see transforms/pack_lines.py: `tuple[int, bytes]`.
        """
        found: PCollection
        if lines.is_bounded and (self._updates is None or self._updates.is_bounded):
            shards = self._shards or SHARDS_OF_FILES
            packs = lines | "PackHome" >> beam.ParDo(_PackHomeFn(shards))
            if self._updates is not None:  # packed before: a local runner copies what it flattens
                news = self._updates | "PackUpdates" >> beam.ParDo(_PackUpdatesFn(shards))
                packs = (packs, news) | "AddUpdates" >> beam.Flatten()
            find_in_files = _FindInFilesFn(shards * PERSON_SHARDS_A_SHARD, self._tells_repeats)
            found = packs | "GatherHome" >> beam.GroupByKey() | "FindInFiles" >> beam.ParDo(find_in_files)
        else:
            shards = self._shards or SHARDS_OF_A_STREAM
            find = _FindInStreamFn(shards, self._horizon_micros, self._ttl_micros, self._tells_repeats)
            blocks = lines if self._updates is None else (lines, self._updates) | "AddUpdates" >> beam.Flatten()
            found = blocks | "SendHome" >> beam.ParDo(_SendHomeFn(shards)) | "FindInStream" >> beam.ParDo(find)
        return found


class SplitPersons(NamedTuple):
    """What FindRecipients found, and what it dropped."""

    persons: PCollection
    """As FindRecipients gives them."""
    repeats: PCollection
    """`LogBlock`: lines that have come before."""


class SplitRepeats(beam.PTransform):
    """Take the repeats from among what FindRecipients gives."""

    @gives_several
    def expand(self, found: PCollection) -> SplitPersons:
        """Apply it to what FindRecipients gives."""
        fn = _SplitPackFn() if found.is_bounded else _SplitBlockFn()
        split = found | "SplitBlock" >> beam.ParDo(fn).with_outputs("repeats", main="persons")
        return SplitPersons(split.persons, split.repeats)


class _SplitBlockFn(beam.DoFn):
    def process(
        self, element: tuple[int, PersonBlock]
    ) -> Iterator[tuple[int, PersonBlock] | TaggedOutput[Literal["repeats"], LogBlock]]:
        if element[0] == REPEATS:
            yield TaggedOutput("repeats", LogBlock(element[1].lines))
        else:
            yield element


class _SplitPackFn(beam.DoFn):
    def process(
        self, element: tuple[int, bytes]
    ) -> Iterator[tuple[int, bytes] | TaggedOutput[Literal["repeats"], LogBlock]]:
        if element[0] == REPEATS:
            yield TaggedOutput("repeats", _LOG_BLOCKS.decode(element[1]))
        else:
            yield element


class _SendHomeFn(beam.DoFn):
    """Lines to the shard of their address, updates to that of their identifier."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, block: LogBlock) -> Iterator[tuple[int, LogBlock]]:
        homes: defaultdict[int, LogBlock] = defaultdict(_empty_block)
        for line in block.lines:
            homes[_shard(line_node(line), self._shards)].lines.append(line)
        for update in block.updates:
            homes[_shard(update_node(update), self._shards)].updates.append(update)
        yield from homes.items()


def _empty_block() -> LogBlock:
    return LogBlock([], [])


class _PackHomeFn(beam.DoFn):
    """Lines to the shard of their address in a run over files, in packs (transforms/pack_lines.py)."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def start_bundle(self) -> None:
        self._packs = LinePacks()

    def process(self, block: LogBlock) -> Iterator[tuple[int, bytes]]:
        shards = _shards_in_files([line.email for line in block.lines], self._shards)
        yield from self._packs.add(seal(block.lines), shards)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from self._packs.take_rest()


class _PackUpdatesFn(beam.DoFn):
    """Updates to the shard of their identifier in a run over files."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, block: LogBlock) -> Iterator[tuple[int, bytes]]:
        homes: defaultdict[int, LogBlock] = defaultdict(_empty_block)
        shards = _shards_in_files([update_node(update)[-1] for update in block.updates], self._shards)
        for shard, update in zip(shards, block.updates, strict=True):
            homes[shard].updates.append(update)
        for shard, news in homes.items():
            yield shard, _LOG_BLOCKS.encode(news)


class _FindInFilesFn(beam.DoFn):
    def __init__(self, shards: int, tells_repeats: bool) -> None:
        self._shards = shards
        self._tells_repeats = tells_repeats
        self._repeats = Metrics.counter("find_recipients", "duplicates")

    def start_bundle(self) -> None:
        self._packs = LinePacks()

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[tuple[int, bytes]]:
        everything = SealedBlock([], [])
        for packed in group[1]:
            block = _SEALED_BLOCKS.decode(packed)
            everything.lines += block.lines
            everything.updates += block.updates
        persons, users = settle_updates(everything.updates)
        spread: defaultdict[int, PersonBlock] = defaultdict(_no_persons)
        shards = _shards_in_files([user.person_id for user in users], self._shards)
        for shard, user in zip(shards, users, strict=True):
            spread[shard].users.append(user)
        for shard, known in spread.items():
            yield shard, _PERSON_BLOCKS.encode(known)
        found = find_in_files(everything.lines, persons)
        self._repeats.inc(len(found.repeats))
        yield from self._packs.add(found.lines, _shards_in_files(found.person_ids, self._shards))
        if self._tells_repeats:
            yield from self._packs.add(found.repeats, [REPEATS] * len(found.repeats))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from self._packs.take_rest()


def _shards_in_files(identifiers: Iterable[str], shards: int) -> list[int]:
    """By emails, user_ids or person_ids alone: to write a workspace before each takes as long as the rest."""
    return [crc32(identifier.encode()) % shards for identifier in identifiers]


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
        if self._tells_repeats and found.repeats:
            yield REPEATS, PersonBlock(found.repeats)
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


def _spread_persons(block: PersonBlock, shards: int) -> Iterator[tuple[int, PersonBlock]]:
    """What concerns each shard of persons."""
    spread: defaultdict[int, PersonBlock] = defaultdict(_no_persons)
    for line in block.lines:
        spread[_shard((line.workspace_id, line.person_id or ""), shards)].lines.append(line)
    for user in block.users:
        spread[_shard((user.workspace_id, user.person_id), shards)].users.append(user)
    for history in block.histories:
        spread[_shard((history.workspace_id, history.person_id), shards)].histories.append(history)
    yield from spread.items()


def _no_persons() -> PersonBlock:
    return PersonBlock([], [], [])


def _shard(node: tuple[str, ...], shards: int) -> int:
    return crc32("\n".join(node).encode()) % shards
