"""Traits as the docs' baseline reads them: flattened, in snake_case, and as the types of their columns."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from benchmarks.check_calls import read_micros
from schemas.tables import load_table

_WORD = re.compile(r"[A-Z0-9]+[a-z0-9]*|[a-z0-9]+")

RESERVED: Mapping[str, Mapping[str, str]] = {
    table: {
        field.name: field.type for field in load_table(table).fields if field.description.startswith("Reserved trait ")
    }
    for table in ("identifies", "group_identifies")
}
"""Table -> the columns of its reserved traits and their types."""


@lru_cache(maxsize=10_000)
def snake_case(name: str) -> str:
    """As Segment's warehouses name events and traits."""
    return "_".join(_WORD.findall(name)).lower() or name


def flatten_traits(traits: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values, those of nested objects behind the names of what holds them."""
    for name, value in traits.items():
        column = prefix + snake_case(name)
        if value and isinstance(value, dict):
            yield from flatten_traits(value, f"{column}_")
        else:
            yield column, value


def trait_columns(table: str, traits: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a call's traits: as JSON, as updates, and the reserved ones each on its own."""
    flat = dict(flatten_traits(traits))
    return {
        "traits": json.dumps(traits),
        "trait_updates": [{"name": name, "value": json.dumps(value)} for name, value in flat.items()],
        **{column: fit_value(flat[column], kind) for column, kind in RESERVED[table].items() if column in flat},
    }


def fit_value(value: object, kind: str) -> object:
    """A value as its column's type takes it, None if it does not fit."""
    if isinstance(value, bool):
        return None
    try:
        if kind == "TIMESTAMP":
            return read_micros(value) if isinstance(value, str) else None
        if kind == "INTEGER" and isinstance(value, str | int | float):
            return None if isinstance(value, float) and not value.is_integer() else int(value)
    except ValueError:
        return None
    return str(value) if isinstance(value, str | int | float) else None
