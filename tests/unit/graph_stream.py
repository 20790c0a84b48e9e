"""The streaming identity graph without Beam: its steps wired as GrowGraph wires them, told links in any batches."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from schemas.identities import Link, Node, PriorBlock
from schemas.identity_facts import (
    Claimed,
    Fact,
    Merge,
    Published,
    RefusedLink,
    Same,
    decode_facts,
    encode_facts,
)
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
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


class GraphStream:
    """Batches of links in, `identities` out; each step is one shard, which may forget all and read its log."""

    def __init__(self, rules: IdentityRules = DEFAULT_RULES, middle_hops: int = 2, rebuilds: bool = False) -> None:
        limits = {"user_id": rules.emails_per_user_id, "email": rules.user_ids_per_email}
        self._rules = rules
        self._rebuilds = rebuilds
        self._makers: dict[str, Callable[[], GraphStep]] = {"Admit": lambda: AdmitLinks(limits), "Meet": MeetPartners}
        self._makers |= {f"Spread{hop}": SpreadNames for hop in range(middle_hops)}
        self._makers |= {"Conclude": ConcludeNames, "Settle": SettleNames, "Follow": FollowNames}
        self._makers |= {"Claim": ClaimVisitors, "Hold": HoldVisitors}
        self._steps = {name: make() for name, make in self._makers.items()}
        self._logs: dict[str, list[bytes]] = defaultdict(list)
        self._chain = [name for name in self._steps if name not in ("Claim", "Settle", "Follow", "Hold")]
        self.published = PublishedIdentities()
        self._published_log: list[bytes] = []
        self.rows: list[Published] = []
        self.merges: list[Merge] = []
        self.refusals: list[RefusedLink] = []
        self.settled = 0
        """How many facts reached SettleNames."""
        self._batches = 0

    def learn(self, workspace_id: str, links: Iterable[Link], prior: PriorBlock | None = None) -> None:
        """One window."""
        told = [fact for link in links for fact in tell_link(workspace_id, link, self._rules)]
        if prior is not None:
            told += tell_prior(prior)
        self._batches += 1
        if prior is not None and prior.known:
            self._published_log.append(encode_facts(self.published.recognise(prior.known)))
        facts = [fact for fact in told if not isinstance(fact, Claimed)]
        for name in self._chain:
            facts = self._tell(name, facts)
        same = [fact for fact in facts if isinstance(fact, Same)]
        self.settled += len(same)
        followed = [fact for fact in facts if not isinstance(fact, Same)] + self._tell("Settle", same)
        owned = self._tell("Claim", [fact for fact in told if isinstance(fact, Claimed)])
        self.publish(self._tell("Hold", self._tell("Follow", followed) + owned))

    def publish(self, belongings: Iterable[Fact]) -> None:
        """What a window has come to."""
        if self._rebuilds:
            self.published = PublishedIdentities()
            facts = decode_facts(self._published_log)
            random.Random(len(facts)).shuffle(facts)
            self.published.recall(fact for fact in facts if isinstance(fact, Published))
        changes = self.published.publish(belongings, self._batches)
        self._published_log.append(encode_facts(changes.published))
        self.rows += changes.identities
        self.merges += changes.merges

    def persons(self) -> dict[Node, str]:
        """Today's person of each identifier, as the rows tell it."""
        latest = {row.node: row.person_id for row in sorted(self.rows, key=lambda row: row.version)}
        return {node: person_id for node, person_id in latest.items() if person_id is not None}

    def _tell(self, name: str, facts: Sequence[Fact]) -> list[Fact]:
        step = self._steps[name]
        if self._rebuilds:
            step = self._steps[name] = self._makers[name]()
            facts_learned = decode_facts(self._logs[name])
            random.Random(len(facts_learned)).shuffle(facts_learned)
            step.recall(facts_learned)
            self._logs[name] = [encode_facts(condense(self._makers[name](), facts_learned))]
        news = step.learn_all(decode_facts([encode_facts(facts)]))
        if news:
            self._logs[name].append(encode_facts(news))
        follows = list(step.tell())
        if isinstance(step, AdmitLinks):
            self.refusals += step.take_refusals()
        return follows


def split(links: list[Link], sizes: Iterable[int]) -> Iterator[list[Link]]:
    """The links in batches of these sizes, and the rest."""
    start = 0
    for size in sizes:
        yield links[start : start + size]
        start += size
    yield links[start:]
