"""Mistakes on the command line: one clear line and exit code 2, before any work starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.segment_to_bigquery import run

SUBSCRIPTION = "projects/test-project/subscriptions/calls"
DATASET = "test-project.segment"


@pytest.fixture
def calls(tmp_path: Path) -> str:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"type":"track","userId":"u1","event":"Seen","messageId":"m1"}\n')
    return str(path)


def refuse(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a run with these flags ends with."""
    with pytest.raises(SystemExit) as ended:
        run(argv)
    lines = capsys.readouterr().err.splitlines()

    assert ended.value.code == 2
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "exactly one input"),
        (["--output_dir", "out"], "exactly one input"),
        (["--input_files", "x", "--input_subscription", SUBSCRIPTION, "--output_dir", "out"], "exactly one input"),
        (["--input_files", "x"], "at least one output"),
        (["--input_subscription", "calls", "--output_dir", "out"], "projects/PROJECT/subscriptions/NAME"),
        (["--input_subscription", "projects/p/subscriptions/calls", "--output_dir", "out"], "'p' is no project id"),
        (["--input_files", "x", "--output_dataset", "segment"], "PROJECT.DATASET"),
        (["--input_files", "x", "--output_dir", "out", "--dead_letter_topic", "t"], "projects/PROJECT/topics/NAME"),
        (["--input_files", "x", "--output_dir", "out", "--dedupe_horizon_seconds", "0"], "--dedupe_horizon_seconds"),
        (["--input_files", "x", "--output_dir", "out", "--dedupe_horizon_seconds", "9999999"], "30 days"),
        (["--input_files", "x", "--output_dir", "out", "--dedupe_horizon_seconds", "soon"], "invalid int value"),
        (["--input_files", "x", "--output_dir", "out", "--dedup_horizon_seconds=3"], "did you mean --dedupe_horizon"),
        (["--input_files", "x", "--output_dir", "out", "--runner", "Nope"], "Nope"),
        (["--input_files", "x", "--output_dir", "out", "stray"], "stray"),
        (["--input_files", "x", "--output_dir", "out", "--workspace_id", ""], "--workspace_id is empty"),
        (["--input_files", "x", "--output_dir", "out", "--workspace_id", "a\udcff"], "--workspace_id is empty or has"),
        (["--input_files", "/nowhere/*.jsonl", "--output_dir", "out"], "no file matches"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert says in refuse(capsys, *argv)


def test_an_output_folder_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], calls: str) -> None:
    assert "cannot make" in refuse(capsys, "--input_files", calls, "--output_dir", f"{calls}/out")


def test_an_output_folder_with_an_earlier_run_is_refused(
    capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "activities").mkdir(parents=True)
    (out / "activities" / "part-1.parquet").touch()

    assert "earlier run" in refuse(capsys, "--input_files", calls, "--output_dir", str(out))


def test_a_pubsub_emulator_that_is_down_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")

    line = refuse(capsys, "--input_subscription", SUBSCRIPTION, "--output_dir", str(tmp_path / "out"))

    assert "127.0.0.1:1" in line


def test_a_bigquery_emulator_that_is_down_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, calls: str
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")

    assert "127.0.0.1:1" in refuse(capsys, "--input_files", calls, "--output_dataset", DATASET)


@pytest.mark.slow
def test_a_mistake_ends_the_program_with_exit_code_2_and_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.segment_to_bigquery", "--input_files", "x"], capture_output=True, text=True
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith("segment_to_bigquery: give at least one output")
    assert "Traceback" not in ended.stderr
