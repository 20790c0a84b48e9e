"""The costs of the engines, for people, for a page and for programs."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from platform import machine, python_version
from statistics import median
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.explain_pairs import Explained
from benchmarks.measure_process import Cost
from benchmarks.score_persons import Score

PIPELINE, BY_THE_DOCS, PLAIN_LOOP = "the pipeline", "by the docs", "plain loop"
_COLUMNS = ("wall s", "calls/s", "CPU s", "peak MB", "x plain loop", "x by the docs", "precision", "recall")


class EngineReport(msgspec.Struct):
    """One engine, over all rounds."""

    runs: list[Cost]
    wall_s: float
    """The medians."""
    cpu_s: float
    peak_rss_mb: float
    calls_per_s: float
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
    engines = {}
    for name, costs in runs.items():
        wall = median(cost.wall_s for cost in costs)
        engines[name] = EngineReport(
            runs=list(costs),
            wall_s=wall,
            cpu_s=median(cost.cpu_s for cost in costs),
            peak_rss_mb=median(cost.peak_rss_mb for cost in costs),
            calls_per_s=calls / wall,
            score=scores[name],
        )
    rounds = max(len(costs) for costs in runs.values())
    return Report(now.astimezone(UTC).date().isoformat(), describe_machine(), calls, seed, rounds, engines, explained)


def describe_machine() -> dict[str, Any]:
    """What of this machine the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "architecture": machine(),
        "python": python_version(),
        "apache_beam": version("apache-beam"),
        "pyarrow": version("pyarrow"),
    }


def make_table(report: Report) -> Table:
    """For a terminal: an engine a column."""
    title = f"{report.calls:,} calls, medians of {report.rounds} rounds (lowest to highest)"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    rows = _rows(report)
    for row in rows:
        table.add_column(row[0], justify="right")
    for position, column in enumerate(_COLUMNS, start=1):
        table.add_row(column, *(row[position] for row in rows))
    return table


def make_markdown(report: Report) -> str:
    """For docs/performance.md."""
    lines = [
        f"| {report.calls:,} calls, {report.measured_on} | {' | '.join(_COLUMNS)} |",
        f"|---|{'---:|' * len(_COLUMNS)}",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in _rows(report))])


def _rows(report: Report) -> list[tuple[str, ...]]:
    engines = report.engines
    rows: list[tuple[str, ...]] = []
    for name, engine in engines.items():
        walls = [run.wall_s for run in engine.runs]
        rows.append(
            (
                name,
                f"{engine.wall_s:.1f} ({min(walls):.1f}-{max(walls):.1f})",
                f"{engine.calls_per_s:,.0f}",
                f"{engine.cpu_s:.1f}",
                f"{engine.peak_rss_mb:,.0f}",
                f"{engine.wall_s / engines[PLAIN_LOOP].wall_s:.2f}",
                f"{engine.wall_s / engines[BY_THE_DOCS].wall_s:.2f}",
                f"{engine.score.precision:.4f}",
                f"{engine.score.recall:.4f}",
            )
        )
    return rows
