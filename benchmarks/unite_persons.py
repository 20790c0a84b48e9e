"""The persons of a workspace as a Beam CombineFn: a union-find forest that grows by links and by other forests."""

from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from benchmarks.name_persons import Claim, Node, name_person


class Forest:
    """What is known of who is who."""

    def __init__(self) -> None:
        self.parents: dict[Node, Node] = {}
        self.first_seen: dict[str, int] = {}
        """Email -> the earliest call with it."""
        self.claims: dict[str, Claim] = {}
        self.aliases: set[tuple[str, str]] = set()

    def root(self, node: Node) -> Node:
        """The node that stands for all that are united with this one."""
        while (parent := self.parents.setdefault(node, node)) != node:
            self.parents[node] = self.parents[parent]
            node = parent
        return node

    def unite(self, one: Node, other: Node) -> None:
        """Both belong to one person."""
        self.parents[self.root(one)] = self.root(other)

    def see_email(self, email: str, timestamp: int) -> None:
        """A call carried this email then."""
        self.first_seen[email] = min(timestamp, self.first_seen.get(email, timestamp))

    def claim(self, anonymous_id: str, claim: Claim) -> None:
        """A call carried this anonymous_id with somebody's name."""
        self.claims[anonymous_id] = min(claim, self.claims.get(anonymous_id, claim))

    def follow_aliases(self) -> None:
        """Unite the user_ids that alias calls say are one person's; what they call previousId may be none."""
        for previous_id, user_id in self.aliases:
            if ("user_id", previous_id) in self.parents:
                self.unite(("user_id", previous_id), ("user_id", user_id))

    def first_emails(self) -> dict[Node, tuple[int, str]]:
        """Root -> the earliest email of its person, behind when it was seen first."""
        first: dict[Node, tuple[int, str]] = {}
        for email, timestamp in self.first_seen.items():
            root = self.root(("email", email))
            first[root] = min((timestamp, email), first.get(root, (timestamp, email)))
        return first


class UnitePersons(beam.CombineFn):
    """Links in, a dict of (identifier type, identifier) to person_id out."""

    def __init__(self, workspace_id: str) -> None:
        self._workspace_id = workspace_id

    def create_accumulator(self) -> Forest:
        """An empty forest."""
        return Forest()

    def add_input(self, forest: Forest, link: dict[str, Any]) -> Forest:
        """Learn what one call says."""
        timestamp, named = link["timestamp"], []
        if link["user_id"] is not None:
            named.append(("user_id", link["user_id"]))
        if link["email"] is not None:
            forest.see_email(link["email"], timestamp)
            named.append(("email", link["email"]))
        if not named:
            return forest
        forest.unite(named[0], named[-1])
        claim = (timestamp, 0 if named[0][0] == "user_id" else 1, named[0])
        if link["anonymous_id"] is not None:
            forest.claim(link["anonymous_id"], claim)
        if link["previous_id"] is not None:
            forest.aliases.add((link["previous_id"], link["user_id"]))
            forest.claim(link["previous_id"], claim)
        return forest

    def merge_accumulators(self, forests: Iterable[Forest]) -> Forest:
        """Everything that several forests know."""
        whole = Forest()
        for forest in forests:
            for node, parent in forest.parents.items():
                whole.unite(node, parent)
            for email, timestamp in forest.first_seen.items():
                whole.see_email(email, timestamp)
            for anonymous_id, claim in forest.claims.items():
                whole.claim(anonymous_id, claim)
            whole.aliases |= forest.aliases
        return whole

    def extract_output(self, forest: Forest) -> dict[Node, str]:
        """Whose each identifier is."""
        forest.follow_aliases()
        names = {root: name_person(self._workspace_id, email) for root, (_, email) in forest.first_emails().items()}
        persons = {node: names[root] for node in list(forest.parents) if (root := forest.root(node)) in names}
        for anonymous_id, (_, _, owner) in forest.claims.items():
            if owner in persons:
                persons["anonymous_id", anonymous_id] = persons[owner]
        return persons
