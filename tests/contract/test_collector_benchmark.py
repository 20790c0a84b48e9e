"""The benchmark of collectors: what is lost or too much is found, and what an outage of Pub/Sub looks like."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from benchmarks import measure_collector
from benchmarks.count_published import Found, compare_calls
from benchmarks.load_http import MESSAGE_ID, NO_ANSWER, Load, make_request
from benchmarks.relay_pubsub import Relay
from benchmarks.report_collectors import Run, find_baseline

RUN = Run(100.0, 1.0, 2.0, 0.1, {"200": 9}, 10.0, 0.1, 50.0, 60.0, Found(0, 0, 0, 0), [])


def test_calls_have_their_requests_number_and_their_position() -> None:
    request = make_request("/v1/batch", "key", calls=2)

    assert MESSAGE_ID.findall(request) == [(b"000000000000", b"0000"), (b"000000000000", b"0001")]
    assert int(request.partition(b"Content-Length: ")[2].partition(b"\r")[0]) == len(request.partition(b"\r\n\r\n")[2])


def test_calls_that_are_lost_or_too_many_are_found() -> None:
    loads = [Load(numbers=[0, 1, 2], statuses=[200, 503, NO_ANSWER])]
    all_there = Counter({(0, 0): 1, (0, 1): 1})

    assert compare_calls(all_there, loads, calls=2) == Found(0, 0, 0, 0)
    assert compare_calls(Counter({(0, 0): 1}), loads, calls=2) == Found(1, 0, 0, 0)
    assert compare_calls(all_there + Counter({(0, 1): 2}), loads, calls=2) == Found(0, 2, 0, 0)
    assert compare_calls(all_there + Counter({(7, 0): 1, (-1, 0): 1}), loads, calls=2) == Found(0, 0, 2, 0)
    assert compare_calls(all_there + Counter({(1, 0): 1, (2, 0): 1}), loads, calls=2) == Found(0, 0, 0, 2)


@pytest.mark.parametrize(
    ("flags", "changed", "fault"),
    [
        ([], {"found": Found(1, 0, 0, 0)}, "1 are lost"),
        ([], {"found": Found(0, 1, 0, 0)}, "1 there again"),
        ([], {"statuses": {"200": 9, "503": 1}}, "503: 1"),
        (["--burst", "9"], {"statuses": {"200": 9, "500": 1}}, "500: 1"),
        (["--burst", "9"], {"statuses": {"no answer": 1}}, "no answer: 1"),
        (["--burst", "9", "--most_mb", "50"], {}, "60 MB"),
    ],
)
def test_what_a_server_should_not_have_done_is_told(flags: list[str], changed: dict[str, object], fault: str) -> None:
    arguments = measure_collector.build_parser().parse_args(flags)

    [told] = measure_collector.find_faults("it", msgspec.structs.replace(RUN, **changed), arguments)

    assert fault in told


def test_in_a_burst_calls_may_be_told_to_come_later() -> None:
    arguments = measure_collector.build_parser().parse_args(["--burst", "9"])
    run = msgspec.structs.replace(RUN, statuses={"200": 1, "429": 1, "503": 1}, found=Found(0, 0, 0, 1))

    assert measure_collector.find_faults("it", run, arguments) == []


def test_the_faster_of_the_two_by_the_docs_is_the_baseline() -> None:
    slower = msgspec.structs.replace(RUN, requests_per_s=50.0)

    assert find_baseline({"collector": [RUN], "blocking": [slower], "waiting": [RUN]}) == "waiting"
    assert find_baseline({"collector": [RUN], "blocking": [slower]}) == "blocking"
    assert find_baseline({"collector": [RUN]}) is None


@contextmanager
def echo() -> Iterator[str]:
    """A server that gives each connection back what it says."""

    def answer() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=give_back, args=(connection,), daemon=True).start()

    def give_back(connection: socket.socket) -> None:
        with connection:
            while said := connection.recv(100):
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def connect(host: str) -> socket.socket:
    name, _, port = host.rpartition(":")
    return socket.create_connection((name, int(port)), timeout=5)


def test_a_relay_passes_on_what_is_said() -> None:
    with echo() as host, Relay(host) as relay, connect(relay.host) as connection:
        connection.sendall(b"hello")

        assert connection.recv(100) == b"hello"


def test_a_relay_that_refuses_ends_connections_until_it_is_opened() -> None:
    with echo() as host, Relay(host) as relay:
        with connect(relay.host) as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            relay.refuse()
            assert connection.recv(100) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(relay.host)
        relay.open()
        with connect(relay.host) as connection:
            connection.sendall(b"again")
            assert connection.recv(100) == b"again"


def test_a_silent_relay_keeps_what_is_said_until_it_is_opened() -> None:
    with echo() as host, Relay(host) as relay, connect(relay.host) as connection:
        relay.fall_silent()
        connection.sendall(b"hello")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        relay.open()
        connection.settimeout(5)
        assert connection.recv(100) == b"hello"


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 20])
def test_servers_by_the_docs_lose_nothing(tmp_path: Path, calls: int) -> None:
    report = tmp_path / "runs.json"
    load = ["--rounds", "1", "--seconds", "1", "--warm_seconds", "0.5", "--connections", "8", "--calls", str(calls)]

    code = measure_collector.main(["--only", "blocking", "waiting", "--embedded", *load, "--json", str(report)])

    assert code == 0
    for [run] in json.loads(report.read_text()).values():
        assert run["statuses"].keys() == {"200"}
        assert run["found"] == {"lost": 0, "repeated": 0, "foreign": 0, "unanswered": 0}
