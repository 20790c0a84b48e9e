"""What single steps tell, and what not: who knows already is left in peace, else each window would cost them all."""

from schemas.identity_facts import Admitted, Belongs, Called, Followed, Met, Name, Owned, Renamed, Same, Seen, Told
from transforms.logic.graph_steps import (
    AdmitLinks,
    ConcludeNames,
    FollowNames,
    HoldVisitors,
    MeetPartners,
    SettleNames,
    SpreadNames,
)
from transforms.logic.name_persons import email_name, name_node, user_name

LIMITS = {"user_id": 5, "email": 5}
CAUSE = ("m1", 1)
WORKSPACE = ("w1", "", "")
A, B, C = (email_name(f"{letter}@x", at) for at, letter in enumerate("abc"))
USER = ("w1", "user_id", "u1")
PARTNER = ("w1", "email", "b@x")


def same(one: Name, other: Name) -> Same:
    return Same(WORKSPACE, one, other, CAUSE)


def test_a_link_is_told_once_with_the_name() -> None:
    step = AdmitLinks(LIMITS)
    step.learn_all([Seen(USER, user_name("u1"), CAUSE), Met(USER, PARTNER, CAUSE)])

    told = list(step.tell())

    assert sorted(told, key=str) == [
        Admitted(USER, PARTNER, CAUSE),
        Told(PARTNER, USER, user_name("u1"), CAUSE),
        Told(USER, USER, user_name("u1"), CAUSE),
    ]
    assert list(step.tell()) == []


def test_a_new_partner_hears_the_name_and_the_others_nothing() -> None:
    step = AdmitLinks(LIMITS)
    step.learn_all([Seen(USER, user_name("u1"), CAUSE), Met(USER, PARTNER, CAUSE)])
    list(step.tell())
    other = ("w1", "email", "c@x")
    step.learn_all([Met(USER, other, CAUSE)])

    assert list(step.tell()) == [Admitted(USER, other, CAUSE), Told(other, USER, user_name("u1"), CAUSE)]


def test_of_what_a_stranger_says_the_smallest_name_waits_until_it_is_admitted() -> None:
    step = MeetPartners()
    step.learn_all([Told(USER, PARTNER, B, CAUSE), Told(USER, PARTNER, A, CAUSE), Told(USER, PARTNER, C, CAUSE)])

    assert list(step.tell()) == []

    step.learn_all([Admitted(USER, PARTNER, CAUSE)])

    assert list(step.tell()) == [Told(PARTNER, USER, A, CAUSE)]


def test_a_greater_name_goes_no_further_and_its_sender_hears_the_smaller() -> None:
    step = SpreadNames()
    step.learn_all([Told(USER, USER, A, CAUSE)])
    list(step.tell())
    step.learn_all([Told(USER, PARTNER, B, CAUSE)])

    assert list(step.tell()) == [Told(PARTNER, USER, A, CAUSE)]


def test_who_hears_one_name_only_has_nothing_to_settle() -> None:
    step = ConcludeNames()
    step.learn_all([Told(USER, USER, B, CAUSE), Told(USER, PARTNER, A, CAUSE)])

    assert Same(WORKSPACE, A, B, CAUSE) in list(step.tell())

    step.learn_all([Told(USER, USER, A, CAUSE)])

    assert list(step.tell()) == []


def test_who_knows_the_smallest_name_is_not_told_again() -> None:
    step = SettleNames()
    step.learn_all([same(A, B)])

    assert list(step.tell()) == [Renamed(name_node("w1", B), A, CAUSE)]

    step.learn_all([same(A, C)])

    assert list(step.tell()) == [Renamed(name_node("w1", C), A, CAUSE)]
    assert list(step.tell()) == []


def test_only_who_follows_is_renamed() -> None:
    step = FollowNames()
    node = name_node("w1", B)
    step.learn_all([Renamed(node, A, CAUSE)])

    assert list(step.tell()) == []

    step.learn_all([Followed(node, USER, B, CAUSE)])

    called = [fact for fact in step.tell() if isinstance(fact, Called)]
    assert [(fact.node, fact.name) for fact in called] == [(USER, A)]


def test_an_earlier_sight_of_an_email_that_is_settled_is_remembered() -> None:
    step = SettleNames()
    older = email_name("c@x", -1)
    log = step.learn_all([same(B, C)])
    log += step.learn_all([same(B, older)])
    rebuilt = SettleNames()
    rebuilt.recall(log)
    rebuilt.learn_all([same(A, B)])

    assert len(log) == 2
    assert list(rebuilt.tell()) == [Renamed(name_node("w1", A), older, CAUSE)]


def test_a_visitor_of_a_node_that_is_called_at_once_is_told_once() -> None:
    step = HoldVisitors()
    visitor = ("w1", "anonymous_id", "v1")
    claim = (1, 0, USER)
    step.learn_all([Called(USER, A, CAUSE), Owned(USER, visitor, claim, CAUSE)])

    assert list(step.tell()) == [Belongs(USER, A, None, CAUSE), Belongs(visitor, A, claim, CAUSE)]
