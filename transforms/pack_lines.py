"""Lines of logs on their way to be grouped in a run over files: encoded, a pack of some hundred for a shard.

A pack is the bytes of a `LogBlock`, or of a `PersonBlock`, as CompressedStructCoder makes them. A local runner decodes
and encodes again what it groups, and bytes cost it nothing. Not for streams: their jobs know blocks as they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from schemas.email_logs import LogLine
from transforms.coders import compress

# For all shards of a bundle together: 64 KB, or some 150 lines, a pack where they are 512. What is repeated in so many
# compresses well.
WAITING_BYTES = 32 * 1024 * 1024

_encode = msgspec.msgpack.Encoder().encode
_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode

# MessagePack's array of one field, and of so many lines: https://github.com/msgpack/msgpack/blob/master/spec.md
_ONE_FIELD, _ARRAY_32 = b"\x91", b"\xdd"


def seal(lines: Sequence[LogLine]) -> list[msgspec.Raw]:
    """Encode each line. All of them at once takes less than one by one."""
    return _split(_encode(lines))


class LinePacks:
    """What waits for the packs to be full, by shard; lives as long as a bundle."""

    def __init__(self) -> None:
        self._waiting: defaultdict[int, list[msgspec.Raw]] = defaultdict(list)
        self._waiting_bytes = 0

    def add(self, lines: Sequence[msgspec.Raw], shards: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Take encoded lines, each for its shard; give the packs of all shards if these fill them.

        All at once: to encode each line and count its shard's bytes took two thirds longer.
        """
        waiting = self._waiting
        for line, shard in zip(lines, shards, strict=True):
            waiting[shard].append(line)
        self._waiting_bytes += len(_encode(lines))  # one copy, only to weigh them: a Raw does not tell its length
        if self._waiting_bytes >= WAITING_BYTES:
            yield from self._take()

    def take_rest(self) -> Iterator[WindowedValue]:
        """All other packs, at the end of a bundle."""
        for pack in self._take():
            yield WindowedValue(pack, GlobalWindow().max_timestamp(), (GlobalWindow(),))

    def _take(self) -> Iterator[tuple[int, bytes]]:
        full, self._waiting, self._waiting_bytes = self._waiting, defaultdict(list), 0
        for shard, lines in full.items():
            yield shard, compress(b"".join((_ONE_FIELD, _ARRAY_32, len(lines).to_bytes(4), *lines)))
