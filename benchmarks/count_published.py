"""What is in Pub/Sub, beside what a collector has answered."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1

from benchmarks.load_http import MESSAGE_ID, OK, Load

_PULL_SECONDS = 5.0


class Found(msgspec.Struct, frozen=True):
    """How what is in Pub/Sub differs from what was answered, in calls."""

    lost: int
    """Answered with 200 and not there."""
    repeated: int
    foreign: int
    """Never sent."""
    unanswered: int
    """There, though the answer was another: allowed, as it is sent again and de-duplicated."""


def pull_everything(subscription: str) -> Counter[tuple[int, int]]:
    """How often each call is there: by request and position. None is left."""
    found: Counter[tuple[int, int]] = Counter()
    with pubsub_v1.SubscriberClient() as subscriber:
        while True:
            try:
                pulled = subscriber.pull(
                    subscription=subscription, max_messages=1000, timeout=_PULL_SECONDS, retry=None
                ).received_messages
            except DeadlineExceeded:  # how Google's emulator says that there are no more
                return found
            if not pulled:
                return found
            for received in pulled:
                read = MESSAGE_ID.search(received.message.data)
                found[(int(read[1]), int(read[2])) if read else (-1, 0)] += 1
            subscriber.acknowledge(subscription=subscription, ack_ids=[received.ack_id for received in pulled])


def compare_calls(there: Counter[tuple[int, int]], loads: Sequence[Load], calls: int) -> Found:
    """What is in Pub/Sub beside what was answered."""
    sent = {number: status for load in loads for number, status in zip(load.numbers, load.statuses, strict=True)}
    lost = sum(
        (number, position) not in there for number, status in sent.items() if status == OK for position in range(calls)
    )
    return Found(
        lost=lost,
        repeated=sum(times - 1 for times in there.values()),
        foreign=sum(number not in sent or position >= calls for number, position in there),
        unanswered=sum(number in sent and sent[number] != OK for number, _ in there),
    )
