"""What measure_collector has found, for people, for a page and for programs."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

import msgspec

from benchmarks.count_published import Found
from benchmarks.load_http import NO_ANSWER
from benchmarks.run_collectors import BLOCKING, WAITING

COLUMNS = (
    *("requests/s", "calls/s", "requests/s x by the docs", "requests a CPU s x by the docs"),
    *("p50 ms", "p99 ms", "server CPU us a request", "load CPU %", "peak MB", "answers"),
)
PHASE_COLUMNS = ("sent before Pub/Sub was away", "sent while it was away", "sent afterwards")

_STATUS_NAMES = {NO_ANSWER: "no answer"}


class Phase(msgspec.Struct, frozen=True):
    """The requests that were sent in some time."""

    statuses: dict[str, int]
    slowest_s: float


class Run(msgspec.Struct, frozen=True):
    """One server under one load."""

    requests_per_s: float
    """Of those answered with 200."""
    p50_ms: float
    p99_ms: float
    slowest_s: float
    statuses: dict[str, int]
    server_cpu_us: float
    """A request."""
    load_cpu_share: float
    """Of one core: near 1 the load is slower than the server."""
    start_mb: float
    peak_mb: float
    found: Found
    phases: list[Phase]
    """With --down: sent before it, in it, and after it."""


def make_row(name: str, runs: Mapping[str, Sequence[Run]], calls: int) -> tuple[str, ...]:
    """A server's name and columns, where a request has so many calls; with --down also those of the phases."""
    mine = runs[name]
    rates = [run.requests_per_s for run in mine]
    return (
        name,
        f"{median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})",
        f"{median(rates) * calls:,.0f}",
        _compare(mine, runs, lambda run: run.requests_per_s),
        _compare(mine, runs, lambda run: 1 / run.server_cpu_us),
        f"{median(run.p50_ms for run in mine):,.1f}",
        f"{median(run.p99_ms for run in mine):,.1f}",
        f"{median(run.server_cpu_us for run in mine):,.0f}",
        f"{100 * median(run.load_cpu_share for run in mine):.0f}",
        f"{max(run.peak_mb for run in mine):,.0f} (from {min(run.start_mb for run in mine):,.0f})",
        _sum_statuses(run.statuses for run in mine),
        *(_show_phase(phases) for phases in zip(*(run.phases for run in mine), strict=True)),
    )


def find_baseline(runs: Mapping[str, Sequence[Run]]) -> str | None:
    """The faster of the two by the docs."""
    names = [name for name in (BLOCKING, WAITING) if runs.get(name)]
    return max(names, key=lambda name: median(run.requests_per_s for run in runs[name]), default=None)


def count_statuses(statuses: Iterable[int]) -> dict[str, int]:
    """How often each was answered."""
    return {_STATUS_NAMES.get(status, str(status)): number for status, number in sorted(Counter(statuses).items())}


def show_statuses(statuses: Mapping[str, int]) -> str:
    """For people."""
    return ", ".join(f"{status}: {number:,}" for status, number in sorted(statuses.items()))


def _compare(mine: Sequence[Run], runs: Mapping[str, Sequence[Run]], measure: Callable[[Run], float]) -> str:
    """How many times the baseline, round by round: the median."""
    baseline = find_baseline(runs)
    if baseline is None:
        return ""
    return f"{median(measure(run) / measure(beside) for run, beside in zip(mine, runs[baseline], strict=True)):.2f}"


def _show_phase(phases: Sequence[Phase]) -> str:
    slowest = max(phase.slowest_s for phase in phases)
    return f"{_sum_statuses(phase.statuses for phase in phases)}; slowest {slowest:.1f} s"


def _sum_statuses(several: Iterable[Mapping[str, int]]) -> str:
    total: Counter[str] = Counter()
    for statuses in several:
        total.update(statuses)
    return show_statuses(total)
