"""A file of calls as a stream whose clock the benchmark turns: the same lines, bundles and windows for each engine."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from pipelines.local_streaming import READ_MESSAGES
from pipelines.read import gather_blocks
from schemas.messages import Message, MessageBlock

# When the stream begins: after all that the generated calls say of themselves.
_START_SECONDS = 1_800_000_000


class PlayCalls(beam.PTransform):
    """Give `MessageBlock`s as the local reader does, a read a bundle; `calls_a_window` messages come in each window."""

    def __init__(self, path: Path, calls_a_window: int, window_seconds: int) -> None:
        super().__init__()
        self._path = path
        self._calls_a_window = calls_a_window
        self._window_seconds = window_seconds

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        story: Any = TestStream()
        window = -1
        for start, number in _find_reads(self._path):
            if number // self._calls_a_window > window:
                window = number // self._calls_a_window
                story = story.advance_watermark_to(_START_SECONDS + window * self._window_seconds)
            arrival = _START_SECONDS + window * self._window_seconds
            story = story.add_elements([TimestampedValue(start, arrival)])
        blocks: PCollection = (
            begin
            | "Turn" >> story.advance_watermark_to_infinity()
            | "Read" >> beam.ParDo(_ReadFn(str(self._path), self._window_seconds))
        )
        return blocks


def _find_reads(path: Path) -> Iterator[tuple[int, int]]:
    """Where in the file each read begins, and the number of its first line."""
    start = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number % READ_MESSAGES == 0:
                yield start, number
            start += len(line)


class _ReadFn(beam.DoFn):
    def __init__(self, path: str, window_seconds: int) -> None:
        self._path = path
        self._window_seconds = window_seconds

    def process(self, start: int, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[MessageBlock]:
        with open(self._path, "rb") as lines:
            lines.seek(start)
            read_lines = islice(lines, READ_MESSAGES)
            messages = (Message(line.rstrip(b"\n"), {}, timestamp.micros) for line in read_lines)
            for _, block in gather_blocks(messages, "played", self._window_seconds, READ_MESSAGES):
                yield block


class GiveMessagesFn(beam.DoFn):
    """What a block holds, one by one, each at the time of its publishing: what Beam's own reader gives."""

    def process(self, block: MessageBlock) -> Iterator[PubsubMessage]:
        """Give `PubsubMessage`s."""
        for message in block.messages:
            timed: Any = TimestampedValue(
                PubsubMessage(message.payload, dict(message.attributes)), Timestamp(micros=message.published_at)
            )
            yield timed
