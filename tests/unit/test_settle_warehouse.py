"""Persons of the customer's warehouse: what of a row is used, and that no email with two persons is guessed."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identities import WarehousePerson
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.rows import row_values
from tests.factories import NOW
from transforms.logic.read_person import read_person
from transforms.logic.settle_warehouse import settle_warehouse


def read(person_id: object = "p1", email: object = "ann@example.com", workspace_id: object = None) -> object:
    return read_person(person_id, email, workspace_id, "w1", DEFAULT_RULES)


def test_a_row_is_read_as_calls_are() -> None:
    assert read("p1", " Ann@Example.COM\n") == WarehousePerson("w1", "ann@example.com", "p1")


@pytest.mark.parametrize(
    ("sent", "text"),
    [("p1", "p1"), (" p1 ", "p1"), (7, "7"), (7.0, "7"), (Decimal("7.000"), "7"), (2**70, str(2**70)), (7.5, "7.5")],
)
def test_a_person_id_becomes_text(sent: object, text: str) -> None:
    person = read(sent)

    assert isinstance(person, WarehousePerson)
    assert person.person_id == text


@pytest.mark.parametrize(
    "person_id",
    [None, "", "  ", True, [], {}, b"p1", float("nan"), float("inf"), Decimal("nan"), "NULL", "0", 0, "none"],
)
def test_a_row_without_a_usable_person_id_is_none(person_id: object) -> None:
    assert read(person_id) is None


@pytest.mark.parametrize("email", [None, "", "ann", "@", 5, ["ann@example.com"], b"ann@example.com"])
def test_a_row_without_an_email_is_none(email: object) -> None:
    assert read(email=email) is None


def test_a_blocked_email_is_no_persons() -> None:
    rules = IdentityRules(blocked_values=("info@example.com",))

    assert read_person("p1", "Info@example.com", None, "w1", rules) is None


@pytest.mark.parametrize(("sent", "workspace"), [("w2", "w2"), (2, "2"), (None, "w1"), ("", "w1"), (" ", "w1")])
def test_the_workspace_is_the_rows_else_the_default(sent: object, workspace: str) -> None:
    person = read(workspace_id=sent)

    assert isinstance(person, WarehousePerson)
    assert person.workspace_id == workspace


def test_an_email_with_two_persons_is_a_conflict_of_both() -> None:
    ann, bob = WarehousePerson("w1", "ann@x.io", "p1"), WarehousePerson("w1", "bob@x.io", "p1")

    settled = settle_warehouse([ann, bob, ann, WarehousePerson("w1", "ann@x.io", "p2")], NOW)

    assert settled.persons == [bob]
    assert settled.conflicting_emails == 1
    about = {"workspace_id": "w1", "reason": "warehouse_conflict", "identifier_type": "email", "identifier": "ann@x.io"}
    assert [row_values("identity_merges", row) for row in settled.conflicts] == [
        about | {"from_person_id": "p1", "timestamp": NOW, "recorded_at": NOW},
        about | {"from_person_id": "p2", "timestamp": NOW, "recorded_at": NOW},
    ]


_FEW = st.builds(
    WarehousePerson,
    st.sampled_from(("w1", "w2")),
    st.sampled_from(("a@x", "b@x", "c@x")),
    st.sampled_from(("p1", "p2", "p3")),
)


@given(st.lists(_FEW, max_size=10), st.randoms(use_true_random=False))
def test_settling_is_what_the_rows_say_in_any_order(persons: list[WarehousePerson], chance: object) -> None:
    settled = settle_warehouse(persons, NOW)

    emails = {(person.workspace_id, person.email) for person in persons}
    expected, conflicts = [], []
    for workspace_id, email in sorted(emails):
        theirs = sorted({row.person_id for row in persons if (row.workspace_id, row.email) == (workspace_id, email)})
        if len(theirs) == 1:
            expected.append(WarehousePerson(workspace_id, email, theirs[0]))
        else:
            conflicts += [(workspace_id, email, person_id) for person_id in theirs]
    found = [row_values("identity_merges", row) for row in settled.conflicts]
    assert settled.persons == expected
    assert [(row["workspace_id"], row["identifier"], row["from_person_id"]) for row in found] == conflicts
    assert settled.conflicting_emails == len(emails) - len(expected)
    chance.shuffle(persons)  # type: ignore[attr-defined] # hypothesis gives a random.Random
    assert settle_warehouse(persons + persons, NOW) == settled
