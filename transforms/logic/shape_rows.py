"""From a resolved call to its rows: one fact row in one table, and an audience membership where Engage sent one."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from schemas.calls import CallType, SegmentCall
from schemas.identities import Identity
from schemas.outcomes import OutcomeKey
from schemas.rejections import DeadLetter
from schemas.rows import Row
from transforms.logic.decode_json import decode_object
from transforms.logic.shape_traits import shape_traits, typed_trait_columns
from transforms.logic.snake_case import snake_case

FACT_TABLES = {
    CallType.TRACK: "activities",
    CallType.PAGE: "activities",
    CallType.SCREEN: "activities",
    CallType.IDENTIFY: "identifies",
    CallType.GROUP: "group_identifies",
    CallType.ALIAS: "aliases",
    CallType.DELETE: "erasure_requests",
}
"""The one table in which a call has exactly one row."""

_CONTEXT_COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("context_ip", ("ip",)),
    ("context_user_agent", ("userAgent",)),
    ("context_locale", ("locale",)),
    ("context_timezone", ("timezone",)),
    ("context_page_path", ("page", "path")),
    ("context_page_referrer", ("page", "referrer")),
    ("context_page_search", ("page", "search")),
    ("context_page_title", ("page", "title")),
    ("context_page_url", ("page", "url")),
    ("context_campaign_name", ("campaign", "name")),
    ("context_campaign_source", ("campaign", "source")),
    ("context_campaign_medium", ("campaign", "medium")),
    ("context_campaign_term", ("campaign", "term")),
    ("context_campaign_content", ("campaign", "content")),
    ("context_library_name", ("library", "name")),
    ("context_library_version", ("library", "version")),
    ("context_app_name", ("app", "name")),
    ("context_app_version", ("app", "version")),
    ("context_app_build", ("app", "build")),
    ("context_device_id", ("device", "id")),
    ("context_device_manufacturer", ("device", "manufacturer")),
    ("context_device_model", ("device", "model")),
    ("context_device_name", ("device", "name")),
    ("context_device_type", ("device", "type")),
    ("context_os_name", ("os", "name")),
    ("context_os_version", ("os", "version")),
    ("context_traits_email", ("traits", "email")),
)
_TRAIT_COLUMNS = {table: typed_trait_columns(table) for table in ("identifies", "group_identifies")}
_CALL_COLUMNS = (
    "workspace_id",
    "connection_id",
    "message_id",
    "timestamp",
    "future_timestamp",
    "original_timestamp",
    "sent_at",
    "received_at",
    "person_id",
    "identifier_type",
    "identifier",
    "user_id",
    "anonymous_id",
)


_MEMBERSHIP_COLUMNS = tuple(column for column in _CALL_COLUMNS if not column.endswith(("_timestamp", "sent_at")))


class ShapedCall(NamedTuple):
    """The rows of one call."""

    table: str
    row: Row
    membership: Row | None
    misfits: int
    """How many values did not fit the type of their column, which is NULL for them."""


def shape_call(call: SegmentCall) -> ShapedCall:
    """The rows of a call whose caller has been resolved."""
    table = FACT_TABLES[CallType(call.type)]
    row: Row = {column: value for column in _CALL_COLUMNS if (value := getattr(call, column)) is not None}
    if call.type == CallType.DELETE:
        return ShapedCall(table, row, None, 0)
    row["context"] = call.context
    if call.type == CallType.ALIAS:
        row["previous_id"] = call.previous_id
        return ShapedCall(table, row, None, 0)
    context = decode_object(call.context)
    misfits = _add_context(row, context)
    membership = None
    if table == "activities":
        row["properties"] = call.body
        _add_activity(row, call)
        if call.type == CallType.TRACK:
            membership = _shape_membership(call, context)
        return ShapedCall(table, row, membership, misfits)
    traits = decode_object(call.body)
    typed, trait_misfits = shape_traits(traits, _TRAIT_COLUMNS[table])
    row |= typed
    row["traits"] = call.body
    if call.type == CallType.GROUP:
        row["group_id"] = call.group_id
    else:
        membership = _shape_membership(call, context)
    return ShapedCall(table, row, membership, misfits + trait_misfits)


def shape_identities(workspace_id: str, version: int, identities: Iterable[Identity]) -> list[Row]:
    """Rows of `identities`."""
    return [
        _without_nulls({"workspace_id": workspace_id, **identity._asdict(), "version": version, "updated_at": version})
        for identity in identities
    ]


def shape_dead_letter(letter: DeadLetter, pipeline_version: str) -> Row:
    """A row of `dead_letters`."""
    return _without_nulls(
        {
            "workspace_id": letter.workspace_id,
            "connection_id": letter.connection_id,
            "rejected_at": letter.rejected_at,
            "step": letter.step,
            "reason": letter.reason,
            "detail": letter.detail,
            "type": letter.type,
            "message_id": letter.message_id,
            "payload": letter.payload,
            "attributes": msgspec.json.encode(letter.attributes, order="sorted").decode(),
            "source": letter.source,
            "pipeline_version": pipeline_version,
        }
    )


def shape_count(key: OutcomeKey, count: int) -> Row:
    """A row of `counts`."""
    return _without_nulls(
        {**key._asdict(), "connection_id": key.connection_id or None, "reason": key.reason or None}
    ) | {"count": count}


def _without_nulls(row: Row) -> Row:
    return {column: value for column, value in row.items() if value is not None}


def _add_activity(row: Row, call: SegmentCall) -> None:
    row["type"] = call.type
    if call.event is not None:
        row["event"] = snake_case(call.event) or call.event
        row["event_text"] = call.event
    for column in ("name", "category", "group_id"):
        value = getattr(call, column)
        if value is not None:
            row[column] = value


def _add_context(row: Row, context: dict[str, Any]) -> int:
    """Set the columns that the context has text for; how many values are there but are no text."""
    misfits = 0
    for column, path in _CONTEXT_COLUMNS:
        value: Any = context
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            row[column] = value
        elif value is not None:
            misfits += 1
    return misfits


def _shape_membership(call: SegmentCall, context: dict[str, Any]) -> Row | None:
    """A row of `audience_memberships` if Engage sent the call for an audience.

    https://segment.com/docs/engage/using-engage-data/. As a track the key stands in `audience_key`; as an identify it is
    the trait that the computation_key names, else the only one that is true or false.
    """
    personas = context.get("personas")
    if not isinstance(personas, dict) or personas.get("computation_class") != "audience":
        return None
    body = decode_object(call.body)
    flags = {name: value for name, value in body.items() if isinstance(value, bool)}
    key = body.get("audience_key") if call.type == CallType.TRACK else personas.get("computation_key")
    if not isinstance(key, str) or key not in flags:
        if len(flags) != 1:
            return None
        key = next(iter(flags))
    row: Row = {column: value for column in _MEMBERSHIP_COLUMNS if (value := getattr(call, column)) is not None}
    row |= {"audience_key": key, "entered": flags[key]}
    for column in ("computation_id", "space_id"):
        if isinstance(personas.get(column), str):
            row[column] = personas[column]
    return row
