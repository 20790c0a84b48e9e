"""Whose an address is, what is a repeat, and what moves along when an address becomes another person's."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from schemas.email_histories import KnownUser, MovedHistory, PersonBlock
from schemas.email_logs import LogBlock, LogLine
from schemas.identity_updates import IdentityUpdate
from tests.unit.email_histories import find_lines, line, travel, update
from tests.unit.identity_oracle import person_id_of
from transforms.find_recipients import SHARDS_OF_A_STREAM
from transforms.logic.email_facts import (
    Facts,
    click_fact,
    group_fact,
    identified_fact,
    of_address,
    of_person,
    open_fact,
    repeat_fact,
    reward_fact,
)
from transforms.logic.find_recipients import (
    AddressBook,
    line_node,
    own_person,
    remembered_person,
    settle_updates,
    update_node,
)

OPENED = line("l1", "opened", arrived_at=1)
CLICKED = line("l2", "clicked", arrived_at=2, email_link_url="https://x/1")


def find(book: AddressBook, *told: LogLine | IdentityUpdate) -> PersonBlock:
    return record(book, *told)[0]


def record(book: AddressBook, *told: LogLine | IdentityUpdate) -> tuple[PersonBlock, bytes]:
    lines = [one for one in told if isinstance(one, LogLine)]
    found, written = book.find(travel(LogBlock(lines, [one for one in told if isinstance(one, IdentityUpdate)])))
    assert len(lines) == len(found.block.lines) + len(found.repeats)
    return found.block, written


def persons(block: PersonBlock) -> list[str | None]:
    return [one.person_id for one in block.lines]


def moved_by(book: AddressBook, person_id: str = "P2", version: int = 10) -> list[MovedHistory]:
    return find(book, update(person_id, version, email="a@x")).histories


def facts_of(history: MovedHistory) -> set[bytes]:
    assert len(history.facts) == len(set(history.facts))
    return set(history.facts)


# The person of a line


def test_a_person_is_who_the_line_says_else_who_the_address_names() -> None:
    assert own_person(line(person_id="P1")) == "P1"
    assert own_person(line(email="a@x", workspace_id="w2")) == person_id_of("a@x", "w2")


def test_what_updates_say_of_the_address_wins_over_the_line() -> None:
    lines = [line(person_id="P1"), line(email="b@x", person_id="P1"), line(workspace_id="w2"), line(email="c@x")]

    found, _ = find_lines(lines, {("w1", "a@x"): "P2", ("w1", "c@x"): "P3"})

    assert [one.person_id for one in found] == ["P2", "P1", person_id_of("a@x", "w2"), "P3"]


def test_nodes_tell_a_user_id_from_an_email_and_workspaces_apart() -> None:
    assert update_node(update("P1", user_id="a@x")) == ("w1", "user_id", "a@x")
    assert update_node(update("P1", email="a@x")) == ("w1", "email", "a@x") == line_node(line())
    assert line_node(line(workspace_id="w2")) == ("w2", "email", "a@x")


def test_in_files_the_highest_version_holds_from_the_beginning() -> None:
    updates = [
        update("P2", 5, email="a@x"),
        update("P3", 9, email="b@x"),
        update("P1", 2, email="a@x"),
        update(None, 10, email="b@x"),
        update("P4", 1, email="a@x", workspace_id="w2"),
    ]

    assert settle_updates(updates) == ({("w1", "a@x"): "P2", ("w2", "a@x"): "P4"}, [])
    assert settle_updates(reversed(updates))[0] == settle_updates(updates)[0]


@pytest.mark.parametrize("is_reversed", [False, True])
def test_in_files_a_user_is_known_since_the_first_update(is_reversed: bool) -> None:
    updates = [
        update("P1", 7, user_id="u1"),
        update("P2", 9, user_id="u1"),
        update(None, 3, user_id="u1"),
        update(None, 9, user_id="u2"),
        update("P1", 2, user_id="u2"),
        update("P3", 6, user_id="u3", at="some day"),
        replace(update("P3", 5, user_id="u4"), version=4),
        replace(update("P3", 1, user_id="u4"), version=8),
    ]

    users = settle_updates(reversed(updates) if is_reversed else updates)[1]

    assert sorted(users, key=lambda user: user.user_id) == [
        KnownUser("w1", "P2", "u1", 9, 3),
        KnownUser("w1", "P3", "u3", 6, 6),
        KnownUser("w1", "P3", "u4", 8, 1),
    ]


# Repeats


def test_what_two_addresses_share_an_id_of_are_two_events() -> None:
    shared = [line("l1", email="a@x", person_id="P1"), line("l1", email="b@x", person_id="P1")]

    assert find_lines(shared, {}) == (shared, [])
    assert len(find(AddressBook(), *shared).lines) == 2


def test_of_repeated_lines_the_earliest_is_kept() -> None:
    tellings = (("l2", 3, 9), ("l1", 2, 9), ("l2", 1, 9), ("l1", 2, 1))
    lines = [line(log_id, at=at, arrived_at=arrived_at, person_id="P1") for log_id, at, arrived_at in tellings]

    kept, repeats = find_lines(lines, {})

    assert {(one.log_id, one.at) for one in kept} == {("l2", 1), ("l1", 2)}
    assert {one.arrived_at for one in kept if one.log_id == "l1"} == {1}
    assert repeats == [lines[0], lines[1]]


def test_of_copies_that_say_different_things_one_is_kept_whichever_comes_first() -> None:
    copies = [line("l1", person_id=person_id, arrived_at=at) for at, person_id in enumerate((None, "P2", "P1"))]

    kept = {find_lines(order, {})[0][0].person_id for order in itertools.permutations(copies)}

    assert len(kept) == 1


def test_of_copies_of_one_time_what_they_say_decides_and_not_when_they_came() -> None:
    copies = [line("l1", person_id="P1", arrived_at=1, email_id="z"), line("l1", person_id="P1", arrived_at=2)]

    kept = {find_lines(order, {})[0][0].email_id for order in itertools.permutations(copies)}

    assert kept == {"e"}


def test_long_addresses_are_not_kept_in_memory() -> None:
    before = remembered_person.cache_info().currsize
    own_person(line(email="a" * 1000 + "@x"))
    own_person(line(workspace_id="w" * 1000))

    assert remembered_person.cache_info().currsize == before


def test_of_two_updates_of_one_version_one_holds_whichever_comes_first() -> None:
    same = [update(person_id, 3, email="a@x") for person_id in ("P1", "P2", None)]

    persons = [settle_updates(order)[0] for order in itertools.permutations(same)]

    assert persons == [{("w1", "a@x"): "P2"}] * 6


def test_lines_of_two_workspaces_are_no_repeats_of_each_other() -> None:
    lines = [line("l1", person_id="P1"), line("l1", workspace_id="w2", person_id="P1")]

    assert find_lines(lines, {}) == (lines, [])
    assert len(find(AddressBook(), *lines).lines) == 2


def test_a_stream_drops_what_repeats_a_line() -> None:
    book = AddressBook()

    first, written = record(book, OPENED, CLICKED, OPENED)
    again, nothing = record(book, OPENED, replace(CLICKED, at=0, arrived_at=99))

    assert [one.log_id for one in first.lines] == ["l1", "l2"]
    assert (again, nothing) == (PersonBlock([], [], []), b"")
    assert written
    assert book.lines_remembered == 2


def test_lines_come_out_in_the_order_in_which_things_happened() -> None:
    found = find(AddressBook(), line("l2", at=2), line("l3", at=1), line("l1", at=2))

    assert [one.log_id for one in found.lines] == ["l3", "l1", "l2"]


def test_a_line_is_forgotten_when_it_arrived_before_the_horizon() -> None:
    book = AddressBook()
    find(book, OPENED, CLICKED)

    rest = book.forget_before(2, None)

    assert book.lines_remembered == 1
    assert [one.log_id for one in find(book, OPENED, CLICKED).lines] == ["l1"]
    rebuilt = AddressBook()
    rebuilt.replay([rest])
    assert [one.log_id for one in find(rebuilt, OPENED, CLICKED).lines] == ["l1"]


def test_nothing_gives_nothing() -> None:
    assert record(AddressBook()) == (PersonBlock([], [], []), b"")


# Updates in a stream


def test_an_update_holds_for_the_lines_of_its_block_and_for_later_ones() -> None:
    book = AddressBook()

    assert persons(find(book, line("l1"))) == [person_id_of("a@x")]
    assert persons(find(book, line("l2"), update("P1", 5, email="a@x"), line("l3", email="b@x"))) == [
        "P1",
        person_id_of("b@x"),
    ]
    assert persons(find(book, line("l4", person_id="P9"), line("l5", workspace_id="w2"))) == [
        "P1",
        person_id_of("a@x", "w2"),
    ]


def test_an_older_update_and_one_that_comes_again_change_nothing() -> None:
    book = AddressBook()
    find(book, update("P2", 5, email="a@x"), update("P1", 4, email="a@x"), update("P2", 5, user_id="u1"))

    again = [update("P9", 4, email="a@x"), update("P2", 5, email="a@x"), update("P2", 5, user_id="u1")]
    assert record(book, *again) == (PersonBlock([], [], []), b"")
    assert persons(find(book, line())) == ["P2"]


@pytest.mark.parametrize("is_one_block", [False, True])
def test_of_two_updates_of_one_version_a_stream_holds_what_files_do(is_one_block: bool) -> None:
    for order in itertools.permutations(update(person_id, 3, email="a@x") for person_id in ("P1", "P2", None)):
        book = AddressBook()
        for told in [order] if is_one_block else [[one] for one in order]:
            find(book, *told)

        assert persons(find(book, line())) == ["P2"]
        assert settle_updates(order)[0] == {("w1", "a@x"): "P2"}


def test_an_older_update_says_since_when_a_user_is_known() -> None:
    book = AddressBook()
    find(book, update("P2", 5, user_id="u1"))

    found, written = record(book, update("P1", 3, user_id="u1"))

    assert found.users == [KnownUser("w1", "P2", "u1", 5, 3)]
    rebuilt = AddressBook()
    rebuilt.replay([written])
    for each in (book, rebuilt):
        assert record(each, update("P1", 4, user_id="u1")) == (PersonBlock([], [], []), b"")
        assert find(each, update("P2", 6, user_id="u1")).users == [KnownUser("w1", "P2", "u1", 6, 3)]


def test_since_when_a_user_was_known_who_is_nobodys_is_told_when_somebody_has_it() -> None:
    book = AddressBook()
    find(book, update(None, 5, user_id="u1"))

    assert find(book, update("P1", 3, user_id="u1")).users == []
    assert find(book, update("P2", 6, user_id="u1")).users == [KnownUser("w1", "P2", "u1", 6, 3)]


def test_who_has_no_person_any_more_is_who_the_line_says() -> None:
    book = AddressBook()
    find(book, update("P1", 1, email="a@x"), update(None, 2, email="a@x"))

    assert persons(find(book, line("l1"), line("l2", person_id="P9"))) == [person_id_of("a@x"), "P9"]


def test_a_person_is_told_of_their_user_and_loses_it_to_the_next() -> None:
    book = AddressBook()

    assert find(book, update("P1", 5, user_id="u1")).users == [KnownUser("w1", "P1", "u1", 5, 5)]
    assert find(book, update("P2", 6, user_id="u1")).users == [
        KnownUser("w1", "P1", "u1", 6, 5, is_theirs=False, holder="P2"),
        KnownUser("w1", "P2", "u1", 6, 5, former=["P1"]),
    ]
    assert find(book, update("P2", 7, user_id="u1")).users == [KnownUser("w1", "P2", "u1", 7, 5, former=["P1"])]
    assert find(book, update(None, 8, user_id="u1")).users == [KnownUser("w1", "P2", "u1", 8, 5, is_theirs=False)]
    assert find(book, update("P1", 9, user_id="u1", at="some day")).users == [
        KnownUser("w1", "P1", "u1", 9, 5, former=["P2"])
    ]
    assert find(book, update("P3", 10, user_id="u1")).users[1].former == ["P2", "P1"]


def test_updates_of_one_block_are_learned_in_the_order_of_their_versions() -> None:
    found = find(AddressBook(), update("P2", 6, user_id="u1"), update("P1", 5, user_id="u1"))

    assert [(user.person_id, user.is_theirs) for user in found.users] == [("P1", True), ("P1", False), ("P2", True)]


# What moves along


def test_a_history_moves_with_its_address() -> None:
    book = AddressBook()
    find(book, OPENED, CLICKED, line("l3", email="b@x"))

    (moved,) = moved_by(book)

    assert facts_of(moved) == {open_fact(OPENED), click_fact(CLICKED), reward_fact(CLICKED)}
    assert asdict(moved) | {"facts": []} == asdict(
        MovedHistory("w1", "P2", [person_id_of("a@x")], "a@x", [], [], touched_at=2)
    )


def test_only_the_first_click_of_an_email_without_an_open_waits() -> None:
    book = AddressBook()
    find(book, replace(CLICKED, at=3), line("l4", "clicked", at=2, email_id="e2", arrived_at=3))
    find(book, line("l3", "clicked", email_link_url="https://x/2", arrived_at=4))

    (moved,) = moved_by(book)
    assert [click.log_id for click in moved.awaiting] == ["l4", "l2"]

    find(book, line("l5", arrived_at=5))

    (moved,) = moved_by(book, version=11)
    assert [click.log_id for click in moved.awaiting] == ["l4"]
    assert reward_fact(CLICKED) in moved.facts
    assert len(facts_of(moved)) == 5


def test_programs_and_other_events_leave_no_history_but_the_person() -> None:
    book = AddressBook()
    find(book, replace(OPENED, is_machine=True), replace(CLICKED, is_machine=True), line("l3", "delivered"))

    (moved,) = moved_by(book)

    assert (moved.facts, moved.awaiting) == ([], [])


def test_nothing_moves_to_who_has_it_already_nor_to_nobody_nor_without_a_history() -> None:
    book = AddressBook()

    assert moved_by(book, "P1", 1) == []
    find(book, OPENED)
    assert moved_by(book, "P1", 2) == []
    assert find(book, update(None, 3, email="a@x")).histories == []
    assert find(book, update("P2", 4, email="a@x", workspace_id="w2")).histories == []
    assert [moved.former for moved in moved_by(book, "P3", 4)] == [["P1"]]


def test_a_history_that_moves_on_and_back_tells_everybody_under_whose_id_calls_were_sent() -> None:
    book = AddressBook()
    find(book, line("l1"), update("P1", 1, email="a@x"))
    find(book, line("l2"), update("P2", 2, email="a@x"))

    assert [moved.former for moved in moved_by(book, "P3", 3)] == [["P1", "P2"]]
    assert [moved.former for moved in moved_by(book, "P1", 4)] == [["P2"]]


def test_a_former_person_of_whom_a_line_told_the_user_is_identified_already() -> None:
    book = AddressBook()
    find(book, line("l1", person_id="P1"), line("l2", person_id="P9"))
    find(book, line("l3", person_id="P1", user_id="u1"))

    assert [moved.former for moved in moved_by(book)] == [["P9"]]

    find(book, line("l4", user_id="u1"), line("l5", user_id="u1"))

    assert [moved.former for moved in moved_by(book, "P3", 11)] == [["P9"]]


def test_a_history_to_which_nothing_was_added_is_forgotten() -> None:
    book = AddressBook()
    find(book, OPENED, line("l2", "clicked", email="b@x", arrived_at=1))
    find(book, line("l3", arrived_at=9), line("l4", email="b@x", arrived_at=9), update("P1", 1, email="a@x"))

    kept = AddressBook()
    kept.replay([book.forget_before(0, 9)])

    for each in (book, kept):
        assert len(moved_by(each)) == 1
        (moved,) = find(each, update("P3", 12, email="b@x")).histories
        assert facts_of(moved) == {open_fact(OPENED), click_fact(line("l2", "clicked")), reward_fact(OPENED)}
        assert (moved.touched_at, moved.awaiting) == (9, [])
        each.forget_before(0, 10)
        assert moved_by(each, "P4", 13) == []
        assert find(each, update("P4", 13, email="b@x")).histories == []


def test_a_history_is_as_young_as_the_last_that_arrived_for_it() -> None:
    book = AddressBook()
    find(book, replace(OPENED, arrived_at=9), replace(CLICKED, arrived_at=3))

    assert [moved.touched_at for moved in moved_by(book)] == [9]


# What is written down


def test_a_line_that_adds_nothing_is_written_down_in_24_bytes() -> None:
    book = AddressBook()
    record(book, OPENED, line("l0", user_id="u1"))
    long = "https://x/" + 1000 * "x"
    told = [
        line(f"l{number}", ("delivered", "opened")[number % 2], email_link_url=long, user_id="u1")
        for number in range(2, 101)
    ]

    assert len(record(book, *told)[1]) <= 24 * 99 + 20
    assert len(facts_of(moved_by(book)[0])) == 1


def test_a_click_that_waits_is_written_down_once_and_the_next_link_in_16_bytes() -> None:
    book = AddressBook()
    links = ["https://x/" + 1000 * "x" + str(number) for number in range(20)]
    clicks = [line(f"l{number}", "clicked", email_link_url=link) for number, link in enumerate(links)]

    first = record(book, *clicks[:10])[1]
    later = record(book, *clicks[10:])[1]

    assert len(first) < 1200 + 10 * (24 + 18)
    assert len(later) < 60 + 10 * (24 + 18)
    assert len(book.forget_before(0, None)) < 1200 + 20 * (24 + 18)


def test_a_click_costs_the_same_however_many_emails_wait_for_their_open(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = 0

    def count(fact: Callable[..., bytes]) -> Callable[..., bytes]:
        def counted(*about: Any) -> bytes:
            nonlocal digests
            digests += 1
            return fact(*about)

        return counted

    for fact in (open_fact, of_address):
        monkeypatch.setattr(f"transforms.logic.find_recipients.{fact.__name__}", count(fact))
    clicks = [line(f"l{number}", "clicked", email_id=f"e{number}") for number in range(400)]
    book, rebuilt = AddressBook(), AddressBook()
    spent = []
    for start in range(0, 400, 100):
        before = digests
        rebuilt.replay([record(book, *clicks[start : start + 100])[1]])
        spent.append(digests - before)

    assert len(set(spent)) == 1
    assert [len(moved_by(each)[0].awaiting) for each in (book, rebuilt)] == [400, 400]


# Facts

texts = st.sampled_from(("", "a", "b", "\n", "a\nb", "b\na", "\n\n", "ä", "a\x00", "\u2028")) | st.text(max_size=3)


@settings(max_examples=50)
@given(st.lists(st.tuples(*3 * [texts | st.none()]), unique=True, max_size=20))
def test_no_two_things_are_one_fact(things: list[tuple[str | None, ...]]) -> None:
    facts = set()
    emails = {thing[:2] for thing in things}
    for run, email_id, link in things:
        about = line("l", campaign_run_id=run, email_id=email_id, email_link_url=link)
        facts |= {open_fact(about), click_fact(about), reward_fact(about)}

    assert len(facts) == len(things) + 2 * len(emails)
    assert {len(fact) for fact in facts} <= {16}


@settings(max_examples=50)
@given(st.lists(st.tuples(texts, texts), unique=True, max_size=20))
def test_no_two_things_of_two_people_are_one_fact(names: list[tuple[str, str]]) -> None:
    fact = open_fact(OPENED)
    facts = {of_person(*name, fact) for name in names} | {of_address(*name, fact) for name in names}
    ids = {repeat_fact(line(log_id, workspace_id=workspace_id)) for workspace_id, log_id in names}

    assert (len(facts), len(ids)) == (2 * len(names), len(names))
    assert of_person("w1", "P1", group_fact(line(account_id="u1"))) != of_person("w1", "P1", identified_fact("u1"))


def test_a_fact_is_noted_once_and_stays_as_old_as_it_is() -> None:
    facts = Facts()

    assert facts.note(b"a" * 16, 5)
    assert not facts.note(b"a" * 16, 9)
    facts.forget_before(5)
    assert b"a" * 16 in facts
    facts.forget_before(6)
    assert b"a" * 16 not in facts
    assert len(facts) == 0


def test_facts_are_written_down_once_and_all_again_when_some_are_forgotten() -> None:
    facts, rebuilt = Facts(), Facts()
    facts.note(b"a" * 16, 1)
    facts.note(b"b" * 16, 2)
    first = facts.take_new()

    assert (len(first), facts.take_new()) == (48, b"")

    facts.note(b"c" * 16, -3)
    rebuilt.replay(first)
    rebuilt.replay(facts.take_new())
    for each in (facts, rebuilt):
        assert len(each) == 3
        each.forget_before(2)
        assert each.take_new() == first[24:]
        assert each.take_new() == b""
    assert rebuilt.note(b"a" * 16, 9)


def test_what_is_replayed_twice_keeps_its_first_time_and_is_not_new() -> None:
    facts = Facts()
    facts.note(b"a" * 16, 1)
    again = Facts()
    again.note(b"a" * 16, 9)
    facts.take_new()

    facts.replay(again.take_new())

    assert facts.take_new() == b""
    facts.forget_before(2)
    assert len(facts) == 0


# What running jobs have in their state


def test_a_stream_keeps_its_shards_and_its_digests() -> None:
    """With others it would find nothing of what it remembers."""
    click = line("l1", "clicked", email_link_url="https://x/1", account_id="acme")

    assert SHARDS_OF_A_STREAM == 16
    facts = repeat_fact(click), open_fact(click), click_fact(click), reward_fact(click), group_fact(click)
    assert [fact.hex() for fact in facts] == [
        "46c24b74be79fee87c8926335c74c217",
        "954b642ca96b6710f63505427a50c021",
        "0201670001621cb725d2f939c866cc60",
        "5fa2c1dd339af20663bafe906cb21b9b",
        "2ab0907ebd0615e3f41ab04ce13dd523",
    ]


def test_the_fields_of_a_line_keep_their_places() -> None:
    assert LogLine.__struct_fields__[:8] == (
        "workspace_id",
        "log_id",
        "event",
        "at",
        "arrived_at",
        "email",
        "person_id",
        "user_id",
    )
    assert LogLine.__struct_fields__[-1] == "connection_id"
    assert len(LogLine.__struct_fields__) == 20
