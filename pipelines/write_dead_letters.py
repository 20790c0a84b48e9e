"""Dead letters to a Pub/Sub topic: the original bytes, the reason in the attributes."""

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, WriteToPubSub
from apache_beam.pvalue import PCollection

from schemas.rejections import DeadLetter

# Pub/Sub refuses attribute values over 1,024 bytes: https://cloud.google.com/pubsub/quotas#resource_limits
MAX_ATTRIBUTE_BYTES = 1024


class PublishDeadLetters(beam.PTransform):
    """Publish each dead letter with its own attributes and `dead_letter_step`, `_reason`, `_detail`."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    def expand(self, dead_letters: PCollection) -> PCollection:
        """Apply it to a PCollection of `DeadLetter`."""
        published: PCollection = (
            dead_letters
            | "AddressLetter" >> beam.ParDo(_AddressLetterFn())
            | "PublishLetter" >> WriteToPubSub(self._topic, with_attributes=True)
        )
        return published


def address_letter(letter: DeadLetter) -> tuple[bytes, dict[str, str]]:
    """The message's data and attributes."""
    attributes = dict(letter.attributes) | {
        "workspace_id": letter.workspace_id,
        "dead_letter_step": letter.step,
        "dead_letter_reason": letter.reason,
        "dead_letter_detail": letter.detail,
    }
    return letter.payload, {name: _truncate(value) for name, value in attributes.items()}


def _truncate(value: str) -> str:
    return value.encode()[:MAX_ATTRIBUTE_BYTES].decode(errors="ignore")


class _AddressLetterFn(beam.DoFn):
    def process(self, letter: DeadLetter) -> Iterator[PubsubMessage]:
        data, attributes = address_letter(letter)
        yield PubsubMessage(data, attributes)
