"""What is the first of its kind, and who is identified as whom: by example. The oracle has the rest."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_histories import KnownUser, MovedHistory, PersonBlock
from schemas.email_logs import EmailEvent, LogLine
from tests.unit.email_histories import line, travel
from transforms.logic.email_facts import click_fact, open_fact, reward_fact
from transforms.logic.mark_first_events import PersonHistories

OPENED = line("l1", "opened", at=10, person_id="P1", arrived_at=100)
CLICKED = line("l2", "clicked", at=20, person_id="P1", arrived_at=200, email_link_url="https://x/1")
DELIVERED = line("l3", "delivered", at=5, person_id="P1", arrived_at=300)

OPEN, UNIQUE_OPEN = "Email Opened", "Email Unique Opens"
CLICK, UNIQUE_CLICK, REWARD = "Link Clicked", "Unique Link Click", "Unique Link Click per Unique Open"


def user(user_id: str = "u1", person_id: str = "P1", version: int = 1, at: int = 1, **fields: Any) -> KnownUser:
    return KnownUser("w1", person_id, user_id, version, at, **fields)


def moved(person_id: str = "P2", former: tuple[str, ...] = ("P1",), *lived: LogLine, **fields: Any) -> MovedHistory:
    """The history of a@x, in which these clicks wait."""
    return MovedHistory("w1", person_id, list(former), "a@x", fields.get("facts", []), list(lived), 50)


def tell(histories: PersonHistories, *told: LogLine | KnownUser | MovedHistory) -> list[EmailCall]:
    block = PersonBlock(
        [one for one in told if isinstance(one, LogLine)],
        [one for one in told if isinstance(one, KnownUser)],
        [one for one in told if isinstance(one, MovedHistory)],
    )
    return histories.advance(travel(block))


def kinds(calls: list[EmailCall]) -> list[str]:
    return [call.kind for call in calls]


def identifies(calls: list[EmailCall]) -> list[tuple[str | None, str | None, int]]:
    return [(call.line.person_id, call.user_id, call.at) for call in calls if call.kind == "identify"]


class Rebuilt(PersonHistories):
    """Knows each time no more than what has been written down."""

    def __init__(self) -> None:
        super().__init__(implied_open_on_click=False)
        self.log: list[bytes] = []

    def advance(self, block: PersonBlock) -> list[EmailCall]:
        fresh = PersonHistories(implied_open_on_click=False)
        fresh.replay(self.log)
        calls = fresh.advance(block)
        record = fresh.take_record()
        self.log += [record] if record else []
        return calls


@pytest.fixture(params=["kept", "rebuilt"])
def histories(request: pytest.FixtureRequest) -> PersonHistories:
    return Rebuilt() if request.param == "rebuilt" else PersonHistories(implied_open_on_click=False)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (EmailEvent.DELIVERED, EmailCallKind.EMAIL_DELIVERED),
        (EmailEvent.BOUNCED, EmailCallKind.EMAIL_BOUNCED),
        (EmailEvent.REPORTED_AS_SPAM, EmailCallKind.EMAIL_REPORTED_AS_SPAM),
        (EmailEvent.UNSUBSCRIBED, EmailCallKind.EMAIL_UNSUBSCRIBED),
        (EmailEvent.PAGE_VIEWED, EmailCallKind.PAGE),
    ],
)
def test_what_may_happen_often_is_told_each_time(event: EmailEvent, kind: EmailCallKind) -> None:
    about = replace(DELIVERED, event=event.value)

    calls = tell(PersonHistories(implied_open_on_click=True), about, replace(about, log_id="l4"))

    assert calls == [EmailCall(kind.value, replace(about, log_id=each), None, 5) for each in ("l3", "l4")]


# Unique opens and clicks


def test_the_first_open_of_an_email_of_a_run_is_unique(histories: PersonHistories) -> None:
    first = tell(histories, OPENED)
    again = tell(histories, replace(OPENED, log_id="l4", at=1))
    other = tell(histories, replace(OPENED, email_id=None), replace(OPENED, campaign_run_id=None))

    assert [(call.kind, call.is_unique_open) for call in first] == [(OPEN, True), (UNIQUE_OPEN, True)]
    assert [(call.kind, call.is_unique_open) for call in again] == [(OPEN, False)]
    assert kinds(other) == 2 * [OPEN, UNIQUE_OPEN]


def test_the_first_click_of_each_link_is_unique(histories: PersonHistories) -> None:
    first = tell(histories, CLICKED)
    again = tell(histories, replace(CLICKED, log_id="l4"))
    other = tell(histories, replace(CLICKED, email_link_url=None))

    assert [(call.kind, call.is_unique_click) for call in first] == [(CLICK, True), (UNIQUE_CLICK, True)]
    assert [(call.kind, call.is_unique_click) for call in again] == [(CLICK, False)]
    assert kinds(other) == [CLICK, UNIQUE_CLICK]


def test_programs_take_nothing_from_humans(histories: PersonHistories) -> None:
    tell(histories, replace(OPENED, is_machine=True), replace(CLICKED, is_machine=True))

    assert kinds(tell(histories, OPENED)) == [OPEN, UNIQUE_OPEN]
    assert kinds(tell(histories, CLICKED)) == [CLICK, UNIQUE_CLICK, REWARD]


def test_what_is_one_persons_is_not_anothers(histories: PersonHistories) -> None:
    tell(histories, OPENED)

    assert UNIQUE_OPEN in kinds(tell(histories, replace(OPENED, person_id="P2")))
    assert UNIQUE_OPEN in kinds(tell(histories, replace(OPENED, workspace_id="w2")))


def test_a_click_after_the_open_is_rewarded_once(histories: PersonHistories) -> None:
    tell(histories, OPENED)

    calls = tell(histories, CLICKED)

    assert calls[-1] == EmailCall(REWARD, CLICKED, None, 20, is_unique_open=True, is_unique_click=True)
    assert kinds(tell(histories, replace(CLICKED, email_link_url="https://x/2"))) == [CLICK, UNIQUE_CLICK]


@pytest.mark.parametrize(("opened_at", "at"), [(90, 90), (7, 20)])
def test_an_open_after_the_click_rewards_the_first_click(histories: PersonHistories, opened_at: int, at: int) -> None:
    tell(histories, CLICKED)
    tell(histories, replace(CLICKED, log_id="l4", at=1, email_link_url="https://x/2"))

    calls = tell(histories, replace(OPENED, at=opened_at, user_id="u1"))

    assert calls[-1] == EmailCall(REWARD, CLICKED, "u1", at, is_unique_open=True, is_unique_click=True)
    assert kinds(calls) == ["identify", OPEN, UNIQUE_OPEN, REWARD]
    assert kinds(tell(histories, OPENED)) == [OPEN]


def test_a_click_can_stand_for_an_open() -> None:
    histories = PersonHistories(implied_open_on_click=True)

    calls = tell(histories, CLICKED)

    assert kinds(calls) == [UNIQUE_OPEN, CLICK, UNIQUE_CLICK, REWARD]
    assert calls[0] == EmailCall(UNIQUE_OPEN, CLICKED, None, 20, is_unique_open=True, is_implied_open=True)
    assert kinds(tell(histories, OPENED)) == [OPEN]


# Who is known as whom


def test_the_lines_own_user_wins_and_becomes_the_persons_if_none_was_known(histories: PersonHistories) -> None:
    own, later, other = (
        tell(histories, replace(DELIVERED, user_id=user_id, at=at)) for user_id, at in (("u1", 5), (None, 6), ("u2", 7))
    )

    assert [call.user_id for call in (own[-1], later[-1], other[-1])] == ["u1", "u1", "u2"]
    assert (identifies(own), identifies(later), identifies(other)) == ([("P1", "u1", 5)], [], [("P1", "u2", 7)])
    assert own[0].line.email == "a@x"
    assert tell(histories, DELIVERED)[-1].user_id == "u1"


def test_a_user_counts_from_when_it_is_known(histories: PersonHistories) -> None:
    calls = tell(histories, user(at=10), OPENED, DELIVERED)

    assert [(call.kind, call.user_id, call.at) for call in calls] == [
        ("Email Delivered", None, 5),
        ("identify", "u1", 10),
        (OPEN, "u1", 10),
        (UNIQUE_OPEN, "u1", 10),
    ]


def test_a_person_that_was_never_emailed_is_identified_with_the_first_email(histories: PersonHistories) -> None:
    assert tell(histories, user(at=3)) == []
    assert identifies(tell(histories, DELIVERED)) == [("P1", "u1", 3)]
    assert identifies(tell(histories, replace(DELIVERED, at=1))) == []


def test_the_user_that_is_known_longest_is_the_persons(histories: PersonHistories) -> None:
    tell(histories, user("u2", at=7), user("u1", at=9), user("u0", at=8))

    assert tell(histories, DELIVERED)[-1].user_id == "u2"
    assert identifies(tell(histories, user("u2", version=2, at=7, is_theirs=False))) == [("P1", "u0", 7)]
    assert tell(histories, DELIVERED)[-1].user_id == "u0"


def test_news_that_comes_late_says_since_when_the_user_is_known(histories: PersonHistories) -> None:
    tell(histories, user("u1", version=5, at=9), user("u2", at=8))
    tell(histories, user("u1", version=5, at=3), user("u1", version=4, at=7), user("u2", at=4))

    assert identifies(tell(histories, DELIVERED)) == [("P1", "u2", 4)]
    assert identifies(tell(histories, user("u2", version=2, at=4, is_theirs=False))) == [("P1", "u1", 3)]


def test_news_of_an_earlier_release_is_read() -> None:
    written = msgspec.msgpack.encode(["w1", "P1", "u1", 5, 3, False, ["P0"]])

    assert msgspec.msgpack.decode(written, type=KnownUser) == user(version=5, at=3, is_theirs=False, former=["P0"])


@pytest.mark.parametrize("is_late", [False, True])
def test_of_one_version_the_greater_person_has_the_user(is_late: bool, histories: PersonHistories) -> None:
    for person_id, other in (("P1", "P2"), ("P2", "P1")):
        theirs, not_theirs = user("u1", person_id), user("u1", person_id, is_theirs=False, holder=other)
        for news in (not_theirs, theirs) if is_late else (theirs, not_theirs):
            tell(histories, news)

    assert [tell(histories, replace(DELIVERED, person_id=one))[-1].user_id for one in ("P1", "P2")] == [None, "u1"]


def test_a_user_stays_the_persons_whatever_becomes_of_others(histories: PersonHistories) -> None:
    tell(histories, user("u2", at=7))
    tell(histories, user("u1", at=5), user("u3", at=6))
    tell(histories, user("u3", version=2, at=6, is_theirs=False))

    assert tell(histories, DELIVERED)[-1].user_id == "u2"


def test_old_news_of_a_user_changes_nothing(histories: PersonHistories) -> None:
    tell(histories, DELIVERED, user(version=5, is_theirs=False, holder="P2"))

    assert tell(histories, user(version=5)) == []
    assert tell(histories, user(version=4)) == []
    assert identifies(tell(histories, user(version=6))) == [("P1", "u1", 1)]


def test_who_loses_the_only_user_has_none(histories: PersonHistories) -> None:
    tell(histories, DELIVERED, user(version=1))
    tell(histories, user(version=2, is_theirs=False))

    assert tell(histories, DELIVERED)[-1].user_id is None
    assert kinds(tell(histories, user(version=3))) == []


def test_a_group_call_is_made_once_for_each_account(histories: PersonHistories) -> None:
    member = replace(DELIVERED, account_id="acme", user_id="u1", is_machine=True)

    assert kinds(tell(histories, member)) == ["identify", "group", "Email Delivered"]
    assert kinds(tell(histories, member)) == ["Email Delivered"]
    assert kinds(tell(histories, replace(member, account_id="other"))) == ["group", "Email Delivered"]


# Histories that move here


def test_what_was_unique_of_an_address_stays_so(histories: PersonHistories) -> None:
    facts = [open_fact(OPENED), click_fact(CLICKED), reward_fact(CLICKED)]
    tell(histories, moved(facts=facts))

    assert kinds(tell(histories, replace(OPENED, person_id="P2"))) == [OPEN]
    assert kinds(tell(histories, replace(CLICKED, person_id="P2"))) == [CLICK]


def test_an_open_here_and_a_click_at_an_address_that_moves_are_rewarded_once(histories: PersonHistories) -> None:
    tell(histories, replace(OPENED, person_id="P2", email="b@x"))

    calls = tell(histories, moved("P2", ("P1",), CLICKED, facts=[click_fact(CLICKED)]))

    assert calls == [
        EmailCall(REWARD, replace(CLICKED, person_id="P2"), None, 20, is_unique_open=True, is_unique_click=True)
    ]
    assert tell(histories, moved("P2", ("P1",), CLICKED, facts=[click_fact(CLICKED)])) == []


def test_a_click_here_and_an_open_at_an_address_that_moves_are_rewarded_once(histories: PersonHistories) -> None:
    own = replace(CLICKED, person_id="P2", email="b@x")
    tell(histories, own)

    assert kinds(tell(histories, moved(facts=[open_fact(OPENED)]))) == [REWARD]
    assert kinds(tell(histories, replace(OPENED, person_id="P2"), own)) == [OPEN, CLICK]


def test_a_click_that_moves_waits_for_the_open(histories: PersonHistories) -> None:
    tell(histories, moved("P2", ("P1",), CLICKED, facts=[click_fact(CLICKED)]))

    assert kinds(tell(histories, replace(OPENED, person_id="P2"))) == [OPEN, UNIQUE_OPEN, REWARD]


def test_a_reward_is_not_told_of_a_user_before_the_identify(histories: PersonHistories) -> None:
    open_of_b = moved("P2", ("P3",), facts=[open_fact(OPENED)])
    tell(histories, user("u1", "P2", at=3))

    calls = tell(histories, moved("P2", ("P1",), replace(CLICKED, user_id="u9")), open_of_b)

    assert [(call.kind, call.user_id, call.line.person_id) for call in calls] == [
        ("identify", "u9", "P2"),
        (REWARD, "u9", "P2"),
        ("identify", "u1", "P2"),
        ("identify", "u1", "P1"),
        ("identify", "u1", "P3"),
    ]


def test_a_click_that_stood_for_an_open_does_so_where_it_moves() -> None:
    histories = PersonHistories(implied_open_on_click=True)

    assert tell(histories, moved("P2", ("P1",), CLICKED, facts=[click_fact(CLICKED)])) == []
    assert kinds(tell(histories, replace(OPENED, person_id="P2"))) == [OPEN]
    assert kinds(tell(histories, replace(CLICKED, person_id="P2", email_link_url=None))) == [CLICK, UNIQUE_CLICK]


def test_a_pair_that_was_rewarded_at_two_addresses_of_one_person_may_be_again_when_both_move() -> None:
    """Accepted: each address moves alone, and neither knows that the person had both."""
    histories = PersonHistories(implied_open_on_click=False)
    assert REWARD in kinds(tell(histories, OPENED, replace(CLICKED, email="b@x")))

    tell(histories, moved(facts=[open_fact(OPENED)]))

    assert kinds(tell(histories, moved("P2", ("P1",), CLICKED, facts=[click_fact(CLICKED)]))) == [REWARD]


def test_a_former_person_is_identified_as_the_new_one_is(histories: PersonHistories) -> None:
    tell(histories, user("u1", "P2", at=3))

    assert identifies(tell(histories, moved("P2", ("P1", "P3")))) == [("P2", "u1", 3), ("P1", "u1", 3), ("P3", "u1", 3)]
    assert identifies(tell(histories, moved("P2", ("P1",)), replace(DELIVERED, person_id="P2"))) == []


def test_a_former_person_waits_until_the_new_one_is_known(histories: PersonHistories) -> None:
    assert tell(histories, moved()) == []

    calls = tell(histories, user("u1", "P2", at=3))

    assert identifies(calls) == [("P2", "u1", 3), ("P1", "u1", 3)]
    assert {call.line.email for call in calls} == {"a@x"}


def test_an_identify_names_the_first_address_that_was_emailed(histories: PersonHistories) -> None:
    tell(histories, replace(DELIVERED, person_id="P2", email="b@x"))
    tell(histories, moved())
    tell(histories, replace(DELIVERED, person_id="P2", email="c@x"))

    assert {call.line.email for call in tell(histories, user("u1", "P2"))} == {"b@x"}


def test_a_former_person_is_identified_by_the_persons_own_user(histories: PersonHistories) -> None:
    tell(histories, user("u1", "P2", at=3))

    calls = tell(histories, moved(), replace(DELIVERED, person_id="P2", user_id="u9"))

    assert identifies(calls) == [("P2", "u9", 5), ("P2", "u1", 3), ("P1", "u1", 3)]


def test_a_former_person_that_was_identified_is_not_again(histories: PersonHistories) -> None:
    tell(histories, replace(DELIVERED, user_id="u1"), user("u2", "P2", former=["P3"]))

    assert identifies(tell(histories, moved("P2", ("P1", "P3", "P4")))) == [("P2", "u2", 1), ("P4", "u2", 1)]


def test_who_was_identified_as_a_former_person_is_not_again(histories: PersonHistories) -> None:
    tell(histories, user("u1", "P2"), moved())

    assert identifies(tell(histories, replace(DELIVERED, user_id="u1"))) == []
    assert identifies(tell(histories, replace(DELIVERED, user_id="u2"))) == [("P1", "u2", 5)]


# Forgetting


def forgotten(histories: PersonHistories, micros: int) -> tuple[PersonHistories, PersonHistories]:
    """What has forgotten, and what has been rebuilt of the rest."""
    rebuilt = PersonHistories(implied_open_on_click=False)
    rebuilt.replay([histories.forget_before(micros)])
    return histories, rebuilt


def test_firsts_are_forgotten_by_when_they_arrived_and_identifications_never() -> None:
    histories = PersonHistories(implied_open_on_click=False)
    known = {"user_id": "u1", "account_id": "acme"}
    tell(histories, replace(OPENED, **known), replace(CLICKED, **known))

    for each in forgotten(histories, 101):
        assert each.facts_remembered == 2
        assert kinds(tell(each, replace(CLICKED, **known), replace(OPENED, **known))) == [OPEN, UNIQUE_OPEN, CLICK]
    for each in forgotten(histories, 301):
        assert each.facts_remembered == 0
        assert tell(each, DELIVERED)[-1].user_id == "u1"
        assert kinds(tell(each, replace(CLICKED, **known))) == [CLICK, UNIQUE_CLICK]


@pytest.mark.parametrize(("micros", "is_known"), [(200, True), (201, False)])
def test_a_click_that_waits_is_forgotten_by_its_arrival(micros: int, is_known: bool) -> None:
    histories = PersonHistories(implied_open_on_click=False)
    tell(histories, CLICKED)

    for each in forgotten(histories, micros):
        assert (REWARD in kinds(tell(each, OPENED))) == is_known


def test_what_moved_here_is_as_old_as_the_last_of_it() -> None:
    histories = PersonHistories(implied_open_on_click=False)
    tell(histories, moved(facts=[open_fact(OPENED)]))
    opened = replace(OPENED, person_id="P2")

    for each in forgotten(histories, 50):
        assert kinds(tell(each, opened)) == [OPEN]
    assert kinds(tell(forgotten(histories, 51)[0], opened)) == [OPEN, UNIQUE_OPEN]


# What is written down


def test_nothing_new_is_not_written_down() -> None:
    histories = PersonHistories(implied_open_on_click=False)

    assert histories.take_record() == b""
    tell(histories, DELIVERED)
    assert histories.take_record()
    tell(histories, DELIVERED, user(version=0, is_theirs=False, holder="P2"))
    assert histories.take_record()
    tell(histories, DELIVERED, user(version=0))
    assert histories.take_record() == b""


def test_a_click_that_is_no_first_may_wait_and_is_written_down(histories: PersonHistories) -> None:
    tell(histories, moved(facts=[click_fact(CLICKED)]), replace(DELIVERED, person_id="P2"))

    assert kinds(tell(histories, replace(CLICKED, person_id="P2"))) == [CLICK]
    assert kinds(tell(histories, replace(OPENED, person_id="P2"))) == [OPEN, UNIQUE_OPEN, REWARD]


def test_each_first_is_written_down_in_24_bytes_and_one_line_an_email() -> None:
    histories = PersonHistories(implied_open_on_click=False)
    clicks = [replace(CLICKED, log_id=f"l{each}", email_link_url=1000 * "x" + str(each)) for each in range(20)]

    tell(histories, *clicks[:10])
    first = len(histories.take_record())
    tell(histories, *clicks[10:])

    assert first < 1300 + 10 * 24
    assert len(histories.take_record()) <= 10 + 10 * 24
    assert len(histories.forget_before(0)) < 1300 + 20 * 24


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_of_the_clicks_that_have_waited_for_an_address_identifies_whoever_it_was(order: int) -> None:
    histories = PersonHistories(implied_open_on_click=False)
    first, second = (
        line(f"l{at}", "clicked", at=at, person_id="P2", email=email, email_id=email)
        for at, email in ((20, "b@x"), (30, "a@x"))
    )
    tell(histories, user(person_id="P2"), first, second)

    calls = tell(histories, moved(facts=[open_fact(first), open_fact(second)][::order]))

    assert [(call.kind, call.line.person_id, call.line.email) for call in calls] == [
        ("identify", "P1", "b@x"),
        (REWARD, "P2", "b@x"),
        (REWARD, "P2", "a@x"),
    ]


def test_there_is_nothing_to_forget_before_the_oldest_fact_has_its_time() -> None:
    histories = PersonHistories(implied_open_on_click=False)
    tell(histories, line("l1", arrived_at=30), line("l2", arrived_at=10, email_id="e2"))
    assert histories.oldest_fact == 10

    histories.forget_before(11)

    assert histories.oldest_fact == 30
