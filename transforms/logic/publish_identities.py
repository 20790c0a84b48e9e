"""What the table `identities` says of some identifiers, and the rows that a change of it makes."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from schemas.identities import PERSON_ID, KnownIdentity, Node
from schemas.identity_facts import Belongs, Claim, Fact, Led, Merge, Name, Published
from transforms.logic.name_persons import name_node, person_id_of
from transforms.logic.tell_links import known_leader

_FindId: TypeAlias = Callable[[str, Name], str | None]


class Changes(NamedTuple):
    """What one batch has changed."""

    published: list[Published]
    """What has to be remembered."""
    identities: list[Published]
    """Those of them that are rows of `identities`."""
    merges: list[Merge]


class PublishedIdentities:
    """The identifiers of one shard, with their persons."""

    def __init__(self) -> None:
        self._published: dict[Node, Published] = {}

    def records(self) -> list[Published]:
        """The records that are enough to recall the rest: the latest of each identifier."""
        return list(self._published.values())

    def recall(self, published: Iterable[Published]) -> None:
        """Learn again what was remembered, in any order."""
        for record in published:
            held = self._published.get(record.node)
            if held is None or _is_newer(record, held):
                self._published[record.node] = record

    def recognise(self, known: Iterable[KnownIdentity]) -> list[Published]:
        """Learn what an earlier job has published; what has to be remembered."""
        records = []
        for identity in known:
            node = identity.workspace_id, identity.identifier_type, identity.identifier
            if node not in self._published:
                record = Published(node, None, None, identity.person_id, identity.version, known_leader(identity))
                self._published[node] = record
                records.append(record)
        return records

    def publish(self, facts: Iterable[Fact], now: int) -> Changes:
        """Learn whom identifiers belong to; what that changes, at `now` in microseconds since 1970.

        `facts` are of type `Belongs` and `Led`.
        """
        news: dict[Node, Belongs] = {}
        leaders: list[Led | Belongs] = []
        for fact in facts:
            if isinstance(fact, Led):
                leaders.append(fact)
                continue
            assert isinstance(fact, Belongs)
            if name_node(fact.node[0], fact.name) == fact.node:  # its visitors may be published already
                leaders.append(fact)
            held = self._published.get(fact.node)
            if held is None or _is_news(fact.claim, fact.name, held.claim, held.name):
                known = news.get(fact.node)
                if known is None or _is_news(fact.claim, fact.name, known.claim, known.name):
                    news[fact.node] = fact
        changes = Changes([], [], [])
        # All identifiers of a person ask for the same id, and it takes 3 us to make.
        find_id = cache(person_id_of)
        for belongs in news.values():
            self._publish(belongs, find_id, now, changes)
        for led in leaders:
            self._lead(led, find_id, now, changes)
        return changes

    def find_person(self, node: Node) -> str | None:
        """The person of an identifier, None while there is none."""
        held = self._published.get(node)
        return None if held is None else held.person_id

    def _publish(self, fact: Belongs, find_id: _FindId, now: int, changes: Changes) -> None:
        node, name = fact.node, fact.name
        held = self._published.get(node)
        person_id = find_id(node[0], name)
        before, version, led = (None, 0, None) if held is None else (held.person_id, held.version, held.led)
        is_change = person_id != before
        if is_change:
            # What a table brings is as new as its reading.
            version = max(version + 1, now if fact.cause[0] else fact.cause[1])
            if led is not None and person_id is not None and person_id != (before or led):
                changes.merges.append(Merge(node[0], led, person_id, node[1], node[2], fact.cause, version))
        if person_id is not None and name_node(node[0], name) == node:
            led = person_id
        record = Published(node, name, fact.claim, person_id, version, led)
        self._published[node] = record
        changes.published.append(record)
        if is_change and node[1] != PERSON_ID:
            changes.identities.append(record)

    def _lead(self, fact: Led | Belongs, find_id: _FindId, now: int, changes: Changes) -> None:
        """Others are called after the node, and it may be known already that all of them are to be called otherwise."""
        held = self._published.get(fact.node)
        led = find_id(fact.node[0], fact.name)
        if led is None or (held is not None and held.led is not None):
            return
        record = Published(fact.node, None, None, None, 0, led) if held is None else replace(held, led=led)
        self._published[fact.node] = record
        changes.published.append(record)
        if record.person_id is not None and record.person_id != led:
            node = fact.node
            changes.merges.append(Merge(node[0], led, record.person_id, node[1], node[2], fact.cause, now))


def _is_news(claim: Claim | None, name: Name, held_claim: Claim | None, held_name: Name | None) -> bool:
    """Whether it says more than what is held: by an earlier claim, or by the same one a smaller name."""
    if claim is not None and held_claim is not None and claim != held_claim:
        return claim < held_claim
    return held_name is None or name < held_name


def _is_newer(record: Published, held: Published) -> bool:
    """Which of two records of one identifier was made later: by version, then as news, then as one that leads."""
    if record.version != held.version:
        return record.version > held.version
    if (record.name, record.claim) == (held.name, held.claim):
        return held.led is None
    return record.name is not None and _is_news(record.claim, record.name, held.claim, held.name)
