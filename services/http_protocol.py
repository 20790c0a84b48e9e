"""HTTP as uvicorn speaks it, with limits that it leaves to a proxy: how long a head may take, and how large it is."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
"""From the connection's opening, or the first byte of a further request, to the end of its head."""

MAX_HEAD_BYTES = 32 * 1024

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """A connection. Who opens many and sends a byte a minute (Slowloris) is sent away, as is an endless head."""

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._head_end.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes; those of a head that does not end are counted."""
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if not self._is_in_head:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._is_in_head = False
        self._head_end.cancel()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        loop = asyncio.get_running_loop()
        self._head_end = loop.call_later(HEAD_SECONDS, self._refuse, _TOO_SLOW)

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
