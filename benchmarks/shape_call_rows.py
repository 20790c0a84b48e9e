"""The rows of calls as the docs' baseline writes them: dicts with every column of their tables that is not NULL."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from benchmarks.check_calls import read_micros
from benchmarks.flatten_traits import fit_value, snake_case, trait_columns
from benchmarks.shape_columns import FACT_TABLES

Call: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]

WORKSPACE = "default"
_MICROS_A_DAY = 24 * 3600 * 1_000_000

_CONTEXT = {
    "context_ip": "ip",
    "context_user_agent": "userAgent",
    "context_locale": "locale",
    "context_timezone": "timezone",
}
_CONTEXT_OBJECTS = {
    "page": ("path", "referrer", "search", "title", "url"),
    "campaign": ("name", "source", "medium", "term", "content"),
    "library": ("name", "version"),
    "app": ("name", "version", "build"),
    "device": ("id", "manufacturer", "model", "name", "type"),
    "os": ("name", "version"),
    "traits": ("email",),
}
_CONTEXT_MEMBERS = {
    name: {f"context_{name}_{member}": member for member in members} for name, members in _CONTEXT_OBJECTS.items()
}
"""Object of the context -> column -> the object's member."""


def find_body(call: Call) -> dict[str, Any]:
    """The call's traits or properties."""
    body: dict[str, Any] = call.get("traits") or call.get("properties") or {}
    return body


def find_times(call: Call) -> tuple[int, int, int | None]:
    """When the call happened, when it was received, and the time that was sent if it lay too far ahead."""
    happened, received = read_micros(call["timestamp"]), read_micros(call["receivedAt"])
    if happened > received + _MICROS_A_DAY:
        return received, received, happened
    return happened, received, None


def shape_fact(call: Call) -> Row:
    """The row of a call whose `caller` is known."""
    return _SHAPES[FACT_TABLES[call["type"]]](call)


def shape_membership(call: Call) -> Iterator[Row]:
    """The audience that a call tells of."""
    personas, body = call["context"].get("personas"), find_body(call)
    if not personas or personas.get("computation_class") != "audience":
        return
    key = personas.get("computation_key")
    if isinstance(body.get(key), bool):
        yield {
            **_shape_caller(call),
            "audience_key": key,
            "entered": body[key],
            "computation_id": personas.get("computation_id"),
            "space_id": personas.get("space_id"),
        }


def _shape_caller(call: Call) -> Row:
    happened, received, future = find_times(call)
    return {
        "workspace_id": WORKSPACE,
        "message_id": call["messageId"],
        **call["caller"],
        "user_id": call.get("userId"),
        "anonymous_id": call.get("anonymousId"),
        "timestamp": happened,
        "future_timestamp": future,
        "original_timestamp": _read_time(call.get("originalTimestamp")),
        "sent_at": _read_time(call.get("sentAt")),
        "received_at": received,
    }


def _shape_activity(call: Call) -> Row:
    event = call.get("event")
    return {
        **_shape_caller(call),
        "type": call["type"],
        "event": None if event is None else snake_case(event),
        "event_text": event,
        "name": call.get("name"),
        "category": call.get("category"),
        "group_id": fit_value(call["context"].get("groupId"), "STRING"),
        "properties": json.dumps(find_body(call)),
        **_shape_context(call["context"]),
    }


def _shape_identify(call: Call) -> Row:
    return {
        **_shape_caller(call),
        **trait_columns("identifies", find_body(call)),
        **_shape_context(call["context"]),
    }


def _shape_group(call: Call) -> Row:
    return {
        **_shape_caller(call),
        "group_id": call["groupId"],
        **trait_columns("group_identifies", find_body(call)),
        **_shape_context(call["context"]),
    }


def _shape_alias(call: Call) -> Row:
    return {**_shape_caller(call), "previous_id": call["previousId"], "context": json.dumps(call["context"])}


def _shape_context(context: Mapping[str, Any]) -> Row:
    row = {"context": json.dumps(context)}
    for column, name in _CONTEXT.items():
        if isinstance(value := context.get(name), str):
            row[column] = value
    for name, members in _CONTEXT_MEMBERS.items():
        if inner := context.get(name):
            for column, member in members.items():
                if isinstance(value := inner.get(member), str):
                    row[column] = value
    return row


def _read_time(text: str | None) -> int | None:
    return None if text is None else read_micros(text)


_SHAPES: Mapping[str, Callable[[Call], Row]] = {
    "activities": _shape_activity,
    "identifies": _shape_identify,
    "group_identifies": _shape_group,
    "aliases": _shape_alias,
}
"""Fact table -> how its rows are made."""
