"""What a stream from Pub/Sub takes as a whole program: a backlog that drains, and a steady rate with its latencies.

A row is visible when its Parquet file has got its name, and the file system notes when that was.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
from google.cloud import pubsub_v1

from benchmarks.measure_process import ProgramFailed

_PROJECT = "local-project"
_MESSAGE_ID = re.compile(rb'"messageId":"([^"]+)"')
_FACTS = ("activities", "identifies", "group_identifies", "aliases")
_POLL_SECONDS = 0.3
_LOG_LINES = 20

_numbers = count(1)

Command = Callable[[str, str], list[str]]
"""Subscription and output folder -> module and arguments of an engine."""


class Drained(msgspec.Struct, frozen=True):
    """How one engine drained a backlog."""

    messages: int
    wall_s: float
    """From the first visible file to the last."""
    whole_s: float
    """From the start of the program to the last row."""
    cpu_s: float
    """User and system, start included."""


class Latencies(msgspec.Struct, frozen=True):
    """From publish to visible row, at a steady rate."""

    messages: int
    rate: int
    p50_s: float
    p99_s: float
    cpu_s: float
    """User and system while messages came."""


class Program:
    """An engine that reads a subscription of its own."""

    def __init__(self, command: Command, output: Path, patience_seconds: float) -> None:
        number = next(_numbers)
        self.topic = f"projects/{_PROJECT}/topics/calls-{number}"
        self.subscription = f"projects/{_PROJECT}/subscriptions/calls-{number}"
        with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
            publisher.create_topic(name=self.topic)
            subscriber.create_subscription(name=self.subscription, topic=self.topic, ack_deadline_seconds=60)
        self.output = output
        self._command = [sys.executable, "-m", *command(self.subscription, str(output))]
        self._patience_seconds = patience_seconds
        self._log = output.with_suffix(".log")
        self._counted: dict[Path, int] = {}
        self.started = 0.0

    @contextmanager
    def run(self) -> Iterator[None]:
        """While it runs."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self.started = time.time()
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
            try:
                yield
            finally:
                self._process.kill()
                self._process.wait()

    def publish(self, lines: Sequence[bytes], rate: int | None = None) -> dict[str, float]:
        """Publish calls, `rate` a second or as fast as can be; messageId -> when it was published first."""
        published: dict[str, float] = {}
        started = time.time()
        with pubsub_v1.PublisherClient() as publisher:
            futures = []
            for number, line in enumerate(lines):
                if rate is not None and (ahead := started + number / rate - time.time()) > 0:
                    time.sleep(ahead)
                found = _MESSAGE_ID.search(line)
                if found is not None:
                    published.setdefault(found[1].decode(), time.time())
                futures.append(publisher.publish(self.topic, line))
            for future in futures:
                future.result(timeout=60)
        return published

    def wait_for(self, messages: int) -> None:
        """Until so many are accounted for in `counts`. Raises `ProgramFailed`."""
        give_up = time.monotonic() + self._patience_seconds
        while self._count() < messages:
            if self._process.poll() is not None or time.monotonic() > give_up:
                words = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
                reason = f"{' '.join(self._command)} has accounted for {self._count():,} of {messages:,} messages:"
                raise ProgramFailed("\n".join([reason, *words]))
            time.sleep(_POLL_SECONDS)

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self) -> list[Path]:
        """What is visible of all tables."""
        return [path for path in self.output.glob("*/*.parquet") if not path.name.startswith(".")]

    def _count(self) -> int:
        for path in self.output.glob("counts/*.parquet"):
            if path not in self._counted and not path.name.startswith("."):
                self._counted[path] = sum(pq.read_table(path, columns=["count"])["count"].to_pylist())
        return sum(self._counted.values())


def drain_backlog(program: Program, lines: Sequence[bytes]) -> Drained:
    """Publish, then start the program and wait until all has come out."""
    program.publish(lines)
    with program.run():
        program.wait_for(len(lines))
        cpu = program.cpu_seconds()
    visible = [path.stat().st_ctime for path in program.files()]
    return Drained(len(lines), max(visible) - min(visible), max(visible) - program.started, cpu)


def measure_latencies(program: Program, lines: Sequence[bytes], rate: int) -> Latencies:
    """Start the program, let it settle with the first call, then publish the others at a steady rate."""
    first, others = lines[:1], lines[1:]
    with program.run():
        program.publish(first)
        program.wait_for(1)
        cpu = program.cpu_seconds()
        published = program.publish(others, rate)
        program.wait_for(len(lines))
        cpu = program.cpu_seconds() - cpu
    waited = sorted(at - published[message_id] for message_id, at in _visible(program) if message_id in published)
    return Latencies(len(others), rate, _share(waited, 0.5), _share(waited, 0.99), cpu)


def _visible(program: Program) -> Iterator[tuple[str, float]]:
    for path in program.files():
        if path.parent.name in _FACTS:
            at = path.stat().st_ctime
            for message_id in pq.read_table(path, columns=["message_id"])["message_id"].to_pylist():
                yield message_id, at


def _share(values: Sequence[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]
