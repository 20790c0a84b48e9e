"""What the table `identities` is told, one batch at a time."""

import itertools

import pytest

from schemas.identities import KnownIdentity
from schemas.identity_facts import Belongs, Claim, Name
from transforms.logic.name_persons import email_name, person_id_of, prior_name, user_name, warehouse_name
from transforms.logic.publish_identities import PublishedIdentities

EMAIL, OLDER = ("w1", "email", "b@x"), ("w1", "email", "a@x")
USER = ("w1", "user_id", "u1")
VISITOR = ("w1", "anonymous_id", "v1")
PERSON = ("w1", "person_id", "P1")
NOBODY = user_name("u1")
B, A = email_name("b@x", 2), email_name("a@x", 1)
B_ID, A_ID = person_id_of("w1", B), person_id_of("w1", A)
AT_2: Claim = (2, 0, USER)
AT_1: Claim = (1, 0, USER)


def belongs(
    node: tuple[str, str, str], name: Name, claim: Claim | None = None, message_id: str = "m1", at: int = 3
) -> Belongs:
    return Belongs(node, name, claim, (message_id, at))


def test_what_becomes_known_is_a_row_as_new_as_its_window() -> None:
    (row,) = PublishedIdentities().publish([belongs(USER, B)], 10).identities

    assert (row.node, row.person_id, row.version) == (USER, B_ID, 10)


def test_what_a_table_brings_is_as_new_as_its_reading() -> None:
    (row,) = PublishedIdentities().publish([belongs(USER, B, message_id="", at=4)], 10).identities

    assert row.version == 4


def test_versions_grow_although_time_does_not() -> None:
    published = PublishedIdentities()
    published.publish([belongs(USER, B)], 10)

    (row,) = published.publish([belongs(USER, A)], 10).identities

    assert row.version == 11


def test_what_is_nobodys_from_the_start_is_no_row() -> None:
    published = PublishedIdentities()

    assert published.publish([belongs(USER, NOBODY)], 10).identities == []
    assert published.find_person(USER) is None


def test_of_all_that_a_window_brings_only_the_last_word_is_a_row() -> None:
    for facts in itertools.permutations([belongs(USER, NOBODY), belongs(USER, B), belongs(USER, A)]):
        (row,) = PublishedIdentities().publish(facts, 10).identities

        assert row.person_id == A_ID


def test_a_greater_name_is_no_news() -> None:
    published = PublishedIdentities()
    published.publish([belongs(USER, A)], 10)

    assert published.publish([belongs(USER, B), belongs(USER, A)], 11) == ([], [], [])


def test_an_earlier_sight_of_the_same_email_is_remembered_but_no_row() -> None:
    published = PublishedIdentities()
    published.publish([belongs(USER, B)], 10)

    changes = published.publish([belongs(USER, email_name("b@x", 1))], 11)

    assert (len(changes.published), changes.identities) == (1, [])


def test_an_earlier_claim_wins_although_its_person_has_a_greater_name() -> None:
    for facts in itertools.permutations([belongs(VISITOR, A, AT_2), belongs(VISITOR, B, AT_1)]):
        (row,) = PublishedIdentities().publish(facts, 10).identities

        assert row.person_id == B_ID


def test_a_later_claim_is_no_news() -> None:
    published = PublishedIdentities()
    published.publish([belongs(VISITOR, B, AT_1)], 10)

    assert published.publish([belongs(VISITOR, A, AT_2)], 11).published == []


def test_a_visitor_whose_owner_is_nobody_is_taken_back_once() -> None:
    published = PublishedIdentities()
    published.publish([belongs(VISITOR, B, AT_2)], 10)

    (row,) = published.publish([belongs(VISITOR, NOBODY, AT_1)], 11).identities

    assert (row.person_id, row.version) == (None, 11)
    assert published.publish([belongs(VISITOR, NOBODY, AT_1)], 12).identities == []


def test_the_node_of_a_person_is_no_row_but_leads() -> None:
    published = PublishedIdentities()

    assert published.publish([belongs(PERSON, warehouse_name("P1"))], 10).identities == []

    (merge,) = published.publish([belongs(PERSON, warehouse_name("P0"))], 11).merges

    assert (merge.from_person_id, merge.into_person_id, merge.identifier_type) == ("P1", "P0", "person_id")


def test_a_merge_is_told_where_the_lost_email_is_at_home() -> None:
    published = PublishedIdentities()
    published.publish([belongs(EMAIL, B), belongs(USER, B)], 10)

    (merge,) = published.publish([belongs(EMAIL, A), belongs(USER, A)], 11).merges

    assert merge == ("w1", B_ID, A_ID, "email", "b@x", ("m1", 3), 11)


def test_a_merge_is_told_again_whenever_its_target_changes_and_when_it_ends() -> None:
    published = PublishedIdentities()
    names = [B, A, warehouse_name("P1"), warehouse_name("P0")]
    merges = [
        merge for now, name in enumerate(names) for merge in published.publish([belongs(EMAIL, name)], now).merges
    ]

    assert [(merge.from_person_id, merge.into_person_id) for merge in merges] == [
        (B_ID, A_ID),
        (B_ID, "P1"),
        (B_ID, "P0"),
    ]

    earlier = published.publish([belongs(EMAIL, email_name("b@x", 0))], 9)

    assert earlier.merges == []


def test_a_person_id_that_leads_again_has_a_row_into_itself() -> None:
    published = PublishedIdentities()
    published.publish([belongs(EMAIL, B)], 10)
    published.publish([belongs(EMAIL, A)], 11)

    (merge,) = published.publish([belongs(EMAIL, email_name("b@x", 0))], 12).merges

    assert (merge.from_person_id, merge.into_person_id) == (B_ID, B_ID)


def test_an_email_that_never_led_is_no_merge() -> None:
    published = PublishedIdentities()
    published.publish([belongs(EMAIL, A)], 10)

    assert published.publish([belongs(EMAIL, email_name("0@x", 0))], 11).merges == []


def known(identifier_type: str, identifier: str, person_id: str | None) -> KnownIdentity:
    return KnownIdentity("w1", identifier_type, identifier, person_id, None, None, 7)


def test_what_an_earlier_job_has_published_is_known_and_is_no_row_again() -> None:
    published = PublishedIdentities()
    published.recognise([known("email", "b@x", B_ID), known("user_id", "u1", B_ID)])

    assert published.find_person(USER) == B_ID
    assert published.publish([belongs(EMAIL, B), belongs(USER, B)], 3).identities == []


def test_a_change_of_what_an_earlier_job_has_published_is_newer() -> None:
    published = PublishedIdentities()
    published.recognise([known("email", "b@x", B_ID), known("user_id", "u1", B_ID)])

    changes = published.publish([belongs(EMAIL, A), belongs(USER, A)], 3)

    assert [row.version for row in changes.identities] == [8, 8]
    assert [(merge.from_person_id, merge.into_person_id) for merge in changes.merges] == [(B_ID, A_ID)]


def test_who_is_nobodys_by_an_earlier_job_is_bound_by_a_newer_row() -> None:
    published = PublishedIdentities()
    published.recognise([known("email", "b@x", None)])
    person = published.find_person(EMAIL)

    changes = published.publish([belongs(EMAIL, B)], 3)

    assert person is None
    assert [(row.person_id, row.version) for row in changes.identities] == [(B_ID, 8)]
    assert changes.merges == []


@pytest.mark.parametrize("identifier_type", ["email", "user_id", "anonymous_id"])
def test_of_an_earlier_job_only_the_email_that_names_a_person_leads(identifier_type: str) -> None:
    published = PublishedIdentities()
    published.recognise([known(identifier_type, "a@x", "P1")])

    assert published.publish([belongs(("w1", identifier_type, "a@x"), B)], 3).merges == []


def test_what_is_known_is_learned_once_and_never_against_what_was_published_since() -> None:
    published = PublishedIdentities()
    first = published.recognise([known("user_id", "u1", B_ID)])
    published.publish([belongs(USER, A)], 10)

    assert len(first) == 1
    assert published.recognise([known("user_id", "u1", B_ID)]) == []
    assert published.find_person(USER) == A_ID


def test_a_prior_name_is_nobodys() -> None:
    published = PublishedIdentities()

    assert published.publish([belongs(PERSON, prior_name("P1"))], 3).identities == []
    assert published.publish([belongs(PERSON, A)], 4).merges == []


STORY = [
    [belongs(VISITOR, NOBODY, (2, 0, ("w1", "user_id", "u2")))],
    [belongs(VISITOR, NOBODY, (2, 0, USER))],
    [belongs(EMAIL, B), belongs(USER, B)],
    [belongs(EMAIL, A), belongs(USER, A)],
    [belongs(EMAIL, email_name("a@x", 0)), belongs(USER, email_name("a@x", 0))],
]


@pytest.mark.parametrize("end", range(1, len(STORY) + 1))
def test_what_was_published_is_rebuilt_from_the_records_in_any_order(end: int) -> None:
    """Also of records of one version: those that changed what is held, and no person."""
    live, log = PublishedIdentities(), []
    log += live.recognise([known("user_id", "u1", B_ID)])
    for now, facts in enumerate(STORY[:end]):
        log += live.publish(facts, now).published
    news = [
        belongs(VISITOR, B, (2, 0, ("w1", "user_id", "u2"))),
        belongs(EMAIL, warehouse_name("P1")),
        belongs(USER, email_name("a@x", 0)),
    ]
    order = sorted(log, key=lambda record: (record.version, str(record)))
    expected = None
    for records in (order, order[::-1], log, log[::-1]):
        rebuilt = PublishedIdentities()
        rebuilt.recall(records)
        changes = rebuilt.publish(news, 99)
        expected = expected or live.publish(news, 99)

        assert changes == expected
