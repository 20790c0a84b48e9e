"""Lines of logs on their way to be grouped in a run over files: encoded one by one, a pack of some hundred for a shard.

A pack is the bytes of a `LogBlock`, or of a `PersonBlock`, as CompressedStructCoder makes them. A local runner decodes
and encodes again what it groups, and bytes cost it nothing. Not for streams: their jobs know blocks as they are.
"""

from collections import defaultdict
from collections.abc import Iterator

import msgspec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from schemas.email_logs import LogLine
from transforms.coders import compress

# Some 300 lines: what is repeated in them compresses well.
PACK_BYTES = 64 * 1024
# For all shards of a bundle together: where they are many, packs are smaller.
WAITING_BYTES = 16 * 1024 * 1024

_ENCODER = msgspec.msgpack.Encoder()

# MessagePack's array of one field, and of so many lines: https://github.com/msgpack/msgpack/blob/master/spec.md
_ONE_FIELD, _ARRAY_32 = b"\x91", b"\xdd"


class LinePacks:
    """What waits for its pack to be full, by shard; lives as long as a bundle."""

    def __init__(self, shards: int) -> None:
        self._full_bytes = min(PACK_BYTES, WAITING_BYTES // shards)
        self._waiting: defaultdict[int, _Pack] = defaultdict(_Pack)

    def add(self, shard: int, line: LogLine) -> bool:
        """Take a line; whether the pack of the shard is full, and to be taken."""
        pack = self._waiting[shard]
        _ENCODER.encode_into(line, pack.encoded, -1)
        pack.lines += 1
        return len(pack.encoded) >= self._full_bytes

    def add_sealed(self, shard: int, sealed: msgspec.Raw) -> bool:
        """The same of a line that is encoded."""
        pack = self._waiting[shard]
        pack.encoded += sealed
        pack.lines += 1
        return len(pack.encoded) >= self._full_bytes

    def take(self, shard: int) -> tuple[int, bytes]:
        """The pack of a shard."""
        pack = self._waiting.pop(shard)
        return shard, compress(_ONE_FIELD + _ARRAY_32 + pack.lines.to_bytes(4) + pack.encoded)

    def take_rest(self) -> Iterator[WindowedValue]:
        """All other packs, at the end of a bundle."""
        for shard in list(self._waiting):
            yield WindowedValue(self.take(shard), GlobalWindow().max_timestamp(), (GlobalWindow(),))


class _Pack:
    __slots__ = ("encoded", "lines")

    def __init__(self) -> None:
        self.encoded = bytearray()
        self.lines = 0
