"""What a collector takes: requests a second, latencies, memory, and whether each answered call is in Pub/Sub.

Beside ours stands one by the docs (`collector_by_the_docs.py`), in two forms; the faster of them is the baseline. Each
runs as one process of its own, in turns, round after round, on an emulator of Pub/Sub; a third process sends calls over
keep-alive connections, one request at a time on each. Afterwards Pub/Sub is emptied: a call that was answered with 200
and is not there is lost, one that was not sent, or is there twice, is too many, and either makes all figures worthless.

  --calls 100   sends batches instead of single calls
  --down HOW    takes Pub/Sub away for the middle third of the time: it refuses connections, or is silent. Every answer
                is 200, or 503 (429) in time; afterwards it is 200 again, and what was answered with 200 is there
  --burst N     opens N connections at once, each with a few requests: all are answered, with 200 or 503 (429)

With these two, what is refused must not pile up in memory: --most_mb is the limit.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from statistics import median

import msgspec
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1
from rich.console import Console

from benchmarks.load_http import MESSAGE_ID, NO_ANSWER, Load
from benchmarks.measure_process import ProgramFailed
from benchmarks.relay_pubsub import Relay
from benchmarks.report_costs import make_markdown, make_table
from benchmarks.run_rounds import positive, working_folder
from benchmarks.watch_memory import WatchedMemory, sum_memory
from scripts.start_pubsub import start_pubsub

COLLECTOR, BLOCKING, WAITING = "collector", "blocking", "waiting"
SERVERS = (COLLECTOR, BLOCKING, WAITING)

_PROJECT = "local-project"
_DATASET = f"{_PROJECT}.segment"
_START_SECONDS = 60.0
_PULL_SECONDS = 5.0
_OK = 200
# What says "later": the libraries of Segment send it again.
_LATER = (429, 503)
_STATUS_NAMES = {NO_ANSWER: "no answer"}

_numbers = count(1)


class Door(msgspec.Struct, frozen=True):
    """How a server is started: a command for a topic and a port, its environment, and a key that it takes."""

    command: Callable[[str, int], list[str]]
    environment: Mapping[str, str]
    key: str


class Found(msgspec.Struct, frozen=True):
    """How what is in Pub/Sub differs from what was answered, in calls."""

    lost: int
    """Answered with 200 and not there."""
    repeated: int
    foreign: int
    """Never sent."""
    unanswered: int
    """There, though the answer was another: allowed, as it is sent again and de-duplicated."""


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


class Running:
    """A server on a topic of its own, from `__enter__` to `__exit__`."""

    def __init__(self, door: Door, pubsub_host: str, folder: Path) -> None:
        number = next(_numbers)
        self.topic = f"projects/{_PROJECT}/topics/calls-{number}"
        self.subscription = f"projects/{_PROJECT}/subscriptions/calls-{number}"
        with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
            publisher.create_topic(name=self.topic)
            subscriber.create_subscription(name=self.subscription, topic=self.topic, ack_deadline_seconds=600)
        self.port = _free_port()
        self._door = door
        self._environment = {**os.environ, **door.environment, "PUBSUB_EMULATOR_HOST": pubsub_host}
        self._log = folder / f"server-{number}.log"
        self._folder = folder
        self._sent = 0

    def __enter__(self) -> "Running":
        command = [sys.executable, "-m", *self._door.command(self.topic, self.port)]
        environment = {**self._environment, "CALLS_TOPIC": self.topic}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._await_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @contextmanager
    def send(self, calls: int, *flags: str) -> Iterator[Load]:
        """Start to send; what came of it is filled in at the end. Raises `ProgramFailed`."""
        output = self._folder / "load.msgpack"
        path = "/v1/track" if calls == 1 else "/v1/batch"
        about = ["--port", str(self.port), "--key", self._door.key, "--path", path, "--calls", str(calls)]
        command = [sys.executable, "-m", "benchmarks.load_http", *about, "--first", str(self._sent)]
        load = Load()
        process = subprocess.Popen([*command, *flags, "--output", str(output)], stdin=subprocess.DEVNULL)
        try:
            yield load
            if process.wait() or self.process.poll() is not None:
                words = self._log.read_text(errors="replace").splitlines()[-20:]
                raise ProgramFailed("\n".join(["the load or the server has failed:", *words]))
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
        sent = msgspec.msgpack.decode(output.read_bytes(), type=Load)
        for name in Load.__struct_fields__:
            setattr(load, name, getattr(sent, name))
        self._sent += len(load.numbers)

    def cpu_seconds(self) -> float:
        """What the server has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _await_port(self) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        words = self._log.read_text(errors="replace").splitlines()[-20:]
        raise ProgramFailed("\n".join(["the server does not start:", *words]))


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
            flags = ["--connections", str(arguments.burst), "--requests_each", "3", "--seconds", "3600"]
        with WatchedMemory(running.process.pid) as memory, running.send(arguments.calls, *flags) as load:
            loads.append(load)
            if relay:
                changes = _take_away(relay, arguments.down, arguments.seconds)
        cpu = running.cpu_seconds() - cpu
    measured = loads[-1]
    took = sorted(measured.took_s)
    span = max(at + took for at, took in zip(measured.sent_at, measured.took_s, strict=True)) - min(measured.sent_at)
    return Run(
        requests_per_s=measured.statuses.count(_OK) / span,
        p50_ms=_share(took, 0.5) * 1e3,
        p99_ms=_share(took, 0.99) * 1e3,
        slowest_s=took[-1],
        statuses=_count_statuses(measured.statuses),
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
    return [Phase(_count_statuses(each), most) for each, most in zip(statuses, slowest, strict=True)]


def pull_everything(subscription: str) -> Counter[tuple[int, int]]:
    """How often each call is there: by request and position. None is left."""
    found: Counter[tuple[int, int]] = Counter()
    with pubsub_v1.SubscriberClient() as subscriber:
        while True:
            try:
                pulled = subscriber.pull(
                    subscription=subscription, max_messages=1000, timeout=_PULL_SECONDS, retry=None
                ).received_messages
            except DeadlineExceeded:  # how Google's emulator says that there are no more
                return found
            if not pulled:
                return found
            for received in pulled:
                read = MESSAGE_ID.search(received.message.data)
                found[(int(read[1]), int(read[2])) if read else (-1, 0)] += 1
            subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id for received in pulled])


def compare_calls(there: Counter[tuple[int, int]], loads: Sequence[Load], calls: int) -> Found:
    """What is in Pub/Sub beside what was answered."""
    sent = {number: status for load in loads for number, status in zip(load.numbers, load.statuses, strict=True)}
    lost = sum(
        (number, position) not in there for number, status in sent.items() if status == _OK for position in range(calls)
    )
    return Found(
        lost=lost,
        repeated=sum(times - 1 for times in there.values()),
        foreign=sum(number not in sent or position >= calls for number, position in there),
        unanswered=sum(number in sent and sent[number] != _OK for number, _ in there),
    )


def find_faults(name: str, run: Run, arguments: argparse.Namespace) -> list[str]:
    """Why the figures of a run are worth nothing, or what the server should not have done."""
    faults = []
    if run.found.lost or run.found.repeated or run.found.foreign:
        faults.append(
            f"{name}: of the calls {run.found.lost:,} are lost, {run.found.repeated:,} there again, "
            f"{run.found.foreign:,} were never sent"
        )
    may_refuse = bool(arguments.down or arguments.burst)
    allowed = {str(status) for status in (_OK, *(_LATER if may_refuse else ()))}
    if others := {status: number for status, number in run.statuses.items() if status not in allowed}:
        faults.append(f"{name}: answers {_show_statuses(others)}")
    if may_refuse and run.peak_mb > arguments.most_mb:
        faults.append(f"{name}: {run.peak_mb:,.0f} MB, more than {arguments.most_mb:,}")
    if arguments.down and run.slowest_s > arguments.deadline_seconds:
        faults.append(f"{name}: an answer took {run.slowest_s:.1f} s")
    if arguments.down and not run.phases[-1].statuses.get(str(_OK)):
        faults.append(f"{name}: it does not come back")
    return faults


def make_rows(runs: Mapping[str, Sequence[Run]], arguments: argparse.Namespace) -> tuple[list[str], list[list[str]]]:
    """The columns' names, and a row a server that begins with its name."""
    columns = ["requests/s", "calls/s", "p50 ms", "p99 ms", "server CPU us a request", "peak MB", "load CPU %"]
    columns += ["x by the docs", "answers"]
    phases = ("before", "without", "after") if arguments.down else ()
    columns += [f"{phase} Pub/Sub was away" if phase != "without" else "while it was away" for phase in phases]
    baseline = find_baseline(runs)
    rows = []
    for name, of_server in runs.items():
        rates = [run.requests_per_s for run in of_server]
        ratio = ""
        if baseline:
            ratio = (
                f"{median(mine / other.requests_per_s for mine, other in zip(rates, runs[baseline], strict=True)):.2f}"
            )
        statuses: Counter[str] = Counter()
        for run in of_server:
            statuses.update(run.statuses)
        row = [
            name,
            f"{median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})",
            f"{median(rates) * arguments.calls:,.0f}",
            f"{median(run.p50_ms for run in of_server):,.1f}",
            f"{median(run.p99_ms for run in of_server):,.1f}",
            f"{median(run.server_cpu_us for run in of_server):,.0f}",
            f"{max(run.peak_mb for run in of_server):,.0f} (from {min(run.start_mb for run in of_server):,.0f})",
            f"{100 * median(run.load_cpu_share for run in of_server):.0f}",
            ratio,
            _show_statuses(statuses),
        ]
        for position in range(len(phases)):
            of_phase = [run.phases[position] for run in of_server]
            total: Counter[str] = Counter()
            for phase in of_phase:
                total.update(phase.statuses)
            row.append(f"{_show_statuses(total)}; slowest {max(phase.slowest_s for phase in of_phase):.1f} s")
        rows.append(row)
    return columns, rows


def find_baseline(runs: Mapping[str, Sequence[Run]]) -> str | None:
    """The faster of the two by the docs."""
    names = [name for name in (BLOCKING, WAITING) if runs.get(name)]
    return max(names, key=lambda name: median(run.requests_per_s for run in runs[name]), default=None)


def _count_statuses(statuses: Sequence[int]) -> dict[str, int]:
    return {_STATUS_NAMES.get(status, str(status)): number for status, number in sorted(Counter(statuses).items())}


def _show_statuses(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{status}: {number:,}" for status, number in sorted(statuses.items()))


def _share(values: Sequence[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def open_doors(names: Sequence[str], stack: ExitStack, folder: Path) -> dict[str, Door]:
    """How to start these; what ours needs is started until the stack ends."""
    doors = {}
    for name in names:
        if name == COLLECTOR:
            doors[name] = _open_collector(stack, folder)
        else:
            app = f"benchmarks.collector_by_the_docs:{name}"
            key = "a-key-of-as-many-characters-as-one-of-ours-has-which-are-59"
            doors[name] = Door(
                lambda _, port, app=app: ["uvicorn", app, "--port", str(port), "--no-access-log"],  # type: ignore[misc]
                {"API_KEY": key},
                key,
            )
    return doors


def _open_collector(stack: ExitStack, folder: Path) -> Door:
    """A BigQuery with one connection, whose key it is."""
    from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
    from schemas.connections import ConnectionKind
    from scripts.bigquery_emulator import start_bigquery
    from scripts.create_tables import create_tables
    from services.connection_store import ConnectionStore
    from services.manage_connections import MAX_CALLS_PER_SECOND, create_connection

    bigquery = stack.enter_context(start_bigquery())
    os.environ[BIGQUERY_EMULATOR_HOST] = bigquery.host
    client = bigquery_client(_PROJECT)
    create_tables(client, _DATASET)
    _, key = create_connection(
        ConnectionStore(client, _DATASET),
        "Load",
        "default",
        ConnectionKind.SEGMENT,
        time.time_ns() // 1000,
        calls_per_second=MAX_CALLS_PER_SECOND,
    )
    logs_topic = f"projects/{_PROJECT}/topics/email-logs"
    with pubsub_v1.PublisherClient() as publisher:
        publisher.create_topic(name=logs_topic)
    secrets = folder / "secrets"
    about = ["--logs_topic", logs_topic, "--dataset", _DATASET, "--secrets", str(secrets)]
    return Door(
        lambda topic, port: ["services.run_collector", "--calls_topic", topic, *about, "--port", str(port)],
        {BIGQUERY_EMULATOR_HOST: bigquery.host},
        key,
    )


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
    python -m benchmarks.measure_collector --only collector --down hangs --seconds 30 --rounds 1

The exit code is 0 if all is as it should be, 1 if not or if a program fails, 2 for a wrong flag.""",
    )
    parser.add_argument(
        "--only", nargs="+", choices=SERVERS, default=SERVERS, metavar="NAME", help=f"of {', '.join(SERVERS)}"
    )
    parser.add_argument("--rounds", type=positive, default=5, help="Default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load, a server and round. Default: %(default)s")
    parser.add_argument("--warm_seconds", type=float, default=2.0, help="of load before. Default: %(default)s")
    parser.add_argument("--connections", type=positive, default=64, help="Default: %(default)s")
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
    columns, rows = make_rows(runs, chosen)
    title = f"{chosen.connections} connections, {pubsub.kind}" if not chosen.burst else f"a burst, {pubsub.kind}"
    if chosen.json:
        chosen.json.write_text(json.dumps(msgspec.to_builtins(runs), indent=1))
    if chosen.markdown:
        print(make_markdown(title, columns, rows))
    else:
        Console().print(make_table(title, columns, rows))
    for fault in faults:
        progress.print(fault, markup=False)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
