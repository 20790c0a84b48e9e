"""A rejected message that may be shown: its structure stays, what people wrote in it is gone.

Kept are names of fields, true, false, null, and values of a closed list that say how a message was built and nothing of
whom it is about. All else is described: `‹email›`, `‹number›`, `‹text, 14 characters›`.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_LINES = 80
MAX_DEPTH = 12
MAX_MEMBERS = 30
"""Of one object or array."""
MAX_NAME_CHARACTERS = 40

_CALL_TYPES = ("track", "page", "screen", "identify", "group", "alias", "delete", "batch")
_LIBRARIES = ("analytics.js", "analytics-python", "analytics-node", "@segment/analytics-node", "unknown")
_EMAIL_EVENTS = (
    # our own lines, SendGrid, Mailgun: docs/email.md
    *("delivered", "opened", "clicked", "bounced", "reported_as_spam", "unsubscribed", "page_viewed"),
    *("processed", "dropped", "deferred", "bounce", "open", "click", "spamreport", "unsubscribe"),
    *("group_unsubscribe", "group_resubscribe", "accepted", "rejected", "failed", "complained", "stored"),
    # Postmark, Amazon SES, SNS
    *("Delivery", "Open", "Click", "Bounce", "SpamComplaint", "SubscriptionChange", "Send", "Complaint", "Reject"),
    *("Rendering Failure", "DeliveryDelay", "Subscription"),
    *("Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"),
)
HARMLESS: dict[str, frozenset[str]] = {
    "type": frozenset(_CALL_TYPES) | frozenset(_EMAIL_EVENTS),
    "Type": frozenset(_EMAIL_EVENTS),
    "event": frozenset(_EMAIL_EVENTS),
    "eventType": frozenset(_EMAIL_EVENTS),
    "notificationType": frozenset(_EMAIL_EVENTS),
    "RecordType": frozenset(_EMAIL_EVENTS),
    "channel": frozenset(("server", "browser", "mobile", "client")),
    "name": frozenset(_LIBRARIES),
}
"""Name of a field -> the values of it that are shown."""

# Three numbers of one to three digits: neither a date, nor an IP address, nor a telephone number.
_VERSION = re.compile(r"v?\d{1,2}(\.\d{1,3}){1,2}", re.ASCII)
# A name that a program gave to a field. A run of four digits may be a telephone number or an id.
_NAME = re.compile(r"(?!.*\d{4})[\w$][\w$ .:-]*(?<! )")


def mask_payload(payload: bytes) -> str:
    """Any message as a few lines of text, indented as JSON is, at most `MAX_LINES` and one."""
    try:
        value = json.loads(payload.decode(), parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    except (ValueError, RecursionError):
        return f"‹{len(payload):,} bytes that are no JSON›" if payload else "‹no bytes›"
    lines: list[str] = []
    for line in _render(value, "", "", 0):
        if len(lines) == MAX_LINES:
            lines.append("‹and more›")
            break
        lines.append(line)
    return "\n".join(lines)


class _Number:
    """A number, whatever its value."""

    def __init__(self, text: str) -> None:
        pass


def _render(value: Any, name: str, lead: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    is_object = isinstance(value, dict)
    if not is_object and not isinstance(value, list):
        yield f"{indent}{lead}{_describe(value, name)}"
        return
    opening, closing = "{}" if is_object else "[]"
    if not value:
        yield f"{indent}{lead}{opening}{closing}"
    elif depth == MAX_DEPTH:
        yield f"{indent}{lead}{opening} ‹{len(value):,} inside› {closing}"
    else:
        yield f"{indent}{lead}{opening}"
        members = value.items() if is_object else (("", member) for member in value)
        for number, (member_name, member) in enumerate(members):
            if number == MAX_MEMBERS:
                yield f"{indent}  ‹{len(value) - MAX_MEMBERS:,} more›"
                break
            yield from _render(member, member_name, f"{_mask_name(member_name)}: " if is_object else "", depth + 1)
        yield f"{indent}{closing}"


def _mask_name(name: str) -> str:
    if len(name) <= MAX_NAME_CHARACTERS and _NAME.fullmatch(name):
        return f'"{name}"'
    return f"‹name: {_describe_text(name)}›"


def _describe(value: Any, name: str) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, _Number):
        return "‹number›"
    if value in HARMLESS.get(name, ()) or (name == "version" and _VERSION.fullmatch(value)):
        return f'"{value}"'
    return f"‹{_describe_text(value)}›"


def _describe_text(text: str) -> str:
    if not text:
        return "empty text"
    if re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        return "email"
    kind = "digits" if text.isdigit() else "text"
    return f"{kind}, {len(text):,} character{'' if len(text) == 1 else 's'}"
