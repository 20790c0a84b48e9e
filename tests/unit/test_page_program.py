"""Mistakes at the start of the page are one line and exit code 2."""

import socket

import pytest
import uvicorn

from scripts.connections import main as run_connections
from services.http_protocol import LimitedProtocol
from services.run_page import ADMIN_TOKEN, check_url, main

FLAGS = ["--dataset", "p1.d", "--secrets", "folder"]


@pytest.mark.parametrize("token", [None, "", "short", " " * 20])
def test_a_token_that_is_missing_or_short_is_one_line(
    token: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ADMIN_TOKEN, raising=False)
    if token is not None:
        monkeypatch.setenv(ADMIN_TOKEN, token)

    assert main(FLAGS) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "16 or more random characters" in line


@pytest.mark.parametrize(
    "flags",
    [
        ["--dataset", "nothing", "--secrets", "folder"],
        [*FLAGS, "--port", "70000"],
        [*FLAGS, "--collector_url", "collector.example"],
        [*FLAGS, "--collector_url", "https://c.example/'; rm -rf"],
    ],
)
def test_flags_that_cannot_be_are_one_line(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ADMIN_TOKEN, "a token of the tests")

    assert main(flags) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("flags", [[], [*FLAGS, "--prot", "1"], [*FLAGS, "--port", "x"]])
def test_flags_that_are_none_are_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for run in (main, run_connections):
        with pytest.raises(SystemExit, match="2"):
            run(flags)
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_who_connects_and_says_nothing_does_not_keep_the_page_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    configured: list[uvicorn.Config] = []

    class Server:
        def __init__(self, config: uvicorn.Config) -> None:
            configured.append(config)

        def run(self, sockets: list[socket.socket]) -> None:
            assert len(sockets) == 1

    monkeypatch.setenv(ADMIN_TOKEN, "a token of the tests")
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(uvicorn, "Server", Server)

    assert main([*FLAGS, "--port", "0"]) == 0
    assert (configured[0].http, configured[0].ws) == (LimitedProtocol, "none")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://c.example", "https://c.example/in/"])
def test_the_address_of_a_collector(url: str) -> None:
    assert check_url(url) == url.rstrip("/")
