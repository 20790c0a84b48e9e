"""Traits: from the JSON object that was sent to typed columns and to updates that the views fold.

A trait that is sent as null clears the stored value, one that is not sent keeps it:
https://segment.com/docs/connections/spec/identify/#traits. Nested objects are flattened with `_`, as in Segment's
warehouses, so that `address.city` and `address.country` live on their own.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from schemas.rows import Row
from schemas.tables import load_table
from transforms.logic.read_timestamps import read_timestamp
from transforms.logic.snake_case import snake_case

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1

_Reader: TypeAlias = Callable[[object], object]

_JSON = msgspec.json.Encoder()


def _read_string(value: object) -> str | None:
    """Text, or an id sent as a number."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _read_integer(value: object) -> int | None:
    """A whole number, also one sent as text or as 3.0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        value = int(value)
    return value if isinstance(value, int) and MIN_INT64 <= value <= MAX_INT64 else None


_READERS: Mapping[str, _Reader] = {"STRING": _read_string, "INTEGER": _read_integer, "TIMESTAMP": read_timestamp}


def typed_trait_columns(table: str) -> dict[str, _Reader]:
    """Column -> how its value is read, for the columns of `table` that hold reserved traits."""
    return {
        field.name: _READERS[field.type]
        for field in load_table(table).fields
        if field.description.startswith("Reserved trait ")
    }


def flatten_traits(traits: Mapping[str, Any]) -> dict[str, Any]:
    """Trait name in snake_case -> value, nested objects joined with `_`; arrays stay whole.

    Where two sent names give one (`firstName`, `first_name`), the one sent last wins; a name without any ASCII letter or
    digit keeps its own spelling.
    """
    flat: dict[str, Any] = {}
    for name, value in traits.items():
        column = snake_case(name) or name
        if isinstance(value, dict) and value:
            for inner, inner_value in flatten_traits(value).items():
                flat[f"{column}_{inner}"] = inner_value
        else:
            flat[column] = value
    return flat


def shape_traits(traits: Mapping[str, Any], columns: Mapping[str, _Reader]) -> tuple[Row, int]:
    """The typed columns and `trait_updates`, and how many values did not fit their column.

    A value that does not fit leaves its column NULL; the JSON and the update keep it.
    """
    flat = flatten_traits(traits)
    for name in [name for name, value in flat.items() if value is None]:
        # null for the whole of a reserved object clears each of its parts
        flat.update({column: None for column in columns if column.startswith(name + "_") and column not in flat})
    row: Row = {
        "trait_updates": [{"name": name, "value": _JSON.encode(value).decode()} for name, value in flat.items()]
    }
    misfits = 0
    for name, value in flat.items():
        read = columns.get(name)
        if read is None or value is None:
            continue
        typed = read(value)
        if typed is None:
            misfits += 1
        else:
            row[name] = typed
    return row, misfits
