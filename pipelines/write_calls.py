"""Segment calls to a Pub/Sub topic or to files, and dead letters to files."""

import base64
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.io.gcp.pubsub import PubsubMessage, WriteToPubSub
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.write_dead_letters import cut_attribute
from pipelines.write_lines import WriteLines
from schemas.outgoing_calls import OutgoingBlock, OutgoingCall
from schemas.rejections import DeadLetter, LetterBlock
from transforms.logic.outgoing_blocks import split_block
from transforms.logic.read_timestamps import format_timestamp

CALLS_FOLDER = "segment_calls"
DEAD_LETTERS_FOLDER = "dead_letters"

# As long as Beam's own sink waits for Pub/Sub's answer.
PUBLISH_SECONDS = 300.0

# A bundle over files may have every call of a shard: so many may be on their way to Pub/Sub, 2 KB each or so.
MAX_UNANSWERED = 5_000

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


class PublishCallsAndTell(PublishCalls):
    """The same, and give the blocks when Pub/Sub has answered that it has all of their calls.

    Beam's sink gives nothing. So this publishes by itself: each call with Google's client, which batches them, and the
    answers are awaited at the end of the bundle. At least once, as with Beam's: a bundle that fails is published again.
    """

    def expand(self, calls: PCollection) -> PCollection:
        """Apply it to a PCollection of `OutgoingBlock`; gives them in the global window."""
        taken: PCollection = (
            calls
            | "WindowGlobally" >> beam.WindowInto(GlobalWindows())
            | "PublishBlock" >> beam.ParDo(_PublishBlockFn(self._topic))
        )
        return taken


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
        """Apply it to a PCollection of `LetterBlock`; gives the paths of the files."""
        files: PCollection = (
            dead_letters
            | "EncodeLetters" >> beam.ParDo(_EncodeLetterFn(self._pipeline_version))
            | "WriteLines" >> WriteLines(self._output_dir, DEAD_LETTERS_FOLDER)
        )
        return files


def address_call(call: OutgoingCall) -> dict[str, str]:
    """The attributes of a call's message."""
    return {"workspace_id": cut_attribute(call.made_of.line.workspace_id)}


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
        for call in split_block(block):
            yield PubsubMessage(call.payload, address_call(call))


class _PublishBlockFn(beam.DoFn):
    def __init__(self, topic: str) -> None:
        self._topic = topic

    def setup(self) -> None:
        import google.cloud.pubsub_v1 as pubsub_v1

        self._client = pubsub_v1.PublisherClient()

    def start_bundle(self) -> None:
        self._start()
        self._timestamp = GlobalWindow().max_timestamp()

    def process(self, block: OutgoingBlock, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[OutgoingBlock]:
        self._timestamp = timestamp
        self._blocks.append(block)
        self._answers += [
            self._client.publish(self._topic, call.payload, **address_call(call)) for call in split_block(block)
        ]
        if len(self._answers) >= MAX_UNANSWERED:
            yield from self._await_answers()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for block in self._await_answers():
            yield WindowedValue(block, self._timestamp, (GlobalWindow(),))

    def teardown(self) -> None:
        self._client.stop()
        self._client.transport.close()

    def _start(self) -> None:
        self._blocks: list[OutgoingBlock] = []
        self._answers: list[Any] = []

    def _await_answers(self) -> list[OutgoingBlock]:
        """The blocks that Pub/Sub has. Raises what Google's client does if it does not take one of the calls."""
        give_up = time.monotonic() + PUBLISH_SECONDS
        for answer in self._answers:
            answer.result(timeout=max(0.0, give_up - time.monotonic()))
        taken = self._blocks
        self._start()
        return taken


class _EncodeCallsFn(beam.DoFn):
    def process(self, block: OutgoingBlock) -> Iterator[bytes]:
        yield block.lines


class _EncodeLetterFn(beam.DoFn):
    def __init__(self, pipeline_version: str) -> None:
        self._pipeline_version = pipeline_version

    def process(self, block: LetterBlock) -> Iterator[bytes]:
        yield b"".join([dead_letter_line(letter, self._pipeline_version) + b"\n" for letter in block.letters])
