"""The demo where it does not go well: what is refused, interrupted, or dies on the way."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from google.cloud import bigquery

from scripts import run_demo, simulate_calls
from scripts.create_tables import create_tables
from tests.emulator.programs import last_words, start_program

pytestmark = pytest.mark.slow


@contextmanager
def start_demo() -> Iterator[subprocess.Popen[str]]:
    with start_program("--check", "--embedded", "--calls", "30", module="scripts.run_demo") as demo:
        try:
            yield demo
        finally:
            demo.terminate()  # it stops what it has started
            with suppress(subprocess.TimeoutExpired):
                demo.wait(timeout=30)


def read_until(demo: subprocess.Popen[str], words: str) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if words in line:
            return
    raise AssertionError(last_words(demo))


def find_child(demo: subprocess.Popen[str], module: str) -> int:
    ps = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]  # -ww: whole commands, however narrow COLUMNS says we are
    processes = subprocess.run(ps, capture_output=True, text=True, check=True).stdout
    found = re.findall(rf"^ *(\d+) +{demo.pid} .*-m {re.escape(module)} ", processes, re.MULTILINE)
    assert len(found) == 1, processes
    return int(found[0])


def test_an_interrupted_demo_says_so_in_one_line() -> None:
    with start_demo() as demo:
        read_until(demo, "messages of the email provider")
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=60)

    assert demo.returncode == 130
    assert said.splitlines()[-1] == "demo: interrupted; all that it started is stopped"
    assert "Traceback" not in said


def test_ctrl_c_while_it_starts_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # tells of each import
    with start_demo() as demo:
        assert demo.stderr is not None
        assert any("google." in line for line in demo.stderr)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=60)

    assert demo.returncode == 130
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pipelines.email_logs_to_segment", "pipelines.email_logs_to_segment"),
        ("services.run_collector", "the collector"),
    ],
)
def test_a_demo_whose_program_dies_stops_and_says_which(module: str, name: str) -> None:
    with start_demo() as demo:
        read_until(demo, "Collector: ")
        read_until(demo, "messages of the email provider")
        os.kill(find_child(demo, module), signal.SIGKILL)
        shown, said = demo.communicate(timeout=60)

    assert demo.returncode == 1
    assert "Traceback" not in said
    assert "Who are our people?" not in shown
    assert f"{name} has ended with exit code -9" in said.splitlines()[-1]


@pytest.mark.parametrize("main", [run_demo.main, simulate_calls.main])
@pytest.mark.parametrize("calls", ["0", "-5"])
def test_no_calls_are_refused_in_one_line(
    main: object, calls: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--calls", calls])
    assert callable(main)

    with pytest.raises(SystemExit) as exit_code:
        main()

    assert exit_code.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("argument --calls: is at least 1")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--window_seconds", "0"], "argument --window_seconds: is at least 1"),
        (["--calls", "1", "--seed", "1"], "argument --calls: nobody signs up in so few calls"),
        (["--cals", "3"], "unrecognized arguments: --cals 3"),
    ],
)
def test_what_makes_no_story_is_refused_in_one_line(
    flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_code:
        run_demo.main(flags)

    assert exit_code.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"scripts/demo: {says}")


def test_simulated_calls_end_where_nobody_reads_on() -> None:
    command = f"{sys.executable} -m scripts.simulate_calls --calls 500 | head -1"

    ran = subprocess.run(
        ["sh", "-c", command], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )

    assert len(ran.stdout.splitlines()) == 1
    assert ran.stderr == ""


def test_the_line_that_asks_bigquery_runs_as_it_is_printed(
    client: bigquery.Client, running_bigquery: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    create_tables(client, run_demo.DATASET)
    client.query_and_wait(
        f"INSERT INTO `{run_demo.DATASET}.identities` "
        "(workspace_id, identifier_type, identifier, person_id, version, updated_at) "
        "VALUES ('w1', 'email', 'ann@example.com', 'p1', 1, CURRENT_TIMESTAMP())"
    )
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    told = run_demo.tell_access("http://127.0.0.1:1", "token")
    (line,) = re.findall(r"^  \S+ -c .*?\n.*$", told, re.MULTILINE)

    ran = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "'person_id': 'p1'" in ran.stdout
