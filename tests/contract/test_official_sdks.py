"""How Segment's own libraries send calls: what the collector has to take as it comes, and to answer."""

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from segment.analytics.client import Client

from tests.browser import start_browser
from tests.node_tools import SDKS, NodeFailed, install_sdks, run_node

pytestmark = pytest.mark.slow

WRITE_KEY = "a write key"
TYPES = ["identify", "track", "page", "screen", "group", "alias"]
# Of analytics.js, for each type.
SHORT_PATHS = ["/v1/i", "/v1/t", "/v1/p", "/v1/s", "/v1/g", "/v1/a"]
JSON = "application/json"
# A browser asks before it sends JSON, but not before it sends this.
TEXT = "text/plain"
PATIENCE_SECONDS = 15.0


class Request(NamedTuple):
    """What has come in; headers by lower-case name."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw)


class Recorder:
    """A server on 127.0.0.1 that keeps what it is sent. The first answers to POST can be chosen; then it is 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                recorder.keep(self)
                status, headers = recorder.answers.pop(0) if recorder.answers else (200, {})
                self.answer(status, headers, b'{"success": true}')

            def do_OPTIONS(self) -> None:
                recorder.keep(self)
                allowed = {"Access-Control-Allow-Headers": self.headers["Access-Control-Request-Headers"]}
                self.answer(204, allowed, b"")

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                exposed = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
                for name, value in {**exposed, **headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self.handler = Handler
        self.host = ""

    def keep(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Request(handler.command, handler.path, headers, body))

    @property
    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]


class QuietServer(ThreadingHTTPServer):
    """A browser that ends resets its connections: nothing to tell."""

    def handle_error(self, *_: Any) -> None: ...


@contextmanager
def serve(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Where it answers, as HOST:PORT."""
    server = QuietServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    with serve(recorder.handler) as recorder.host:
        yield recorder


def send_with_python(host: str, is_gzip: bool = True) -> None:
    """One call of each type with segment-analytics-python, as its documentation has them."""
    errors: list[Any] = []
    client = Client(
        WRITE_KEY, host=f"http://{host}", gzip=is_gzip, on_error=lambda error, batch: errors.append((error, batch))
    )
    client.identify("python-user", {"email": "python@example.com", "name": "Pythön"})
    client.track("python-user", "Order Completed", {"total": 9.5, "currency": "EUR"})
    client.page("python-user", name="Pricing", properties={"url": "https://acme.example/pricing"})
    client.screen("python-user", name="Home")
    client.group("python-user", "python-account", {"plan": "pro"})
    client.alias("python-user-before", "python-user")
    client.shutdown()
    assert errors == []


def send_with_node(host: str) -> None:
    install_sdks()
    run_node(SDKS / "send_calls.mjs", f"http://{host}", WRITE_KEY)


def send_with_a_browser(host: str, is_done: Callable[[], bool], is_batching: bool = False) -> list[str]:
    """One call of each type, from a page of another origin; the other hosts that were asked for something."""
    with serve(Shop) as shop, start_browser() as browser:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
        page.goto(f"http://{shop}/")
        errors = page.evaluate("arguments => sendCalls(...arguments)", [host, WRITE_KEY, is_batching])
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not is_done() and time.monotonic() < give_up:
            page.wait_for_timeout(50)
        assert errors == []
        return [other for other in asked if other not in (host, shop)]


class Shop(BaseHTTPRequestHandler):
    """A web site that uses analytics.js. A real one: a page that only Playwright invents may not ask 127.0.0.1."""

    def do_GET(self) -> None:
        files = {
            "/": SDKS / "send_calls.html",
            "/analytics.js": install_sdks() / "node_modules/@segment/analytics-next/dist/umd/index.js",
        }
        file = files.get(self.path)
        self.send_response(200 if file else 404)
        self.end_headers()
        if file:
            self.wfile.write(file.read_bytes())

    def log_message(self, *_: Any) -> None: ...


def credentials(request: Request) -> str:
    scheme, _, value = request.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    return base64.b64decode(value).decode()


def types(request: Request) -> list[str]:
    return [call["type"] for call in request.body["batch"]]


def test_what_is_installed_is_exact_and_comes_from_npm() -> None:
    wanted = json.loads((SDKS / "package.json").read_text())["dependencies"]
    packages = json.loads((SDKS / "package-lock.json").read_text())["packages"]
    locked = {path: package for path, package in packages.items() if path}

    assert all(locked[f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    addresses = {package["resolved"] for package in locked.values() if "resolved" in package}
    assert all(address.startswith("https://registry.npmjs.org/") for address in addresses)


def test_pythons_library_sends_gzipped_batches_with_the_key_as_user_name(recorder: Recorder) -> None:
    send_with_python(recorder.host)

    [request] = recorder.requests
    assert request.path == "/v1/batch"
    assert request.headers["content-type"] == JSON
    assert request.headers["content-encoding"] == "gzip"
    assert credentials(request) == f"{WRITE_KEY}:"
    assert request.body.keys() == {"batch", "sentAt", "writeKey"}
    assert request.body["writeKey"] == WRITE_KEY
    assert types(request) == TYPES


def test_pythons_library_compresses_nothing_unless_told(recorder: Recorder) -> None:
    send_with_python(recorder.host, is_gzip=False)

    [request] = recorder.requests
    assert "content-encoding" not in request.headers
    assert types(request) == TYPES


def test_nodes_library_sends_batches_with_the_key_as_user_name(recorder: Recorder) -> None:
    send_with_node(recorder.host)

    [request] = recorder.requests
    assert request.path == "/v1/batch"
    assert request.headers["content-type"] == JSON
    assert "content-encoding" not in request.headers
    assert credentials(request) == f"{WRITE_KEY}:"
    assert request.body.keys() == {"batch", "sentAt", "writeKey"}
    assert request.body["writeKey"] == WRITE_KEY
    assert types(request) == TYPES


def test_analytics_js_sends_each_call_as_text_to_a_path_of_one_letter(recorder: Recorder) -> None:
    others = send_with_a_browser(recorder.host, lambda: len(recorder.posts) == len(TYPES))

    assert others == []
    assert sorted(request.path for request in recorder.posts) == sorted(SHORT_PATHS)
    for request in recorder.posts:
        assert request.headers["content-type"] == TEXT
        assert credentials(request) == f"{WRITE_KEY}:"
        assert request.body["writeKey"] == WRITE_KEY
        assert request.path == f"/v1/{request.body['type'][0]}"
        assert "sentAt" in request.body


def test_analytics_js_can_send_batches(recorder: Recorder) -> None:
    others = send_with_a_browser(recorder.host, lambda: len(recorder.posts) == 1, is_batching=True)

    assert others == []
    [request] = recorder.posts
    assert request.path == "/v1/b"
    assert request.headers["content-type"] == TEXT
    assert credentials(request) == f"{WRITE_KEY}:"
    assert request.body.keys() == {"batch", "sentAt", "writeKey"}
    assert types(request) == TYPES


def test_a_browser_asks_first_whether_it_may_send_the_key(recorder: Recorder) -> None:
    send_with_a_browser(recorder.host, lambda: len(recorder.posts) == len(TYPES))

    asked = [request for request in recorder.requests if request.method == "OPTIONS"]
    assert {request.path for request in asked} == set(SHORT_PATHS)
    for request in asked:
        assert request.headers["origin"].startswith("http://127.0.0.1:")
        assert request.headers["access-control-request-method"] == "POST"
        assert request.headers["access-control-request-headers"] == "authorization"
        assert "authorization" not in request.headers


@pytest.mark.parametrize("answer", [(503, {}), (429, {"Retry-After": "1"})], ids=["503", "429"])
@pytest.mark.parametrize("send", [send_with_python, send_with_node], ids=["python", "node"])
def test_what_was_not_taken_is_sent_again(
    recorder: Recorder, send: Callable[[str], None], answer: tuple[int, dict[str, str]]
) -> None:
    recorder.answers = [answer]

    send(recorder.host)

    first, again = recorder.requests
    assert again.body["batch"] == first.body["batch"]


@pytest.mark.parametrize("answer", [(503, {}), (429, {"Retry-After": "1"})], ids=["503", "429"])
def test_what_was_not_taken_of_a_browser_is_sent_again(recorder: Recorder, answer: tuple[int, dict[str, str]]) -> None:
    recorder.answers = [answer]

    send_with_a_browser(recorder.host, lambda: len(recorder.posts) == len(TYPES) + 1)

    first, again = (request for request in recorder.posts if request.path == recorder.posts[0].path)
    assert again.body["messageId"] == first.body["messageId"]
    # Which the browser asks for, too: an answer that does not allow it ends all tries.
    assert again.headers["x-retry-count"] == "1"
    asked = [request.headers for request in recorder.requests if request.method == "OPTIONS"]
    assert asked[-1]["access-control-request-headers"] == "authorization,x-retry-count"


@pytest.mark.parametrize("status", [400, 401, 403, 413])
@pytest.mark.parametrize("send", [send_with_python, send_with_node], ids=["python", "node"])
def test_what_was_refused_is_an_error_and_not_sent_again(
    recorder: Recorder, send: Callable[[str], None], status: int
) -> None:
    recorder.answers = [(status, {})]

    with pytest.raises((AssertionError, NodeFailed), match=str(status)):
        send(recorder.host)

    assert len(recorder.requests) == 1
