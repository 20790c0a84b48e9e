"""GatherCalls: the calls of a bundle come on together, however many keys have taken them apart."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from schemas.calls import CallBlock, SegmentCall

# A block is one element: what follows costs a block and not a call, and a worker holds a few of them.
BLOCK_CALLS = 2000


class GatherCallsFn(beam.DoFn):
    """Of the `CallBlock`s of a bundle gives few and full ones, of one window each."""

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._gathered: dict[Any, tuple[Any, list[SegmentCall]]] = {}

    def process(
        self, block: CallBlock, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[CallBlock]:
        """Take a block; give one when it is full."""
        earliest, calls = self._gathered.get(window, (timestamp, []))
        calls += block.calls
        if len(calls) >= BLOCK_CALLS:
            self._gathered.pop(window, None)
            yield CallBlock(calls)
        else:
            self._gathered[window] = min(earliest, timestamp), calls

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Give the rest."""
        for window, (earliest, calls) in self._gathered.items():
            yield WindowedValue(CallBlock(calls), earliest, (window,))
