"""Rows to Parquet files: one folder a table, every file whole."""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.show_files import HIDDEN, ShowFileFn, has_files, make_folder
from schemas.rows import Row, TableRows
from schemas.tables import CALLS_TABLES, arrow_schema, load_table
from transforms.several_outputs import gives_several

# As Python values rows take ten times what they take in the file, and more than a processor's cache holds: these become
# columns of Arrow while they are still in it, which takes a tenth off the whole of shaping and writing.
ROWS_A_BATCH = 256
ROWS_A_GROUP = 10_000

_COMPRESSION = "zstd"
_IDS = frozenset({"message_id", "user_id", "anonymous_id", "person_id", "identifier"})

_MIME_TYPE = "application/vnd.apache.parquet"


class WriteParquet(beam.PTransform):
    """Write rows to `DIR/TABLE/part-ID.parquet`.

    A file is written under a hidden name and shown by a later step, which sees only what was committed: a bundle that
    is tried again shows no rows twice. What a failed bundle leaves is hidden, and no reader of Parquet folders sees it.
    """

    def __init__(self, output_dir: str, window_seconds: int) -> None:
        super().__init__()
        self._output_dir = output_dir
        self._window_seconds = window_seconds

    @gives_several
    def expand(self, rows: Mapping[str, PCollection]) -> PCollection:
        """Apply it to PCollections of `TableRows` by what they are called; gives the paths of the files.

        Several, so that nobody needs to flatten them: a local runner would copy every row for it.
        """
        hidden = [self._write_hidden(name, some) for name, some in rows.items()]
        files: PCollection = (
            hidden
            | "FlattenFiles" >> beam.Flatten()
            | "CommitFiles" >> beam.Reshuffle()
            | "ShowFiles" >> beam.ParDo(ShowFileFn())
        )
        return files

    def _write_hidden(self, name: str, rows: PCollection) -> PCollection:
        if not rows.is_bounded:
            rows = rows | f"Window{name}" >> beam.WindowInto(FixedWindows(self._window_seconds))
        files: PCollection = (
            rows
            | f"WriteHidden{name}" >> beam.ParDo(_WriteHiddenFn(self._output_dir))
            # A window that is over would drop the files of late rows.
            | f"Window{name}Globally" >> beam.WindowInto(GlobalWindows())
        )
        return files


def parquet_options(table: str) -> dict[str, Any]:
    """How a table's columns are written: no dictionary where hardly a value repeats, no bounds of texts.

    Rows lie in no order of their texts, so bounds let no reader skip a row group.
    """
    fields = load_table(table).fields
    return {
        "compression": _COMPRESSION,
        "use_dictionary": [
            each.name for each in fields if each.type in ("STRING", "INTEGER") and each.name not in _IDS
        ],
        "write_statistics": [each.name for each in fields if each.type not in ("JSON", "STRING")],
    }


def parquet_table(table: str, rows: list[Row]) -> pa.Table:
    """Rows as an Arrow table with the table's schema."""
    schema = arrow_schema(load_table(table))
    values = zip(*rows, strict=True) if rows else ((),) * len(schema)
    columns = [_make_column(column, field.type) for field, column in zip(schema, values, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _make_column(values: tuple[Any, ...], arrow_type: pa.DataType) -> pa.Array:
    if any(values) or values.count(None) < len(values):
        return pa.array(values, arrow_type)
    return pa.nulls(len(values), arrow_type)  # as a third of the columns are in most batches; takes a fifth of the time


def write_parquet_file(path: str, table: pa.Table) -> None:
    """One file, on any file system that Beam knows."""
    with FileSystems.create(path, mime_type=_MIME_TYPE) as file:
        pq.write_table(table, file, compression=_COMPRESSION)


def complete_folders(output_dir: str) -> None:
    """Give each of the pipeline's tables that got no rows an empty file, so that every one can be read."""
    for table in CALLS_TABLES:
        folder = FileSystems.join(output_dir, table)
        if not has_parquet_files(folder):
            make_folder(folder)
            write_parquet_file(FileSystems.join(folder, "part-empty.parquet"), parquet_table(table, []))


def has_parquet_files(folder: str) -> bool:
    """Whether a reader of the folder finds any."""
    return has_files(folder, "*.parquet")


class _HiddenFile:
    """A Parquet file that is being written under a hidden name, a row group at a time."""

    def __init__(self, output_dir: str, table: str) -> None:
        folder = FileSystems.join(output_dir, table)
        make_folder(folder)
        self.path = FileSystems.join(folder, f".part-{uuid.uuid4().hex}.parquet{HIDDEN}")
        self._table = table
        self._file = FileSystems.create(self.path, mime_type=_MIME_TYPE)
        self._writer = pq.ParquetWriter(self._file, arrow_schema(load_table(table)), **parquet_options(table))
        self._rows: list[Row] = []
        self._batches: list[pa.Table] = []
        self._waiting = 0

    def add(self, rows: list[Row]) -> None:
        """Write the rows, once they are enough for a group."""
        self._rows += rows
        if len(self._rows) >= ROWS_A_BATCH:
            self._pack()
        if self._waiting >= ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the rest; the file is whole."""
        self._pack()
        self._flush()
        self._writer.close()
        self._file.close()

    def _pack(self) -> None:
        self._batches.append(parquet_table(self._table, self._rows))
        self._waiting += len(self._rows)
        self._rows = []

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._batches))
            self._batches, self._waiting = [], 0


class _WriteHiddenFn(beam.DoFn):
    def __init__(self, output_dir: str) -> None:
        self._output_dir = output_dir

    def start_bundle(self) -> None:
        self._files: dict[tuple[str, Any], _HiddenFile] = {}

    def process(self, rows: TableRows, window: Any = beam.DoFn.WindowParam) -> Iterable[str]:
        key = rows.table, window
        if key not in self._files:
            self._files[key] = _HiddenFile(self._output_dir, rows.table)
        self._files[key].add(rows.rows)
        return ()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for (_, window), file in self._files.items():
            file.close()
            yield WindowedValue(file.path, window.max_timestamp(), (window,))
