"""The rows of the customer's person table: CSV, JSON lines, Parquet, or a table or view of BigQuery."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipelines.clients import bigquery_client, find_columns
from pipelines.first_line import first_line
from pipelines.read import UnreadableFileError
from pipelines.settings import PERSON_FILES
from schemas.tables import find_project

REQUIRED = ("person_id", "email")
COLUMNS = (*REQUIRED, "workspace_id")

PAGE_ROWS = 10_000
"""How many rows are asked for at once, of Parquet files and of BigQuery."""

_BOM = b"\xef\xbb\xbf"


class PersonRow(NamedTuple):
    """The values of a row as they are; None where there are none."""

    person_id: Any = None
    email: Any = None
    workspace_id: Any = None


class _JsonRow(msgspec.Struct, gc=False):
    person_id: Any = None
    email: Any = None
    workspace_id: Any = None


_JSON_ROW = msgspec.json.Decoder(_JsonRow)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_rows(source: str) -> Iterator[PersonRow]:
    """Every row of a file, or of a table PROJECT.DATASET.TABLE. A JSON line that is no object is a row of nothing.

    Raises `UnreadableFileError` for a file that cannot be read to its end or lacks a column, Google's exceptions for a
    table.
    """
    if not source.endswith(PERSON_FILES):
        yield from _read_table(source)
        return
    try:
        with FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            if source.endswith(".csv"):
                yield from _read_csv(file)
            elif source.endswith(".parquet"):
                yield from _read_parquet(file)
            else:
                yield from _read_json(_unpack(file, source))
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError, pa.ArrowException, _NoColumnError) as error:
        raise UnreadableFileError(f"{source} cannot be read: {first_line(error)}") from error


def find_file_columns(path: str) -> list[str]:
    """The columns of a file; of JSON lines the names in the first line. Raises whatever the file system raises."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        if path.endswith(".csv"):
            with _open_text(file) as text:
                return list(csv.DictReader(text, strict=True).fieldnames or ())
        if path.endswith(".parquet"):
            return list(pq.ParquetFile(file).schema_arrow.names)
        first = next((line for line in _read_lines(_unpack(file, path))), b"{}")
        return list(_OBJECT.decode(first))


def missing_column(columns: list[str]) -> str | None:
    """The first column that must be there and is not."""
    return next((column for column in REQUIRED if column not in columns), None)


class _NoColumnError(Exception):
    pass


def _require_columns(columns: list[str]) -> None:
    missing = missing_column(columns)
    if missing is not None:
        raise _NoColumnError(f"it has no column {missing}")


def _open_text(file: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _read_csv(file: Any) -> Iterator[PersonRow]:
    with _open_text(file) as text:
        rows = csv.DictReader(text, strict=True)
        _require_columns(list(rows.fieldnames or ()))
        for row in rows:
            yield PersonRow(row["person_id"], row["email"], row.get("workspace_id"))


def _read_parquet(file: Any) -> Iterator[PersonRow]:
    parquet = pq.ParquetFile(file)
    names = parquet.schema_arrow.names
    _require_columns(names)
    columns = [column for column in COLUMNS if column in names]
    for batch in parquet.iter_batches(PAGE_ROWS, columns=columns):
        yield from (PersonRow(**row) for row in batch.to_pylist())


def _unpack(file: Any, path: str) -> Any:
    return gzip.open(file) if path.endswith(".gz") else file


def _read_lines(file: Any) -> Iterator[bytes]:
    """The lines that hold anything."""
    for line in file:
        line = line.removeprefix(_BOM)  # a file that was saved by a Windows editor
        if not line.isspace():
            yield line


def _read_json(file: Any) -> Iterator[PersonRow]:
    for line in _read_lines(file):
        try:
            row = _JSON_ROW.decode(line)
        except (ValueError, RecursionError):  # every error of the decoder is a ValueError but one
            yield PersonRow()
        else:
            yield PersonRow(row.person_id, row.email, row.workspace_id)


def _read_table(table: str) -> Iterator[PersonRow]:
    client = bigquery_client(find_project(find_project(table)))
    try:
        there = {name.lower() for name in find_columns(client, table)}
        columns = [column for column in COLUMNS if column in there]
        # A query and not a plain read: it may be a view.
        for row in client.query_and_wait(f"SELECT {', '.join(columns)} FROM `{table}`", page_size=PAGE_ROWS):
            yield PersonRow(**dict(zip(columns, row.values(), strict=True)))
    finally:
        client.close()
