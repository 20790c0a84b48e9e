"""ParseEmailLogs: messages in, log lines or dead letters out."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.email_logs import LogBlock
from schemas.messages import MessageBlock
from schemas.rejections import LetterBlock, Reason
from transforms.logic.bury_message import bury_message
from transforms.logic.email_logs.parse_email_logs import parse_email_logs
from transforms.rejection_limit import find_limit
from transforms.several_outputs import gives_several

# Lines are sent on while they are in the processor's cache: a range of a file has some ten thousand.
MESSAGES_AT_ONCE = 500


class ParsedEmailLogs(NamedTuple):
    """What comes out of ParseEmailLogs; every event of every message comes out of exactly one of the two."""

    lines: PCollection
    """`LogBlock`."""
    dead_letters: PCollection
    """`LetterBlock`: of a batch only the events that were rejected."""


class ParseEmailLogs(beam.PTransform):
    """`MessageBlock`s to the lines of email logs, of whichever provider, and dead letters."""

    def __init__(self, default_workspace_id: str, max_log_bytes: int, max_rejected_percent: float) -> None:
        super().__init__()
        self._fn = _ParseEmailLogFn(default_workspace_id, max_log_bytes, max_rejected_percent)

    @gives_several
    def expand(self, messages: PCollection) -> ParsedEmailLogs:
        """Apply it to a PCollection of `MessageBlock`."""
        parsed = messages | "ParseEmailLog" >> beam.ParDo(self._fn).with_outputs("dead_letters", main="lines")
        return ParsedEmailLogs(parsed.lines, parsed.dead_letters)


class _ParseEmailLogFn(beam.DoFn):
    def __init__(self, default_workspace_id: str, max_log_bytes: int, max_rejected_percent: float) -> None:
        self._default_workspace_id = default_workspace_id
        self._max_log_bytes = max_log_bytes
        self._max_rejected_percent = max_rejected_percent
        self._lines = Metrics.counter("parse_email_logs", "lines")
        self._rejected = {reason: Metrics.counter("parse_email_logs", f"rejected_{reason.value}") for reason in Reason}

    def setup(self) -> None:
        self._limit = find_limit("ParseEmailLogs", self._max_rejected_percent)

    def process(self, block: MessageBlock) -> Iterator[LogBlock | TaggedOutput[Literal["dead_letters"], LetterBlock]]:
        read = unexpected = 0
        letters = []
        for start in range(0, len(block.messages), MESSAGES_AT_ONCE):
            messages = block.messages[start : start + MESSAGES_AT_ONCE]
            parsed = parse_email_logs(messages, block.read_at, self._default_workspace_id, self._max_log_bytes)
            self._lines.inc(len(parsed.lines))
            read += len(parsed.lines)
            if parsed.lines:
                yield LogBlock(parsed.lines)
            for payload, verdict, message in parsed.rejected:
                self._rejected[verdict.reason].inc()
                # Providers are asked for all they have: what is of no use to us is no sign of a wrong input.
                unexpected += verdict.reason != Reason.EVENT_NOT_REPORTED
                letters.append(
                    bury_message(message, block, "ParseEmailLogs", verdict, self._default_workspace_id, payload)
                )
        if letters:
            yield TaggedOutput("dead_letters", LetterBlock(letters))
        # Of the whole block, so that some bad lines at the beginning of a file stop nothing.
        self._limit.observe(read + unexpected, unexpected)
