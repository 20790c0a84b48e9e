"""PackBlocks: blocks to bytes of a third of their length, since what is grouped in a run over files waits in memory."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import apache_beam as beam
import msgspec
import pyarrow as pa
from apache_beam.pvalue import PCollection

from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock

Block = TypeVar("Block", bound=msgspec.Struct)

_LENGTH_BYTES = 4
_CODEC = pa.Codec("lz4_raw")
_ENCODER = msgspec.msgpack.Encoder()


class PackBlocks(beam.PTransform):
    """Pack each block. Not for streams: there blocks are small, and running jobs know them as they are."""

    def expand(self, blocks: PCollection) -> PCollection:
        """Apply it to a PCollection of `LogBlock`s or `PersonBlock`s by shard; gives `tuple[int, bytes]`."""
        packed: PCollection = blocks | "PackBlock" >> beam.ParDo(_PackBlockFn())
        return packed


class Unpacker(Generic[Block]):
    """Unpacks blocks of one type."""

    def __init__(self, block_type: type[Block]) -> None:
        self._decoder = msgspec.msgpack.Decoder(block_type)

    def unpack(self, packed: bytes) -> Block:
        """The block that `pack_block` was given."""
        length = int.from_bytes(packed[:_LENGTH_BYTES], "little")
        return self._decoder.decode(_CODEC.decompress(memoryview(packed)[_LENGTH_BYTES:], length))


def pack_block(block: msgspec.Struct) -> bytes:
    """What an `Unpacker` of its type makes a block of again."""
    encoded = _ENCODER.encode(block)
    packed: bytes = _CODEC.compress(encoded, asbytes=True)
    return len(encoded).to_bytes(_LENGTH_BYTES, "little") + packed


class _PackBlockFn(beam.DoFn):
    def process(self, element: tuple[int, LogBlock | PersonBlock]) -> Iterator[tuple[int, bytes]]:
        shard, block = element
        yield shard, pack_block(block)
