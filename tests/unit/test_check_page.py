"""The demo's look at the page: what it finds fault with."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.connections import ConnectionKind
from scripts.check_page import check_page
from services.manage_connections import create_connection
from services.page.fold_traffic import Fact
from tests.factories import NOW
from tests.unit.page_parts import TOKEN, PageForTests


@contextmanager
def serve(app: ASGIApp) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    made_up = PageForTests(tmp_path)
    made_up.statistics.facts = [Fact(0, "track", "written", "", 1234)]
    for connection_id in ("c1", "c2"):
        create_connection(made_up.store, "Shop", "acme", ConnectionKind.SEGMENT, NOW, connection_id=connection_id)
    with serve(made_up.browser.app) as url:
        yield url


def test_a_page_that_says_what_was_counted_has_no_fault(page: str) -> None:
    assert check_page(page, TOKEN, ["c1", "c2"], {"c1": 1234, "c2": 1234}) == []


def test_each_connection_of_which_it_says_something_else_is_a_line(page: str) -> None:
    failures = check_page(page, TOKEN, ["c1", "c2", "none"], {"c1": 1235})

    assert [failure.partition("says ")[2] for failure in failures] == [
        "1234 accepted of c1, and counts says 1,235",
        "1234 accepted of c2, and counts says 0",
        "None accepted of none, and counts says 0",
    ]


def test_a_page_that_its_token_does_not_open_is_the_only_line(page: str) -> None:
    assert check_page(page, "another token", ["c1"], {}) == [
        "the Connections page does not open with its token: HTTP 401"
    ]


def test_a_login_that_leads_to_no_list_is_the_only_line() -> None:
    async def greet(scope: Scope, receive: Receive, send: Send) -> None:
        answer = RedirectResponse("/login") if scope["path"] == "/" else PlainTextResponse("Hello")
        await answer(scope, receive, send)

    with serve(greet) as url:
        assert check_page(url, TOKEN, ["c1"], {}) == ["the Connections page does not open with its token: HTTP 200"]


def test_a_page_that_is_open_to_all_is_the_only_line() -> None:
    with serve(PlainTextResponse("All that came in")) as url:
        assert check_page(url, TOKEN, ["c1"], {}) == ["the Connections page shows itself to who is not logged in"]
