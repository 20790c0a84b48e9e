"""A file of calls as a stream would bring them: the pipeline's streaming steps, on a runner of this process.

The blocks come from the file and not from Pub/Sub, with publish times at a given rate; BigQuery is not asked and takes
every row. All else is segment_to_bigquery as it is launched. The runner is the FnApiRunner: it runs the worker code of
Dataflow, but gives every window at the end. No call is late, so each step sees what it would see on time.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import apache_beam as beam
from apache_beam.coders.typecoders import registry
from apache_beam.io.gcp import bigquery
from apache_beam.io.gcp.bigquery_tools import BigQueryWrapper
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.window import TimestampedValue

from benchmarks.weigh_rows import RowBytes, add_weights, weigh_row
from pipelines import segment_to_bigquery
from pipelines.settings import Settings
from schemas.messages import Message, MessageBlock
from transforms.several_outputs import gives_several

_SUBSCRIPTION = "projects/my-project/subscriptions/segment-calls"
_DATASET = "my-project.segment"

# The day on which the generated calls begin, 2026-03-02, in microseconds since 1970.
_START = 1_772_409_600_000_000
_MICROS_A_SECOND = 1_000_000


class PlayCalls(beam.PTransform):
    """Give the lines of a file as `MessageBlock`s of an unbounded PCollection."""

    def __init__(self, path: Path, calls_a_block: int, calls_a_second: int) -> None:
        super().__init__()
        self._fn = _PlayFn(str(path), calls_a_block, calls_a_second)

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        blocks: PCollection = begin | "Start" >> beam.Impulse() | "ReadBlocks" >> beam.ParDo(self._fn)
        blocks.is_bounded = False
        return blocks


class _PlayFn(beam.DoFn):
    def __init__(self, path: str, calls_a_block: int, calls_a_second: int) -> None:
        self._path = path
        self._calls_a_block = calls_a_block
        self._micros_a_call = _MICROS_A_SECOND // calls_a_second

    def process(self, start: bytes) -> Iterator[MessageBlock]:
        at = _START
        with open(self._path, "rb") as file:
            while lines := list(islice(file, self._calls_a_block)):
                times = range(at, at + len(lines) * self._micros_a_call, self._micros_a_call)
                messages = [Message(line.rstrip(b"\n"), {}, time) for line, time in zip(lines, times, strict=True)]
                timed: Any = TimestampedValue(MessageBlock(messages, _SUBSCRIPTION, times[-1]), at / _MICROS_A_SECOND)
                yield timed
                at = times[-1] + self._micros_a_call


def apply_stream(pipeline: beam.Pipeline, source: Path, calls_a_block: int, calls_a_second: int, method: str) -> None:
    """All steps of segment_to_bigquery, Pub/Sub to BigQuery, but reading. `method`: a --bigquery_method."""
    settings = Settings(input_subscription=_SUBSCRIPTION, output_dataset=_DATASET, bigquery_method=method)
    messages = pipeline | "PlayCalls" >> PlayCalls(source, calls_a_block, calls_a_second)
    prior = segment_to_bigquery.read_prior(pipeline, settings)
    segment_to_bigquery.write(segment_to_bigquery.build(messages, settings, prior), settings)


@contextmanager
def no_bigquery(*, is_weighed: bool = True) -> Iterator[dict[str, RowBytes]]:
    """Tables are empty, and every row is taken. Table -> what its rows weigh, if they are weighed.

    STREAMING_INSERTS does all but the request. STORAGE_WRITE_API hands its rows to Java: all up to there is done.
    """
    weights: dict[str, RowBytes] = {}
    lock = threading.Lock()

    def take_rows(
        self: Any, project: str, dataset: str, table: str, rows: Sequence[Any], insert_ids: Sequence[str], **flags: Any
    ) -> tuple[bool, list[Any]]:
        if is_weighed:
            with lock:
                total = weights.setdefault(table, RowBytes())
                for row, insert_id in zip(rows, insert_ids, strict=True):
                    add_weights(total, weigh_row(table, row, insert_id))
        return True, []

    with (
        mock.patch.object(BigQueryWrapper, "__init__", return_value=None),
        mock.patch.object(BigQueryWrapper, "_insert_all_rows", take_rows),
        mock.patch.object(bigquery, "BeamJarExpansionService", return_value=None),
        mock.patch.object(bigquery, "SchemaAwareExternalTransform", _HandToJava),
        mock.patch("pipelines.read_known.bigquery_client", _EmptyTables),
        mock.patch("pipelines.read_suppressions.bigquery_client", _EmptyTables),
    ):
        yield weights


class _HandToJava(beam.PTransform):
    """Encodes rows as they go to the worker's Java process, and refuses none."""

    def __init__(self, **flags: Any) -> None:
        super().__init__()

    @gives_several
    def expand(self, rows: PCollection) -> dict[str, PCollection]:
        refused: PCollection = rows | "Encode" >> beam.ParDo(_EncodeFn(registry.get_coder(rows.element_type)))
        return {bigquery.StorageWriteToBigQuery.FAILED_ROWS_WITH_ERRORS: refused}


class _EncodeFn(beam.DoFn):
    def __init__(self, coder: Any) -> None:
        self._coder = coder

    def process(self, row: Any) -> Iterator[Any]:
        self._coder.encode(row)
        yield from ()


class _EmptyTables:
    """Stands in for BigQuery's client."""

    def __init__(self, project: str) -> None:
        pass

    def query_and_wait(self, query: str, **arguments: Any) -> list[Any]:
        return []

    def close(self) -> None:
        pass
