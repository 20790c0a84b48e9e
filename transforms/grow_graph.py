"""GrowGraph: the identity graph of a stream, spread over shards of identifiers. docs/identity.md draws it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar
from zlib import crc32

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindows

from schemas.identities import IdentifierType, LinkBlock, Node
from schemas.identity_facts import Claimed, Fact, Followed, Same, decode_facts, encode_facts
from schemas.identity_rules import IdentityRules
from schemas.rows import TableRows
from transforms.cached_log import LogCache, LogSize
from transforms.logic.graph_steps import (
    AdmitLinks,
    ClaimVisitors,
    ConcludeNames,
    FollowNames,
    GraphStep,
    HoldVisitors,
    MeetPartners,
    SettleNames,
    SpreadNames,
    condense,
)
from transforms.logic.shape_identities import shape_refusal
from transforms.logic.tell_links import tell_link, tell_prior
from transforms.several_outputs import gives_several
from transforms.windows import window_by_arrival

Step = TypeVar("Step", bound=GraphStep)

# Hops between the first and the last: up to three links from the email that names a person nothing is left to settle,
# and nearly all persons are smaller. What is longer is settled all the same, by `SettleNames`.
MIDDLE_HOPS = 2

# Facts in one element of a condensed log, some megabytes.
BLOB_FACTS = 10_000


class GrownGraph(NamedTuple):
    """What comes out of GrowGraph."""

    belongings: PCollection
    """`tuple[int, bytes]`: facts of type `Belongs` and `Led`, keyed by the shard of their identifier."""
    refusals: PCollection
    """`TableRows` of `identity_merges`: the links that a limit refused."""


class GrowGraph(beam.PTransform):
    """Learn links, tell each identifier whose it is.

    Every step keeps facts about its nodes, is told new ones once a window, and tells the next step what follows.
    `shards` are the keys over which the identifiers of all workspaces are spread.
    """

    def __init__(self, rules: IdentityRules, shards: int, window_seconds: int) -> None:
        super().__init__()
        self._rules = rules
        self._shards = shards
        self._window_seconds = window_seconds

    @gives_several
    def expand(self, links: PCollection) -> GrownGraph:
        """Apply it to a PCollection of `tuple[str, LinkBlock]`, keyed by workspace, in windows."""
        limits = {
            IdentifierType.USER_ID.value: self._rules.emails_per_user_id,
            IdentifierType.EMAIL.value: self._rules.user_ids_per_email,
        }
        told = links | "TellLinks" >> beam.ParDo(_TellLinksFn(self._rules, self._shards)).with_outputs(
            "claims", main="links"
        )
        admit = beam.ParDo(_AdmitLinksFn(limits, self._shards)).with_outputs("refusals", main="links")
        admitted = self._at_home(told.links, "Admit") | "AdmitLinks" >> admit
        heard = self._at_home(admitted.links, "Meet") | "MeetPartners" >> self._learn(MeetPartners)
        for hop in range(1, MIDDLE_HOPS + 1):
            heard = self._at_home(heard, f"Spread{hop}") | f"SpreadNames{hop}" >> self._learn(SpreadNames)
        conclude = beam.ParDo(_ConcludeNamesFn(self._shards)).with_outputs("same", main="followed")
        concluded = self._at_home(heard, "Conclude") | "ConcludeNames" >> conclude
        renamed = self._at_home(concluded.same, "Settle") | "SettleNames" >> self._learn(SettleNames)
        followed = (concluded.followed, renamed) | "FlattenFollowed" >> beam.Flatten()
        called = self._at_home(followed, "Follow") | "FollowNames" >> self._learn(FollowNames)
        owned = self._at_home(told.claims, "Claim") | "ClaimVisitors" >> self._learn(ClaimVisitors)
        held = (called, owned) | "FlattenHeld" >> beam.Flatten()
        belongings = self._at_home(held, "Hold") | "HoldVisitors" >> self._learn(HoldVisitors)
        return GrownGraph(belongings, admitted.refusals)

    def _at_home(self, facts: PCollection, step: str) -> PCollection:
        """Everything that one window tells a shard, at once: half-told news would make detours through the steps."""
        gathered: PCollection = (
            facts
            | f"{step}Window" >> window_by_arrival(self._window_seconds)
            | f"{step}Gather" >> beam.GroupByKey()
            # The graph outlives every window: a state of the global window remembers it.
            | f"{step}Globally" >> beam.WindowInto(GlobalWindows())
        )
        return gathered

    def _learn(self, step: Callable[[], GraphStep]) -> beam.ParDo:
        return beam.ParDo(_LearnFn(self._shards, step))


def home_shard(node: Node, shards: int) -> int:
    """The shard at which a node is at home."""
    return crc32("\n".join(node).encode()) % shards


def send_home(facts: list[Fact], shards: int) -> Iterator[tuple[int, bytes]]:
    """Facts to the shards of their nodes, a blob each."""
    homes: dict[int, list[Fact]] = {}
    if shards == 1:  # a local stream: a quarter of a hop is the checksums
        homes = {0: facts} if facts else {}
    else:
        for fact in facts:
            homes.setdefault(home_shard(fact.node, shards), []).append(fact)
    for shard, told in homes.items():
        yield shard, encode_facts(told)


class _TellLinksFn(beam.DoFn):
    def __init__(self, rules: IdentityRules, shards: int) -> None:
        self._rules = rules
        self._shards = shards

    def process(
        self, element: tuple[str, LinkBlock]
    ) -> Iterator[tuple[int, bytes] | TaggedOutput[Literal["claims"], tuple[int, bytes]]]:
        workspace_id, block = element
        facts = [fact for link in block.links for fact in tell_link(workspace_id, link, self._rules)]
        if block.prior is not None:
            facts += tell_prior(block.prior)
        yield from send_home([fact for fact in facts if not isinstance(fact, Claimed)], self._shards)
        for claims in send_home([fact for fact in facts if isinstance(fact, Claimed)], self._shards):
            yield TaggedOutput("claims", claims)


def rewrite(log: Any, facts: Sequence[Fact]) -> None:
    """Let a log, a Beam state, hold these facts alone."""
    log.clear()
    for start in range(0, len(facts), BLOB_FACTS):
        log.add(encode_facts(facts[start : start + BLOB_FACTS]))


_STEPS: LogCache[tuple[Any, LogSize]] = LogCache(capacity=4096)


class _StepFn(beam.DoFn, Generic[Step]):
    """Remembers, per shard and for ever, every fact that was new to its step: people come back after years.

    Nobody forgets them, but the log is condensed to what is needed whenever it has doubled; and that is bounded by the
    identifiers and the links between them.
    """

    FACTS = BagStateSpec("facts", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())

    def __init__(self, shards: int, make_step: Callable[..., Step], *arguments: Any) -> None:
        self._shards = shards
        self._make_step = make_step
        self._arguments = arguments

    def _learn(self, told: tuple[int, Iterable[bytes]], log: Any, token: Any) -> tuple[Step, list[Fact]]:
        """The step after it was told these facts, and what follows from them. `log` and `token` are Beam states."""
        memory = _STEPS.take(token, log, self._recall)
        step, size = memory
        news = step.learn_all(decode_facts(told[1]))
        follows = list(step.tell())
        if news:
            log.add(encode_facts(news))
            if size.grow(len(news)):
                needed = condense(self._make_step(*self._arguments), decode_facts(log.read()))
                rewrite(log, needed)
                size.shrink(len(needed))
            _STEPS.put(token, memory)
        else:
            _STEPS.put_back(token, memory)
        return step, follows

    def _recall(self, log: Iterable[bytes]) -> tuple[Step, LogSize]:
        step, facts = self._make_step(*self._arguments), decode_facts(log)
        step.recall(facts)
        return step, LogSize(len(facts))


class _LearnFn(_StepFn[GraphStep]):
    """A step that tells one other; for its state see `_StepFn`."""

    def process(
        self,
        told: tuple[int, Iterable[bytes]],
        log: Any = beam.DoFn.StateParam(_StepFn.FACTS),
        token: Any = beam.DoFn.StateParam(_StepFn.TOKEN),
    ) -> Iterator[tuple[int, bytes]]:
        _, follows = self._learn(told, log, token)
        yield from send_home(follows, self._shards)


class _AdmitLinksFn(_StepFn[AdmitLinks]):
    """Remembers, per shard and for ever, the links of its nodes, and which of them it has refused."""

    def __init__(self, limits: dict[str, int], shards: int) -> None:
        super().__init__(shards, AdmitLinks, limits)
        self._refused = Metrics.counter("grow_graph", "refused_links")

    def process(
        self,
        told: tuple[int, Iterable[bytes]],
        timestamp: Any = beam.DoFn.TimestampParam,
        log: Any = beam.DoFn.StateParam(_StepFn.FACTS),
        token: Any = beam.DoFn.StateParam(_StepFn.TOKEN),
    ) -> Iterator[tuple[int, bytes] | TaggedOutput[Literal["refusals"], TableRows]]:
        step, follows = self._learn(told, log, token)
        yield from send_home(follows, self._shards)
        refusals = step.take_refusals()
        self._refused.inc(len(refusals))
        if refusals:
            rows = [shape_refusal(refusal, timestamp.micros) for refusal in refusals]
            yield TaggedOutput("refusals", TableRows("identity_merges", rows))


class _ConcludeNamesFn(_StepFn[ConcludeNames]):
    """Remembers, per shard and for ever, by which names the partners of its nodes go."""

    def __init__(self, shards: int) -> None:
        super().__init__(shards, ConcludeNames)
        self._beyond = Metrics.counter("grow_graph", "links_beyond_the_hops")

    def process(
        self,
        told: tuple[int, Iterable[bytes]],
        log: Any = beam.DoFn.StateParam(_StepFn.FACTS),
        token: Any = beam.DoFn.StateParam(_StepFn.TOKEN),
    ) -> Iterator[tuple[int, bytes] | TaggedOutput[Literal["same"], tuple[int, bytes]]]:
        _, follows = self._learn(told, log, token)
        yield from send_home([fact for fact in follows if isinstance(fact, Followed)], self._shards)
        same: list[Fact] = [fact for fact in follows if isinstance(fact, Same)]
        self._beyond.inc(len(same))
        for blob in send_home(same, self._shards):
            yield TaggedOutput("same", blob)
