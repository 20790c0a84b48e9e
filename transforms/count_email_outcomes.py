"""What rows of `email_counts` are made of: `CountOutcomes` adds it up."""

import time
from collections import Counter
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas.email_logs import LogBlock
from schemas.email_outcomes import EmailOutcome, EmailOutcomeKey
from schemas.outgoing_calls import OutgoingBlock
from schemas.rejections import LetterBlock
from transforms.logic.count_email_outcomes import count_delivered, count_email_letter, count_repeats


class CountDelivered(beam.PTransform):
    """Calls that have been delivered, to counts of now. `outcome` is what delivered calls count as."""

    def __init__(self, outcome: EmailOutcome) -> None:
        super().__init__()
        self._outcome = outcome

    def expand(self, delivered: PCollection) -> PCollection:
        """Apply it to a PCollection of `OutgoingBlock`; gives `tuple[EmailOutcomeKey, int]`."""
        counts: PCollection = delivered | "CountCalls" >> beam.ParDo(_CountCallsFn(self._outcome))
        return counts


class CountRepeats(beam.PTransform):
    """Repeated lines to counts."""

    def expand(self, repeats: PCollection) -> PCollection:
        """Apply it to a PCollection of `LogBlock`; gives `tuple[EmailOutcomeKey, int]`."""
        counts: PCollection = repeats | "CountLines" >> beam.ParDo(_CountLinesFn())
        return counts


class CountEmailLetters(beam.PTransform):
    """Dead letters of the email pipeline to counts."""

    def expand(self, dead_letters: PCollection) -> PCollection:
        """Apply it to a PCollection of `LetterBlock`; gives `tuple[EmailOutcomeKey, int]`."""
        counts: PCollection = dead_letters | "CountLetter" >> beam.ParDo(_CountLetterFn())
        return counts


class _CountCallsFn(beam.DoFn):
    def __init__(self, outcome: EmailOutcome) -> None:
        self._outcome = outcome

    def process(self, block: OutgoingBlock) -> Iterator[tuple[EmailOutcomeKey, int]]:
        yield from count_delivered(block.calls, self._outcome, time.time_ns() // 1000).items()


class _CountLinesFn(beam.DoFn):
    def process(self, block: LogBlock) -> Iterator[tuple[EmailOutcomeKey, int]]:
        yield from count_repeats(block.lines).items()


class _CountLetterFn(beam.DoFn):
    def process(self, block: LetterBlock) -> Iterator[tuple[EmailOutcomeKey, int]]:
        yield from Counter(map(count_email_letter, block.letters)).items()
