"""ParseIdentityUpdates: messages in, news of who is who or dead letters out."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.email_logs import LogBlock
from schemas.messages import MessageBlock
from schemas.rejections import LetterBlock, Reason, Rejected
from transforms.logic.bury_message import bury_message
from transforms.logic.parse_identity_update import parse_identity_update
from transforms.rejection_limit import find_limit
from transforms.several_outputs import gives_several


class ParsedUpdates(NamedTuple):
    """What comes out of ParseIdentityUpdates; every message comes out of exactly one of the two."""

    updates: PCollection
    """`LogBlock` without lines."""
    dead_letters: PCollection
    """`LetterBlock`."""


class ParseIdentityUpdates(beam.PTransform):
    """`MessageBlock`s to identity updates, and dead letters."""

    def __init__(self, default_workspace_id: str, max_rejected_percent: float) -> None:
        super().__init__()
        self._fn = _ParseUpdateFn(default_workspace_id, max_rejected_percent)

    @gives_several
    def expand(self, messages: PCollection) -> ParsedUpdates:
        """Apply it to a PCollection of `MessageBlock`."""
        parsed = messages | "ParseUpdate" >> beam.ParDo(self._fn).with_outputs("dead_letters", main="updates")
        return ParsedUpdates(parsed.updates, parsed.dead_letters)


class _ParseUpdateFn(beam.DoFn):
    def __init__(self, default_workspace_id: str, max_rejected_percent: float) -> None:
        self._default_workspace_id = default_workspace_id
        self._max_rejected_percent = max_rejected_percent
        self._updates = Metrics.counter("parse_identity_updates", "updates")
        self._rejected = {
            reason: Metrics.counter("parse_identity_updates", f"rejected_{reason.value}") for reason in Reason
        }

    def setup(self) -> None:
        self._limit = find_limit("ParseIdentityUpdates", self._max_rejected_percent)

    def process(self, block: MessageBlock) -> Iterator[LogBlock | TaggedOutput[Literal["dead_letters"], LetterBlock]]:
        updates = LogBlock([], [])
        letters = []
        for message in block.messages:
            try:
                updates.updates.append(parse_identity_update(message))
            except Rejected as verdict:
                self._rejected[verdict.reason].inc()
                letters.append(
                    bury_message(message, block, "ParseIdentityUpdates", verdict, self._default_workspace_id)
                )
        hint = "Are these identity updates?"
        self._limit.observe(len(block.messages), len(letters), "identity updates", hint)
        self._updates.inc(len(updates.updates))
        if updates.updates:
            yield updates
        if letters:
            yield TaggedOutput("dead_letters", LetterBlock(letters))
