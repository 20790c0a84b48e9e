"""What tests are made of: a test names only what it is about, the rest stands here."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from schemas.calls import MAX_CALL_BYTES, SegmentCall
from schemas.email_calls import EmailCall
from schemas.email_logs import LogLine
from schemas.identities import Link
from schemas.messages import Message
from schemas.outgoing_calls import OutgoingCall
from schemas.rejections import DeadLetter, Rejected
from transforms.logic.make_call import make_calls
from transforms.logic.parse_call import parse_call

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

NOW: Final = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z: when messages are read, unless a test says otherwise."""

ABSENT: Final = object()
"""For a field that is not to be sent at all."""

_SENT: dict[str, dict[str, object]] = {
    "track": {"userId": "u1", "event": "Order Completed", "properties": {"revenue": 9.5}},
    "page": {"userId": "u1", "name": "Home", "properties": {"path": "/"}},
    "screen": {"userId": "u1", "name": "Start", "properties": {}},
    "identify": {"userId": "u1", "traits": {"email": "ann@example.com"}},
    "group": {"userId": "u1", "groupId": "g1", "traits": {"name": "Acme"}},
    "alias": {"userId": "u1", "previousId": "a1"},
    "delete": {"userId": "u1"},
    "suppress": {"identifierHash": "0123456789abcdef" * 4, "erasureId": "e1"},
}


def sent(call_type: str = "track", /, **fields: object) -> dict[str, object]:
    """What a client sends, as it stands on the wire: valid unless `fields` (camelCase) say otherwise."""
    payload = {"type": call_type, "messageId": "m1", **_SENT[call_type], **fields}
    return {name: value for name, value in payload.items() if value is not ABSENT}


def line_of(call_type: str = "track", /, **fields: object) -> bytes:
    """What a client sends, as a line of a file."""
    return json.dumps(sent(call_type, **fields)).encode()


def message(
    payload: Mapping[str, object] | bytes, published_at: int | None = None, attributes: Mapping[str, str] | None = None
) -> Message:
    """A message as it was read; a line of a file unless it has `published_at`."""
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(encoded, attributes or {}, published_at)


def parse(
    payload: Mapping[str, object] | bytes,
    published_at: int | None = None,
    attributes: Mapping[str, str] | None = None,
    read_at: int = NOW,
    max_call_bytes: int = MAX_CALL_BYTES,
) -> SegmentCall:
    """The call that such a message holds; raises `Rejected` if it holds none."""
    return parse_call(message(payload, published_at, attributes), read_at, "default-workspace", max_call_bytes)


def reject(payload: Mapping[str, object] | bytes, **message_fields: Any) -> Rejected:
    """Why there is no call in such a message."""
    try:
        accepted = parse(payload, **message_fields)
    except Rejected as verdict:
        return verdict
    raise AssertionError(f"was accepted: {accepted}")


def call(message_id: str = "m1", call_type: str = "track", *, at: int = NOW, **fields: Any) -> SegmentCall:
    """A call that happened, was received and arrived at once; `fields` are those of `SegmentCall`."""
    times = {"timestamp": at, "received_at": at, "arrived_at": at}
    return SegmentCall(
        **{"workspace_id": "w1", "message_id": message_id, "type": call_type, "user_id": "u1", **times, **fields}
    )


def identify(user_id: str | None = "u1", email: str | None = None, *, at: int = NOW, **traits: object) -> SegmentCall:
    """An identify call with these traits."""
    body = traits if email is None else {"email": email, **traits}
    return call("m1", "identify", at=at, user_id=user_id, email=email, body=json.dumps(body))


def link(
    user_id: str | None = None,
    email: str | None = None,
    anonymous_id: str | None = None,
    previous_id: str | None = None,
    at: int = 0,
    message_id: str = "m1",
) -> Link:
    """What one call says of who is who."""
    return Link(user_id, email, anonymous_id, previous_id, at, message_id)


def dead_letter(payload: bytes, verdict: Rejected, **fields: Any) -> DeadLetter:
    """The dead letter of a message that was rejected when it was parsed."""
    about = {"step": "ParseCalls", "rejected_at": NOW, "workspace_id": "w1", "source": "calls.jsonl"}
    return DeadLetter(payload=payload, reason=verdict.reason.value, detail=verdict.detail, **{**about, **fields})


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row for a golden file: bytes as base64."""
    return {
        column: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for column, value in values.items()
    }


def json_of(call: EmailCall) -> bytes:
    """The call as it is sent."""
    return make_calls([call])[0].lines.removesuffix(b"\n")


def outgoing(payload: bytes, log_id: str = "l1", workspace_id: str = "w1") -> OutgoingCall:
    """A call that is sent, whatever it says."""
    about = LogLine(workspace_id, log_id, "opened", NOW, NOW, "ann@example.com", "p1")
    return OutgoingCall(EmailCall("Email Opened", about, None, NOW), payload)
