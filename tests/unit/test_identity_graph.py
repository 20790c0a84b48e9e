"""Contract section 4 fact by fact, each in bounded input and in a stream of one window a call."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from schemas.calls import SegmentCall
from schemas.identities import KnownIdentity, Link, LinkBlock, PriorBlock, WarehousePerson
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.rows import row_values
from tests.factories import call, link
from tests.unit.graph_stream import GraphStream
from tests.unit.identity_histories import NO_LIMITS, links_of, persons_of, refusals_of, resolve_bounded
from tests.unit.identity_oracle import Identifier, Refusal, person_id_of
from transforms.logic.identify_callers import find_caller, find_links, set_callers, split_prior
from transforms.logic.resolve_links import ResolvedLinks, resolve_links

USER_1, USER_2, EMAIL_A, EMAIL_B = ("user_id", "u1"), ("user_id", "u2"), ("email", "a@x"), ("email", "b@x")


def resolve_all(
    links: Sequence[Link], rules: IdentityRules = DEFAULT_RULES, prior: PriorBlock | None = None
) -> ResolvedLinks:
    return resolve_links("w1", [LinkBlock(list(links), 7), LinkBlock([], 0, [], prior)], rules)


def persons(
    *links: Link, rules: IdentityRules = DEFAULT_RULES, prior: PriorBlock | None = None
) -> dict[Identifier, str]:
    """Who is who in the end, however the links come."""
    bounded = persons_of(resolve_all(links, rules, prior))
    for order in (links, links[::-1]):
        stream = GraphStream(rules)
        stream.learn("w1", [], prior)
        for one in order:
            stream.learn("w1", [one])
        known = [] if prior is None else prior.known
        before = {(each.identifier_type, each.identifier): each.person_id for each in known}
        today = before | {node[1:]: person_id for node, person_id in stream.persons().items()}

        assert today == bounded

    return bounded


def test_emails_and_user_ids_that_are_linked_are_one_person() -> None:
    linked = persons(link("u1", "a@x"), link("u1", "b@x", at=1), link("u2", "b@x", at=2))

    assert linked == dict.fromkeys([EMAIL_A, EMAIL_B, USER_1, USER_2], person_id_of("a@x"))


def test_who_has_no_email_is_no_person() -> None:
    assert persons(link("u1", None, "a1"), link("u2", None, None, "u1")) == {}


def test_the_earliest_email_names_the_person() -> None:
    assert persons(link("u1", "z@x", at=1), link("u1", "a@x", at=2))[USER_1] == person_id_of("z@x")


def test_of_emails_of_one_moment_the_smaller_names_the_person() -> None:
    assert persons(link("u1", "z@x", at=1), link("u1", "a@x", at=1))[USER_1] == person_id_of("a@x")


def test_an_email_is_as_old_as_its_earliest_call() -> None:
    links = [link("u1", "a@x", at=5), link("u1", "z@x", at=6), link(None, "z@x", at=1)]

    assert persons(*links)[USER_1] == person_id_of("z@x")


def test_anonymous_ids_never_merge_people() -> None:
    both = persons(link("u1", "a@x", "shared", at=1), link("u2", "b@x", "shared", at=2))

    assert both[USER_1] != both[USER_2]
    assert both["anonymous_id", "shared"] == person_id_of("a@x")


def test_an_anonymous_id_belongs_to_whom_it_was_first_seen_with_by_event_time() -> None:
    links = [link("u1", "a@x", "shared", at=2), link("u2", "b@x", "shared", at=1)]

    assert persons(*links)["anonymous_id", "shared"] == person_id_of("b@x")


def test_an_anonymous_id_of_one_moment_goes_to_the_stronger_identifier() -> None:
    links = [link(None, "a@x", "shared"), link("u2", "b@x", "shared")]

    assert persons(*links)["anonymous_id", "shared"] == person_id_of("b@x")


def test_which_identifier_is_stronger_is_a_rule() -> None:
    rules = IdentityRules(priority=("email", "user_id", "anonymous_id"))
    links = [link(None, "a@x", "shared"), link("u2", None, "shared"), link("u2", "b@x")]

    assert persons(*links)["anonymous_id", "shared"] == person_id_of("b@x")
    assert persons(*links, rules=rules)["anonymous_id", "shared"] == person_id_of("a@x")


def test_an_alias_merges_two_user_ids() -> None:
    links = [link("u1", "a@x"), link("u2", "b@x", at=1), link("u2", None, None, "u1", at=2)]

    assert persons(*links)[USER_2] == person_id_of("a@x")


def test_an_alias_merges_a_user_id_that_is_seen_later() -> None:
    links = [link("u1", "a@x", at=0), link("u1", None, None, "old", at=1), link("old", "b@x", at=2)]

    assert persons(*links)["user_id", "old"] == person_id_of("a@x")
    assert persons(*links)["anonymous_id", "old"] == person_id_of("a@x")


def test_an_alias_of_an_anonymous_id_attaches_it() -> None:
    attached = persons(link("u1", "a@x", None, "old"), link("u2", "b@x", None, "old", at=1))

    assert attached["anonymous_id", "old"] == person_id_of("a@x")
    assert attached[USER_1] != attached[USER_2]


def test_an_alias_to_itself_says_nothing() -> None:
    assert ("anonymous_id", "u1") not in persons(link("u1", "a@x", None, "u1"))


def test_workspaces_share_nobody() -> None:
    one = resolve_links("w1", [LinkBlock([link("u1", "a@x")], 0)], DEFAULT_RULES).persons.find("user_id", "u1")
    stream = GraphStream()
    stream.learn("w1", [link("u1", "a@x")])
    stream.learn("w2", [link("u1", "a@x")])

    assert one != resolve_links("w2", [LinkBlock([link("u1", "a@x")], 0)], DEFAULT_RULES).persons.find("user_id", "u1")
    assert len(set(stream.persons().values())) == 2


def test_a_person_id_never_changes() -> None:
    """Every table and every customer's system holds them."""
    assert persons(link("u1", "ann@example.com")) == {
        USER_1: "b31aaa19-2d13-5c9e-bdc3-e3d95816ccef",
        ("email", "ann@example.com"): "b31aaa19-2d13-5c9e-bdc3-e3d95816ccef",
    }


def test_nobody_is_found_for_what_was_never_seen() -> None:
    found = resolve_all([link("u1", "a@x")]).persons

    assert found.find(None, None) is None
    assert found.find("user_id", None) is None
    assert [found.find(kind, "x") for kind in ("user_id", "email", "anonymous_id", "phone")] == [None] * 4


# What a stream writes on the way


def told(*windows: Iterable[Link], rules: IdentityRules = DEFAULT_RULES) -> list[tuple[Identifier, str | None]]:
    """The rows of the last window."""
    stream = GraphStream(rules)
    for window in windows[:-1]:
        stream.learn("w1", window)
    before = len(stream.rows)
    stream.learn("w1", windows[-1])
    return sorted(((row.node[1], row.node[2]), row.person_id) for row in stream.rows[before:])


def test_an_anonymous_id_moves_with_the_person_of_its_owner() -> None:
    everything = [EMAIL_A, EMAIL_B, USER_1, ("anonymous_id", "a1")]

    assert told([link("u1", "b@x", "a1", at=2)], [link("u1", "a@x", at=1)]) == sorted(
        (identifier, person_id_of("a@x")) for identifier in everything
    )


def test_a_merge_of_two_persons_who_were_published_is_published() -> None:
    windows = [[link("u1", "a@x", at=1)], [link("u2", "b@x", "a2", at=2)], [link("u1", "b@x", at=3)]]

    assert told(*windows) == sorted(
        (identifier, person_id_of("a@x")) for identifier in (EMAIL_B, USER_2, ("anonymous_id", "a2"))
    )


def test_an_anonymous_id_that_turns_out_to_be_nobodys_is_taken_back() -> None:
    assert told([link("u1", "a@x", "a1", at=2)], [link("u2", None, "a1", at=1)]) == [(("anonymous_id", "a1"), None)]


def test_an_earlier_sight_of_an_email_that_changes_nobody_is_no_row() -> None:
    assert told([link("u1", "a@x", at=5)], [link("u1", "a@x", at=4)]) == []


def test_and_yet_it_is_remembered() -> None:
    stream = GraphStream()
    for one in (link("u1", "a@x", at=5), link("u1", "a@x", at=2), link("u1", "b@x", at=3)):
        stream.learn("w1", [one])

    assert stream.persons()["w1", "user_id", "u1"] == person_id_of("a@x")


def test_a_person_that_is_longer_than_the_hops_reach_is_settled() -> None:
    path = [link(f"u{place}", f"e{place + step}@x", at=place) for place in range(12) for step in (0, 1)]
    stream = GraphStream()
    stream.learn("w1", path)

    assert stream.settled
    assert set(stream.persons().values()) == {person_id_of("e0@x")}
    assert stream.merges == []


def test_a_person_within_the_reach_of_the_hops_needs_no_settling() -> None:
    stream = GraphStream()
    stream.learn("w1", [link("u0", "e0@x", at=0), link("u0", "e1@x", at=1), link("u1", "e1@x", at=2)])

    assert stream.settled == 0
    assert set(stream.persons().values()) == {person_id_of("e0@x")}


# Limits


SHARED = [link(f"u{number}", "inbox@x", f"a{number}", at=number, message_id=f"m{number}") for number in range(7)]
LOGIN = [link("shop", f"e{number}@x", at=number, message_id=f"m{number}") for number in range(7)]


def test_an_email_links_to_its_first_five_user_ids() -> None:
    resolved = resolve_all(SHARED[::-1])

    assert {value for kind, value in persons_of(resolved) if kind == "user_id"} == {f"u{number}" for number in range(5)}
    assert refusals_of(resolved) == [
        Refusal(("email", "inbox@x"), ("user_id", f"u{number}"), f"m{number}", number) for number in (5, 6)
    ]


def test_a_user_id_links_to_its_first_five_emails() -> None:
    resolved = resolve_all(LOGIN[::-1])

    assert [persons_of(resolved)["email", f"e{number}@x"] for number in range(7)] == [
        person_id_of(f"e{number}@x") for number in (0, 0, 0, 0, 0, 5, 6)
    ]
    assert [row_values("identity_merges", row)["reason"] for row in resolved.merges] == ["too_many_emails"] * 2


def test_in_a_stream_who_comes_first_is_linked() -> None:
    stream = GraphStream()
    stream.learn("w1", SHARED[2:])
    stream.learn("w1", SHARED[:2])

    assert {node[2] for node in stream.persons() if node[1] == "user_id"} == {f"u{number}" for number in range(2, 7)}
    assert [(refusal.partner[2], refusal.cause) for refusal in stream.refusals] == [
        ("u0", ("m0", 0)),
        ("u1", ("m1", 1)),
    ]


def test_in_one_window_of_a_stream_who_was_first_is_linked() -> None:
    stream = GraphStream()
    stream.learn("w1", SHARED[::-1])

    assert {node[2] for node in stream.persons() if node[1] == "user_id"} == {f"u{number}" for number in range(5)}


def test_of_links_of_one_moment_the_smaller_partners_are_admitted() -> None:
    links = [link(f"u{number}", "inbox@x") for number in range(7)][::-1]
    stream = GraphStream()
    stream.learn("w1", links)

    assert {refusal.refused[1] for refusal in refusals_of(resolve_all(links))} == {"u5", "u6"}
    assert {refusal.partner[2] for refusal in stream.refusals} == {"u5", "u6"}


@pytest.mark.parametrize("order", [1, -1])
def test_of_calls_of_one_moment_the_smaller_message_id_brought_the_refused_link(order: int) -> None:
    rules = IdentityRules(user_ids_per_email=1)
    repeated = [link("u2", "a@x", "v1", at=1, message_id="m9"), link("u2", "a@x", at=1, message_id="m5")][::order]
    stream = GraphStream(rules)
    stream.learn("w1", [link("u1", "a@x"), *repeated])

    assert [refusal.message_id for refusal in refusals_of(resolve_all([link("u1", "a@x"), *repeated], rules))] == ["m5"]
    assert [refusal.cause[0] for refusal in stream.refusals] == ["m5"]


def test_a_refused_call_counts_for_its_user_and_its_visitor_is_the_users() -> None:
    links = [*SHARED, link("u6", "six@x", at=9)]
    found = persons(*links, rules=IdentityRules(user_ids_per_email=10))
    refused = persons_of(resolve_all(links))

    assert found["anonymous_id", "a6"] == person_id_of("inbox@x")
    assert refused["anonymous_id", "a6"] == refused["user_id", "u6"] == person_id_of("six@x")
    assert find_caller(call(user_id="u6", email="inbox@x"), DEFAULT_RULES) == ("user_id", "u6")


def test_aliases_count_for_no_limit() -> None:
    links = [link("u", "a@x")] + [link("u", None, None, f"old{number}") for number in range(9)]
    links += [link(f"old{number}") for number in range(9)]

    assert len(persons(*links)) == 2 + 2 * 9


# What is known beforehand


def test_a_warehouse_names_its_persons_and_the_smaller_of_two() -> None:
    prior = PriorBlock([WarehousePerson("w1", "a@x", "P2"), WarehousePerson("w1", "b@x", "P1")])

    assert persons(link("u1", "a@x"), prior=prior) == {USER_1: "P2", EMAIL_A: "P2", EMAIL_B: "P1"}
    assert set(persons(link("u1", "a@x"), link("u1", "b@x"), prior=prior).values()) == {"P1"}


def test_emails_of_one_warehouse_person_are_one_person() -> None:
    prior = PriorBlock([WarehousePerson("w1", "a@x", "P1"), WarehousePerson("w1", "b@x", "P1")])

    assert set(persons(link("u1", "a@x"), link("u2", "b@x"), prior=prior).values()) == {"P1"}


def test_a_warehouse_counts_for_no_limit() -> None:
    prior = PriorBlock([WarehousePerson("w1", f"e{number}@x", "P1") for number in range(9)])

    found = persons(*(link(f"u{number}", f"e{number}@x") for number in range(9)), prior=prior)

    assert (len(found), set(found.values())) == (18, {"P1"})


def test_what_an_earlier_job_published_is_known_with_its_age() -> None:
    known = [
        KnownIdentity("w1", "email", "b@x", person_id_of("b@x"), 5, None, 7),
        KnownIdentity("w1", "user_id", "u1", person_id_of("b@x"), 5, None, 7),
        KnownIdentity("w1", "anonymous_id", "a1", person_id_of("b@x"), 5, 6, 7),
    ]
    prior = PriorBlock([], known)

    assert set(persons(link("u1", "a@x", "a1", at=8), prior=prior).values()) == {person_id_of("b@x")}
    assert set(persons(link("u1", "a@x", at=4), prior=prior).values()) == {person_id_of("a@x")}
    assert persons(link("u2", "c@x", "a1", at=7), prior=prior)["anonymous_id", "a1"] == person_id_of("b@x")
    assert persons(link("u2", "c@x", "a1", at=5), prior=prior)["anonymous_id", "a1"] == person_id_of("c@x")


def test_bounded_input_writes_what_an_earlier_job_has_not_written() -> None:
    known = [
        KnownIdentity("w1", "email", "b@x", person_id_of("b@x"), 5, None, 9),
        KnownIdentity("w1", "user_id", "u1", person_id_of("b@x"), 5, None, 3),
    ]
    same = resolve_all([link("u1", "b@x", at=8)], prior=PriorBlock([], known))
    older = resolve_all([link("u1", "a@x", at=1)], prior=PriorBlock([], known))
    versions = {
        row["identifier"]: row["version"] for row in (row_values("identities", row) for row in older.identities)
    }

    assert same.identities == []
    assert versions == {"a@x": 7, "b@x": 10, "u1": 7}


def test_who_is_nobodys_by_an_earlier_job_is_bound_by_a_newer_row_than_that() -> None:
    known = [KnownIdentity("w1", "user_id", "u1", None, None, None, 9)]
    resolved = resolve_all([link("u1", "b@x")], prior=PriorBlock([], known))
    rows = [row_values("identities", row) for row in resolved.identities]

    assert {row["identifier"]: row["version"] for row in rows} == {"b@x": 7, "u1": 10}
    assert resolved.merges == []


def test_without_calls_what_is_known_is_as_new_as_its_reading() -> None:
    prior = PriorBlock([WarehousePerson("w1", "a@x", "P1")], [], 5)

    resolved = resolve_links("w1", [LinkBlock([], 0, [], prior)], DEFAULT_RULES)

    assert resolved.persons.version == 5
    assert [row_values("identities", row)["version"] for row in resolved.identities] == [5]


def test_of_many_blocks_the_newest_is_the_version() -> None:
    prior = PriorBlock([WarehousePerson("w1", "a@x", "P1")], [], 9)
    blocks = [LinkBlock([], 0, [], prior), LinkBlock([link("u1", "a@x")], 3), LinkBlock([link("u2")], 5)]

    assert resolve_links("w1", blocks, DEFAULT_RULES).persons.version == 5


def test_what_is_known_is_told_to_each_workspace() -> None:
    one, other = WarehousePerson("w1", "a@x", "P1"), WarehousePerson("w2", "a@x", "P1")
    known = KnownIdentity("w2", "user_id", "u1", "P1", None, None, 7)

    assert split_prior(PriorBlock([one, other], [known], 5)) == {
        "w1": PriorBlock([one], [], 5),
        "w2": PriorBlock([other], [known], 5),
    }


# The history of merges in bounded input


def merges(*links: Link, prior: PriorBlock | None = None) -> list[tuple[Any, ...]]:
    rows = [row_values("identity_merges", row) for row in resolve_all(links, NO_LIMITS, prior).merges]
    columns = (
        "from_person_id",
        "into_person_id",
        "identifier_type",
        "identifier",
        "message_id",
        "timestamp",
        "recorded_at",
    )
    return [tuple(row.get(column) for column in columns) for row in rows]


def test_a_person_id_that_calls_had_given_is_told_to_be_lost() -> None:
    links = [link("u1", "a@x", at=1), link("u2", "b@x", at=2), link("u1", "b@x", at=3, message_id="m3")]

    assert merges(*links) == [(person_id_of("b@x"), person_id_of("a@x"), "email", "b@x", "m3", 3, 7)]


def test_an_email_that_never_named_anybody_is_no_merge() -> None:
    assert merges(link("u1", "a@x", at=1), link("u1", "b@x", at=2)) == []


def test_a_person_id_that_was_lost_twice_leads_to_todays() -> None:
    links = [link(f"u{number}", f"e{number}@x", at=number) for number in range(3)]
    links += [link("u1", "e2@x", at=4, message_id="m4"), link("u0", "e2@x", at=5, message_id="m5")]

    assert [merge[:2] + merge[4:5] for merge in merges(*links)] == [
        (person_id_of("e2@x"), person_id_of("e0@x"), "m4"),
        (person_id_of("e1@x"), person_id_of("e0@x"), "m5"),
    ]


@pytest.mark.parametrize("at", [-5, 0, 5])
def test_a_warehouses_person_was_one_before_every_call(at: int) -> None:
    """Also before those of 1970."""
    prior = PriorBlock([WarehousePerson("w1", "a@x", "P1"), WarehousePerson("w1", "b@x", "P2")])

    assert merges(link("u1", "a@x", at=at), link("u1", "b@x", at=at), prior=prior) == [
        ("P2", "P1", "person_id", "P2", "m1", at, 7)
    ]


# Erasures


def test_of_who_asks_to_be_forgotten_nothing_is_written() -> None:
    calls = [
        call("m1", user_id="u1", email="a@x", anonymous_id="a1", at=1),
        call("m2", user_id="u2", email="b@x", at=2),
        call("m3", "delete", user_id="u1", at=3),
    ]

    resolved = resolve_bounded(calls)

    assert persons_of(resolved) == {USER_2: person_id_of("b@x"), EMAIL_B: person_id_of("b@x")}
    assert resolved.persons.erased == [("anonymous_id", "a1"), EMAIL_A, USER_1]
    assert len(resolved.identities) == 2


def test_who_is_nobody_can_be_forgotten_too() -> None:
    resolved = resolve_bounded([call("m1", "delete", user_id="u1"), call("m2", user_id="u2", email="b@x")])

    assert resolved.persons.erased == [USER_1]
    assert len(resolved.identities) == 2


def test_no_merge_and_no_refusal_of_who_is_forgotten_is_told() -> None:
    warehouse = [WarehousePerson("w1", "a@x", "P1"), WarehousePerson("w1", "b@x", "P2")]
    links = [link("u1", "a@x", at=1), link("u1", "b@x", at=2), link("u1", "c@x", at=3)]
    block = LinkBlock([*links, link("u3", "c@x", at=0)], 7, [EMAIL_B], PriorBlock(warehouse))

    assert resolve_links("w1", [block], IdentityRules(emails_per_user_id=2)).merges == []


# Links and callers


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

    found = persons(*links_of(calls))

    assert found[EMAIL_A] != found[EMAIL_B]
    assert {value for _, value in found} == {"a@x", "b@x", "c@x", "a1", "u3"}


@pytest.mark.parametrize("value", ["0a", "1", "-2", "10", "nullable", "unknown@x", "00-1", "none.", " ", "null\n"])
def test_a_value_that_only_looks_blocked_is_not(value: str) -> None:
    assert ("user_id", value) in persons(*links_of([call(user_id=value, email="a@x")]))


def test_what_is_blocked_is_a_rule() -> None:
    rules = IdentityRules(blocked_values=("Test@X",), blocked_patterns=(r"qa-\d+",))
    calls = [call(user_id="null", email="a@x"), call(user_id="u1", email="test@x"), call(user_id="QA-7", email="b@x")]

    assert persons(*links_of(calls, rules)) == {
        ("user_id", "null"): person_id_of("a@x"),
        EMAIL_A: person_id_of("a@x"),
        EMAIL_B: person_id_of("b@x"),
    }


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
    one = call(**fields)
    set_callers([one], DEFAULT_RULES)

    assert find_caller(one, DEFAULT_RULES) == caller
    assert (one.identifier_type, one.identifier) == caller


def blocks_of(*calls: SegmentCall) -> dict[str, LinkBlock]:
    return find_links(calls, DEFAULT_RULES)


def test_a_visitor_who_never_says_who_they_are_costs_no_link() -> None:
    assert blocks_of(call(user_id=None, anonymous_id="a1"), call(user_id="0", anonymous_id="a2")) == {}


def test_links_are_distinct_and_as_old_as_their_earliest_call() -> None:
    blocks = blocks_of(call("m1", at=5), call("m2", at=3), call("m3", at=4), call("m4", workspace_id="w2", at=9))

    assert blocks["w1"].links == [link("u1", at=3, message_id="m2")]
    assert (blocks["w1"].newest, blocks["w2"].newest) == (5, 9)


def test_of_calls_of_one_moment_the_smaller_message_id_is_the_links() -> None:
    assert blocks_of(call("m2"), call("m1"), call("m3"))["w1"].links[0].message_id == "m1"


def test_links_are_as_new_as_the_newest_receipt() -> None:
    (block,) = blocks_of(call(at=1, received_at=9), call(at=2, received_at=3)).values()

    assert block.newest == 9


def test_a_link_has_nothing_that_is_blocked() -> None:
    one = call("m1", "alias", user_id="u1", email="a@x", anonymous_id="0", previous_id="null", at=0)

    assert blocks_of(one)["w1"].links == [link("u1", "a@x")]


@pytest.mark.parametrize("earliest", range(3))
def test_links_that_differ_in_what_is_blocked_are_one_at_its_earliest(earliest: int) -> None:
    visitors = ["0", None, "null"]
    calls = [
        call(f"m{n}", email="a@x", anonymous_id=visitor, workspace_id=workspace_id, at=0 if n == earliest else 9)
        for workspace_id in ("w1", "w2")
        for n, visitor in enumerate(visitors)
    ]

    blocks = blocks_of(*calls)

    expected = [link("u1", "a@x", at=0, message_id=f"m{earliest}")]
    assert [blocks["w1"].links, blocks["w2"].links] == [expected, expected]


def test_a_delete_says_who_is_to_be_forgotten_even_if_it_links_nothing() -> None:
    visitor = call("m1", "delete", user_id=None, anonymous_id="a1")
    user = call("m2", "delete", user_id="u1", anonymous_id="shared", workspace_id="w2", at=3)

    blocks = blocks_of(visitor, user)

    assert blocks["w1"] == LinkBlock([], 0, [("anonymous_id", "a1")])
    assert blocks["w2"] == LinkBlock([link("u1", None, "shared", at=3, message_id="m2")], 3, [USER_1])
