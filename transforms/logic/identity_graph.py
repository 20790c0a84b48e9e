"""The persons of one workspace from all of its links at once: exact for every shape, in near-linear time.

The same rules as the streaming graph (`graph_steps`), told the slow way in tests/unit/identity_oracle.py and in words
in docs/identity.md. Links are sorted, all else is a minimum or a union: the order of the input cannot matter.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from schemas.identities import PERSON_ID, Cause, IdentifierType, KnownIdentity, Link, Node, WarehousePerson
from schemas.identity_facts import EMAIL, NAMELESS, Claim, Merge, Name, RefusedLink
from schemas.identity_rules import IdentityRules
from transforms.logic.name_persons import email_name, person_id_of, user_name, warehouse_name
from transforms.logic.tell_links import NEVER, known_name, known_person_name, owner_strength

# To ask the enum for each link takes a tenth of a microsecond, and one worker does this while all others wait.
_EMAIL, _USER_ID = IdentifierType.EMAIL.value, IdentifierType.USER_ID.value
_ANONYMOUS_ID = IdentifierType.ANONYMOUS_ID.value
_TYPES = _USER_ID, _EMAIL, _ANONYMOUS_ID

_LONG_AGO = -(2**62)
"""Before every call: when links were made that a table brings."""


class ResolvedGraph(NamedTuple):
    """What the links of one workspace come to."""

    names: dict[Node, Name]
    """Every identifier that belongs to a person -> the name of the person."""
    claims: dict[Node, Claim]
    """anonymous_id -> whom it belongs to."""
    merges: list[Merge]
    """One for each person_id that calls, in the order of their timestamps, had given and another one replaced."""
    refusals: list[RefusedLink]


class _Edge(NamedTuple):
    timestamp: int
    one: Node
    other: Node
    message_id: str


def resolve_graph(
    workspace_id: str,
    links: Iterable[Link],
    rules: IdentityRules,
    now: int,
    warehouse: Iterable[WarehousePerson] = (),
    known: Iterable[KnownIdentity] = (),
) -> ResolvedGraph:
    """Who is who, from the calls' links and from what is known beforehand, all of this workspace.

    `now`: when that becomes known, in microseconds since 1970.
    """
    evidence = _Evidence(workspace_id, rules)
    for person in warehouse:
        evidence.add_warehouse(person)
    for identity in known:
        evidence.add_known(identity)
    for link in links:
        evidence.add(link)
    edges, refusals = evidence.admit()
    forest = _Forest(workspace_id, evidence.names)
    for edge in edges:
        forest.unite(edge)
    names = {node: name for node in evidence.names if (name := forest.name(node)).rank < NAMELESS}
    for visitor, claim in evidence.claims.items():
        if claim[2] in names:
            names[visitor] = names[claim[2]]
    return ResolvedGraph(names, evidence.claims, forest.merges(now), refusals)


class _Evidence:
    """All that is said of who is who, each thing once and at its earliest."""

    def __init__(self, workspace_id: str, rules: IdentityRules) -> None:
        self._workspace_id = workspace_id
        self._rules = rules
        self._strengths = {kind: owner_strength((workspace_id, kind, ""), rules) for kind in (PERSON_ID, *_TYPES)}
        self.names: dict[Node, Name] = {}
        """Each node that joins persons -> the name that it gives."""
        self.claims: dict[Node, Claim] = {}
        self._links: dict[tuple[Node, Node], Cause] = {}
        """user_id and email -> the call that linked them first."""
        self._aliases: dict[tuple[Node, Node], Cause] = {}
        """previousId as a user_id, and userId."""
        self._bound: list[tuple[Node, Node]] = []
        """Links that a table brings: they count for no limit."""

    def add(self, link: Link) -> None:
        """What a call says."""
        timestamp, cause = link.timestamp, (link.message_id, link.timestamp)
        user = email = None
        if link.email is not None:
            email = self._workspace_id, _EMAIL, link.email
            known = self.names.get(email)
            if known is None or timestamp < known.timestamp:  # an email has no other names than this one's
                self.names[email] = email_name(link.email, timestamp)
        if link.user_id is not None:
            user = self._workspace_id, _USER_ID, link.user_id
            if user not in self.names:
                self.names[user] = user_name(link.user_id)
            if link.previous_id is not None and link.previous_id != link.user_id:
                previous = self._workspace_id, _USER_ID, link.previous_id
                _keep_earliest(self._aliases, (previous, user), cause)
                # The call does not say whether it is a user_id, so it is an anonymous_id in any case.
                self._claim(link.previous_id, timestamp, user)
            if email is not None:
                _keep_earliest(self._links, (user, email), cause)
        owner = user or email
        if user is not None and email is not None:
            owner = user if self._strengths[_USER_ID] < self._strengths[_EMAIL] else email
        if owner is not None and link.anonymous_id is not None:
            self._claim(link.anonymous_id, timestamp, owner)

    def add_warehouse(self, person: WarehousePerson) -> None:
        """A row of the customer's person table."""
        node, email = self._node(PERSON_ID, person.person_id), self._node(IdentifierType.EMAIL, person.email)
        self._see(node, warehouse_name(person.person_id))
        self._see(email, email_name(person.email, NEVER))
        self._bound.append((email, node))

    def add_known(self, identity: KnownIdentity) -> None:
        """What an earlier job has published."""
        node = self._node(PERSON_ID, identity.person_id)
        self._see(node, known_person_name(identity))
        if identity.identifier_type == IdentifierType.ANONYMOUS_ID:
            self._claim(identity.identifier, identity.linked_at or 0, node)
            return
        known = self._node(identity.identifier_type, identity.identifier)
        self._see(known, known_name(identity))
        self._bound.append((known, node))

    def admit(self) -> tuple[list[_Edge], list[RefusedLink]]:
        """The links that both ends admit, the oldest first, and the refusals of the others."""
        limits = {
            IdentifierType.USER_ID.value: self._rules.emails_per_user_id,
            IdentifierType.EMAIL.value: self._rules.user_ids_per_email,
        }
        partners: dict[Node, int] = defaultdict(int)
        edges = [_Edge(_LONG_AGO, one, other, "") for one, other in self._bound]
        refusals = []
        sortable = sorted((cause[1], user, email, cause[0]) for (user, email), cause in self._links.items())
        for timestamp, user, email, message_id in sortable:
            partners[user] += 1
            partners[email] += 1
            cause = message_id, timestamp
            is_admitted = True
            for node, partner in ((user, email), (email, user)):
                if partners[node] > limits[node[1]]:
                    refusals.append(RefusedLink(node, partner, cause))
                    is_admitted = False
            if is_admitted:
                edges.append(_Edge(timestamp, user, email, message_id))
        for (previous, user), (message_id, timestamp) in self._aliases.items():
            if previous in self.names:
                edges.append(_Edge(timestamp, previous, user, message_id))
        edges.sort()
        return edges, refusals

    def _node(self, identifier_type: str, identifier: str) -> Node:
        return self._workspace_id, str(identifier_type), identifier

    def _see(self, node: Node, name: Name) -> None:
        known = self.names.get(node)
        if known is None or name < known:
            self.names[node] = name

    def _claim(self, anonymous_id: str, timestamp: int, owner: Node) -> None:
        visitor = self._workspace_id, _ANONYMOUS_ID, anonymous_id
        claim = timestamp, self._strengths[owner[1]], owner
        known = self.claims.get(visitor)
        if known is None or claim < known:
            self.claims[visitor] = claim


def _keep_earliest(causes: dict[tuple[Node, Node], Cause], key: tuple[Node, Node], cause: Cause) -> None:
    known = causes.get(key)
    if known is None or (cause[1], cause[0]) < (known[1], known[0]):
        causes[key] = cause


class _Forest:
    """Union-find over nodes, by size, with path compression: near-linear (Tarjan 1975)."""

    def __init__(self, workspace_id: str, names: dict[Node, Name]) -> None:
        self._workspace_id = workspace_id
        self._parents = {node: node for node in names}
        self._sizes = dict.fromkeys(names, 1)
        self._names = dict(names)
        """Of each root: the smallest name."""
        self._lost: list[tuple[Name, Node, Cause]] = []

    def name(self, node: Node) -> Name:
        """The name of the node's person."""
        return self._names[self._find(node)]

    def unite(self, edge: _Edge) -> None:
        """Both are one person's."""
        root, absorbed = self._find(edge.one), self._find(edge.other)
        if root is absorbed:
            return
        greater = max(self._names[root], self._names[absorbed])
        # What a call brings and joins at once was never a person of its own; what a table brings was one before.
        since = greater.timestamp if greater.rank == EMAIL else _LONG_AGO
        if greater.rank < NAMELESS and since < edge.timestamp:
            self._lost.append((greater, edge.one, (edge.message_id, edge.timestamp)))
        if self._sizes[root] < self._sizes[absorbed]:
            root, absorbed = absorbed, root
        self._parents[absorbed] = root
        self._sizes[root] += self._sizes.pop(absorbed)
        self._names[root] = min(self._names[root], self._names.pop(absorbed))

    def merges(self, now: int) -> list[Merge]:
        """Each name that was lost, with today's person."""
        merges = []
        for name, node, cause in self._lost:
            lost, kept = (person_id_of(self._workspace_id, each) for each in (name, self.name(node)))
            if lost is not None and kept is not None:
                found = Merge(self._workspace_id, lost, kept, name.identifier_type, name.value, cause, now)
                merges.append(found)
        return merges

    def _find(self, node: Node) -> Node:
        parents = self._parents
        root = parents[node]
        while (above := parents[root]) is not root:  # what `parents` holds are the keys themselves
            root = above
        while (above := parents[node]) is not root:
            parents[node], node = root, above
        return root
