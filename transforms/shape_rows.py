"""ShapeRows: resolved calls to the rows of their tables."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.calls import CallBlock
from schemas.outcomes import Outcome, OutcomeKey
from schemas.rejections import LetterBlock
from schemas.rows import Row, TableRows
from transforms.logic.count_calls import count_calls
from transforms.logic.shape_rows import shape_call, shape_call_without_traits, shape_dead_letter
from transforms.several_outputs import gives_several

# The rows of so many calls still lie in the processor's cache when a sink takes them.
_CALLS_A_TIME = 512

_SHAPES = {"calls": shape_call, "warehouse": shape_call_without_traits}
"""Where persons and their traits come from -> how a call becomes rows."""


class ShapedRows(NamedTuple):
    """What comes out of ShapeRows."""

    rows: PCollection
    """`TableRows`: one fact row a call, and audience memberships."""
    counts: PCollection
    """`tuple[OutcomeKey, int]`: the calls that are written."""


class ShapeRows(beam.PTransform):
    """Turn resolved calls into rows.

    `person_source` is `calls`, or `warehouse` where persons and their traits come from there: then none are written.
    """

    def __init__(self, person_source: str = "calls") -> None:
        super().__init__()
        self._fn = _ShapeCallFn(person_source)

    @gives_several
    def expand(self, calls: PCollection) -> ShapedRows:
        """Apply it to a PCollection of `CallBlock`."""
        shaped = calls | "ShapeCall" >> beam.ParDo(self._fn).with_outputs("counts", main="rows")
        return ShapedRows(shaped.rows, shaped.counts)


class ShapeDeadLetters(beam.PTransform):
    """Turn dead letters into rows of `dead_letters`."""

    def __init__(self, pipeline_version: str) -> None:
        super().__init__()
        self._fn = _ShapeDeadLetterFn(pipeline_version)

    def expand(self, dead_letters: PCollection) -> PCollection:
        """Apply it to a PCollection of `LetterBlock`; gives `TableRows`."""
        rows: PCollection = dead_letters | "ShapeDeadLetter" >> beam.ParDo(self._fn)
        return rows


class _ShapeCallFn(beam.DoFn):
    def __init__(self, person_source: str) -> None:
        self._shape = _SHAPES[person_source]
        self._calls = Metrics.counter("shape_rows", "calls")
        self._misfits = Metrics.counter("shape_rows", "values_that_do_not_fit_their_column")

    def process(
        self, block: CallBlock
    ) -> Iterator[TableRows | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]]:
        misfits = 0
        for start in range(0, len(block.calls), _CALLS_A_TIME):
            tables: dict[str, list[Row]] = {}
            for call in block.calls[start : start + _CALLS_A_TIME]:
                shaped = self._shape(call)
                tables.setdefault(shaped.table, []).append(shaped.row)
                if shaped.membership is not None:
                    tables.setdefault("audience_memberships", []).append(shaped.membership)
                misfits += shaped.misfits
            yield from (TableRows(table, rows) for table, rows in tables.items())
        self._calls.inc(len(block.calls))
        self._misfits.inc(misfits)
        for count in count_calls(block.calls, Outcome.WRITTEN).items():
            yield TaggedOutput("counts", count)


class _ShapeDeadLetterFn(beam.DoFn):
    def __init__(self, pipeline_version: str) -> None:
        self._pipeline_version = pipeline_version

    def process(self, block: LetterBlock) -> Iterator[TableRows]:
        rows = [row for letter in block.letters for row in shape_dead_letter(letter, self._pipeline_version)]
        yield TableRows("dead_letters", rows)
