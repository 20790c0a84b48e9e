"""Segment's own libraries against the collector, unchanged: what they send is in Pub/Sub, and the pipeline takes it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.cloud import bigquery

from schemas.calls import SegmentCall
from schemas.connections import ConnectionKind
from schemas.messages import Message
from scripts.create_tables import create_tables
from scripts.start_pubsub import RunningPubsub
from scripts.start_services import start_service
from services.connection_store import ConnectionStore
from services.manage_connections import create_connection
from tests.contract import test_official_sdks as sdks
from tests.emulator.programs import Topic
from transforms.logic.parse_call import parse_call

pytestmark = pytest.mark.slow

# A user of each library, and a time that no clock of a test is beside.
USERS = {"python": "python-user", "node": "node-user", "browser": "web-user"}
MINUTE = 60_000_000


class Collector:
    """One that runs, and what it has published."""

    def __init__(self, url: str, key: str, topic: Topic) -> None:
        self.host = url.removeprefix("http://")
        self.key = key
        self._topic = topic
        self.payloads: list[bytes] = []

    def has_taken(self, count: int) -> bool:
        self.payloads += self._topic.drain()
        return len(self.payloads) >= count

    def calls(self) -> list[SegmentCall]:
        """As the pipeline reads them; Rejected if it would not."""
        now = time.time_ns() // 1000
        return [parse_call(Message(payload, {}, now), now, "default", 32_768) for payload in self.payloads]


@pytest.fixture
def collector(
    client: bigquery.Client, dataset: str, pubsub: RunningPubsub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collector]:
    create_tables(client, dataset)
    _, key = create_connection(
        ConnectionStore(client, dataset), "SDKs", "w1", ConnectionKind.SEGMENT, time.time_ns() // 1000
    )
    monkeypatch.setattr(sdks, "WRITE_KEY", key)
    calls, logs = Topic("calls"), Topic("logs")
    flags = ["--calls_topic", calls.topic, "--logs_topic", logs.topic, "--dataset", dataset]
    with start_service("services.run_collector", [*flags, "--secrets", str(tmp_path)], "/ready") as running:
        yield Collector(running.url, key, calls)


def send_with_a_browser(host: str, collector: Collector, is_batching: bool) -> None:
    others = sdks.send_with_a_browser(host, lambda: collector.has_taken(len(sdks.TYPES)), is_batching)
    assert others == []


SENDERS: dict[str, Callable[[str, Collector], None]] = {
    "python": lambda host, collector: sdks.send_with_python(host),
    "python-plain": lambda host, collector: sdks.send_with_python(host, is_gzip=False),
    "node": lambda host, collector: sdks.send_with_node(host),
    "browser": lambda host, collector: send_with_a_browser(host, collector, is_batching=False),
    "browser-batches": lambda host, collector: send_with_a_browser(host, collector, is_batching=True),
}


@pytest.mark.parametrize("sender", SENDERS)
def test_a_call_of_each_type_arrives_once_and_is_valid(collector: Collector, sender: str) -> None:
    SENDERS[sender](collector.host, collector)

    collector.has_taken(len(sdks.TYPES))
    calls = collector.calls()
    assert sorted(call.type for call in calls) == sorted(sdks.TYPES)
    assert {call.user_id for call in calls} == {USERS[sender.partition("-")[0]]}
    assert len({call.message_id for call in calls}) == len(calls)
    now = time.time_ns() // 1000
    assert all(abs(now - call.timestamp) < MINUTE for call in calls)
    assert not any(collector.key.encode() in payload for payload in collector.payloads)
