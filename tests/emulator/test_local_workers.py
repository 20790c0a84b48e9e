"""A local run over several worker processes: the same tables, the same words for faults, and nothing left behind."""

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from benchmarks.generate_calls import generate_calls
from pipelines.local_workers import BYTES_A_WORKER, count_workers, share_parts
from tests.emulator.programs import BESIDE_A_THREAD, line, start_program

TABLES = ("activities", "identifies", "group_identifies", "aliases", "audience_memberships", "identities", "counts")
TWO = "--direct_num_workers=2"


@pytest.mark.parametrize(("blocks", "workers"), [(0, 1), (1, 1), (2, 2), (3, 3), (99, 4)])
def test_a_large_input_gets_a_worker_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for number, size in enumerate((BYTES_A_WORKER, blocks * BYTES_A_WORKER - BYTES_A_WORKER)):
        with (tmp_path / f"{number}.jsonl").open("wb") as file:
            file.truncate(max(size, 0))

    assert count_workers(str(tmp_path / "*.jsonl")) == workers
    assert count_workers(str(tmp_path / "none.jsonl")) == 1
    assert count_workers("unknown://bucket/*") == 1


def test_each_worker_takes_what_it_has_room_for() -> None:
    slow, fast = share_parts([b"1", b"2", b"", b"3", b"4"], 2)

    assert next(slow) == b"1"
    assert list(fast) == [b"2", b"3", b"4"]
    assert list(slow) == []


CHANGED = """
import sys
from pipelines import local_workers
from pipelines.segment_to_bigquery import run
from transforms import spill
{change}
sys.exit(run(sys.argv[1:]))
"""
EVERY_BLOCK_WAITS = CHANGED.format(change="spill.SMALLEST_BYTES = 0")
ONE_GROUP_A_PART = CHANGED.format(change="local_workers._PARTS_OF_GROUPS = 10_000")
NOBODY_READS = CHANGED.format(change="def refuse(*_): raise OSError('refused')\nspill.Spill.take = refuse")


def finish(*flags: str, program: Sequence[str] = ("-m", "pipelines.segment_to_bigquery")) -> tuple[int, str]:
    """The exit code and stderr of a run that ends by itself."""
    command = [sys.executable, *program, *flags]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def rows_of(folder: Path, table: str) -> list[tuple[object, ...]]:
    if table == "counts":  # several rows may stand for one minute; what is rejected counts in that in which it was read
        minute = "CASE outcome WHEN 'rejected' THEN NULL ELSE window_start END AS window_start"
        query = f"SELECT * EXCLUDE (count) REPLACE ({minute}), SUM(count) FROM read_parquet(?) GROUP BY ALL"
    else:
        query = "SELECT * FROM read_parquet(?)"
    return sorted(duckdb.execute(query, [f"{folder / table}/*.parquet"]).fetchall(), key=repr)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calls") / "calls.jsonl"
    generate_calls(path, 20_000, seed=7)  # 22 MB: six blocks
    return path


@pytest.mark.slow
def test_two_workers_write_what_one_writes(tmp_path: Path, calls: Path) -> None:
    def run(name: str, workers: str, **options: Sequence[str]) -> None:
        flags = "--input_files", str(calls), "--output_dir", str(tmp_path / name), workers
        exit_code, said = finish(*flags, **options)
        assert exit_code == 0, said
        assert f"{20_000:,} messages" in said

    run("one", "--direct_num_workers=1")
    run("two", TWO)
    run("waiting", TWO, program=("-c", EVERY_BLOCK_WAITS))
    run("small parts", TWO, program=("-c", ONE_GROUP_A_PART))

    for table in TABLES:
        written = rows_of(tmp_path / "one", table)
        assert rows_of(tmp_path / "two", table) == written, table
        assert rows_of(tmp_path / "waiting", table) == written, table
        assert rows_of(tmp_path / "small parts", table) == written, table


@pytest.mark.slow
def test_blocks_wait_in_files(tmp_path: Path, calls: Path) -> None:
    flags = "--input_files", str(calls), "--output_dir", str(tmp_path / "out"), TWO

    exit_code, said = finish(*flags, program=("-c", NOBODY_READS))

    assert exit_code == 1
    assert "OSError: refused" in said


@pytest.mark.slow
def test_a_process_that_cannot_be_forked_starts_its_workers_anew(tmp_path: Path) -> None:
    for name in ("a", "b"):  # their blocks are large enough to wait in files
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(line(f"{name}{number}") for number in range(1_000)))
    flags = ["--input_files", f"{tmp_path}/*.jsonl", "--output_dir", str(tmp_path / "out"), TWO]

    done = subprocess.run(
        [sys.executable, "-c", BESIDE_A_THREAD, *flags], cwd=Path(__file__).parents[2], capture_output=True, timeout=120
    )

    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out", "activities")) == 2_000


@pytest.mark.slow
def test_what_a_worker_cannot_read_is_told_in_one_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(line("m1") * 100)[:-30])

    exit_code, said = finish("--input_files", f"{tmp_path}/*.gz", "--output_dir", str(tmp_path / "out"), TWO)

    assert exit_code == 1
    assert len(said.splitlines()) == 1
    assert f"{tmp_path}/" in said
    assert "cannot be read: " in said


def start_endless(tmp_path: Path) -> list[str]:
    """Flags of a run that reads for minutes: a pipe nobody writes to."""
    for name in ("a", "b"):
        os.mkfifo(tmp_path / f"{name}.jsonl.gz")
    return ["--input_files", f"{tmp_path}/*.gz", "--output_dir", str(tmp_path / "out"), TWO]


def workers_of(run: int, tmp_path: Path) -> list[int]:
    """A worker is a fork of its run and has its command line, which names the test's folder."""
    found = subprocess.run(["pgrep", "-f", "--", f"--input_files {tmp_path}/"], capture_output=True, text=True)
    return [int(process) for process in found.stdout.split() if int(process) != run]


def wait_for_workers(run: int, tmp_path: Path, count: int) -> list[int]:
    for _ in range(300):
        if len(workers_of(run, tmp_path)) == count:
            return workers_of(run, tmp_path)
        time.sleep(0.1)
    raise AssertionError(f"{workers_of(run, tmp_path)} are not {count} workers")


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_workers_end_with_their_run(tmp_path: Path, end: signal.Signals) -> None:
    with start_program(*start_endless(tmp_path)) as run:
        wait_for_workers(run.pid, tmp_path, 2)
        time.sleep(1)
        run.send_signal(end)

        assert run.wait(timeout=20) in (130, -end.value)
        wait_for_workers(run.pid, tmp_path, 0)


@pytest.mark.parametrize("after_s", [0.7, 1.0, 1.3, 1.6])  # before, a busy machine may not have come to our first line
def test_ctrl_c_while_it_starts_shows_no_traceback(tmp_path: Path, after_s: float) -> None:
    with start_program(*start_endless(tmp_path)[:-1]) as run:
        time.sleep(after_s)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=20)

        assert run.returncode == 130
        assert "Traceback" not in said
        wait_for_workers(run.pid, tmp_path, 0)


@pytest.mark.slow
def test_a_run_does_not_wait_for_a_worker_that_was_killed(tmp_path: Path) -> None:
    with start_program(*start_endless(tmp_path)) as run:
        first, _ = wait_for_workers(run.pid, tmp_path, 2)
        os.kill(first, signal.SIGKILL)
        _, said = run.communicate(timeout=20)

        assert run.returncode == 1
        assert "exited with return code -9. If it was killed for lack of memory" in said
        wait_for_workers(run.pid, tmp_path, 0)
