"""ParseCalls: messages in, Segment calls or dead letters out."""

import threading
from collections.abc import Iterator
from typing import Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from schemas.calls import CallBlock, CallType
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.messages import Message, MessageBlock
from schemas.rejections import DeadLetter, Reason, Rejected
from transforms.logic.parse_call import parse_call, peek_call
from transforms.logic.suppress_calls import suppressed_keys
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


class MostlyRejectedError(RuntimeError):
    """Nearly every message is rejected: something is misconfigured, and going on would drain the topic."""


class RejectionLimit:
    """Stops a worker when nearly everything that it reads is rejected.

    Remembers a fading share of the last messages of the process: it must outlive the DoFn, which a failed bundle throws
    away. While it is exceeded the bundles fail and their messages stay unacknowledged.
    """

    def __init__(self, percent: float, sample: int = 1000) -> None:
        self._percent = percent
        self._sample = sample
        self._seen = 0.0
        self._rejected = 0.0
        self._lock = threading.Lock()

    def observe(self, seen: int, rejected: int) -> None:
        """Count a block. Raises `MostlyRejectedError` over the limit, once the sample is large enough to tell."""
        with self._lock:
            if self._seen > 10 * self._sample:
                self._seen, self._rejected = self._seen / 2, self._rejected / 2
            self._seen += seen
            self._rejected += rejected
            if self._seen >= self._sample and 100 * self._rejected > self._percent * self._seen:
                raise MostlyRejectedError(
                    f"{self._rejected:,.0f} of the last {self._seen:,.0f} messages were rejected, more than "
                    f"{self._percent:g} % (--max_rejected_percent). Is this the right input?"
                )


_LIMITS: dict[float, RejectionLimit] = {}


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
        self._limit = _LIMITS.setdefault(self._max_rejected_percent, RejectionLimit(self._max_rejected_percent))

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
                letters.append(self._bury(message, block, verdict))
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

    def _bury(self, message: Message, block: MessageBlock, verdict: Rejected) -> DeadLetter:
        self._rejected[verdict.reason].inc()
        call_type, message_id = peek_call(message.payload)
        return DeadLetter(
            message.payload,
            "ParseCalls",
            verdict.reason.value,
            verdict.detail,
            block.read_at if message.published_at is None else message.published_at,
            message.attributes.get("workspace_id") or self._default_workspace_id,
            message.attributes.get("connection_id") or None,
            call_type,
            message_id,
            dict(message.attributes),
            block.source,
        )
