import socket
from typing import Any

import google.auth
import pytest
from google.api_core.exceptions import RetryError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.bigquery import DEFAULT_RETRY
from requests.exceptions import ReadTimeout

from pipelines import clients
from pipelines.clients import BIGQUERY_EMULATOR_HOST, STORAGE_EMULATOR_HOST, bigquery_client, go_without_credentials


@pytest.mark.parametrize(("said", "most"), [(None, 0.2), (0.2, 60.0)])
def test_no_request_waits_for_ever(monkeypatch: pytest.MonkeyPatch, said: float | None, most: float) -> None:
    monkeypatch.setattr(clients, "MOST_SECONDS", most)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, f"127.0.0.1:{silent.getsockname()[1]}")
        client = bigquery_client("p1")
        call: dict[str, Any] = {"retry": None, "timeout": said}

        with pytest.raises(ReadTimeout):
            client.get_table("p1.d.t", **call)
        client.close()


def test_a_request_that_is_not_answered_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, f"127.0.0.1:{silent.getsockname()[1]}")
        client = bigquery_client("p1")
        calls: dict[str, Any] = {"retry": DEFAULT_RETRY.with_delay(initial=0.1).with_timeout(2), "job_retry": None}

        with pytest.raises(RetryError):
            client.query_and_wait("SELECT 1", **calls)
        for _ in range(2):
            silent.accept()[0].close()
        client.close()


def _find_none(*_: object, **__: object) -> None:
    raise DefaultCredentialsError("There are none.\nSo look for some.")


@pytest.mark.parametrize(
    ("emulator", "why"),
    [("", "without Google credentials, so with public buckets only: There are none."), ("http://127.0.0.1:9023", None)],
)
def test_without_credentials_buckets_are_met_without(
    monkeypatch: pytest.MonkeyPatch, emulator: str, why: str | None
) -> None:
    monkeypatch.setattr(google.auth, "default", _find_none)
    monkeypatch.setenv(STORAGE_EMULATOR_HOST, emulator)

    assert go_without_credentials(["--input_files=gs://ours/*"]) == why

    credentials, project = google.auth.default()
    assert isinstance(credentials, AnonymousCredentials)
    assert project is None


def test_credentials_that_are_there_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, "default", lambda: ("mine", "my-project"))

    assert go_without_credentials(["--input_files", "gs://ours/*"]) is None

    assert google.auth.default()[1] == "my-project"


def test_who_names_no_bucket_is_asked_for_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google.auth, "default", _find_none)

    assert go_without_credentials(["--input_files", "calls.jsonl"]) is None

    with pytest.raises(DefaultCredentialsError):
        google.auth.default()
