"""The comparison of streams: engines agree, differences are found, and the pipeline is faster by a margin."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks import compare_streams
from benchmarks.compare_results import expected_facts
from benchmarks.generate_calls import Truth, generate_calls
from benchmarks.grow_persons import GrownPersons
from benchmarks.measure_stream_state import check_heard
from benchmarks.play_calls import START_CALLS
from benchmarks.run_rounds import EnginesDiffer
from benchmarks.stream_engines import BY_THE_DOCS, PIPELINE, Heard

CALLS = 2_000


def link(at: int, **said: str) -> dict[str, Any]:
    fields = dict.fromkeys(("user_id", "email", "anonymous_id", "previous_id"))
    return {**fields, **said, "timestamp": at}


def test_a_cell_of_persons_says_what_a_call_changed() -> None:
    persons = GrownPersons("w")

    unknown = persons.learn(link(5, user_id="u", anonymous_id="phone"))
    named = persons.learn(link(6, user_id="u", email="u@x"))
    repeated = persons.learn(link(7, user_id="u", email="u@x", anonymous_id="phone"))
    assert not persons.has_news
    older = persons.learn(link(1, user_id="u", email="a@x"))
    moved = persons.learn(link(0, user_id="other", anonymous_id="phone"))

    assert unknown == repeated == {}
    assert set(named) == {("user_id", "u"), ("email", "u@x"), ("anonymous_id", "phone")}
    assert len(set(named.values())) == 1
    assert set(older) == {*named, ("email", "a@x")}
    assert moved == {("anonymous_id", "phone"): None}


def test_differences_of_streams_are_found(tmp_path: Path) -> None:
    truth = generate_calls(tmp_path / "calls.jsonl", 300, seed=7)
    heard = Heard(_facts(truth), {"email": {"a@x": "p"}}, START_CALLS)
    other = replace(heard, persons={"email": {"a@x": "q"}})

    check_heard({"one": heard, "two": heard}, truth)
    with pytest.raises(EnginesDiffer, match=r"two and one, persons: 1 differ, as \('email', 'a@x'\): q, not p"):
        check_heard({"one": heard, "two": other}, truth)
    with pytest.raises(EnginesDiffer, match="one and the truth: 1 differ, as duplicates"):
        check_heard({"one": replace(heard, facts={**heard.facts, "duplicates": 99})}, truth)
    with pytest.raises(EnginesDiffer, match="one has found no person"):
        check_heard({"one": replace(heard, persons={})}, truth)
    with pytest.raises(EnginesDiffer, match="one had heard of 98 lines, not 100, at the end of the start"):
        check_heard({"one": replace(heard, heard_at_start=98)}, truth)


def _facts(truth: Truth) -> dict[str, int]:
    facts = expected_facts(truth)
    return {name: count for name, count in facts.items() if name not in ("lines", "audience changes")}


@pytest.mark.slow
def test_streams_agree_and_the_pipeline_is_faster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--only",
        "state",
        "--sizes",
        "8000",
        "--larger",
        "--rounds",
        "1",
        "--json",
        str(tmp_path / "streams.json"),
    ]

    assert compare_streams.main([*flags, "--markdown"]) == 0

    state = json.loads((tmp_path / "streams.json").read_bytes())["state"]
    ours, docs = state[PIPELINE][0], state["by the docs"][0]
    assert docs["cpu_us"] > 2 * ours["cpu_us"] > 0
    assert f"| {PIPELINE} | 8,000 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("engine", [name for name in BY_THE_DOCS if name != "by the docs"])
def test_every_way_of_the_docs_hears_the_same(engine: str, tmp_path: Path) -> None:
    truth = generate_calls(tmp_path / "calls.jsonl", CALLS, seed=11)
    heard = {}
    for name in (PIPELINE, engine):
        command = [name, str(tmp_path / "calls.jsonl"), str(tmp_path / "heard.json")]
        _run(command)
        heard[name] = msgspec.json.decode((tmp_path / "heard.json").read_bytes(), type=Heard)

    check_heard(heard, truth)
    assert all(each.spent.cpu_s > 0 for each in heard.values())


def _run(command: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.stream_engines", *command], check=True, capture_output=True)


@pytest.mark.slow
def test_streams_of_pubsub_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--only", "pubsub", "--backlog", str(CALLS), "--rates", "20", "--rounds", "1"]

    assert compare_streams.main([*flags, "--markdown"]) == 0

    printed = capsys.readouterr().out
    assert "a backlog" in printed
    assert "p99" in printed
