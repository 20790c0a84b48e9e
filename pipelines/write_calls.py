"""Segment calls to a Pub/Sub topic or to files, and dead letters to files."""

import base64
from collections.abc import Iterator

import apache_beam as beam
import msgspec
from apache_beam.io.gcp.pubsub import PubsubMessage, WriteToPubSub
from apache_beam.pvalue import PCollection

from pipelines.write_dead_letters import cut_attribute
from pipelines.write_lines import WriteLines
from schemas.outgoing_calls import OutgoingBlock
from schemas.rejections import DeadLetter
from transforms.logic.read_timestamps import format_timestamp

CALLS_FOLDER = "segment_calls"
DEAD_LETTERS_FOLDER = "dead_letters"

_ENCODER = msgspec.json.Encoder()


class PublishCalls(beam.PTransform):
    """Publish each call as JSON, with the attribute `workspace_id`."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    def expand(self, calls: PCollection) -> PCollection:
        """Apply it to a PCollection of `OutgoingBlock`."""
        published: PCollection = (
            calls
            | "AddressCall" >> beam.ParDo(_AddressCallFn())
            | "PublishCall" >> WriteToPubSub(self._topic, with_attributes=True)
        )
        return published


class WriteCalls(beam.PTransform):
    """Write calls to `DIR/segment_calls/part-ID.jsonl`."""

    def __init__(self, output_dir: str) -> None:
        super().__init__()
        self._output_dir = output_dir

    def expand(self, calls: PCollection) -> PCollection:
        """Apply it to a PCollection of `OutgoingBlock`; gives the paths of the files."""
        files: PCollection = (
            calls
            | "EncodeCalls" >> beam.ParDo(_EncodeCallsFn())
            | "WriteLines" >> WriteLines(self._output_dir, CALLS_FOLDER)
        )
        return files


class WriteDeadLetters(beam.PTransform):
    """Write dead letters to `DIR/dead_letters/part-ID.jsonl`, as `dead_letter_line` makes them."""

    def __init__(self, output_dir: str, pipeline_version: str) -> None:
        super().__init__()
        self._output_dir = output_dir
        self._pipeline_version = pipeline_version

    def expand(self, dead_letters: PCollection) -> PCollection:
        """Apply it to a PCollection of `DeadLetter`; gives the paths of the files."""
        files: PCollection = (
            dead_letters
            | "EncodeLetters" >> beam.ParDo(_EncodeLetterFn(self._pipeline_version))
            | "WriteLines" >> WriteLines(self._output_dir, DEAD_LETTERS_FOLDER)
        )
        return files


def dead_letter_line(letter: DeadLetter, pipeline_version: str) -> bytes:
    """The columns of the table `dead_letters` as a JSON object; bytes that are no text stand in `payload_base64`."""
    try:
        payload = {"payload": letter.payload.decode()}
    except UnicodeDecodeError:
        payload = {"payload_base64": base64.b64encode(letter.payload).decode()}
    return _ENCODER.encode(
        {
            "rejected_at": format_timestamp(letter.rejected_at),
            "workspace_id": letter.workspace_id,
            "connection_id": letter.connection_id,
            "step": letter.step,
            "reason": letter.reason,
            "detail": letter.detail,
            "type": letter.type,
            "message_id": letter.message_id,
            **payload,
            "attributes": dict(letter.attributes),
            "source": letter.source,
            "pipeline_version": pipeline_version,
        }
    )


class _AddressCallFn(beam.DoFn):
    def process(self, block: OutgoingBlock) -> Iterator[PubsubMessage]:
        for call in block.calls:
            yield PubsubMessage(call.payload, {"workspace_id": cut_attribute(call.workspace_id)})


class _EncodeCallsFn(beam.DoFn):
    def process(self, block: OutgoingBlock) -> Iterator[list[bytes]]:
        yield [call.payload for call in block.calls]


class _EncodeLetterFn(beam.DoFn):
    def __init__(self, pipeline_version: str) -> None:
        self._pipeline_version = pipeline_version

    def process(self, letter: DeadLetter) -> Iterator[list[bytes]]:
        yield [dead_letter_line(letter, self._pipeline_version)]
