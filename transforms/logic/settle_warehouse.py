"""Which person the warehouse gives each email, and which emails it gives several: none of those is guessed."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from schemas.identities import IdentifierType, WarehousePerson
from schemas.rows import Row, make_row

REASON = "warehouse_conflict"
"""In `identity_merges`: the warehouse gives one email several person_ids."""


class SettledWarehouse(NamedTuple):
    """What some rows of a person table add up to."""

    persons: list[WarehousePerson]
    """One an email that has exactly one person_id, in order."""
    conflicts: list[Row]
    """Rows of `identity_merges`, one a person_id of an email that has several."""
    conflicting_emails: int
    """How many emails have several person_ids."""


def settle_warehouse(persons: Iterable[WarehousePerson], at: int) -> SettledWarehouse:
    """Settle all rows of some emails; every row of an email must be among them.

    `at` is when it was found out, in microseconds since 1970. Emails of two workspaces have nothing to do with each
    other. A row that is there twice says nothing new.
    """
    person_ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for person in persons:
        person_ids[person.workspace_id, person.email].add(person.person_id)
    settled = SettledWarehouse([], [], sum(len(ids) > 1 for ids in person_ids.values()))
    for (workspace_id, email), ids in sorted(person_ids.items()):
        if len(ids) == 1:
            settled.persons.append(WarehousePerson(workspace_id, email, *ids))
        else:
            settled.conflicts.extend(_shape_conflict(workspace_id, email, person_id, at) for person_id in sorted(ids))
    return settled


def _shape_conflict(workspace_id: str, email: str, person_id: str, at: int) -> Row:
    values = {"workspace_id": workspace_id, "from_person_id": person_id, "reason": REASON}
    values |= {"identifier_type": IdentifierType.EMAIL.value, "identifier": email}
    return make_row("identity_merges", values | {"timestamp": at, "recorded_at": at})
