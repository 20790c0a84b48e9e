"""Rows on their way to a table."""

from typing import Any, TypeAlias

import msgspec

Row: TypeAlias = dict[str, Any]
"""One row: column name to value. A NULL is left out, a time is microseconds since 1970, JSON is text, bytes are bytes."""


class TableRows(msgspec.Struct, array_like=True):
    """Some rows of one table that travel as one element."""

    table: str
    """The name of a file in schemas/tables."""
    rows: list[Row]
