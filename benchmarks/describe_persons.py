"""The persons of a workspace with all that the tables say of them: since when, and which call merged them."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import apache_beam as beam

from benchmarks.name_persons import Node, name_person
from benchmarks.unite_persons import Forest, UnitePersons

Cause: TypeAlias = tuple[int, str]
"""When a call happened, and its messageId."""


class Chronicle:
    """A forest and the calls it has grown by."""

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        self.newest = 0
        """When the newest call that names somebody was received."""
        self.causes: dict[tuple[Node, Node], Cause] = {}
        """Two nodes -> the earliest call that linked them."""

    def note(self, one: Node, other: Node, cause: Cause) -> None:
        """A call linked these two."""
        self.causes[one, other] = min(cause, self.causes.get((one, other), cause))


class DescribePersons(beam.CombineFn):
    """Links in, a dict with `person_ids` and the other columns of `identities` out, and `merges` as dicts."""

    def __init__(self, workspace_id: str) -> None:
        self._workspace_id = workspace_id
        self._unite = UnitePersons(workspace_id)

    def create_accumulator(self) -> Chronicle:
        """Nothing yet."""
        return Chronicle(Forest())

    def add_input(self, chronicle: Chronicle, link: dict[str, Any]) -> Chronicle:
        """Learn what one call says."""
        self._unite.add_input(chronicle.forest, link)
        if link["user_id"] is None and link["email"] is None:
            return chronicle
        chronicle.newest = max(chronicle.newest, link["received_at"])
        user, cause = ("user_id", link["user_id"]), (link["timestamp"], link["message_id"])
        if link["user_id"] is not None and link["email"] is not None:
            chronicle.note(user, ("email", link["email"]), cause)
        if link["user_id"] is not None and link["previous_id"] is not None:
            chronicle.note(("user_id", link["previous_id"]), user, cause)
        return chronicle

    def merge_accumulators(self, chronicles: Iterable[Chronicle]) -> Chronicle:
        """Everything that several know."""
        chronicles = list(chronicles)
        whole = Chronicle(self._unite.merge_accumulators(chronicle.forest for chronicle in chronicles))
        for chronicle in chronicles:
            whole.newest = max(whole.newest, chronicle.newest)
            for (one, other), cause in chronicle.causes.items():
                whole.note(one, other, cause)
        return whole

    def extract_output(self, chronicle: Chronicle) -> dict[str, Any]:
        """Whose each identifier is, and how that came about."""
        forest = chronicle.forest
        person_ids = self._unite.extract_output(forest)
        firsts = forest.first_emails().values()
        return {
            "person_ids": person_ids,
            "version": chronicle.newest,
            "since": {person_ids["email", email]: timestamp for timestamp, email in firsts},
            "linked_at": {("anonymous_id", value): claim[0] for value, claim in forest.claims.items()},
            "merges": list(self._replay(chronicle, person_ids)),
        }

    def _replay(self, chronicle: Chronicle, person_ids: dict[Node, str]) -> Iterable[dict[str, Any]]:
        """Grow it again, call by call: where two persons meet, the younger one is replaced."""
        forest = Forest()
        first_seen = chronicle.forest.first_seen
        oldest = {("email", email): (timestamp, email) for email, timestamp in first_seen.items()}
        for (timestamp, message_id), (one, other) in sorted((cause, link) for link, cause in chronicle.causes.items()):
            if one not in chronicle.forest.parents:
                continue  # an alias of what is no user_id
            root, absorbed = forest.root(one), forest.root(other)
            if root == absorbed:
                continue
            names = sorted(oldest.pop(node) for node in (root, absorbed) if node in oldest)
            forest.unite(absorbed, root)
            if names:
                oldest[root] = names[0]
            if len(names) == 2 and names[1][0] < timestamp:
                yield {
                    "from_person_id": name_person(self._workspace_id, names[1][1]),
                    "into_person_id": person_ids[one],
                    "identifier": names[1][1],
                    "message_id": message_id,
                    "timestamp": timestamp,
                }
