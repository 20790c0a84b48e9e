"""The HTTP API: calls of Segment's SDKs, one or a batch a request."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from schemas.connections import Connection, ConnectionKind
from services.answers import RefusedError, say_taken
from services.door import Door, read_basic_key
from services.limits import MAX_BATCH_BYTES
from services.publish_messages import Publisher
from services.read_body import expect_bytes, read_body
from services.split_calls import Sent, split_batch, split_call

CALL_TYPES = {
    "identify": "identify",
    "track": "track",
    "page": "page",
    "screen": "screen",
    "group": "group",
    "alias": "alias",
    # As analytics.js writes them: https://github.com/segmentio/analytics-next, plugins/segmentio
    "i": "identify",
    "t": "track",
    "p": "page",
    "s": "screen",
    "g": "group",
    "a": "alias",
}
"""The last part of the path -> the call's type."""

BATCHES = ("batch", "import", "b")

Endpoint = Callable[[Request], Awaitable[Response]]


def take_calls(door: Door, calls: Publisher) -> Endpoint:
    """The endpoint of `/v1/{kind}`."""

    async def take(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in CALL_TYPES and kind not in BATCHES:
            raise RefusedError(404, "not_found", "There is no such method of the HTTP API")
        room = expect_bytes(request, MAX_BATCH_BYTES)
        key = read_basic_key(request)
        # A wrong key is told before the body is read; analytics.js writes its key into the body.
        connection = None if key is None else admit_sender(door, key)
        with door.pending.hold(room):
            sent = _split(await read_body(request, MAX_BATCH_BYTES), kind, door.tell_time())
            connection = connection or admit_sender(door, sent.write_key)
            door.admit_calls(connection, len(sent.payloads))
            await calls.publish(sent.payloads, door.attributes(connection))
        return say_taken()

    return take


def admit_sender(door: Door, key: str | None) -> Connection:
    """The connection of the key, if it is one for calls. Raises `RefusedError`."""
    connection = door.admit_key(key)
    if connection.kind is not ConnectionKind.SEGMENT:
        raise RefusedError(403, "other_kind", "This key is one for the webhooks of an email provider, not for calls")
    return connection


def _split(body: bytes, kind: str, received_at: str) -> Sent:
    if kind in BATCHES:
        return split_batch(body, received_at)
    return split_call(body, CALL_TYPES[kind], received_at)
