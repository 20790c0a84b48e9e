"""A stand-in for Segment's HTTP tracking API that misbehaves by a script, and remembers what it was sent."""

import base64
import gzip
import json
import socket
import socketserver
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WRITE_KEY = "a-write-key-0123456789"

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size
MAX_CALL_BYTES = 32 * 1024
MAX_REQUEST_BYTES = 500_000
MAX_REQUEST_CALLS = 2_500


@dataclass
class Received:
    """One request."""

    headers: dict[str, str]
    calls: list[dict[str, Any]] = field(default_factory=list)
    body_bytes: int = 0
    """Uncompressed."""

    @property
    def ids(self) -> list[str]:
        return [call["messageId"] for call in self.calls]


@dataclass(frozen=True)
class Answer:
    """What a request is answered with. 2xx means that its calls are accepted, unless `accepts` says otherwise."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b'{"success": true}'
    accepts: bool | None = None
    drip_seconds: float = 0
    """How long to wait before each byte of the body."""
    drip_headers: bool = False
    """Whether the headers drip as well."""
    cut_bytes: int = 0
    """How much of the body is never sent."""
    resets: bool = False
    """Whether the connection breaks instead of an answer."""
    reads: bool = True
    """Whether the request is read at all."""

    @property
    def is_accepting(self) -> bool:
        return 200 <= self.status < 300 if self.accepts is None else self.accepts


OK = Answer()
RESET_BEFORE_BODY = Answer(resets=True, accepts=False, reads=False)
RESET_AFTER_BODY = Answer(resets=True, accepts=False)
LOST_ANSWER = Answer(resets=True, accepts=True)
HANG_UP = Answer(status=0, accepts=False)
BAD_REQUEST = Answer(400, body=b'{"success": false, "message": "malformed call"}')


def too_many(*headers: tuple[str, str]) -> Answer:
    return Answer(429, headers, b"slow down")


class MisbehavingSegment(ThreadingHTTPServer):
    """A server on a free port of this machine, as long as the context lasts.

    Each request takes the next answer of `script`; when that has come to its end, requests are judged: 400 for one that
    holds a call that `refuses` names or that breaks a limit, else 200. What no client should do stands in `faults`.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 50

    def __init__(
        self,
        script: Iterable[Answer] = (),
        refuses: Callable[[dict[str, Any]], bool] = lambda call: False,
        refusal: Answer = BAD_REQUEST,
        always: Answer | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = iter(script)
        self.refuses, self.refusal, self.always = refuses, refusal, always
        self.received: list[Received] = []
        self.accepted: list[dict[str, Any]] = []
        """Calls, each as often as it was accepted, in the order in which they were."""
        self.faults: list[str] = []
        self.connections = 0
        self.closing = threading.Event()
        self.pause_seconds = 0.0
        """How long every answer is held back."""
        self._lock = threading.Lock()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without asking for the machine's name

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def accepted_ids(self) -> list[str]:
        return [call["messageId"] for call in self.accepted]

    @property
    def batches(self) -> list[list[str]]:
        return [request.ids for request in self.received]

    def ids_by_event(self) -> dict[Any, set[str]]:
        """By what a call is about, the messageIds under which it came in."""
        ids: dict[Any, set[str]] = defaultdict(set)
        for request in self.received:
            for call in request.calls:
                ids[call["properties"]["number"]].add(call["messageId"])
        return ids

    def __enter__(self) -> "MisbehavingSegment":
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.005})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that were killed, or that gave up

    def next_answer(self) -> Answer | None:
        with self._lock:
            return next(self.script, self.always)

    def judge(self, request: Received, answer: Answer | None) -> Answer:
        """Remember the request, and the answer that it gets."""
        with self._lock:
            self.received.append(request)
            if answer is None:
                breaks_limits = request.body_bytes > MAX_REQUEST_BYTES or len(request.calls) > MAX_REQUEST_CALLS
                answer = self.refusal if breaks_limits or any(map(self.refuses, request.calls)) else OK
            if answer.is_accepting:
                self.accepted += request.calls
            return answer

    def check(self, path: str, headers: dict[str, str], body: bytes) -> Received:
        """Read a request as strictly as a client is to be."""
        request = Received(headers)
        expected = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
        wanted = {"content-type": "application/json", "content-encoding": "gzip", "authorization": f"Basic {expected}"}
        self.faults += [f"{name}: {headers.get(name)}" for name, value in wanted.items() if headers.get(name) != value]
        if path != "/v1/batch":
            self.faults.append(path)
        text = gzip.decompress(body)
        request.body_bytes = len(text)
        try:
            batch = json.loads(text)
        except ValueError:
            self.faults.append("not JSON")
            return request
        self.faults += [f"field {name}" for name in batch if name != "batch"]
        request.calls = batch["batch"]
        if not request.calls:
            self.faults.append("no calls")
        if request.body_bytes > MAX_REQUEST_BYTES or len(request.calls) > MAX_REQUEST_CALLS:
            self.faults.append(f"{request.body_bytes} bytes, {len(request.calls)} calls")
        return request


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: MisbehavingSegment

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.faults.append(f"GET {self.path}")
        self._answer(OK)

    def do_POST(self) -> None:
        answer = self.server.next_answer()
        if answer is not None and not answer.reads:
            return self._reset()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.judge(self.server.check(self.path, headers, body), answer)
        if self.server.pause_seconds:
            self.server.closing.wait(self.server.pause_seconds)
        if answer.resets:
            return self._reset()
        if answer.status == 0:
            self.close_connection = True
            return None
        return self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(answer.body))), *answer.headers]
        lines = [f"HTTP/1.1 {answer.status} x", *(f"{name}: {value}" for name, value in fields), "", ""]
        head = "\r\n".join(lines).encode(errors="surrogateescape")  # a lone surrogate is a byte that is not UTF-8
        body = answer.body[: len(answer.body) - answer.cut_bytes]
        self.close_connection = bool(answer.cut_bytes)
        if not answer.drip_seconds:
            self.wfile.write(head + body)
            return
        if not answer.drip_headers:
            self.wfile.write(head)
            head = b""
        for byte in head + body:
            if self.server.closing.wait(answer.drip_seconds):
                break
            self.wfile.write(bytes([byte]))

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
