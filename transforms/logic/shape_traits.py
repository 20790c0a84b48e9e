"""Traits: from the JSON object that was sent to typed columns and to updates that the views fold.

A trait that is sent as null clears the stored value, one that is not sent keeps it:
https://segment.com/docs/connections/spec/identify/#traits. Nested objects are flattened with `_`, as in Segment's
warehouses, so that `address.city` and `address.country` live on their own.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import msgspec

from schemas.tables import load_table
from transforms.logic.read_timestamps import read_timestamp
from transforms.logic.snake_case import snake_case

# https://cloud.google.com/bigquery/docs/schemas#column_names
MAX_NAME_CHARACTERS = 300

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1

Reader: TypeAlias = Callable[[object], object]
"""From a JSON value to the column's, None if it does not fit."""

# The reserved traits that are objects: https://segment.com/docs/connections/spec/identify/#traits.
_OBJECTS = frozenset({"address", "company"})

_encode = msgspec.json.Encoder().encode


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


_READERS: Mapping[str, Reader] = {"STRING": _read_string, "INTEGER": _read_integer, "TIMESTAMP": read_timestamp}


@cache
def trait_columns(table: str) -> Mapping[str, Reader]:
    """Column -> how its value is read, for the columns of `table` that hold reserved traits, in their order."""
    return {
        field.name: _READERS[field.type]
        for field in load_table(table).fields
        if field.description.startswith("Reserved trait ")
    }


class ShapedTraits(NamedTuple):
    """The traits of one call."""

    updates: list[dict[str, str]]
    """Elements of `trait_updates`."""
    values: tuple[object, ...]
    """The typed columns, in their order."""
    misfits: int
    """How many values did not fit their column."""


def flatten_traits(traits: Mapping[str, Any]) -> dict[str, Any]:
    """Trait name in snake_case -> value, nested objects joined with `_`; arrays stay whole.

    Where two sent names give one (`firstName`, `first_name`), the one sent last wins; a name without any ASCII letter
    or digit keeps its own spelling. Behind names that together no column could have an object stays whole: else they
    could be repeated for each of thousands of leaves, and 28 KB become 22 MB.
    """
    flat: dict[str, Any] = {}
    _flatten(traits, "", flat)
    return flat


def _flatten(traits: Mapping[str, Any], prefix: str, flat: dict[str, Any]) -> None:
    for name, value in traits.items():
        column = prefix + (snake_case(name) or name)
        if isinstance(value, dict) and value and len(column) <= MAX_NAME_CHARACTERS:
            _flatten(value, column + "_", flat)
        else:
            flat[column] = value


def shape_traits(traits: Mapping[str, Any], columns: Mapping[str, Reader]) -> ShapedTraits:
    """The typed columns and `trait_updates`.

    A value that does not fit leaves its column NULL; the JSON and the update keep it.
    """
    flat = flatten_traits(traits)
    for name in [name for name, value in flat.items() if value is None and name in _OBJECTS]:
        # null for the whole of a reserved object clears each of its parts
        flat.update({column: None for column in columns if column.startswith(name + "_") and column not in flat})
    updates, sent = [], {}
    for name, value in flat.items():
        updates.append({"name": name, "value": _encode(value).decode()})
        read = columns.get(name)
        if read is not None and value is not None:
            sent[name] = read(value)
    return ShapedTraits(updates, tuple(map(sent.get, columns)), list(sent.values()).count(None))
