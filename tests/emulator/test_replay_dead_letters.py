"""Dead letters are sent again: messages to the topic, refused rows to their table."""

import json
from collections.abc import Iterator

import google.cloud.pubsub_v1 as pubsub_v1
import pytest
from google.cloud import bigquery

from pipelines.write_bigquery import RefusedRow, bigquery_rows, bury_refused_row
from schemas.rejections import DeadLetter
from scripts.create_tables import create_tables
from scripts.pubsub_emulator import PubsubEmulator
from scripts.replay_dead_letters import main
from tests.factories import NOW, parse, sent
from transforms.logic.shape_rows import shape_call, shape_dead_letter

TOPIC = "projects/test-project/topics/calls"
SUBSCRIPTION = "projects/test-project/subscriptions/calls"

LARGE = b"x" * 40_000

pytestmark = pytest.mark.slow


@pytest.fixture
def subscriber(monkeypatch: pytest.MonkeyPatch) -> Iterator[pubsub_v1.SubscriberClient]:
    with PubsubEmulator() as emulator:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
        with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as client:
            publisher.create_topic(name=TOPIC)
            client.create_subscription(name=SUBSCRIPTION, topic=TOPIC)
            yield client


@pytest.fixture
def letters(client: bigquery.Client, dataset: str) -> str:
    """A dataset with two rejected messages and one refused row."""
    create_tables(client, dataset)
    (row,) = bigquery_rows("activities", [shape_call(parse(sent("track"))).row], "STREAMING_INSERTS")
    rejected = [
        DeadLetter(b"{", "ParseCalls", "bad_request", "no JSON", NOW, "w1", attributes={"source": "web"}),
        DeadLetter(LARGE, "ParseCalls", "too_large", "40,000 bytes", NOW, "w1", "c1"),
        bury_refused_row(RefusedRow("activities", json.dumps(row), "no such field", NOW)),
    ]
    rows = bigquery_rows(
        "dead_letters", [row for letter in rejected for row in shape_dead_letter(letter, "1")], "STREAMING_INSERTS"
    )
    assert not client.insert_rows_json(f"{dataset}.dead_letters", list(rows))
    return dataset


def pulled(subscriber: pubsub_v1.SubscriberClient) -> dict[bytes, dict[str, str]]:
    response = subscriber.pull(subscription=SUBSCRIPTION, max_messages=10, timeout=10)
    return {received.message.data: dict(received.message.attributes) for received in response.received_messages}


def test_all_dead_letters_go_back_to_where_they_came_from(
    subscriber: pubsub_v1.SubscriberClient, client: bigquery.Client, letters: str
) -> None:
    assert main(["--dataset", letters, "--topic", TOPIC]) == 0

    assert pulled(subscriber) == {
        b"{": {"workspace_id": "w1", "source": "web", "replay": "2026-01-01T00:00:00+00:00"},
        LARGE: {"workspace_id": "w1", "connection_id": "c1", "replay": "2026-01-01T00:00:00+00:00"},
    }
    (row,) = client.query_and_wait(f"SELECT message_id, event FROM `{letters}.activities`")
    assert (row["message_id"], row["event"]) == ("m1", "order_completed")


def test_a_reason_chooses(subscriber: pubsub_v1.SubscriberClient, letters: str) -> None:
    assert main(["--dataset", letters, "--topic", TOPIC, "--reason", "bad_request"]) == 0

    assert list(pulled(subscriber)) == [b"{"]


def test_a_dry_run_sends_nothing(
    subscriber: pubsub_v1.SubscriberClient, letters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", letters, "--topic", TOPIC, "--dry_run", "--since", "2000-01-01T00:00:00Z"]) == 0

    assert "3 dead letters would be sent" in capsys.readouterr().out
    assert pulled(subscriber) == {}


def test_nothing_after_until_is_sent(
    subscriber: pubsub_v1.SubscriberClient, letters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", letters, "--topic", TOPIC, "--until", "2001-01-01T00:00:00Z"]) == 0

    assert "0 messages published" in capsys.readouterr().out


def test_a_bad_dataset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", "segment", "--topic", TOPIC]) == 2

    assert len(capsys.readouterr().err.splitlines()) == 1
