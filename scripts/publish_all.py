"""Publishing for people at a terminal: soon there, or soon an error in one line."""

from collections.abc import Iterable, Mapping

import google.cloud.pubsub_v1 as pubsub_v1
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type

PUBLISH_SECONDS = 60.0
"""Google's own retries last ten minutes."""

# What Google's publisher tries again by default.
_LATER = if_exception_type(
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
    exceptions.Unknown,
)


def publish_all(topic: str, messages: Iterable[tuple[bytes, Mapping[str, str]]]) -> int:
    """Publish data with attributes; how many messages.

    Raises ValueError if there is no such topic, TimeoutError if Pub/Sub does not answer, and Google's exceptions.
    """
    options = pubsub_v1.types.PublisherOptions(
        retry=Retry(predicate=_LATER, timeout=PUBLISH_SECONDS), timeout=PUBLISH_SECONDS
    )
    with pubsub_v1.PublisherClient(publisher_options=options) as publisher:
        futures = [publisher.publish(topic, data, **attributes) for data, attributes in messages]
        for published, future in enumerate(futures):
            try:
                future.result()
            except exceptions.NotFound:
                raise ValueError(f"--topic: there is no {topic}") from None
            except exceptions.RetryError:
                raise TimeoutError(
                    f"Pub/Sub does not answer for {PUBLISH_SECONDS:g} s: {published:,} of {len(futures):,} messages "
                    f"are published to {topic}; run it again, twice does no harm"
                ) from None
    return len(futures)
