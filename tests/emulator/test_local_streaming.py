"""How a local stream reads Pub/Sub: in blocks, up to which time, and when it lets go of a message."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.cloud.pubsub_v1 import SubscriberClient

from pipelines import local_streaming
from pipelines.local_streaming import BACKLOG_LAG_MICROS, LAG_MICROS, LocalSubscription
from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic

WINDOW_SECONDS = 1


@pytest.fixture
def calls(pubsub: RunningPubsub) -> Topic:
    return Topic("calls")


@pytest.fixture
def subscription(calls: Topic) -> Iterator[LocalSubscription]:
    subscription = LocalSubscription(calls.subscription, WINDOW_SECONDS)
    yield subscription
    subscription.close()


def read(subscription: LocalSubscription) -> tuple[list[bytes], list[int]]:
    """Payloads and publish times."""
    messages = [message for _, block in subscription.read() for message in block.messages]
    return [message.payload for message in messages], [message.published_at or 0 for message in messages]


def now() -> int:
    return time.time_ns() // 1000


def test_what_is_there_is_read_at_once(calls: Topic, subscription: LocalSubscription) -> None:
    sent = [b"%d" % number for number in range(1234)]
    calls.publish_all(sent)
    before = now()

    payloads, times = read(subscription)

    assert sorted(payloads) == sorted(sent)
    assert max(times) <= before
    assert before - LAG_MICROS <= subscription.watermark <= now() - LAG_MICROS


def test_an_empty_subscription_lets_time_pass(subscription: LocalSubscription) -> None:
    before = now()

    assert read(subscription) == ([], [])
    first = subscription.watermark
    read(subscription)

    assert before - LAG_MICROS <= first < subscription.watermark


def test_while_there_is_a_backlog_time_stays_behind_what_was_read(
    calls: Topic, subscription: LocalSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_streaming, "READ_MESSAGES", 200)
    monkeypatch.setattr(local_streaming, "PULL_MESSAGES", 100)
    calls.publish_all(b"%d" % number for number in range(450))

    first, times = read(subscription)
    behind = subscription.watermark
    second, _ = read(subscription)
    still_behind = subscription.watermark
    before = now()
    third, _ = read(subscription)

    assert [len(first), len(second), len(third)] == [200, 200, 50]
    assert behind == max(times) - BACKLOG_LAG_MICROS
    assert behind <= still_behind < before - BACKLOG_LAG_MICROS
    assert subscription.watermark >= before - LAG_MICROS


def test_a_message_is_held_until_its_window_is_over(
    calls: Topic, subscription: LocalSubscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.publish(b"a call")
    payloads, (published,) = read(subscription)
    assert payloads == [b"a call"]
    acknowledge, acknowledged_at = SubscriberClient.acknowledge, []

    def note(client: SubscriberClient, **request: Any) -> None:
        acknowledged_at.append(subscription.watermark)
        acknowledge(client, **request)

    monkeypatch.setattr(SubscriberClient, "acknowledge", note)
    while subscription.watermark <= published + 2 * WINDOW_SECONDS * 1_000_000:
        assert read(subscription) == ([], [])

    (done_at,) = acknowledged_at
    assert done_at >= published + WINDOW_SECONDS * 1_000_000
