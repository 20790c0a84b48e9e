"""Bodies, read within limits: of bytes, also when unpacked, of time, and of all bodies together."""

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

from services.answers import RefusedError
from services.limits import BODY_SECONDS, RETRY_SECONDS

# zlib's window size for a gzip header: https://docs.python.org/3/library/zlib.html#zlib.decompressobj
_GZIP = 16 + zlib.MAX_WBITS


class PendingBytes:
    """How much all bodies hold that are not in Pub/Sub yet; a burst beyond it is sent away, not stored."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Room for so many bytes, until the end. Raises `RefusedError` (503) if there is none."""
        if self.held + count > self._most:
            raise RefusedError(503, "overloaded", "Too much is waiting; nothing of this was taken", RETRY_SECONDS)
        self.held += count
        try:
            yield
        finally:
            self.held -= count


def expect_bytes(request: Request, most: int) -> int:
    """How much room the body needs: its declared length, or all that may come if it is packed or has none.

    Raises `RefusedError` (413, 415, 400) before anything is read.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise RefusedError(415, "unknown_encoding", "Send the body as it is, or with Content-Encoding: gzip")
    declared = request.headers.get("content-length")
    if declared is None:
        return most
    if not (declared.isascii() and declared.isdigit()):
        raise RefusedError(400, "bad_request", "Content-Length is no number")
    # As text first: int() takes no numbers of thousands of digits.
    if len(declared) > 18 or int(declared) > most:
        raise _too_large(most)
    return int(declared) if encoding == "identity" else most


async def read_body(request: Request, most: int, seconds: float = BODY_SECONDS) -> bytes:
    """The body, unpacked. Raises `RefusedError`: 408 if it does not come in time, 413 if it is too large, 400."""
    chunks = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                chunks.append(chunk)
    except TimeoutError:
        raise RefusedError(408, "too_slow", f"The body did not come within {seconds:g} seconds") from None
    except ClientDisconnect:
        raise RefusedError(400, "bad_request", "The body ended early") from None
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if request.headers.get("content-encoding", "").strip().lower() == "gzip":
        return _unpack(body, most)
    return body


def _unpack(packed: bytes, most: int) -> bytes:
    """Never more than one byte above the limit is unpacked, whatever the body claims to hold."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        body = unpacker.decompress(packed, most + 1)
    except zlib.error:
        raise RefusedError(400, "bad_request", "The body is not gzip, as its Content-Encoding says") from None
    if len(body) > most:
        raise _too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        raise RefusedError(400, "bad_request", "The gzip body ends early, or more follows it")
    return body


def _too_large(most: int) -> RefusedError:
    return RefusedError(413, "too_large", f"The body has more than {most:,} bytes")
