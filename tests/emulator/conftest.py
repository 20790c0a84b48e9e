from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import google.cloud.storage as storage
import pytest
from gcp_storage_emulator.server import create_server
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from scripts.bigquery_emulator import start_bigquery
from scripts.free_ports import find_free_ports
from scripts.start_pubsub import RunningPubsub, start_pubsub

PROJECT = "local-project"

_numbers = count(1)


@pytest.fixture(scope="session")
def running_bigquery() -> Iterator[str]:
    with start_bigquery() as running:
        yield running


@pytest.fixture
def client(running_bigquery: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[bigquery.Client]:
    """A client of the session's emulator, which the environment names as long as the test runs."""
    monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, running_bigquery)
    client = bigquery_client(PROJECT)
    yield client
    client.close()


@pytest.fixture
def dataset() -> str:
    """The name of a dataset that no other test has."""
    return f"{PROJECT}.test_{next(_numbers)}"


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPubsub]:
    with start_pubsub(prefer_google=False) as running:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", running.host)
        yield running


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A bucket of an emulator, which the environment names as long as the test runs, also to BigQuery's."""
    (port,) = find_free_ports(1)
    monkeypatch.setenv("BQEMU_GCS_LOCAL_ROOT", f"{tmp_path}/.cloudstorage")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    with create_server("127.0.0.1", port, data_dir=str(tmp_path), default_bucket="ours"):
        client = storage.Client.create_anonymous_client()
        yield client.bucket("ours")
        client.close()
