"""Dead letters to a Pub/Sub topic: the original bytes, the reason in the attributes."""

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage, WriteToPubSub
from apache_beam.pvalue import PCollection

from schemas.rejections import DeadLetter, LetterBlock

# Pub/Sub refuses more than this, and attributes whose names begin with "goog": what it sets itself arrives with them.
# https://cloud.google.com/pubsub/quotas#resource_limits
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_BYTES = 1024
_RESERVED = "goog"

# Beam wants a whole message, attributes included, within 10,000,000 bytes; 100 attributes take 130,000 at most.
MAX_DATA_BYTES = 9_800_000


class PublishDeadLetters(beam.PTransform):
    """Publish each dead letter with its own attributes and `dead_letter_step`, `_reason`, `_detail`."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    def expand(self, dead_letters: PCollection) -> PCollection:
        """Apply it to a PCollection of `LetterBlock`."""
        published: PCollection = (
            dead_letters
            | "AddressLetter" >> beam.ParDo(_AddressLetterFn())
            | "PublishLetter" >> WriteToPubSub(self._topic, with_attributes=True)
        )
        return published


def address_letter(letter: DeadLetter) -> tuple[bytes, dict[str, str]]:
    """The message's data and attributes, within what Pub/Sub takes: one letter over it would stop the whole job.

    A longer payload is cut, and `dead_letter_payload_bytes` says how long it was.
    """
    ours = {
        "workspace_id": letter.workspace_id,
        "dead_letter_step": letter.step,
        "dead_letter_reason": letter.reason,
        "dead_letter_detail": letter.detail,
    }
    if len(letter.payload) > MAX_DATA_BYTES:
        ours["dead_letter_payload_bytes"] = str(len(letter.payload))
    theirs = [name for name in letter.attributes if name not in ours and not name.startswith(_RESERVED)]
    theirs.sort(key=lambda name: name not in ("connection_id", "received_at"))  # what a replay needs comes first
    attributes = {name: letter.attributes[name] for name in theirs[: MAX_ATTRIBUTES - len(ours)]} | ours
    return letter.payload[:MAX_DATA_BYTES], {name: cut_attribute(value) for name, value in attributes.items()}


def cut_attribute(value: str) -> str:
    """As much of an attribute's value as Pub/Sub takes."""
    return value.encode()[:MAX_ATTRIBUTE_BYTES].decode(errors="ignore")


class _AddressLetterFn(beam.DoFn):
    def process(self, block: LetterBlock) -> Iterator[PubsubMessage]:
        for letter in block.letters:
            yield PubsubMessage(*address_letter(letter))
