"""Collectors as programs: ours, and those by the docs."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import msgspec
from google.cloud import pubsub_v1

from benchmarks.load_http import Load
from benchmarks.measure_process import ProgramFailed

COLLECTOR, BLOCKING, WAITING = "collector", "blocking", "waiting"
SERVERS = (COLLECTOR, BLOCKING, WAITING)

_PROJECT = "local-project"
_DATASET = f"{_PROJECT}.segment"
_START_SECONDS = 60.0
_LOG_LINES = 20
# As long as one of ours.
_KEY = f"docs_{'k' * 12}_{'s' * 43}"

_numbers = count(1)


class Door(msgspec.Struct, frozen=True):
    """How a server is started: a command for a topic and a port, its environment, and a key that it takes."""

    command: Callable[[str, int], list[str]]
    environment: Mapping[str, str]
    key: str


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
                words = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
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
        words = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        raise ProgramFailed("\n".join(["the server does not start:", *words]))


def open_doors(names: Sequence[str], stack: ExitStack, folder: Path) -> dict[str, Door]:
    """How to start these; what ours needs is started until the stack ends."""
    doors = {}
    for name in names:
        if name == COLLECTOR:
            doors[name] = _open_collector(stack, folder)
        else:
            doors[name] = Door(partial(_run_docs, f"benchmarks.collector_by_the_docs:{name}"), {"API_KEY": _KEY}, _KEY)
    return doors


def _run_docs(app: str, _topic: str, port: int) -> list[str]:
    return ["uvicorn", app, "--port", str(port), "--no-access-log"]


def _open_collector(stack: ExitStack, folder: Path) -> Door:
    """A BigQuery with one connection, whose key it is."""
    from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
    from schemas.connections import ConnectionKind
    from scripts.bigquery_emulator import start_bigquery
    from scripts.create_tables import create_tables
    from services.connection_store import ConnectionStore
    from services.manage_connections import MAX_CALLS_PER_SECOND, create_connection

    bigquery = stack.enter_context(start_bigquery())
    os.environ[BIGQUERY_EMULATOR_HOST] = bigquery
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
        {BIGQUERY_EMULATOR_HOST: bigquery},
        key,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
