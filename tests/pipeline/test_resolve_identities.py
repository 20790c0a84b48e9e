"""Who each call is from: by the end of its window in a stream, by the whole graph in bounded input."""

from dataclasses import replace

import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from schemas.identity_rules import IdentityRules
from tests.pipeline.stories import STREAMING, arrive, read_lines, tell

pytestmark = pytest.mark.usefixtures("state")


def identify(at: float, message_id: str, user_id: str, email: str | None, **sent: object) -> TimestampedValue:
    traits = {} if email is None else {"email": email}
    return arrive(at, messageId=message_id, type="identify", userId=user_id, traits=traits, **sent)


def test_a_call_is_given_the_person_that_is_known_by_the_end_of_its_window() -> None:
    story = TestStream().add_elements([arrive(1, messageId="m1"), identify(9, "m2", "u1", "ann@example.com")])

    told = tell(story.advance_watermark_to_infinity())

    assert told.persons()["m1"] is not None
    assert told.persons()["m1"] == told.persons("identifies")["m2"]


def test_a_call_that_is_read_with_an_older_one_waits_for_its_own_window() -> None:
    story = (
        TestStream()
        .add_elements([identify(11, "m1", "u1", "ann@example.com")])
        .add_elements([arrive(1, messageId="m2"), identify(12, "m3", "u1", None)])
        .advance_watermark_to_infinity()
    )

    told = tell(story)

    assert told.persons("identifies")["m3"] == told.persons("identifies")["m1"]
    assert told.persons()["m2"] is None


def test_a_call_of_an_earlier_window_gets_its_person_through_identities() -> None:
    story = (
        TestStream()
        .add_elements([arrive(1, messageId="m1", userId=None, anonymousId="a1")])
        .advance_watermark_to(60)
        .add_elements([identify(61, "m2", "u1", "ann@example.com", anonymousId="a1")])
        .advance_watermark_to_infinity()
    )

    told = tell(story)

    assert told.persons() == {"m1": None}
    assert told.identities()["anonymous_id", "a1"] == told.persons("identifies")["m2"]


def test_the_graph_outlives_its_window() -> None:
    story = (
        TestStream()
        .add_elements([identify(1, "m1", "u1", "ann@example.com")])
        .advance_watermark_to(100_000)
        .add_elements([arrive(100_001, messageId="m2")])
        .advance_watermark_to_infinity()
    )

    told = tell(story)

    assert told.persons()["m2"] == told.persons("identifies")["m1"]


def test_two_persons_who_turn_out_to_be_one_become_the_older() -> None:
    story = (
        TestStream()
        .add_elements([identify(1, "m1", "u1", "ann@example.com", timestamp="1969-06-02T00:00:00Z")])
        .add_elements([identify(2, "m2", "u2", "bob@example.com", timestamp="1969-06-01T00:00:00Z")])
        .advance_watermark_to(60)
        .add_elements([identify(61, "m3", "u1", "bob@example.com")])
        .advance_watermark_to_infinity()
    )

    told = tell(story)
    persons = told.persons("identifies")

    assert persons["m1"] != persons["m2"]
    assert persons["m3"] == persons["m2"]
    assert set(told.identities().values()) == {persons["m2"]}


def test_an_identify_without_email_is_processed_if_its_user_is_known() -> None:
    story = TestStream().add_elements([identify(1, "m1", "u1", "ann@example.com"), identify(2, "m2", "u1", None)])

    told = tell(story.advance_watermark_to_infinity())

    assert told.ids("identifies") == ["m1", "m2"]


VISITORS_FIRST = replace(STREAMING, identity_rules=IdentityRules(priority=("anonymous_id", "user_id", "email")))


def test_in_files_an_identify_without_email_is_processed_if_its_user_is_known_whoever_it_counts_for() -> None:
    calls = [
        identify(1, "m1", "u1", "ann@example.com"),
        identify(2, "m2", "u1", None, anonymousId="a1"),
        identify(3, "m3", "u2", None, anonymousId="a1"),
        identify(4, "m4", "null", None, anonymousId="a1"),
    ]

    told = read_lines([one.value.data for one in calls], VISITORS_FIRST)

    assert sorted(told.ids("identifies")) == ["m1", "m2"]
    assert sorted(letter.message_id or "" for letter in told.dead_letters) == ["m3", "m4"]
    assert {row["identifier"] for row in told.table("identifies") if row["message_id"] == "m2"} == {"a1"}


def test_an_identify_without_email_of_an_unknown_user_is_a_dead_letter_with_its_bytes() -> None:
    rejected = identify(2, "m2", "u2", None)

    told = tell(TestStream().add_elements([rejected]).advance_watermark_to_infinity())

    assert [letter.reason for letter in told.dead_letters] == ["identify_without_email"]
    assert told.dead_letters[0].payload == rejected.value.data
    assert told.counts == {("rejected", "identify_without_email"): 1}


def test_a_late_call_is_never_dropped() -> None:
    story = (
        TestStream()
        .add_elements([identify(1_000, "m1", "u1", "ann@example.com")])
        .advance_watermark_to(5_000_000)
        .add_elements([arrive(1, messageId="m2")])
        .advance_watermark_to_infinity()
    )

    told = tell(story)

    assert told.persons()["m2"] == told.persons("identifies")["m1"]
    assert told.counts == {("written", ""): 2}


def test_versions_of_an_identity_grow() -> None:
    story = (
        TestStream()
        .add_elements([identify(1, "m1", "u1", "ann@example.com", receivedAt="1970-01-01T06:00:00Z")])
        .advance_watermark_to(60)
        # received earlier than what is known already, and yet news
        .add_elements(
            [
                identify(
                    61,
                    "m2",
                    "u1",
                    "old@example.com",
                    timestamp="1969-01-01T00:00:00Z",
                    receivedAt="1969-01-01T00:00:00Z",
                )
            ]
        )
        .advance_watermark_to_infinity()
    )

    told = tell(story)
    versions = [row["version"] for row in told.table("identities") if row["identifier"] == "u1"]

    assert len(versions) == 2
    assert versions[0] < versions[1]
