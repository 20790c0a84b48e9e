"""What Beam 2.77's streaming DirectRunner (BundleBasedDirectRunner) needs to be of use on one machine.

It pulls 10 messages a bundle, hard-coded, and every bundle costs each step about a millisecond. After each pull it says
that everything up to now has been read, so a backlog is late, and late calls do not wait for what tells who they are
from. And it acknowledges messages as soon as they are pulled, so a crash loses what it held. All three are mended here,
for local runs only, and nothing else is changed.

A message is acknowledged when everything that came of it is written: the runner pulls only when it has nothing else to
do, so at a pull all is done of the messages pulled before, but for those that wait for the end of their window. What a
crash interrupts comes again, and what was written of it is written again: at least once.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.runners.direct import transform_evaluator
from apache_beam.utils.timestamp import Timestamp

# What one Pull may answer with: https://cloud.google.com/pubsub/quotas#resource_limits
PULL_MESSAGES = 1000
PULL_TIMEOUT_SECONDS = 30

# The runner has one thread: while a pull waits nothing else runs and the watermark stands still. So an empty
# subscription answers at once, and is asked again after this.
IDLE_SECONDS = 0.05

# How far an empty subscription lets the watermark come to now: for messages that are on their way.
LAG_SECONDS = 0.5


# For how long Pub/Sub leaves a message with us before it sends it again; what is still held is renewed in time. After a
# crash the messages come again when it has passed. A bundle that takes longer is read twice, and counted as duplicates.
LEASE_SECONDS = 30
RENEWAL_SECONDS = 10.0

# A request may have 512 KB (https://cloud.google.com/pubsub/quotas#resource_limits); an id has about 200 bytes.
IDS_A_REQUEST = 1000

# What a read gathers before anything else runs. Google's emulator answers a pull with 100 messages at most, and each
# bundle costs each step, so a backlog is read by many pulls. An empty one ends the read, and so does the time.
READ_MESSAGES = 5000
READ_SECONDS = 0.5

_read_until: dict[str, Timestamp] = {}
"""Subscription -> the watermark of what has been pulled from it."""

_unacknowledged: dict[str, list[tuple[int, str]]] = {}
"""Subscription -> when a message was published, in microseconds since 1970, and the id by which it is acknowledged."""

_renewed_at: dict[str, float] = {}
"""Subscription -> when the leases were renewed, by the monotonic clock."""

_waits: dict[str, float] = {"seconds": 0.0}
"""How long a message may wait in the pipeline, by the watermark."""


class _Subscription:
    """Reads many messages, never waits for one, and acknowledges what is done."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def read(self) -> list[tuple[Timestamp, PubsubMessage]]:
        """What is there, up to READ_MESSAGES, each with its publish time."""
        self._acknowledge_done()
        received: list[Any] = []
        give_up = time.monotonic() + READ_SECONDS
        while len(received) < READ_MESSAGES and time.monotonic() < give_up and (pulled := self._pull()):
            received += pulled
        if not received:
            time.sleep(IDLE_SECONDS)
            return []
        times = [each.message.publish_time.ToMicroseconds() for each in received]
        held = [(published, each.ack_id) for published, each in zip(times, received, strict=True)]
        self._lease(held)
        _unacknowledged.setdefault(self._name, []).extend(held)
        return [
            (Timestamp(micros=published), _make_message(each.message))
            for published, each in zip(times, received, strict=True)
        ]

    def _pull(self) -> Sequence[Any]:
        """One answer of Pub/Sub, as protobuf: the wrappers of its client cost more than the call."""
        request = {"subscription": self._name, "max_messages": PULL_MESSAGES, "return_immediately": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of return_immediately: it costs a service throughput
            response = self._client.pull(request=request, timeout=PULL_TIMEOUT_SECONDS)
        received: Sequence[Any] = type(response).pb(response).received_messages
        return received

    def _acknowledge_done(self) -> None:
        """Acknowledge what is done, and go on holding the rest."""
        held = _unacknowledged.get(self._name)
        if not held:
            return
        until = (_read_until[self._name] - _waits["seconds"]).micros
        for ack_ids in _split_ids([one for one in held if one[0] <= until]):
            self._client.acknowledge(subscription=self._name, ack_ids=ack_ids)
        rest = [one for one in held if one[0] > until]
        _unacknowledged[self._name] = rest
        if rest and time.monotonic() > _renewed_at.get(self._name, -RENEWAL_SECONDS) + RENEWAL_SECONDS:
            self._lease(rest)
            _renewed_at[self._name] = time.monotonic()

    def _lease(self, held: list[tuple[int, str]]) -> None:
        for ack_ids in _split_ids(held):
            self._client.modify_ack_deadline(
                subscription=self._name, ack_ids=ack_ids, ack_deadline_seconds=LEASE_SECONDS
            )


def _make_message(message: Any) -> PubsubMessage:
    return PubsubMessage(
        message.data,
        dict(message.attributes),
        message.message_id,
        message.publish_time.ToDatetime(UTC),
        message.ordering_key,
    )


def _split_ids(held: list[tuple[int, str]]) -> Iterator[list[str]]:
    for start in range(0, len(held), IDS_A_REQUEST):
        yield [ack_id for _, ack_id in held[start : start + IDS_A_REQUEST]]


def prepare_streaming(waits_seconds: float) -> None:
    """Mend the runner in this process; twice does no harm.

    `waits_seconds`: how long a message may wait in the pipeline for others, the length of its windows.
    """
    _waits["seconds"] = waits_seconds
    evaluator: Any = transform_evaluator._PubSubReadEvaluator
    if getattr(evaluator, "_is_prepared", False):
        return
    finish = evaluator.finish_bundle

    def read_and_watch(self: Any, timestamp_attribute: str | None) -> list[tuple[Timestamp, PubsubMessage]]:
        assert timestamp_attribute is None, "Beam's time of a message is its publish time"
        client = self._get_subscriber_client(self._applied_ptransform)
        pulled = _Subscription(client, self._sub_name).read()
        now = Timestamp.of(time.time() - LAG_SECONDS)
        until = max((timestamp for timestamp, _ in pulled), default=now)
        _read_until[self._sub_name] = max(until, _read_until.get(self._sub_name, until))  # never back
        return pulled

    def finish_with_watermark(self: Any) -> Any:
        result = finish(self)
        result.keyed_watermark_holds = {None: _read_until[self._sub_name]}
        return result

    evaluator._read_from_pubsub, evaluator.finish_bundle = read_and_watch, finish_with_watermark
    evaluator._is_prepared = True
