"""PackBlocks: blocks that are grouped in a run over files travel as the bytes that they are encoded to."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.coders import CompressedStructCoder


class PackBlocks(beam.PTransform):
    """Encode each block; who gets the group decodes it with the same coder.

    A local runner decodes and encodes again what it groups, and bytes cost it nothing. Not for streams: their blocks
    are small, and running jobs know them as they are.
    """

    def __init__(self, coder: CompressedStructCoder) -> None:
        super().__init__()
        self._fn = _PackBlockFn(coder)

    def expand(self, blocks: PCollection) -> PCollection:
        """Apply it to a PCollection of blocks by shard; gives `tuple[int, bytes]`."""
        packed: PCollection = blocks | "PackBlock" >> beam.ParDo(self._fn)
        return packed


class _PackBlockFn(beam.DoFn):
    def __init__(self, coder: CompressedStructCoder) -> None:
        self._encode = coder.encode

    def process(self, element: tuple[int, Any]) -> Iterator[tuple[int, bytes]]:
        yield element[0], self._encode(element[1])
