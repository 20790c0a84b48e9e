"""Calls as both baselines write them, from events whose firsts each has found in its own way.

Nothing of it is the pipeline's: names, ids and properties are written down again, so the comparison checks them, too.
"""

import json
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any, TypeAlias
from uuid import UUID

from benchmarks.read_email_events import WORKSPACE, Event, is_machine

Call: TypeAlias = dict[str, Any]

CALL_NAMESPACE = UUID("b1f6c8e2-5d1f-5c7f-a3c5-f0a4d2c96e37")

REPORTED_AS = {
    "delivered": "Email Delivered",
    "open": "Email Opened",
    "click": "Link Clicked",
    "bounce": "Email Bounced",
    "spamreport": "Email Reported as Spam",
    "unsubscribe": "Email Unsubscribed",
}
UNIQUE_OPEN = "Email Unique Opens"
UNIQUE_CLICK = "Unique Link Click"
REWARD = "Unique Link Click per Unique Open"

_HAPPENED = {
    "delivered": "delivered",
    "open": "opened",
    "click": "clicked",
    "bounce": "bounced",
    "spamreport": "reported_as_spam",
    "unsubscribe": "unsubscribed",
}
_join = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def shape_report(event: Event, person_id: str, *, is_first: bool = False) -> Call:
    """What a line of the log says."""
    name = REPORTED_AS[event.event]
    message_id = name_call(name, f"sendgrid:{event.sg_event_id}", event.email)
    is_open = event.event == "open"
    call = _shape_track(
        name, message_id, event, person_id, event.timestamp, is_first and is_open, is_first and not is_open
    )
    if is_machine(event):
        call.setdefault("context", {})["machine_open" if is_open else "bot_click"] = True
    return call


def shape_first(name: str, event: Event, person_id: str, at: int) -> Call:
    """The first open, the first click of a link, or the first of both."""
    ids: tuple[str | None, ...] = (person_id, event.campaign_run_id, event.find_email_id())
    if name == UNIQUE_CLICK:
        ids = (*ids, event.url)
    message_id = name_call(name, *ids)
    return _shape_track(name, message_id, event, person_id, at, name != UNIQUE_CLICK, name != UNIQUE_OPEN)


def shape_identify(user_id: str, person_id: str, email: str, at: int) -> Call:
    """Who the person is to the customer."""
    return {
        "type": "identify",
        "messageId": name_call("identify", person_id, user_id),
        "timestamp": _format(at),
        "userId": user_id,
        "anonymousId": person_id,
        "traits": {"email": email},
    }


def name_call(*name: str | None) -> str:
    """A UUIDv5, made of the kind and of what there is only one of."""
    kind, *ids = name
    # uuid.uuid5 takes twice as long
    digest = sha1(CALL_NAMESPACE.bytes + _join((kind, WORKSPACE, *ids)).encode(), usedforsecurity=False).digest()
    return str(UUID(bytes=digest[:16], version=5))


def _shape_track(
    name: str, message_id: str, event: Event, person_id: str, at: int, is_unique_open: bool, is_unique_click: bool
) -> Call:
    call: Call = {
        "type": "track",
        "messageId": message_id,
        "timestamp": _format(at),
        "event": name,
        "properties": {
            "event": _HAPPENED[event.event],
            "userId": event.email,
            "email_id": event.find_email_id(),
            "campaign_id": event.campaign_id or event.singlesend_id,
            "campaign_run_id": event.campaign_run_id,
            "campaign_name": event.singlesend_name,
            "email_subject": None,
            "email_link_url": event.url,
            "is_unique_open": is_unique_open,
            "is_unique_click": is_unique_click,
        },
    }
    context: dict[str, Any] = {}
    if event.ip is not None:
        context["ip"] = event.ip
    if event.useragent is not None:
        context["userAgent"] = event.useragent
    if event.user_id is not None:
        call["userId"] = event.user_id
    else:
        call["anonymousId"] = person_id
        context["traits"] = {"email": event.email}
    if context:
        call["context"] = context
    return call


def _format(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
