"""Deadlines against a clock that stands still until told, and what the wire cannot show."""

import threading
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.pubsub_v1 import types

from scripts.pubsub_broker import Broker, Consumer

TOPIC = "projects/unit/topics/calls"
SUBSCRIPTION = "projects/unit/subscriptions/calls"


class Clock:
    """A clock that stands still."""

    now = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> Broker:
    broker = Broker(clock)
    broker.create_topic(types.Topic.pb()(name=TOPIC))
    broker.create_subscription(
        types.Subscription.pb()(name=SUBSCRIPTION, topic=TOPIC, ack_deadline_seconds=20),
    )
    return broker


def publish(broker: Broker, *payloads: bytes) -> None:
    broker.publish(TOPIC, [types.PubsubMessage.pb()(data=payload) for payload in payloads])


def pull(broker: Broker, consumer: Consumer | None = None, most: int = 100) -> dict[bytes, str]:
    """What there is right now: ack ids by payload, in the order received."""
    received = broker.pull(SUBSCRIPTION, consumer or Consumer(), most, wait_seconds=0)
    return {one.message.data: one.ack_id for one in received}


def test_the_publish_time_is_the_clocks(broker: Broker) -> None:
    publish(broker, b"a")

    (received,) = broker.pull(SUBSCRIPTION, Consumer(), 1, wait_seconds=0)

    assert (received.message.publish_time.seconds, received.message.publish_time.nanos) == (1_700_000_000, 250_000_000)


def test_a_message_comes_again_at_its_deadline_and_not_before(broker: Broker, clock: Clock) -> None:
    publish(broker, b"a")
    pull(broker)

    clock.now += 19.9
    assert not pull(broker)
    clock.now += 0.1
    assert pull(broker)


def test_late_messages_come_again_before_the_others_in_their_order(broker: Broker, clock: Clock) -> None:
    publish(broker, *(b"%02d" % number for number in range(15)))
    pull(broker, most=12)

    clock.now += 20

    assert list(pull(broker)) == [b"%02d" % number for number in range(15)]


def test_refused_messages_come_again_after_the_others(broker: Broker) -> None:
    publish(broker, b"poison", b"good")

    broker.modify_ack_deadline(SUBSCRIPTION, [pull(broker, most=1)[b"poison"]], 0)

    assert list(pull(broker)) == [b"good", b"poison"]


def test_an_extended_lease_ends_at_its_new_deadline(broker: Broker, clock: Clock) -> None:
    publish(broker, b"a")
    held = pull(broker)

    clock.now += 10
    broker.modify_ack_deadline(SUBSCRIPTION, list(held.values()), 60)
    clock.now += 59
    assert not pull(broker)
    clock.now += 1
    assert pull(broker)


def test_a_shortened_lease_ends_once(broker: Broker, clock: Clock) -> None:
    publish(broker, b"a")

    broker.modify_ack_deadline(SUBSCRIPTION, list(pull(broker).values()), 5)
    clock.now += 5
    again = pull(broker)
    broker.acknowledge(SUBSCRIPTION, list(again.values()))
    clock.now += 600

    assert again
    assert not pull(broker)


def test_a_late_acknowledgement_counts_until_the_message_goes_out_again(broker: Broker, clock: Clock) -> None:
    publish(broker, b"in time", b"too late")
    first = pull(broker)
    clock.now += 20

    broker.acknowledge(SUBSCRIPTION, [first[b"in time"]])
    assert list(pull(broker)) == [b"too late"]

    broker.acknowledge(SUBSCRIPTION, [first[b"too late"]])
    clock.now += 20
    assert list(pull(broker)) == [b"too late"]


def test_a_consumer_holds_no_more_than_it_has_room_for(broker: Broker, clock: Clock) -> None:
    publish(broker, *(b"%d" % number for number in range(6)))
    consumer = Consumer(room=3)

    held = pull(broker, consumer)
    assert list(held) == [b"0", b"1", b"2"]
    assert not pull(broker, consumer)

    broker.acknowledge(SUBSCRIPTION, [held[b"0"]])
    broker.modify_ack_deadline(SUBSCRIPTION, [held[b"1"]], 0)
    assert list(pull(broker, consumer)) == [b"3", b"4"]

    clock.now += 20
    assert len(pull(broker, consumer)) == 3


def test_a_consumer_may_bring_its_own_ack_deadline(broker: Broker, clock: Clock) -> None:
    publish(broker, b"a")
    pull(broker, Consumer(ack_deadline_seconds=40))

    clock.now += 39
    assert not pull(broker)
    clock.now += 1
    assert pull(broker)


def waiting_pull(broker: Broker, consumer: Consumer) -> tuple[threading.Thread, list[Any]]:
    """A pull on its own thread, which has begun to wait by the time this returns, and what came of it."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend(broker.pull(SUBSCRIPTION, consumer, 1, wait_seconds=60))
        except NotFound as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a_waiting_pull_ends_with_a_message(broker: Broker) -> None:
    thread, outcome = waiting_pull(broker, Consumer())

    publish(broker, b"a")
    thread.join(timeout=30)

    assert [one.message.data for one in outcome] == [b"a"]


def test_a_waiting_pull_ends_with_a_refused_message(broker: Broker) -> None:
    publish(broker, b"a")
    held = pull(broker)
    thread, outcome = waiting_pull(broker, Consumer())

    broker.modify_ack_deadline(SUBSCRIPTION, list(held.values()), 0)
    thread.join(timeout=30)

    assert [one.message.data for one in outcome] == [b"a"]


def test_a_waiting_pull_ends_with_its_subscription(broker: Broker) -> None:
    thread, outcome = waiting_pull(broker, Consumer())

    broker.delete_subscription(SUBSCRIPTION)
    thread.join(timeout=30)

    assert [type(one) for one in outcome] == [NotFound]


def test_a_consumer_that_left_takes_nothing_with_it(broker: Broker) -> None:
    consumer = Consumer()
    thread, outcome = waiting_pull(broker, consumer)

    broker.leave(SUBSCRIPTION, consumer)
    thread.join(timeout=30)
    publish(broker, b"a")

    assert not outcome
    assert list(pull(broker)) == [b"a"]


def test_threads_share_the_messages_without_loss_or_repeat(broker: Broker) -> None:
    payloads = [b"%d" % number for number in range(200)]
    received: list[bytes] = []

    def work() -> None:
        publish(broker, *payloads)
        while some := broker.pull(SUBSCRIPTION, Consumer(), 7, wait_seconds=0):
            broker.acknowledge(SUBSCRIPTION, [one.ack_id for one in some])
            received.extend(one.message.data for one in some)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(received) == sorted(payloads * 8)
