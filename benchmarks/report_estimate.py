"""The tables of an estimate: what calls move and take, and what a billion of them cost."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from benchmarks.count_state import StateUse
from benchmarks.measure_calls import BETWEEN, CpuTime, Flow
from benchmarks.price_calls import Bill, CallCosts
from benchmarks.weigh_rows import RowBytes
from benchmarks.weigh_shuffles import Weight

FILES = "files"


class ModeCosts(msgspec.Struct):
    """One way to run: files, or a stream in blocks of one size."""

    name: str
    is_stream: bool
    flow: Flow
    """Of a stream that is written by streaming inserts, so that its rows are seen."""
    cpu: CpuTime
    """Of a stream up to where its rows are handed to Java."""
    costs: CallCosts
    bill: Bill
    """Files: load jobs. A stream: the Storage Write API."""


class Table(msgspec.Struct):
    """Rows begin with their name."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


_GROUPS: dict[str, Callable[[str], bool]] = {
    "to read in parallel": lambda step: step.startswith("ReadFiles"),
    "DedupeCalls": lambda step: step.startswith("DedupeCalls"),
    "ResolveIdentities: the graph": lambda step: "GrowGraph" in step or step.endswith("GroupLinks"),
    "ResolveIdentities: calls go home, GatherHome": lambda step: step.endswith("GatherHome"),
    "ResolveIdentities: and to state, ResolveAtHome": lambda step: step.endswith("ResolveAtHome"),
    "counts, before they are added up": lambda step: step.startswith("CountOutcomes"),
    "Parquet's and update files' names": lambda step: "CommitFiles" in step,
}


def is_of_sink(step: str) -> bool:
    """Whether a shuffle is one of Beam's sinks for streaming inserts."""
    return "_StreamToBigQuery" in step


def total_bytes(shuffles: Iterable[Weight]) -> int:
    """Of several shuffles."""
    return sum(weight.bytes for weight in shuffles)


def tabulate_flow(modes: Sequence[ModeCosts], calls: int) -> Table:
    """Bytes, elements and requests a call."""
    rows = []
    for name, holds in _GROUPS.items():
        sums = [total_bytes(weight for step, weight in mode.flow.shuffles.items() if holds(step)) for mode in modes]
        if max(sums) / calls >= 0.05:
            rows.append((name, *(f"{each / calls:,.1f}" for each in sums)))
    rows.append(("**shuffled, bytes**", *(f"**{mode.costs.shuffled:,.0f}**" for mode in modes)))
    rows.append(("elements shuffled", *(f"{_elements(mode) / calls:.3f}" for mode in modes)))
    for name in ("reads", "writes", "appends", "timers"):
        asked = [sum(getattr(use, name) for use in mode.flow.states.values()) for mode in modes]
        rows.append((f"state: {name}", *(f"{each / calls:.3f}" for each in asked)))
    for name in ("bytes_read", "bytes_written"):
        moved = [sum(getattr(use, name) for use in mode.flow.states.values()) for mode in modes]
        rows.append((f"state: {name.replace('_', ' ')}", *(f"{each / calls:,.0f}" for each in moved)))
    sink = [f"{mode.costs.sink_shuffled:,.0f}" if mode.is_stream else "-" for mode in modes]
    rows.append(("streaming inserts: rows are shuffled, bytes", *sink))
    return Table("a call", _names(modes), rows)


def _elements(mode: ModeCosts) -> int:
    return sum(weight.elements for step, weight in mode.flow.shuffles.items() if not is_of_sink(step))


def tabulate_states(mode: ModeCosts) -> Table:
    """What each stateful step asks for each element that it is given."""
    by_step: dict[str, list[StateUse]] = {}
    for name, use in mode.flow.states.items():
        by_step.setdefault(name.split()[0], []).append(use)
    rows = []
    for step, uses in by_step.items():
        elements = mode.flow.shuffles[step].elements
        asked = (sum(getattr(use, name) for use in uses) for name in ("reads", "writes", "appends", "timers"))
        written = sum(use.bytes_written for use in uses)
        rows.append(
            (step, f"{elements:,}", *(f"{each / elements:.2f}" for each in asked), f"{written / elements:,.0f}")
        )
    return Table(
        f"{mode.name}, an element", ("elements", "reads", "writes", "appends", "timers", "bytes written"), rows
    )


def tabulate_rows(weights: dict[str, RowBytes], calls: int) -> Table:
    """What goes to BigQuery a call."""
    names = ("rows", "json", "proto", "logical", "billed_inserts")
    rows = []
    for table, weight in sorted(weights.items(), key=lambda each: -each[1].logical):
        counted = (getattr(weight, name) / calls for name in names)
        rows.append((table, f"{next(counted):.3f}", *(f"{each:,.1f}" for each in counted)))
    sums = [sum(getattr(weight, name) for weight in weights.values()) / calls for name in names]
    rows.append(("**all**", f"**{sums[0]:.3f}**", *(f"**{each:,.0f}**" for each in sums[1:])))
    columns = ("rows", "JSON bytes", "proto bytes", "stored bytes", "billed by streaming inserts")
    return Table("a call", columns, rows)


def tabulate_cpu(timed: dict[str, CpuTime]) -> Table:
    """CPU microseconds a call, by step."""
    steps = sorted(
        {step for cpu in timed.values() for step, us in cpu.by_step.items() if us >= 0.5},
        key=lambda step: (step == BETWEEN, -max(cpu.by_step.get(step, 0.0) for cpu in timed.values())),
    )
    rows = [(step, *(_us(cpu.by_step.get(step, 0.0)) for cpu in timed.values())) for step in steps]
    rows.append(("**all**", *(f"**{cpu.total:,.0f}**" for cpu in timed.values())))
    return Table("CPU us a call", tuple(timed), rows)


def _us(us: float) -> str:
    return f"{us:,.1f}" if us else "-"


def tabulate_bills(bills: dict[str, Bill]) -> Table:
    """What a billion calls cost."""
    rows = [
        ("vCPU-hours", *(f"{bill.vcpu_hours:,.0f}" for bill in bills.values())),
        ("calls/s a vCPU", *(f"{bill.calls_a_vcpu_second:,.0f}" for bill in bills.values())),
        ("workers, $", *(f"{bill.workers:,.0f}" for bill in bills.values())),
        ("Streaming Engine or Shuffle, $", *(f"{bill.service:,.0f}" for bill in bills.values())),
        ("Pub/Sub, in and out, $", *(f"{bill.pubsub:,.0f}" for bill in bills.values())),
        ("into BigQuery, $", *(f"{bill.ingestion:,.0f}" for bill in bills.values())),
        ("stored for a month, $", *(f"{bill.storage_a_month:,.0f}" for bill in bills.values())),
        ("**all, $**", *(f"**{bill.total:,.0f}**" for bill in bills.values())),
    ]
    return Table("a billion calls", tuple(bills), rows)


def _names(modes: Sequence[ModeCosts]) -> tuple[str, ...]:
    return tuple(mode.name for mode in modes)
