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

PIPELINE, BY_THE_DOCS, PLAIN_LOOP = "the pipeline", "by the docs", "plain loop"


class EngineCosts(msgspec.Struct):
    """One engine, over all rounds."""

    runs: list[Cost]
    wall_s: float
    """The medians."""
    cpu_s: float
    peak_rss_mb: float
    lines_per_s: float


def summarise_runs(runs: Sequence[Cost], lines: int) -> EngineCosts:
    """The medians of the runs over a file of so many lines."""
    wall = median(cost.wall_s for cost in runs)
    return EngineCosts(
        runs=list(runs),
        wall_s=wall,
        cpu_s=median(cost.cpu_s for cost in runs),
        peak_rss_mb=median(cost.peak_rss_mb for cost in runs),
        lines_per_s=lines / wall,
    )


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
        f"{_compare_runs(engine, engines[PLAIN_LOOP], _wall):.2f}",
        f"{_compare_runs(engine, engines[BY_THE_DOCS], _wall):.2f}",
    )


def ratio_columns() -> tuple[str, ...]:
    """What `ratio_cells` are."""
    return ("CPU x plain loop", "CPU x by the docs")


def ratio_cells(name: str, engines: Mapping[str, EngineCosts]) -> tuple[str, ...]:
    """The CPU time of one of the engines by that of the baselines: steadier than wall time on a shared machine."""
    return tuple(f"{_compare_runs(engines[name], engines[other], _cpu):.2f}" for other in (PLAIN_LOOP, BY_THE_DOCS))


def _compare_runs(one: EngineCosts, other: EngineCosts, cost: Callable[[Cost], float]) -> float:
    """How many times the cost of the other: the median of all rounds, as what disturbs a round disturbs both."""
    return median(cost(run) / cost(beside) for run, beside in zip(one.runs, other.runs, strict=True))


def _wall(run: Cost) -> float:
    return run.wall_s


def _cpu(run: Cost) -> float:
    return run.cpu_s


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
