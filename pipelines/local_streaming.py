"""What Beam 2.77's streaming DirectRunner (BundleBasedDirectRunner) needs to be of use on one machine.

It pulls 10 messages a bundle, hard-coded, and every bundle costs each step about a millisecond. And after each pull it
says that everything up to now has been read, so a backlog is late, and late calls do not wait for what tells who they
are from. Both are mended here, for local runs only, and nothing else is changed: like Beam's own, it acknowledges
messages as soon as they are pulled, so what a crash interrupts is lost. It is for trying things out; Dataflow
acknowledges what is committed.
"""

import time
import warnings
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


_read_until: dict[str, Timestamp] = {}
"""Subscription -> the watermark of what has been pulled from it."""


class _Subscriber:
    """A subscriber client that pulls many messages and never waits for one."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def pull(self, subscription: str, max_messages: int, timeout: float) -> Any:
        """As the client's own, with our bounds."""
        request = {"subscription": subscription, "max_messages": PULL_MESSAGES, "return_immediately": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of return_immediately: it costs a service throughput
            response = self._client.pull(request=request, timeout=timeout)
        if not response.received_messages:
            time.sleep(IDLE_SECONDS)
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def prepare_streaming() -> None:
    """Mend the runner in this process; twice does no harm."""
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
