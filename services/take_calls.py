"""The HTTP API: calls of Segment's SDKs, one or a batch a request."""

import logging

from starlette.types import Receive, Scope, Send

from schemas.calls import MAX_CALL_BYTES
from schemas.connections import Connection, ConnectionKind
from services.answers import BUG, OPEN_TO_PAGES, TAKEN, RefusedError, say_refused
from services.door import Door
from services.limits import MAX_BATCH_BYTES
from services.publish_messages import Publisher
from services.read_body import check_head, read_body
from services.read_head import read_head
from services.split_calls import Admit, find_write_key, split_batch, split_call
from services.tell_refusals import Naming

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

_TAKEN_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(TAKEN)),
        *((name.lower().encode(), value.encode()) for name, value in OPEN_TO_PAGES.items()),
    ],
}
_TAKEN_BODY = {"type": "http.response.body", "body": TAKEN}

_log = logging.getLogger(__name__)


class TakeCalls:
    """The application at `/v1/{kind}`.

    Plain ASGI: routing, middleware, request and response of a framework cost more than all that is done for a call.
    """

    def __init__(self, door: Door, calls: Publisher) -> None:
        self._door = door
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST, whatever happens: a page of another origin has to be able to read it."""
        try:
            await self._take(scope, receive)
        except RefusedError as refused:
            self._door.refusals.note(refused)
            await say_refused(refused, OPEN_TO_PAGES)(scope, receive, send)
        except Exception:
            _log.exception("A bug of the collector's")
            await say_refused(BUG, OPEN_TO_PAGES)(scope, receive, send)
        else:
            await send(_TAKEN_START)
            await send(_TAKEN_BODY)

    async def _take(self, scope: Scope, receive: Receive) -> None:
        door = self._door
        kind = scope["path"].removeprefix("/v1/")
        if kind not in CALL_TYPES and kind not in BATCHES:
            raise RefusedError(404, "not_found", "There is no such method of the HTTP API")
        most = MAX_BATCH_BYTES if kind in BATCHES else MAX_CALL_BYTES
        head = read_head(scope["headers"])
        check_head(head, most)
        # A wrong key is told before the body is read; analytics.js writes its key into the body.
        connection = None if head.key is None else admit_sender(door, head.key)
        with door.open_room(head.key) as room:
            body = await read_body(head, receive, most, room)
            sender = connection or admit_sender(door, find_write_key(body))
            room.admit()

            def admit(count: int, size: int) -> None:
                door.admit_calls(sender, count)
                room.take_messages(count, size)

            received_at = door.tell_time()
            with Naming(sender):
                payloads = _split(body, kind, received_at, admit)
                await self._calls.publish(payloads, door.attributes(sender, received_at))


def admit_sender(door: Door, key: str | None) -> Connection:
    """The connection of the key, if it is one for calls and not too fast already. Raises `RefusedError`."""
    connection = door.admit_key(key)
    with Naming(connection):
        if connection.kind is not ConnectionKind.SEGMENT:
            raise RefusedError(403, "other_kind", "This key is one for an email provider's webhooks, not for calls")
        door.admit_calls(connection, 0)
    return connection


def _split(body: bytes, kind: str, received_at: str, admit: Admit) -> list[bytes]:
    if kind in BATCHES:
        return split_batch(body, received_at, admit)
    return split_call(body, CALL_TYPES[kind], received_at, admit)
