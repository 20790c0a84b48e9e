"""Rows to BigQuery, by Beam's own sink; what BigQuery refuses comes back as dead letters."""

import base64
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.gcp import bigquery as beam_bigquery
from apache_beam.io.gcp.bigquery import BigQueryDisposition, WriteToBigQuery
from apache_beam.io.gcp.bigquery_tools import RetryStrategy, get_beam_typehints_from_tableschema
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.pvalue import Row as BeamRow
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp

from pipelines.first_line import first_line
from pipelines.usage import UsageError
from schemas.outcomes import Outcome, OutcomeKey, outcome_key
from schemas.rejections import DeadLetter, LetterBlock, Reason
from schemas.rows import Row, TableRows
from schemas.tables import CALLS_TABLES, beam_schema, load_table
from transforms.logic.decode_json import decode_object
from transforms.logic.read_timestamps import format_timestamp
from transforms.logic.shape_rows import FACT_TABLES
from transforms.several_outputs import gives_several

LEDGER_TABLES = ("dead_letters", "counts")
"""What the books are kept in. Rows that the other tables refuse end here, so these are written last."""

DATA_TABLES = tuple(table for table in CALLS_TABLES if table not in LEDGER_TABLES)

# How often a streaming job flushes; STREAMING_INSERTS flush with each bundle. Load jobs: 1,500 a table and day at most
# (https://cloud.google.com/bigquery/quotas#load_jobs), one in 5 minutes leaves room for retries.
_TRIGGERING_SECONDS = {"STORAGE_WRITE_API": 5, "FILE_LOADS": 300}


def row_bytes(row_and_insert_id: tuple[dict[str, Any], object]) -> int:
    """Bytes of a row in a request of insertAll, by which Beam's sink fills requests and refuses what is too large."""
    return len(json.dumps(row_and_insert_id[0]))


# Beam asks objsize, which walks every object that a row can reach, and that was two thirds of the sink's CPU time. In
# 2.77 nothing else in that module asks. Workers import this module before the sink, for the step in front of it.
beam_bigquery.get_deep_size = row_bytes  # type: ignore[attr-defined, unused-ignore]


class RefusedRow(NamedTuple):
    """A row that BigQuery would not take."""

    table: str
    row: str
    """JSON, as insertAll takes it."""
    detail: str
    refused_at: int
    """When, in microseconds since 1970. The row's own times will not do: they may be why it was refused."""


class Refused(NamedTuple):
    """What BigQuery would not take."""

    dead_letters: PCollection
    """`LetterBlock`: the refused rows as JSON."""
    counts: PCollection
    """`tuple[OutcomeKey, int]`: what takes their calls back from `written` and counts them as `rejected`."""


class WriteBigQuery(beam.PTransform):
    """Write rows, a sink per table. The tables must exist: scripts/create_tables makes them.

    Load jobs (FILE_LOADS) give no refused rows back: a file with one bad row fails as a whole and with it the job.
    """

    def __init__(self, dataset: str, tables: tuple[str, ...], method: str) -> None:
        super().__init__()
        project, _, name = dataset.rpartition(".")
        self._dataset = f"{project}:{name}"
        self._tables = tables
        self._method = method

    @gives_several
    def expand(self, rows: PCollection) -> Refused | None:
        """Apply it to a PCollection of `TableRows`; None if the method never gives rows back."""
        refused = tuple(part for table in self._tables if (part := self._write_table(rows, table)) is not None)
        if not refused:
            return None
        merged = refused | "FlattenRefused" >> beam.Flatten()
        return Refused(
            merged | "BuryRefused" >> beam.ParDo(_BuryRefusedFn()),
            merged | "CountRefused" >> beam.ParDo(_CountRefusedFn()),
        )

    def _write_table(self, rows: PCollection, table: str) -> PCollection | None:
        label = table_label(table)
        try:
            result = self._write_rows(rows, table, label)
        except (RuntimeError, OSError) as error:
            if self._method != "STORAGE_WRITE_API":
                raise
            reason = first_line(error, 200)
            raise UsageError(
                "--bigquery_method STORAGE_WRITE_API needs Java, and Beam's jar from Maven, where the job is launched: "
                f"{reason}"
            ) from None
        if self._method == "FILE_LOADS":
            return None
        read = _read_insert_error if self._method == "STREAMING_INSERTS" else _read_storage_error
        refused: PCollection = result.failed_rows_with_errors | f"Refused{label}" >> beam.ParDo(
            _ReadRefusedFn(table, read)
        )
        return refused

    def _write_rows(self, rows: PCollection, table: str, label: str) -> Any:
        select = beam.ParDo(_SelectRowsFn(table, self._method))
        schema: dict[str, Any] | None = beam_schema(load_table(table))
        if self._method == "STORAGE_WRITE_API":  # the rows tell their schema
            select, schema = select.with_output_types(beam_row_type(table)), None
        write: Any = WriteToBigQuery(
            table=f"{self._dataset}.{table}",
            schema=schema,
            method=self._method,
            create_disposition=BigQueryDisposition.CREATE_NEVER,
            write_disposition=BigQueryDisposition.WRITE_APPEND,
            # An invalid row comes back at once; what may pass later is tried again.
            insert_retry_strategy=RetryStrategy.RETRY_ON_TRANSIENT_ERROR,
            triggering_frequency=None if rows.is_bounded else _TRIGGERING_SECONDS.get(self._method),
        )
        root = logging.getLogger()
        root.addFilter(_is_no_json_warning)
        try:
            return rows | f"Select{label}" >> select | f"Write{label}" >> write
        finally:
            root.removeFilter(_is_no_json_warning)


def _is_no_json_warning(record: logging.LogRecord) -> bool:
    """Beam warns of JSON that load jobs get as text, whatever they get: ours is no text."""
    return not record.getMessage().startswith("Found JSON type in TableSchema")


def table_label(table: str) -> str:
    """The table's name as it stands in the names of steps: group_identifies gives GroupIdentifies."""
    return "".join(word.title() for word in table.split("_"))


def beam_row_type(table: str) -> RowTypeConstraint:
    """What the rows of `beam_rows` are, as Beam knows it."""
    columns = get_beam_typehints_from_tableschema(beam_schema(load_table(table)), {"JSON": str})
    return RowTypeConstraint.from_fields(columns)


def beam_rows(table: str, rows: list[Row]) -> Iterator[BeamRow]:
    """Rows as STORAGE_WRITE_API takes them. Given dicts, Beam makes them in five times as long."""
    columns = load_table(table).fields
    names = [column.name for column in columns]
    converters = [(place, _BEAM_VALUES[one.type]) for place, one in enumerate(columns) if one.type in _BEAM_VALUES]
    for row in rows:
        values = list(row)
        for place, convert in converters:
            if values[place] is not None:
                values[place] = convert(values[place])
        yield BeamRow(**dict(zip(names, values, strict=True)))


_BEAM_VALUES: dict[str, Callable[[Any], Any]] = {
    "TIMESTAMP": lambda micros: Timestamp(micros=micros),
    "RECORD": lambda members: [BeamRow(**each) for each in members],
}


def bigquery_rows(table: str, rows: list[Row], method: str) -> Iterator[dict[str, Any]]:
    """Rows as the other methods want them: times, bytes and JSON each have their own form per API."""
    converters = _CONVERTERS[method]
    columns = [(field.name, converters.get(field.type)) for field in load_table(table).fields]
    for row in rows:
        yield {
            name: convert(value) if convert else value
            for (name, convert), value in zip(columns, row, strict=True)
            if value is not None
        }


_CONVERTERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "STREAMING_INSERTS": {"TIMESTAMP": format_timestamp, "BYTES": lambda data: base64.b64encode(data).decode()},
    "FILE_LOADS": {
        "TIMESTAMP": format_timestamp,
        "BYTES": lambda data: base64.b64encode(data).decode(),
        "JSON": decode_object,  # a load job would read JSON text as one JSON string
    },
}


class _SelectRowsFn(beam.DoFn):
    def __init__(self, table: str, method: str) -> None:
        self._table = table
        self._method = method

    def process(self, rows: TableRows) -> Iterator[Any]:
        if rows.table != self._table:
            return
        if self._method == "STORAGE_WRITE_API":
            yield from beam_rows(rows.table, rows.rows)
        else:
            yield from bigquery_rows(rows.table, rows.rows, self._method)


def _read_insert_error(failed: Any) -> tuple[Any, Any]:
    """STREAMING_INSERTS gives (table, row, errors)."""
    return failed[1], failed[2]


def _read_storage_error(failed: Any) -> tuple[Any, Any]:
    """STORAGE_WRITE_API gives the row, as values of Beam, and one message."""
    row = {column: _plain(value) for column, value in failed.failed_row._asdict().items() if value is not None}
    return row, failed.error_message


def _plain(value: Any) -> Any:
    """A value of a Beam row as it stands in JSON for insertAll."""
    if isinstance(value, Timestamp):
        return format_timestamp(value.micros)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple) and not hasattr(value, "_asdict"):
        return [_plain(element) for element in value]
    return {name: _plain(member) for name, member in value._asdict().items()} if hasattr(value, "_asdict") else value


class _ReadRefusedFn(beam.DoFn):
    def __init__(self, table: str, read: Callable[[Any], tuple[Any, Any]]) -> None:
        self._table = table
        self._read = read
        self._refused = Metrics.counter("write_bigquery", f"refused_{table}")

    def process(self, failed: Any) -> Iterator[RefusedRow]:
        row, errors = self._read(failed)
        self._refused.inc()
        yield RefusedRow(self._table, json.dumps(row), describe_errors(errors), time.time_ns() // 1000)


def describe_errors(errors: Any) -> str:
    """BigQuery's own words, at most 1,000 characters of them."""
    if isinstance(errors, list):
        errors = "; ".join(f"{error.get('reason', '')} {error.get('message', '')}".strip() for error in errors)
    return str(errors)[:1000]


def bury_refused_row(refused: RefusedRow) -> DeadLetter:
    """The dead letter of a refused row: its payload is the row, which a replay inserts again."""
    row = json.loads(refused.row)
    return DeadLetter(
        refused.row.encode(),
        f"Write{table_label(refused.table)}",
        Reason.REFUSED_BY_BIGQUERY.value,
        f"{refused.table}: {refused.detail}",
        refused.refused_at,
        row["workspace_id"],
        row.get("connection_id"),
        _call_type(refused.table, row),
        row.get("message_id"),
    )


def count_refused_row(refused: RefusedRow) -> list[tuple[OutcomeKey, int]]:
    """The counts that take a refused call back from `written`; none for a row that is not a call's own."""
    if refused.table not in FACT_TABLES.values():
        return []
    row = json.loads(refused.row)
    about = (refused.refused_at, row["workspace_id"], row.get("connection_id"), _call_type(refused.table, row))
    return [
        (outcome_key(*about, Outcome.WRITTEN), -1),
        (outcome_key(*about, Outcome.REJECTED, Reason.REFUSED_BY_BIGQUERY.value), 1),
    ]


def _call_type(table: str, row: dict[str, Any]) -> str | None:
    types = [call_type for call_type, fact_table in FACT_TABLES.items() if fact_table == table]
    return row.get("type") or (types[0] if len(types) == 1 else None)


class LedgerRefusedError(RuntimeError):
    """BigQuery will not take a row of the books, and there is no other place for it: the bundle fails."""


class FailIfRefused(beam.PTransform):
    """Nothing may be lost silently: a refused row of the books fails the bundle."""

    def expand(self, refused: PCollection) -> PCollection:
        """Apply it to a PCollection of `LetterBlock`."""
        nothing: PCollection = refused | "FailIfAny" >> beam.ParDo(_FailFn())
        return nothing


class _FailFn(beam.DoFn):
    def process(self, block: LetterBlock) -> None:
        what = block.letters[0].detail
        raise LedgerRefusedError(
            f"BigQuery refused a row of {what}. Is the table as scripts/create_tables makes it? Rows of days "
            "that are years ago need --bigquery_method FILE_LOADS."
        )


class _BuryRefusedFn(beam.DoFn):
    def process(self, refused: RefusedRow) -> Iterator[LetterBlock]:
        yield LetterBlock([bury_refused_row(refused)])


class _CountRefusedFn(beam.DoFn):
    def process(self, refused: RefusedRow) -> Iterator[tuple[OutcomeKey, int]]:
        yield from count_refused_row(refused)
