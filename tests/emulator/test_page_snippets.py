"""What the page gives people to copy does what it says: it is run as it is, and comes to a collector with the key."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from schemas.connections import Connection, ConnectionKind
from services.page.write_snippets import write_snippets
from tests.browser import start_browser
from tests.contract.test_official_sdks import Recorder, Shop, credentials, serve
from tests.factories import NOW
from tests.node_tools import install_sdks, run_node

pytestmark = pytest.mark.slow

KEY = "sw_0123456789ab_" + "k" * 43
CONNECTION = Connection("c1", "acme", ConnectionKind.SEGMENT, "Shop", NOW, 1000)
TIMEOUT_SECONDS = 30


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    with serve(recorder.handler) as recorder.host:
        yield recorder


def snippet(title: str, recorder: Recorder) -> str:
    """The text to copy."""
    snippets = write_snippets(CONNECTION, KEY, f"http://{recorder.host}")
    return next(each.text for each in snippets if each.title == title)


def sent_types(recorder: Recorder) -> list[str]:
    return [call["type"] for request in recorder.posts for call in request.body["batch"]]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_curl_sends_a_call(recorder: Recorder) -> None:
    answer = subprocess.run(
        ["sh", "-c", snippet("curl", recorder)], capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS
    )
    (request,) = recorder.posts

    assert json.loads(answer.stdout) == {"success": True}
    assert (request.path, credentials(request)) == ("/v1/track", f"{KEY}:")
    assert request.body == {"userId": "user-1", "event": "Connection Tested"}


def test_python_sends_calls(recorder: Recorder) -> None:
    program = [sys.executable, "-c", snippet("Python", recorder)]
    subprocess.run(program, check=True, timeout=TIMEOUT_SECONDS, capture_output=True)

    assert {credentials(request) for request in recorder.posts} == {f"{KEY}:"}
    assert sent_types(recorder) == ["identify", "track"]


def test_node_sends_calls(recorder: Recorder) -> None:
    program = install_sdks() / f"snippet-{recorder.host.rpartition(':')[2]}.mjs"
    try:
        program.write_text(snippet("Node.js", recorder))
        run_node(program)
    finally:
        program.unlink()

    assert {credentials(request) for request in recorder.posts} == {f"{KEY}:"}
    assert sent_types(recorder) == ["identify", "track"]


def test_a_web_page_sends_a_call_and_asks_nobody_else(recorder: Recorder) -> None:
    text = snippet("analytics.js", recorder)
    # A page without a bundler has the package as a global variable.
    program = text.replace("import { AnalyticsBrowser } from '@segment/analytics-next'", "").replace("export ", "")
    assert program != text
    hosts = set()
    with serve(Shop) as shop, start_browser() as browser:
        page = browser.new_page()
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        page.goto(f"http://{shop}/")
        page.evaluate(
            f"async () => {{ const {{ AnalyticsBrowser }} = AnalyticsNext; {program}; await analytics.page() }}"
        )
        page.wait_for_timeout(500)

    assert hosts == {shop, recorder.host}
    assert {request.path for request in recorder.posts} == {"/v1/p"}
    assert {request.body["writeKey"] for request in recorder.posts} == {KEY}
