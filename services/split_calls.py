"""What an SDK or the HTTP API sends to messages, one a call, as Segment's own API would pass them on.

Only what makes a request unreadable as a whole is refused here. A bad call among good ones goes on as it is: the
pipeline rejects it with a reason, keeps it, and the Connections page shows it; Segment itself answers 200 to most.
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

import msgspec

from services.answers import RefusedError
from services.limits import MAX_BATCH_CALLS, MAX_CALL_BYTES

_Object = dict[str, msgspec.Raw]


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw] | None = None
    sentAt: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815 - Segment's name
    writeKey: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815
    context: _Object | None = None
    integrations: _Object | None = None


_decode_object = msgspec.json.Decoder(_Object).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_time = msgspec.json.Decoder(datetime).decode
_encode = msgspec.json.Encoder().encode

_NULL = msgspec.Raw(b"null")
_UNREADABLE = (msgspec.DecodeError, RecursionError)


class Sent(NamedTuple):
    """What one request holds."""

    payloads: list[bytes]
    """JSON, one a call."""
    write_key: str | None
    """The key, if the body carries it: analytics.js does so, since a browser's beacon has no headers."""


def split_call(body: bytes, call_type: str, received_at: str) -> Sent:
    """A request to `/v1/{call_type}`, at `received_at` (RFC 3339). Raises `RefusedError`."""
    if len(body) > MAX_CALL_BYTES:
        raise RefusedError(413, "too_large", f"A call has at most {MAX_CALL_BYTES:,} bytes")
    try:
        call = _decode_object(body)
    except _UNREADABLE:
        raise RefusedError(400, "bad_request", "The body is no JSON object") from None
    write_key = _read_key(call.pop("writeKey", _NULL))
    call["type"] = msgspec.Raw(_encode(call_type))
    return Sent([_complete(call, _NULL, msgspec.Raw(_encode(received_at)))], write_key)


def split_batch(body: bytes, received_at: str) -> Sent:
    """A request to `/v1/batch` or `/v1/import`, at `received_at` (RFC 3339). Raises `RefusedError`."""
    try:
        batch = _decode_batch(body)
    except _UNREADABLE:
        raise RefusedError(400, "bad_request", "The body is no JSON object with an array of calls as batch") from None
    if not batch.batch:
        raise RefusedError(400, "empty_batch", "The batch holds no calls")
    if len(batch.batch) > MAX_BATCH_CALLS:
        raise RefusedError(413, "too_large", f"A batch has at most {MAX_BATCH_CALLS:,} calls")
    received = msgspec.Raw(_encode(received_at))
    shared = {name: given for name in ("context", "integrations") if (given := getattr(batch, name))}
    return Sent([_split(item, shared, batch.sentAt, received) for item in batch.batch], _read_key(batch.writeKey))


def _split(item: msgspec.Raw, shared: dict[str, _Object], sent_at: msgspec.Raw, received_at: msgspec.Raw) -> bytes:
    try:
        call = _decode_object(item)
        for name, given in shared.items():
            call[name] = _merge(given, call.get(name, _NULL))
    except _UNREADABLE:
        return bytes(item)
    call.pop("writeKey", None)
    return _complete(call, sent_at, received_at)


def _complete(call: _Object, sent_at: msgspec.Raw, received_at: msgspec.Raw) -> bytes:
    """Give the call what Segment's API gives it: a messageId if it has none, and the server's clock.

    What a client calls `timestamp` is its own clock. If it also says when it sent the call, the time becomes
    `originalTimestamp`, and the pipeline makes the true time of the two:
    https://segment.com/docs/connections/spec/common/#timestamps
    """
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
    """What the batch says of all its calls, and the call's own, which wins."""
    if own == _NULL:
        return msgspec.Raw(_encode(shared))
    return msgspec.Raw(_encode(shared | _decode_object(own)))


def _read_key(value: msgspec.Raw) -> str | None:
    try:
        return _decode_text(value)
    except _UNREADABLE:
        return None


def split_webhook(body: bytes) -> list[bytes]:
    """A request of a Segment webhook: one call, or an array of them; as Segment sent them, which completed them.

    Raises `RefusedError`.
    """
    try:
        calls = _decode_calls(body)
    except _UNREADABLE:
        raise RefusedError(400, "bad_request", "The body is no JSON object and no array of them") from None
    if isinstance(calls, list):
        if not calls:
            raise RefusedError(400, "empty_batch", "The array holds no calls")
        return [bytes(call) for call in calls]
    return [body]


_decode_calls = msgspec.json.Decoder(list[msgspec.Raw] | _Object).decode


def count_bytes(payloads: Iterable[bytes]) -> int:
    """Of all of them."""
    return sum(map(len, payloads))
