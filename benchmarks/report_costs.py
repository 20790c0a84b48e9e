"""The costs of engines that do the same job, for people, for a page and for programs."""

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from platform import machine, python_version
from statistics import median
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.measure_process import Cost

ENGINES = PIPELINE, BY_THE_DOCS, PLAIN_LOOP = "the pipeline", "by the docs", "plain loop"


class EngineCosts(msgspec.Struct):
    """One engine, over all rounds."""

    runs: list[Cost]
    wall_s: float
    """The medians."""
    cpu_s: float
    peak_rss_mb: float
    lines_per_s: float
    wall_ratios: dict[str, float]
    """By engine: how many times its wall time. The median of all rounds, as what disturbs a round disturbs both."""
    cpu_ratios: dict[str, float]
    """The same of CPU time: steadier on a shared machine."""


def summarise_runs(runs: Mapping[str, Sequence[Cost]], lines: int) -> dict[str, EngineCosts]:
    """The engines, of which each has run in every round over a file of so many lines."""
    return {name: _summarise_engine(costs, runs, lines) for name, costs in runs.items()}


def _summarise_engine(costs: Sequence[Cost], runs: Mapping[str, Sequence[Cost]], lines: int) -> EngineCosts:
    wall = median(cost.wall_s for cost in costs)
    return EngineCosts(
        runs=list(costs),
        wall_s=wall,
        cpu_s=median(cost.cpu_s for cost in costs),
        peak_rss_mb=median(cost.peak_rss_mb for cost in costs),
        lines_per_s=lines / wall,
        wall_ratios={name: _compare_runs(costs, beside, lambda cost: cost.wall_s) for name, beside in runs.items()},
        cpu_ratios={name: _compare_runs(costs, beside, lambda cost: cost.cpu_s) for name, beside in runs.items()},
    )


def _compare_runs(one: Sequence[Cost], other: Sequence[Cost], measure: Callable[[Cost], float]) -> float:
    """How many times the cost of the other, round by round: the median."""
    return median(measure(cost) / measure(beside) for cost, beside in zip(one, other, strict=True))


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


def cost_columns(lines: str) -> tuple[str, ...]:
    """What `cost_cells` are, where a line is one of these."""
    return ("wall s", f"{lines}/s", "CPU s", "peak MB", "x plain loop", "x by the docs")


def cost_cells(name: str, engines: Mapping[str, EngineCosts]) -> tuple[str, ...]:
    """The costs of one of the engines."""
    engine = engines[name]
    walls = [run.wall_s for run in engine.runs]
    return (
        f"{engine.wall_s:.1f} ({min(walls):.1f}-{max(walls):.1f})",
        f"{engine.lines_per_s:,.0f}",
        f"{engine.cpu_s:.1f}",
        f"{engine.peak_rss_mb:,.0f}",
        *_ratio_cells(engine.wall_ratios),
    )


def ratio_columns() -> tuple[str, ...]:
    """What `ratio_cells` are."""
    return ("CPU x plain loop", "CPU x by the docs")


def ratio_cells(name: str, engines: Mapping[str, EngineCosts]) -> tuple[str, ...]:
    """The CPU time of one of the engines by that of the baselines."""
    return _ratio_cells(engines[name].cpu_ratios)


def _ratio_cells(ratios: Mapping[str, float]) -> tuple[str, ...]:
    """Empty where a baseline was left out."""
    return tuple(f"{ratios[baseline]:.2f}" if baseline in ratios else "" for baseline in (PLAIN_LOOP, BY_THE_DOCS))


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """For a terminal: a row, which begins with its name, becomes a column."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name, *_ in rows:
        table.add_column(name, justify="right")
    for position, column in enumerate(columns, start=1):
        table.add_row(column, *(row[position] for row in rows))
    return table


def make_markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """For docs/performance.md."""
    lines = [f"| {title} | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
