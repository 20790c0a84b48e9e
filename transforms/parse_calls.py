"""ParseCalls: messages in, Segment calls or dead letters out."""

from collections.abc import Iterator
from typing import Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.calls import CallBlock, CallType
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.messages import MessageBlock
from schemas.rejections import DeadLetter, Reason, Rejected
from transforms.logic.bury_message import bury_message
from transforms.logic.parse_call import parse_call
from transforms.logic.suppress_calls import suppressed_keys
from transforms.rejection_limit import find_limit
from transforms.several_outputs import gives_several

# De-duplication is keyed by shard: enough of them to spread over the workers of a large job, few enough that a block of
# a thousand calls still gives each shard a block worth shuffling. Part of the state's key: changing it forgets what was
# seen.
SHARDS = 32

SUPPRESSING_IN_FILES = frozenset({CallType.SUPPRESS})
SUPPRESSING_IN_STREAMS = frozenset({CallType.SUPPRESS, CallType.DELETE})


class ParsedCalls(NamedTuple):
    """What comes out of ParseCalls; every message comes out of exactly one of the two."""

    calls: PCollection
    """`tuple[int, CallBlock]`: de-duplication shard and the valid calls of it, or what every shard is to suppress."""
    dead_letters: PCollection
    """`DeadLetter`."""


class ParseCalls(beam.PTransform):
    """`MessageBlock`s to valid calls, sharded by messageId, and dead letters.

    What a `suppress` message names, every shard hears of. In a stream also what a delete call carries; in bounded input
    a delete call suppresses nothing here, because ResolveIdentities knows the whole person.
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
        suppressing = SUPPRESSING_IN_FILES if messages.is_bounded else SUPPRESSING_IN_STREAMS
        fn = _ParseCallFn(*self._arguments, suppressing)
        parsed = messages | "ParseCall" >> beam.ParDo(fn).with_outputs("dead_letters", main="calls")
        return ParsedCalls(parsed.calls, parsed.dead_letters)


class _ParseCallFn(beam.DoFn):
    def __init__(
        self,
        default_workspace_id: str,
        max_call_bytes: int,
        max_rejected_percent: float,
        rules: IdentityRules,
        suppressing: frozenset[CallType],
    ) -> None:
        self._default_workspace_id = default_workspace_id
        self._max_call_bytes = max_call_bytes
        self._max_rejected_percent = max_rejected_percent
        self._rules = rules
        self._suppressing = suppressing
        self._parsed = Metrics.counter("parse_calls", "calls")
        self._rejected = {reason: Metrics.counter("parse_calls", f"rejected_{reason.value}") for reason in Reason}

    def setup(self) -> None:
        self._limit = find_limit("ParseCalls", self._max_rejected_percent)

    def process(
        self, block: MessageBlock
    ) -> Iterator[tuple[int, CallBlock] | TaggedOutput[Literal["dead_letters"], DeadLetter]]:
        shards: dict[int, CallBlock] = {}
        suppress: list[bytes] = []
        letters = []
        for message in block.messages:
            try:
                call = parse_call(message, block.read_at, self._default_workspace_id, self._max_call_bytes)
            except Rejected as verdict:
                self._rejected[verdict.reason].inc()
                letters.append(bury_message(message, block, "ParseCalls", verdict, self._default_workspace_id))
                continue
            if call.payload is not None:
                call.attributes, call.source = dict(message.attributes), block.source
            if call.type in self._suppressing:
                suppress += suppressed_keys(call, self._rules)
            shard = crc32(call.message_id.encode()) % SHARDS
            shards.setdefault(shard, CallBlock([])).calls.append(call)
        self._limit.observe(len(block.messages), len(letters))
        self._parsed.inc(len(block.messages) - len(letters))
        # The calls first: what was sent before a delete call, in the same block, still tells who is who.
        yield from shards.items()
        if suppress:
            yield from ((shard, CallBlock([], suppress)) for shard in range(SHARDS))
        for letter in letters:
            yield TaggedOutput("dead_letters", letter)
