"""Bounded and streaming runs over the same calls give the same tables."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from scripts.simulate_calls import simulate_calls
from tests.pipeline.stories import Told, read_lines, tell
from transforms.logic.read_timestamps import read_timestamp

FACTS = ("activities", "identifies", "group_identifies", "audience_memberships")


def received_at(payload: bytes) -> float:
    """When a simulated call was received; what is no call arrives at the end."""
    try:
        call = json.loads(payload)
        return (read_timestamp(call["receivedAt"]) or 0) / 1e6
    except (ValueError, TypeError, KeyError):
        return datetime(2026, 1, 2, tzinfo=UTC).timestamp()


def stream(payloads: list[bytes], waves: int) -> TestStream:
    """The payloads in the order of receipt, published when they were received, in some waves of the watermark."""
    arrivals = sorted(((received_at(payload), payload) for payload in payloads), key=lambda arrival: arrival[0])
    story: TestStream = TestStream().advance_watermark_to(0)
    size = len(arrivals) // waves + 1
    for start in range(0, len(arrivals), size):
        wave = arrivals[start : start + size]
        story = story.add_elements([TimestampedValue(PubsubMessage(payload, {}), at) for at, payload in wave])
        story = story.advance_watermark_to(wave[-1][0])
    story.advance_watermark_to_infinity()  # adds to the story itself
    return story


def comparable(told: Told, table: str) -> list[str]:
    """The rows of a table with today's person, as the views show them, in an order that says nothing."""
    persons = told.identities()

    def today(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"person_id": persons.get((str(row.get("identifier_type")), str(row.get("identifier"))))}

    return sorted(json.dumps(today(row), sort_keys=True) for row in told.table(table))


@pytest.mark.slow
def test_bounded_and_streaming_runs_give_the_same_tables() -> None:
    simulated = simulate_calls(600, 11, datetime(2026, 1, 1, tzinfo=UTC))

    bounded = read_lines(simulated.payloads)
    streamed = tell(stream(simulated.payloads, waves=5))

    assert bounded.identities() == streamed.identities()
    assert len(set(bounded.identities().values())) == len(simulated.user_ids)
    for table in FACTS:
        assert comparable(bounded, table) == comparable(streamed, table), table
    assert bounded.counts == streamed.counts
    assert sum(bounded.counts.values()) == len(simulated.payloads)


@pytest.mark.slow
def test_a_stream_that_closes_one_window_knows_as_much_as_bounded_input() -> None:
    simulated = simulate_calls(200, 12, datetime(2026, 1, 1, tzinfo=UTC))
    arrivals = [TimestampedValue(PubsubMessage(payload, {}), 1) for payload in simulated.payloads]

    bounded = read_lines(simulated.payloads)
    streamed = tell(TestStream().add_elements(arrivals).advance_watermark_to_infinity())

    assert bounded.persons() == streamed.persons()
