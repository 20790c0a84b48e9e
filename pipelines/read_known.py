"""ReadKnownIdentities: who is who as earlier jobs have left it, so that a new job goes on from there."""

import time
from collections.abc import Iterator
from itertools import islice

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PBegin, PCollection

from pipelines.clients import bigquery_client
from schemas.identities import IdentifierType, KnownIdentity, PriorBlock
from schemas.tables import find_project
from transforms.logic.read_timestamps import to_micros

BLOCK_IDENTITIES = 10_000

VIEW = "current_identities"
VIEW_COLUMNS = tuple(name for name in KnownIdentity.__struct_fields__ if name != "led")


# Also who belongs to nobody any more, whom the view leaves out: a row that binds one again has to be newer than that.
_QUERY = """
SELECT
  ever.workspace_id,
  ever.identifier_type,
  ever.identifier,
  today.person_id,
  today.person_since,
  today.linked_at,
  ever.version,
  merged.from_person_id AS led
FROM (
  SELECT workspace_id, identifier_type, identifier, MAX(version) AS version
  FROM `{dataset}.identities`
  WHERE identifier_type IN ({types})
  GROUP BY workspace_id, identifier_type, identifier
) AS ever
LEFT JOIN `{dataset}.current_identities` AS today
ON
  today.workspace_id = ever.workspace_id
  AND today.identifier_type = ever.identifier_type
  AND today.identifier = ever.identifier
LEFT JOIN (
  SELECT DISTINCT workspace_id, identifier_type, identifier, from_person_id
  FROM `{dataset}.identity_merges`
  WHERE reason = 'merged'
) AS merged
ON
  merged.workspace_id = today.workspace_id
  AND merged.identifier_type = today.identifier_type
  AND merged.identifier = today.identifier
"""


class ReadKnownIdentities(beam.PTransform):
    """Read what `identities` of a dataset, PROJECT.DATASET, says today, once. Gives `PriorBlock`s, before all time."""

    def __init__(self, dataset: str) -> None:
        super().__init__()
        self._dataset = dataset

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline, bounded or streaming."""
        known: PCollection = (
            begin | "StartKnown" >> beam.Impulse() | "ReadKnown" >> beam.ParDo(_ReadKnownFn(self._dataset))
        )
        return known


def read_known(dataset: str) -> Iterator[KnownIdentity]:
    """Every identifier of a type we know that has or had a person, in no order. Raises Google's exceptions."""
    client = bigquery_client(find_project(dataset))
    types = ", ".join(f"'{identifier_type}'" for identifier_type in IdentifierType)
    query = _QUERY.format(dataset=dataset, types=types)
    try:
        rows = client.query_and_wait(query, page_size=BLOCK_IDENTITIES)
        for row in rows:
            values = dict(row.items())
            values |= {name: to_micros(values[name]) for name in ("person_since", "linked_at")}
            yield KnownIdentity(**values)
    finally:
        client.close()


class _ReadKnownFn(beam.DoFn):
    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._identities = Metrics.counter("read_known", "identities")

    def process(self, start: bytes) -> Iterator[PriorBlock]:
        now = time.time_ns() // 1000
        known = read_known(self._dataset)
        while block := list(islice(known, BLOCK_IDENTITIES)):
            self._identities.inc(len(block))
            yield PriorBlock(known=block, read_at=now)
