"""Segment's own library takes the calls that we make of email logs, and would send them as they are."""

import json
from datetime import datetime
from typing import Any

import pytest
from segment.analytics.client import Client
from segment.analytics.request import DatetimeSerializer

from schemas.email_calls import EmailCallKind
from schemas.email_histories import KnownUser, PersonBlock
from schemas.email_logs import EmailEvent, LogLine
from tests.factories import NOW, SECOND, json_of
from transforms.logic.mark_first_events import PersonHistories

# What the library adds of its own, and where it sends which call.
ADDED_TO_CALLS = ("integrations", "writeKey")
ADDED_TO_CONTEXT = ("library",)
FIELDS = {"track": ("event", "properties"), "page": ("properties",), "identify": ("traits",), "group": ("traits",)}


def line(number: int, event: EmailEvent, **fields: Any) -> LogLine:
    about: dict[str, Any] = {
        "email_id": "e1",
        "campaign_id": "c1",
        "campaign_run_id": "r1",
        "campaign_name": "Spring 🌱",
    }
    at = NOW + number * SECOND
    return LogLine("w1", f"log:{number}", event.value, at, at, "ann@example.com", "p1", **about, **fields)


def made_calls() -> list[dict[str, Any]]:
    """Calls of every kind, with and without a userId."""
    lines = [line(number, event, ip="203.0.113.7") for number, event in enumerate(EmailEvent)]
    lines.append(line(10, EmailEvent.CLICKED, email_link_url="https://acme.example/?a=ü", user_agent="Mozilla/5.0 x"))
    lines.append(line(20, EmailEvent.OPENED, is_machine=True, user_agent="Mozilla/5.0"))
    lines.append(line(30, EmailEvent.PAGE_VIEWED, email_link_url="https://acme.example/land?x=1", account_id="a1"))
    user = KnownUser("w1", "p1", "u1", 1, NOW + 15 * SECOND)
    calls = PersonHistories(implied_open_on_click=False).advance(PersonBlock(lines, [user]))
    assert {call.kind for call in calls} == set(EmailCallKind)
    return [json.loads(json_of(call)) for call in calls]


@pytest.mark.parametrize(
    "call", made_calls(), ids=lambda call: f"{call.get('event', call['type'])} {call['timestamp']}"
)
def test_segments_library_sends_the_same_call(call: dict[str, Any]) -> None:
    library = Client("a write key", send=False)
    arguments = {name: call[name] for name in FIELDS[call["type"]]}
    if call["type"] == "group":
        arguments["group_id"] = call["groupId"]

    is_taken, sent = getattr(library, call["type"])(
        user_id=call.get("userId"),
        anonymous_id=call.get("anonymousId"),
        context=dict(call.get("context", {})),
        timestamp=datetime.fromisoformat(call["timestamp"]),
        message_id=call["messageId"],
        **arguments,
    )

    assert is_taken
    sent = json.loads(json.dumps(sent, cls=DatetimeSerializer))
    for name in ADDED_TO_CALLS:
        sent.pop(name, None)
    for name in ADDED_TO_CONTEXT:
        sent["context"].pop(name)
    sent["timestamp"] = call["timestamp"]  # the same moment, written with an offset instead of Z
    assert {name: value for name, value in sent.items() if value is not None} == {"context": {}, **call}
