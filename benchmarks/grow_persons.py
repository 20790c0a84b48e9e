"""The persons of a workspace as a value that a state cell can hold: it grows by a call, and says what that changed."""

from typing import Any

from benchmarks.name_persons import Claim, Node, name_person


class GrownPersons:
    """Components as lists of members: where two meet, the smaller list moves into the larger."""

    def __init__(self, workspace_id: str) -> None:
        self._workspace_id = workspace_id
        self._members: dict[Node, list[Node]] = {}
        self._first_seen: dict[Node, int] = {}
        """Email -> the earliest call with it."""
        self._claims: dict[str, Claim] = {}
        self._visitors: dict[Node, set[str]] = {}
        self._aliases: dict[str, set[str]] = {}
        self.persons: dict[Node, str | None] = {}
        self.has_news = False
        """Whether the last call has taught anything."""

    def learn(self, link: dict[str, Any]) -> dict[Node, str | None]:
        """Learn what one call says; whose persons that changes, and to what."""
        self.has_news = False
        touched: list[Node] = []
        named: list[Node] = []
        timestamp = link["timestamp"]
        if link["user_id"] is not None:
            named.append(("user_id", link["user_id"]))
        if link["email"] is not None:
            named.append(("email", link["email"]))
        for node in named:
            touched += self._see(node, timestamp)
        if not named:
            return {}
        touched += self._unite(named[0], named[-1])
        claim = (timestamp, 0 if named[0][0] == "user_id" else 1, named[0])
        if link["previous_id"] is not None:
            touched += self._succeed(link["previous_id"], link["user_id"])
        for visitor in (link["anonymous_id"], link["previous_id"]):
            if visitor is not None:
                touched += self._claim(visitor, claim)
        return self._name(touched)

    def _see(self, node: Node, timestamp: int) -> list[Node]:
        touched: list[Node] = []
        if node not in self._members:
            self._members[node] = [node]
            self.has_news = True
            touched.append(node)
            for successor in self._aliases.get(node[1], ()) if node[0] == "user_id" else ():
                touched += self._unite(node, ("user_id", successor))
        if node[0] == "email" and timestamp < self._first_seen.get(node, timestamp + 1):
            self._first_seen[node] = timestamp
            self.has_news = True
            touched.append(node)
        return touched

    def _unite(self, one: Node, other: Node) -> list[Node]:
        large, small = self._members[one], self._members[other]
        if large is small:
            return []
        if len(large) < len(small):
            large, small = small, large
        large += small
        for node in small:
            self._members[node] = large
        self.has_news = True
        return [one]

    def _succeed(self, previous_id: str, user_id: str) -> list[Node]:
        successors = self._aliases.setdefault(previous_id, set())
        if user_id in successors:
            return []
        successors.add(user_id)
        self.has_news = True
        previous = ("user_id", previous_id)
        return self._unite(previous, ("user_id", user_id)) if previous in self._members else []

    def _claim(self, visitor: str, claim: Claim) -> list[Node]:
        held = self._claims.get(visitor)
        if held is not None and held <= claim:
            return []
        self._claims[visitor] = claim
        self.has_news = True
        if held is not None:
            self._visitors[held[2]].discard(visitor)
        self._visitors.setdefault(claim[2], set()).add(visitor)
        return [claim[2]]

    def _name(self, touched: list[Node]) -> dict[Node, str | None]:
        """Name the persons of these nodes anew."""
        changed: dict[Node, str | None] = {}
        for members in {id(self._members[node]): self._members[node] for node in touched}.values():
            emails = [(self._first_seen[node], node[1]) for node in members if node[0] == "email"]
            person_id = name_person(self._workspace_id, min(emails)[1]) if emails else None
            visitors = [("anonymous_id", visitor) for node in members for visitor in self._visitors.get(node, ())]
            for node in (*members, *visitors):
                if self.persons.get(node) != person_id:
                    self.persons[node] = changed[node] = person_id
        return changed
