"""ParseCalls: messages in, Segment calls or dead letters out."""

from collections.abc import Iterator
from typing import Literal, NamedTuple
from uuid import uuid4
from zlib import crc32

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.calls import BLOCK_ID_BYTES, GROUP_ID_BYTES, CallBlock, CallType, SegmentCall
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.messages import MessageBlock
from schemas.rejections import DeadLetter, LetterBlock, Reason, Rejected
from transforms.logic.bury_message import bury_message
from transforms.logic.parse_call import parse_call
from transforms.logic.suppress_calls import suppressed_keys
from transforms.rejection_limit import find_limit
from transforms.several_outputs import gives_several

SUPPRESSING_IN_FILES = frozenset({CallType.SUPPRESS})
SUPPRESSING_IN_STREAMS = frozenset({CallType.SUPPRESS, CallType.DELETE})

# A lookup takes two milliseconds, and what it finds is held: of this many blocks some ten thousand rows.
BLOCKS_A_GROUP = 64


class ParsedCalls(NamedTuple):
    """What comes out of ParseCalls; every message comes out of exactly one of the two."""

    calls: PCollection
    """`CallBlock`: the valid calls, and what is to be suppressed."""
    dead_letters: PCollection
    """`LetterBlock`."""


class ParseCalls(beam.PTransform):
    """`MessageBlock`s to valid calls and dead letters.

    A block of calls also says what they suppress: what a `suppress` message names, in a stream also what a delete call
    carries. In bounded input a delete call suppresses nothing here, because ResolveIdentities knows the whole person.
    """

    def __init__(
        self,
        default_workspace_id: str,
        max_call_bytes: int,
        max_rejected_percent: float,
        rules: IdentityRules = DEFAULT_RULES,
    ) -> None:
        super().__init__()
        self._arguments = default_workspace_id, max_call_bytes, max_rejected_percent, rules

    @gives_several
    def expand(self, messages: PCollection) -> ParsedCalls:
        """Apply it to a PCollection of `MessageBlock`."""
        fn = _ParseCallFn(*self._arguments, are_files=messages.is_bounded)
        parsed = messages | "ParseCall" >> beam.ParDo(fn).with_outputs("dead_letters", main="calls")
        return ParsedCalls(parsed.calls, parsed.dead_letters)


def _number_blocks() -> Iterator[bytes]:
    """Ids for blocks. Two may say the same, and one of them is then dropped: a block's content cannot be its id."""
    while True:
        group = uuid4().bytes[:GROUP_ID_BYTES]
        yield from (group + number.to_bytes(BLOCK_ID_BYTES - GROUP_ID_BYTES) for number in range(BLOCKS_A_GROUP))


class _ParseCallFn(beam.DoFn):
    def __init__(
        self,
        default_workspace_id: str,
        max_call_bytes: int,
        max_rejected_percent: float,
        rules: IdentityRules,
        *,
        are_files: bool,
    ) -> None:
        self._default_workspace_id = default_workspace_id
        self._max_call_bytes = max_call_bytes
        self._max_rejected_percent = max_rejected_percent
        self._rules = rules
        self._are_files = are_files
        self._suppressing = SUPPRESSING_IN_FILES if are_files else SUPPRESSING_IN_STREAMS
        self._parsed = Metrics.counter("parse_calls", "calls")
        self._rejected = {reason: Metrics.counter("parse_calls", f"rejected_{reason.value}") for reason in Reason}

    def setup(self) -> None:
        self._block_ids = _number_blocks()
        self._limit = find_limit("ParseCalls", self._max_rejected_percent)

    def process(self, block: MessageBlock) -> Iterator[CallBlock | TaggedOutput[Literal["dead_letters"], LetterBlock]]:
        calls: list[SegmentCall] = []
        suppress: list[bytes] = []
        letters: list[DeadLetter] = []
        for message in block.messages:
            try:
                call = parse_call(message, block.read_at, self._default_workspace_id, self._max_call_bytes)
            except Rejected as verdict:
                self._rejected[verdict.reason].inc()
                letters.append(bury_message(message, block, "ParseCalls", verdict, self._default_workspace_id))
                continue
            if call.payload is not None:
                call.attributes, call.source = dict(message.attributes), block.source
            if self._are_files:
                call.checksum = crc32(message.payload)
            if call.type in self._suppressing:
                suppress += suppressed_keys(call, self._rules)
            calls.append(call)
        self._limit.observe(len(block.messages), len(letters))
        self._parsed.inc(len(calls))
        if calls:
            yield CallBlock(calls, suppress, next(self._block_ids))
        if letters:
            yield TaggedOutput("dead_letters", LetterBlock(letters))
