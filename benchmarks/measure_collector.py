"""What a collector takes: requests a second, latencies, memory, and whether each answered call is in Pub/Sub.

Beside ours stands one by the docs (`collector_by_the_docs.py`), in two forms; the faster of them is the baseline. Each
runs as one process of its own, in turns, round after round, on an emulator of Pub/Sub; a third process sends calls over
keep-alive connections, one request at a time on each. Afterwards Pub/Sub is emptied: a call that was answered with 200
and is not there is lost, one that was not sent, or is there twice, is too many; either makes all figures worthless.

  --calls 100   sends batches instead of single calls
  --down HOW    takes Pub/Sub away for the middle third of the time: it refuses connections, or is silent. Every answer
                is 200, or 503 (429) in time; afterwards it is 200 again, and what was answered with 200 is there
  --burst N     opens N connections at once, each with a few requests: all are answered, with 200 or 503 (429)

With these two, what waits or is refused must not pile up in memory: --most_mb is the limit. A connection waits for its
answer before it sends more, so it takes thousands of --connections, or large batches, to try that.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.count_published import compare_calls, pull_everything
from benchmarks.load_http import OK, Load
from benchmarks.measure_process import ProgramFailed
from benchmarks.relay_pubsub import Relay
from benchmarks.report_collectors import COLUMNS, PHASE_COLUMNS, Phase, Run, count_statuses, make_row, show_statuses
from benchmarks.report_costs import make_markdown, make_table
from benchmarks.run_collectors import SERVERS, Door, Running, open_doors
from benchmarks.run_rounds import positive, working_folder
from benchmarks.watch_memory import WatchedMemory, sum_memory
from scripts.start_pubsub import start_pubsub

# What says "later": the libraries of Segment send it again.
_LATER = (429, 503)
# By then no more is sent, and what is sent is waited for.
_BURST_SECONDS = 60
_BURST_REQUESTS = 3


def measure_server(arguments: argparse.Namespace, door: Door, pubsub_host: str, folder: Path) -> Run:
    """Start it, let it warm up, send the load, count. Raises `ProgramFailed`."""
    with ExitStack() as stack:
        relay = stack.enter_context(Relay(pubsub_host)) if arguments.down else None
        running = stack.enter_context(Running(door, relay.host if relay else pubsub_host, folder))
        loads: list[Load] = []
        connections = str(arguments.connections)
        with running.send(
            arguments.calls, "--connections", connections, "--seconds", str(arguments.warm_seconds)
        ) as load:
            loads.append(load)
        cpu, start = running.cpu_seconds(), sum_memory(running.process.pid)
        changes: list[float] = []
        flags = ["--connections", connections, "--seconds", str(arguments.seconds)]
        if arguments.burst:
            flags = ["--connections", str(arguments.burst), "--seconds", str(_BURST_SECONDS)]
            flags += ["--requests_each", str(_BURST_REQUESTS)]
        with WatchedMemory(running.process.pid) as memory, running.send(arguments.calls, *flags) as load:
            loads.append(load)
            if relay:
                changes = _take_away(relay, arguments.down, arguments.seconds)
        cpu = running.cpu_seconds() - cpu
    measured = loads[-1]
    took = sorted(measured.took_s)
    span = max(at + took for at, took in zip(measured.sent_at, measured.took_s, strict=True)) - min(measured.sent_at)
    return Run(
        requests_per_s=measured.statuses.count(OK) / span,
        p50_ms=_share(took, 0.5) * 1e3,
        p99_ms=_share(took, 0.99) * 1e3,
        slowest_s=took[-1],
        statuses=count_statuses(measured.statuses),
        server_cpu_us=cpu / len(took) * 1e6,
        load_cpu_share=measured.cpu_s / span,
        start_mb=start / 1e6,
        peak_mb=memory.peak_bytes / 1e6,
        found=compare_calls(pull_everything(running.subscription), loads, arguments.calls),
        phases=_split_phases(measured, changes),
    )


def _take_away(relay: Relay, how: str, seconds: float) -> list[float]:
    """The middle third of the time without Pub/Sub; when it was taken away, and when given back."""
    changes = []
    for step in (relay.refuse if how == "refuses" else relay.fall_silent, relay.open):
        time.sleep(seconds / 3)
        step()
        changes.append(time.monotonic())
    return changes


def _split_phases(load: Load, changes: Sequence[float]) -> list[Phase]:
    if not changes:
        return []
    statuses: list[list[int]] = [[] for _ in range(len(changes) + 1)]
    slowest = [0.0] * len(statuses)
    for status, sent_at, took in zip(load.statuses, load.sent_at, load.took_s, strict=True):
        phase = sum(sent_at >= change for change in changes)
        statuses[phase].append(status)
        slowest[phase] = max(slowest[phase], took)
    return [Phase(count_statuses(each), most) for each, most in zip(statuses, slowest, strict=True)]


def find_faults(name: str, run: Run, arguments: argparse.Namespace) -> list[str]:
    """Why the figures of a run are worth nothing, or what the server should not have done."""
    faults = []
    # What was under way when Pub/Sub went away is published again: nobody knows whether it had arrived.
    repeated = 0 if arguments.down else run.found.repeated
    if run.found.lost or repeated or run.found.foreign:
        faults.append(
            f"{name}: of the calls {run.found.lost:,} are lost, {repeated:,} there again, "
            f"{run.found.foreign:,} were never sent"
        )
    may_refuse = bool(arguments.down or arguments.burst)
    allowed = {str(status) for status in (OK, *(_LATER if may_refuse else ()))}
    if others := {status: number for status, number in run.statuses.items() if status not in allowed}:
        faults.append(f"{name}: answers {show_statuses(others)}")
    if may_refuse and run.peak_mb > arguments.most_mb:
        faults.append(f"{name}: {run.peak_mb:,.0f} MB, more than {arguments.most_mb:,}")
    if arguments.down and run.slowest_s > arguments.deadline_seconds:
        faults.append(f"{name}: an answer took {run.slowest_s:.1f} s")
    if arguments.down and not run.phases[-1].statuses.get(str(OK)):
        faults.append(f"{name}: it does not come back")
    return faults


def _share(values: Sequence[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measure_collector",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look, in half a minute:
    python -m benchmarks.measure_collector --rounds 1 --seconds 3

  the collector alone while Pub/Sub hangs:
    python -m benchmarks.measure_collector --only collector --down hangs --connections 5000 --seconds 30 --rounds 1

The exit code is 0 if all is as it should be, 1 if not or if a program fails, 2 for a wrong flag.""",
    )
    parser.add_argument(
        "--only", nargs="+", choices=SERVERS, default=SERVERS, metavar="NAME", help=f"of {', '.join(SERVERS)}"
    )
    parser.add_argument("--rounds", type=positive, default=5, help="Default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, a server and round. Default: %(default)s")
    parser.add_argument("--warm_seconds", type=float, default=2.0, help="of load before. Default: %(default)s")
    parser.add_argument("--connections", type=positive, default=256, help="Default: %(default)s")
    parser.add_argument("--calls", type=positive, default=1, help="a request; from 2 on, a batch. Default: %(default)s")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--down", choices=("refuses", "hangs"), help="take Pub/Sub away for a third of the time")
    mode.add_argument("--burst", type=positive, metavar="N", help="connections at once")
    parser.add_argument(
        "--deadline_seconds", type=float, default=10.0, help="of an answer, with --down. Default: %(default)s"
    )
    parser.add_argument(
        "--most_mb", type=positive, default=400, help="of memory, with --down and --burst. Default: %(default)s"
    )
    parser.add_argument(
        "--embedded", action="store_true", help="the embedded Pub/Sub, also where Google's is installed"
    )
    parser.add_argument("--markdown", action="store_true", help="print a table for a page instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all runs, for programs")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the servers' logs there")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    chosen = build_parser().parse_args(arguments)
    progress = Console(stderr=True)
    runs: dict[str, list[Run]] = {name: [] for name in chosen.only}
    faults: list[str] = []
    try:
        with ExitStack() as stack:
            folder = stack.enter_context(working_folder(chosen.output, "measure-collector-"))
            pubsub = stack.enter_context(start_pubsub(prefer_google=not chosen.embedded))
            os.environ["PUBSUB_EMULATOR_HOST"] = pubsub.host
            doors = open_doors(chosen.only, stack, folder)
            for number in range(1, chosen.rounds + 1):
                for name, door in doors.items():
                    about = f"round {number} of {chosen.rounds}: {name}"
                    with progress.status(about):
                        run = measure_server(chosen, door, pubsub.host, folder)
                    progress.print(f"{about} {run.requests_per_s:,.0f} requests/s, {run.peak_mb:,.0f} MB")
                    runs[name].append(run)
                    faults += find_faults(name, run, chosen)
    except ProgramFailed as failure:
        progress.print(str(failure), markup=False)
        return 1
    columns = (*COLUMNS, *(PHASE_COLUMNS if chosen.down else ()))
    rows = [make_row(name, runs, chosen.calls) for name in runs]
    title = f"{chosen.connections} connections, {pubsub.kind}" if not chosen.burst else f"a burst, {pubsub.kind}"
    if chosen.json:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(runs)))
    if chosen.markdown:
        print(make_markdown(title, columns, rows))
    else:
        Console().print(make_table(title, columns, rows))
    for fault in faults:
        progress.print(fault, markup=False)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
