"""ReadWarehousePersons: the customer's own persons, whose ids win over ours."""

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindows, TimestampCombiner, TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from pipelines.person_rows import read_rows
from pipelines.settings import PERSON_FILES
from schemas.identities import PriorBlock, WarehousePerson
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.rows import TableRows
from transforms.logic.read_person import read_person
from transforms.logic.settle_warehouse import settle_warehouse
from transforms.several_outputs import gives_several

BLOCK_PERSONS = 10_000

# All rows of an email meet in one shard, and a worker holds a shard at a time: of 10 million persons 150,000.
SHARDS = 64

_LOGGER = logging.getLogger(__name__)


class SettledPersons(NamedTuple):
    """What comes out of ReadWarehousePersons."""

    prior: PCollection
    """`PriorBlock`: persons whose email has one person_id, in blocks."""
    merges: PCollection
    """`TableRows` of `identity_merges`: the person_ids of emails that have several."""


class ReadWarehousePersons(beam.PTransform):
    """Read the customer's persons, once.

    `source` is a file, a pattern of files, or a table PROJECT.DATASET.TABLE with the columns person_id, email and, if
    there are several workspaces, workspace_id. Rows without a usable email or person_id are skipped and counted. An
    email with several person_ids is a conflict: none of them is used. `prior` comes out before all time, `merges` when
    the conflict was found.
    """

    def __init__(self, source: str, default_workspace_id: str, rules: IdentityRules = DEFAULT_RULES) -> None:
        super().__init__()
        self._source = source
        self._read = _ReadPersonsFn(default_workspace_id, rules)

    @gives_several
    def expand(self, begin: PBegin) -> SettledPersons:
        """Apply it to a pipeline, bounded or streaming."""
        settled = (
            begin
            | "StartPersons" >> beam.Impulse()
            | "FindSources" >> beam.ParDo(_FindSourcesFn(self._source))
            | "SpreadSources" >> beam.Reshuffle()
            | "ReadPersons" >> beam.ParDo(self._read)
            # The default would date each shard at the end of time.
            | "KeepTime" >> beam.WindowInto(GlobalWindows(), timestamp_combiner=TimestampCombiner.OUTPUT_AT_EARLIEST)
            | "GroupPersons" >> beam.GroupByKey()
            | "SettlePersons" >> beam.ParDo(_SettlePersonsFn()).with_outputs("merges", main="prior")
        )
        return SettledPersons(settled.prior, settled.merges)


def shard_persons(persons: Iterable[WarehousePerson]) -> dict[int, PriorBlock]:
    """Shard -> its persons. Every row of an email has the same shard, on every machine."""
    shards: dict[int, PriorBlock] = {}
    for person in persons:
        shard = crc32(person.email.encode()) % SHARDS
        shards.setdefault(shard, PriorBlock()).warehouse.append(person)
    return shards


class _FindSourcesFn(beam.DoFn):
    def __init__(self, source: str) -> None:
        self._source = source

    def process(self, start: bytes) -> Iterator[str]:
        if not self._source.endswith(PERSON_FILES):
            yield self._source
            return
        for file in FileSystems.match([self._source])[0].metadata_list:
            yield file.path


class _ReadPersonsFn(beam.DoFn):
    def __init__(self, default_workspace_id: str, rules: IdentityRules) -> None:
        self._default_workspace_id = default_workspace_id
        self._rules = rules
        self._skipped = Metrics.counter("read_persons", "skipped_rows")
        self._has_warned = False

    def process(self, source: str) -> Iterator[tuple[int, PriorBlock]]:
        rows = read_rows(source)
        while block := list(islice(rows, BLOCK_PERSONS)):
            read = [read_person(*row, self._default_workspace_id, self._rules) for row in block]
            persons = [person for person in read if person is not None]
            if len(persons) < len(block):
                self._skip(source, len(block) - len(persons))
            yield from shard_persons(persons).items()

    def _skip(self, source: str, rows: int) -> None:
        self._skipped.inc(rows)
        if not self._has_warned:
            self._has_warned = True
            _LOGGER.warning(
                "--warehouse_persons: %s has rows without a usable email or person_id; they are skipped, "
                "and the counter read_persons/skipped_rows says how many",
                source,
            )


class _SettlePersonsFn(beam.DoFn):
    def __init__(self) -> None:
        self._persons = Metrics.counter("read_persons", "emails_with_a_person")
        self._conflicts = Metrics.counter("read_persons", "conflicting_emails")

    def process(
        self, shard: tuple[int, Iterable[PriorBlock]]
    ) -> Iterator[PriorBlock | TaggedOutput[Literal["merges"], TableRows]]:
        now = time.time_ns() // 1000
        settled = settle_warehouse((person for block in shard[1] for person in block.warehouse), now)
        self._persons.inc(len(settled.persons))
        self._conflicts.inc(settled.conflicting_emails)
        for start in range(0, len(settled.persons), BLOCK_PERSONS):
            yield PriorBlock(warehouse=settled.persons[start : start + BLOCK_PERSONS], read_at=now)
        for start in range(0, len(settled.conflicts), BLOCK_PERSONS):
            rows = TableRows("identity_merges", settled.conflicts[start : start + BLOCK_PERSONS])
            dated: Any = TimestampedValue(rows, Timestamp(micros=now))
            yield TaggedOutput("merges", dated)
