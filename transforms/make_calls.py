"""MakeCalls: email calls to JSON, ready to be sent."""

import time
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.calls import MAX_CALL_BYTES
from schemas.email_calls import EmailCallBlock, EmailCallKind
from schemas.outgoing_calls import OutgoingBlock, OutgoingCall
from schemas.rejections import DeadLetter, LetterBlock, Reason
from transforms.logic.make_call import derive_message_id, make_calls
from transforms.logic.snake_case import snake_case
from transforms.several_outputs import gives_several

_find_kind = attrgetter("kind")


class MadeCalls(NamedTuple):
    """What comes out of MakeCalls; every call comes out of exactly one of the two."""

    calls: PCollection
    """`OutgoingBlock`."""
    dead_letters: PCollection
    """`LetterBlock`: what is larger than Segment takes."""


class MakeCalls(beam.PTransform):
    """Write each call as JSON."""

    @gives_several
    def expand(self, calls: PCollection) -> MadeCalls:
        """Apply it to a PCollection of `EmailCallBlock`."""
        made = calls | "MakeCall" >> beam.ParDo(_MakeCallFn()).with_outputs("dead_letters", main="calls")
        return MadeCalls(made.calls, made.dead_letters)


class _MakeCallFn(beam.DoFn):
    def __init__(self) -> None:
        self._made = {kind.value: Metrics.counter("make_calls", snake_case(kind.value)) for kind in EmailCallKind}
        self._too_large = Metrics.counter("make_calls", "rejected_too_large")

    def process(
        self, block: EmailCallBlock
    ) -> Iterator[OutgoingBlock | TaggedOutput[Literal["dead_letters"], LetterBlock]]:
        made, too_large = make_calls(block.calls)
        for kind, count in Counter(map(_find_kind, made.calls)).items():
            self._made[kind].inc(count)
        self._too_large.inc(len(too_large))
        if made.calls:
            yield made
        if too_large:
            yield TaggedOutput("dead_letters", LetterBlock(list(map(_bury, too_large))))


def _bury(made: OutgoingCall) -> DeadLetter:
    line = made.made_of.line
    return DeadLetter(
        made.payload,
        "MakeCalls",
        Reason.TOO_LARGE.value,
        f"the call has {len(made.payload):,} bytes; Segment takes {MAX_CALL_BYTES:,}",
        # Not the line's arrival: an identify has none, and a click may have waited long for its open.
        time.time_ns() // 1000,
        line.workspace_id,
        line.connection_id,
        message_id=derive_message_id(made.made_of),
    )
