"""What compare_streams has found, for people, for a page and for programs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.measure_pubsub import Drained, Latencies
from benchmarks.measure_stream_state import StateCost
from benchmarks.report_costs import describe_machine, make_markdown, make_table
from benchmarks.stream_engines import PIPELINE

_STATE_COLUMNS = ("calls", "CPU us a call", "wall us a call", "CPU x the pipeline", "CPU x the size before")
_PUBSUB_COLUMNS = ("backlog", "calls/s", "s", "CPU us a call", "x the pipeline")
_LATENCY_COLUMNS = ("calls/s", "p50 s", "p99 s", "CPU % of one core")


class PubsubCost(msgspec.Struct):
    """One engine on Pub/Sub, round by round."""

    drains: list[Drained]
    starts: list[Drained]
    """A backlog of one call: what it takes to start."""
    latencies: list[Latencies]


class StreamReport(msgspec.Struct):
    """One comparison."""

    measured_on: str
    machine: dict[str, Any]
    rounds: int
    state: dict[str, list[StateCost]]
    pubsub: dict[str, PubsubCost]
    emulator: str | None


def make_stream_report(
    rounds: int, state: dict[str, list[StateCost]], pubsub: dict[str, PubsubCost], emulator: str | None, now: datetime
) -> StreamReport:
    """The report of all runs."""
    return StreamReport(now.astimezone(UTC).date().isoformat(), describe_machine(), rounds, state, pubsub, emulator)


def net_wall(cost: PubsubCost) -> float:
    """Seconds to drain the backlog, without the start."""
    return median(drain.whole_s - start.whole_s for drain, start in zip(cost.drains, cost.starts, strict=True))


def net_cpu(cost: PubsubCost) -> float:
    """CPU seconds to drain the backlog, without the start."""
    return median(drain.cpu_s - start.cpu_s for drain, start in zip(cost.drains, cost.starts, strict=True))


def make_stream_tables(report: StreamReport) -> list[Table]:
    """For a terminal: an engine a column."""
    return [make_table(title, columns, rows) for title, columns, rows in _parts(report)]


def make_stream_markdown(report: StreamReport) -> str:
    """For docs/performance.md."""
    return "\n\n".join(
        make_markdown(f"{title}, {report.measured_on}", columns, rows) for title, columns, rows in _parts(report)
    )


def _parts(report: StreamReport) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    parts: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = []
    if report.state:
        parts.append(("the steps that remember", _STATE_COLUMNS, _state_rows(report.state)))
    if report.pubsub:
        parts.append((f"a backlog, {report.emulator}", _PUBSUB_COLUMNS, _drain_rows(report.pubsub)))
    if any(cost.latencies for cost in report.pubsub.values()):
        parts.append((f"a steady rate, {report.emulator}", _LATENCY_COLUMNS, _latency_rows(report.pubsub)))
    return parts


def _state_rows(state: Mapping[str, Sequence[StateCost]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    ours = {cost.calls: cost.cpu_us for cost in state[PIPELINE]}
    for name, costs in state.items():
        before: float | None = None
        for cost in costs:
            ratio = f"{cost.cpu_us / ours[cost.calls]:.1f}" if cost.calls in ours else ""
            growth = "" if before is None else f"{cost.cpu_us / before:.2f}"
            rows.append((name, f"{cost.calls:,}", f"{cost.cpu_us:,.0f}", f"{cost.wall_us:,.0f}", ratio, growth))
            before = cost.cpu_us
    return rows


def _drain_rows(pubsub: Mapping[str, PubsubCost]) -> list[tuple[str, ...]]:
    ours = net_wall(pubsub[PIPELINE])
    rows: list[tuple[str, ...]] = []
    for name, cost in pubsub.items():
        messages, wall = cost.drains[0].messages, net_wall(cost)
        cpu = f"{net_cpu(cost) / messages * 1e6:,.0f}"
        rows.append((name, f"{messages:,}", f"{messages / wall:,.0f}", f"{wall:.1f}", cpu, f"{wall / ours:.1f}"))
    return rows


def _latency_rows(pubsub: Mapping[str, PubsubCost]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, cost in pubsub.items():
        for rate in sorted({each.rate for each in cost.latencies}):
            of_rate = [each for each in cost.latencies if each.rate == rate]
            p50, p99 = median(each.p50_s for each in of_rate), median(each.p99_s for each in of_rate)
            busy = median(each.cpu_s / (each.messages / each.rate) for each in of_rate)
            rows.append((name, f"{rate:,}", f"{p50:.2f}", f"{p99:.2f}", f"{100 * busy:.0f}"))
    return rows
