"""From a message's bytes to a Segment call, or to the reason why it is none.

https://segment.com/docs/connections/spec/. Total: for any bytes a `SegmentCall` or `Rejected`, and every call that
comes out also survives its coder.
"""

import re
import uuid
from typing import Any

import msgspec

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
    EMPTY_OBJECT,
    MAX_MESSAGE_ID_CHARACTERS,
    PROPERTIES_TYPES,
    TRAITS_TYPES,
    TYPES,
    Wire,
    read_id,
    read_wire,
)

# How a call got here, not what it says. A client that sends the same call again changes these and nothing else.
TRANSPORT_FIELDS = frozenset({"sentAt", "receivedAt", "writeKey", "_metadata"})

# Namespace of the ids that we give to calls without one. Never change it: the ids would change with it.
_MESSAGE_ID_NAMESPACE = uuid.UUID("6a8f0a0e-5f0c-5d7e-9c39-0f6f3f4d8c11")

# A test for "is meant as an email", not for "can be delivered": the customer's own system decided that.
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class _Peek(msgspec.Struct, rename="camel", gc=False):
    type: Any = None
    message_id: Any = None


class _EmailTrait(msgspec.Struct, gc=False):
    email: str | None = None


class _ContextIds(msgspec.Struct, gc=False):
    traits: _EmailTrait | None = None
    group_id: str | None = msgspec.field(default=None, name="groupId")


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
    payload = message.payload
    if len(payload) > max_call_bytes:
        raise Rejected(Reason.TOO_LARGE, f"{len(payload):,} bytes; a call may have {max_call_bytes:,}")
    wire = read_wire(payload)
    attributes = message.attributes
    arrived_at = _first(message.published_at, read_at)
    received_at = _first(read_timestamp(attributes.get("received_at")), to_micros(wire.received_at), arrived_at)
    if received_at > arrived_at + MAX_FUTURE_MICROS:
        received_at = arrived_at  # nothing is received after it has arrived
    original_timestamp = to_micros(wire.original_timestamp)
    sent_at = to_micros(wire.sent_at)
    timestamp = _first(to_micros(wire.timestamp), derive_timestamp(received_at, sent_at, original_timestamp))
    is_future = timestamp > received_at + MAX_FUTURE_MICROS
    context_email, context_group_id = _context_ids(wire.context)
    context_email = normalise_email(context_email)
    email = _caller_email(wire, context_email)
    call_type = wire.type or ""
    is_suppress = call_type == CallType.SUPPRESS
    return SegmentCall(
        workspace_id=attributes.get("workspace_id") or default_workspace_id,
        message_id=wire.message_id or _content_id(payload),
        type=call_type,
        timestamp=received_at if is_future else timestamp,
        received_at=received_at,
        arrived_at=received_at if message.published_at is None else message.published_at,
        connection_id=attributes.get("connection_id") or None,
        # A suppress message says nothing of anybody: what else stands in it is not read.
        user_id=None if is_suppress else wire.user_id,
        anonymous_id=None if is_suppress else wire.anonymous_id,
        email=None if is_suppress else email,
        context_email=None if is_suppress or context_email == email else context_email,
        previous_id=wire.previous_id if call_type == CallType.ALIAS else None,
        group_id=wire.group_id if call_type == CallType.GROUP else None if is_suppress else context_group_id,
        event=wire.event if call_type == CallType.TRACK else None,
        name=wire.name if call_type in ("page", "screen") else None,
        category=wire.category if call_type in ("page", "screen") else None,
        future_timestamp=timestamp if is_future else None,
        original_timestamp=original_timestamp,
        sent_at=sent_at,
        body=bytes(_body(wire)).decode(),
        context="{}" if is_suppress else bytes(wire.context).decode(),
        replay=attributes.get("replay") or "",
        # The one call that a later step may still reject: identify_without_email.
        payload=payload if call_type == CallType.IDENTIFY and email is None else None,
        identifier_hash=wire.identifier_hash if is_suppress else None,
        erasure_id=wire.erasure_id if is_suppress else None,
    )


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
    email = value.strip().lower()
    return email if _EMAIL.fullmatch(email) else None


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _body(wire: Wire) -> msgspec.Raw:
    if wire.type in PROPERTIES_TYPES:
        return wire.properties
    return wire.traits if wire.type in TRAITS_TYPES else EMPTY_OBJECT


def _caller_email(wire: Wire, context_email: str | None) -> str | None:
    """traits.email, context.traits.email, or a userId that is one. A group's traits are not the caller's."""
    traits_email = _decode_leniently(_EMAIL_TRAIT, wire.traits, "email") if wire.type == CallType.IDENTIFY else None
    return normalise_email(traits_email) or context_email or normalise_email(wire.user_id)


def _context_ids(context: msgspec.Raw) -> tuple[object, str | None]:
    """context.traits.email, and context.groupId as an id; either None if it is absent or no such thing."""
    text = bytes(context)
    if b'"traits"' not in text and b'"groupId"' not in text and b"\\" not in text:
        return None, None  # most calls: look once instead of decoding
    try:
        ids = _CONTEXT_IDS.decode(text)
        return ids.traits.email if ids.traits else None, ids.group_id or None
    except msgspec.ValidationError:
        values = decode_object(text.decode())
        traits = values.get("traits")
        return (
            traits.get("email") if isinstance(traits, dict) else None,
            read_id(values.get("groupId")),
        )


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
    return str(uuid.uuid5(_MESSAGE_ID_NAMESPACE, canonical.decode()))
