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
from collections.abc import Iterator
from typing import Any

from apache_beam.runners.direct import transform_evaluator
from apache_beam.utils.timestamp import Timestamp

# What one Pull may answer with: https://cloud.google.com/pubsub/quotas#resource_limits
PULL_MESSAGES = 1000

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

_read_until: dict[str, Timestamp] = {}
"""Subscription -> the watermark of what has been pulled from it."""

_unacknowledged: dict[str, list[tuple[Timestamp, str]]] = {}
"""Subscription -> when a message was published, and the id by which it is acknowledged."""

_renewed_at: dict[str, float] = {}
"""Subscription -> when the leases were renewed, by the monotonic clock."""

_waits: dict[str, float] = {"seconds": 0.0}
"""How long a message may wait in the pipeline, by the watermark."""


class _Subscriber:
    """A subscriber client that pulls many messages, never waits for one, and acknowledges what is done."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def pull(self, subscription: str, max_messages: int, timeout: float) -> Any:
        """As the client's own, with our bounds."""
        self._acknowledge_done(subscription)
        request = {"subscription": subscription, "max_messages": PULL_MESSAGES, "return_immediately": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of return_immediately: it costs a service throughput
            response = self._client.pull(request=request, timeout=timeout)
        pulled = [
            (Timestamp.from_utc_datetime(received.message.publish_time), received.ack_id)
            for received in response.received_messages
        ]
        if pulled:
            self._lease(subscription, pulled)
            _unacknowledged.setdefault(subscription, []).extend(pulled)
        else:
            time.sleep(IDLE_SECONDS)
        return response

    def acknowledge(self, subscription: str, ack_ids: list[str]) -> None:
        """Not yet: the runner acknowledges what it has only just pulled."""

    def _acknowledge_done(self, subscription: str) -> None:
        """Acknowledge what is done, and go on holding the rest."""
        held = _unacknowledged.get(subscription)
        if not held:
            return
        until = _read_until[subscription] - _waits["seconds"]
        done = [one for one in held if one[0] <= until]
        for ack_ids in _split_ids(done):
            self._client.acknowledge(subscription=subscription, ack_ids=ack_ids)
        rest = [one for one in held if one[0] > until]
        _unacknowledged[subscription] = rest
        if rest and time.monotonic() > _renewed_at.get(subscription, -RENEWAL_SECONDS) + RENEWAL_SECONDS:
            self._lease(subscription, rest)
            _renewed_at[subscription] = time.monotonic()

    def _lease(self, subscription: str, held: list[tuple[Timestamp, str]]) -> None:
        for ack_ids in _split_ids(held):
            self._client.modify_ack_deadline(
                subscription=subscription, ack_ids=ack_ids, ack_deadline_seconds=LEASE_SECONDS
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _split_ids(held: list[tuple[Timestamp, str]]) -> Iterator[list[str]]:
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
    get_client = evaluator._get_subscriber_client
    evaluator._get_subscriber_client = classmethod(lambda cls, transform: _Subscriber(get_client(transform)))
    read, finish = evaluator._read_from_pubsub, evaluator.finish_bundle

    def read_and_watch(self: Any, timestamp_attribute: Any) -> Any:
        pulled = read(self, timestamp_attribute)
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
