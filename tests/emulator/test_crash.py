"""A stream that is killed in the middle loses nothing: what it held comes again to the next one."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic, line, start_program, wait_until

pytestmark = pytest.mark.slow

MESSAGES = 4000


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


def log_line(number: int, event: str) -> bytes:
    about = {"email": f"p{number % 500}@example.com", "email_id": "e1", "campaign_run_id": "r1"}
    return json.dumps({"log_id": f"{event}{number}", "event": event, "at": "2026-01-01T00:00:00Z", **about}).encode()


def test_email_logs_survive_a_kill_and_no_event_gets_a_second_id(pubsub: RunningPubsub) -> None:
    logs, events = Topic("email-logs"), Topic("segment-events")
    flags = ["--input_subscription", logs.subscription, "--output_topic", events.topic]
    published: list[dict[str, Any]] = []

    def received() -> set[str]:
        published.extend(json.loads(data) for data in events.drain())
        return {call["messageId"] for call in published}

    with start_program(*flags, pipeline="email_logs_to_segment") as program:
        logs.publish_all(log_line(number, "opened") for number in range(MESSAGES))
        wait_until(program, lambda: bool(received()))
        kill(program)
    time.sleep(0.5)
    assert len(received()) < MESSAGES + 500

    with start_program(*flags, pipeline="email_logs_to_segment") as program:
        wait_until(program, lambda: len(received()) >= MESSAGES + 500, patience_seconds=120)

    assert len(received()) == MESSAGES + 500
    unique = {call["properties"]["userId"]: call for call in published if call["event"] == "Email Unique Opens"}
    assert len(unique) == 500
    assert len({call["messageId"] for call in published if call["event"] == "Email Unique Opens"}) == 500
