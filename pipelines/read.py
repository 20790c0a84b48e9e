"""Where messages come from: Pub/Sub or files, in blocks."""

import gzip
import io
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.fileio import MatchFiles
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.bytes_read import BYTES_READ
from schemas.messages import Message, MessageBlock

# A block is one element: large enough that the cost of an element disappears, small enough to spread over workers and
# to be held a few times over.
BLOCK_BYTES = 4 * 1024 * 1024
BLOCK_MESSAGES = 500

# Beam fetches 16 MB from a bucket, whoever wants less. So a range has what one fetch brings, but for what its last line
# needs of the next: ranges of a block would be fetched four times over.
FETCHED_BYTES = 16 * 1024 * 1024 - 64 * 1024

_BOM = b"\xef\xbb\xbf"


class UnreadableFileError(Exception):
    """A file cannot be read, or not to its end; says which and why."""


class ReadFiles(beam.PTransform):
    """Read lines of files: `.jsonl` in ranges, `.jsonl.gz` each from its beginning. Gives `MessageBlock`s."""

    def __init__(self, pattern: str) -> None:
        super().__init__()
        self._pattern = pattern

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        blocks: PCollection = (
            begin
            | "MatchFiles" >> MatchFiles(self._pattern)
            | "SplitFiles" >> beam.FlatMap(split_file)
            | "SpreadRanges" >> beam.Reshuffle()
            | "ReadRanges" >> beam.ParDo(_ReadRangeFn())
        )
        return blocks


class ReadSubscription(beam.PTransform):
    """Read a Pub/Sub subscription. Gives `MessageBlock`s.

    Beam's time of a message is Pub/Sub's publish time: on it nothing is ever late, and the call's own time is data.
    A local stream reads in its own way (pipelines/local_runner.py).

    `window_seconds`: for how long its messages may wait for the end of their window, 0 if nothing waits. A block has
    messages of one window only, so that none is told before those that came first.
    """

    def __init__(self, subscription: str, window_seconds: int) -> None:
        super().__init__()
        self.subscription = subscription
        self.window_seconds = window_seconds

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        blocks: PCollection = (
            begin
            | "ReadMessages" >> beam.io.ReadFromPubSub(subscription=self.subscription, with_attributes=True)
            | "BlockMessages" >> beam.ParDo(BlockMessagesFn(self.subscription, self.window_seconds))
        )
        return blocks

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """By type, as Beam writes down its own reader: a local runner has to know it again."""
        written: tuple[str, bytes] = self.to_runner_api_pickled(context)
        return written


class BlockMessagesFn(beam.DoFn):
    """Gather the messages of a bundle into blocks, so that what follows costs per block and not per message."""

    def __init__(self, source: str, window_seconds: int) -> None:
        self._source = source
        self._window_seconds = window_seconds

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._gathered = _Gathered(self._source, self._window_seconds)

    def process(self, message: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[MessageBlock]:
        """Take a `PubsubMessage`; give a block when one is full."""
        for earliest, block in self._gathered.add(Message(message.data, message.attributes or {}, timestamp.micros)):
            timed: Any = TimestampedValue(block, Timestamp(micros=earliest))
            yield timed

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Give the rest."""
        for earliest, block in self._gathered.take_rest():
            yield WindowedValue(block, Timestamp(micros=earliest), (GlobalWindow(),))


def gather_blocks(
    messages: Iterable[Message], source: str, window_seconds: int, most: int = BLOCK_MESSAGES
) -> Iterator[tuple[int, MessageBlock]]:
    """Messages of a subscription in blocks of one window and `most` messages, each with its earliest publish time."""
    gathered = _Gathered(source, window_seconds, most)
    for message in messages:
        yield from gathered.add(message)
    yield from gathered.take_rest()


class _Gathered:
    """Messages that wait for their block to be full, by window."""

    def __init__(self, source: str, window_seconds: int, most: int = BLOCK_MESSAGES) -> None:
        self._source = source
        self._window_micros = window_seconds * 1_000_000
        self._most = most
        self._windows: dict[int, list[Message]] = {}

    def add(self, message: Message) -> Iterator[tuple[int, MessageBlock]]:
        """Take one; give its block if it is full."""
        window = (message.published_at or 0) // self._window_micros if self._window_micros else 0
        messages = self._windows.setdefault(window, [])
        messages.append(message)
        if len(messages) >= self._most:
            yield self._block(self._windows.pop(window))

    def take_rest(self) -> Iterator[tuple[int, MessageBlock]]:
        """Give all others, the first window first."""
        for window in sorted(self._windows):
            yield self._block(self._windows[window])
        self._windows.clear()

    def _block(self, messages: list[Message]) -> tuple[int, MessageBlock]:
        times = [message.published_at or 0 for message in messages]
        return min(times), MessageBlock(messages, self._source, times[-1])


class _ReadRangeFn(beam.DoFn):
    def process(self, file_range: tuple[str, int, int]) -> Iterator[MessageBlock]:
        path = file_range[0]
        try:
            for lines in read_lines(*file_range):
                yield _block_lines(lines, path)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFileError(f"{path} cannot be read: {error}") from error


def split_file(file: FileMetadata) -> Iterator[tuple[str, int, int]]:
    """Ranges of bytes: path, first and behind the last. What is compressed has one range, of unknown end."""
    if _is_compressed(file.path):
        yield file.path, 0, -1
        return
    step = FETCHED_BYTES if "://" in file.path else BLOCK_BYTES
    for start in range(0, file.size_in_bytes, step):
        yield file.path, start, min(start + step, file.size_in_bytes)


def read_lines(path: str, start: int, end: int) -> Iterator[list[bytes]]:
    """The lines that begin between two bytes of a file, a block at a time; what is compressed is read whole."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as raw:
        if end >= 0:
            lines = _read_range(raw, start, end)
            at_once = max(1, len(lines) * BLOCK_BYTES // max(end - start, BLOCK_BYTES))
            for first in range(0, len(lines), at_once):
                yield lines[first : first + at_once]
            BYTES_READ.add(end - start)
            return
        # opened raw and unpacked here, so that progress counts the bytes of the file
        with gzip.open(_CountingReader(raw)) as unpacked:
            while lines := unpacked.readlines(BLOCK_BYTES):
                yield lines


class _CountingReader(io.RawIOBase):
    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._raw.read(len(buffer))
        buffer[: len(data)] = data
        BYTES_READ.add(len(data))
        return len(data)


def _is_compressed(path: str) -> bool:
    return bool(CompressionTypes.detect_compression_type(path) == CompressionTypes.GZIP)


def _read_range(file: Any, start: int, end: int) -> list[bytes]:
    """The lines that begin in the range. One that begins at its very start belongs to it: the byte before tells."""
    file.seek(max(start - 1, 0))
    lines: list[bytes] = file.read(end - max(start - 1, 0)).split(b"\n")
    if start:
        del lines[0]
    if lines and lines[-1]:
        lines[-1] += file.readline().removesuffix(b"\n")
    return lines


def _block_lines(lines: list[bytes], path: str) -> MessageBlock:
    if lines and lines[0].startswith(_BOM):  # a file that was saved by a Windows editor
        lines[0] = lines[0].removeprefix(_BOM)
    nothing: dict[str, str] = {}  # one for all lines, which nobody changes
    messages = [Message(line.rstrip(b"\r\n"), nothing, None) for line in lines if line and not line.isspace()]
    return MessageBlock(messages, path, time.time_ns() // 1000)
