"""The identity graph in the pipeline: how persons change from window to window, and what is told of it."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.settings import IDENTITY_SHARDS, LOCAL_IDENTITY_SHARDS
from schemas.calls import SegmentCall
from schemas.identities import KnownIdentity, PriorBlock, WarehousePerson
from schemas.identity_rules import IdentityRules
from tests.factories import SECOND
from tests.pipeline.stories import STREAMING, Told, arrive, read_lines, tell
from tests.unit.identity_histories import split_histories
from tests.unit.identity_oracle import person_id_of, resolve
from transforms.logic.read_timestamps import read_timestamp

pytestmark = pytest.mark.slow
remembered = pytest.mark.usefixtures("state")

WORKSPACE = STREAMING.workspace_id
WINDOW = 60
MINUTELY = replace(STREAMING, window_seconds=WINDOW)


def person_named(email: str) -> str:
    return person_id_of(email, WORKSPACE)


def identify(at: float, message_id: str, user_id: str, email: str | None = None, **sent: object) -> TimestampedValue:
    """An identify call that happened when it arrived."""
    traits = {} if email is None else {"email": email}
    stamped = {"messageId": message_id, "timestamp": stamp(at), "userId": user_id, "traits": traits, **sent}
    return arrive(at, type="identify", **stamped)


def alias(at: float, message_id: str, user_id: str, previous_id: str) -> TimestampedValue:
    sent = {"messageId": message_id, "timestamp": stamp(at), "userId": user_id, "previousId": previous_id}
    return arrive(at, type="alias", **sent)


def stamp(at: float) -> str:
    minutes, seconds = divmod(int(at), 60)
    return f"1970-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}Z"


def windows(*arrivals: Sequence[TimestampedValue]) -> TestStream:
    """The watermark passes the end of each window before the next one's calls arrive."""
    story: TestStream = TestStream().advance_watermark_to(0)
    for number, window in enumerate(arrivals, start=1):
        story = story.add_elements(window).advance_watermark_to(number * WINDOW)
    story.advance_watermark_to_infinity()  # adds to the story itself
    return story


def merged(told: Told) -> list[tuple[Any, ...]]:
    columns = ("from_person_id", "into_person_id", "identifier", "message_id", "timestamp")
    rows = [row for row in told.table("identity_merges") if row["reason"] == "merged"]
    rows.sort(key=lambda row: int(row["recorded_at"]))
    return [tuple(row.get(column) for column in columns) for row in rows]


@remembered
def test_a_merge_is_told_with_the_call_that_brought_it_about() -> None:
    story = windows(
        [identify(1, "m1", "u1", "ann@example.com"), identify(2, "m2", "u2", "bob@example.com")],
        [identify(WINDOW + 1, "m3", "u1", "bob@example.com")],
    )

    told = tell(story, MINUTELY)

    assert merged(told) == [
        (
            person_named("bob@example.com"),
            person_named("ann@example.com"),
            "bob@example.com",
            "m3",
            (WINDOW + 1) * SECOND,
        )
    ]
    (row,) = told.table("identity_merges")
    assert row["recorded_at"] == 2 * WINDOW * SECOND - 1, "the last instant of the window"
    assert row["identifier_type"] == "email"
    assert set(told.identities().values()) == {person_named("ann@example.com")}


@remembered
def test_a_person_that_is_merged_twice_leads_to_todays() -> None:
    story = windows(
        [identify(number, f"m{number}", f"u{number}", f"e{number}@example.com") for number in (1, 2, 3)],
        [identify(WINDOW + 1, "m4", "u2", "e3@example.com")],
        [identify(2 * WINDOW + 1, "m5", "u1", "e3@example.com")],
    )
    first, second, third = (person_named(f"e{number}@example.com") for number in (1, 2, 3))

    latest = {row[0]: (row[1], row[3]) for row in merged(tell(story, MINUTELY))}

    assert latest == {third: (first, "m5"), second: (first, "m5")}


@remembered
def test_a_refused_link_is_told_and_its_call_counts_for_its_user() -> None:
    rules = IdentityRules(user_ids_per_email=1)
    story = windows(
        [identify(1, "m1", "u1", "inbox@example.com"), identify(2, "m2", "u2", "two@example.com")],
        [identify(WINDOW + 1, "m3", "u2", "inbox@example.com", anonymousId="a2")],
    )

    told = tell(story, replace(MINUTELY, identity_rules=rules))
    (row,) = told.table("identity_merges")

    assert (row["reason"], row["identifier"], row["refused_identifier"], row["message_id"], row["timestamp"]) == (
        "too_many_user_ids",
        "inbox@example.com",
        "u2",
        "m3",
        (WINDOW + 1) * SECOND,
    )
    assert told.persons("identifies")["m3"] == person_named("two@example.com")
    assert told.identities()["anonymous_id", "a2"] == person_named("two@example.com")
    assert told.counts == {("written", ""): 3}


@remembered
def test_an_alias_waits_for_its_user_id() -> None:
    story = windows(
        [identify(1, "m1", "u1", "ann@example.com"), alias(2, "m2", "u1", "old")],
        [identify(WINDOW + 1, "m3", "old", "old@example.com")],
    )

    told = tell(story, MINUTELY)

    assert told.persons("identifies")["m3"] == person_named("ann@example.com")
    assert told.identities()["email", "old@example.com"] == person_named("ann@example.com")


@remembered
def test_a_chain_that_is_longer_than_the_hops_is_one_person() -> None:
    """Twelve aliases, half of them in the wrong order and in another window."""
    aliases = [
        alias(WINDOW * (place % 2) + 3 + place, f"m{place}", f"u{place + 1}", f"u{place}") for place in range(12)
    ]
    users = [identify(1, "first", "u0", "ann@example.com"), identify(WINDOW + 2, "last", "u12", "bob@example.com")]
    story = windows([users[0], *aliases[::2]], [*aliases[-1::-2], users[1]])

    told = tell(story, MINUTELY)

    assert {told.identities()["user_id", f"u{place}"] for place in range(13)} == {person_named("ann@example.com")}
    assert told.persons("identifies")["last"] == person_named("ann@example.com")
    assert merged(told) == []


@remembered
def test_links_that_come_late_merge_too() -> None:
    story = (
        TestStream()
        .add_elements([identify(1_000, "m1", "u1", "ann@example.com", anonymousId="a1")])
        .advance_watermark_to(5_000_000)
        .add_elements([identify(5, "m2", "u2", "old@example.com"), alias(6, "m3", "u1", "u2")])
        .advance_watermark_to_infinity()
    )

    told = tell(story)

    assert set(told.identities().values()) == {person_named("old@example.com")}
    assert merged(told)[-1][:2] == (person_named("ann@example.com"), person_named("old@example.com"))
    assert told.counts == {("written", ""): 3}


BOTH = pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "files"])


def run(is_stream: bool, prior: PriorBlock, *arrivals: TimestampedValue) -> Told:
    if is_stream:
        return tell(windows(arrivals), MINUTELY, prior)
    return read_lines([arrival.value.data for arrival in arrivals], prior=prior)


@BOTH
def test_a_warehouse_names_its_persons(is_stream: bool) -> None:
    prior = PriorBlock([WarehousePerson(WORKSPACE, "ann@example.com", "P1")], [], 7)
    calls = (identify(1, "m1", "u1", "ann@example.com"), identify(2, "m2", "u2", "bob@example.com"))

    told = run(is_stream, prior, *calls)

    assert told.persons("identifies") == {"m1": "P1", "m2": person_named("bob@example.com")}
    assert told.identities()["email", "ann@example.com"] == "P1"


@BOTH
def test_the_persons_of_an_earlier_job_go_on(is_stream: bool) -> None:
    her = person_named("ann@example.com")
    known = [
        KnownIdentity(WORKSPACE, "email", "ann@example.com", her, 0, None, 50),
        KnownIdentity(WORKSPACE, "user_id", "u1", her, 0, None, 50),
        KnownIdentity(WORKSPACE, "anonymous_id", "a1", her, 0, 0, 50),
    ]
    seen = arrive(2, messageId="m2", userId=None, anonymousId="a1", timestamp=stamp(2))

    told = run(is_stream, PriorBlock([], known, 7), identify(1, "m1", "u1", "bob@example.com"), seen)

    assert told.persons() == {"m2": her}
    assert told.persons("identifies") == {"m1": her}
    assert told.identities() == {("email", "bob@example.com"): her}
    assert merged(told) == []


@BOTH
def test_who_was_nobodys_in_an_earlier_job_is_bound_by_a_newer_row(is_stream: bool) -> None:
    rebuilt_at = read_timestamp("2099-01-01T00:00:00Z")  # of a rebuild that was made after these calls arrived
    assert rebuilt_at is not None
    known = [KnownIdentity(WORKSPACE, "user_id", "u1", None, None, None, rebuilt_at)]

    told = run(is_stream, PriorBlock([], known, 7), identify(1, "m1", "u1", "ann@example.com"))

    assert told.identities()["user_id", "u1"] == person_named("ann@example.com")
    assert [row["version"] for row in told.table("identities") if row["identifier"] == "u1"] == [rebuilt_at + 1]


def test_a_stream_tells_that_a_person_of_an_earlier_job_is_an_older_one() -> None:
    her = person_named("ann@example.com")
    since = read_timestamp("1970-01-01T00:00:50Z")
    known = [
        KnownIdentity(WORKSPACE, "email", "ann@example.com", her, since, None, 50),
        KnownIdentity(WORKSPACE, "user_id", "u1", her, since, None, 50),
    ]

    told = tell(windows([identify(1, "m1", "u1", "bob@example.com")]), MINUTELY, PriorBlock([], known, 7))

    assert merged(told) == [(her, person_named("bob@example.com"), "ann@example.com", "m1", SECOND)]
    assert {
        row["version"] > 50 for row in told.table("identities") if row["identifier"] in ("u1", "ann@example.com")
    } == {True}


# Random calls in random windows


def payload_of(one: SegmentCall) -> bytes:
    fields = {"userId": one.user_id, "anonymousId": one.anonymous_id or "visitor", "previousId": one.previous_id}
    body: dict[str, Any] = {"type": one.type, "messageId": one.message_id, "timestamp": stamp(one.timestamp)}
    body |= {name: value for name, value in fields.items() if value is not None}
    if one.email is not None:
        body["context"] = {"traits": {"email": one.email}}
    return json.dumps(body | ({"event": "Seen"} if one.type == "track" else {})).encode()


def as_sent(one: SegmentCall) -> SegmentCall:
    """With addresses that are some, and as an alias only with the userId that it needs."""
    one.user_id, one.email = as_address(one.user_id), as_address(one.email)
    one.previous_id = None if one.user_id is None else as_address(one.previous_id)
    one.type = "track" if one.previous_id is None else "alias"
    one.anonymous_id = one.anonymous_id or "visitor"
    return one


def as_address(value: str | None) -> str | None:
    return None if value is None else value.replace("@x", "@example.com")


@pytest.mark.slow
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(split_histories(), st.integers(0, 2**32), st.sampled_from([IDENTITY_SHARDS, LOCAL_IDENTITY_SHARDS]))
def test_a_stream_in_any_windows_and_files_and_the_contract_agree(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]], seed: int, shards: int
) -> None:
    """Below the limits."""
    history, _ = split
    chance = random.Random(seed)
    calls = [as_sent(one) for one in history]
    payloads = {one.message_id: payload_of(one) for one in calls}
    rules = IdentityRules(emails_per_user_id=99, user_ids_per_email=99)
    chosen = replace(MINUTELY, identity_rules=rules, identity_shards=shards)
    arrived = chance.sample(calls, len(calls))
    cuts = sorted(chance.randrange(len(calls) + 1) for _ in range(3))
    batches = [arrived[start:end] for start, end in pairwise([0, *cuts, len(calls)])]
    story = windows(
        *(
            [TimestampedValue(PubsubMessage(payloads[one.message_id], {}), number * WINDOW + 1) for one in batch]
            for number, batch in enumerate(batches)
            if batch
        )
    )
    expected = resolve(calls, rules).named

    bounded, streamed = read_lines(payloads.values(), chosen), tell(story, chosen)

    assert bounded.identities() == {identifier: person_named(naming[2]) for identifier, naming in expected.items()}
    assert streamed.identities() == bounded.identities()
    assert streamed.counts == bounded.counts
