"""Segment's own published cases of identity resolution, from payloads to persons, in both modes.

Where our rules differ on purpose, the test says how and why.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.calls import SegmentCall
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.rows import row_values
from tests.factories import parse
from tests.unit.graph_stream import GraphStream
from tests.unit.identity_histories import links_of, persons_of, resolve_bounded, without_workspace
from tests.unit.identity_oracle import Identifier
from transforms.logic.identify_callers import find_caller

GOLDEN = Path(__file__).parents[1] / "golden"
STUDY = json.loads((GOLDEN / "segment_profiles_sync_case_study.json").read_text())
SEGMENT = json.loads((GOLDEN / "segment_identity_rules.json").read_text())
CASES = {case["name"]: case for case in SEGMENT["cases"]}
JANE = CASES["anonymous to known to 2nd device to 2nd app (Jane Doe)"]
DEMOTION = CASES["priority demotion"]


def parse_all(*payloads: dict[str, Any]) -> list[SegmentCall]:
    """Calls of one workspace, a minute apart unless they say when they were."""
    calls = []
    for number, payload in enumerate(payloads):
        stated = {"messageId": f"m{number + 1}", "timestamp": f"2026-01-01T00:{number:02}:00Z"} | payload
        one = parse(stated)
        one.workspace_id = "w1"
        calls.append(one)
    return calls


class Streamed:
    """What a stream says after one window a call."""

    def __init__(self, calls: Sequence[SegmentCall], rules: IdentityRules = DEFAULT_RULES) -> None:
        self.graph = GraphStream(rules)
        self.callers: dict[str, str | None] = {}
        """message_id -> the caller's person by the end of the window."""
        for one in calls:
            self.graph.learn("w1", links_of([one], rules))
            identifier_type, identifier = find_caller(one, rules)
            self.callers[one.message_id] = self.graph.published.find_person(
                ("w1", identifier_type or "", identifier or "")
            )

    def persons(self) -> dict[Identifier, str]:
        return without_workspace(self.graph.persons())


def both_modes(calls: Sequence[SegmentCall], rules: IdentityRules = DEFAULT_RULES) -> dict[Identifier, str]:
    bounded = persons_of(resolve_bounded(calls, rules))

    assert Streamed(calls, rules).persons() == bounded

    return bounded


def study_payload(event: dict[str, Any]) -> dict[str, Any]:
    context: dict[str, Any] = {"page": {"url": f"https://{event['context_url']}"}}
    payload = {"type": event["type"], "messageId": event["id"], "anonymousId": event["anonymous_id"]}
    if "email" in event:
        payload["traits"] = {"email": event["email"]}
    else:
        payload["name"] = "Page"
    return payload | {"context": context, "timestamp": event["timestamp"]}


STUDY_CALLS = parse_all(*map(study_payload, STUDY["events"]))


def test_the_case_study_ends_with_the_mapping_that_segment_publishes() -> None:
    """One person; both devices are hers, with what was done on them before she said who she is."""
    persons = both_modes(STUDY_CALLS)

    assert {("profile_1", *identifier) for identifier in persons} == set(
        map(tuple, STUDY["expected"]["external_id_mapping"])
    )
    assert len(set(persons.values())) == len({row["canonical_segment_id"] for row in STUDY["expected"]["id_graph"]})


def test_the_events_of_the_case_study_all_count_for_her_in_the_end() -> None:
    persons = both_modes(STUDY_CALLS)

    assert len({persons[find_caller(one, DEFAULT_RULES)] for one in STUDY_CALLS}) == 1  # type: ignore[index]


def test_the_visitors_of_the_case_study_are_persons_for_segment_and_not_for_us() -> None:
    """Segment gives each new anonymous_id a profile of its own: profile_2 for event_3, merged by event_4.

    Ours is nobody until it is linked: event_3 has no person_id when it is written, and there is nothing to merge. Its
    person comes with event_4, by `identities`. So no profiles of people who never say who they are, no merges of them,
    and event_4 counts for profile_1 at once where Segment's row keeps profile_2.
    """
    streamed = Streamed(STUDY_CALLS)
    her = streamed.callers["event_2"]

    assert her is not None
    assert streamed.callers == {"event_1": None, "event_2": her, "event_3": None, "event_4": her}
    assert set(streamed.persons().values()) == {her}
    assert streamed.graph.merges == []
    assert resolve_bounded(STUDY_CALLS).merges == []

    merged = [update for update in STUDY["expected"]["id_graph_updates"] if update[0] != update[1]]

    assert [update[0] for update in merged] == ["profile_2"]


def test_the_oldest_profile_survives() -> None:
    """The case study as it is if both devices had said who they are: then there is a merge, and it is Segment's."""
    two = parse_all(
        {"type": "identify", "userId": "u1", "traits": {"email": "jane.kim@segment.com"}},
        {"type": "identify", "userId": "u2", "traits": {"email": "jane@example.com"}},
        {"type": "identify", "userId": "u2", "traits": {"email": "jane.kim@segment.com"}},
    )
    streamed = Streamed(two)
    (merge,) = streamed.graph.merges
    (row,) = resolve_bounded(two).merges

    assert STUDY["expected"]["oldest_profile_survives"]
    assert (merge.into_person_id, merge.from_person_id) == (streamed.callers["m1"], streamed.callers["m2"])
    assert merge.cause == ("m3", two[2].timestamp)

    bounded = row_values("identity_merges", row)

    assert (bounded["from_person_id"], bounded["into_person_id"]) == (merge.from_person_id, merge.into_person_id)
    assert (bounded["message_id"], bounded["timestamp"]) == merge.cause


def demotion_calls() -> list[SegmentCall]:
    (user_id,), (email,) = DEMOTION["profile"]["user_id"], DEMOTION["profile"]["email"]
    first = {"type": "identify", "userId": user_id, "traits": {"email": email}}
    event = {"type": "identify", "anonymousId": "anon", **DEMOTION["event"]}
    return parse_all(first, event)


def test_a_second_user_of_an_email_is_the_same_person_with_our_limits() -> None:
    """Segment's default lets a profile have one user_id, so the second user gets a new one.

    Ours lets an email have five: people have accounts in several of a customer's apps, and a limit of one would part
    them. For Segment's outcome set user_ids_per_email to 1.
    """
    persons = both_modes(demotion_calls())

    assert SEGMENT["default_limits"]["user_id"] == 1
    assert persons["user_id", "abc456"] == persons["user_id", "abc123"]


def test_with_segments_limit_the_email_is_demoted_as_segment_says() -> None:
    """The old profile is unchanged and the event is the new user's.

    Segment makes a profile of the user_id alone; ours has a person_id when the user is seen with an email of their own.
    """
    calls = demotion_calls()
    rules = IdentityRules(user_ids_per_email=DEMOTION["config"]["user_id"]["limit"])
    before, after = both_modes(calls[:1], rules), both_modes(calls, rules)

    assert after == before
    assert find_caller(calls[1], rules) == ("user_id", "abc456")

    own = parse_all({"type": "identify", "userId": "abc456", "traits": {"email": "new@example.com"}, "messageId": "m9"})
    named = both_modes([*calls, *own], rules)

    assert named["user_id", "abc456"] == named["anonymous_id", "anon"] == named["email", "new@example.com"]
    assert named["user_id", "abc123"] == named["email", "jane@example1.com"] == before["user_id", "abc123"]
    assert named["user_id", "abc456"] != named["user_id", "abc123"]


def test_the_demoted_email_is_told() -> None:
    rules = IdentityRules(user_ids_per_email=DEMOTION["config"]["user_id"]["limit"])
    (row,) = (row_values("identity_merges", row) for row in resolve_bounded(demotion_calls(), rules).merges)
    (refusal,) = Streamed(demotion_calls(), rules).graph.refusals

    assert (row["reason"], row["identifier"], row["refused_identifier"], row["message_id"]) == (
        "too_many_user_ids",
        "jane@example1.com",
        "abc456",
        "m2",
    )
    assert (refusal.node[2], refusal.partner[2], refusal.cause[0]) == ("jane@example1.com", "abc456", "m2")


@pytest.mark.parametrize("name", ["priority order", "priority reshuffle"])
def test_our_identifiers_are_in_segments_order(name: str) -> None:
    """Of Segment's eleven identifiers we read the three that every call may carry.

    A device's or an advertising id is the device's, not a person's; the anonymous_id of the same call stands for it.
    """
    ours = [identifier for identifier in CASES[name]["expected_rank"] if identifier in DEFAULT_RULES.priority]

    assert list(DEFAULT_RULES.priority) == ours
    assert SEGMENT["default_priority"][:2] == list(DEFAULT_RULES.priority)[:2]


def jane_calls() -> list[SegmentCall]:
    return parse_all(*({"event": "Seen", **event} for event in JANE["events"]))


def expected_of_jane() -> set[Identifier]:
    return {
        (identifier_type, value)
        for identifier_type, values in JANE["expected_ids"].items()
        for value in values
        if identifier_type in DEFAULT_RULES.priority
    }


def test_jane_doe_is_nobody_as_long_as_no_call_has_her_email() -> None:
    """Segment has a profile of her from the first call on.

    Our persons hold an email: without one there is nobody to mail. Her calls count for her user_id, one and the same.
    """
    calls = jane_calls()

    assert both_modes(calls) == {}
    assert {find_caller(one, DEFAULT_RULES) for one in calls[1:]} == {("user_id", "abc123def")}


def test_jane_doe_is_one_person_on_all_devices_and_in_all_apps() -> None:
    """Once an email is known, everything before it is hers too."""
    email = parse_all(
        {"type": "identify", "userId": "abc123def", "traits": {"email": "jane@example.com"}, "messageId": "m9"}
    )
    persons = both_modes([*jane_calls(), *email])

    assert set(persons) == {*expected_of_jane(), ("email", "jane@example.com")}
    assert len(set(persons.values())) == JANE["expected_profiles"]


@pytest.mark.parametrize("suggested", ["", "0", "000000", "-", "00000000-0000-0000-0000-000000000000", "-1", "null"])
def test_what_segment_suggests_to_block_is_blocked(suggested: str) -> None:
    assert DEFAULT_RULES.is_blocked(suggested)


def test_each_exact_value_that_segment_suggests_is_blocked() -> None:
    exact = [rule["exact"] for rule in SEGMENT["suggested_blocked_values"] if "exact" in rule]

    assert exact
    assert all(map(DEFAULT_RULES.is_blocked, exact))
    assert all(DEFAULT_RULES.is_blocked(value.upper()) for value in exact)
