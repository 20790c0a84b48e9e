"""What Segment does between its source and its destination: what is sent to it comes back to our calls."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler


class Relay:
    """Takes calls from a subscription, stamps them with `receivedAt`, and delivers them, until it is stopped.

    `deliver` says whether a call was taken; one that was not comes again.
    """

    def __init__(self, subscription: str, deliver: Callable[[bytes], bool]) -> None:
        self._subscription = subscription
        self._deliver = deliver
        self._lock = threading.Lock()
        self._calls: list[dict[str, Any]] = []

    def __enter__(self) -> "Relay":
        self._subscriber = pubsub_v1.SubscriberClient()
        one_at_a_time = ThreadScheduler(ThreadPoolExecutor(1))  # in the order in which they come
        self._future = self._subscriber.subscribe(self._subscription, self._relay, scheduler=one_at_a_time)
        return self

    def __exit__(self, *_: object) -> None:
        self._future.cancel()
        self._future.result()
        self._subscriber.close()

    def calls(self) -> list[dict[str, Any]]:
        """What has come so far, each messageId once, in the order of its arrival."""
        with self._lock:
            return list({call["messageId"]: call for call in reversed(self._calls)}.values())[::-1]

    def relayed(self) -> int:
        """How many messages, repeats included."""
        with self._lock:
            return len(self._calls)

    def wait_for(self, count: int, seconds: float) -> bool:
        """Whether so many different calls have come, within the time."""
        deadline = time.monotonic() + seconds
        while len(self.calls()) < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def _relay(self, message: Any) -> None:
        call = json.loads(message.data)
        call["receivedAt"] = datetime.now(UTC).isoformat()
        if not self._deliver(json.dumps(call).encode()):
            message.nack()
            return
        message.ack()
        with self._lock:
            self._calls.append(call)
