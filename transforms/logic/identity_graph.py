"""The identity graph of one workspace: emails and user_ids in components, anonymous_ids hanging on them.

Every rule takes a minimum or a union over what was seen, and both are indifferent to order and repetition; that is why
any permutation, repetition or split of the same links ends in the same persons with the same ids (contract section 4).
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator

from schemas.identities import IdentifierType, Identity, Link, Persons

# Namespace of person_ids. Never change it: every person would get a new id.
_PERSON_NAMESPACE = uuid.UUID("0f6a5c0b-3c2e-5b7d-8f59-6a4de1a90d21")

_Node = tuple[str, str]
"""An email or a user_id: its type and its value."""


class IdentityGraph:
    """Links in, identities out.

    A person is a connected component of emails and user_ids that holds an email; its id comes from the email that was
    seen first. An anonymous_id belongs to the user_id (or email) that it was first seen with, and never joins two.
    """

    def __init__(self, workspace_id: str) -> None:
        self._workspace_id = workspace_id
        self.version = 0
        """Of what was published last, in microseconds since 1970; see `schemas/tables/identities.json`."""
        self._parents: dict[_Node, _Node] = {}
        self._members: dict[_Node, list[_Node]] = {}
        self._first_email: dict[_Node, tuple[int, str]] = {}
        """Of each root: when its earliest email was first seen, and that email; ties go to the smaller text."""
        self._owners: dict[str, tuple[int, int, _Node]] = {}
        """anonymous_id -> when, how strong and with whom it was first seen."""
        self._owned: dict[_Node, set[str]] = defaultdict(set)
        """Node -> the anonymous_ids that it owns."""
        self._awaited: dict[str, set[str]] = defaultdict(set)
        """previousId -> the user_ids that replace it, until it is seen as a user_id itself."""
        self._changed = False
        self._touched: set[_Node] = set()
        self._published: dict[_Node, str | None] = {}

    def add(self, link: Link) -> bool:
        """Learn what one call says; whether that was anything new.

        What was not new need not be remembered: a later minimum or union cannot depend on it.
        """
        self._changed = False
        caller = None
        if link.email is not None:
            caller = self._see_email(link.email, link.timestamp)
        if link.user_id is not None:
            user = self._see_user(link.user_id)
            if caller is not None:
                self._unite(user, caller)
            caller = user
            if link.previous_id is not None and link.previous_id != link.user_id:
                self._see_alias(link.previous_id, link.user_id)
                self._own(link.previous_id, caller, link.timestamp)
        if caller is not None and link.anonymous_id is not None:
            self._own(link.anonymous_id, caller, link.timestamp)
        return self._changed

    def publish(self) -> Iterator[Identity]:
        """Every identity that is new or has changed since the last time."""
        roots = {self._find(node) for node in self._touched}
        self._touched.clear()
        for root in roots:
            person_id = self._person_id(root) if root in self._first_email else None
            for node in self._members[root]:
                yield from self._publish(node, person_id)
                for anonymous_id in self._owned.get(node, ()):
                    yield from self._publish((IdentifierType.ANONYMOUS_ID, anonymous_id), person_id)

    def find_person(self, identifier_type: str | None, identifier: str | None) -> str | None:
        """The person of an identifier, None while there is none."""
        if identifier_type is None or identifier is None:
            return None
        node = (identifier_type, identifier)
        if identifier_type == IdentifierType.ANONYMOUS_ID:
            if identifier not in self._owners:
                return None
            node = self._owners[identifier][2]
        if node not in self._parents:
            return None
        root = self._find(node)
        return self._person_id(root) if root in self._first_email else None

    def _publish(self, node: _Node, person_id: str | None) -> Iterator[Identity]:
        if self._published.get(node) != person_id:
            self._published[node] = person_id
            yield Identity(*node, person_id)

    def _person_id(self, root: _Node) -> str:
        return str(uuid.uuid5(_PERSON_NAMESPACE, f"{self._workspace_id}\n{self._first_email[root][1]}"))

    def _see_email(self, email: str, timestamp: int) -> _Node:
        node = (IdentifierType.EMAIL.value, email)
        self._see(node)
        root = self._find(node)
        seen = (timestamp, email)
        if root not in self._first_email or seen < self._first_email[root]:
            self._first_email[root] = seen
            self._touch(root)
        return node

    def _see_user(self, user_id: str) -> _Node:
        node = (IdentifierType.USER_ID.value, user_id)
        if self._see(node):
            for successor in self._awaited.pop(user_id, ()):
                self._unite(node, self._see_user(successor))
        return node

    def _see_alias(self, previous_id: str, user_id: str) -> None:
        """An alias merges two user_ids; a previousId never seen as a user_id is an anonymous_id and merges nobody."""
        previous = (IdentifierType.USER_ID.value, previous_id)
        if previous in self._parents:
            self._unite(previous, self._see_user(user_id))
        elif user_id not in self._awaited[previous_id]:
            self._awaited[previous_id].add(user_id)
            self._changed = True

    def _own(self, anonymous_id: str, owner: _Node, timestamp: int) -> None:
        strength = 0 if owner[0] == IdentifierType.USER_ID else 1
        claim = (timestamp, strength, owner)
        held = self._owners.get(anonymous_id)
        if held is not None and held <= claim:
            return
        if held is not None:
            self._owned[held[2]].discard(anonymous_id)
        self._owners[anonymous_id] = claim
        self._owned[owner].add(anonymous_id)
        self._touch(owner)

    def _see(self, node: _Node) -> bool:
        if node in self._parents:
            return False
        self._parents[node] = node
        self._members[node] = [node]
        self._touch(node)
        return True

    def _find(self, node: _Node) -> _Node:
        root = node
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[node] != root:
            self._parents[node], node = root, self._parents[node]
        return root

    def _unite(self, one: _Node, other: _Node) -> None:
        root, absorbed = self._find(one), self._find(other)
        if root == absorbed:
            return
        if len(self._members[root]) < len(self._members[absorbed]):
            root, absorbed = absorbed, root
        self._parents[absorbed] = root
        self._members[root] += self._members.pop(absorbed)
        first = self._first_email.pop(absorbed, None)
        if first is not None:
            self._first_email[root] = min(first, self._first_email.get(root, first))
        self._touch(root)

    def _touch(self, node: _Node) -> None:
        self._changed = True
        self._touched.add(node)


def resolve_links(workspace_id: str, links: Iterable[Link], version: int) -> Persons:
    """The persons of a whole graph at once."""
    graph = IdentityGraph(workspace_id)
    for link in links:
        graph.add(link)
    persons = Persons(version, {identifier_type.value: {} for identifier_type in IdentifierType})
    for identity in graph.publish():
        if identity.person_id is not None:
            persons.by_identifier[identity.identifier_type][identity.identifier] = identity.person_id
    return persons
