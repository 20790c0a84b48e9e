"""The steps of the streaming identity graph as a runner with no mercy runs them.

Each step is spread over shards. What one tells another waits in a heap; any of it may be delivered next, in parts,
together with other parts, twice, or long after everything that was told later. And before any delivery a shard may
lose its memory and read its log, in any order.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from zlib import crc32

from schemas.identities import KnownIdentity, Link, Node, PriorBlock
from schemas.identity_facts import (
    Claimed,
    Fact,
    Merge,
    Met,
    Published,
    RefusedLink,
    Same,
    decode_facts,
    encode_facts,
)
from schemas.identity_rules import IdentityRules
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
from transforms.logic.publish_identities import PublishedIdentities
from transforms.logic.tell_links import tell_link, tell_prior

Place = tuple[str, int]
"""A step, and one of its shards."""


class ScatteredGraph:
    """Links in, in any way; `identities` out, after `settle`."""

    def __init__(self, rules: IdentityRules, seed: int, shards: int, middle_hops: int = 2) -> None:
        limits = {"user_id": rules.emails_per_user_id, "email": rules.user_ids_per_email}
        hops = [f"Spread{hop}" for hop in range(middle_hops)]
        chain = ["Admit", "Meet", *hops, "Conclude"]
        self._next = dict(pairwise(chain))
        self._next |= {"Conclude": "Follow", "Settle": "Follow", "Follow": "Hold", "Claim": "Hold", "Hold": "Publish"}
        self._make: dict[str, Callable[[], GraphStep]] = {"Admit": lambda: AdmitLinks(limits), "Meet": MeetPartners}
        self._make |= dict.fromkeys(hops, SpreadNames)
        self._make |= {"Conclude": ConcludeNames, "Settle": SettleNames, "Follow": FollowNames}
        self._make |= {"Claim": ClaimVisitors, "Hold": HoldVisitors}
        self._rules = rules
        self._random = random.Random(seed)
        self._shards = shards
        self._steps: dict[Place, GraphStep] = {}
        self._published: dict[int, PublishedIdentities] = {}
        self._logs: dict[Place, list[bytes]] = defaultdict(list)
        self._waiting: list[tuple[Place, list[Fact]]] = []
        self._delivered: dict[Place, list[Fact]] = defaultdict(list)
        self.rows: list[Published] = []
        self.merges: list[Merge] = []
        self.refusals: list[RefusedLink] = []
        self.deliveries = 0

    def tell(self, workspace_id: str, links: Iterable[Link]) -> None:
        """More links, which wait too."""
        for link in links:
            self._send("Admit", tell_link(workspace_id, link, self._rules))

    def tell_prior(self, prior: PriorBlock) -> None:
        """What tables say: of identifiers that are published already, before anything else is."""
        self._send("Admit", tell_prior(prior))
        known: dict[int, list[KnownIdentity]] = defaultdict(list)
        for identity in prior.known:
            known[self._home((identity.workspace_id, identity.identifier_type, identity.identifier))].append(identity)
        for shard, identities in known.items():
            self._logs["Publish", shard].append(encode_facts(self._publisher(shard).recognise(identities)))

    def deliver(self, steps: int) -> None:
        """Some of what waits."""
        for _ in range(steps):
            if not self._waiting:
                return
            place, facts = self._waiting.pop(self._random.randrange(len(self._waiting)))
            if self._random.random() < 0.3:  # a part of it comes later
                facts = self._shuffled(facts)
                cut = self._random.randrange(len(facts) + 1)
                later, facts = facts[:cut], facts[cut:]
                if later:
                    self._waiting.append((place, later))
            if self._random.random() < 0.3:  # what waits for the same shard comes along
                for other in [each for each in self._waiting if each[0] == place and self._random.random() < 0.5]:
                    self._waiting.remove(other)
                    facts = self._shuffled([*facts, *other[1]])
            if facts:
                self._deliver(place, facts)
                if self._random.random() < 0.1:
                    self._waiting.append((place, facts))

    def settle(self) -> None:
        """All that waits."""
        while self._waiting:
            self.deliver(100)

    def learned_again(self) -> list[Fact]:
        """What the steps would remember if they were told everything once more."""
        return [news for place, step in self._steps.items() for news in step.learn_all(self._delivered[place])]

    def persons(self) -> dict[Node, str]:
        """Today's person of each identifier, as the rows tell it."""
        latest = {row.node: row.person_id for row in sorted(self.rows, key=lambda row: row.version)}
        return {node: person_id for node, person_id in latest.items() if person_id is not None}

    def admitted(self) -> set[tuple[Node, Node]]:
        """Who has admitted whom, by what the shards remember."""
        logs = [blob for place, log in self._logs.items() if place[0] == "Admit" for blob in log]
        met = [fact for fact in decode_facts(logs) if isinstance(fact, Met)]
        return {(fact.node, fact.partner) for fact in met if fact.verdict == 1}

    def _deliver(self, place: Place, facts: Sequence[Fact]) -> None:
        self.deliveries += 1
        name, shard = place
        if name == "Publish":
            changes = self._publisher(shard).publish(facts, self._random.randrange(50))
            self._logs[place].append(encode_facts(changes.published))
            self.rows += changes.identities
            self.merges += changes.merges
            return
        self._delivered[place] += facts
        step = self._steps.get(place)
        if step is None or self._random.random() < 0.2:
            step = self._steps[place] = self._make[name]()
            remembered = self._shuffled(decode_facts(self._logs[place]))
            if self._random.random() < 0.5:
                remembered = condense(self._make[name](), remembered)
                self._logs[place] = [encode_facts(remembered)]
            step.recall(remembered)
        news = step.learn_all(decode_facts([encode_facts(facts)]))
        if news:
            self._logs[place].append(encode_facts(news))
        self._send(self._next[name], step.tell())
        if isinstance(step, AdmitLinks):
            self.refusals += step.take_refusals()

    def _publisher(self, shard: int) -> PublishedIdentities:
        if shard not in self._published or self._random.random() < 0.2:
            published = self._published[shard] = PublishedIdentities()
            records = self._shuffled(decode_facts(self._logs["Publish", shard]))
            published.recall(record for record in records if isinstance(record, Published))
        return self._published[shard]

    def _send(self, step: str, facts: Iterable[Fact]) -> None:
        told: dict[Place, list[Fact]] = defaultdict(list)
        for fact in facts:
            receiver = "Claim" if isinstance(fact, Claimed) else "Settle" if isinstance(fact, Same) else step
            told[receiver, self._home(fact.node)].append(fact)
        self._waiting += told.items()

    def _home(self, node: Node) -> int:
        return crc32("\n".join(node).encode()) % self._shards

    def _shuffled(self, facts: Sequence[Fact]) -> list[Fact]:
        return self._random.sample(facts, len(facts))
