"""A stream that is killed in the middle loses nothing: what it held comes again to the next one."""

import json
import signal
import subprocess
from pathlib import Path

import duckdb
import pytest
from google.cloud import bigquery

from scripts.create_tables import create_tables
from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic, ask, line, start_program, wait_until
from tests.misbehaving_segment import WRITE_KEY, MisbehavingSegment

pytestmark = pytest.mark.slow

MESSAGES = 4000
PEOPLE = 500


def kill(program: subprocess.Popen[str]) -> None:
    program.send_signal(signal.SIGKILL)
    program.wait()


def read_activities(folder: Path) -> set[str]:
    if not list(folder.glob("activities/*.parquet")):
        return set()
    rows = duckdb.execute("SELECT message_id FROM read_parquet(?)", [f"{folder}/activities/*.parquet"]).fetchall()
    return {message_id for (message_id,) in rows}


def test_calls_that_wait_for_their_window_survive_a_kill(pubsub: RunningPubsub, tmp_path: Path) -> None:
    calls, letters = Topic("calls"), Topic("letters")
    sent = {f"m{number}" for number in range(MESSAGES)}
    flags = ["--input_subscription", calls.subscription, "--output_dir", str(tmp_path / "out")]

    with start_program(*flags, "--dead_letter_topic", letters.topic, "--window_seconds", "300") as program:
        calls.publish_all([*(line(message_id) for message_id in sorted(sent)), b"the last one"])
        wait_until(program, lambda: letters.drain() == [b"the last one"])  # so all others have been pulled
        kill(program)
    assert read_activities(tmp_path / "out") == set()

    with start_program(*flags, "--window_seconds", "1") as program:
        wait_until(program, lambda: read_activities(tmp_path / "out") == sent, patience_seconds=120)


def log_line(number: int) -> bytes:
    about = {"email": f"p{number % PEOPLE}@example.com", "email_id": "e1", "campaign_run_id": "r1"}
    return json.dumps({"log_id": f"l{number}", "event": "opened", "at": "2026-01-01T00:00:00Z", **about}).encode()


def test_email_logs_survive_a_kill_and_no_event_comes_under_a_second_id(
    pubsub: RunningPubsub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", WRITE_KEY)
    logs = Topic("email-logs")
    flags = ["--input_subscription", logs.subscription, "--output_dir", str(tmp_path / "out")]
    calls = MESSAGES + PEOPLE

    with MisbehavingSegment() as segment:
        flags += ["--segment_endpoint", segment.url]
        segment.pause_seconds = 0.5
        with start_program(*flags, pipeline="email_logs_to_segment") as program:
            logs.publish_all(log_line(number) for number in range(MESSAGES))
            wait_until(program, lambda: bool(segment.accepted))
            kill(program)
        assert 0 < len(set(segment.accepted_ids)) < calls

        segment.pause_seconds = 0
        with start_program(*flags, pipeline="email_logs_to_segment") as program:
            wait_until(program, lambda: len(set(segment.accepted_ids)) >= calls, patience_seconds=120)

    assert segment.faults == []
    firsts = [call for call in segment.accepted if call["event"] == "Email Unique Opens"]
    assert len({call["properties"]["userId"] for call in firsts}) == PEOPLE
    assert len({call["messageId"] for call in firsts}) == PEOPLE
    assert len(set(segment.accepted_ids)) == calls


def test_what_was_sent_and_not_yet_counted_is_counted_after_a_kill(
    client: bigquery.Client, dataset: str, pubsub: RunningPubsub
) -> None:
    """Counts wait for the end of their window, and so long the messages are not acknowledged."""
    create_tables(client, dataset)
    logs, events = Topic("email-logs"), Topic("events")
    flags = ["--input_subscription", logs.subscription, "--output_topic", events.topic, "--output_dataset", dataset]

    def counted() -> set[str]:
        return {event for (event,) in ask(client, dataset, "SELECT DISTINCT event FROM `{d}.email_counts`")}

    with start_program(*flags, pipeline="email_logs_to_segment") as program:
        logs.publish(log_line(1))
        wait_until(program, lambda: bool(events.drain()))
        logs.publish(log_line(2).replace(b"opened", b"bounced"))
        wait_until(program, lambda: bool(events.drain()))  # so the first has been done with, but for its count
        kill(program)

    with start_program(*flags, pipeline="email_logs_to_segment") as program:
        told = {"Email Opened", "Email Unique Opens", "Email Bounced"}
        wait_until(program, lambda: counted() == told, patience_seconds=120)
