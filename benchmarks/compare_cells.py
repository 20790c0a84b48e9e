"""Every cell that two engines have both written: rows are found by their keys, and compared column by column.

One column is in memory at a time, as Arrow has it; Python looks only at JSON whose text differs.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from schemas.tables import load_table

_MESSAGE = ("workspace_id", "message_id")
KEYS: Mapping[str, tuple[str, ...]] = {
    "activities": _MESSAGE,
    "identifies": _MESSAGE,
    "group_identifies": _MESSAGE,
    "aliases": _MESSAGE,
    "audience_memberships": _MESSAGE,
    "identities": ("workspace_id", "identifier_type", "identifier"),
    "identity_merges": ("workspace_id", "from_person_id", "message_id"),
    "dead_letters": ("payload",),
    "counts": ("window_start", "workspace_id", "connection_id", "type", "outcome", "reason"),
}
"""Table that is compared -> what tells its rows apart."""

OWN: Mapping[str, tuple[str, ...]] = {"dead_letters": ("rejected_at", "detail", "pipeline_version")}
"""Table -> the columns that are each run's own: when it ran, its words, its version; see `_sum_counts` for another."""

_EXAMPLES = 3
_CHARACTERS = 100
_ROWS_AT_ONCE = 20_000

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


def compare_cells(name: str, output: Path, reference_name: str, reference: Path) -> list[str]:
    """One line for each table and column in which an engine differs from the reference, with examples.

    What an engine does not write, a column or all of `identity_merges`, is not compared.
    """
    differences = []
    for table in KEYS:
        if table != "identity_merges" or (output / table).exists():
            told = compare_table(table, output, reference)
            differences += [f"{name} and {reference_name}, {difference}" for difference in told]
    return differences


def compare_table(table: str, output: Path, reference: Path) -> Iterator[str]:
    """The lines of one table."""
    found, expected = _open(output, table), _open(reference, table)
    columns = [column for column in found.schema.names if column not in OWN.get(table, ())]
    for column in sorted(set(columns) - set(expected.schema.names)):
        columns.remove(column)
        yield f"{table}.{column}: there is no such column"
    keys = [key for key in KEYS[table] if key in columns]
    if table == "counts":
        found, expected = _sum_counts(found, keys), _sum_counts(expected, keys)
    found_keys, expected_keys = _read_keys(found, keys), _read_keys(expected, keys)
    found_order, expected_order = pc.sort_indices(found_keys), pc.sort_indices(expected_keys)
    found_keys, expected_keys = found_keys.take(found_order), expected_keys.take(expected_order)
    if not found_keys.equals(expected_keys):
        yield _tell_rows(table, found_keys, expected_keys)
        return
    for column in columns:
        left = _read_column(found, column).take(found_order)
        right = _read_column(expected, column).take(expected_order)
        if left.type != right.type:
            yield f"{table}.{column}: {left.type}, not {right.type}"
            continue
        is_json = _is_json(table, column)
        differing = _find_differing(left, right, is_json)
        if differing:
            examples = [
                f"{_shorten(found_keys[row])}: {_tell_pair(left[row].as_py(), right[row].as_py(), is_json)}"
                for row in differing[:_EXAMPLES]
            ]
            yield f"{table}.{column}: {len(differing):,} differ, as {', '.join(examples)}"


def _find_differing(found: Any, expected: Any, is_json: bool) -> list[int]:
    """The rows with other values."""
    if pa.types.is_nested(found.type):
        rows = pa.array(range(len(found)), pa.int64())
    else:
        both_null = pc.and_(pc.is_null(found), pc.is_null(expected))
        rows = pc.indices_nonzero(pc.invert(pc.or_(both_null, pc.fill_null(pc.equal(found, expected), False))))
    if not is_json:
        return list(rows.to_pylist())
    differing: list[int] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows.slice(start, _ROWS_AT_ONCE)
        pairs = zip(some.to_pylist(), found.take(some).to_pylist(), expected.take(some).to_pylist(), strict=True)
        differing += [row for row, one, other in pairs if one != other and _settle(one) != _settle(other)]
    return differing


def _settle(value: Any) -> Any:
    """What JSON text means, in a record as well; 1, 1.0 and true are three things, as they are not in Python."""
    if isinstance(value, str):
        try:
            return _encode(_decode(value)).decode()
        except msgspec.DecodeError:
            return value
    if isinstance(value, list):
        return [{**update, "value": _settle(update["value"])} for update in value]
    return value


def _sum_counts(counts: Any, keys: Sequence[str]) -> Any:
    """Rows of counts are added up by who reads them. A rejection's minute is that of the run."""
    table = counts.to_table()
    if "window_start" in keys:
        is_rejected = pc.equal(table["outcome"], "rejected")
        minutes = pc.if_else(is_rejected, pa.scalar(None, table["window_start"].type), table["window_start"])
        table = table.set_column(table.schema.get_field_index("window_start"), "window_start", minutes)
    summed = table.group_by(list(keys)).aggregate([("count", "sum")])
    return ds.dataset(summed.rename_columns({"count_sum": "count"}))


def _tell_rows(table: str, found: Any, expected: Any) -> str:
    missing = expected.filter(pc.invert(pc.is_in(expected, found)))
    surplus = found.filter(pc.invert(pc.is_in(found, expected)))
    examples = [f"{_shorten(key)} is missing" for key in missing[:_EXAMPLES]]
    examples += [f"{_shorten(key)} is too many" for key in surplus[: _EXAMPLES - len(examples)]]
    told = f"{table}: {len(found):,} rows, not {len(expected):,}: {len(missing):,} missing, {len(surplus):,} too many"
    return f"{told}, as {', '.join(examples) or 'a row that is there twice'}"


def _open(output: Path, table: str) -> Any:
    return ds.dataset(output / table, format="parquet")


def _read_keys(rows: Any, keys: Sequence[str]) -> Any:
    columns = [_read_column(rows, key) for key in keys]
    if len(columns) == 1:
        return columns[0]
    texts = [column.cast(pa.large_string()) for column in columns]
    separator = pa.scalar("/", pa.large_string())
    return pc.binary_join_element_wise(*texts, separator, null_handling="replace", null_replacement="NULL")


def _read_column(rows: Any, column: str) -> Any:
    """One array; of text one that can hold more than 2 GB."""
    values = rows.to_table(columns=[column])[column]
    large = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}.get(values.type)
    return (values if large is None else values.cast(large)).combine_chunks()


def _is_json(table: str, column: str) -> bool:
    """Whether it holds JSON text, or records of it."""
    return any(field.name == column and field.type in ("JSON", "RECORD") for field in load_table(table).fields)


def _tell_pair(found: Any, expected: Any, is_json: bool) -> str:
    one, other = (str(_settle(value)) if is_json else str(value) for value in (found, expected))
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    start = max(0, same - _CHARACTERS // 2)
    return f"{_shorten(one, start)}, not {_shorten(other, start)}"


def _shorten(value: Any, start: int = 0) -> str:
    text = str(value)
    end = start + _CHARACTERS
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"
