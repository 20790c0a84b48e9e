"""Order cannot matter, not even inside: steps hear of news late, in parts, twice and in any order."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.calls import SegmentCall
from schemas.identities import PriorBlock, WarehousePerson
from schemas.identity_rules import IdentityRules
from tests.unit.identity_histories import (
    HISTORIES,
    NO_LIMITS,
    TIGHT_RULES,
    WAREHOUSES,
    links_of,
    some_calls,
    split_histories,
    without_workspace,
)
from tests.unit.identity_oracle import find_refusals, first_calls, resolve
from tests.unit.scattered_graph import ScatteredGraph

scattered = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**32), "shards": st.integers(1, 5), "middle_hops": st.integers(0, 2)}
)


def scatter(
    windows: Sequence[Sequence[SegmentCall]], rules: IdentityRules, how: dict[str, int], prior: PriorBlock | None = None
) -> ScatteredGraph:
    """Windows overtake each other: of each a few deliveries are made before the next begins."""
    graph = ScatteredGraph(rules, **how)
    if prior is not None:
        graph.tell_prior(prior)
    for window in windows:
        graph.tell("w1", links_of(window, rules))
        graph.deliver(20)
    graph.settle()
    return graph


def check_rows(graph: ScatteredGraph) -> None:
    latest: dict[object, tuple[str | None, int]] = {}
    for row in graph.rows:
        person_id, version = latest.get(row.node, (None, -1))

        assert row.person_id != person_id
        assert row.version > version

        latest[row.node] = row.person_id, row.version


def check_merges(graph: ScatteredGraph) -> None:
    """The latest merge of every person_id that is nobody's any more leads to one that is somebody's."""
    today = set(graph.persons().values())
    replaced = {merge.from_person_id: merge.into_person_id for merge in graph.merges}

    for person_id in {row.person_id for row in graph.rows if row.person_id is not None} - today:
        assert replaced[person_id] in today


def check_persons(split: tuple[list[SegmentCall], list[list[SegmentCall]]], how: dict[str, int]) -> None:
    history, windows = split
    graph = scatter(windows, NO_LIMITS, how)

    check_rows(graph)
    check_merges(graph)
    assert without_workspace(graph.persons()) == resolve(history, NO_LIMITS).persons


@settings(max_examples=150)
@given(split_histories(), scattered)
def test_no_delay_and_no_repeat_between_the_steps_changes_a_person(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]], how: dict[str, int]
) -> None:
    check_persons(split, how)


@pytest.mark.slow
@settings(max_examples=700)
@given(split_histories(some_calls(40)), scattered)
def test_no_delay_and_no_repeat_between_the_steps_changes_a_person_in_many_histories(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]], how: dict[str, int]
) -> None:
    check_persons(split, how)


@pytest.mark.slow
@settings(max_examples=80)
@given(split_histories(), WAREHOUSES, scattered)
def test_nor_the_person_of_a_warehouse(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]], warehouse: list[WarehousePerson], how: dict[str, int]
) -> None:
    history, windows = split
    graph = scatter(windows, NO_LIMITS, how, PriorBlock(warehouse))

    check_rows(graph)
    assert without_workspace(graph.persons()) == resolve(history, NO_LIMITS, warehouse).persons


@settings(max_examples=80)
@given(split_histories(), TIGHT_RULES, scattered)
def test_which_links_are_refused_depends_on_the_order_and_nothing_else_does(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]], rules: IdentityRules, how: dict[str, int]
) -> None:
    history, windows = split
    graph = scatter(windows, rules, how)
    admitted = {(one[1:], other[1:]) for one, other in graph.admitted()}
    refused = [(refusal.node[1:], refusal.partner[1:]) for refusal in graph.refusals]
    met = {(("user_id", user), ("email", email)) for user, email in first_calls(history, rules)}
    met |= {(email, user) for user, email in met}

    assert len(refused) == len(set(refused)) == len(find_refusals(history, rules))
    assert set(refused) == met - admitted

    accepted = {(one[1], other[1]) for one, other in admitted if one[0] == "user_id" and (other, one) in admitted}

    assert without_workspace(graph.persons()) == resolve(history, rules, accepted=accepted).persons


@settings(max_examples=30)
@given(split_histories(), TIGHT_RULES | st.just(NO_LIMITS), scattered)
def test_nothing_is_remembered_twice(
    split: tuple[list[SegmentCall], list[list[SegmentCall]]], rules: IdentityRules, how: dict[str, int]
) -> None:
    assert scatter(split[1], rules, how).learned_again() == []


@settings(max_examples=30)
@given(HISTORIES, scattered)
def test_a_workspace_learns_nothing_of_another(history: list[SegmentCall], how: dict[str, int]) -> None:
    graph = ScatteredGraph(NO_LIMITS, **how)
    half = len(history) // 2
    graph.tell("w1", links_of(history[:half], NO_LIMITS))
    graph.tell("w2", links_of(history[half:], NO_LIMITS))
    graph.settle()
    persons = graph.persons()

    assert {node[1:] for node in persons if node[0] == "w1"} == set(resolve(history[:half], NO_LIMITS).persons)
    assert {node[1:] for node in persons if node[0] == "w2"} == set(resolve(history[half:], NO_LIMITS).persons)
    assert not {persons[node] for node in persons if node[0] == "w1"} & {
        persons[node] for node in persons if node[0] == "w2"
    }
