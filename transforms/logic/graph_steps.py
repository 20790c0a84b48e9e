"""The identity graph of a stream: what each of its steps remembers and tells the next. docs/identity.md explains it.

A step is told facts about nodes (emails, user_ids, anonymous_ids). It remembers those that are new, and says what
follows from them. Every rule is a union or a minimum over the facts, so their order, their repetition and how they
come in batches cannot matter; the only exception is which links a limit refuses.
"""

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from schemas.identities import Cause, Node
from schemas.identity_facts import (
    ADMITTED,
    NAMELESS,
    REFUSED,
    UNDECIDED,
    Admitted,
    Belongs,
    Called,
    Claim,
    Claimed,
    Fact,
    Followed,
    Led,
    Met,
    Name,
    Owned,
    RefusedLink,
    Renamed,
    Same,
    Seen,
    Succeeded,
    Told,
)
from transforms.logic.name_persons import name_node


class GraphStep(ABC):
    """One step's memory of some of the nodes."""

    @abstractmethod
    def learn(self, fact: Any) -> Fact | None:
        """Learn a fact; what has to be remembered of it, None if it was known or implied."""

    @abstractmethod
    def tell(self) -> Iterator[Fact]:
        """What follows from all that was learned since the last time."""

    def learn_all(self, facts: Iterable[Fact]) -> list[Fact]:
        """Learn a batch; what has to be remembered."""
        return [news for fact in facts if (news := self.learn(fact)) is not None]

    def recall(self, facts: Iterable[Fact]) -> None:
        """Learn again what was remembered. What follows from it was told when it was learned first."""
        for fact in facts:
            self.learn(fact)
        for _ in self.tell():
            pass


def condense(step: GraphStep, facts: Iterable[Fact]) -> list[Fact]:
    """Those of the remembered facts that imply the others, in the order in which `step`, a new one, has learned them.

    A name or a claim that a smaller one has replaced need not be remembered. Without this an email whose calls come in
    from the newest to the oldest would be remembered once a window.
    """
    return step.learn_all(sorted(facts, key=_smallest_first))


def _smallest_first(fact: Any) -> tuple[str, Any]:
    """The smallest name or claim of each type first: then greater ones are no news."""
    if isinstance(fact, Claimed | Owned):
        return type(fact).__name__, fact.claim
    if isinstance(fact, Same):
        return type(fact).__name__, (fact.one, fact.other)
    if isinstance(fact, Seen | Told | Followed | Renamed | Called):
        return type(fact).__name__, fact.name
    return type(fact).__name__, ()


class AdmitLinks(GraphStep):
    """Which partners a node admits: no more than its limit, the first that are learned; in a batch the oldest.

    A link counts if both of its ends admit it. So a shared inbox or a shared login joins a few, and never all.
    """

    def __init__(self, limits: dict[str, int]) -> None:
        self._limits = limits
        """Identifier type -> how many partners a node of it may have."""
        self._names: dict[Node, Name] = {}
        self._partners: dict[Node, set[Node]] = defaultdict(set)
        self._counted: Counter[Node] = Counter()
        """How many of them count for the limit."""
        self._refused: set[tuple[Node, Node]] = set()
        self._successors: dict[Node, dict[Node, Cause]] = defaultdict(dict)
        self._renamed: dict[Node, Cause] = {}
        self._admitted: list[Admitted] = []
        self._refusals: list[RefusedLink] = []

    def learn_all(self, facts: Iterable[Any]) -> list[Fact]:
        """Learn a batch: sightings, and then the oldest links first, so that who is linked has a name by then."""
        links: list[Fact] = []
        news: list[Fact] = []
        for fact in facts:
            if isinstance(fact, Met):
                if fact.partner not in self._partners[fact.node]:  # nearly all are known: only the others are sorted
                    links.append(fact)
            elif (learned := self.learn(fact)) is not None:
                news.append(learned)
        return news + super().learn_all(sorted(links, key=_by_age))

    def recall(self, facts: Iterable[Fact]) -> None:
        """Learn again what was remembered; refusals were reported when they were made."""
        super().recall(facts)
        self._refusals.clear()

    def learn(self, fact: Seen | Met | Succeeded) -> Fact | None:
        """A sighting, a link or an alias."""
        if isinstance(fact, Seen):
            return self._see(fact)
        if isinstance(fact, Met):
            return self._meet(fact)
        if fact.successor in self._successors[fact.node]:
            return None
        self._successors[fact.node][fact.successor] = fact.cause
        if fact.node in self._names:
            self._admit(fact.node, fact.successor, fact.cause)
        return fact

    def tell(self) -> Iterator[Fact]:
        """Both ends of a link are told of it; all partners of a new name."""
        for node, cause in self._renamed.items():
            name = self._names[node]
            yield Told(node, node, name, cause)
            for partner in self._partners[node]:
                yield Told(partner, node, name, cause)
        for link in self._admitted:
            yield link
            if link.node in self._names and link.node not in self._renamed:
                yield Told(link.partner, link.node, self._names[link.node], link.cause)
        self._renamed, self._admitted = {}, []

    def take_refusals(self) -> list[RefusedLink]:
        """The links that were refused since the last time."""
        refusals, self._refusals = self._refusals, []
        return refusals

    def _see(self, fact: Seen) -> Fact | None:
        known = self._names.get(fact.node)
        if known is not None and known <= fact.name:
            return None
        self._names[fact.node] = fact.name
        self._renamed[fact.node] = fact.cause
        if known is None:
            for successor, cause in self._successors.get(fact.node, {}).items():
                self._admit(fact.node, successor, cause)
        return fact

    def _meet(self, fact: Met) -> Fact | None:
        node, partner = fact.node, fact.partner
        if partner in self._partners[node]:
            return None
        verdict = fact.verdict
        if verdict == UNDECIDED:
            if (node, partner) in self._refused:
                return None
            verdict = ADMITTED if self._counted[node] < self._limits[node[1]] else REFUSED
        if verdict == REFUSED:
            self._refused.add((node, partner))
            self._refusals.append(RefusedLink(node, partner, fact.cause))
        else:
            self._counted[node] += verdict == ADMITTED
            self._admit(node, partner, fact.cause)
        return msgspec.structs.replace(fact, verdict=verdict)

    def _admit(self, node: Node, partner: Node, cause: Cause) -> None:
        if partner not in self._partners[node]:
            self._partners[node].add(partner)
            self._admitted.append(Admitted(node, partner, cause))


def _by_age(link: Any) -> tuple[int, Node, str]:
    return link.cause[1], link.partner, link.cause[0]


class SpreadNames(GraphStep):
    """The name that a node goes by after one more hop: the smallest of its own and its partners'."""

    def __init__(self) -> None:
        self._heard: dict[Node, dict[Node, Name]] = defaultdict(dict)
        """Node -> each partner, and the node itself -> the name by which that one goes."""
        self._smallest: dict[Node, tuple[Name, Cause]] = {}
        self._news: dict[Node, list[Told]] = defaultdict(list)

    def learn(self, fact: Told) -> Fact | None:
        """By what name a partner goes."""
        heard = self._heard[fact.node]
        known = heard.get(fact.sender)
        if known is not None and known <= fact.name:
            return None
        heard[fact.sender] = fact.name
        self._news[fact.node].append(fact)
        return fact

    def tell(self) -> Iterator[Fact]:
        """A smaller name to all partners, the name as it is to new partners."""
        for node, news in self._news.items():
            known = self._smallest.get(node)
            best = min(news, key=_named)
            if known is None or best.name < known[0]:
                self._smallest[node] = best.name, best.cause
                for partner in self._heard[node]:
                    yield Told(partner, node, best.name, best.cause)
            else:
                # A partner that is not new is told again what it knows: rare, and cheaper than remembering who is new.
                for told in news:
                    yield Told(told.sender, node, known[0], told.cause)
        self._news.clear()


def _named(fact: Told) -> Name:
    return fact.name


class MeetPartners(SpreadNames):
    """The first hop: counts only what comes from partners that the node admits itself."""

    def __init__(self) -> None:
        super().__init__()
        self._admitted: dict[Node, set[Node]] = defaultdict(set)
        self._waiting: dict[tuple[Node, Node], Told] = {}
        """What senders say that the node does not, or not yet, admit."""

    def learn(self, fact: Told | Admitted) -> Fact | None:
        """By what name somebody goes, or whom the node admits."""
        if isinstance(fact, Admitted):
            if fact.partner in self._admitted[fact.node]:
                return None
            self._admitted[fact.node].add(fact.partner)
            told = self._waiting.pop((fact.node, fact.partner), None)
            if told is not None:
                super().learn(told)
            return fact
        if fact.sender == fact.node or fact.sender in self._admitted[fact.node]:
            return super().learn(fact)
        waiting = self._waiting.get((fact.node, fact.sender))
        if waiting is not None and waiting.name <= fact.name:
            return None
        self._waiting[fact.node, fact.sender] = fact
        return fact


class ConcludeNames(SpreadNames):
    """The last hop: each node follows the smallest name that it hears; names that still differ are one person's.

    Why that is enough for any graph: the two ends of a link both hear both of their names. So along any path all names
    are equal or are said to be the same, and `SettleNames` hears of every difference.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Node, Counter[Name]] = defaultdict(Counter)
        """Node -> how many partners go by each name; one name for nearly all nodes."""

    def learn(self, fact: Told) -> Fact | None:
        """By what name a partner goes."""
        before = self._heard[fact.node].get(fact.sender)
        if (news := super().learn(fact)) is not None:
            names = self._names[fact.node]
            names[fact.name] += 1
            if before is not None:
                names[before] -= 1
                if not names[before]:
                    del names[before]
        return news

    def tell(self) -> Iterator[Fact]:
        """Whom a node follows, and which names are the same."""
        for node, news in self._news.items():
            known = self._smallest.get(node)
            best = min(news, key=_named)
            if known is None or best.name < known[0]:
                known = self._smallest[node] = best.name, best.cause
                yield Followed(name_node(node[0], best.name), node, best.name, best.cause)
            for name in self._names[node]:
                if name != known[0]:
                    yield Same((node[0], "", ""), known[0], name, news[0].cause)
        self._news.clear()


class SettleNames(GraphStep):
    """The names of one workspace that the hops left apart, by union-find.

    Only persons that are longer than the hops reach get here, so nearly none: the key of a workspace is not hot.
    """

    def __init__(self) -> None:
        self._leaders: dict[Node, Node] = {}
        self._followers: dict[Node, list[Node]] = {}
        """Leader -> all nodes of its set, itself included. A node is what a name is called after."""
        self._smallest: dict[Node, Name] = {}
        """Leader -> the smallest name in its set."""
        self._told: dict[Node, Name] = {}
        """Node -> the name that it was told last, at first its own."""
        self._uninformed: dict[Node, list[Node]] = {}
        """Leader -> those of its followers that may not have been told its smallest name; the same list if all may."""
        self._news: dict[Node, Cause] = {}

    def learn(self, fact: Same) -> Fact | None:
        """Two names of one person."""
        one, other = (self._see(fact.node[0], name, fact.cause) for name in (fact.one, fact.other))
        leader, absorbed = self._find(one[0]), self._find(other[0])
        if leader == absorbed:
            return fact if one[1] or other[1] else None
        if len(self._followers[leader]) < len(self._followers[absorbed]):
            leader, absorbed = absorbed, leader
        self._leaders[absorbed] = leader
        followers, joining = self._followers[leader], self._followers.pop(absorbed)
        ours, theirs = self._smallest[leader], self._smallest.pop(absorbed)
        self._uninformed.pop(absorbed, None)
        if theirs < ours:
            self._smallest[leader], self._uninformed[leader] = theirs, followers
        else:
            uninformed = self._uninformed.setdefault(leader, [])
            if uninformed is not followers:
                uninformed += joining
        followers += joining
        self._news[leader] = fact.cause
        return fact

    def tell(self) -> Iterator[Fact]:
        """The smallest name to all that go by a greater one."""
        for node, cause in self._news.items():
            leader = self._find(node)
            name = self._smallest[leader]
            for follower in self._uninformed.pop(leader, ()):
                if name < self._told[follower]:
                    self._told[follower] = name
                    yield Renamed(follower, name, cause)
        self._news.clear()

    def _see(self, workspace_id: str, name: Name, cause: Cause) -> tuple[Node, bool]:
        """The node of a name, and whether that was news."""
        node = name_node(workspace_id, name)
        if node not in self._leaders:
            self._leaders[node], self._followers[node], self._smallest[node] = node, [node], name
            self._told[node] = name
            return node, True
        leader = self._find(node)
        if self._smallest[leader] <= name:
            return node, False
        self._smallest[leader] = name
        self._uninformed[leader] = self._followers[leader]
        self._news[leader] = cause
        return node, True

    def _find(self, node: Node) -> Node:
        leader = node
        while self._leaders[leader] != leader:
            leader = self._leaders[leader]
        while self._leaders[node] != leader:
            self._leaders[node], node = leader, self._leaders[node]
        return leader


class FollowNames(GraphStep):
    """Who goes by a node's name, and by which name they are to go instead."""

    def __init__(self) -> None:
        self._followers: dict[Node, dict[Node, Name]] = defaultdict(dict)
        self._renamed: dict[Node, Name] = {}
        self._calls: dict[Node, tuple[Name, Cause]] = {}
        self._leaders: set[Node] = set()
        """The nodes that were told so: again, if this was forgotten, does no harm."""

    def learn(self, fact: Followed | Renamed) -> Fact | None:
        """A follower, or a smaller name."""
        if isinstance(fact, Renamed):
            if fact.node in self._renamed and self._renamed[fact.node] <= fact.name:
                return None
            self._renamed[fact.node] = fact.name
            for follower in self._followers[fact.node]:
                self._call(follower, fact.name, fact.cause)
            return fact
        known = self._followers[fact.node].get(fact.follower)
        if known is not None and known <= fact.name:
            return None
        self._followers[fact.node][fact.follower] = fact.name
        self._call(fact.follower, min(fact.name, self._renamed.get(fact.node, fact.name)), fact.cause)
        return fact

    def tell(self) -> Iterator[Fact]:
        """The name that each follower's person goes by, and to the node of the name that it leads."""
        for node, (name, cause) in self._calls.items():
            yield Called(node, name, cause)
            leader = name_node(node[0], name)
            if name.rank < NAMELESS and leader != node and leader not in self._leaders:
                self._leaders.add(leader)
                yield Led(leader, name, cause)
        self._calls = {}

    def _call(self, node: Node, name: Name, cause: Cause) -> None:
        if node not in self._calls or name < self._calls[node][0]:
            self._calls[node] = name, cause


class ClaimVisitors(GraphStep):
    """Whom an anonymous_id belongs to: the owner that it was seen with first, the stronger one of a tie."""

    def __init__(self) -> None:
        self._claims: dict[Node, Claim] = {}
        self._news: dict[Node, Cause] = {}

    def learn(self, fact: Claimed) -> Fact | None:
        """Whom it was seen with."""
        known = self._claims.get(fact.node)
        if known is not None and known <= fact.claim:
            return None
        self._claims[fact.node] = fact.claim
        self._news[fact.node] = fact.cause
        return fact

    def tell(self) -> Iterator[Fact]:
        """Each owner what it owns."""
        for visitor, cause in self._news.items():
            claim = self._claims[visitor]
            yield Owned(claim[2], visitor, claim, cause)
        self._news = {}


class HoldVisitors(GraphStep):
    """The name of each node's person, and the anonymous_ids that go by it with the node."""

    def __init__(self) -> None:
        self._names: dict[Node, Name] = {}
        self._visitors: dict[Node, dict[Node, Claim]] = defaultdict(dict)
        self._leaders: dict[Node, Led] = {}
        self._renamed: dict[Node, Cause] = {}
        self._claimed: list[Owned] = []
        self._led: list[Led] = []

    def learn(self, fact: Called | Owned | Led) -> Fact | None:
        """A name, a visitor, or that others are called after the node."""
        if isinstance(fact, Led):
            if fact.node in self._leaders:
                return None
            self._leaders[fact.node] = fact
            self._led.append(fact)
            return fact
        if isinstance(fact, Called):
            if fact.node in self._names and self._names[fact.node] <= fact.name:
                return None
            self._names[fact.node] = fact.name
            self._renamed[fact.node] = fact.cause
            return fact
        known = self._visitors[fact.node].get(fact.visitor)
        if known is not None and known <= fact.claim:
            return None
        self._visitors[fact.node][fact.visitor] = fact.claim
        self._claimed.append(fact)
        return fact

    def tell(self) -> Iterator[Fact]:
        """Each identifier the name of its person, and what leads that it does."""
        yield from self._led
        for node, cause in self._renamed.items():
            name = self._names[node]
            yield Belongs(node, name, None, cause)
            for visitor, claim in self._visitors.get(node, {}).items():
                yield Belongs(visitor, name, claim, cause)
        for owned in self._claimed:
            if owned.node in self._names and owned.node not in self._renamed:
                yield Belongs(owned.visitor, self._names[owned.node], owned.claim, owned.cause)
        self._renamed, self._claimed, self._led = {}, [], []
