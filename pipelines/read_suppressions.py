"""Whom earlier runs have suppressed: the table `suppressions`, read once when a job starts."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, PBegin, PCollection

from pipelines.clients import bigquery_client
from schemas.calls import CallBlock
from schemas.tables import find_project
from transforms.logic.suppress_calls import suppression_key

# 240 KB, which every shard gets.
BLOCK_KEYS = 10_000

_QUERY = "SELECT DISTINCT workspace_id, identifier_hash FROM `{dataset}.suppressions`"


class AddSuppressions(beam.PTransform):
    """Let calls wait until all shards were told what `suppressions` holds.

    What is suppressed later, a running job learns from `suppress` messages and delete calls only.
    """

    def __init__(self, dataset: str) -> None:
        super().__init__()
        self._dataset = dataset

    def expand(self, calls: PCollection) -> PCollection:
        """Apply it to a PCollection of `CallBlock`; gives `CallBlock` as well."""
        suppressions = calls.pipeline | "ReadSuppressions" >> ReadSuppressions(self._dataset)
        if not calls.is_bounded:  # else a shard sees everything at once
            nothing = suppressions | "IsRead" >> beam.ParDo(_IsReadFn())
            calls = calls | "AwaitSuppressions" >> beam.ParDo(_AwaitFn(), AsIter(nothing))
        told: PCollection = (suppressions, calls) | "TellShards" >> beam.Flatten()
        return told


class ReadSuppressions(beam.PTransform):
    """The suppressed identifiers of the dataset, in blocks without calls. Gives `CallBlock`."""

    def __init__(self, dataset: str) -> None:
        super().__init__()
        self._dataset = dataset

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        read = beam.ParDo(_ReadHashesFn(self._dataset))
        blocks: PCollection = begin | "Once" >> beam.Impulse() | "ReadHashes" >> read
        return blocks


class _ReadHashesFn(beam.DoFn):
    def __init__(self, dataset: str) -> None:
        self._dataset = dataset

    def process(self, impulse: bytes) -> Iterator[CallBlock]:
        client = bigquery_client(find_project(self._dataset))
        try:
            keys: list[bytes] = []
            for workspace_id, identifier_hash in client.query_and_wait(_QUERY.format(dataset=self._dataset)):
                keys.append(suppression_key(workspace_id, identifier_hash))
                if len(keys) == BLOCK_KEYS:
                    yield CallBlock([], keys)
                    keys = []
            if keys:
                yield CallBlock([], keys)
        finally:
            client.close()


class _IsReadFn(beam.DoFn):
    """Gives nothing; that it will give nothing more is known when all is read."""

    def process(self, block: CallBlock) -> Iterator[None]:
        yield from ()


class _AwaitFn(beam.DoFn):
    def process(self, block: CallBlock, nothing: Any) -> Iterator[CallBlock]:
        yield block
