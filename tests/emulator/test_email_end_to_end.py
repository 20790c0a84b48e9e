"""The whole of email_logs_to_segment, as a user runs it: files or Pub/Sub in; files, Pub/Sub or Segment out."""

import gzip
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from google.cloud import bigquery

from pipelines import segment_to_bigquery
from pipelines.email_logs_to_segment import run
from scripts.create_tables import create_tables
from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic, ask, start_program, wait_until
from tests.misbehaving_segment import WRITE_KEY, Answer, MisbehavingSegment

EMAIL = {"email": "Ann@Example.com", "email_id": "e1", "campaign_id": "c1", "campaign_run_id": "r1"}
SENDGRID = [
    {**EMAIL, "event": "delivered", "sg_event_id": "s1", "timestamp": 1767225600},
    {**EMAIL, "event": "click", "sg_event_id": "s2", "timestamp": 1767225700, "url": "https://acme.example/a"},
    {**EMAIL, "event": "processed", "sg_event_id": "s3", "timestamp": 1767225500},
]


def log(log_id: str, event: str = "opened", at: str = "2026-01-01T12:00:00Z", **fields: object) -> bytes:
    return json.dumps({"log_id": log_id, "event": event, "at": at, **EMAIL, **fields}).encode()


def update(
    user_id: str | None = None, email: str | None = None, person_id: str | None = "p1", version: int = 1
) -> bytes:
    at = "2026-01-01T10:00:00.000000Z"
    about = {"workspace_id": "default", "person_id": person_id, "user_id": user_id, "email": email}
    return json.dumps({**about, "at": at, "version": version}).encode()


def read_lines(folder: Path, name: str = "segment_calls") -> list[dict[str, Any]]:
    return [json.loads(line) for path in (folder / name).glob("*.jsonl") for line in path.read_text().splitlines()]


def names(calls: list[dict[str, Any]]) -> Counter[str]:
    return Counter(call.get("event") or call["type"] for call in calls)


def test_files_to_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps(SENDGRID).encode(), log("l1"), log("l1"), b"{", log("l2", "exploded")]
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines)))

    status = run(["--input_files", str(tmp_path / "log.jsonl.gz"), "--output_dir", str(tmp_path / "out")])

    assert status == 0
    assert names(read_lines(tmp_path / "out")) == {
        "Email Delivered": 1,
        "Link Clicked": 1,
        "Unique Link Click": 1,
        "Email Opened": 1,
        "Email Unique Opens": 1,
        "Unique Link Click per Unique Open": 1,
    }
    letters = read_lines(tmp_path / "out", "dead_letters")
    assert Counter(letter["reason"] for letter in letters) == {
        "bad_request": 1,
        "unknown_event": 1,
        "event_not_reported": 1,
    }
    (ignored,) = (letter for letter in letters if letter["reason"] == "event_not_reported")
    assert json.loads(ignored["payload"]) == SENDGRID[2]
    said = capsys.readouterr().err
    assert "7 events" in said
    assert "Unique Link Click per Unique Open: 1" in said


@pytest.mark.parametrize("shards", ["1", "64"])
def test_copies_of_a_line_that_name_different_persons_are_told_once(tmp_path: Path, shards: str) -> None:
    lines = [log(f"l{n}", email=f"a{n}@x.com", **named) for n in range(20) for named in ({}, {"person_id": f"P{n}"})]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    flags = ["--input_files", str(tmp_path / "log.jsonl"), "--output_dir", str(tmp_path / "out")]

    assert run([*flags, "--recipient_shards", shards]) == 0

    assert names(read_lines(tmp_path / "out")) == {"Email Opened": 20, "Email Unique Opens": 20}


def test_identity_files_of_something_else_stop_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.jsonl").write_bytes(log("l1"))
    (tmp_path / "ids.jsonl").write_bytes(b'{"a": 1}\n' * 1500)
    flags = ["--input_files", str(tmp_path / "log.jsonl"), "--output_dir", str(tmp_path / "out")]

    with pytest.raises(SystemExit) as ended:
        run([*flags, "--identity_files", str(tmp_path / "ids.jsonl"), "--max_rejected_percent", "93"])

    assert ended.value.code == 1
    assert "Are these identity updates?" in capsys.readouterr().err


def test_a_run_without_events_leaves_empty_files(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()

    assert run(["--input_files", str(tmp_path / "log.jsonl"), "--output_dir", str(tmp_path / "out")]) == 0
    assert [path.stat().st_size for path in (tmp_path / "out").glob("*/*.jsonl")] == [0, 0]


def test_what_segment_to_bigquery_tells_of_persons_is_understood(tmp_path: Path) -> None:
    """Its identity_updates files in, our calls back to it: one person, the email's history with the product's."""
    about = {"userId": "u1", "messageId": "m1", "receivedAt": "2026-01-01T13:00:00Z"}
    identify = {"type": "identify", **about, "traits": {"email": "ann@example.com"}}
    (tmp_path / "calls.jsonl").write_text(json.dumps(identify))
    calls, first, second = tmp_path / "calls.jsonl", tmp_path / "first", tmp_path / "second"
    assert segment_to_bigquery.run(["--input_files", str(calls), "--output_dir", str(first)]) == 0
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([log("l1", "delivered"), log("l2", at="2026-01-01T14:00:00Z")]))

    updates = ["--identity_files", f"{first}/identity_updates/*.jsonl"]
    assert run(["--input_files", str(tmp_path / "log.jsonl"), *updates, "--output_dir", str(tmp_path / "out")]) == 0

    sent = read_lines(tmp_path / "out")
    ((person_id,),) = duckdb.execute(f"SELECT person_id FROM '{first}/identifies/*.parquet'").fetchall()
    assert [(call.get("event") or call["type"], call.get("anonymousId"), call.get("userId")) for call in sent] == [
        ("Email Delivered", person_id, None),
        ("identify", person_id, "u1"),
        ("Email Opened", None, "u1"),
        ("Email Unique Opens", None, "u1"),
    ]
    segment_calls = f"{tmp_path}/out/segment_calls/*.jsonl"
    assert segment_to_bigquery.run(["--input_files", segment_calls, "--output_dir", str(second)]) == 0
    persons = f"SELECT DISTINCT person_id FROM '{second}/activities/*.parquet'"
    assert duckdb.execute(persons).fetchall() == [(person_id,)]
    ended = duckdb.execute(f"SELECT outcome, SUM(count) FROM '{second}/counts/*.parquet' GROUP BY 1").fetchall()
    assert ended == [("written", 4)]


@pytest.mark.slow
def test_pubsub_to_pubsub_with_identity_updates(pubsub: RunningPubsub) -> None:
    logs, updates, events, letters = Topic("logs"), Topic("updates"), Topic("events"), Topic("letters")
    flags = ["--input_subscription", logs.subscription, "--identity_subscription", updates.subscription]
    flags += ["--output_topic", events.topic, "--dead_letter_topic", letters.topic]
    sent: list[dict[str, Any]] = []

    def count() -> int:
        sent.extend(json.loads(data) for data in events.drain())
        return len(sent)

    with start_program(*flags, pipeline="email_logs_to_segment") as program:
        logs.publish(log("l1", "clicked", person_id="p1", email_link_url="https://acme.example/a"))
        logs.publish(b"nonsense")
        updates.publish(b"nonsense")
        wait_until(program, lambda: count() == 2)
        updates.publish(update(user_id="u1"))
        wait_until(program, lambda: count() == 3)
        logs.publish_all([log("l2", person_id="p1"), log("l2", person_id="p1"), log("l3", person_id="p1")])
        wait_until(program, lambda: count() == 7)
        rejected: dict[str, str] = {}

        def count_rejected() -> int:
            rejected.update({told["dead_letter_step"]: told["dead_letter_reason"] for _, told in letters.pull()})
            return len(rejected)

        wait_until(program, lambda: count_rejected() == 2)

    who = [(call.get("event") or call["type"], call.get("anonymousId"), call.get("userId")) for call in sent]
    assert who[:3] == [
        ("Link Clicked", "p1", None),
        ("Unique Link Click", "p1", None),
        ("identify", "p1", "u1"),
    ]
    assert Counter(who[3:]) == {
        ("Email Opened", None, "u1"): 2,
        ("Email Unique Opens", None, "u1"): 1,
        ("Unique Link Click per Unique Open", None, "u1"): 1,
    }
    assert rejected == {"ParseEmailLogs": "bad_request", "ParseIdentityUpdates": "bad_request"}


def test_a_key_that_segment_refuses_stops_the_run_with_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", "not the key")
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(log(f"l{number}") for number in range(1500)))

    with MisbehavingSegment(always=Answer(401)) as segment, pytest.raises(SystemExit) as ended:
        run(["--input_files", str(tmp_path / "log.jsonl"), "--segment_endpoint", segment.url])

    warning, said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert "--output_dataset, --dead_letter_topic or --output_dir keeps it" in warning
    assert segment.url in said
    assert not caplog.records


def test_files_to_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", WRITE_KEY)
    lines = [log(f"l{number}", email=f"p{number}@example.com") for number in range(100)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))

    with MisbehavingSegment() as segment:
        flags = ["--input_files", str(tmp_path / "log.jsonl"), "--segment_endpoint", segment.url]
        assert run([*flags, "--output_dir", str(tmp_path / "out")]) == 0

    assert names(segment.accepted) == {"Email Opened": 100, "Email Unique Opens": 100}
    by_id = {call["messageId"]: call for call in read_lines(tmp_path / "out")}
    assert {call["messageId"]: call for call in segment.accepted} == by_id
    said = capsys.readouterr().err
    assert "delivered to Segment: 200" in said
    assert WRITE_KEY not in said
    assert segment.faults == []


def email_counts(client: bigquery.Client, dataset: str) -> dict[tuple[Any, ...], int]:
    sql = "SELECT event, outcome, reason, connection_id, SUM(count) FROM `{d}.email_counts` GROUP BY 1, 2, 3, 4"
    return {tuple(about): count for *about, count in ask(client, dataset, sql)}


def test_files_to_segment_with_the_books_in_bigquery(
    client: bigquery.Client,
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", WRITE_KEY)
    create_tables(client, dataset)
    lines = [json.dumps(SENDGRID).encode(), log("l1"), log("l1"), b"{", log("l2", "exploded")]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))

    with MisbehavingSegment(refuses=lambda call: call["event"] == "Email Opened") as segment:
        flags = ["--input_files", str(tmp_path / "log.jsonl"), "--segment_endpoint", segment.url]
        assert run([*flags, "--output_dataset", dataset]) == 0

    assert email_counts(client, dataset) == {
        ("Email Delivered", "sent", None, None): 1,
        ("Link Clicked", "sent", None, None): 1,
        ("Unique Link Click", "sent", None, None): 1,
        ("Unique Link Click per Unique Open", "sent", None, None): 1,
        ("Email Unique Opens", "sent", None, None): 1,
        ("Email Opened", "failed", "refused_by_segment", None): 1,
        ("opened", "duplicate", None, None): 1,
        ("processed", "rejected", "event_not_reported", None): 1,
        ("unknown", "rejected", "bad_request", None): 1,
        ("unknown", "rejected", "unknown_event", None): 1,
    }
    letters = "SELECT step, reason, COUNT(*) FROM `{d}.dead_letters` GROUP BY 1, 2 ORDER BY 1, 2"
    assert ask(client, dataset, letters) == [
        ("ParseEmailLogs", "bad_request", 1),
        ("ParseEmailLogs", "event_not_reported", 1),
        ("ParseEmailLogs", "unknown_event", 1),
        ("SendCalls", "refused_by_segment", 1),
    ]
    ((payload,),) = ask(client, dataset, "SELECT payload FROM `{d}.dead_letters` WHERE step = 'SendCalls'")
    assert json.loads(payload)["event"] == "Email Opened"
    said = capsys.readouterr().err
    assert "only counted" not in said
    assert f"BigQuery: {dataset}" in said


@pytest.mark.slow
def test_pubsub_to_pubsub_with_the_books_in_bigquery(
    client: bigquery.Client, dataset: str, pubsub: RunningPubsub, tmp_path: Path
) -> None:
    create_tables(client, dataset)
    (tmp_path / "updates.jsonl").write_bytes(update(user_id="u1") + b"\nnonsense\n")
    logs, updates, events = Topic("logs"), Topic("updates"), Topic("events")
    flags = ["--input_subscription", logs.subscription, "--identity_subscription", updates.subscription]
    flags += ["--identity_files", str(tmp_path / "updates.jsonl")]
    flags += ["--output_topic", events.topic, "--output_dataset", dataset, "--max_rejected_percent", "100"]
    sent: list[dict[str, Any]] = []

    def accounted() -> int:
        return sum(email_counts(client, dataset).values())

    with start_program(*flags, pipeline="email_logs_to_segment") as program:
        wait_until(program, lambda: accounted() == 1)
        logs.publish(log("l1", person_id="p1"), connection_id="c1")
        logs.publish_all([log("l1", person_id="p1"), b"nonsense"], connection_id="c2")
        updates.publish(b"nonsense")
        wait_until(program, lambda: accounted() == 7)
        logs.publish(log("l2", person_id="p1"), connection_id="c2")
        wait_until(program, lambda: accounted() == 8)
        sent += [json.loads(data) for data in events.drain()]

    assert names(sent) == {"identify": 1, "Email Opened": 2, "Email Unique Opens": 1}
    assert email_counts(client, dataset) == {
        ("identify", "sent", None, "c1"): 1,
        ("Email Opened", "sent", None, "c1"): 1,
        ("Email Unique Opens", "sent", None, "c1"): 1,
        ("Email Opened", "sent", None, "c2"): 1,
        ("opened", "duplicate", None, "c2"): 1,
        ("unknown", "rejected", "bad_request", "c2"): 1,
        ("identity_update", "rejected", "bad_request", None): 2,
    }
    letters = "SELECT step, connection_id, payload, part, parts FROM `{d}.dead_letters` ORDER BY 1, 2"
    assert ask(client, dataset, letters) == [
        ("ParseEmailLogs", "c2", b"nonsense", 1, 1),
        ("ParseIdentityUpdates", None, b"nonsense", 1, 1),
        ("ParseIdentityUpdates", None, b"nonsense", 1, 1),
    ]
    ((earliest, latest),) = ask(client, dataset, "SELECT MIN(window_start), MAX(window_start) FROM `{d}.email_counts`")
    assert latest - earliest <= timedelta(minutes=3)


def test_tables_that_are_not_there_are_one_line(
    client: bigquery.Client, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.jsonl").write_bytes(log("l1"))
    flags = ["--input_files", str(tmp_path / "log.jsonl"), "--output_dir", str(tmp_path / "out")]

    with pytest.raises(SystemExit) as ended:
        run([*flags, "--output_dataset", dataset])

    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"run scripts/create_tables --dataset {dataset}" in said


def test_a_table_of_before_is_one_line(
    client: bigquery.Client, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_tables(client, dataset)
    client.delete_table(f"{dataset}.email_counts")
    client.create_table(
        bigquery.Table(f"{dataset}.email_counts", schema=[bigquery.SchemaField("window_start", "TIMESTAMP")])
    )
    (tmp_path / "log.jsonl").write_bytes(log("l1"))
    flags = ["--input_files", str(tmp_path / "log.jsonl"), "--output_dir", str(tmp_path / "out")]

    with pytest.raises(SystemExit) as ended:
        run([*flags, "--output_dataset", dataset])

    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{dataset}.email_counts lacks the column workspace_id" in said
