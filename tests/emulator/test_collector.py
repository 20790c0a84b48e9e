"""The collector and scripts/connections as programs: what was answered with 200 is in Pub/Sub, whatever happens."""

import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.cloud import bigquery
from google.pubsub_v1 import types
from segment.analytics.client import Client

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from schemas.connections import ConnectionKind
from scripts.bigquery_emulator import start_bigquery
from scripts.connections import main as run_connections
from scripts.create_tables import create_tables
from scripts.free_ports import find_free_ports
from services.connection_store import ConnectionStore
from services.manage_connections import create_connection
from tests.emulator.conftest import PROJECT
from tests.emulator.programs import PATIENCE_SECONDS, last_words, start_program
from tests.factories import sent

pytestmark = pytest.mark.slow

CALLS, LOGS = f"projects/{PROJECT}/topics/calls", f"projects/{PROJECT}/topics/logs"
SENDERS = 8
OUTAGE_SECONDS = 3


class Ledger:
    """A Pub/Sub that writes down what it has taken before it says so, and keeps that while it is down."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[Any] = []
        self.delay_seconds = 0.0

    @contextmanager
    def up(self) -> Iterator[None]:
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
        server = grpc.server(ThreadPoolExecutor(16), options=options)
        handlers = {
            "Publish": grpc.unary_unary_rpc_method_handler(
                self._publish, types.PublishRequest.pb().FromString, types.PublishResponse.pb().SerializeToString
            )
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", handlers)])
        server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        try:
            yield
        finally:
            server.stop(grace=None).wait()

    def _publish(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.topic not in (CALLS, LOGS):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such topic")
        time.sleep(self.delay_seconds)
        self.messages += request.messages
        return types.PublishResponse.pb()(message_ids=["1"] * len(request.messages))

    def ids(self) -> Counter[str]:
        return Counter(json.loads(message.data)["messageId"] for message in self.messages)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    (port,) = find_free_ports(1)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
    return Ledger(port)


@pytest.fixture
def store(client: bigquery.Client, dataset: str) -> ConnectionStore:
    create_tables(client, dataset)
    return ConnectionStore(client, dataset)


@pytest.fixture
def key(store: ConnectionStore) -> str:
    return make_connection(store)


def make_connection(store: ConnectionStore) -> str:
    kind, now = ConnectionKind.SEGMENT, time.time_ns() // 1000
    _, key = create_connection(store, "Web site", "acme", kind, now, connection_id="web", calls_per_second=1_000_000)
    return key


class Collector:
    """One that runs."""

    def __init__(self, program: subprocess.Popen[str], url: str, key: str) -> None:
        self.program, self.url, self.key = program, url, key

    def send(self, *message_ids: str, key: str | None = None, **fields: object) -> httpx.Response:
        batch = [sent(messageId=message_id, **fields) for message_id in message_ids]
        return httpx.post(
            f"{self.url}/v1/batch", json={"batch": batch}, auth=(key or self.key, ""), timeout=PATIENCE_SECONDS
        )

    def wait_for(self, status: int) -> float:
        """In how many seconds a call, with an id that no test asks for, is answered so."""
        started = time.monotonic()
        while self.send("probe").status_code != status:
            assert time.monotonic() - started < PATIENCE_SECONDS
            time.sleep(0.05)
        return time.monotonic() - started

    def stop(self) -> str:
        """What it has said."""
        self.program.send_signal(signal.SIGTERM)
        said = self.program.communicate(timeout=20)[1]
        assert self.program.returncode == 0, said
        return said


@contextmanager
def start_collector(dataset: str, folder: Path, key: str = "", *flags: str) -> Iterator[Collector]:
    (port,) = find_free_ports(1)
    with start_program(
        *where(dataset, folder), "--port", str(port), *flags, module="services.run_collector"
    ) as program:
        url, give_up = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/ready").is_success:
                    break
            assert program.poll() is None, last_words(program)
            assert time.monotonic() < give_up
            time.sleep(0.05)
        yield Collector(program, url, key)


def where(dataset: str, folder: Path) -> list[str]:
    return ["--calls_topic", CALLS, "--logs_topic", LOGS, "--dataset", dataset, "--secrets", str(folder / "secrets")]


def test_what_was_sent_is_in_pubsub_exactly_once(ledger: Ledger, dataset: str, key: str, tmp_path: Path) -> None:
    with ledger.up(), start_collector(dataset, tmp_path, key) as collector:
        failed: list[object] = []
        sdk = Client(key, host=collector.url, gzip=True, on_error=lambda error, items: failed.append(error))
        for number in range(250):
            sdk.track(f"u{number}", "<b>Order</b>'; DROP TABLE calls; --", message_id=f"sdk-{number}")
        with ThreadPoolExecutor(8) as senders:
            names = [[f"http-{number}-{part}" for part in range(40)] for number in range(25)]
            answers = list(senders.map(lambda batch: collector.send(*batch, userId="ann@example.com"), names))
        sdk.join()
        said = collector.stop()

    assert failed == []
    assert [answer.status_code for answer in answers] == [200] * 25
    assert ledger.ids() == Counter(
        [f"sdk-{number}" for number in range(250)] + [each for some in names for each in some]
    )
    for message in ledger.messages:
        assert dict(message.attributes) == {
            "workspace_id": "acme",
            "connection_id": "web",
            "received_at": message.attributes["received_at"],
        }
    assert json.loads(ledger.messages[0].data)["event"]
    assert not re.search("ann@|sw_", said)


def test_a_revoked_key_is_refused_within_the_refresh_time(
    ledger: Ledger, dataset: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ledger.up(), start_collector(dataset, tmp_path, key, "--refresh_seconds", "0.5") as collector:
        assert collector.send("m1").status_code == 200
        assert run_connections(["rotate", "--dataset", dataset, "web"]) == 0
        new = capsys.readouterr().out.strip()
        assert collector.send("m2").status_code == 200
        assert run_connections(["revoke", "--dataset", dataset, "web", "--key_id", key.split("_")[1]]) == 0

        assert collector.wait_for(401) < 5
        assert collector.send("m3", key=new).status_code == 200


def test_while_pubsub_is_down_nothing_is_lost_and_nobody_waits_long(
    ledger: Ledger, dataset: str, key: str, tmp_path: Path
) -> None:
    answered: dict[str, tuple[int, float]] = {}
    is_over = threading.Event()

    def keep_sending(sender: int) -> None:
        number = 0
        while not is_over.is_set():
            name, started = f"{sender}-{number}", time.monotonic()
            answered[name] = collector.send(name).status_code, time.monotonic() - started
            number += 1

    with (
        start_collector(dataset, tmp_path, key) as collector,
        ThreadPoolExecutor(SENDERS) as senders,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(is_over.set)
        with ledger.up():
            collector.wait_for(200)
            senders.map(keep_sending, range(SENDERS))
            time.sleep(1)
        collector.wait_for(503)
        time.sleep(OUTAGE_SECONDS)
        with ledger.up():
            assert collector.wait_for(200) < 3
            time.sleep(1)
            is_over.set()
            senders.shutdown()
        said = collector.stop()

    statuses = Counter(status for status, _ in answered.values())
    assert set(statuses) == {200, 503}
    assert max(seconds for _, seconds in answered.values()) < 5.5
    lost = {name for name, (status, _) in answered.items() if status == 200} - set(ledger.ids())
    assert lost == set()
    assert 1 <= said.count("does not take messages") <= 5
    assert "Traceback" not in said


def test_sigterm_lets_what_is_under_way_be_answered(ledger: Ledger, dataset: str, key: str, tmp_path: Path) -> None:
    ledger.delay_seconds = 1.5
    with ledger.up(), start_collector(dataset, tmp_path, key) as collector, ThreadPoolExecutor(20) as senders:
        answers = [senders.submit(collector.send, f"m{number}") for number in range(20)]
        time.sleep(1.2)  # a busy machine takes a while to connect all of them
        said = collector.stop()

        assert [answer.result().status_code for answer in answers] == [200] * 20
    assert ledger.ids() == Counter(f"m{number}" for number in range(20))
    assert "Traceback" not in said


def test_a_topic_that_is_not_there_is_503_and_one_line(ledger: Ledger, dataset: str, key: str, tmp_path: Path) -> None:
    flags = ["--calls_topic", CALLS + "-deleted"]
    with ledger.up(), start_collector(dataset, tmp_path, key, *flags) as collector:
        assert [collector.send("m1").status_code for _ in range(5)] == [503] * 5
        said = collector.stop()

    assert said.count("NotFound") == 1


def test_when_bigquery_goes_known_keys_stay_good(
    ledger: Ledger, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.up(), start_bigquery() as running:
        monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, running)
        with bigquery_client(PROJECT) as client:
            create_tables(client, dataset)
            key = make_connection(ConnectionStore(client, dataset))
        collectors = start_collector(dataset, tmp_path, key, "--refresh_seconds", "0.2")
        collector = collectors.__enter__()
    try:
        with ledger.up():
            time.sleep(1)
            assert collector.send("m1").status_code == 200
            started = time.monotonic()
            said = collector.stop()
            assert time.monotonic() - started < 5
    finally:
        collectors.__exit__(None, None, None)
    assert "Traceback" not in said


# Mistakes


def run_to_end(*flags: str) -> tuple[int, list[str]]:
    with start_program(*flags, module="services.run_collector") as program:
        said = program.communicate(timeout=PATIENCE_SECONDS)[1]
        return program.returncode, said.splitlines()


def test_mistakes_are_told_in_one_line(store: ConnectionStore, dataset: str, tmp_path: Path) -> None:
    good = where(dataset, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        stories = [
            ([*good, "--port", port], f"cannot listen on 127.0.0.1, port {port}"),
            ([*good, "--port", "70000"], "a port lies between"),
            ([*good, "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
            ([*good, "--dataset", f"{dataset}_missing"], "run scripts/create_tables"),
            ([*good, "--dataset", "none"], "none"),
            ([*good, "--calls_topic", "calls"], "'calls' is not of the form projects/PROJECT/topics/NAME"),
            ([*good, "--refresh_seconds", "0"], "seconds are more than 0"),
            ([*good, "--topic", "x"], "unrecognized arguments: --topic x"),
            (good[2:], "the following arguments are required: --calls_topic"),
        ]
        ended = [run_to_end(*flags) for flags, _ in stories]

    for (_, expected), (code, said) in zip(stories, ended, strict=True):
        assert code == 2, said
        assert len(said) == 1, said
        assert expected in said[0]


def test_without_bigquery_it_does_not_start(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, "http://127.0.0.1:9")

    code, said = run_to_end(*where(dataset, tmp_path))

    assert code == 2
    assert len(said) == 1, said
    assert "connections cannot be read" in said[0]


# scripts/connections

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], dataset: str) -> Run:
    def run_it(command: str, *flags: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = run_connections([command, "--dataset", dataset, *flags])
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_it


def test_keys_are_made_listed_rotated_and_revoked(store: ConnectionStore, run: Run) -> None:
    assert "no connections yet" in run("list")[1]
    code, out, err = run("create", "--workspace_id", "acme", "--name", "Web [bold] site")
    (connection,) = store.load().values()

    assert code == 0
    assert re.fullmatch(r"sw_[0-9a-f]{12}_[\w-]{43}\n", out), "standard output holds the key and nothing else"
    assert connection.connection_id in err
    assert out.strip() not in err

    name = connection.connection_id
    _, rotated, _ = run("rotate", name, "--keep_hours", "0.5")
    _, listed, _ = run("list")
    assert listed.count("valid") == 2
    assert "[bold]" in listed
    assert out.strip() not in listed
    assert rotated.strip() not in listed

    first, second = store.load()[name].keys
    assert first.key_id in run("revoke", name, "--key_id", first.key_id)[1]
    assert second.key_id in run("revoke", name)[1]
    assert "Nothing to revoke" in run("revoke", name)[1]
    assert run("list")[1].count("ended") == 2


def test_a_secret_is_read_from_standard_input_and_not_shown(
    store: ConnectionStore, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_connection(store)
    folder = tmp_path / "secrets"
    with (tmp_path / "typed").open("w+") as typed:
        typed.write("the secret\n")
        typed.seek(0)
        monkeypatch.setattr("sys.stdin", typed)
        code, out, err = run("keep_secret", "web", "--secrets", str(folder))

    assert code == 0
    assert "the secret" not in out + err
    assert (folder / "signing-secret-web").read_text() == "the secret"
    assert store.load()["web"].secret_kept_at is not None


def test_what_cannot_be_done_is_one_line_and_exit_code_2(store: ConnectionStore, run: Run) -> None:
    make_connection(store)
    for words in (
        ("rotate", "nobody"),
        ("revoke", "web", "--key_id", "0" * 12),
        ("create", "--workspace_id", "acme", "--name", "x", "--connection_id", "web"),
        ("create", "--workspace_id", "acme", "--name", "x", "--kind", "sendgrid", "--verification_key", "none"),
        ("list", "--dataset", f"{PROJECT}.missing"),
        ("list", "--dataset", "x"),
    ):
        code, out, err = run(*words)

        assert (code, out) == (2, ""), words
        assert len(err.splitlines()) == 1, err
        assert err.startswith("connections: ")
