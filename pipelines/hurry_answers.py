"""Answers of a server that come as a whole within the time that they have."""

import http.client
import io
import math
import socket
import time
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection


class _HurriedSocket(io.RawIOBase):
    """What comes from a socket, as long as no more than the socket's timeout has passed.

    The timeout itself starts anew with each packet. So the last of them comes within twice the time.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + (sock.gettimeout() or math.inf)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("the answer takes too long")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _HurriedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_HurriedSocket(sock))


class _HttpConnection(HTTPConnection):
    response_class = _HurriedResponse


class _HttpsConnection(HTTPSConnection):
    response_class = _HurriedResponse


class HurryingAdapter(HTTPAdapter):
    """Holds an answer, headers and body, to the read timeout as a whole: one byte a second must not hold a worker."""

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> urllib3.HTTPConnectionPool:
        """A pool of connections that hurry."""
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        is_https = isinstance(pool, urllib3.HTTPSConnectionPool)
        pool.ConnectionCls = _HttpsConnection if is_https else _HttpConnection
        return pool
