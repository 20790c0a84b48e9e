"""Dead letters are sent again: messages to the topic, refused rows to their table."""

import json
from collections.abc import Iterator
from pathlib import Path

import google.cloud.pubsub_v1 as pubsub_v1
import pytest
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import bigquery

from pipelines.write_bigquery import RefusedRow, bigquery_rows, bury_refused_row
from pipelines.write_calls import dead_letter_line
from schemas.rejections import DeadLetter
from scripts import publish_all
from scripts import replay_dead_letters as command
from scripts.create_tables import create_tables
from scripts.pubsub_emulator import PubsubEmulator
from scripts.replay_dead_letters import main, replay_attributes
from tests.factories import DAY, NOW, parse, sent
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
        b"{": {"workspace_id": "w1", "source": "web"},
        LARGE: {"workspace_id": "w1", "connection_id": "c1"},
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


@pytest.fixture
def email_letters(client: bigquery.Client, letters: str) -> str:
    """The same dataset, and what email_logs_to_segment rejected."""
    rejected = [
        DeadLetter(b"log 1", "ParseEmailLogs", "unknown_event", "", NOW, "w1", "c1", attributes={"source": "web"}),
        DeadLetter(LARGE + b"2", "ParseEmailLogs", "bad_request", "", NOW, "w1", "c1"),
        DeadLetter(b"update", "ParseIdentityUpdates", "bad_request", "", NOW, "w1"),
        DeadLetter(LARGE * 200, "MakeCalls", "too_large", "", NOW, "w1", "c1"),
        DeadLetter(b"{}", "SendCalls", "refused_by_segment", "HTTP 400", NOW, "w1", "c1"),
    ]
    rows = bigquery_rows(
        "dead_letters", [row for letter in rejected for row in shape_dead_letter(letter, "1")], "STREAMING_INSERTS"
    )
    for row in rows:
        assert not client.insert_rows_json(f"{letters}.dead_letters", [row])
    return letters


def test_what_the_email_pipeline_rejected_is_no_call_and_is_left_out(
    subscriber: pubsub_v1.SubscriberClient, email_letters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", email_letters, "--topic", TOPIC]) == 0

    assert pulled(subscriber).keys() == {b"{", LARGE}
    first, *_ = capsys.readouterr().out.splitlines()
    assert "5 dead letters of email_logs_to_segment left out" in first
    assert "1 MakeCalls, 2 ParseEmailLogs, 1 ParseIdentityUpdates, 1 SendCalls" in first
    assert "--step" in first


def test_a_dry_run_says_what_is_left_out_as_well(email_letters: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dataset", email_letters, "--topic", TOPIC, "--dry_run", "--reason", "bad_request"]) == 0

    left_out, chosen, total = capsys.readouterr().out.splitlines()
    assert "2 dead letters of email_logs_to_segment left out" in left_out
    assert chosen.split() == ["1", "bad_request"]
    assert total.strip() == "1 dead letters would be sent"


def test_what_the_email_pipeline_rejected_goes_to_its_topic_when_its_step_is_named(
    subscriber: pubsub_v1.SubscriberClient, email_letters: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", email_letters, "--topic", TOPIC, "--step", "ParseEmailLogs"]) == 0

    sent_again = pulled(subscriber)
    assert sent_again.keys() == {b"log 1", LARGE + b"2"}
    assert sent_again[b"log 1"].items() >= {"workspace_id": "w1", "connection_id": "c1", "source": "web"}.items()
    assert "left out" not in capsys.readouterr().out


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Dead letters as email_logs_to_segment writes them."""
    rejected = [
        DeadLetter(b'{"event": "exploded"}', "ParseEmailLogs", "unknown_event", "", NOW, "w1", "c1"),
        DeadLetter(b"\xff", "ParseEmailLogs", "bad_request", "no JSON", NOW + DAY, "w1"),
        DeadLetter(b"{}", "SendCalls", "refused_by_segment", "HTTP 400", NOW, "w1"),
    ]
    (tmp_path / "part-1.jsonl").write_bytes(b"\n".join(dead_letter_line(letter, "1") for letter in rejected) + b"\n")
    return str(tmp_path / "*.jsonl")


def test_dead_letters_of_files_go_back_with_the_bytes_that_came(
    subscriber: pubsub_v1.SubscriberClient, files: str
) -> None:
    assert main(["--files", files, "--topic", TOPIC, "--step", "ParseEmailLogs"]) == 0

    sent_again = pulled(subscriber)
    assert sent_again.keys() == {b'{"event": "exploded"}', b"\xff"}
    assert sent_again[b'{"event": "exploded"}'].items() >= {"workspace_id": "w1", "connection_id": "c1"}.items()


def test_of_files_too_reason_and_time_choose(subscriber: pubsub_v1.SubscriberClient, files: str) -> None:
    flags = ["--files", files, "--topic", TOPIC]

    assert main([*flags, "--reason", "refused_by_segment"]) == 0
    assert pulled(subscriber).keys() == {b"{}"}
    assert main([*flags, "--since", "2026-01-02T00:00:00Z"]) == 0
    assert pulled(subscriber).keys() == {b"\xff"}


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        b"{}",
        b'{"payload": 1, "rejected_at": "2026-01-01T00:00:00Z"}',
        b'{"payload": "1", "rejected_at": "2026-01-01T00:00:00Z"}',
    ],
)
def test_a_file_of_something_else_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)

    assert main(["--files", str(tmp_path / "*.jsonl"), "--topic", TOPIC]) == 2
    assert "line 1: no dead letter" in capsys.readouterr().err


def test_what_was_rejected_behind_the_deduplication_is_another_delivery(
    subscriber: pubsub_v1.SubscriberClient, client: bigquery.Client, dataset: str
) -> None:
    create_tables(client, dataset)
    identify = DeadLetter(b"{}", "ResolveIdentities", "identify_without_email", "", NOW, "w1", message_id="m1")
    rows = bigquery_rows("dead_letters", list(shape_dead_letter(identify, "1")), "STREAMING_INSERTS")
    assert not client.insert_rows_json(f"{dataset}.dead_letters", list(rows))

    assert main(["--dataset", dataset, "--topic", TOPIC]) == 0

    expected = {"payload": b"{}", "step": "ResolveIdentities", "message_id": "m1", "attributes": {}}
    assert pulled(subscriber) == {b"{}": replay_attributes(expected | {"workspace_id": "w1", "connection_id": None})}


def test_a_topic_that_is_not_there_is_named_in_one_line(
    subscriber: pubsub_v1.SubscriberClient, files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "projects/test-project/topics/nowhere"

    assert main(["--files", files, "--topic", nowhere]) == 2
    assert capsys.readouterr().err == f"replay_dead_letters: --topic: there is no {nowhere}\n"


def test_a_pubsub_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, files: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    monkeypatch.setattr(publish_all, "PUBLISH_SECONDS", 0.5)

    assert main(["--files", files, "--topic", TOPIC]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"0 of 3 messages are published to {TOPIC}" in said


def test_a_folder_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--files", str(tmp_path), "--topic", TOPIC]) == 2
    assert capsys.readouterr().err == (
        f"replay_dead_letters: --files: {tmp_path} is a folder; name its files: '{tmp_path}/*.jsonl'\n"
    )


def test_a_file_that_cannot_be_unpacked_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    packed = tmp_path / "x.jsonl.gz"
    packed.write_bytes(b"not packed")

    assert main(["--files", str(packed), "--topic", TOPIC]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"replay_dead_letters: {packed}: cannot be unpacked")


def test_a_topic_by_its_short_name_is_one_line_in_a_dry_run_too(capsys: pytest.CaptureFixture[str], files: str) -> None:
    assert main(["--files", files, "--topic", "nope", "--dry_run"]) == 2
    assert capsys.readouterr().err == (
        "replay_dead_letters: --topic 'nope' is not of the form projects/PROJECT/topics/NAME\n"
    )


@pytest.mark.parametrize(
    ("flag", "value", "says"),
    [
        ("--since", "yesterday", "argument --since: 'yesterday' is no ISO 8601 time, e.g. 2026-01-31T00:00:00Z"),
        ("--until", "31.1.2026", "argument --until: '31.1.2026' is no ISO 8601 time, e.g. 2026-01-31T00:00:00Z"),
        ("--step", "ParseCall", "argument --step: no step ParseCall makes dead letters; did you mean ParseCalls?"),
        ("--step", "x", f"argument --step: no step x makes dead letters; these do: {', '.join(command.STEPS)}"),
    ],
)
def test_a_flag_that_cannot_be_is_one_line_with_its_name(
    capsys: pytest.CaptureFixture[str], flag: str, value: str, says: str
) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--files", "x", "--topic", TOPIC, flag, value])

    assert exit_code.value.code == 2
    assert capsys.readouterr().err == f"scripts/replay_dead_letters: {says}\n"


def test_an_error_without_words_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise DefaultCredentialsError("")

    monkeypatch.setattr(command, "bigquery_client", fail)

    assert main(["--dataset", "my-project.segment", "--topic", TOPIC]) == 2
    assert capsys.readouterr().err == "replay_dead_letters: DefaultCredentialsError\n"


def test_no_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--files", "/nowhere/*.jsonl", "--topic", TOPIC]) == 2
    assert "no file matches" in capsys.readouterr().err
