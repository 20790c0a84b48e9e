"""From a message's bytes to a Segment call, or to the reason why it is none.

https://segment.com/docs/connections/spec/. Total: for any bytes a `SegmentCall` or `Rejected`, and every call that
comes out also survives its coder.
"""

from typing import Any

import msgspec
from uuid_utils import UUID, uuid5

from schemas.calls import MAX_CALL_BYTES, CallType, SegmentCall
from schemas.messages import Message
from schemas.rejections import Reason, Rejected
from transforms.logic.decode_json import decode_object
from transforms.logic.read_timestamps import (
    MAX_FUTURE_MICROS,
    derive_timestamp,
    read_timestamp,
    to_micros,
)
from transforms.logic.read_wire import (
    MAX_MESSAGE_ID_CHARACTERS,
    PROPERTIES_TYPES,
    TYPES,
    Wire,
    read_id,
    read_wire,
)

# How a call got here, not what it says. A client that sends the same call again changes these and nothing else.
TRANSPORT_FIELDS = frozenset({"sentAt", "receivedAt", "writeKey", "_metadata"})

# Namespace of the ids that we give to calls without one. Never change it: the ids would change with it.
_MESSAGE_ID_NAMESPACE = UUID("6a8f0a0e-5f0c-5d7e-9c39-0f6f3f4d8c11")


class _Peek(msgspec.Struct, rename="camel", gc=False):
    type: Any = None
    message_id: Any = None


class _EmailTrait(msgspec.Struct, gc=False):
    email: str | None = None


class _ContextIds(msgspec.Struct, gc=False):
    traits: _EmailTrait | None = None
    group_id: str | None = msgspec.field(default=None, name="groupId")


# As text: a member of an enum takes three times as long to name and to compare.
_TRACK, _IDENTIFY, _GROUP = CallType.TRACK.value, CallType.IDENTIFY.value, CallType.GROUP.value
_ALIAS, _SUPPRESS = CallType.ALIAS.value, CallType.SUPPRESS.value

_PEEK = msgspec.json.Decoder(_Peek)
_EMAIL_TRAIT = msgspec.json.Decoder(_EmailTrait)
_CONTEXT_IDS = msgspec.json.Decoder(_ContextIds)


def parse_call(
    message: Message, read_at: int, default_workspace_id: str, max_call_bytes: int = MAX_CALL_BYTES
) -> SegmentCall:
    """Read one message.

    `read_at` (microseconds since 1970) is the arrival of a line that says nothing about it itself.

    Raises `Rejected` if the payload can never become a call, however often retried.
    """
    payload, attributes, published_at = message.payload, message.attributes, message.published_at
    if len(payload) > max_call_bytes:
        raise Rejected(Reason.TOO_LARGE, f"{len(payload):,} bytes; a call may have {max_call_bytes:,}")
    wire, context, body = read_wire(payload)
    call_type = wire.type or ""
    if call_type == _SUPPRESS:  # it says nothing of anybody: what else stands in it is not read
        wire.user_id = wire.anonymous_id = None
        context = body = "{}"
    arrived_at = read_at if published_at is None else published_at
    received_at = _received_at(wire, attributes.get("received_at"), arrived_at)
    original_timestamp, sent_at = to_micros(wire.original_timestamp), to_micros(wire.sent_at)
    timestamp, future_timestamp = to_micros(wire.timestamp), None
    if timestamp is None:
        timestamp = derive_timestamp(received_at, sent_at, original_timestamp)
    if timestamp > received_at + MAX_FUTURE_MICROS:
        timestamp, future_timestamp = received_at, timestamp
    event = name = category = previous_id = rejectable = None
    sent_email, group_id = _context_ids(context)
    context_email = None if sent_email is None else normalise_email(sent_email)
    email = context_email
    if email is None and wire.user_id is not None:
        email = normalise_email(wire.user_id)
    if call_type == _TRACK:
        event = wire.event
    elif call_type in PROPERTIES_TYPES:
        name, category = wire.name, wire.category
    elif call_type == _IDENTIFY:
        email = normalise_email(_decode_leniently(_EMAIL_TRAIT, wire.traits, "email")) or email
        if email is None:
            rejectable = payload  # the one call that a later step may still reject: identify_without_email
    elif call_type == _GROUP:  # an email among its traits is the group's, not the caller's
        group_id = wire.group_id
    elif call_type == _ALIAS:
        previous_id = wire.previous_id
    # By position: of thirty fields names take ten times as long to look up, and attributes twice as long to set.
    call = SegmentCall(
        attributes.get("workspace_id") or default_workspace_id,
        wire.message_id or _content_id(payload),
        call_type,
        timestamp,
        received_at,
        received_at if published_at is None else published_at,
        attributes.get("connection_id") or None,
        wire.user_id,
        wire.anonymous_id,
        email,
        context_email if context_email != email else None,
        previous_id,
        attributes.get("replay") or "",
        0,
        group_id,
        event,
        name,
        category,
        future_timestamp,
        original_timestamp,
        sent_at,
        body,
        context,
        rejectable,
    )
    if call_type == _SUPPRESS:
        call.identifier_hash, call.erasure_id = wire.identifier_hash, wire.erasure_id
    return call


def _received_at(wire: Wire, attribute: str | None, arrived_at: int) -> int:
    received_at = None if attribute is None else read_timestamp(attribute)
    if received_at is None:
        received_at = to_micros(wire.received_at)
    if received_at is None or received_at > arrived_at + MAX_FUTURE_MICROS:
        return arrived_at  # nothing is received after it has arrived
    return received_at


def peek_call(payload: bytes) -> tuple[str | None, str | None]:
    """The type and the messageId of a message that was rejected, each None where it is not there to read."""
    try:
        peek = _PEEK.decode(payload)
    except (ValueError, RecursionError):  # every error of the decoder is a ValueError but one
        return None, None
    call_type = peek.type if isinstance(peek.type, str) and peek.type in TYPES else None
    message_id = peek.message_id if isinstance(peek.message_id, str) else None
    return call_type, message_id if message_id and len(message_id) <= MAX_MESSAGE_ID_CHARACTERS else None


def normalise_email(value: object) -> str | None:
    """Lower-cased and trimmed, as identities are compared; None if it is no email."""
    if not isinstance(value, str):
        return None
    words = value.lower().split(None, 1)  # a keyword takes half as long again
    if len(words) != 1:
        return None
    # A test for "is meant as an email", not for "can be delivered": the customer's own system decided that.
    local, _, domain = words[0].partition("@")
    return words[0] if local and domain and "@" not in domain else None


def _context_ids(context: str) -> tuple[object, str | None]:
    """context.traits.email, and context.groupId as an id; either None if it is absent or no such thing."""
    try:
        ids = _CONTEXT_IDS.decode(context)
        return ids.traits.email if ids.traits else None, ids.group_id or None
    except msgspec.ValidationError:
        values = decode_object(context)
        traits = values.get("traits")
        return traits.get("email") if isinstance(traits, dict) else None, read_id(values.get("groupId"))


def _decode_leniently(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw, name: str) -> object:
    try:
        return getattr(decoder.decode(raw), name)
    except msgspec.ValidationError:
        return None


def _content_id(payload: bytes) -> str:
    """The messageId of a call that came without: a UUIDv5 of its content, so that a redelivery gets the same.

    Where originalTimestamp is there, `timestamp` was derived from the transport's clocks and says nothing new.
    """
    content = decode_object(payload.decode())
    for field in TRANSPORT_FIELDS:
        content.pop(field, None)
    if content.get("originalTimestamp") is not None:
        content.pop("timestamp", None)
    canonical = msgspec.json.encode(content, order="deterministic")
    return str(uuid5(_MESSAGE_ID_NAMESPACE, canonical.decode()))
