import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.calls import SegmentCall
from schemas.identities import IdentifierType, Identity, Link
from tests.factories import call, link
from tests.unit.identity_oracle import Identifier, naming_emails
from transforms.logic.identify_callers import find_caller, find_links
from transforms.logic.identity_graph import IdentityGraph, resolve_links
from transforms.logic.read_timestamps import read_timestamp

CASE_STUDY = json.loads((Path(__file__).parents[1] / "golden/segment_profiles_sync_case_study.json").read_text())

USERS = ("u1", "u2", "u3", "x1", "e1@x", "null")
EMAILS = ("e1@x", "e2@x", "e3@x")
ANONYMOUS = ("a1", "a2", "x1", "u3", "[object Object]")


@st.composite
def identity_calls(draw: st.DrawFn) -> SegmentCall:
    """Few identifiers and few moments, so that calls share both."""
    user_id = draw(st.sampled_from((None, *USERS)))
    previous_id = draw(st.sampled_from((None, None, None, "u1", "u2", "x1", "x1", "a1", "e1@x", "null")))
    email = draw(st.sampled_from((None, None, *EMAILS)))
    if user_id is not None and "@" in user_id and email is None:
        email = user_id  # as parse_call reads it
    return call(
        at=draw(st.integers(0, 4)),
        call_type="track" if previous_id is None else "alias",
        user_id=user_id,
        email=email,
        anonymous_id=draw(st.sampled_from((None, None, *ANONYMOUS))),
        previous_id=previous_id,
    )


histories = st.integers(0, 16).flatmap(lambda size: st.lists(identity_calls(), min_size=size, max_size=size))


@st.composite
def split_histories(draw: st.DrawFn) -> tuple[list[SegmentCall], list[list[SegmentCall]]]:
    """A history, and the same calls shuffled, some of them repeated, in windows."""
    history = draw(histories)
    repeats = draw(st.lists(st.sampled_from(history), max_size=4)) if history else []
    arrived = draw(st.permutations([*history, *repeats]))
    cuts = sorted(draw(st.lists(st.integers(0, len(arrived)), min_size=1, max_size=4)))
    return history, [arrived[start:end] for start, end in pairwise([0, *cuts, len(arrived)])]


def links_of(calls: Iterable[SegmentCall]) -> list[Link]:
    return [link for block in find_links(calls).values() for link in block.links]


def person_named(email: str) -> str:
    person_id = resolve_links("w1", [link(email=email)], 0).find("email", email)
    assert person_id is not None
    return person_id


def expected(history: Iterable[SegmentCall]) -> dict[Identifier, str]:
    return {identifier: person_named(email) for identifier, email in naming_emails(history).items()}


def fold(published: Iterable[Identity], into: dict[Identifier, str]) -> None:
    """What a reader of the table knows after these rows."""
    for identifier_type, identifier, person_id in published:
        if person_id is None:
            del into[identifier_type, identifier]  # KeyError: taken back, but never published
        else:
            assert into.get((identifier_type, identifier)) != person_id, "published again without a change"

            into[identifier_type, identifier] = person_id


def everyone(graph: IdentityGraph, history: Iterable[SegmentCall]) -> dict[Identifier, str]:
    """What the graph answers for each identifier there may be."""
    identifiers = [("user_id", value) for value in USERS] + [("email", value) for value in EMAILS]
    identifiers += [("anonymous_id", value) for value in (*USERS, *ANONYMOUS)]
    found = {identifier: graph.find_person(*identifier) for identifier in identifiers}
    return {identifier: person_id for identifier, person_id in found.items() if person_id is not None}


RENAMED = [call(email="e1@x", anonymous_id="a1", at=2), call(email="e2@x", at=1)]

properties = settings(max_examples=250)


@properties
@given(histories)
def test_a_whole_graph_is_what_the_contract_says(history: list[SegmentCall]) -> None:
    persons = resolve_links("w1", links_of(history), 7)

    assert {(kind, value): person_id for kind, value, person_id in persons.identities()} == expected(history)
    assert persons.version == 7


@properties
@given(split_histories())
@example((RENAMED, [RENAMED[:1], RENAMED[1:]]))
def test_no_order_no_repeat_and_no_split_changes_a_person(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]],
) -> None:
    history, windows = split
    graph, known = IdentityGraph("w1"), dict[Identifier, str]()
    for window in windows:
        for one in links_of(window):
            graph.add(one)
        fold(graph.publish(), known)

        assert known == everyone(graph, history)

    assert known == expected(history)


@properties
@given(split_histories())
def test_links_that_taught_nothing_need_not_be_remembered(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]],
) -> None:
    """What the streaming state keeps is enough to build the graph again, at any moment."""
    history, windows = split
    graph, log = IdentityGraph("w1"), list[Link]()
    for window in windows:
        log += [one for one in links_of(window) if graph.add(one)]
        rebuilt = IdentityGraph("w1")
        for one in log:
            rebuilt.add(one)
        published, republished = dict[Identifier, str](), dict[Identifier, str]()
        fold(rebuilt.publish(), published)

        assert published == everyone(graph, history)

        list(graph.publish())
        fold(rebuilt.publish(), republished)

        assert republished == {}


@properties
@given(split_histories())
def test_a_rebuilt_graph_goes_on_as_if_it_had_never_stopped(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]],
) -> None:
    _, windows = split
    graph, log = IdentityGraph("w1"), list[Link]()
    for window in windows:
        rebuilt = IdentityGraph("w1")
        for one in log:
            rebuilt.add(one)
        list(rebuilt.publish())
        links = links_of(window)
        learned = [one for one in links if graph.add(one)]

        assert [one for one in links if rebuilt.add(one)] == learned
        assert set(rebuilt.publish()) == set(graph.publish())

        log += learned


@properties
@given(histories)
def test_a_link_teaches_nothing_twice(history: list[SegmentCall]) -> None:
    graph = IdentityGraph("w1")
    for one in links_of(history):
        graph.add(one)

    assert not any(graph.add(one) for one in links_of(history))


def persons_of(*links: Link) -> dict[Identifier, str]:
    return {
        (kind, value): person_id for kind, value, person_id in resolve_links("w1", links, 0).identities() if person_id
    }


def test_emails_and_user_ids_that_are_linked_are_one_person() -> None:
    persons = persons_of(link("u1", "a@x"), link("u1", "b@x", at=1), link("u2", "b@x", at=2))

    assert persons == dict.fromkeys(
        [("email", "a@x"), ("email", "b@x"), ("user_id", "u1"), ("user_id", "u2")], person_named("a@x")
    )


def test_who_has_no_email_is_no_person() -> None:
    assert persons_of(link("u1", None, "a1"), link("u2", None, None, "u1")) == {}


def test_the_earliest_email_names_the_person() -> None:
    assert persons_of(link("u1", "z@x", at=1), link("u1", "a@x", at=2))["user_id", "u1"] == person_named("z@x")


def test_of_emails_of_one_moment_the_smaller_names_the_person() -> None:
    assert persons_of(link("u1", "z@x", at=1), link("u1", "a@x", at=1))["user_id", "u1"] == person_named("a@x")


def test_an_email_is_as_old_as_its_earliest_call() -> None:
    links = [link("u1", "a@x", at=5), link("u1", "z@x", at=6), link(None, "z@x", at=1)]

    assert persons_of(*links)["user_id", "u1"] == person_named("z@x")


def test_anonymous_ids_never_merge_people() -> None:
    persons = persons_of(link("u1", "a@x", "shared", at=1), link("u2", "b@x", "shared", at=2))

    assert persons["user_id", "u1"] != persons["user_id", "u2"]
    assert persons["anonymous_id", "shared"] == person_named("a@x")


@pytest.mark.parametrize("order", [1, -1])
def test_an_anonymous_id_belongs_to_whom_it_was_first_seen_with_by_event_time(order: int) -> None:
    links = [link("u1", "a@x", "shared", at=2), link("u2", "b@x", "shared", at=1)][::order]

    assert persons_of(*links)["anonymous_id", "shared"] == person_named("b@x")


def test_an_anonymous_id_of_one_moment_goes_to_the_stronger_identifier() -> None:
    links = [link(None, "a@x", "shared"), link("u2", "b@x", "shared")]

    assert persons_of(*links)["anonymous_id", "shared"] == person_named("b@x")


def test_an_anonymous_id_moves_with_the_person_of_its_owner() -> None:
    graph = IdentityGraph("w1")
    graph.add(link("u1", "b@x", "a1", at=2))
    list(graph.publish())
    graph.add(link("u1", "a@x", at=1))

    assert set(graph.publish()) == {
        ("email", "a@x", person_named("a@x")),
        ("email", "b@x", person_named("a@x")),
        ("user_id", "u1", person_named("a@x")),
        ("anonymous_id", "a1", person_named("a@x")),
    }


def test_a_merge_of_two_persons_who_were_published_is_published() -> None:
    graph = IdentityGraph("w1")
    graph.add(link("u1", "a@x", at=1))
    graph.add(link("u2", "b@x", "a2", at=2))
    list(graph.publish())

    assert graph.add(link("u1", "b@x", at=3))
    assert set(graph.publish()) == {
        ("email", "b@x", person_named("a@x")),
        ("user_id", "u2", person_named("a@x")),
        ("anonymous_id", "a2", person_named("a@x")),
    }


def test_an_earlier_sight_of_an_email_teaches_something() -> None:
    graph = IdentityGraph("w1")
    graph.add(link("u1", "a@x", at=5))

    assert graph.add(link("u1", "a@x", at=4))
    assert not graph.add(link("u1", "a@x", at=5))


def test_an_alias_teaches_something_although_its_previous_id_is_somebodys_already() -> None:
    """That id may turn out to be a user_id, and then the alias merges two."""
    graph = IdentityGraph("w1")
    graph.add(link("u1", "a@x", "old", at=0))

    assert graph.add(link("u1", None, None, "old", at=1))
    assert not graph.add(link("u1", None, None, "old", at=1))

    graph.add(link("old", "b@x", at=2))

    assert graph.find_person("user_id", "old") == graph.find_person("user_id", "u1")


def test_an_anonymous_id_that_turns_out_to_be_nobodys_is_taken_back() -> None:
    graph = IdentityGraph("w1")
    graph.add(link("u1", "a@x", "a1", at=2))
    list(graph.publish())
    graph.add(link("u2", None, "a1", at=1))

    assert list(graph.publish()) == [("anonymous_id", "a1", None)]
    assert graph.find_person("anonymous_id", "a1") is None


@pytest.mark.parametrize("order", [1, -1])
def test_an_alias_merges_two_user_ids(order: int) -> None:
    links = [link("u1", "a@x"), link("u2", "b@x", at=1), link("u2", None, None, "u1", at=2)][::order]

    assert persons_of(*links)["user_id", "u2"] == person_named("a@x")


def test_an_alias_of_an_anonymous_id_attaches_it() -> None:
    persons = persons_of(link("u1", "a@x", None, "old"), link("u2", "b@x", None, "old", at=1))

    assert persons["anonymous_id", "old"] == person_named("a@x")
    assert persons["user_id", "u1"] != persons["user_id", "u2"]


def test_an_alias_to_itself_says_nothing() -> None:
    assert ("anonymous_id", "u1") not in persons_of(link("u1", "a@x", None, "u1"))


def test_workspaces_share_nobody() -> None:
    one = resolve_links("w1", [link("u1", "a@x")], 0).find("user_id", "u1")

    assert one != resolve_links("w2", [link("u1", "a@x")], 0).find("user_id", "u1")


def test_a_person_id_never_changes() -> None:
    """Every table and every customer's system holds them."""
    assert person_named("ann@example.com") == "b31aaa19-2d13-5c9e-bdc3-e3d95816ccef"


def test_nobody_is_found_for_what_was_never_seen() -> None:
    graph = IdentityGraph("w1")

    assert graph.find_person(None, None) is None
    assert [graph.find_person(kind, "x") for kind in IdentifierType] == [None] * 3


def test_segments_own_case_study_comes_out_as_segment_says() -> None:
    """One profile, named by what came first; the second device's page view before the identify is the person's too."""
    calls = [case_call(event) for event in CASE_STUDY["events"]]
    persons = resolve_links("w1", links_of(calls), 0)

    assert {("profile_1", kind, value) for kind, value, person_id in persons.identities() if person_id is not None} == {
        tuple(mapping) for mapping in CASE_STUDY["expected"]["external_id_mapping"]
    }
    assert len({persons.find(*find_caller(one)) for one in calls}) == 1


def case_call(event: dict[str, Any]) -> SegmentCall:
    at = read_timestamp(event["timestamp"])
    assert at is not None
    return call(at=at, user_id=None, anonymous_id=event["anonymous_id"], email=event.get("email"))


BLOCKED_IN_ALL_SPELLINGS: Sequence[str] = (
    *("", "0", "000", "-", "00000000-0000-0000-0000-000000000000", "-1", "null", "NULL", "None", "undefined"),
    *("anonymous", "Anonymous", "unknown", "[object Object]", "[OBJECT object]", "NaN", "nan"),
)


@pytest.mark.parametrize("blocked", BLOCKED_IN_ALL_SPELLINGS)
def test_a_blocked_value_links_nobody(blocked: str) -> None:
    calls = [
        call(user_id=blocked, email="a@x", anonymous_id="a1"),
        call(user_id=blocked, email="b@x", anonymous_id=blocked),
        call(call_type="alias", user_id="u3", email="c@x", previous_id=blocked, anonymous_id=blocked),
    ]

    persons = resolve_links("w1", links_of(calls), 0)

    assert persons.find("email", "a@x") != persons.find("email", "b@x")
    assert {value for _, value, _ in persons.identities()} == {"a@x", "b@x", "c@x", "a1", "u3"}


@pytest.mark.parametrize("value", ["0a", "1", "-2", "10", "nullable", "unknown@x", "00-1", "none.", " ", "null\n"])
def test_a_value_that_only_looks_blocked_is_not(value: str) -> None:
    assert resolve_links("w1", links_of([call(user_id=value, email="a@x")]), 0).find("user_id", value) is not None


@pytest.mark.parametrize(
    ("fields", "caller"),
    [
        ({"user_id": "u1", "email": "a@x", "anonymous_id": "a1"}, ("user_id", "u1")),
        ({"user_id": "null", "email": "a@x", "anonymous_id": "a1"}, ("email", "a@x")),
        ({"user_id": "null", "email": None, "anonymous_id": "a1"}, ("anonymous_id", "a1")),
        ({"user_id": None, "email": None, "anonymous_id": "a1"}, ("anonymous_id", "a1")),
        ({"user_id": "null", "email": None, "anonymous_id": "0"}, (None, None)),
    ],
)
def test_a_call_counts_for_its_strongest_identifier(
    fields: dict[str, Any], caller: tuple[str | None, str | None]
) -> None:
    assert find_caller(call(**fields)) == caller


def test_a_visitor_who_never_says_who_they_are_costs_no_link() -> None:
    assert find_links([call(user_id=None, anonymous_id="a1"), call(user_id="0", anonymous_id="a2")]) == {}


def test_links_are_distinct_and_as_old_as_their_earliest_call() -> None:
    blocks = find_links([call("m1", at=5), call("m2", at=3), call("m3", at=4), call("m4", workspace_id="w2", at=9)])

    assert blocks["w1"].links == [link("u1", at=3)]
    assert (blocks["w1"].newest, blocks["w2"].newest) == (5, 9)


def test_links_are_as_new_as_the_newest_receipt() -> None:
    (block,) = find_links([call(at=1, received_at=9), call(at=2, received_at=3)]).values()

    assert block.newest == 9
