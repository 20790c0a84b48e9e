"""The comparison's own promises: the same numbers give the same calls, the truth is one, and the engines agree."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.dataset as ds
import pytest

from benchmarks import compare_bounded, plain_loop
from benchmarks.compare_cells import KEYS
from benchmarks.compare_results import check_outputs
from benchmarks.generate_calls import Truth, generate_calls
from benchmarks.invent_calls import FAULTS
from benchmarks.measure_process import ProgramFailed, measure_process
from benchmarks.report_costs import BY_THE_DOCS, PIPELINE, PLAIN_LOOP
from benchmarks.run_rounds import run_apart
from benchmarks.score_persons import score_persons
from schemas.tables import load_table

CALLS = 2_000


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    path = tmp_path_factory.mktemp("workload") / "calls.jsonl"
    return path, generate_calls(path, CALLS, seed=7)


def read_objects(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().splitlines():
        try:
            call = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(call, dict):
            found.append(call)
    return found


def test_same_seed_gives_same_calls(workload: tuple[Path, Truth], tmp_path: Path) -> None:
    path, truth = workload

    again = generate_calls(tmp_path / "again.jsonl", CALLS, seed=7)
    other = generate_calls(tmp_path / "other.jsonl", CALLS, seed=8)

    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    assert again == truth
    assert other.persons != truth.persons


def test_truth_adds_up(workload: tuple[Path, Truth]) -> None:
    path, truth = workload

    lines = path.read_bytes().splitlines()
    deliveries = Counter(call["messageId"] for call in read_objects(path))

    assert truth.lines == len(lines) == CALLS
    assert truth.lines == sum(truth.written.values()) + truth.duplicates + sum(truth.rejected.values())
    assert sum(truth.rejected.values()) == sum(truth.faults.values())
    assert truth.duplicates == deliveries.total() - len(deliveries) > 0


@pytest.mark.slow
def test_workload_stresses_what_it_says(tmp_path: Path) -> None:
    truth = generate_calls(tmp_path / "calls.jsonl", 20_000, seed=7)
    calls = read_objects(tmp_path / "calls.jsonl")
    owned = {kind: Counter(persons.values()) for kind, persons in truth.persons.items()}
    users_of_devices: dict[str, set[str]] = {}
    for call in calls:
        if call.get("anonymousId") and call.get("userId"):
            users_of_devices.setdefault(call["anonymousId"], set()).add(call["userId"])

    assert set(truth.faults) == set(FAULTS)
    assert sum(truth.faults.values()) == pytest.approx(0.01 * truth.lines, rel=0.3)
    assert truth.duplicates == pytest.approx(0.045 * truth.lines, rel=0.3)
    assert set(truth.written) == {"identify", "track", "page", "screen", "group", "alias"}
    assert truth.audience_changes > 0
    assert all(max(counts.values()) > 1 for counts in owned.values())
    assert any(len(users) > 1 for users in users_of_devices.values())
    assert sum(call["timestamp"][:10] < "2026-03-01" for call in calls) > 0.01 * len(calls)
    assert (tmp_path / "calls.jsonl").stat().st_size / truth.lines == pytest.approx(1_000, rel=0.2)


def test_persons_are_scored_by_pairs() -> None:
    true = {"a": 1, "b": 1, "c": 1, "x": 2, "y": 2}

    found = score_persons(true, {"a": "p", "b": "p", "x": "p"})

    assert found.precision == pytest.approx(1 / 3)  # a-b belong together, a-x and b-x do not
    assert found.recall == pytest.approx(1 / 4)  # a-b was found; a-c, b-c and x-y were not


def test_differences_are_found(workload: tuple[Path, Truth], tmp_path: Path) -> None:
    path, truth = workload
    assert plain_loop.main([str(path), str(tmp_path / "out")]) == 0
    wrong = msgspec.structs.replace(truth, duplicates=truth.duplicates + 1)

    agreed, scores = check_outputs({"plain loop": tmp_path / "out"}, truth)
    differing, _ = check_outputs({"plain loop": tmp_path / "out"}, wrong)

    assert agreed == []
    assert scores["plain loop"].precision > 0.98
    assert differing == [
        f"plain loop and the truth: 1 differ, as duplicates: {truth.duplicates}, not {wrong.duplicates}"
    ]


def test_used_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(SystemExit) as stopped:
        compare_bounded.main(["--output", str(tmp_path)])

    assert stopped.value.code == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_failed_program_tells_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="ended with 3:\nno such luck"):
        measure_process(["sh", "-c", "echo no such luck; exit 3"], tmp_path / "log")


# Holds so many MB for a second, and takes half a second of CPU time.
HOLD = """
import sys, time
held = bytearray(b"x") * (int(sys.argv[1]) * 1_000_000)
while time.process_time() < 0.5: pass
time.sleep(1)
"""
TWO_CHILDREN = f"""
import subprocess, sys
shells = [subprocess.Popen(["sh", "-c", 'exec "$0" -c "$1" 100', sys.executable, {HOLD!r}]) for _ in range(2)]
sys.exit(max(shell.wait() for shell in shells))
"""


@pytest.mark.slow
def test_costs_of_all_processes_are_added_up(tmp_path: Path) -> None:
    alone = run_apart(measure_process, [sys.executable, "-c", HOLD, "100"], tmp_path / "log")
    together = run_apart(measure_process, [sys.executable, "-c", TWO_CHILDREN], tmp_path / "log")

    assert 100 < alone.peak_rss_mb < 150
    assert 200 < together.peak_rss_mb < 300
    assert 1 < together.cpu_s < 2


@pytest.mark.slow
def test_engines_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "compared"
    flags = ["--calls", str(CALLS), "--rounds", "1", "--markdown", "--json", str(tmp_path / "costs.json")]
    flags += ["--seed", "4"]  # with these calls two persons merge

    assert compare_bounded.main([*flags, "--output", str(output)]) == 0

    report = json.loads((tmp_path / "costs.json").read_bytes())
    assert list(report["engines"]) == [PIPELINE, BY_THE_DOCS, PLAIN_LOOP]
    assert all(engine["peak_rss_mb"] > 0 < engine["cpu_s"] for engine in report["engines"].values())
    assert f"| {PIPELINE} |" in capsys.readouterr().out
    written = {engine: output / "round_1" / engine.replace(" ", "_") for engine in (PIPELINE, BY_THE_DOCS)}
    for table in KEYS:
        columns = {engine: ds.dataset(folder / table).schema.names for engine, folder in written.items()}
        assert columns[BY_THE_DOCS] == columns[PIPELINE] == list(load_table(table).columns)
        assert ds.dataset(written[PIPELINE] / table).count_rows() > 0
