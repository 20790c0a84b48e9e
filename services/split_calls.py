"""What an SDK or the HTTP API sends to messages, one a call, as Segment's own API would pass them on.

Only what makes a request unreadable as a whole is refused here. A bad call among good ones goes on as it is: the
pipeline rejects it with a reason, keeps it, and the Connections page shows it; Segment itself answers 200 to most.
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import uuid4

import msgspec

from schemas.calls import CallType
from services.answers import RefusedError
from services.limits import MAX_BATCH_CALLS, MAX_SHARED_BYTES, MAX_WEBHOOK_CALLS

_Object = dict[str, msgspec.Raw]


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw] | None = None
    sentAt: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815 - Segment's name
    context: _Object | None = None
    integrations: _Object | None = None


class _Keyed(msgspec.Struct):
    writeKey: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815


class _Typed(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw(b"null")


class _Call(msgspec.Struct):
    """Any object: enough to count them."""


_decode_object = msgspec.json.Decoder(_Object).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_keyed = msgspec.json.Decoder(_Keyed).decode
_decode_typed = msgspec.json.Decoder(_Typed).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_time = msgspec.json.Decoder(datetime).decode
_decode_counted = msgspec.json.Decoder(list[_Call] | _Call).decode
_decode_calls = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

_NULL = msgspec.Raw(b"null")
# What takes people's data away. A key that stands in a page, or in an app, must not be enough for that.
_ERASING = frozenset({CallType.DELETE.value, CallType.SUPPRESS.value})
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Half an emoji, as JavaScript's substring leaves it: a surrogate that is no part of a pair. What stays is in group 1.
_SURROGATES = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)

_Decoded = TypeVar("_Decoded")

Admit = Callable[[int, int], None]
"""Whether so many calls of so many bytes may pass; raises `RefusedError`."""


def find_write_key(body: bytes) -> str | None:
    """The key, if the body carries one: analytics.js does so, since a browser's beacon has no headers."""
    try:
        return _decode_text(_decode(_decode_keyed, body).writeKey)
    except _UNREADABLE:
        return None


def split_call(body: bytes, call_type: str, received_at: str, admit: Admit) -> list[bytes]:
    """The one payload of a request to `/v1/{call_type}`, at `received_at` (RFC 3339). Raises `RefusedError`."""
    admit(1, len(body))
    try:
        call = _decode(_decode_object, body)
    except _UNREADABLE:
        raise RefusedError(400, "bad_request", "The body is no JSON object") from None
    call["type"] = msgspec.Raw(_encode(call_type))
    return [_complete(call, _NULL, msgspec.Raw(_encode(received_at)))]


def split_batch(body: bytes, received_at: str, admit: Admit) -> list[bytes]:
    """The payloads of a request to `/v1/batch` or `/v1/import`, at `received_at` (RFC 3339).

    `admit` is asked before they are made, which takes some 10 microseconds a call. Raises `RefusedError`.
    """
    try:
        batch = _decode(_decode_batch, body)
    except RecursionError:
        raise RefusedError(400, "bad_request", "The body nests some thousand levels deep") from None
    except _UNREADABLE:
        raise RefusedError(
            400,
            "bad_request",
            "The body is no JSON object with an array of calls as batch, and objects as context and integrations",
        ) from None
    if not batch.batch:
        raise RefusedError(400, "empty_batch", "The batch holds no calls")
    if len(batch.batch) > MAX_BATCH_CALLS:
        raise RefusedError(413, "too_large", f"A batch has at most {MAX_BATCH_CALLS:,} calls")
    shared = {name: given for name in ("context", "integrations") if (given := getattr(batch, name))}
    repeated = len(_encode((batch.sentAt, shared))) * len(batch.batch)
    if repeated > MAX_SHARED_BYTES:
        raise RefusedError(413, "too_large", "What the batch says of all its calls is too large to be put into each")
    admit(len(batch.batch), len(body) + repeated)
    received = msgspec.Raw(_encode(received_at))
    return [_split(item, shared, batch.sentAt, received) for item in batch.batch]


def refuse_erasure(call: bytes, but: CallType | None = None) -> None:
    """Raise `RefusedError` if the call asks for an erasure, `but` of this type."""
    try:
        call_type = _decode_typed(call).type
    except _UNREADABLE:  # nor can the pipeline read it
        return
    _refuse_erasing(call_type, but)


def _refuse_erasing(call_type: msgspec.Raw | None, but: CallType | None = None) -> None:
    try:
        erasing = None if call_type is None else _decode_text(call_type)
    except _UNREADABLE:  # no text
        return
    if erasing in _ERASING and erasing != but:
        raise RefusedError(
            403, "erasure_not_taken", "An erasure is asked for by a delete call in a signed webhook of Segment's"
        )


def split_webhook(body: bytes) -> list[bytes]:
    """A request of a Segment webhook: one call, or an array of them; as Segment sent them, which completed them.

    Raises `RefusedError`.
    """
    try:
        # Counted first: raw, the elements of an array of nothing but zeros take forty times its bytes.
        counted = _decode_counted(body)
        if not isinstance(counted, list):
            return [body]
        if len(counted) > MAX_WEBHOOK_CALLS:
            raise RefusedError(413, "too_large", f"A webhook has at most {MAX_WEBHOOK_CALLS:,} calls")
        calls = _decode_calls(body)
    except _UNREADABLE:
        raise RefusedError(400, "bad_request", "The body is no JSON object and no array of them") from None
    if not calls:
        raise RefusedError(400, "empty_batch", "The array holds no calls")
    return [bytes(call) for call in calls]


def _decode(decode: Callable[[bytes], _Decoded], body: bytes) -> _Decoded:
    """The body's JSON; half an emoji in one call, which no decoder takes, does not spoil the others.

    It becomes U+FFFD, as in Go's encoding/json, which Segment uses: https://pkg.go.dev/encoding/json#Unmarshal
    """
    try:
        return decode(body)
    except msgspec.DecodeError:
        mended = _SURROGATES.sub(lambda found: found[1] or rb"\ufffd", body)
        if mended == body:
            raise
    return decode(mended)


def _split(item: msgspec.Raw, shared: dict[str, _Object], sent_at: msgspec.Raw, received_at: msgspec.Raw) -> bytes:
    try:
        call = _decode_object(item)
    except _UNREADABLE:
        refuse_erasure(item)  # a more lenient decoder may read it
        return bytes(item)
    _refuse_erasing(call.get("type"))
    for name, given in shared.items():
        call[name] = _merge(given, call.get(name, _NULL))
    return _complete(call, sent_at, received_at)


def _complete(call: _Object, sent_at: msgspec.Raw, received_at: msgspec.Raw) -> bytes:
    """Give the call what Segment's API gives it, a messageId if it has none and the server's clock; take its key off.

    What a client calls `timestamp` is its own clock. If it also says when it sent the call, the time becomes
    `originalTimestamp`, and the pipeline makes the true time of the two:
    https://segment.com/docs/connections/spec/common/#timestamps
    """
    call.pop("writeKey", None)
    if _is_absent(call, "messageId"):
        call["messageId"] = msgspec.Raw(_encode(f"api-{uuid4()}"))
    if _is_absent(call, "sentAt") and sent_at != _NULL:
        call["sentAt"] = sent_at
    if not _is_absent(call, "sentAt") and _is_absent(call, "originalTimestamp") and _is_time(call.get("timestamp")):
        call["originalTimestamp"] = call.pop("timestamp")
    call["receivedAt"] = received_at
    return _encode(call)


def _is_absent(call: _Object, name: str) -> bool:
    return call.get(name, _NULL) == _NULL


def _is_time(value: msgspec.Raw | None) -> bool:
    """Whether it is a time that the pipeline reads as well; of any other it is the pipeline's to judge."""
    try:
        return value is not None and _decode_time(value) is not None
    except _UNREADABLE:
        return False


def _merge(shared: _Object, own: msgspec.Raw) -> msgspec.Raw:
    """What the batch says of all its calls, and the call's own, which wins; so does what is no object."""
    if own == _NULL:
        return msgspec.Raw(_encode(shared))
    try:
        return msgspec.Raw(_encode(shared | _decode_object(own)))
    except _UNREADABLE:
        return own
