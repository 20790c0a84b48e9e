import pytest

from schemas.identity_facts import Merge, Published, RefusedLink
from schemas.rows import row_values
from schemas.tables import load_table
from tests.factories import NOW
from transforms.logic.name_persons import email_name, user_name, warehouse_name
from transforms.logic.shape_identities import (
    IDENTITY_COLUMNS,
    shape_identity,
    shape_merge,
    shape_published,
    shape_refusal,
)

EMAIL = ("w1", "email", "a@x")
USER = ("w1", "user_id", "u1")
VISITOR = ("w1", "anonymous_id", "v1")


def test_the_columns_of_an_identity_are_those_of_its_table() -> None:
    assert load_table("identities").columns == IDENTITY_COLUMNS


def test_an_identity_has_its_version_as_its_time() -> None:
    row = shape_identity(EMAIL, None, NOW, None, None)

    assert row_values("identities", row) == {
        "workspace_id": "w1",
        "identifier_type": "email",
        "identifier": "a@x",
        "version": NOW,
        "updated_at": NOW,
    }


def test_an_identity_tells_the_next_job_since_when_its_person_is_there_and_the_visitor_its() -> None:
    record = Published(VISITOR, email_name("a@x", 5), (7, 0, USER), "p1", NOW)

    row = row_values("identities", shape_published(record))

    assert (row["person_id"], row["person_since"], row["linked_at"]) == ("p1", 5, 7)


def test_a_person_that_a_warehouse_names_is_of_no_age() -> None:
    row = row_values("identities", shape_published(Published(EMAIL, warehouse_name("p1"), None, "p1", NOW)))

    assert row.keys() == {"workspace_id", "identifier_type", "identifier", "person_id", "version", "updated_at"}


def test_an_identifier_that_is_nobodys_any_more_has_neither_a_person_nor_its_age() -> None:
    row = row_values("identities", shape_published(Published(VISITOR, user_name("u1"), (7, 0, USER), None, NOW)))

    assert "person_id" not in row
    assert "person_since" not in row


def test_a_merge_says_who_why_and_when() -> None:
    row = shape_merge(Merge("w1", "p1", "p2", "email", "a@x", ("m1", 5), NOW))

    assert row_values("identity_merges", row) == {
        "workspace_id": "w1",
        "from_person_id": "p1",
        "into_person_id": "p2",
        "reason": "merged",
        "identifier_type": "email",
        "identifier": "a@x",
        "message_id": "m1",
        "timestamp": 5,
        "recorded_at": NOW,
    }


def test_a_merge_that_a_table_brings_has_no_message() -> None:
    assert "message_id" not in row_values(
        "identity_merges", shape_merge(Merge("w1", "p1", "p2", "email", "a@x", ("", 5), NOW))
    )


@pytest.mark.parametrize(
    ("refusing", "refused", "reason"), [(USER, EMAIL, "too_many_emails"), (EMAIL, USER, "too_many_user_ids")]
)
def test_a_refused_link_says_who_has_too_many(
    refusing: tuple[str, str, str], refused: tuple[str, str, str], reason: str
) -> None:
    row = shape_refusal(RefusedLink(refusing, refused, ("m1", 5)), NOW)

    assert row_values("identity_merges", row) == {
        "workspace_id": "w1",
        "reason": reason,
        "identifier_type": refusing[1],
        "identifier": refusing[2],
        "refused_type": refused[1],
        "refused_identifier": refused[2],
        "message_id": "m1",
        "timestamp": 5,
        "recorded_at": NOW,
    }
