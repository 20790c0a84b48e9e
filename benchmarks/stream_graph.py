"""The streaming identity graph without Beam: the steps, shards, logs and encodings of GrowGraph, and nothing else."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from benchmarks.name_persons import Node
from pipelines.settings import IDENTITY_SHARDS
from schemas.identities import Link
from schemas.identity_facts import Belongs, Claimed, Fact, Same, decode_facts, encode_facts
from schemas.identity_rules import DEFAULT_RULES
from transforms.grow_graph import MIDDLE_HOPS, send_home
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
)
from transforms.logic.publish_identities import PublishedIdentities
from transforms.logic.tell_links import tell_link

_WORKSPACE = "default"
_LIMITS = {"user_id": DEFAULT_RULES.emails_per_user_id, "email": DEFAULT_RULES.user_ids_per_email}
_HOPS = [f"Spread{hop}" for hop in range(1, MIDDLE_HOPS + 1)]


class _Place(NamedTuple):
    """A step of the graph."""

    make: Callable[[], GraphStep]
    next_step: str


_CHAIN = ["Admit", "Meet", *_HOPS, "Conclude"]

_PLACES = {
    "Admit": _Place(lambda: AdmitLinks(_LIMITS), "Meet"),
    "Meet": _Place(MeetPartners, _CHAIN[2]),
    **{hop: _Place(SpreadNames, after) for hop, after in zip(_HOPS, _CHAIN[3:], strict=True)},
    "Conclude": _Place(ConcludeNames, "Follow"),
    "Settle": _Place(SettleNames, "Follow"),
    "Follow": _Place(FollowNames, "Hold"),
    "Claim": _Place(ClaimVisitors, "Hold"),
    "Hold": _Place(HoldVisitors, "Publish"),
}
"""Each after those that tell it. What `ConcludeNames` says of names that are the same goes to `Settle`."""


class StreamedGraph:
    """Windows of links in, persons out."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, int], GraphStep] = {}
        self._published: dict[int, PublishedIdentities] = defaultdict(PublishedIdentities)
        self._person_ids: dict[Node, str] = {}
        self._windows = 0
        self.state_bytes = 0
        """What all steps have logged."""
        self.links_beyond_the_hops = 0
        """Facts that SettleNames was told."""

    def learn(self, links: Iterable[Link]) -> None:
        """One window."""
        told: dict[str, dict[int, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        self._windows += 1
        facts = [fact for link in links for fact in tell_link(_WORKSPACE, link, DEFAULT_RULES)]
        _send(told["Admit"], (fact for fact in facts if not isinstance(fact, Claimed)))
        _send(told["Claim"], (fact for fact in facts if isinstance(fact, Claimed)))
        for name, place in _PLACES.items():
            follows = list(self._tell(name, place, told.pop(name, {})))
            same = [fact for fact in follows if isinstance(fact, Same)]
            self.links_beyond_the_hops += len(same)
            _send(told["Settle"], same)
            _send(told[place.next_step], (fact for fact in follows if not isinstance(fact, Same)))
        for shard, blobs in told.pop("Publish", {}).items():
            self._publish(shard, blobs)

    def persons(self) -> dict[Node, str]:
        """Today's person of each identifier, as the rows of `identities` tell it."""
        return self._person_ids

    def _tell(self, name: str, place: _Place, told: dict[int, list[bytes]]) -> Iterator[Fact]:
        for shard, blobs in told.items():
            step = self._steps.get((name, shard))
            if step is None:
                step = self._steps[name, shard] = place.make()
            news = step.learn_all(decode_facts(blobs))
            if news:
                self.state_bytes += len(encode_facts(news))
            yield from step.tell()

    def _publish(self, shard: int, blobs: list[bytes]) -> None:
        belongings = (fact for fact in decode_facts(blobs) if isinstance(fact, Belongs))
        changes = self._published[shard].publish(belongings, self._windows)
        if changes.published:
            self.state_bytes += len(encode_facts(changes.published))
        for record in changes.identities:
            if record.person_id is not None:
                self._person_ids[record.node[1:]] = record.person_id


def _send(told: dict[int, list[bytes]], facts: Iterable[Fact]) -> None:
    for shard, blob in send_home(list(facts), IDENTITY_SHARDS):
        told[shard].append(blob)
