"""From a message's bytes to a Segment call, or to the reason why it is none.

https://segment.com/docs/connections/spec/. Total: for any bytes a `SegmentCall` or `Rejected`, and every call that
comes out also survives its coder.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec

from schemas.calls import CallType, SegmentCall
from schemas.messages import Message
from schemas.rejections import Reason, Rejected
from transforms.logic.decode_json import decode_object
from transforms.logic.read_timestamps import (
    MAX_FUTURE_MICROS,
    derive_timestamp,
    parse_moment,
    read_timestamp,
    to_micros,
)

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size: 32 KB a call.
MAX_CALL_BYTES = 32 * 1024

# https://segment.com/docs/guides/duplicate-data/: a messageId has at most 100 characters.
MAX_MESSAGE_ID_CHARACTERS = 100

# BigQuery's JSON nests 500 deep at most (https://cloud.google.com/bigquery/quotas#json); Python's decoders recurse on
# the stack that Beam already uses, so the bound is lower: what passes here can be decoded anywhere.
MAX_NESTING = 200

# How a call got here, not what it says. A client that sends the same call again changes these and nothing else.
TRANSPORT_FIELDS = frozenset({"sentAt", "receivedAt", "writeKey", "_metadata"})

# Namespace of the ids that we give to calls without one. Never change it: the ids would change with it.
_MESSAGE_ID_NAMESPACE = uuid.UUID("6a8f0a0e-5f0c-5d7e-9c39-0f6f3f4d8c11")

# A test for "is meant as an email", not for "can be delivered": the customer's own system decided that.
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")

# A string that never ends takes all the rest with it: tried again at each of its quotes, 32 KB would cost seconds.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)

_PROPERTIES_TYPES = frozenset({CallType.TRACK, CallType.PAGE, CallType.SCREEN})
_TRAITS_TYPES = frozenset({CallType.IDENTIFY, CallType.GROUP})
_TYPES = frozenset(call_type.value for call_type in CallType)

_NO_TYPE = "type is missing"
_UNKNOWN_TYPE = f"type is none of {', '.join(sorted(_TYPES))}"

_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)] | None
_EMPTY = msgspec.Raw(b"{}")


class _Wire(msgspec.Struct, rename="camel", gc=False):
    """The fields that are read, as their types demand. What does not fit is looked at again, field by field."""

    type: str | None = None
    message_id: _Text = None
    user_id: _Text = None
    anonymous_id: _Text = None
    previous_id: _Text = None
    group_id: _Text = None
    event: _Text = None
    name: _Text = None
    category: _Text = None
    timestamp: datetime | None = None
    original_timestamp: datetime | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = None
    properties: msgspec.Raw = _EMPTY
    traits: msgspec.Raw = _EMPTY
    context: msgspec.Raw = _EMPTY


class _Peek(msgspec.Struct, rename="camel", gc=False):
    type: Any = None
    message_id: Any = None


class _EmailTrait(msgspec.Struct, gc=False):
    email: str | None = None


class _ContextIds(msgspec.Struct, gc=False):
    traits: _EmailTrait | None = None
    group_id: str | None = msgspec.field(default=None, name="groupId")


_WIRE = msgspec.json.Decoder(_Wire)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PEEK = msgspec.json.Decoder(_Peek)
_EMAIL_TRAIT = msgspec.json.Decoder(_EmailTrait)
_CONTEXT_IDS = msgspec.json.Decoder(_ContextIds)
_ANY = msgspec.json.Decoder()


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
    wire = _read_wire(payload)
    attributes = message.attributes
    received_at = _first(
        read_timestamp(attributes.get("received_at")), to_micros(wire.received_at), message.published_at, read_at
    )
    original_timestamp = to_micros(wire.original_timestamp)
    sent_at = to_micros(wire.sent_at)
    timestamp = _first(to_micros(wire.timestamp), derive_timestamp(received_at, sent_at, original_timestamp))
    is_future = timestamp > received_at + MAX_FUTURE_MICROS
    context_email, context_group_id = _context_ids(wire.context)
    email = _caller_email(wire, context_email)
    call_type = wire.type or ""
    return SegmentCall(
        workspace_id=attributes.get("workspace_id") or default_workspace_id,
        message_id=wire.message_id or _content_id(payload),
        type=call_type,
        timestamp=received_at if is_future else timestamp,
        received_at=received_at,
        arrived_at=received_at if message.published_at is None else message.published_at,
        connection_id=attributes.get("connection_id") or None,
        user_id=wire.user_id,
        anonymous_id=wire.anonymous_id,
        email=email,
        previous_id=wire.previous_id if call_type == CallType.ALIAS else None,
        group_id=wire.group_id if call_type == CallType.GROUP else context_group_id,
        event=wire.event if call_type == CallType.TRACK else None,
        name=wire.name if call_type in ("page", "screen") else None,
        category=wire.category if call_type in ("page", "screen") else None,
        future_timestamp=timestamp if is_future else None,
        original_timestamp=original_timestamp,
        sent_at=sent_at,
        body=bytes(_body(wire)).decode(),
        context=bytes(wire.context).decode(),
        # The one call that a later step may still reject: identify_without_email.
        payload=payload if call_type == CallType.IDENTIFY and email is None else None,
    )


def peek_call(payload: bytes) -> tuple[str | None, str | None]:
    """The type and the messageId of a message that was rejected, each None where it is not there to read."""
    try:
        peek = _PEEK.decode(payload)
    except (ValueError, RecursionError):  # every error of the decoder is a ValueError but one
        return None, None
    call_type = peek.type if isinstance(peek.type, str) and peek.type in _TYPES else None
    message_id = peek.message_id if isinstance(peek.message_id, str) else None
    return call_type, message_id if message_id and len(message_id) <= MAX_MESSAGE_ID_CHARACTERS else None


def normalise_email(value: object) -> str | None:
    """Lower-cased and trimmed, as identities are compared; None if it is no email."""
    if not isinstance(value, str):
        return None
    email = value.strip().lower()
    return email if _EMAIL.fullmatch(email) else None


def _read_wire(payload: bytes) -> _Wire:
    """The fields of a valid call: by the strict decoder, and what that refuses field by field, to name the reason."""
    if payload.count(b"{") + payload.count(b"[") > MAX_NESTING and _nesting(payload) > MAX_NESTING:
        raise Rejected(Reason.BAD_REQUEST, f"nested more than {MAX_NESTING} deep")
    try:
        if not payload.isascii():
            payload.decode()  # the decoder does not look into text that it skips or keeps raw
        wire = _WIRE.decode(payload)
        if not (_is_object(wire.context) and _is_object(wire.properties) and _is_object(wire.traits)):
            wire = _read_wire_by_field(payload)
    except msgspec.ValidationError:
        wire = _read_wire_by_field(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(Reason.BAD_REQUEST, _describe_bad_json(error)) from None
    _require_fields(wire)
    return wire


def _read_wire_by_field(payload: bytes) -> _Wire:
    try:
        fields = _FIELDS.decode(payload)
    except msgspec.ValidationError:
        raise Rejected(Reason.BAD_REQUEST, "the payload is JSON, but not an object") from None
    except msgspec.DecodeError as error:  # behind the field at which the strict decoder gave up
        raise Rejected(Reason.BAD_REQUEST, _describe_bad_json(error)) from None
    call_type = _value(fields, "type")
    if not isinstance(call_type, str) or call_type not in _TYPES:
        raise Rejected(Reason.UNKNOWN_TYPE, _UNKNOWN_TYPE if call_type is not None else _NO_TYPE)
    wire = _Wire(
        type=call_type,
        message_id=_id(fields, "messageId", Reason.MESSAGE_ID_NOT_VALID),
        user_id=_id(fields, "userId"),
        anonymous_id=_id(fields, "anonymousId"),
        timestamp=_required_moment(fields, "timestamp"),
        original_timestamp=_moment(fields, "originalTimestamp"),
        sent_at=_moment(fields, "sentAt"),
        received_at=_moment(fields, "receivedAt"),
        context=_object(fields, "context", Reason.CONTEXT_NOT_OBJECT),
    )
    if call_type in _PROPERTIES_TYPES:
        wire.properties = _object(fields, "properties", Reason.PROPERTIES_NOT_OBJECT)
    if call_type in _TRAITS_TYPES:
        wire.traits = _object(fields, "traits", Reason.TRAITS_NOT_OBJECT)
    if call_type == CallType.TRACK:
        wire.event = _text(fields, "event", Reason.EVENT_NOT_STRING, empty=Reason.EVENT_NOT_DEFINED)
    elif call_type == CallType.GROUP:
        wire.group_id = _id(fields, "groupId")
    elif call_type == CallType.ALIAS:
        wire.previous_id = _id(fields, "previousId")
    elif call_type in (CallType.PAGE, CallType.SCREEN):
        wire.name = _text(fields, "name", Reason.NAME_NOT_STRING)
        wire.category = _text(fields, "category", Reason.CATEGORY_NOT_STRING)
    return wire


def _require_fields(wire: _Wire) -> None:
    if wire.type not in _TYPES:
        raise Rejected(Reason.UNKNOWN_TYPE, _UNKNOWN_TYPE if wire.type is not None else _NO_TYPE)
    if wire.user_id is None and wire.anonymous_id is None:
        raise Rejected(Reason.NO_USER_ANON_ID, "neither userId nor anonymousId")
    if wire.message_id is not None and len(wire.message_id) > MAX_MESSAGE_ID_CHARACTERS:
        raise Rejected(
            Reason.MESSAGE_ID_NOT_VALID,
            f"messageId has {len(wire.message_id):,} characters; it may have {MAX_MESSAGE_ID_CHARACTERS}",
        )
    if wire.timestamp is not None and to_micros(wire.timestamp) is None:
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, "timestamp lies outside the years 1 to 9999")
    if wire.type == CallType.TRACK and wire.event is None:
        raise Rejected(Reason.EVENT_NOT_DEFINED, "a track call needs event")
    if wire.type == CallType.GROUP and wire.group_id is None:
        raise Rejected(Reason.GROUP_ID_REQUIRED, "a group call needs groupId")
    if wire.type == CallType.ALIAS:
        if wire.user_id is None:
            raise Rejected(Reason.NO_USER_ANON_ID, "an alias call needs userId")
        if wire.previous_id is None:
            raise Rejected(Reason.PREVIOUS_ID_REQUIRED, "an alias call needs previousId")


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _body(wire: _Wire) -> msgspec.Raw:
    if wire.type in _PROPERTIES_TYPES:
        return wire.properties
    return wire.traits if wire.type in _TRAITS_TYPES else _EMPTY


def _caller_email(wire: _Wire, context_email: object) -> str | None:
    """traits.email, context.traits.email, or a userId that is one. A group's traits are not the caller's."""
    traits_email = _decode_leniently(_EMAIL_TRAIT, wire.traits, "email") if wire.type == CallType.IDENTIFY else None
    return normalise_email(traits_email) or normalise_email(context_email) or normalise_email(wire.user_id)


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
            _read_id(values.get("groupId")),
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


def _is_object(raw: msgspec.Raw) -> bool:
    return bytes(raw).startswith(b"{")


def _value(fields: Mapping[str, msgspec.Raw], field: str) -> object:
    """The field's value, None if it is absent."""
    raw = fields.get(field)
    if raw is None:
        return None
    try:
        return _ANY.decode(raw)
    except msgspec.ValidationError:
        raise Rejected(Reason.BAD_REQUEST, f"{field} holds a number out of range") from None


def _id(fields: Mapping[str, msgspec.Raw], field: str, reason: Reason = Reason.ID_NOT_STRING) -> str | None:
    """An id: null means absent, anything but text and numbers is rejected."""
    value = _value(fields, field)
    identifier = _read_id(value)
    if identifier is None and value is not None:
        raise Rejected(reason, f"{field} is {_describe(value)}")
    return identifier


def _read_id(value: object) -> str | None:
    """Text, or a number as text, a whole one without decimals; None for anything else and for empty text."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(fields: Mapping[str, msgspec.Raw], field: str, reason: Reason, empty: Reason | None = None) -> str | None:
    value = _value(fields, field)
    if value is None or (isinstance(value, str) and value):
        return value
    raise Rejected(empty if empty and value == "" else reason, f"{field} is {_describe(value)}")


def _object(fields: Mapping[str, msgspec.Raw], field: str, reason: Reason) -> msgspec.Raw:
    raw = fields.get(field, _EMPTY)
    if _is_object(raw):
        return raw
    value = _value(fields, field)
    if value is None:
        return _EMPTY
    raise Rejected(reason, f"{field} is {_describe(value)}")


def _moment(fields: Mapping[str, msgspec.Raw], field: str) -> datetime | None:
    """A time that only helps: what cannot be read counts as absent."""
    return parse_moment(_value(fields, field))


def _required_moment(fields: Mapping[str, msgspec.Raw], field: str) -> datetime | None:
    value = _value(fields, field)
    moment = parse_moment(value)
    if value is not None and moment is None:
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, f"{field} is {_describe(value)}, and no ISO 8601 time")
    return moment


def _describe(value: object) -> str:
    """A value without what it says."""
    if value == "":
        return "an empty string"
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _describe_bad_json(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the payload is not UTF-8"
    return f"the payload is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _nesting(payload: bytes) -> int:
    """How deep arrays and objects nest in JSON that may be malformed."""
    depth = deepest = 0
    for token in _BRACKETS.findall(payload):
        if token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in b"]}":
            depth -= 1
    return deepest
