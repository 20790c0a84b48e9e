"""What a row weighs on its way to BigQuery and there."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas.tables import Field, load_table

# https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#data_type_sizes: NULL takes none, STRING and
# BYTES take two more than their bytes, JSON its text, an array and a struct what is in them.
_FIXED_BYTES = {"TIMESTAMP": 8, "INTEGER": 8, "BOOLEAN": 1}
_LENGTH_BYTES = {"STRING": 2, "BYTES": 2, "JSON": 0}

_JSON = msgspec.json.Encoder()


class RowBytes(msgspec.Struct):
    """Rows of one table, all told."""

    rows: int = 0
    json: int = 0
    """As insertAll takes them: insertId and row, JSON."""
    proto: int = 0
    """As the Storage Write API takes them: a protocol buffer a row."""
    logical: int = 0
    """As BigQuery bills what it stores."""
    billed_inserts: int = 0
    """As streaming inserts are billed: logical, a row at least 1 KiB."""


# https://cloud.google.com/bigquery/pricing, streaming inserts: a row counts as 1 KB at least.
MIN_INSERT_BYTES = 1024


def weigh_row(table: str, row: Mapping[str, Any], insert_id: str) -> RowBytes:
    """One row, as Beam's sink for streaming inserts has it: times as text, bytes as base64."""
    fields = load_table(table).fields
    logical = sum(_logical(field, row[field.name]) for field in fields if field.name in row)
    return RowBytes(
        rows=1,
        json=len(_JSON.encode({"insertId": insert_id, "json": row})),
        proto=_message(fields, row),
        logical=logical,
        billed_inserts=max(logical, MIN_INSERT_BYTES),
    )


def add_weights(total: RowBytes, more: RowBytes) -> None:
    """Add to a total."""
    for name in RowBytes.__struct_fields__:
        setattr(total, name, getattr(total, name) + getattr(more, name))


def _logical(field: Field, value: Any) -> int:
    if isinstance(value, list):
        return sum(_logical_struct(field.fields, each) for each in value)
    fixed = _FIXED_BYTES.get(field.type)
    return fixed if fixed is not None else _LENGTH_BYTES[field.type] + _text_bytes(field, value)


def _logical_struct(fields: Sequence[Field], values: Mapping[str, Any]) -> int:
    return sum(_logical(field, values[field.name]) for field in fields)


def _message(fields: Sequence[Field], values: Mapping[str, Any]) -> int:
    """The size of a message whose fields are numbered as they stand: https://protobuf.dev/programming-guides/encoding."""
    return sum(
        _varint(number << 3) + size
        for number, field in enumerate(fields, start=1)
        for size in _sizes(field, values.get(field.name))
    )


def _sizes(field: Field, value: Any) -> list[int]:
    if value is None:
        return []
    if isinstance(value, list):
        members = [_message(field.fields, each) for each in value]
        return [_varint(member) + member for member in members]
    if field.type == "TIMESTAMP":
        return [8]  # microseconds of this century are a varint of eight bytes
    if field.type in ("INTEGER", "BOOLEAN"):
        return [_varint(int(value))]
    size = _text_bytes(field, value)
    return [_varint(size) + size]


def _text_bytes(field: Field, value: str) -> int:
    size = len(value.encode())
    return size * 3 // 4 - value.count("=") if field.type == "BYTES" else size


def _varint(value: int) -> int:
    return 10 if value < 0 else max(1, -(-value.bit_length() // 7))
