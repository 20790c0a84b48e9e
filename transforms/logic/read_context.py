"""The columns that every fact table has of `context`, read in one pass.

https://segment.com/docs/connections/spec/common/#context.
"""

from typing import Any

import msgspec
from msgspec.structs import astuple

from transforms.logic.decode_json import decode_object
from transforms.logic.snake_case import snake_case


class _Page(msgspec.Struct, frozen=True, gc=False):
    path: str | None = None
    referrer: str | None = None
    search: str | None = None
    title: str | None = None
    url: str | None = None


class _Campaign(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    source: str | None = None
    medium: str | None = None
    term: str | None = None
    content: str | None = None


class _Library(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    version: str | None = None


class _App(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    version: str | None = None
    build: str | None = None


class _Device(msgspec.Struct, frozen=True, gc=False):
    id: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    name: str | None = None
    type: str | None = None


class _Os(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    version: str | None = None


class _Traits(msgspec.Struct, frozen=True, gc=False):
    email: str | None = None


class _Context(msgspec.Struct, gc=False):
    """Only what has a column, and Engage's part. Each part that a context lacks is the empty one, shared."""

    library: _Library = _Library()
    userAgent: str | None = None  # noqa: N815 - the wire's own name
    ip: str | None = None
    locale: str | None = None
    timezone: str | None = None
    page: _Page = _Page()
    campaign: _Campaign = _Campaign()
    app: _App = _App()
    device: _Device = _Device()
    os: _Os = _Os()
    traits: _Traits = _Traits()
    personas: msgspec.Raw = msgspec.Raw()


class ContextColumns(msgspec.Struct, frozen=True, gc=False):
    """What a context gives; a named tuple takes three times as long to make."""

    values: tuple[str | None, ...]
    """Those of CONTEXT_COLUMNS."""
    misfits: int
    """How many values are there but are no text."""
    has_personas: bool
    """Whether Engage's part is there."""


_TEXTS = ("ip", "userAgent", "locale", "timezone")
_PARTS: dict[str, type[msgspec.Struct]] = {
    "page": _Page,
    "campaign": _Campaign,
    "library": _Library,
    "app": _App,
    "device": _Device,
    "os": _Os,
    "traits": _Traits,
}
_PATHS = (*_TEXTS, *(f"{name}.{field}" for name, part in _PARTS.items() for field in part.__struct_fields__))

CONTEXT_COLUMNS = tuple(f"context_{snake_case(path)}" for path in _PATHS)
"""The columns, in the order of `read_context`'s values."""

_DECODER = msgspec.json.Decoder(_Context)


def read_context(context: str) -> ContextColumns:
    """The columns of `context`, a JSON object."""
    try:
        read = _DECODER.decode(context)
    except msgspec.ValidationError:
        return _read_by_path(decode_object(context))
    # In the order of _TEXTS and _PARTS: to look 27 paths up one by one takes twice as long.
    values = (
        *(read.ip, read.userAgent, read.locale, read.timezone),
        *astuple(read.page),
        *astuple(read.campaign),
        *astuple(read.library),
        *astuple(read.app),
        *astuple(read.device),
        *astuple(read.os),
        *astuple(read.traits),
    )
    return ContextColumns(values, 0, bool(read.personas))


def _read_by_path(context: dict[str, Any]) -> ContextColumns:
    values: list[str | None] = []
    misfits = 0
    for path in _PATHS:
        value: Any = context
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        misfits += value is not None and not isinstance(value, str)
        values.append(value if isinstance(value, str) else None)
    return ContextColumns(tuple(values), misfits, "personas" in context)
