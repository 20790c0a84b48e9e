"""The persons of one workspace from all of its links at once: exact for every shape, in near-linear time.

The same rules as the streaming graph (`graph_steps`), told the slow way in tests/unit/identity_oracle.py and in words
in docs/identity.md. Links are sorted, all else is a minimum or a union: the order of the input cannot matter.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from schemas.identities import PERSON_ID, Cause, IdentifierType, KnownIdentity, Link, Node, WarehousePerson
from schemas.identity_facts import EMAIL, NAMELESS, Merge, Name, RefusedLink
from schemas.identity_rules import IdentityRules
from transforms.logic.name_persons import email_name, person_id_of, user_name, warehouse_name
from transforms.logic.tell_links import NEVER, known_name, known_person_name, owner_strength

# To ask the enum for each link takes a tenth of a microsecond, and one worker does this while all others wait.
_EMAIL, _USER_ID = IdentifierType.EMAIL.value, IdentifierType.USER_ID.value
_ANONYMOUS_ID = IdentifierType.ANONYMOUS_ID.value

_LONG_AGO = -(2**62)
"""Before every call: when links were made that a table brings."""


class ResolvedGraph(NamedTuple):
    """What the links of one workspace come to."""

    names: dict[str, dict[str, Name]]
    """Identifier type -> every identifier that belongs to a person -> the name of the person."""
    linked_at: dict[str, int]
    """anonymous_id -> when it was first seen with its owner, in microseconds since 1970."""
    merges: list[Merge]
    """One for each person_id that calls, in the order of their timestamps, had given and another one replaced."""
    refusals: list[RefusedLink]


class _Member:
    """A node that joins persons, in a forest: union-find by size, with path compression, near-linear (Tarjan 1975)."""

    __slots__ = ("above", "name", "node", "partners", "size")

    def __init__(self, node: Node, name: Name) -> None:
        self.node = node
        self.name = name
        """What it is called; a root by the smallest name of its tree, which is the person's."""
        self.partners = 0
        """How many links of calls were looked at that it has."""
        self.above: _Member | None = None
        self.size = 1

    def root(self) -> "_Member":
        """The one of its person that goes by the person's name."""
        member = self
        while member.above is not None:
            if member.above.above is not None:  # the way is shorter for who comes next
                member.above = member.above.above
            member = member.above
        return member


_Seen: TypeAlias = tuple[int, str]
"""A call's timestamp and message_id."""

_Claim: TypeAlias = tuple[int, int, Node, _Member]
"""When an anonymous_id was seen with an owner, how strong the owner's type is (0 is strongest), and the owner."""

_Edge: TypeAlias = tuple[int, Node, Node, str, _Member, _Member]
"""Timestamp, both nodes, message_id; and both as members, which have no order, but are the same where nodes are."""


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
    merges = _unite(edges, workspace_id, now)
    names = {
        _USER_ID: _name_all(evidence.users),
        _EMAIL: _name_all(evidence.emails),
        _ANONYMOUS_ID: _name_all({visitor: claim[3] for visitor, claim in evidence.claims.items()}),
    }
    linked_at = {visitor: claim[0] for visitor, claim in evidence.claims.items()}
    return ResolvedGraph(names, linked_at, merges, refusals)


def _name_all(members: dict[str, _Member]) -> dict[str, Name]:
    """The names of those that belong to a person."""
    names = ((identifier, member.root().name) for identifier, member in members.items())
    return {identifier: name for identifier, name in names if name.rank < NAMELESS}


class _Evidence:
    """All that is said of who is who, each thing once and at its earliest."""

    def __init__(self, workspace_id: str, rules: IdentityRules) -> None:
        self._workspace_id = workspace_id
        self._rules = rules
        types = _USER_ID, _EMAIL, PERSON_ID
        self._strengths = {kind: owner_strength((workspace_id, kind, ""), rules) for kind in types}
        self._members: dict[str, dict[str, _Member]] = {kind: {} for kind in types}
        """Identifier type -> each node that joins persons."""
        self.users, self.emails = self._members[_USER_ID], self._members[_EMAIL]
        self.claims: dict[str, _Claim] = {}
        """anonymous_id -> whom it belongs to."""
        self._links: dict[tuple[str, str], _Seen] = {}
        """user_id and email -> the call that linked them first."""
        self._aliases: dict[tuple[str, str], _Seen] = {}
        """previousId as a user_id, and userId."""
        self._bound: list[_Edge] = []
        """Links that a table brings: they count for no limit."""

    def add(self, link: Link) -> None:
        """What a call says."""
        user_id, address, timestamp = link.user_id, link.email, link.timestamp
        seen = timestamp, link.message_id
        user = email = None
        if address is not None:
            email = self.emails.get(address)
            if email is None or timestamp < email.name.timestamp:  # an email has no other names than this one's
                email = self._see(_EMAIL, address, email_name(address, timestamp))
        if user_id is not None:
            user = self.users.get(user_id) or self._see(_USER_ID, user_id, user_name(user_id))
            previous_id = link.previous_id
            if previous_id is not None and previous_id != user_id:
                _keep_earliest(self._aliases, (previous_id, user_id), seen)
                # The call does not say whether it is a user_id, so it is an anonymous_id in any case.
                self._claim(previous_id, timestamp, user)
            if address is not None:
                _keep_earliest(self._links, (user_id, address), seen)
        owner = user or email
        if user is not None and email is not None and self._strengths[_EMAIL] < self._strengths[_USER_ID]:
            owner = email
        if owner is not None and link.anonymous_id is not None:
            self._claim(link.anonymous_id, timestamp, owner)

    def add_warehouse(self, person: WarehousePerson) -> None:
        """A row of the customer's person table."""
        email = self._see(_EMAIL, person.email, email_name(person.email, NEVER))
        self._bind(email, self._see(PERSON_ID, person.person_id, warehouse_name(person.person_id)))

    def add_known(self, identity: KnownIdentity) -> None:
        """What an earlier job has published."""
        if identity.person_id is None:
            return
        person = self._see(PERSON_ID, identity.person_id, known_person_name(identity.person_id, identity.person_since))
        if identity.identifier_type == IdentifierType.ANONYMOUS_ID:
            self._claim(identity.identifier, identity.linked_at or 0, person)
        else:
            self._bind(self._see(str(identity.identifier_type), identity.identifier, known_name(identity)), person)

    def admit(self) -> tuple[list[_Edge], list[RefusedLink]]:
        """The links that both ends admit, the oldest first, and the refusals of the others."""
        emails_a_user, users_an_email = self._rules.emails_per_user_id, self._rules.user_ids_per_email
        edges, refusals = list(self._bound), []
        sortable = sorted((seen[0], *pair, seen[1]) for pair, seen in self._links.items())
        for timestamp, user_id, address, message_id in sortable:
            user, email = self.users[user_id], self.emails[address]
            user.partners += 1
            email.partners += 1
            if user.partners > emails_a_user:
                refusals.append(RefusedLink(user.node, email.node, (message_id, timestamp)))
            if email.partners > users_an_email:
                refusals.append(RefusedLink(email.node, user.node, (message_id, timestamp)))
            if user.partners <= emails_a_user and email.partners <= users_an_email:
                edges.append((timestamp, user.node, email.node, message_id, user, email))
        for (previous_id, user_id), (timestamp, message_id) in self._aliases.items():
            previous, user = self.users.get(previous_id), self.users[user_id]
            if previous is not None:
                edges.append((timestamp, previous.node, user.node, message_id, previous, user))
        edges.sort()
        return edges, refusals

    def _see(self, identifier_type: str, identifier: str, name: Name) -> _Member:
        member = self._members[identifier_type].get(identifier)
        if member is None:
            member = _Member((self._workspace_id, identifier_type, identifier), name)
            self._members[identifier_type][identifier] = member
        elif name < member.name:
            member.name = name
        return member

    def _bind(self, one: _Member, other: _Member) -> None:
        self._bound.append((_LONG_AGO, one.node, other.node, "", one, other))

    def _claim(self, anonymous_id: str, timestamp: int, owner: _Member) -> None:
        known = self.claims.get(anonymous_id)
        if known is None or timestamp <= known[0]:
            claim = timestamp, self._strengths[owner.node[1]], owner.node, owner
            if known is None or claim < known:
                self.claims[anonymous_id] = claim


def _keep_earliest(calls: dict[tuple[str, str], _Seen], pair: tuple[str, str], seen: _Seen) -> None:
    known = calls.get(pair)
    if known is None or seen < known:
        calls[pair] = seen


def _unite(edges: Iterable[_Edge], workspace_id: str, now: int) -> list[Merge]:
    """Make one person of both ends of each edge; each name that was lost, with today's person."""
    lost: list[tuple[Name, _Member, Cause]] = []
    for timestamp, _, _, message_id, one, other in edges:
        root, absorbed = one.root(), other.root()
        if root is absorbed:
            continue
        greater = max(root.name, absorbed.name)
        # What a call brings and joins at once was never a person of its own; what a table brings was one before.
        since = greater.timestamp if greater.rank == EMAIL else _LONG_AGO
        if greater.rank < NAMELESS and since < timestamp:
            lost.append((greater, one, (message_id, timestamp)))
        if root.size < absorbed.size:
            root, absorbed = absorbed, root
        absorbed.above = root
        root.size += absorbed.size
        root.name = min(root.name, absorbed.name)
    merges = []
    for name, member, cause in lost:
        replaced, kept = (person_id_of(workspace_id, each) for each in (name, member.root().name))
        if replaced is not None and kept is not None:
            merges.append(Merge(workspace_id, replaced, kept, name.identifier_type, name.value, cause, now))
    return merges
