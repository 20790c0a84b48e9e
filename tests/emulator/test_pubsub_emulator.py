"""One contract for both emulators: what Google's does, the embedded one does, seen through the official clients."""

import datetime
import itertools
import queue
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import google.cloud.pubsub_v1 as pubsub_v1
import grpc
import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, MethodNotImplemented, NotFound
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from scripts import pubsub_emulator
from scripts.start_pubsub import find_google_emulator, start_pubsub

PROJECT = "projects/contract"


class Clients(NamedTuple):
    publisher: Any
    subscriber: Any
    host: str


def connect(host: str) -> Iterator[Clients]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", host)
        publisher = pubsub_v1.PublisherClient()
        subscriber = pubsub_v1.SubscriberClient()
    yield Clients(publisher, subscriber, host)
    publisher.stop()
    publisher.transport.close()
    subscriber.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Clients]:
    with start_pubsub(prefer_google=False) as pubsub:
        yield from connect(pubsub.host)


@pytest.fixture(scope="module")
def google() -> Iterator[Clients]:
    if not find_google_emulator():
        pytest.skip("Google's Pub/Sub emulator or Java is not installed")
    with start_pubsub() as pubsub:
        assert pubsub.kind == "Google's emulator"
        yield from connect(pubsub.host)


@pytest.fixture(params=["embedded", pytest.param("google", marks=pytest.mark.slow)])
def clients(request: pytest.FixtureRequest) -> Clients:
    found: Clients = request.getfixturevalue(request.param)
    return found


def some_name(collection: str) -> str:
    return f"{PROJECT}/{collection}/test-{uuid.uuid4()}"


def new_topic(clients: Clients) -> str:
    name: str = clients.publisher.create_topic(name=some_name("topics")).name
    return name


def new_subscription(clients: Clients, topic: str, ack_deadline_seconds: int = 0) -> str:
    request = {"name": some_name("subscriptions"), "topic": topic, "ack_deadline_seconds": ack_deadline_seconds}
    name: str = clients.subscriber.create_subscription(request=request).name
    return name


def publish(clients: Clients, topic: str, *payloads: bytes, **attributes: str) -> list[str]:
    futures = [clients.publisher.publish(topic, payload, **attributes) for payload in payloads]
    return [future.result(timeout=30) for future in futures]


def send_request(clients: Clients, topic: str, messages: list[dict[str, Any]]) -> list[str]:
    """One request as it stands: the publisher client itself batches and checks."""
    request = {"topic": topic, "messages": messages}
    return list(PublisherClient.publish(clients.publisher, request=request).message_ids)


def pull(clients: Clients, subscription: str, most: int = 100) -> list[Any]:
    """Waits for a message; for ever, as far as these tests are concerned."""
    return list(clients.subscriber.pull(subscription=subscription, max_messages=most, timeout=30).received_messages)


def pull_now(clients: Clients, subscription: str) -> list[Any]:
    request = {"subscription": subscription, "max_messages": 100, "return_immediately": True}
    with pytest.warns(DeprecationWarning, match="return_immediately"):
        return list(clients.subscriber.pull(request=request).received_messages)


def payloads(received: list[Any]) -> list[bytes]:
    return [one.message.data for one in received]


def ack_ids(received: list[Any]) -> list[str]:
    return [one.ack_id for one in received]


def test_a_topic_is_created_found_listed_and_deleted(clients: Clients) -> None:
    topic = new_topic(clients)

    assert clients.publisher.get_topic(topic=topic).name == topic
    assert topic in [found.name for found in clients.publisher.list_topics(project=PROJECT)]
    with pytest.raises(AlreadyExists):
        clients.publisher.create_topic(name=topic)

    clients.publisher.delete_topic(topic=topic)
    with pytest.raises(NotFound):
        clients.publisher.get_topic(topic=topic)
    with pytest.raises(NotFound):
        clients.publisher.delete_topic(topic=topic)


def test_a_subscription_is_created_found_listed_and_deleted(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)

    found = clients.subscriber.get_subscription(subscription=subscription)
    assert (found.name, found.topic, found.ack_deadline_seconds) == (subscription, topic, 10)
    assert subscription in [found.name for found in clients.subscriber.list_subscriptions(project=PROJECT)]
    assert list(clients.publisher.list_topic_subscriptions(topic=topic)) == [subscription]
    with pytest.raises(AlreadyExists):
        clients.subscriber.create_subscription(name=subscription, topic=topic)

    clients.subscriber.delete_subscription(subscription=subscription)
    with pytest.raises(NotFound):
        clients.subscriber.get_subscription(subscription=subscription)


def test_lists_come_in_pages(clients: Clients) -> None:
    topic = new_topic(clients)
    subscriptions = {new_subscription(clients, topic) for _ in range(5)}

    pages = list(clients.publisher.list_topic_subscriptions(request={"topic": topic, "page_size": 2}).pages)

    assert [len(page.subscriptions) for page in pages] == [2, 2, 1]
    assert {name for page in pages for name in page.subscriptions} == subscriptions


@pytest.mark.parametrize(
    "call",
    [
        lambda clients: clients.publisher.publish(some_name("topics"), b"lost").result(timeout=30),
        lambda clients: clients.subscriber.create_subscription(
            name=some_name("subscriptions"), topic=some_name("topics")
        ),
        lambda clients: clients.subscriber.pull(subscription=some_name("subscriptions"), max_messages=1),
        lambda clients: clients.subscriber.acknowledge(subscription=some_name("subscriptions"), ack_ids=["x:1"]),
        lambda clients: clients.subscriber.modify_ack_deadline(
            subscription=some_name("subscriptions"), ack_ids=["x:1"], ack_deadline_seconds=10
        ),
        lambda clients: clients.subscriber.delete_subscription(subscription=some_name("subscriptions")),
    ],
    ids=["publish", "subscribe", "pull", "acknowledge", "modify_ack_deadline", "delete"],
)
def test_what_does_not_exist_is_not_found(clients: Clients, call: Callable[[Clients], object]) -> None:
    with pytest.raises(NotFound):
        call(clients)


@pytest.mark.parametrize(
    "name",
    [
        "calls",
        f"{PROJECT}/topics/ab",
        f"{PROJECT}/topics/1calls",
        f"{PROJECT}/topics/google",
        f"{PROJECT}/topics/with space",
        f"{PROJECT}/topics/{'a' * 256}",
        f"{PROJECT}/subscriptions/calls",
    ],
)
def test_a_bad_topic_name_is_refused(clients: Clients, name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid \\[topics\\] name"):
        clients.publisher.create_topic(name=name)


@pytest.mark.parametrize("seconds", [-1, 601])
def test_an_ack_deadline_out_of_bounds_is_refused(clients: Clients, seconds: int) -> None:
    with pytest.raises(InvalidArgument, match="out of bounds"):
        new_subscription(clients, new_topic(clients), ack_deadline_seconds=seconds)


def test_an_empty_message_is_refused_and_one_of_attributes_only_is_not(clients: Clients) -> None:
    topic = new_topic(clients)

    with pytest.raises(InvalidArgument, match="Some messages are empty"):
        publish(clients, topic, b"")
    assert len(publish(clients, topic, b"", only="attributes")) == 1


def test_a_request_has_1_to_1000_messages(clients: Clients) -> None:
    topic = new_topic(clients)

    with pytest.raises(InvalidArgument, match="No messages"):
        send_request(clients, topic=topic, messages=[])
    with pytest.raises(InvalidArgument, match="Too many messages"):
        send_request(clients, topic=topic, messages=[{"data": b"x"}] * 1001)
    assert len(send_request(clients, topic=topic, messages=[{"data": b"x"}] * 1000)) == 1000


def test_a_message_arrives_with_what_the_publisher_and_the_server_gave_it(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)

    (message_id,) = publish(clients, topic, b"\x00call\xff", origin="web", empty="")

    (received,) = pull(clients, subscription)
    assert received.message.data == b"\x00call\xff"
    assert dict(received.message.attributes) == {"origin": "web", "empty": ""}
    assert received.message.message_id == message_id
    assert before < received.message.publish_time < before + datetime.timedelta(seconds=30)
    assert received.delivery_attempt == 0


def test_message_ids_are_unique(clients: Clients) -> None:
    topic, other = new_topic(clients), new_topic(clients)

    assert len({*publish(clients, topic, b"a", b"b"), *publish(clients, other, b"c")}) == 3


def test_an_acknowledged_message_does_not_come_again(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic, ack_deadline_seconds=1)
    publish(clients, topic, b"done", b"forgotten")
    received = pull(clients, subscription)

    done = [one.ack_id for one in received if one.message.data == b"done"]
    clients.subscriber.acknowledge(subscription=subscription, ack_ids=done)

    # The wait for the other one is the wait in which the first would have come.
    assert payloads(pull(clients, subscription)) == [b"forgotten"]


def test_a_message_is_with_one_consumer_until_its_deadline_and_then_comes_again(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic, ack_deadline_seconds=1)
    publish(clients, topic, b"late")
    (first,) = pull(clients, subscription)

    assert pull_now(clients, subscription) == []
    (again,) = pull(clients, subscription)
    assert again.message == first.message
    assert again.ack_id != first.ack_id

    # The old lease is over: its acknowledgement does not count.
    clients.subscriber.acknowledge(subscription=subscription, ack_ids=[first.ack_id])
    assert payloads(pull(clients, subscription)) == [b"late"]


def test_a_refused_message_comes_again_at_once(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic, ack_deadline_seconds=600)
    publish(clients, topic, b"again")

    refused = ack_ids(pull(clients, subscription))
    clients.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=refused, ack_deadline_seconds=0)

    assert payloads(pull_now(clients, subscription)) == [b"again"]


def test_a_deadline_can_be_moved_closer_and_further(clients: Clients) -> None:
    topic = new_topic(clients)
    closer = new_subscription(clients, topic, ack_deadline_seconds=600)
    further = new_subscription(clients, topic, ack_deadline_seconds=1)
    publish(clients, topic, b"call")

    for subscription, seconds in [(further, 600), (closer, 1)]:
        held = ack_ids(pull(clients, subscription))
        clients.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=held, ack_deadline_seconds=seconds)

    assert payloads(pull(clients, closer)) == [b"call"]
    assert pull_now(clients, further) == []


@pytest.mark.parametrize(("given", "reason"), [([], "No ack ids"), (["x"], "Invalid ack id")])
def test_malformed_ack_ids_are_refused(clients: Clients, given: list[str], reason: str) -> None:
    subscription = new_subscription(clients, new_topic(clients))

    with pytest.raises(InvalidArgument, match=reason):
        clients.subscriber.acknowledge(subscription=subscription, ack_ids=given)
    with pytest.raises(InvalidArgument, match=reason):
        clients.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=given, ack_deadline_seconds=9)


def test_every_subscription_gets_every_message_published_after_it(clients: Clients) -> None:
    topic = new_topic(clients)
    early = new_subscription(clients, topic)
    publish(clients, topic, b"1")
    late = new_subscription(clients, topic)
    elsewhere = new_subscription(clients, new_topic(clients))
    publish(clients, topic, b"2")

    clients.subscriber.acknowledge(subscription=early, ack_ids=ack_ids(pull(clients, early)))

    assert payloads(pull(clients, late)) == [b"2"]
    assert pull_now(clients, early) == []
    assert pull_now(clients, elsewhere) == []


def test_a_waiting_pull_gets_a_message_published_meanwhile(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pull, clients, subscription)
        publish(clients, topic, b"call")
        assert payloads(waiting.result(timeout=30)) == [b"call"]


def test_a_subscription_outlives_its_topic(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)
    publish(clients, topic, b"call")

    clients.publisher.delete_topic(topic=topic)
    clients.publisher.create_topic(name=topic)
    publish(clients, topic, b"to the topic of the same name")

    assert payloads(pull(clients, subscription)) == [b"call"]
    assert clients.subscriber.get_subscription(subscription=subscription).topic == "_deleted-topic_"


def test_a_streaming_pull_delivers_acknowledges_and_refuses(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic, ack_deadline_seconds=1)
    publish(clients, topic, b"before")
    delivered: queue.Queue[bytes] = queue.Queue()
    refused = set()

    def refuse_once(message: Any) -> None:
        delivered.put(message.data)
        if message.data in refused:
            message.ack_with_response().result()
        else:
            refused.add(message.data)
            message.nack()

    stream = clients.subscriber.subscribe(subscription, refuse_once)
    assert [delivered.get(timeout=30) for _ in range(2)] == [b"before"] * 2
    publish(clients, topic, b"while it is open")
    assert [delivered.get(timeout=30) for _ in range(2)] == [b"while it is open"] * 2
    stream.cancel()
    stream.result(timeout=30)


def test_a_stream_takes_acknowledgements_and_deadlines(clients: Clients) -> None:
    """The Python client sends them in calls of their own; others use the stream."""
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)
    publish(clients, topic, b"done", b"refused")
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    requests.put({"subscription": subscription, "stream_ack_deadline_seconds": 600})
    sent = map(pubsub_v1.types.StreamingPullRequest, iter(requests.get, None))
    responses = clients.subscriber.streaming_pull(sent, timeout=30)
    received = (one for response in responses for one in response.received_messages)

    held = {one.message.data: one.ack_id for one in itertools.islice(received, 2)}
    requests.put(
        {
            "ack_ids": [held[b"done"]],
            "modify_deadline_ack_ids": [held[b"refused"]],
            "modify_deadline_seconds": [0],
        }
    )
    assert next(received).message.data == b"refused"
    requests.put(None)
    assert list(received) == []

    # Would bring it back, were it still held.
    clients.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[held[b"done"]], ack_deadline_seconds=0)
    assert pull_now(clients, subscription) == []


def test_a_streaming_pull_ends_when_its_subscription_does(clients: Clients) -> None:
    subscription = new_subscription(clients, new_topic(clients))
    stream = clients.subscriber.subscribe(subscription, lambda message: message.ack())

    clients.subscriber.delete_subscription(subscription=subscription)

    with pytest.raises(NotFound):
        stream.result(timeout=30)


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([{"stream_ack_deadline_seconds": 10}], "must set subscription"),
        ([{"subscription": "S"}], "must set stream_ack_deadline_seconds"),
        ([{"subscription": "S", "stream_ack_deadline_seconds": 9}], "between 10 and 600"),
        ([{"subscription": "S", "stream_ack_deadline_seconds": 10}, {"subscription": "S"}], "only be set in first"),
        (
            [{"subscription": "S", "stream_ack_deadline_seconds": 10}, {"modify_deadline_ack_ids": ["x"]}],
            "must have the same size",
        ),
    ],
)
def test_a_malformed_streaming_pull_is_refused(clients: Clients, requests: list[dict[str, Any]], reason: str) -> None:
    subscription = new_subscription(clients, new_topic(clients))
    sent = [
        pubsub_v1.types.StreamingPullRequest(one | ({"subscription": subscription} if "subscription" in one else {}))
        for one in requests
    ]

    with pytest.raises(InvalidArgument, match=reason):
        list(clients.subscriber.streaming_pull(requests=iter(sent), timeout=30))


def test_large_messages_pass(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)
    large = [bytes([letter]) * 9_500_000 for letter in b"abc"]

    publish(clients, topic, *large)

    # The client's own channel to an emulator receives 4 MiB at most.
    received: list[bytes] = []
    with (
        grpc.insecure_channel(clients.host, options=[("grpc.max_receive_message_length", -1)]) as channel,
        pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)) as subscriber,
    ):
        while len(received) < len(large):
            received += payloads(pull(clients._replace(subscriber=subscriber), subscription))
    assert sorted(received) == large


def test_5000_messages_pass_once_each(clients: Clients) -> None:
    topic = new_topic(clients)
    subscription = new_subscription(clients, topic)
    published = publish(clients, topic, *(b"%d" % number for number in range(5000)))

    received: list[str] = []
    while len(received) < 5000:
        some = pull(clients, subscription, most=1000)
        clients.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids(some))
        received += [one.message.message_id for one in some]

    assert sorted(received) == sorted(published)
    assert pull_now(clients, subscription) == []


def test_beams_direct_runner_reads_all_of_a_topic(clients: Clients) -> None:
    """The calls of _PubSubReadEvaluator in apache_beam.runners.direct.transform_evaluator."""
    topic = new_topic(clients)
    subscription = clients.subscriber.subscription_path("contract", f"beam_1795313763_{uuid.uuid4().hex[:8]}")
    clients.subscriber.create_subscription(name=subscription, topic=topic)
    publish(clients, topic, *(b"%d" % number for number in range(25)))

    read: list[int] = []
    while len(read) < 25:
        response = clients.subscriber.pull(subscription=subscription, max_messages=10, timeout=30)
        assert len(response.received_messages) <= 10
        assert all(one.message.publish_time for one in response.received_messages)
        clients.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids(list(response.received_messages)))
        read += [int(one.message.data) for one in response.received_messages]
    clients.subscriber.delete_subscription(subscription=subscription)

    assert sorted(read) == list(range(25))


# What follows Google documents, and its emulator leaves out.


@pytest.mark.parametrize(
    "message",
    [
        {"data": b"x" * 10_000_001},
        {"data": b"x", "attributes": {str(number): "" for number in range(101)}},
        {"data": b"x", "attributes": {"": "empty key"}},
        {"data": b"x", "attributes": {"googclient_x": "reserved key"}},
        {"data": b"x", "attributes": {"é" * 129: "key over 256 bytes"}},
        {"data": b"x", "attributes": {"value over 1024 bytes": "é" * 513}},
        {"data": b"x", "ordering_key": "k" * 1025},
    ],
)
def test_a_message_over_the_documented_limits_is_refused(embedded: Clients, message: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        send_request(embedded, topic=new_topic(embedded), messages=[message])


def test_a_message_at_the_documented_limits_passes(embedded: Clients) -> None:
    topic = new_topic(embedded)
    attributes = {"k" * 256: "v" * 1024} | {str(number): "" for number in range(99)}

    send_request(embedded, topic=topic, messages=[{"data": b"x" * 10_000_000}])
    send_request(embedded, topic=topic, messages=[{"attributes": attributes, "ordering_key": "k" * 1024}])


def test_a_request_over_the_documented_size_is_refused(embedded: Clients) -> None:
    with pytest.raises(InvalidArgument, match="payload size"):
        send_request(embedded, topic=new_topic(embedded), messages=[{"data": b"x" * 5_500_000}] * 2)


def test_a_response_fits_the_channel_of_the_client(embedded: Clients) -> None:
    # Google's emulator sends up to 100 messages however large they are, and the client raises ResourceExhausted.
    topic = new_topic(embedded)
    subscription = new_subscription(embedded, topic)
    publish(embedded, topic, *[b"x" * 100_000] * 100)

    received = 0
    while received < 100:
        received += len(pull(embedded, subscription, most=1000))


def test_a_pull_gives_up_before_its_client_does(embedded: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub_emulator, "PULL_WAIT_SECONDS", 0.05)

    assert pull(embedded, new_subscription(embedded, new_topic(embedded))) == []


def test_a_cancelled_stream_takes_no_message_with_it(embedded: Clients) -> None:
    # Google's emulator now and then still delivers to the stream that is gone.
    topic = new_topic(embedded)
    subscription = new_subscription(embedded, topic)
    stream = embedded.subscriber.subscribe(subscription, (delivered := queue.Queue[Any]()).put)
    publish(embedded, topic, b"before")
    delivered.get(timeout=30).ack_with_response().result()

    stream.cancel()
    stream.result(timeout=30)
    publish(embedded, topic, b"after")

    assert payloads(pull(embedded, subscription)) == [b"after"]


def test_a_stream_leaves_on_the_server_what_its_subscriber_has_no_room_for(embedded: Clients) -> None:
    topic = new_topic(embedded)
    subscription = new_subscription(embedded, topic)
    publish(embedded, topic, *(b"%d" % number for number in range(5)))
    held: queue.Queue[Any] = queue.Queue()

    stream = embedded.subscriber.subscribe(subscription, held.put, pubsub_v1.types.FlowControl(max_messages=2))
    two = [held.get(timeout=30) for _ in range(2)]
    assert len(pull_now(embedded, subscription)) == 3

    for message in two:
        message.ack_with_response().result()
    publish(embedded, topic, b"next")
    assert held.get(timeout=30).data == b"next"
    stream.cancel()
    stream.result(timeout=30)


def test_what_is_left_out_says_so(embedded: Clients) -> None:
    topic = new_topic(embedded)

    with pytest.raises(MethodNotImplemented, match="CreateSnapshot"):
        embedded.subscriber.create_snapshot(name=f"{PROJECT}/snapshots/one", subscription=some_name("subscriptions"))
    with pytest.raises(MethodNotImplemented, match="filter"):
        embedded.subscriber.create_subscription(
            request={"name": some_name("subscriptions"), "topic": topic, "filter": 'attributes.origin = "web"'}
        )
    with pytest.raises(MethodNotImplemented, match="schema_settings"):
        embedded.publisher.create_topic(request={"name": some_name("topics"), "schema_settings": {"schema": "s"}})


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_says_when_it_is_ready_and_stops_when_told(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "scripts.pubsub_emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stderr
        ready = program.stdout.readline()
        for clients in connect(ready.strip().partition("=")[2]):
            new_topic(clients)
        program.send_signal(number)
        assert program.wait(timeout=30) == 0
        assert program.stderr.read() == ""
    assert ready.startswith("Pub/Sub emulator ready")


def test_a_port_is_served_once() -> None:
    with pubsub_emulator.PubsubEmulator() as first:
        port = int(first.host.partition(":")[2])
        with pytest.raises(RuntimeError), pubsub_emulator.PubsubEmulator(port):
            pass
