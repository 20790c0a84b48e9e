"""What the steps that remember cost a call: each engine a program of its own, and what its source costs subtracted.

A program looks at its clocks when its first START_CALLS calls are done with, and again at the end. So its start, which
takes longer than what is measured, is not in the figures, nor is how much one start differs from another.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console

from benchmarks.compare_results import compare_values, expected_facts
from benchmarks.generate_calls import Truth, generate_calls
from benchmarks.measure_process import measure_process
from benchmarks.play_calls import START_CALLS
from benchmarks.read_clocks import Spent
from benchmarks.run_rounds import EnginesDiffer, run_apart
from benchmarks.stream_engines import Heard, make_command, source_of

# Not known to the steps that are measured.
_BEYOND = ("lines", "audience changes")


class StateCost(msgspec.Struct):
    """One engine at one size, the medians of all rounds."""

    calls: int
    cpu_us: float
    """A call after the start, user and system, without its source."""
    wall_us: float
    runs: list[Spent]
    """Of each round, its source included."""


def measure_state(
    engines: Mapping[str, Sequence[int]],
    folder: Path,
    rounds: int,
    seed: int,
    calls_a_window: int,
    progress: Console,
) -> dict[str, list[StateCost]]:
    """Engine -> its cost at each of its sizes. Raises `EnginesDiffer` and `ProgramFailed`."""
    sizes = sorted({size for of_engine in engines.values() for size in of_engine})
    truths = {size: run_apart(generate_calls, folder / f"calls_{size}.jsonl", size, seed) for size in sizes}
    all_engines: dict[str, Sequence[int]] = {**{source_of(name): sizes for name in engines}, **engines}
    runs: dict[tuple[str, int], list[Spent]] = {}
    for number in range(1, rounds + 1):
        for name, of_engine in all_engines.items():
            for size in of_engine:
                with progress.status(f"round {number} of {rounds}: {name}, {size:,} calls"):
                    spent = _run(name, size, folder, calls_a_window)
                runs.setdefault((name, size), []).append(spent)
                progress.print(f"round {number} of {rounds}: {name}, {size:,} calls, {spent.cpu_s:.2f} s CPU")
        for size in sizes:
            check_heard({name: _heard(name, size, folder) for name in engines if size in engines[name]}, truths[size])
    return {name: [_summarise(runs, name, size) for size in of_engine] for name, of_engine in engines.items()}


def check_heard(heard: Mapping[str, Heard], truth: Truth) -> None:
    """Raise `EnginesDiffer` unless all heard what the truth says, and the same persons as the first.

    And unless the start was over when it was taken to be: by then it was heard of each of its lines.
    """
    expected = {name: count for name, count in expected_facts(truth).items() if name not in _BEYOND}
    found: list[str] = []
    reference = next(iter(heard))
    persons = {name: _flatten(each) for name, each in heard.items()}
    for name, each in heard.items():
        found += compare_values(f"{name} and the truth", each.facts, expected)
        found += compare_values(f"{name} and {reference}, persons", persons[name], persons[reference])
        if each.heard_at_start != START_CALLS:
            found.append(f"{name} had heard of {each.heard_at_start} lines, not {START_CALLS}, at the end of the start")
    if not persons[reference]:
        found.append(f"{reference} has found no person")
    if found:
        raise EnginesDiffer("\n".join(["the engines differ, so no time is shown:", *found]))


def _flatten(heard: Heard) -> dict[tuple[str, str], str]:
    return {(kind, value): person for kind, persons in heard.persons.items() for value, person in persons.items()}


def _run(name: str, size: int, folder: Path, calls_a_window: int) -> Spent:
    calls, output = folder / f"calls_{size}.jsonl", _output(name, size, folder)
    measure_process(make_command(name, calls, output, calls_a_window), output.with_suffix(".log"))
    return _heard(name, size, folder).spent


def _heard(name: str, size: int, folder: Path) -> Heard:
    return msgspec.json.decode(_output(name, size, folder).read_bytes(), type=Heard)


def _output(name: str, size: int, folder: Path) -> Path:
    return folder / f"{name.replace(' ', '_')}_{size}.json"


def _summarise(runs: Mapping[tuple[str, int], Sequence[Spent]], name: str, size: int) -> StateCost:
    rounds = [whole.since(read) for whole, read in zip(runs[name, size], runs[source_of(name), size], strict=True)]
    calls = size - START_CALLS
    cpu, wall = median(each.cpu_s for each in rounds), median(each.wall_s for each in rounds)
    return StateCost(size, cpu / calls * 1e6, wall / calls * 1e6, list(runs[name, size]))
