"""The memory of the embedded Pub/Sub emulator: topics, subscriptions and leases. It has never heard of gRPC.

It raises `google.api_core.exceptions`, which name what Google answers, and behaves as Google's own emulator does
where tests/emulator compares the two. Documented limits that Google's emulator leaves out are enforced here: better
to learn them on one's own machine than from production.
"""

import heapq
import itertools
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.api_core.exceptions import AlreadyExists, InvalidArgument, MethodNotImplemented, NotFound
from google.pubsub_v1 import types

# Raw protobuf messages of google.pubsub.v1, which have no Python types. The typed wrappers of google.pubsub_v1 cost
# many times more per message than everything done here.
Proto = Any

_ReceivedMessage = types.ReceivedMessage.pb()
_Timestamp = types.PubsubMessage.pb()().publish_time.__class__

# The limits of one publish request and one message: https://cloud.google.com/pubsub/quotas#resource_limits
MAX_PUBLISH_MESSAGES = 1000
MAX_PUBLISH_BYTES = 10 * 1024 * 1024
MAX_MESSAGE_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_KEY_BYTES = 256
MAX_ATTRIBUTE_VALUE_BYTES = 1024
MAX_ORDERING_KEY_BYTES = 1024

# Under PUBSUB_EMULATOR_HOST, Google's Python client receives no more than gRPC's 4 MiB at once. A larger message goes
# alone: its client has to lift that limit.
MAX_RESPONSE_BYTES = 4_000_000

DEFAULT_ACK_DEADLINE_SECONDS = 10
MAX_ACK_DEADLINE_SECONDS = 600

# What a subscription points to once its topic is gone, in the API's own words.
DELETED_TOPIC = "_deleted-topic_"

# https://cloud.google.com/pubsub/docs/pubsub-basics#resource_names
_RESOURCE_ID = r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}"

# Fields that may be set. The others change what is delivered: to ignore them would be to lie.
_TOPIC_FIELDS = frozenset({"name", "labels"})
_SUBSCRIPTION_FIELDS = frozenset({"name", "topic", "labels", "ack_deadline_seconds", "expiration_policy"})


@dataclass(slots=True, eq=False)
class Consumer:
    """One who receives: a pull, or a stream for as long as it is open."""

    # How many more messages it may hold without having acknowledged them.
    room: int = sys.maxsize
    # None: the subscription's own.
    ack_deadline_seconds: int | None = None
    # Its client left; a delivery would only make its messages late for others.
    gone: bool = False


@dataclass(slots=True)
class _Lease:
    """A message that is out with a consumer until it is acknowledged, refused or late."""

    message: Proto
    consumer: Consumer
    deadline: float


@dataclass(slots=True)
class _Subscription:
    """What one subscription still has to deliver, and what it has out."""

    spec: Proto
    changed: threading.Condition
    waiting: deque[Proto] = field(default_factory=deque)
    leases: dict[str, _Lease] = field(default_factory=dict)
    # (deadline, ack id), earliest first. A lease that ends or moves leaves its old entry here, to be skipped.
    expiries: list[tuple[float, str]] = field(default_factory=list)
    serials: Iterator[int] = field(default_factory=itertools.count)

    def lease(self, consumer: Consumer, most: int, now: float) -> list[Proto]:
        self._take_back_late(now)
        deadline = now + (consumer.ack_deadline_seconds or self.spec.ack_deadline_seconds)
        received: list[Proto] = []
        room_bytes = MAX_RESPONSE_BYTES
        while self.waiting and len(received) < most and consumer.room > 0:
            # Padded, so that messages with one deadline are taken back in the order in which they went out.
            ack_id = f"{self.spec.name}:{next(self.serials):012d}"
            candidate = _ReceivedMessage(ack_id=ack_id, message=self.waiting[0])
            room_bytes -= candidate.ByteSize()
            if received and room_bytes < 0:
                break
            received.append(candidate)
            self.leases[ack_id] = _Lease(self.waiting.popleft(), consumer, deadline)
            heapq.heappush(self.expiries, (deadline, ack_id))
            consumer.room -= 1
        return received

    def end_leases(self, ack_ids: Iterable[str]) -> list[Proto]:
        """The messages of those leases that had not ended before."""
        messages = []
        for ack_id in ack_ids:
            if lease := self.leases.pop(ack_id, None):
                lease.consumer.room += 1
                messages.append(lease.message)
        return messages

    def extend_leases(self, ack_ids: Iterable[str], deadline: float) -> None:
        for ack_id in ack_ids:
            if lease := self.leases.get(ack_id):
                lease.deadline = deadline
                heapq.heappush(self.expiries, (deadline, ack_id))

    def _take_back_late(self, now: float) -> None:
        late = []
        while self.expiries and self.expiries[0][0] <= now:
            _, ack_id = heapq.heappop(self.expiries)
            if (lease := self.leases.get(ack_id)) and lease.deadline <= now:
                late.append(ack_id)
        self.waiting.extendleft(reversed(self.end_leases(late)))


class Broker:
    """Topics and subscriptions in memory. Every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._topics: dict[str, Proto] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._message_ids = itertools.count(1)

    def create_topic(self, spec: Proto) -> Proto:
        """Raises AlreadyExists if there is a topic of that name."""
        _check_name("topics", spec.name)
        _refuse_fields(spec, _TOPIC_FIELDS)
        with self._lock:
            if spec.name in self._topics:
                raise AlreadyExists("Topic already exists")
            self._topics[spec.name] = spec
        return spec

    def get_topic(self, name: str) -> Proto:
        """Raises NotFound."""
        _check_name("topics", name)
        with self._lock:
            return self._topic(name)

    def list_topics(self, project: str) -> list[Proto]:
        """The topics of projects/PROJECT, by name."""
        with self._lock:
            return _in_project(project, self._topics)

    def delete_topic(self, name: str) -> None:
        """Its subscriptions stay and deliver what they have."""
        _check_name("topics", name)
        with self._lock:
            self._topic(name)
            del self._topics[name]
            for subscription in self._subscriptions_of(name):
                subscription.spec.topic = DELETED_TOPIC

    def publish(self, topic: str, messages: Sequence[Proto]) -> list[str]:
        """Hands the messages themselves to every subscription of the topic; returns the ids they now have."""
        _check_name("topics", topic)
        _check_messages(messages)
        with self._lock:
            self._topic(topic)
            publish_time = _Timestamp()
            publish_time.FromMicroseconds(round(self._clock() * 1_000_000))
            for message in messages:
                message.message_id = str(next(self._message_ids))
                message.publish_time.CopyFrom(publish_time)
            for subscription in self._subscriptions_of(topic):
                subscription.waiting.extend(messages)
                subscription.changed.notify_all()
        return [message.message_id for message in messages]

    def create_subscription(self, spec: Proto) -> Proto:
        """Raises AlreadyExists if there is a subscription of that name, NotFound if there is no such topic."""
        _check_name("subscriptions", spec.name)
        _check_name("topics", spec.topic)
        _refuse_fields(spec, _SUBSCRIPTION_FIELDS)
        # Google asks for at least 10 seconds, its emulator does not, and tests are glad of 1.
        if not 0 <= spec.ack_deadline_seconds <= MAX_ACK_DEADLINE_SECONDS:
            raise InvalidArgument("ack_deadline_secs out of bounds")
        spec.ack_deadline_seconds = spec.ack_deadline_seconds or DEFAULT_ACK_DEADLINE_SECONDS
        with self._lock:
            if spec.name in self._subscriptions:
                raise AlreadyExists("Subscription already exists")
            self._topic(spec.topic)
            self._subscriptions[spec.name] = _Subscription(spec, threading.Condition(self._lock))
        return spec

    def get_subscription(self, name: str) -> Proto:
        """Raises NotFound."""
        with self._lock:
            return self._subscription(name).spec

    def list_subscriptions(self, project: str) -> list[Proto]:
        """The subscriptions of projects/PROJECT, by name."""
        with self._lock:
            return _in_project(project, {name: held.spec for name, held in self._subscriptions.items()})

    def list_topic_subscriptions(self, topic: str) -> list[str]:
        """Raises NotFound, as Google does; its emulator answers with an empty list."""
        _check_name("topics", topic)
        with self._lock:
            self._topic(topic)
            return sorted(subscription.spec.name for subscription in self._subscriptions_of(topic))

    def delete_subscription(self, name: str) -> None:
        """Those who wait for its messages get NotFound."""
        with self._lock:
            self._subscription(name).changed.notify_all()
            del self._subscriptions[name]

    def pull(self, name: str, consumer: Consumer, most: int, wait_seconds: float) -> list[Proto]:
        """Leases up to `most` messages as ReceivedMessages, waiting while there are none and the consumer is there."""
        if most <= 0:
            raise InvalidArgument("No max_messages specified")
        with self._lock:
            give_up = self._clock() + wait_seconds
            while not consumer.gone:
                subscription = self._subscription(name)
                now = self._clock()
                received = subscription.lease(consumer, most, now)
                if received or now >= give_up:
                    return received
                next_expiry = subscription.expiries[0][0] if subscription.expiries else give_up
                subscription.changed.wait(min(give_up, next_expiry) - now)
        return []

    def leave(self, name: str, consumer: Consumer) -> None:
        """Ends the consumer's wait. What it holds stays leased until it is late: acknowledgements may still come."""
        with self._lock:
            consumer.gone = True
            if subscription := self._subscriptions.get(name):
                subscription.changed.notify_all()

    def acknowledge(self, name: str, ack_ids: Sequence[str]) -> None:
        """Forgets the messages. An id whose lease has ended is ignored: its message is out again, or will be."""
        with self._lock:
            subscription = self._subscription(name)
            _check_ack_ids(name, ack_ids)
            subscription.end_leases(ack_ids)
            subscription.changed.notify_all()

    def modify_ack_deadline(self, name: str, ack_ids: Sequence[str], seconds: int) -> None:
        """Moves the deadlines to `seconds` from now; 0 refuses the messages, and they go out again after the others."""
        with self._lock:
            subscription = self._subscription(name)
            _check_ack_ids(name, ack_ids)
            if not 0 <= seconds <= MAX_ACK_DEADLINE_SECONDS:
                raise InvalidArgument(f"Ack deadline must be between 0 and {MAX_ACK_DEADLINE_SECONDS} seconds")
            if seconds:
                subscription.extend_leases(ack_ids, self._clock() + seconds)
            else:
                subscription.waiting.extend(subscription.end_leases(ack_ids))
            subscription.changed.notify_all()

    def _topic(self, name: str) -> Proto:
        if topic := self._topics.get(name):
            return topic
        raise NotFound(f"Topic not found (resource={name})")

    def _subscription(self, name: str) -> _Subscription:
        _check_name("subscriptions", name)
        if subscription := self._subscriptions.get(name):
            return subscription
        raise NotFound(f"Subscription does not exist (resource={name})")

    def _subscriptions_of(self, topic: str) -> list[_Subscription]:
        return [subscription for subscription in self._subscriptions.values() if subscription.spec.topic == topic]


def _check_name(collection: str, name: str) -> None:
    if not re.fullmatch(rf"projects/[^/]+/{collection}/{_RESOURCE_ID}", name):
        raise InvalidArgument(f"Invalid [{collection}] name: (name={name})")


def _check_ack_ids(subscription: str, ack_ids: Sequence[str]) -> None:
    if not ack_ids:
        raise InvalidArgument("No ack ids specified.")
    for ack_id in ack_ids:
        if ack_id.rpartition(":")[0] != subscription:
            raise InvalidArgument(f"Invalid ack id (ack_id={ack_id})")


def _check_messages(messages: Sequence[Proto]) -> None:
    if not messages:
        raise InvalidArgument("No messages to publish")
    if len(messages) > MAX_PUBLISH_MESSAGES:
        raise InvalidArgument("Too many messages to publish")
    if sum(message.ByteSize() for message in messages) > MAX_PUBLISH_BYTES:
        raise InvalidArgument(f"Request payload size exceeds the limit: {MAX_PUBLISH_BYTES} bytes")
    for message in messages:
        if not message.data and not message.attributes:
            raise InvalidArgument("Some messages are empty")
        if len(message.data) > MAX_MESSAGE_BYTES:
            raise InvalidArgument(f"The message is over {MAX_MESSAGE_BYTES} bytes")
        if len(message.attributes) > MAX_ATTRIBUTES:
            raise InvalidArgument(f"The message has more than {MAX_ATTRIBUTES} attributes")
        for key, value in message.attributes.items():
            if not key or key.startswith("goog") or len(key.encode()) > MAX_ATTRIBUTE_KEY_BYTES:
                raise InvalidArgument(f"Invalid attribute key: {key!r}")
            if len(value.encode()) > MAX_ATTRIBUTE_VALUE_BYTES:
                raise InvalidArgument(f"The value of attribute {key!r} is over {MAX_ATTRIBUTE_VALUE_BYTES} bytes")
        if len(message.ordering_key.encode()) > MAX_ORDERING_KEY_BYTES:
            raise InvalidArgument(f"The ordering key is over {MAX_ORDERING_KEY_BYTES} bytes")


def _refuse_fields(spec: Proto, supported: frozenset[str]) -> None:
    for descriptor, _ in spec.ListFields():
        if descriptor.name not in supported:
            raise MethodNotImplemented(f"The embedded Pub/Sub emulator does not know {descriptor.full_name}")


def _in_project(project: str, specs: dict[str, Proto]) -> list[Proto]:
    if not re.fullmatch("projects/[^/]+", project):
        raise InvalidArgument(f"Invalid [projects] name: (name={project})")
    return [specs[name] for name in sorted(specs) if name.startswith(f"{project}/")]
