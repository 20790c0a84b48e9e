"""From a resolved call to its rows: one fact row in one table, and an audience membership where Engage sent one."""

from hashlib import sha256
from operator import attrgetter
from typing import Any

import msgspec

from schemas.calls import CallType, SegmentCall
from schemas.email_outcomes import EmailOutcomeKey
from schemas.outcomes import OutcomeKey
from schemas.rejections import DeadLetter
from schemas.rows import Row, make_row
from transforms.logic.decode_json import decode_object
from transforms.logic.drop_traits import drop_traits
from transforms.logic.read_context import CONTEXT_COLUMNS, read_context
from transforms.logic.shape_traits import shape_traits, trait_columns
from transforms.logic.snake_case import snake_case

# Beam's sink takes rows below 9 MiB, BigQuery's below 10 MB (https://cloud.google.com/bigquery/quotas#streaming_inserts),
# and bytes travel as base64, a third longer. Pub/Sub's messages have up to 10 MB.
MAX_PAYLOAD_BYTES = 5 * 1024 * 1024

FACT_TABLES: dict[str, str] = {
    CallType.TRACK: "activities",
    CallType.PAGE: "activities",
    CallType.SCREEN: "activities",
    CallType.IDENTIFY: "identifies",
    CallType.GROUP: "group_identifies",
    CallType.ALIAS: "aliases",
    CallType.DELETE: "erasure_requests",
    CallType.SUPPRESS: "suppressions",
}
"""The one table in which a call has exactly one row."""

# A row is put together from runs of columns, each read from the call in one go; the runs stand in the tables' order,
# which a test compares with schemas/tables.
_CALL = ("workspace_id", "connection_id", "message_id")
_CALLER = ("person_id", "identifier_type", "identifier", "user_id", "anonymous_id")
_TIMES = ("timestamp", "future_timestamp", "original_timestamp", "sent_at", "received_at")
_read_call = attrgetter(*_CALL)
_read_caller = attrgetter(*_CALLER, *_TIMES)
_read_activity = attrgetter("event", "name", "category", "group_id", *_CALLER, *_TIMES, "body", "context")

FACT_COLUMNS = {
    "activities": (
        *(*_CALL, "type", "event", "event_text", "name", "category", "group_id", *_CALLER, *_TIMES),
        *("properties", "context", *CONTEXT_COLUMNS),
    ),
    "identifies": (
        *(*_CALL, *_CALLER, *_TIMES, "traits", "trait_updates"),
        *(*trait_columns("identifies"), "context", *CONTEXT_COLUMNS),
    ),
    "group_identifies": (
        *(*_CALL, "group_id", *_CALLER, *_TIMES, "traits", "trait_updates"),
        *(*trait_columns("group_identifies"), "context", *CONTEXT_COLUMNS),
    ),
    "aliases": (*_CALL, "previous_id", *_CALLER, *_TIMES, "context"),
    "erasure_requests": (*_CALL, *_CALLER, *_TIMES),
    "suppressions": (*_CALL, "identifier_hash", "erasure_id", "timestamp", "received_at"),
}
"""Fact table -> the columns of the rows that `shape_call` makes, in their order."""


class ShapedCall(msgspec.Struct, frozen=True):
    """The rows of one call; a named tuple takes three times as long to make."""

    table: str
    row: Row
    membership: Row | None
    """A row of `audience_memberships`."""
    misfits: int
    """How many values did not fit the type of their column, which is NULL for them."""


def shape_call(call: SegmentCall) -> ShapedCall:
    """The rows of a call whose caller has been resolved."""
    table, head = FACT_TABLES[call.type], _read_call(call)
    if table == "activities":
        context = read_context(call.context)
        event = None if call.event is None else snake_case(call.event) or call.event
        row = (*head, call.type, event, *_read_activity(call), *context.values)
        return ShapedCall(table, row, _shape_membership(call) if context.has_personas else None, context.misfits)
    caller = _read_caller(call)
    if table == "erasure_requests":
        return ShapedCall(table, head + caller, None, 0)
    if table == "suppressions":
        row = (*head, call.identifier_hash, call.erasure_id, call.timestamp, call.received_at)
        return ShapedCall(table, row, None, 0)
    if table == "aliases":
        return ShapedCall(table, (*head, call.previous_id, *caller, call.context), None, 0)
    context = read_context(call.context)
    traits = shape_traits(decode_object(call.body), trait_columns(table))
    group_id = () if table == "identifies" else (call.group_id,)
    row = (*head, *group_id, *caller, call.body, traits.updates, *traits.values, call.context, *context.values)
    membership = _shape_membership(call) if context.has_personas else None
    return ShapedCall(table, row, membership, context.misfits + traits.misfits)


def shape_call_without_traits(call: SegmentCall) -> ShapedCall:
    """The same without the traits of persons, which come from elsewhere; see `drop_traits`.

    An audience that Engage sends as a trait is a membership all the same.
    """
    membership = _shape_membership(call) if '"personas"' in call.context else None
    return msgspec.structs.replace(shape_call(drop_traits(call)), membership=membership)


def shape_dead_letter(letter: DeadLetter, pipeline_version: str) -> list[Row]:
    """The row of `dead_letters`, or the rows of its parts."""
    payload = letter.payload
    parts = max(1, -(-len(payload) // MAX_PAYLOAD_BYTES))
    values = msgspec.structs.asdict(letter) | {
        "attributes": msgspec.json.encode(letter.attributes, order="sorted").decode(),
        "pipeline_version": pipeline_version,
        "payload_sha256": sha256(payload).hexdigest(),
        "parts": parts,
    }
    return [
        make_row(
            "dead_letters",
            values | {"part": part + 1, "payload": payload[part * MAX_PAYLOAD_BYTES : (part + 1) * MAX_PAYLOAD_BYTES]},
        )
        for part in range(parts)
    ]


def shape_count(key: OutcomeKey | EmailOutcomeKey, count: int, table: str = "counts") -> Row:
    """A row of `counts`, or of `email_counts`."""
    values = key._asdict() | {
        "connection_id": key.connection_id or None,
        "reason": key.reason or None,
        "count": count,
    }
    return make_row(table, values)


def _shape_membership(call: SegmentCall) -> Row | None:
    """A row of `audience_memberships` if Engage sent the call for an audience.

    https://segment.com/docs/engage/using-engage-data/. As a track the key stands in `audience_key`; as an identify it
    is the trait that the computation_key names, else the only one that is true or false.
    """
    personas = decode_object(call.context).get("personas")
    if not isinstance(personas, dict) or personas.get("computation_class") != "audience":
        return None
    if call.type not in (CallType.TRACK, CallType.IDENTIFY):
        return None
    body = decode_object(call.body)
    flags = {name: value for name, value in body.items() if isinstance(value, bool)}
    key = body.get("audience_key") if call.type == CallType.TRACK else personas.get("computation_key")
    if not isinstance(key, str) or key not in flags:
        if len(flags) != 1:
            return None
        key = next(iter(flags))
    values: dict[str, Any] = {column: getattr(call, column) for column in (*_CALL, *_CALLER)}
    values |= {"timestamp": call.timestamp, "received_at": call.received_at}
    values |= {"audience_key": key, "entered": flags[key]}
    for column in ("computation_id", "space_id"):
        if isinstance(personas.get(column), str):
            values[column] = personas[column]
    return make_row("audience_memberships", values)
