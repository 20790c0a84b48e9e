from collections.abc import Iterator
from itertools import count

import pytest
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from scripts.bigquery_emulator import start_bigquery
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
