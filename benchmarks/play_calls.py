"""A file of calls as a stream whose clock the benchmark turns: the same lines, bundles and windows for each engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

# As many as the local streaming runner pulls at once.
MESSAGES_A_PULL = 1000

# When the stream begins: after all that the generated calls say of themselves.
_START_SECONDS = 1_800_000_000


class PlayCalls(beam.PTransform):
    """Give `PubsubMessage`s, a pull a bundle; `calls_a_window` of them arrive in each window."""

    def __init__(self, path: Path, calls_a_window: int, window_seconds: int) -> None:
        super().__init__()
        self._path = path
        self._calls_a_window = calls_a_window
        self._window_seconds = window_seconds

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        story: Any = TestStream()
        window = -1
        for start, number in _find_pulls(self._path):
            if number // self._calls_a_window > window:
                window = number // self._calls_a_window
                story = story.advance_watermark_to(_START_SECONDS + window * self._window_seconds)
            arrival = _START_SECONDS + window * self._window_seconds
            story = story.add_elements([TimestampedValue(start, arrival)])
        messages: PCollection = (
            begin | "Turn" >> story.advance_watermark_to_infinity() | "Pull" >> beam.ParDo(_PullFn(str(self._path)))
        )
        return messages


def _find_pulls(path: Path) -> Iterator[tuple[int, int]]:
    """Where in the file each pull begins, and the number of its first line."""
    start = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines):
            if number % MESSAGES_A_PULL == 0:
                yield start, number
            start += len(line)


class _PullFn(beam.DoFn):
    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, start: int) -> Iterator[PubsubMessage]:
        with open(self._path, "rb") as lines:
            lines.seek(start)
            for _, line in zip(range(MESSAGES_A_PULL), lines, strict=False):
                yield PubsubMessage(line.rstrip(b"\n"), {})
