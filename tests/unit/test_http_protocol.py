"""Heads, bodies and connections over real sockets, against uvicorn in a thread."""

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.http_protocol import MAX_HEAD_BYTES, MAX_PIPELINED, LimitedProtocol
from tests.unit.test_collector import World

HOST = b"Host: door\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"


class Quick(LimitedProtocol):
    head_seconds = 0.2
    body_seconds = 0.6
    max_connections = 20


class Running:
    """A collector on a free port."""

    def __init__(self, port: int, key: str, world: World) -> None:
        self.port, self.key, self.world = port, key, world

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as connected:
            yield connected

    def post(self, body: bytes, headers: bytes = b"", path: bytes = b"/v1/batch") -> bytes:
        length = b"" if b"ength:" in headers or b"ncoding:" in headers else b"Content-Length: %d\r\n" % len(body)
        return b"POST " + path + b" HTTP/1.1\r\n" + HOST + headers + length + b"\r\n" + body

    def batch(self, *message_ids: str, pad: int = 0) -> bytes:
        calls = [{"messageId": message_id, "pad": "x" * pad} for message_id in message_ids]
        return json.dumps({"writeKey": self.key, "batch": calls}).encode()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    world = World()
    key = world.add(calls_per_second=100_000)
    config = uvicorn.Config(
        world.app, port=0, http=Quick, ws="none", loop="uvloop", log_config=None, timeout_keep_alive=1, access_log=False
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield Running(listening.getsockname()[1], key, world)
    server.should_exit = True
    thread.join()
    listening.close()


def read_to_end(connected: socket.socket) -> bytes:
    """All until the other side closes, which it has to."""
    said = b""
    with suppress(ConnectionResetError):
        while some := connected.recv(65536):
            said += some
    return said


def read_answers(connected: socket.socket, count: int) -> bytes:
    said = b""
    while said.count(b"HTTP/1.1 ") < count or not said.endswith(b"}"):
        some = connected.recv(65536)
        assert some, said
        said += some
    return said


def status(answer: bytes) -> bytes:
    return answer[:12]


def test_a_head_that_comes_by_the_byte_is_not_waited_for(running: Running) -> None:
    with running.connect() as connected:
        started = time.monotonic()
        with suppress(OSError):
            for byte in GET * 9:
                connected.send(bytes([byte]))
                time.sleep(0.02)
                if time.monotonic() > started + 0.5:
                    break

        assert status(read_to_end(connected)) == b"HTTP/1.1 408"
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("nothing", [b"", b"\r\n"])
def test_who_asks_nothing_is_told_nothing(running: Running, nothing: bytes) -> None:
    with running.connect() as connected:
        connected.sendall(nothing)

        assert read_to_end(connected) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: ",
        b"GET /",
        b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * (MAX_HEAD_BYTES // 4),
        b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/batch HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a:b\r\n" * (MAX_HEAD_BYTES // 4),
    ],
    ids=["endless header", "endless URL", "many headers", "one header", "URL", "trailers"],
)
def test_an_endless_head_is_refused(running: Running, head: bytes) -> None:
    with running.connect() as connected:
        with suppress(OSError):
            connected.sendall(head)
            while b"\r\n\r\n" not in head:
                connected.sendall(b"x" * 10_000)
        said = read_to_end(connected)

    assert status(said) in (b"HTTP/1.1 431", b"HTTP/1.1 401" if b"chunked" in head else b"", b"")


def test_a_head_just_below_the_limit_is_read(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(b"GET /health HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD_BYTES - 200) + b"\r\n\r\n")

        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"


@pytest.mark.slow
def test_a_connection_is_used_again_and_closed_when_idle(running: Running) -> None:
    with running.connect() as connected:
        for number in range(3):
            connected.sendall(running.post(running.batch(f"kept-{number}")))
            assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"
            time.sleep(0.3)  # longer than a head may take: between requests nothing is awaited

        started = time.monotonic()
        assert read_to_end(connected) == b""
        assert 0.3 < time.monotonic() - started < 3


@pytest.mark.parametrize("pad", [10, 100_000])
def test_pipelined_requests_are_answered_in_turn(running: Running, pad: int) -> None:
    names = [f"pipelined-{pad}-{number}" for number in range(4)]
    with running.connect() as connected:
        requests = b"".join(running.post(running.batch(name, pad=pad)) for name in names)
        threading.Thread(target=connected.sendall, args=(requests,)).start()

        assert read_answers(connected, 4).count(b"HTTP/1.1 200") == 4
    published = [json.loads(payload)["messageId"] for payload in running.world.calls.payloads()]
    assert [name for name in published if name in names] == names


def test_a_head_that_begins_behind_a_large_body_is_no_large_head(running: Running) -> None:
    transport = Mock(get_extra_info=lambda name: None, is_closing=lambda: False)

    async def receive() -> None:
        protocol = Quick(uvicorn.Config(running.world.app, log_config=None), ServerState(), {})
        protocol.connection_made(transport)
        protocol.data_received(running.post(bytes(200_000)) + GET[:9])  # as one read brings it
        protocol.connection_lost(None)

    asyncio.run(receive())

    transport.write.assert_not_called()


def test_half_a_head_behind_a_request_is_not_waited_for(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(GET + GET[:9])

        assert b"HTTP/1.1 408" in read_to_end(connected)


def test_a_crowd_of_pipelined_requests_is_refused(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(GET * (MAX_PIPELINED + 1))
        assert read_answers(connected, MAX_PIPELINED + 1).count(b"HTTP/1.1 200") == MAX_PIPELINED + 1
    with running.connect() as connected:
        connected.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10_000)

        assert status(read_to_end(connected)) == b"HTTP/1.1 400"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: -5\r\n",
        b"Transfer-Encoding: gzip\r\n",
    ],
)
def test_a_body_of_two_lengths_is_refused(running: Running, headers: bytes) -> None:
    with running.connect() as connected:
        connected.sendall(running.post(b"0\r\n\r\n", headers))

        assert status(read_to_end(connected)) == b"HTTP/1.1 400"


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_a_body_behind_an_upgrade_is_no_request(running: Running, protocol: bytes) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\nContent-Length: %d\r\n" % len(GET)
    with running.connect() as connected:
        started = time.monotonic()
        connected.sendall(running.post(b"", upgrade))
        said = read_answers(connected, 1)
        with suppress(OSError):
            connected.sendall(GET)
        said += read_to_end(connected)
        assert time.monotonic() - started < 0.9, "it is closed at once, and not as idle"

    assert said.count(b"HTTP/1.1 ") == 1


def test_a_body_behind_an_upgrade_is_no_request_before_the_answer_either(running: Running) -> None:
    transport = Mock(get_extra_info=lambda name: None, is_closing=lambda: False)

    async def receive() -> int:
        protocol = Quick(uvicorn.Config(running.world.app, log_config=None), ServerState(), {})
        protocol.connection_made(transport)
        protocol.data_received(running.post(b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 9\r\n"))
        protocol.data_received(GET)
        waiting = len(protocol.pipeline)
        protocol.connection_lost(None)
        return waiting

    assert asyncio.run(receive()) == 0


def test_a_chunked_body_is_read(running: Running) -> None:
    body = running.batch("chunked")
    with running.connect() as connected:
        connected.sendall(running.post(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), b"Transfer-Encoding: chunked\r\n"))

        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"


def test_a_body_that_stops_coming_closes_the_connection(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(running.post(b"{", b"Content-Length: 100\r\n"))

        assert read_to_end(connected) == b"", "what to say is the application's, which may have said it"
    wait_for_room(running)


def test_a_body_has_longer_than_its_head(running: Running) -> None:
    request = running.post(running.batch("slow"))
    head, end, body = request.partition(b"\r\n\r\n")
    with running.connect() as connected:
        connected.sendall(head)
        time.sleep(0.1)
        connected.sendall(end)
        time.sleep(0.3)
        connected.sendall(body)

        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"


@pytest.mark.slow
def test_each_pipelined_request_has_a_time_of_its_own(running: Running) -> None:
    request = running.post(running.batch("unhurried"))
    with running.connect() as connected:
        connected.sendall(request[:-9])
        for _ in range(3):
            time.sleep(0.4)
            connected.sendall(request[-9:] + request[:-9])
        connected.sendall(request[-9:])

        assert read_answers(connected, 4).count(b"HTTP/1.1 200") == 4


def wait_for_room(running: Running, *, taken: bool = False) -> None:
    give_up = time.monotonic() + 2
    while bool(running.world.pending.held) is not taken:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_who_leaves_in_the_middle_gives_the_room_back(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(running.post(b"{" * 70_000, b"Content-Length: 80000\r\n"))
        wait_for_room(running, taken=True)

    wait_for_room(running)


@pytest.mark.parametrize("length", [600_000, 5_000_000])
def test_who_is_still_sending_hears_that_it_is_too_much(running: Running, length: int) -> None:
    with running.connect() as connected:
        connected.sendall(running.post(bytes(length)))

        assert status(read_answers(connected, 1)) == b"HTTP/1.1 413"
        connected.sendall(running.post(running.batch(f"after-{length}")))
        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"


def test_what_follows_an_answer_is_not_read_for_ever(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(running.post(b"", b"Content-Length: 1000000000\r\nAuthorization: Basic x\r\n"))
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() < started + 3:
                connected.sendall(b"x")
                time.sleep(0.05)

        assert time.monotonic() - started < 2


def test_who_says_nothing_after_an_answer_is_not_listened_to_for_ever(running: Running) -> None:
    with running.connect() as connected:
        connected.sendall(GET)
        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"
        started = time.monotonic()
        with suppress(OSError):
            while time.monotonic() < started + 3:
                connected.sendall(b"\r\n")
                time.sleep(0.05)

        assert time.monotonic() - started < 2


def test_no_more_than_so_many_connections_are_held(running: Running) -> None:
    open_ones = [socket.create_connection(("127.0.0.1", running.port), timeout=5) for _ in range(Quick.max_connections)]
    with running.connect() as connected:
        with suppress(OSError):
            connected.sendall(GET)
        assert read_to_end(connected) == b""
    for each in open_ones:
        each.close()
    time.sleep(0.1)
    with running.connect() as connected:
        connected.sendall(GET)
        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"


def test_expect_100_continue_is_answered_before_the_body(running: Running) -> None:
    body = running.batch("continued")
    with running.connect() as connected:
        connected.sendall(running.post(b"", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % len(body)))
        assert connected.recv(100).startswith(b"HTTP/1.1 100")
        connected.sendall(body)

        assert status(read_answers(connected, 1)) == b"HTTP/1.1 200"


def test_scanners_fill_no_log(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET http:// HTTP/1.1\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"):
        with running.connect() as connected:
            connected.sendall(nonsense)
            assert status(read_to_end(connected)) in (b"HTTP/1.1 400", b"HTTP/1.1 404")

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
