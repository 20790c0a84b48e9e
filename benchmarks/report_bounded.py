"""What compare_bounded has found, for people, for a page and for programs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.explain_pairs import Explained
from benchmarks.measure_process import Cost
from benchmarks.report_costs import (
    EngineCosts,
    cost_cells,
    cost_columns,
    describe_machine,
    make_markdown,
    make_table,
    summarise_runs,
)
from benchmarks.score_persons import Score

_COLUMNS = (*cost_columns("calls"), "precision", "recall")


class EngineReport(EngineCosts):
    """One engine, over all rounds."""

    score: Score


class Report(msgspec.Struct):
    """One comparison."""

    measured_on: str
    machine: dict[str, Any]
    calls: int
    seed: int
    rounds: int
    engines: dict[str, EngineReport]
    persons: Explained
    """How well they were found, by all alike."""


def make_report(
    runs: Mapping[str, Sequence[Cost]],
    scores: Mapping[str, Score],
    explained: Explained,
    calls: int,
    seed: int,
    now: datetime,
) -> Report:
    """The report of all runs."""
    engines = {
        name: EngineReport(**msgspec.structs.asdict(costs), score=scores[name])
        for name, costs in summarise_runs(runs, calls).items()
    }
    rounds = max(len(costs) for costs in runs.values())
    return Report(now.astimezone(UTC).date().isoformat(), describe_machine(), calls, seed, rounds, engines, explained)


def make_bounded_table(report: Report) -> Table:
    """For a terminal: an engine a column."""
    title = f"{report.calls:,} calls, medians of {report.rounds} rounds (lowest to highest)"
    return make_table(title, _COLUMNS, _rows(report))


def make_bounded_markdown(report: Report) -> str:
    """For docs/performance.md."""
    return make_markdown(f"{report.calls:,} calls, {report.measured_on}", _COLUMNS, _rows(report))


def _rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (name, *cost_cells(name, report.engines), f"{engine.score.precision:.4f}", f"{engine.score.recall:.4f}")
        for name, engine in report.engines.items()
    ]
