"""A stream that is killed in the middle loses nothing: what it held comes again to the next one."""

import json
import signal
import subprocess
from pathlib import Path

import duckdb
import pytest

from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic, line, start_program, wait_until
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
