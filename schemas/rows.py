"""Rows on their way to a table."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from schemas.tables import load_table

Row: TypeAlias = tuple[Any, ...]
"""The values of a table's columns, in their order: NULL is None, a time is microseconds since 1970, JSON is text."""


class TableRows(msgspec.Struct, array_like=True):
    """Some rows of one table that travel as one element."""

    table: str
    """The name of a file in schemas/tables."""
    rows: list[Row]


def make_row(table: str, values: Mapping[str, Any]) -> Row:
    """A row from the values by column; what is not given is NULL. Raises KeyError for a column that the table lacks."""
    columns = load_table(table).columns
    unknown = values.keys() - set(columns)
    if unknown:
        raise KeyError(f"{table} has no column {sorted(unknown)[0]}")
    return tuple(values.get(column) for column in columns)


def row_values(table: str, row: Row) -> dict[str, Any]:
    """The values by column, without the NULLs."""
    return {column: value for column, value in zip(load_table(table).columns, row, strict=True) if value is not None}
