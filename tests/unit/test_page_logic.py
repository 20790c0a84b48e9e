"""What the page says, from numbers and the clock."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.connections import Connection, ConnectionKind
from schemas.rejections import Reason
from services.page.advice import advise
from services.page.draw_chart import PLOT_HEIGHT, draw_chart, draw_spark, find_top, pick_colours
from services.page.fold_traffic import MAX_TYPES, Fact, Period, Series, add_up, count_reasons, fold_hours, group_by_type
from services.page.judge_status import MEMORY, RecentTraffic, State, judge_status
from services.page.keep_answers import KeptAnswers
from services.page.say_times import say_ago, say_share, say_time
from services.page.write_snippets import write_snippets
from services.take_webhooks import SENDERS
from tests.factories import DAY, HOUR, MINUTE, NOW, SECOND

ROOT = Path(__file__).parents[2]
LUNCH = NOW + 12 * HOUR + 5 * MINUTE


@pytest.mark.parametrize(
    ("traffic", "state", "sentence"),
    [
        (RecentTraffic(LUNCH, 1234, 0), State.RECEIVING, "Receiving: 1,234 calls in the last hour"),
        (RecentTraffic(LUNCH, 1, 0), State.RECEIVING, "Receiving: 1 call in the last hour"),
        (RecentTraffic(LUNCH, 1000, 99), State.RECEIVING, "Receiving: 1,000 calls in the last hour"),
        (RecentTraffic(LUNCH, 1000, 100), State.REJECTING, "Rejecting: 10 % of the last hour’s calls"),
        (RecentTraffic(LUNCH, 100, 37), State.REJECTING, "Rejecting: 37 % of the last hour’s calls"),
        (RecentTraffic(LUNCH, 1, 1), State.REJECTING, "Rejecting: 100 % of the last hour’s calls"),
        (RecentTraffic(LUNCH - 2 * HOUR), State.SILENT, "Silent since 10:05 UTC (2 h)"),
        (RecentTraffic(LUNCH - 3 * DAY), State.SILENT, "Silent since 29 Dec 2025, 12:05 UTC (3 d)"),
        (RecentTraffic(), State.WAITING, "Waiting for the first call"),
    ],
)
def test_the_status_of_a_connection(traffic: RecentTraffic, state: State, sentence: str) -> None:
    assert judge_status(traffic, LUNCH, created_at=NOW) == (state, sentence)


def test_a_connection_that_is_older_than_memory_does_not_wait() -> None:
    status = judge_status(RecentTraffic(), NOW, created_at=NOW - MEMORY - 1)

    assert status == (State.SILENT, "Silent: no call in the last 30 days")


def test_a_revoked_connection_is_revoked_whatever_comes() -> None:
    assert judge_status(RecentTraffic(), NOW, NOW, is_revoked=True).sentence == "Revoked: no key opens the door"
    still = judge_status(RecentTraffic(NOW, 3, 3), NOW, NOW, is_revoked=True)
    assert still == (State.REVOKED, "Revoked: no key opens the door, yet 3 calls came in the last hour")


def test_who_has_no_connection_waits_for_nothing() -> None:
    assert judge_status(RecentTraffic(), NOW, noun="message").state is State.SILENT


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [(0, 0, "0 %"), (0, 9, "0 %"), (1, 1000, "under 1 %"), (999, 1000, "99 %"), (9, 9, "100 %"), (37, 100, "37 %")],
)
def test_a_share_is_nothing_or_all_only_if_it_is(part: int, whole: int, share: str) -> None:
    assert say_share(part, whole) == share


def test_times_are_told_by_how_far_they_are() -> None:
    assert say_ago(NOW + SECOND, NOW) == "just now"
    assert say_ago(NOW - MINUTE, NOW) == "1 minute ago"
    assert say_ago(NOW - 47 * HOUR, NOW) == "1 day ago"
    assert say_time(NOW, NOW) == "00:00"
    assert say_time(NOW, NOW + DAY) == "1 Jan, 00:00"
    assert say_time(NOW - 1, NOW) == "31 Dec 2025, 23:59"


@pytest.mark.parametrize("period", Period)
@given(now=st.integers(NOW, NOW + DAY))
def test_now_is_in_the_last_bar_of_a_period(period: Period, now: int) -> None:
    bar = period.bucket_seconds * SECOND

    assert (now - period.start(now)) // bar == period.buckets - 1
    assert period.start(now) % bar == 0


FACTS = st.lists(
    st.builds(
        Fact,
        bucket=st.integers(0, 59),
        type=st.sampled_from(["track", "page", "unknown", *"abcdefghij"]),
        outcome=st.sampled_from(["written", "sent", "duplicate", "rejected", "suppressed", "failed", "new"]),
        reason=st.sampled_from(["", "bad_request", "event_not_reported"]),
        messages=st.integers(1, 1000),
    )
)


@given(FACTS)
def test_numbers_types_and_bars_add_up_to_what_came_in(facts: list[Fact]) -> None:
    everything = sum(fact.messages for fact in facts)
    series = group_by_type(facts, 60)

    assert add_up(facts).all == everything
    assert sum(each.total for each in series) == everything
    assert len(series) <= MAX_TYPES
    assert len({each.type for each in series}) == len(series)


@given(FACTS)
def test_reasons_add_up_to_what_was_rejected(facts: list[Fact]) -> None:
    totals = add_up(facts)

    assert sum(count for _, count in count_reasons(facts)) == totals.rejected + totals.failed + totals.unreported


def test_what_is_not_reported_is_not_called_rejected() -> None:
    totals = add_up([Fact(0, "deferred", "rejected", "event_not_reported", 3)])

    assert (totals.rejected, totals.unreported) == (0, 3)


def test_what_bigquery_refused_later_moves_from_accepted_to_rejected() -> None:
    facts = [
        Fact(0, "track", "written", "", 5),
        Fact(1, "track", "written", "", -1),
        Fact(1, "track", "rejected", "refused_by_bigquery", 1),
    ]

    assert (add_up(facts).accepted, add_up(facts).rejected) == (4, 1)
    assert group_by_type(facts, 2) == [Series("track", [5, 0])]


def test_calls_stand_in_their_usual_order() -> None:
    facts = [Fact(0, name, "written", "", 1) for name in ("unknown", "group", "track")]

    assert [each.type for each in group_by_type(facts, 1)] == ["track", "group", "unknown"]


@given(FACTS)
def test_a_chart_stays_in_its_box_and_no_colour_is_twice(facts: list[Fact]) -> None:
    series = group_by_type(facts, 60)
    chart = draw_chart(series, Period.HOUR, NOW)
    colours = pick_colours(series)

    assert len(set(colours) - {7}) == len([colour for colour in colours if colour != 7])
    for column in chart.columns:
        assert 0 <= column.x <= column.x + column.width <= 100
        assert all(bar.y >= -0.1 and bar.y + bar.height <= PLOT_HEIGHT + 0.1 for bar in column.bars)


def test_a_type_keeps_its_colour_whatever_stands_beside_it() -> None:
    page = Series("page", [1])

    assert pick_colours([page]) == pick_colours([Series("track", [1]), page])[1:]


@given(st.floats(0.001, 1e9))
def test_the_scale_is_not_much_higher_than_the_highest_bar(value: float) -> None:
    assert value * 0.999 <= find_top(value) <= value * 1.51


def test_the_height_of_a_bar_is_a_number_a_minute() -> None:
    """1,500 calls in 15 minutes are 100 a minute."""
    counts = [0] * 95 + [1500]
    chart = draw_chart([Series("track", counts)], Period.DAY, NOW)

    assert [tick.label for tick in chart.rates] == ["0", "50", "100"]
    assert [(bar.y, bar.height) for column in chart.columns for bar in column.bars] == [(0, PLOT_HEIGHT)]
    assert [column.title for column in chart.columns] == ["23:45: track 1,500"]


def test_hours_add_up_and_the_smallest_one_is_seen() -> None:
    traffic = fold_hours([(0, False, 10_000), (23, True, 1), (24, False, 1)], 24)

    assert (traffic.messages, traffic.rejected, sum(traffic.hours)) == (10_002, 1, 10_002)
    assert min(height for _, _, _, height in draw_spark(traffic.hours)) >= 1


def test_an_answer_is_kept_for_its_time_and_an_error_is_not() -> None:
    now = 0.0
    answers = iter([1, 2, 3])
    kept = KeptAnswers(lambda: now)

    assert [kept.get("q", 10, lambda: next(answers)) for _ in range(3)] == [1, 1, 1]
    assert kept.get("another", 10, lambda: next(answers)) == 2
    now = 10.0
    with pytest.raises(ZeroDivisionError):
        kept.get("q", 10, lambda: 1 // 0)
    assert kept.get("q", 10, lambda: next(answers)) == 3


def read_reasons() -> dict[str, str]:
    """Reason -> what to do, as docs/dead_letters.md has it, without mark-up; a link to another page is its path."""
    page = (ROOT / "docs/dead_letters.md").read_text()
    table = page.partition("## Reasons")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(?:[^|]*\|){3}([^|]*)\|$", table, re.MULTILINE)
    return {reason: plain(action) for reason, action in rows}


def plain(text: str) -> str:
    text = re.sub(r"\[[^\]]*\]\((\w+\.md)[^)]*\)", r"docs/\1", text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").strip()


def test_the_page_advises_what_the_documentation_advises() -> None:
    assert {reason.value: advise(reason).action for reason in Reason} == read_reasons()


def test_a_reason_that_is_newer_than_the_page_has_advice_too() -> None:
    assert "docs/dead_letters.md" in advise("of_tomorrow").action


def connection(kind: ConnectionKind, **settings: object) -> Connection:
    return Connection("c1", "acme", kind, "Shop", NOW, 1000, **settings)  # type: ignore[arg-type]


def test_the_snippets_of_a_connection_for_calls() -> None:
    snippets = write_snippets(connection(ConnectionKind.SEGMENT), "KEY", "https://c.example")

    assert [snippet.title for snippet in snippets] == ["curl", "Python", "Node.js", "analytics.js", "Segment webhook"]
    assert all("KEY" in snippet.text and "c.example" in snippet.text for snippet in snippets)


def test_the_url_of_a_webhook_holds_the_key_unless_it_is_signed() -> None:
    (open_hook,) = write_snippets(connection(ConnectionKind.POSTMARK), "KEY", "https://c.example/in")
    (signed,) = write_snippets(connection(ConnectionKind.SENDGRID, verification_key="k"), "KEY", "https://c.example")
    (mailgun,) = write_snippets(connection(ConnectionKind.MAILGUN, secret_kept_at=NOW), "KEY", "https://c.example")

    assert open_hook.text == "https://KEY:@c.example/in/hooks/postmark"
    assert signed.text == "https://c.example/hooks/sendgrid?connection=c1"
    assert mailgun.text == "https://c.example/hooks/mailgun?connection=c1"


def test_the_url_of_segments_webhook_holds_the_key_since_its_signature_covers_one_call_of_a_batch() -> None:
    *_, segment = write_snippets(connection(ConnectionKind.SEGMENT, secret_kept_at=NOW), "KEY", "https://c.example")

    assert segment.text == "https://KEY:@c.example/hooks/segment"
    assert "Unsigned webhooks are refused" in segment.note


@pytest.mark.parametrize("kind", ConnectionKind)
def test_the_collector_has_a_door_for_each_webhook(kind: ConnectionKind) -> None:
    *_, webhook = write_snippets(connection(kind), "KEY", "https://c.example")

    assert SENDERS[webhook.text.rpartition("/")[2]] is kind
