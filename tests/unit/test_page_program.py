"""Mistakes at the start of the page are one line and exit code 2."""

import pytest

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


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://c.example", "https://c.example/in/"])
def test_the_address_of_a_collector(url: str) -> None:
    assert check_url(url) == url.rstrip("/")
