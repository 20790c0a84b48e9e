"""The fields of a call as they stand on the wire: read strictly and fast, or field by field to name what is wrong."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec

from schemas.calls import CallType
from schemas.rejections import Reason, Rejected
from transforms.logic.read_timestamps import parse_moment, to_micros

# https://segment.com/docs/guides/duplicate-data/: a messageId has at most 100 characters.
MAX_MESSAGE_ID_CHARACTERS = 100

# BigQuery's JSON nests 500 deep at most (https://cloud.google.com/bigquery/quotas#json); Python's decoders recurse on
# the stack that Beam already uses, so the bound is lower: what passes here can be decoded anywhere.
MAX_NESTING = 200

# As text: a member of an enum takes three times as long to name and to compare.
PROPERTIES_TYPES = frozenset({CallType.TRACK.value, CallType.PAGE.value, CallType.SCREEN.value})
TRAITS_TYPES = frozenset({CallType.IDENTIFY.value, CallType.GROUP.value})
TYPES = frozenset(call_type.value for call_type in CallType)

EMPTY_OBJECT = msgspec.Raw(b"{}")

# A string that never ends takes all the rest with it: tried again at each of its quotes, 32 KB would cost seconds.
# Nothing is given back: to remember where that might begin takes a hundred times the memory of the string.
_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_TRUNCATED = "Input data was truncated"  # in msgspec's words
_NO_TYPE = "type is missing"
_UNKNOWN_TYPE = f"type is none of {', '.join(sorted(TYPES - {CallType.SUPPRESS}))}"  # that one is not for senders
_HASH = re.compile(r"[0-9a-f]{64}")

_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)] | None


class Wire(msgspec.Struct, rename="camel", gc=False):
    """The fields that are read, as their types demand. What does not fit is looked at again, field by field.

    In the order in which most come: the decoder looks for each from the one before on.
    """

    message_id: _Text = None
    type: str | None = None
    anonymous_id: _Text = None
    user_id: _Text = None
    event: _Text = None
    properties: msgspec.Raw = EMPTY_OBJECT
    traits: msgspec.Raw = EMPTY_OBJECT
    context: msgspec.Raw = EMPTY_OBJECT
    timestamp: datetime | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = None
    original_timestamp: datetime | None = None
    name: _Text = None
    category: _Text = None
    group_id: _Text = None
    previous_id: _Text = None
    identifier_hash: str | None = None
    erasure_id: _Text = None


_WIRE = msgspec.json.Decoder(Wire)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()


def read_wire(payload: bytes) -> tuple[Wire, str, str]:
    """The fields of a valid call, its context and its body (properties or traits) as text, `{}` where there is none.

    By the strict decoder, and what that refuses field by field, to name the reason.
    """
    check_nesting(payload)
    try:
        if not payload.isascii():
            payload.decode()  # the decoder does not look into text that it skips or keeps raw
        wire = _WIRE.decode(payload)
        context, body = _read_objects(wire)
        if context[0] != "{" or body[0] != "{":
            wire = _read_wire_by_field(payload)
            context, body = _read_objects(wire)
    except msgspec.ValidationError:
        wire = _read_wire_by_field(payload)
        context, body = _read_objects(wire)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(Reason.BAD_REQUEST, _describe_bad_json(payload, error)) from None
    _require_fields(wire)
    return wire, context, body


def _read_objects(wire: Wire) -> tuple[str, str]:
    if wire.type in PROPERTIES_TYPES:
        body = wire.properties
    elif wire.type in TRAITS_TYPES:
        body = wire.traits
    else:
        body = EMPTY_OBJECT
    return str(wire.context, "utf-8"), "{}" if body is EMPTY_OBJECT else str(body, "utf-8")


def check_nesting(payload: bytes) -> None:
    """Reject what nests too deep to be decoded anywhere."""
    # Python counts byte by byte; what it replaces it looks for in half of the time.
    brackets = len(payload) - len(payload.replace(b"{", b"").replace(b"[", b""))
    if brackets > MAX_NESTING and _nesting(payload) > MAX_NESTING:
        raise Rejected(Reason.BAD_REQUEST, f"nested more than {MAX_NESTING} deep")


def _read_wire_by_field(payload: bytes) -> Wire:
    try:
        fields = _FIELDS.decode(payload)
    except msgspec.ValidationError:
        raise Rejected(Reason.BAD_REQUEST, "the payload is JSON, but not an object") from None
    except msgspec.DecodeError as error:  # behind the field at which the strict decoder gave up
        raise Rejected(Reason.BAD_REQUEST, _describe_bad_json(payload, error)) from None
    call_type = _value(fields, "type")
    if not isinstance(call_type, str) or call_type not in TYPES:
        raise Rejected(Reason.UNKNOWN_TYPE, _UNKNOWN_TYPE if call_type is not None else _NO_TYPE)
    wire = Wire(
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
    if call_type in PROPERTIES_TYPES:
        wire.properties = _object(fields, "properties", Reason.PROPERTIES_NOT_OBJECT)
    if call_type in TRAITS_TYPES:
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
    elif call_type == CallType.SUPPRESS:
        wire.identifier_hash = _text(fields, "identifierHash", Reason.BAD_REQUEST)
        wire.erasure_id = _text(fields, "erasureId", Reason.BAD_REQUEST)
    return wire


_REQUIRED: Mapping[str, tuple[tuple[str, Reason, str], ...]] = {
    CallType.TRACK.value: (("event", Reason.EVENT_NOT_DEFINED, "a track call needs event"),),
    CallType.GROUP.value: (("group_id", Reason.GROUP_ID_REQUIRED, "a group call needs groupId"),),
    CallType.ALIAS.value: (
        ("user_id", Reason.NO_USER_ANON_ID, "an alias call needs userId"),
        ("previous_id", Reason.PREVIOUS_ID_REQUIRED, "an alias call needs previousId"),
    ),
}
_EDGE_YEARS = frozenset({1, 9999})
_SUPPRESS = CallType.SUPPRESS.value


def _require_fields(wire: Wire) -> None:
    call_type, message_id, timestamp = wire.type, wire.message_id, wire.timestamp
    if call_type not in TYPES:
        raise Rejected(Reason.UNKNOWN_TYPE, _UNKNOWN_TYPE if call_type is not None else _NO_TYPE)
    if call_type == _SUPPRESS:
        if wire.identifier_hash is None or not _HASH.fullmatch(wire.identifier_hash):
            raise Rejected(Reason.BAD_REQUEST, "suppress needs identifierHash: 64 lower-case hexadecimal digits")
    elif wire.user_id is None and wire.anonymous_id is None:
        raise Rejected(Reason.NO_USER_ANON_ID, "neither userId nor anonymousId")
    if message_id is not None and len(message_id) > MAX_MESSAGE_ID_CHARACTERS:
        raise Rejected(
            Reason.MESSAGE_ID_NOT_VALID,
            f"messageId has {len(message_id):,} characters; it may have {MAX_MESSAGE_ID_CHARACTERS}",
        )
    if timestamp is not None and timestamp.year in _EDGE_YEARS and to_micros(timestamp) is None:
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, "timestamp lies outside the years 1 to 9999")
    for field, reason, detail in _REQUIRED.get(call_type, ()):
        if getattr(wire, field) is None:
            raise Rejected(reason, detail)


def _is_object(raw: msgspec.Raw) -> bool:
    return raw is EMPTY_OBJECT or bytes(raw).startswith(b"{")


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
    identifier = read_id(value)
    if identifier is None and value is not None:
        raise Rejected(reason, f"{field} is {describe(value)}")
    return identifier


def read_id(value: object) -> str | None:
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
    raise Rejected(empty if empty and value == "" else reason, f"{field} is {describe(value)}")


def _object(fields: Mapping[str, msgspec.Raw], field: str, reason: Reason) -> msgspec.Raw:
    raw = fields.get(field, EMPTY_OBJECT)
    if _is_object(raw):
        return raw
    value = _value(fields, field)
    if value is None:
        return EMPTY_OBJECT
    raise Rejected(reason, f"{field} is {describe(value)}")


def _moment(fields: Mapping[str, msgspec.Raw], field: str) -> datetime | None:
    """A time that only helps: what cannot be read counts as absent."""
    return parse_moment(_value(fields, field))


def _required_moment(fields: Mapping[str, msgspec.Raw], field: str) -> datetime | None:
    value = _value(fields, field)
    moment = parse_moment(value)
    if value is not None and moment is None:
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, f"{field} is {describe(value)}, and no ISO 8601 time")
    return moment


def describe(value: object, nothing: str = "null") -> str:
    """A value without what it says; None is called `nothing`."""
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
    return names.get(type(value), nothing)


def _describe_bad_json(payload: bytes, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the payload is not UTF-8"
    what = str(error).removeprefix("JSON is malformed: ")
    if what == _TRUNCATED and _is_whole(payload):
        what = "half of a surrogate pair, as of an emoji that was cut"
    return f"the payload is not JSON: {what}"


def _is_whole(payload: bytes) -> bool:
    """Whether a payload that is said to be cut off is not: near its end msgspec says so of half a pair, too."""
    try:
        json.loads(payload.decode(), parse_int=str)  # not int, which refuses thousands of digits
    except ValueError:
        return False
    return True


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
