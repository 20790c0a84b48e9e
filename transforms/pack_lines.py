"""Lines of logs on their way to be grouped in a run over files: encoded one by one, a pack of some hundred for a shard.

A pack is the bytes of a `LogBlock`, or of a `PersonBlock`, as CompressedStructCoder makes them. A local runner decodes
and encodes again what it groups, and bytes cost it nothing. Not for streams: their jobs know blocks as they are.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from schemas.email_logs import LogLine
from transforms.coders import compress

# Some 300 lines: what is repeated in them compresses well.
PACK_BYTES = 64 * 1024
# For all shards of a bundle together: where they are many, packs are smaller.
WAITING_BYTES = 16 * 1024 * 1024

_encode = msgspec.msgpack.Encoder().encode

# MessagePack's array of one field, and of so many lines: https://github.com/msgpack/msgpack/blob/master/spec.md
_ONE_FIELD, _ARRAY_32 = b"\x91", b"\xdd"


class LinePacks:
    """What waits for its pack to be full, by shard; lives as long as a bundle."""

    def __init__(self, shards: int) -> None:
        self._full_bytes = min(PACK_BYTES, WAITING_BYTES // shards)
        self._waiting: defaultdict[int, _Pack] = defaultdict(_Pack)

    def add(self, lines: Iterable[LogLine | msgspec.Raw], shards: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """Take lines, encoded or not, each for its shard; give the packs that they fill."""
        for line, shard in zip(lines, shards, strict=True):
            encoded = _encode(line)
            pack = self._waiting[shard]
            pack.lines.append(encoded)
            pack.size += len(encoded)
            if pack.size >= self._full_bytes:
                yield self._take(shard)

    def take_rest(self) -> Iterator[WindowedValue]:
        """All other packs, at the end of a bundle."""
        for shard in list(self._waiting):
            yield WindowedValue(self._take(shard), GlobalWindow().max_timestamp(), (GlobalWindow(),))

    def _take(self, shard: int) -> tuple[int, bytes]:
        lines = self._waiting.pop(shard).lines
        return shard, compress(b"".join((_ONE_FIELD, _ARRAY_32, len(lines).to_bytes(4), *lines)))


class _Pack:
    __slots__ = ("lines", "size")

    def __init__(self) -> None:
        self.lines: list[bytes] = []  # not one buffer that grows: to make room in it would copy it for every line
        self.size = 0
