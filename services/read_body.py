"""Bodies, read within limits: of bytes, also when unpacked, of time, and of all bodies together."""

import asyncio
import zlib
from typing import Self

from starlette.types import Receive

from services.answers import RefusedError
from services.limits import BODY_SECONDS, MESSAGE_BYTES, RETRY_SECONDS
from services.read_head import Head

# zlib's window size for a gzip header: https://docs.python.org/3/library/zlib.html#zlib.decompressobj
_GZIP = 16 + zlib.MAX_WBITS


class PendingBytes:
    """How much all requests hold that are not in Pub/Sub yet; a burst beyond it is sent away, not stored."""

    def __init__(self, most: int, within: "PendingBytes | None" = None) -> None:
        self._most = most
        self.within = within
        """Of which this is a part."""
        self.held = 0

    def open_room(self) -> "Room":
        """Room for one request, as long as it is entered."""
        return Room(self)

    def take(self, count: int) -> None:
        """Raises `RefusedError` (503) if there is no room for so many bytes."""
        if self.held + count > self._most:
            raise RefusedError(503, "overloaded", "Too much is waiting; nothing of this was taken", RETRY_SECONDS)
        if self.within is not None:
            self.within.take(count)
        self.held += count

    def give_back(self, count: int) -> None:
        """There is room for so many bytes again."""
        self.held -= count
        if self.within is not None:
            self.within.give_back(count)


class Room:
    """What one request holds. It grows with what has come, not with what is announced: an announcement is free."""

    def __init__(self, pending: PendingBytes) -> None:
        self._pending = pending
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pending.give_back(self.held)

    def take(self, count: int) -> None:
        """Hold so many bytes more. Raises `RefusedError` (503) if there is no room for them."""
        self._pending.take(count)
        self.held += count

    def admit(self) -> None:
        """Who sends is no stranger any more: what they hold is no longer held in the strangers' part."""
        if self._pending.within is not None:
            self._pending.held -= self.held
            self._pending = self._pending.within

    def take_messages(self, count: int, size: int) -> None:
        """Hold so many messages of so many bytes together. Raises `RefusedError` (503)."""
        self.take(size + count * MESSAGE_BYTES)


def check_head(head: Head, most: int) -> None:
    """Whether such a body can be read at all. Raises `RefusedError` (413, 415, 400) before anything is."""
    if head.encoding not in (b"identity", b"gzip"):
        raise RefusedError(415, "unknown_encoding", "Send the body as it is, or with Content-Encoding: gzip")
    declared = head.content_length
    if declared is None:
        return
    if not declared.isdigit():
        raise RefusedError(400, "bad_request", "Content-Length is no number")
    # As text first: int() takes no numbers of thousands of digits.
    if len(declared) > 18 or int(declared) > most:
        raise _too_large(most)


async def read_body(head: Head, receive: Receive, most: int, room: Room) -> bytes:
    """The body, unpacked. Raises `RefusedError`: 408 if it does not come in time, 413 if it is too large, 400, 503."""
    chunks = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            is_more = True
            while is_more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "bad_request", "The body ended early")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > most:
                    raise _too_large(most)
                room.take(len(chunk))
                chunks.append(chunk)
                is_more = message.get("more_body", False)
    except TimeoutError:
        raise RefusedError(408, "too_slow", f"The body did not come within {BODY_SECONDS:g} seconds") from None
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if head.encoding == b"gzip":
        body = _unpack(body, most)
        room.take(len(body))
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
