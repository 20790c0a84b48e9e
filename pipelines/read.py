"""Where messages come from: Pub/Sub or files, in blocks."""

import gzip
import io
import time
import zlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.fileio import MatchFiles
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.bytes_read import BYTES_READ
from schemas.messages import Message, MessageBlock

# A block is one element: large enough that the cost of an element disappears, small enough to spread over workers and
# to be held a few times over.
BLOCK_BYTES = 4 * 1024 * 1024
BLOCK_MESSAGES = 500

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
            | "SplitFiles" >> beam.ParDo(_SplitFileFn())
            | "SpreadRanges" >> beam.Reshuffle()
            | "ReadRanges" >> beam.ParDo(_ReadRangeFn())
        )
        return blocks


class ReadSubscription(beam.PTransform):
    """Read a Pub/Sub subscription. Gives `MessageBlock`s, each from one bundle.

    Beam's time of a message is Pub/Sub's publish time: on it nothing is ever late, and the call's own time is data.
    """

    def __init__(self, subscription: str) -> None:
        super().__init__()
        self._subscription = subscription

    def expand(self, begin: PBegin) -> PCollection:
        """Apply it to a pipeline."""
        blocks: PCollection = (
            begin
            | "ReadMessages" >> beam.io.ReadFromPubSub(subscription=self._subscription, with_attributes=True)
            | "BlockMessages" >> beam.ParDo(BlockMessagesFn(self._subscription))
        )
        return blocks


class BlockMessagesFn(beam.DoFn):
    """Gather the messages of a bundle into blocks, so that what follows costs per block and not per message."""

    def __init__(self, source: str) -> None:
        self._source = source

    def start_bundle(self) -> None:
        """Begin an empty block."""
        self._messages: list[Message] = []
        self._earliest: Any = None

    def process(self, message: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[MessageBlock]:
        """Take a `PubsubMessage`; give a block when one is full."""
        self._messages.append(Message(message.data, message.attributes or {}, timestamp.micros))
        self._earliest = timestamp if self._earliest is None else min(self._earliest, timestamp)
        if len(self._messages) >= BLOCK_MESSAGES:
            yield self._block()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Give the last block."""
        if self._messages:
            yield WindowedValue(self._block(), self._earliest, (GlobalWindow(),))

    def _block(self) -> MessageBlock:
        messages, self._messages = self._messages, []
        return MessageBlock(messages, self._source, messages[-1].published_at or 0)


class _SplitFileFn(beam.DoFn):
    def process(self, file: FileMetadata) -> Iterator[tuple[str, int, int]]:
        """A range of bytes each: path, first and behind the last. What is compressed has one range, of unknown end."""
        if _is_compressed(file.path):
            yield file.path, 0, -1
            return
        for start in range(0, file.size_in_bytes, BLOCK_BYTES):
            yield file.path, start, min(start + BLOCK_BYTES, file.size_in_bytes)


class _ReadRangeFn(beam.DoFn):
    def process(self, file_range: tuple[str, int, int]) -> Iterator[MessageBlock]:
        path = file_range[0]
        try:
            for lines in read_lines(*file_range):
                yield _block_lines(lines, path)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableFileError(f"{path} cannot be read: {error}") from error


def read_lines(path: str, start: int, end: int) -> Iterator[list[bytes]]:
    """The lines that begin between two bytes of a file; what is compressed is read whole, a part at a time."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as raw:
        if end >= 0:
            yield _read_range(raw, start, end)
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
    messages = [Message(line.rstrip(b"\r\n"), {}, None) for line in lines if line and not line.isspace()]
    return MessageBlock(messages, path, time.time_ns() // 1000)
