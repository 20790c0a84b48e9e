"""The columns that every fact table has of `context`, read in one pass.

https://segment.com/docs/connections/spec/common/#context.
"""

from operator import attrgetter
from typing import Any

import msgspec

from transforms.logic.decode_json import decode_object


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


class _Context(msgspec.Struct):
    """Only what has a column, and Engage's part. Each part that a context lacks is the empty one, shared."""

    ip: str | None = None
    userAgent: str | None = None  # noqa: N815 - the wire's own name
    locale: str | None = None
    timezone: str | None = None
    page: _Page = _Page()
    campaign: _Campaign = _Campaign()
    library: _Library = _Library()
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


_PATHS: dict[str, str] = {
    "context_ip": "ip",
    "context_user_agent": "userAgent",
    "context_locale": "locale",
    "context_timezone": "timezone",
    "context_page_path": "page.path",
    "context_page_referrer": "page.referrer",
    "context_page_search": "page.search",
    "context_page_title": "page.title",
    "context_page_url": "page.url",
    "context_campaign_name": "campaign.name",
    "context_campaign_source": "campaign.source",
    "context_campaign_medium": "campaign.medium",
    "context_campaign_term": "campaign.term",
    "context_campaign_content": "campaign.content",
    "context_library_name": "library.name",
    "context_library_version": "library.version",
    "context_app_name": "app.name",
    "context_app_version": "app.version",
    "context_app_build": "app.build",
    "context_device_id": "device.id",
    "context_device_manufacturer": "device.manufacturer",
    "context_device_model": "device.model",
    "context_device_name": "device.name",
    "context_device_type": "device.type",
    "context_os_name": "os.name",
    "context_os_version": "os.version",
    "context_traits_email": "traits.email",
}
CONTEXT_COLUMNS = tuple(_PATHS)
"""The columns, in the order of `read_context`'s values."""

_DECODER = msgspec.json.Decoder(_Context)
_VALUES = attrgetter(*_PATHS.values())


def read_context(context: str) -> ContextColumns:
    """The columns of `context`, a JSON object."""
    try:
        decoded = _DECODER.decode(context)
    except msgspec.ValidationError:
        return _read_by_path(decode_object(context))
    return ContextColumns(_VALUES(decoded), 0, bool(decoded.personas))


def _read_by_path(context: dict[str, Any]) -> ContextColumns:
    values: list[str | None] = []
    misfits = 0
    for path in _PATHS.values():
        value: Any = context
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        misfits += value is not None and not isinstance(value, str)
        values.append(value if isinstance(value, str) else None)
    return ContextColumns(tuple(values), misfits, "personas" in context)
