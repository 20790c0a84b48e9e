"""CountOutcomes: rows of `counts` and `email_counts`, which add up to what came in."""

from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindows

from schemas.email_outcomes import EmailOutcomeKey
from schemas.outcomes import OutcomeKey
from schemas.rejections import LetterBlock
from schemas.rows import TableRows
from transforms.logic.count_calls import count_dead_letter
from transforms.logic.shape_rows import shape_count
from transforms.windows import window_by_arrival


class CountOutcomes(beam.PTransform):
    """Add up counts a window and turn them into rows.

    Rows are additive: several may stand for one minute (a late pane, a worker's share), and readers sum them.
    """

    def __init__(self, window_seconds: int, table: str = "counts") -> None:
        super().__init__()
        self._window_seconds = window_seconds
        self._table = table

    def expand(self, counts: PCollection) -> PCollection:
        """Apply it to a PCollection of `tuple[OutcomeKey, int]`, or of `EmailOutcomeKey`s; gives `TableRows`."""
        if not counts.is_bounded:
            counts = counts | "WindowCounts" >> window_by_arrival(self._window_seconds)
        rows: PCollection = (
            counts | "SumCounts" >> beam.CombinePerKey(sum) | "ShapeCount" >> beam.ParDo(_ShapeCountFn(self._table))
        )
        if not counts.is_bounded:
            rows = rows | "WindowGlobally" >> beam.WindowInto(GlobalWindows())
        return rows


class CountDeadLetters(beam.PTransform):
    """Dead letters to counts."""

    def expand(self, dead_letters: PCollection) -> PCollection:
        """Apply it to a PCollection of `LetterBlock`; gives `tuple[OutcomeKey, int]`."""
        counts: PCollection = dead_letters | "CountDeadLetter" >> beam.ParDo(_CountDeadLetterFn())
        return counts


class _CountDeadLetterFn(beam.DoFn):
    def process(self, block: LetterBlock) -> Iterator[tuple[OutcomeKey, int]]:
        yield from Counter(map(count_dead_letter, block.letters)).items()


class _ShapeCountFn(beam.DoFn):
    def __init__(self, table: str) -> None:
        self._table = table

    def process(self, counted: tuple[OutcomeKey | EmailOutcomeKey, int]) -> Iterator[TableRows]:
        yield TableRows(self._table, [shape_count(*counted, self._table)])
