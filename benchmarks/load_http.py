"""Calls sent to a collector over many keep-alive connections, one request at a time on each, as fast as it answers.

Every call has a messageId of its own, made of its request's number; what was answered, and when, goes to a file.
"""

import argparse
import asyncio
import base64
import re
import resource
import time
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from benchmarks.run_rounds import positive

MESSAGE_ID = re.compile(rb'"messageId": ?"load-(\d{12})-(\d{4})"')
"""Request and position in it, in a call as it was sent or as some collector has written it anew."""

OK = 200
NO_ANSWER = 0
"""In place of a status: the connection ended, or patience did."""

# How long answers are waited for when no more requests are sent.
_PATIENCE_SECONDS = 90.0
_NUMBER = b"000000000000"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Load(msgspec.Struct):
    """What came of the requests: one entry a request in each list, in the order of the answers."""

    numbers: list[int] = []
    statuses: list[int] = []
    sent_at: list[float] = []
    """By the system's monotonic clock, which all processes share."""
    took_s: list[float] = []
    cpu_s: float = 0.0
    """What sending itself took: near the time of the run, it is the load that is slow."""


def make_request(path: str, key: str, calls: int) -> bytes:
    """A request whose calls have the number 0 in their messageIds; more than one call make a batch."""
    batch = [_make_call(position) for position in range(calls)]
    body = msgspec.json.encode(batch[0] if calls == 1 else {"batch": batch, "sentAt": "2026-01-02T03:04:05.678Z"})
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {base64.b64encode(f'{key}:'.encode()).decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _make_call(position: int) -> dict[str, object]:
    """About as long as what Segment's libraries send."""
    return {
        "type": "track",
        "messageId": f"load-{_NUMBER.decode()}-{position:04d}",
        "userId": f"user-{position:04d}",
        "event": "Order Completed",
        "properties": {
            "order_id": "o-73",
            "total": 129.5,
            "currency": "EUR",
            "products": [{"sku": "s-1", "price": 9.5}],
        },
        "context": {
            "ip": "203.0.113.7",
            "library": {"name": "analytics-node", "version": "3.1.0"},
            "locale": "en-GB",
            "page": {"path": "/pricing", "title": "Pricing", "url": "https://acme.example/pricing"},
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/153.0.0.0",
        },
        "timestamp": "2026-01-02T03:04:05.123Z",
        "sentAt": "2026-01-02T03:04:05.678Z",
    }


class _Run:
    """What the connections share."""

    def __init__(self, request: bytes, first: int) -> None:
        self.load = Load()
        self.is_over = False
        self._request = request
        self._numbers = count(first)

    def next_request(self) -> tuple[int, bytes]:
        number = next(self._numbers)
        return number, self._request.replace(_NUMBER, b"%012d" % number)

    def note(self, number: int, status: int, sent_at: float) -> None:
        self.load.numbers.append(number)
        self.load.statuses.append(status)
        self.load.sent_at.append(sent_at)
        self.load.took_s.append(time.monotonic() - sent_at)


class _Connection(asyncio.Protocol):
    """One request after the other, until the run is over or so many are sent."""

    def __init__(self, run: _Run, most: int | None) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left = most
        self._run = run
        self._received = b""
        self._number: int | None = None
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[: end + 2]
        length = _LENGTH.search(head)
        if length is None or self._number is None:
            raise ValueError(f"an answer that this program cannot read: {head!r}")
        if len(self._received) < end + 4 + int(length[1]):
            return
        self._run.note(self._number, int(head[9:12]), self._sent_at)
        self._number, self._received = None, b""
        if _CLOSES.search(head):
            self.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if self._number is not None:
            self._run.note(self._number, NO_ANSWER, self._sent_at)
        if not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self) -> None:
        if self._run.is_over or self.left == 0:
            self.close()
            return
        if self.left is not None:
            self.left -= 1
        self._number, request = self._run.next_request()
        self._sent_at = time.monotonic()
        self._transport.write(request)


async def send_load(
    port: int, request: bytes, first: int, connections: int, seconds: float, requests_each: int | None
) -> Load:
    """Send for so many seconds, or until each connection has sent so many requests, and wait for the answers."""
    run = _Run(request, first)
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, setattr, run, "is_over", True)
    give_up = time.monotonic() + seconds + _PATIENCE_SECONDS
    tasks = [asyncio.create_task(_keep_connected(port, run, requests_each)) for _ in range(connections)]
    _, late = await asyncio.wait(tasks, timeout=give_up - time.monotonic())
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in set(tasks) - late:
        task.result()
    run.load.cpu_s = time.process_time()
    return run.load


async def _keep_connected(port: int, run: _Run, requests_each: int | None) -> None:
    """A connection, and a new one whenever the server has closed it."""
    left = requests_each
    while not run.is_over and left != 0:
        left = await _connect(port, run, left)


async def _connect(port: int, run: _Run, left: int | None) -> int | None:
    """One connection to its end; gives how many requests are still to be sent."""
    connection = _Connection(run, left)
    try:
        await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        await connection.done
    except OSError:  # it does not even connect, which is an answer, too
        run.note(run.next_request()[0], NO_ANSWER, time.monotonic())
        await asyncio.sleep(0.1)
        return None if left is None else left - 1
    except asyncio.CancelledError:
        connection.close()
        await asyncio.sleep(0)
        raise
    return connection.left


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_http", allow_abbrev=False, description=__doc__)
    parser.add_argument("--port", type=positive, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--key", required=True, help="sent as the user name")
    parser.add_argument("--calls", type=positive, default=1, help="a request; more than one are a batch")
    parser.add_argument("--connections", type=positive, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--requests_each", type=positive, help="of a connection. Default: for as long as it lasts")
    parser.add_argument("--first", type=int, default=0, help="number of the first request")
    parser.add_argument("--output", type=Path, required=True, help="where the answers go, as MessagePack")
    chosen = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sending = send_load(
        chosen.port,
        make_request(chosen.path, chosen.key, chosen.calls),
        chosen.first,
        chosen.connections,
        chosen.seconds,
        chosen.requests_each,
    )
    chosen.output.write_bytes(msgspec.msgpack.encode(uvloop.run(sending)))


if __name__ == "__main__":
    main()
