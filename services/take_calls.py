"""The HTTP API: calls of Segment's SDKs, one or a batch a request."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from schemas.connections import Connection, ConnectionKind
from services.answers import RefusedError, say_taken
from services.door import Door, read_basic_key
from services.limits import MAX_BATCH_BYTES, MAX_CALL_BYTES
from services.publish_messages import Publisher
from services.read_body import check_head, read_body
from services.split_calls import count_bytes, find_write_key, split_batch, split_call

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
        most = MAX_BATCH_BYTES if kind in BATCHES else MAX_CALL_BYTES
        check_head(request, most)
        # A wrong key is told before the body is read; analytics.js writes its key into the body.
        key = read_basic_key(request)
        connection = None if key is None else admit_sender(door, key)
        with door.pending.open_room() as room:
            body = await read_body(request, most, room)
            connection = connection or admit_sender(door, find_write_key(body))
            payloads = _split(body, kind, door.tell_time())
            door.admit_calls(connection, len(payloads))
            room.take(count_bytes(payloads))
            await calls.publish(payloads, door.attributes(connection))
        return say_taken()

    return take


def admit_sender(door: Door, key: str | None) -> Connection:
    """The connection of the key, if it is one for calls and not too fast already. Raises `RefusedError`."""
    connection = door.admit_key(key)
    if connection.kind is not ConnectionKind.SEGMENT:
        raise RefusedError(403, "other_kind", "This key is one for the webhooks of an email provider, not for calls")
    door.admit_calls(connection, 0)
    return connection


def _split(body: bytes, kind: str, received_at: str) -> list[bytes]:
    if kind in BATCHES:
        return split_batch(body, received_at)
    return split_call(body, CALL_TYPES[kind], received_at)
