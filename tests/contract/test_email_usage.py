"""Mistakes on the command line of email_logs_to_segment: one clear line and exit code 2, before any work starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.email_logs_to_segment import run
from pipelines.email_settings import EmailSettings, build_parser, parse_email_settings
from transforms.find_recipients import SHARDS_OF_A_STREAM, SHARDS_OF_FILES

SUBSCRIPTION = "projects/test-project/subscriptions/logs"
TOPIC = "projects/test-project/topics/events"
GOOD = ["--input_files", "x", "--output_dir", "out"]
STREAM = ["--input_subscription", SUBSCRIPTION, "--output_topic", TOPIC]
SEGMENT = ["--segment_endpoint", "https://api.segment.io"]
CLOUD = ["--runner", "DataflowRunner", "--project", "test-project", "--region", "r", "--temp_location", "gs://b/t"]


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "log.jsonl"
    path.write_text('{"event":"opened","at":"2026-01-01T00:00:00Z","email":"ann@example.com"}\n')
    return str(path)


def refuse(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a run with these flags ends with."""
    with pytest.raises(SystemExit) as ended:
        run(argv)
    lines = capsys.readouterr().err.splitlines()

    assert ended.value.code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("email_logs_to_segment: ")
    return lines[0]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "exactly one input"),
        ([*GOOD, "--input_subscription", SUBSCRIPTION], "exactly one input"),
        (["--input_files", "x"], "at least one output"),
        ([*GOOD, "--identity_subscription", SUBSCRIPTION], "give --identity_files with files"),
        ([*GOOD, "--output_topic", "events"], "--output_topic 'events' is not of the form projects/PROJECT/topics"),
        ([*GOOD, "--output_dataset", "segment"], "--output_dataset: 'segment' is no PROJECT.DATASET"),
        (["--input_files", "x", "--output_dataset", "my-project.segment"], "--output_dataset holds no calls"),
        ([*GOOD, "--dead_letter_topic", "t"], "--dead_letter_topic 't' is not of the form"),
        (["--input_subscription", "logs", "--output_topic", TOPIC], "--input_subscription 'logs' is not of the form"),
        ([*STREAM, "--identity_subscription", "i"], "--identity_subscription 'i' is not of the form"),
        ([*GOOD, "--segment_endpoint", "api.segment.io"], "--segment_endpoint: Segment's endpoint is a URL such as"),
        ([*GOOD, "--segment_endpoint", "http://api.segment.io"], "would show the write key"),
        ([*GOOD, "--segment_endpoint", "http://[x"], "--segment_endpoint: Segment's endpoint is a URL such as"),
        ([*GOOD, "--segment_endpoint", "https://x:70000"], "--segment_endpoint: Segment's endpoint is a URL such as"),
        ([*GOOD, "--segment_endpoint", "https://key@api.segment.io"], "URL without a user, a query or a fragment"),
        ([*GOOD, "--segment_endpoint", "https://api.segment.io?a=1"], "URL without a user, a query or a fragment"),
        ([*GOOD, "--segment_write_key_secret", "projects/p/secrets/s"], "needs --segment_endpoint"),
        ([*GOOD, *SEGMENT, "--segment_write_key_secret", "s"], "projects/PROJECT/secrets/NAME"),
        ([*GOOD, "--input_files", "y"], "--input_files is given twice"),
        ([*GOOD, "--segment_write_key", "abc"], "did you mean --segment_write_key_secret"),
        ([*GOOD, "--unique_ttl_days", "0"], "--unique_ttl_days lies between 1 and 3650"),
        ([*GOOD, "--unique_ttl_days", "soon"], "invalid int value"),
        ([*GOOD, "--dedupe_horizon_seconds", "0"], "400 days"),
        ([*GOOD, "--recipient_shards", "0"], "--recipient_shards lies between 1 and 10,000"),
        ([*GOOD, "--max_log_bytes", "0"], "--max_log_bytes is at least 1"),
        ([*GOOD, "--max_rejected_percent", "101"], "--max_rejected_percent lies above 0"),
        ([*GOOD, "--workspace_id", ""], "--workspace_id is empty"),
        (["--input_files", "/nowhere/*.jsonl", "--output_dir", "out"], "--input_files: no file matches"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert says in refuse(capsys, *argv)


def test_a_missing_write_key_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    monkeypatch.delenv("SEGMENT_WRITE_KEY", raising=False)

    assert "set the environment variable SEGMENT_WRITE_KEY" in refuse(capsys, "--input_files", log, *SEGMENT)


def test_workers_elsewhere_need_a_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log: str
) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", "key")

    assert "--segment_write_key_secret" in refuse(capsys, "--input_files", log, *SEGMENT, *CLOUD)


def test_identity_files_that_are_not_there_are_named(
    capsys: pytest.CaptureFixture[str], log: str, tmp_path: Path
) -> None:
    argv = ["--input_files", log, "--output_dir", str(tmp_path / "out"), "--identity_files", "/nowhere/*.jsonl"]

    assert "--identity_files: no file matches" in refuse(capsys, *argv)


@pytest.mark.parametrize(
    "file",
    ["segment_calls/part-1.jsonl", "dead_letters/part-1.jsonl", "dead_letters/part-1.parquet", "activities/p.parquet"],
)
def test_an_output_folder_with_an_earlier_run_is_refused(
    capsys: pytest.CaptureFixture[str], log: str, tmp_path: Path, file: str
) -> None:
    """Also with one of the other pipeline, which writes dead letters, too."""
    (tmp_path / "out" / file).parent.mkdir(parents=True)
    (tmp_path / "out" / file).touch()

    assert "earlier run" in refuse(capsys, "--input_files", log, "--output_dir", str(tmp_path / "out"))


def test_a_pubsub_emulator_that_is_down_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")

    assert "127.0.0.1:1" in refuse(capsys, *STREAM)


def test_a_bigquery_emulator_that_is_down_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "127.0.0.1:1")
    argv = ["--input_files", log, "--output_dir", str(tmp_path / "out"), "--output_dataset", "my-project.segment"]

    assert "127.0.0.1:1 (BIGQUERY_EMULATOR_HOST) cannot be asked" in refuse(capsys, *argv)


def test_flags_become_settings_and_the_rest_is_beams() -> None:
    argv = [*STREAM, "--unique_ttl_days", "90", "--implied_open_on_click", "--runner", "DataflowRunner"]

    settings, beam_flags = parse_email_settings(argv)

    assert settings == EmailSettings(
        input_subscription=SUBSCRIPTION, output_topic=TOPIC, unique_ttl_days=90, implied_open_on_click=True
    )
    assert settings.unique_ttl_seconds == 90 * 24 * 3600
    assert beam_flags == ["--runner", "DataflowRunner"]


@pytest.mark.slow
def test_help_shows_every_flag_and_examples() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines.email_logs_to_segment", "--help"], capture_output=True, text=True, check=True
    )

    assert "examples:" in ran.stdout
    assert "--identity_subscription" in ran.stdout
    assert ran.stderr == ""


def test_the_help_says_how_many_shards_there_are() -> None:
    said = " ".join(build_parser().format_help().split())

    assert f"Default: {SHARDS_OF_FILES} for files, {SHARDS_OF_A_STREAM} for Pub/Sub" in said
