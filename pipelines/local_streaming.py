"""How a local stream reads Pub/Sub: many messages a pull, straight into blocks, acknowledged when they are done.

Beam's own reader of local streams pulls 10 messages a bundle. It says after each pull that everything up to now has
been read, so a backlog is late, and late calls do not wait for what tells who they are from. And it acknowledges what
it has only just pulled, so a crash loses it.

Here a message is acknowledged when everything that came of it is written: the runner reads only when it has nothing
else to do, so at a read all is done of what was read before, but for what waits for the end of its window. What a crash
interrupts comes again, and what was written of it is written again: at least once.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from google.cloud import pubsub_v1

from pipelines.read import gather_blocks
from schemas.messages import Message, MessageBlock

# What one Pull may answer with: https://cloud.google.com/pubsub/quotas#resource_limits
PULL_MESSAGES = 1000
PULL_TIMEOUT_SECONDS = 30

# Google's emulator answers a pull with so many at most; an answer with fewer was the last of what was there.
FULL_PULL_MESSAGES = 100

# What a read gathers before anything else runs, and a block: each costs each step.
READ_MESSAGES = 5000
READ_SECONDS = 0.5

# The runner has one thread: while a pull waits nothing else runs and the watermark stands still. So an empty
# subscription answers at once, and is asked again after this.
IDLE_SECONDS = 0.05

# How far the watermark stays behind: for messages that are on their way when all that is there has been read, and in a
# backlog for those that Pub/Sub gives later than others that it got after them.
LAG_MICROS = 500_000
BACKLOG_LAG_MICROS = 10_000_000

# For how long Pub/Sub leaves a message with us before it sends it again; what is still held is renewed in time. After a
# crash the messages come again when it has passed. A bundle that takes longer is read twice, and counted as duplicates.
LEASE_SECONDS = 30
RENEWAL_SECONDS = 10.0

# A request may have 512 KB (https://cloud.google.com/pubsub/quotas#resource_limits); an id has about 200 bytes.
IDS_A_REQUEST = 1000


class _Held(NamedTuple):
    """A message that is not done."""

    published_at: int
    """Microseconds since 1970."""
    ack_id: str


class LocalSubscription:
    """Reads a subscription into blocks, never waits for a message, and acknowledges what is done.

    `window_seconds`: for how long a message may wait for others, by the watermark.
    """

    def __init__(self, name: str, window_seconds: int) -> None:
        self._client: Any = pubsub_v1.SubscriberClient()
        self._name = name
        self._window_seconds = window_seconds
        self._held: list[_Held] = []
        self._renewed_at = time.monotonic()
        self.watermark = 0
        """Up to when all that was published has been read, in microseconds since 1970; it never goes back."""

    def read(self) -> Iterator[tuple[int, MessageBlock]]:
        """What is there, up to READ_MESSAGES: blocks, each with the earliest publish time in it."""
        self._acknowledge_done()
        received: list[Any] = []
        give_up = time.monotonic() + READ_SECONDS
        caught_up_at = None
        while caught_up_at is None and len(received) < READ_MESSAGES and time.monotonic() < give_up:
            asked_at = time.time_ns() // 1000
            pulled = self._pull()
            received += pulled
            if len(pulled) < FULL_PULL_MESSAGES:
                caught_up_at = asked_at
        times = [each.message.publish_time.ToMicroseconds() for each in received]
        until = max(times) - BACKLOG_LAG_MICROS if caught_up_at is None else caught_up_at - LAG_MICROS
        self.watermark = max(self.watermark, until)
        if not received:
            time.sleep(IDLE_SECONDS)
            return iter(())
        held = [_Held(at, each.ack_id) for at, each in zip(times, received, strict=True)]
        self._lease(held)
        self._held += held
        messages = (
            Message(each.message.data, dict(each.message.attributes), at)
            for at, each in zip(times, received, strict=True)
        )
        # One process: there are no workers over which smaller blocks would spread.
        return gather_blocks(messages, self._name, self._window_seconds, READ_MESSAGES)

    def close(self) -> None:
        """Nothing is read any more; what is held comes again when its lease has ended."""
        self._client.close()

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
        until = self.watermark - self._window_seconds * 1_000_000
        for ack_ids in _split_ids([one for one in self._held if one.published_at <= until]):
            self._client.acknowledge(subscription=self._name, ack_ids=ack_ids)
        self._held = [one for one in self._held if one.published_at > until]
        if time.monotonic() > self._renewed_at + RENEWAL_SECONDS:
            self._lease(self._held)
            self._renewed_at = time.monotonic()

    def _lease(self, held: Sequence[_Held]) -> None:
        for ack_ids in _split_ids(held):
            self._client.modify_ack_deadline(
                subscription=self._name, ack_ids=ack_ids, ack_deadline_seconds=LEASE_SECONDS
            )


def _split_ids(held: Sequence[_Held]) -> Iterator[list[str]]:
    for start in range(0, len(held), IDS_A_REQUEST):
        yield [one.ack_id for one in held[start : start + IDS_A_REQUEST]]
