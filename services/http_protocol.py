"""HTTP as uvicorn speaks it, with limits that it leaves to a proxy: on slow clients, long heads, many connections."""

import asyncio
import logging
from enum import Enum, auto
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.limits import BODY_SECONDS

MAX_HEAD_BYTES = 32 * 1024

MAX_PIPELINED = 16
"""Requests that wait behind the one being answered. A read brings ten thousand of the shortest."""

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

# uvicorn warns of each request that is no HTTP: a line for each try of each scanner.
_log = logging.getLogger(__name__)
_log.setLevel(logging.ERROR)


class _Part(Enum):
    HEAD = auto()
    BODY = auto()
    BETWEEN = auto()


class _BadRequestError(Exception):
    """Ends the parser's work; uvicorn then closes the connection, with a 400 if nothing else was said."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection. Who opens many and sends a byte a minute (Slowloris) is sent away, as is an endless head."""

    head_seconds = 10.0
    """From the connection's opening to the first byte, and from the first byte of a request to the end of its head."""
    body_seconds = BODY_SECONDS + 5
    """From there to the end of the body. Longer than the application waits: what it has answered without reading all
    of the body is taken off the wire and dropped until then, for who is still sending does not hear the answer if the
    connection is closed."""
    max_connections = 10_000
    """Of this process, idle ones included; further ones are closed as they come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self._requests = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._watched: tuple[_Part, int] | None = None
        self._is_over = False

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._await_head()
        self._watch()
        if len(self.connections) > self.max_connections:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes; those of a head that does not end are counted, but for those that came with its first."""
        if self._is_over:
            return
        if self._part is _Part.BETWEEN:
            self._await_head()
        requests = self._requests
        super().data_received(data)
        self._watch()
        if self._part is _Part.HEAD and self._requests == requests:
            self._unparsed_bytes += len(data)
            if self._unparsed_bytes > MAX_HEAD_BYTES:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _BadRequestError
        if self._part is not _Part.HEAD:
            self._await_head()
        self._has_begun = True
        self._requests += 1

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + len(": \r\n"))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._part = _Part.BODY
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there."""
        self._part = _Part.BETWEEN
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, or too much of it."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """A request with `Upgrade:` ends here for the parser, which would read its body as the next request.

        A proxy sends the requests of many on one connection, and would take the answers for theirs.
        """
        self._is_over = True
        self.cycle.keep_alive = False

    def _await_head(self) -> None:
        self._part = _Part.HEAD
        self._has_begun = False
        self._head_bytes = self._unparsed_bytes = 0

    def _watch(self) -> None:
        """Set the deadline of what is not there yet. A request that comes in one piece, as most do, needs none."""
        awaited = None if self._part is _Part.BETWEEN else (self._part, self._requests)
        if awaited == self._watched:
            return
        self._watched = awaited
        self._cancel_deadline()
        if awaited is not None:
            is_head = self._part is _Part.HEAD
            seconds, answer = (self.head_seconds, _TOO_SLOW) if is_head else (self.body_seconds, b"")
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._refuse, answer)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(_TOO_LARGE)
            raise _BadRequestError

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            if self._has_begun:  # who has asked nothing is told nothing
                self.transport.write(answer)
            self.transport.close()
