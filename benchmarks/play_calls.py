"""A file of calls as a stream whose clock the benchmark turns: the same lines, bundles and windows for each engine.

The first START_CALLS come alone, in a window of their own. The runner reads only when nothing else is left to do, so
when the next ones are read every step has done with these: the start is over.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from pipelines.local_streaming import READ_MESSAGES
from pipelines.read import gather_blocks
from schemas.messages import Message, MessageBlock

# So many that each step is reached.
START_CALLS = 100

# When the stream begins: after all that the generated calls say of themselves.
_START_SECONDS = 1_800_000_000


class PlayCalls(beam.PTransform):
    """Give `MessageBlock`s as the local reader does, a read a bundle; `calls_a_window` messages come in each window.

    `end_start` is called when the start is over. It must be importable, for it travels by its name.
    """

    def __init__(self, path: Path, calls_a_window: int, window_seconds: int, end_start: Callable[[], None]) -> None:
        super().__init__()
        self._path = path
        self._calls_a_window = calls_a_window
        self._window_seconds = window_seconds
        self._end_start = end_start

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        story: Any = TestStream()
        window = -1
        for read in _find_reads(self._path):
            of_read = 0 if read.first < 0 else 1 + read.first // self._calls_a_window
            if of_read > window:
                window = of_read
                story = story.advance_watermark_to(_START_SECONDS + window * self._window_seconds)
            arrival = _START_SECONDS + window * self._window_seconds
            story = story.add_elements([TimestampedValue(read, arrival)])
        blocks: PCollection = (
            begin
            | "Turn" >> story.advance_watermark_to_infinity()
            | "Read" >> beam.ParDo(_ReadFn(str(self._path), self._window_seconds, self._end_start))
        )
        return blocks


class _Read(NamedTuple):
    """Lines that come together."""

    offset: int
    """Where in the file they begin."""
    first: int
    """The number of the first, not counting the start's; the start's are below 0."""
    most: int


def _find_reads(path: Path) -> Iterator[_Read]:
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, -START_CALLS):
            if number == -START_CALLS:
                yield _Read(offset, number, START_CALLS)
            elif number >= 0 and number % READ_MESSAGES == 0:
                yield _Read(offset, number, READ_MESSAGES)
            offset += len(line)


class _ReadFn(beam.DoFn):
    def __init__(self, path: str, window_seconds: int, end_start: Callable[[], None]) -> None:
        self._path = path
        self._window_seconds = window_seconds
        self._end_start = end_start

    def process(self, read: _Read, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[MessageBlock]:
        if read.first == 0:
            self._end_start()
        with open(self._path, "rb") as lines:
            lines.seek(read.offset)
            read_lines = islice(lines, read.most)
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
