"""Each call once: over bundles, with news of who is who in between, within the horizon and after it."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.email_logs import LogBlock
from tests.pipeline.email_stories import STREAMING, arrive, log_line, news, send, send_blocks, send_files
from tests.unit.email_histories import Block, logs
from tests.unit.email_oracle import EmailOracle
from transforms import pack_lines, parse_email_logs
from transforms.logic.mark_first_events import PersonHistories

DAY = 24 * 3600
TEN_MINUTES = replace(STREAMING, dedupe_horizon_seconds=600)
ONE_DAY = replace(TEN_MINUTES, unique_ttl_days=1)
DERIVED = ("Email Unique Opens", "Unique Link Click", "Unique Link Click per Unique Open")

cached_and_rebuilt = pytest.mark.usefixtures("state")


def bundles(*each: list[Any], watermarks: tuple[int, ...] = ()) -> TestStream:
    """Each list arrives by itself; before all but the first the watermark is moved, if there is one."""
    story: TestStream = TestStream().add_elements(each[0])
    for number, elements in enumerate(each[1:]):
        if number < len(watermarks):
            story = story.advance_watermark_to(watermarks[number])
        story = story.add_elements(elements)
    ended: TestStream = story.advance_watermark_to_infinity()
    return ended


@cached_and_rebuilt
def test_a_click_that_comes_before_the_open_is_rewarded_with_it_and_not_with_that_of_a_machine() -> None:
    clicked = log_line("l1", "clicked", email_link_url="https://x/1")
    by_machine = log_line("l2", machine_open=True)

    sent = send(bundles([arrive(1, clicked)], [arrive(2, by_machine)], [arrive(3, log_line("l3"))]))

    assert sent.kinds() == {"Link Clicked": 1, "Email Opened": 2, **dict.fromkeys(DERIVED, 1)}
    assert [call["context"].get("machine_open", False) for call in sent.of("Email Opened")] == [True, False]
    (reward,) = sent.of("Unique Link Click per Unique Open")
    assert reward["properties"]["email_link_url"] == "https://x/1"
    assert sent.calls.index(reward) > sent.calls.index(sent.of("Email Opened")[1])


@pytest.mark.slow
@cached_and_rebuilt
def test_a_line_that_comes_again_is_no_second_call() -> None:
    first = [arrive(1, log_line("l1")), arrive(2, log_line("l1"))]

    sent = send(bundles(first, [arrive(300, log_line("l1"))], watermarks=(250,)), TEN_MINUTES)

    assert sent.kinds() == {"Email Opened": 1, "Email Unique Opens": 1}


@cached_and_rebuilt
def test_the_horizon_forgets_lines_and_no_first_events() -> None:
    sent = send(
        bundles([arrive(1, log_line("l1"))], [arrive(1001, log_line("l1"))], watermarks=(1000,)),
        TEN_MINUTES,
    )

    assert sent.kinds() == {"Email Opened": 2, "Email Unique Opens": 1}


@cached_and_rebuilt
def test_the_time_to_live_forgets_first_events_and_no_identifications() -> None:
    """The job ends, too: what has nothing to forget sets no timer."""
    opened = {"user_id": "u1", "account_id": "acme"}
    story = bundles(
        [arrive(1, log_line("l1", **opened))],
        [arrive(DAY // 2, log_line("l2", **opened))],
        [arrive(2 * DAY, log_line("l3", **opened))],
        watermarks=(DAY // 2, 2 * DAY),
    )

    assert send(story, ONE_DAY).kinds() == {"identify": 1, "group": 1, "Email Opened": 3, "Email Unique Opens": 2}


@pytest.mark.slow
@cached_and_rebuilt
def test_the_time_to_live_also_forgets_what_would_move_along() -> None:
    long_horizon = replace(ONE_DAY, dedupe_horizon_seconds=4 * DAY)
    story = bundles(
        [arrive(1, log_line("l1"))],
        [arrive(3 * DAY, news("P1", 1, email="a@x"))],
        [arrive(3 * DAY, log_line("l2"))],
        watermarks=(3 * DAY,),
    )

    assert send(story, long_horizon).kinds() == {"Email Opened": 2, "Email Unique Opens": 2}


def test_what_files_tell_a_stream_does_not_begin_with_the_beginning_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that is set by the time of an element of files, Beam's earliest, would fire for 292,000 years."""
    forgotten = []
    forget = PersonHistories.forget_before

    def count(histories: PersonHistories, micros: int) -> bytes:
        forgotten.append(micros)
        assert len(forgotten) < 20
        return forget(histories, micros)

    monkeypatch.setattr(PersonHistories, "forget_before", count)
    told = TimestampedValue(arrive(2, news("P1", 1, email="a@x")).value, MIN_TIMESTAMP)

    sent = send(bundles([arrive(1, log_line("l1"))], [told], watermarks=(1,)), ONE_DAY)

    assert sent.kinds() == {"Email Opened": 1, "Email Unique Opens": 1}


@cached_and_rebuilt
def test_what_was_unique_stays_so_when_the_address_becomes_another_persons() -> None:
    clicked = log_line("l2", "clicked", email_link_url="https://x/1")
    story = bundles(
        [arrive(1, log_line("l1"))],
        [arrive(2, news("P1", 1, email="a@x"))],
        [arrive(3, clicked), arrive(4, log_line("l3"))],
        [arrive(5, news("P2", 2, email="a@x"))],
        [arrive(6, {**clicked, "log_id": "l4"}), arrive(7, log_line("l5"))],
    )

    sent = send(story)

    assert sent.kinds() == {"Email Opened": 3, "Link Clicked": 2, **dict.fromkeys(DERIVED, 1)}
    assert sent.of("Unique Link Click")[0]["anonymousId"] == "P1"
    assert {call["anonymousId"] for call in sent.calls[-2:]} == {"P2"}


@cached_and_rebuilt
def test_a_person_is_identified_when_the_user_becomes_known_and_not_again() -> None:
    story = bundles(
        [arrive(1, news("P1", 1, email="a@x"))],
        [arrive(2, log_line("l1"))],
        [arrive(3, news("P1", 3, user_id="u1"))],
        [arrive(4, log_line("l2")), arrive(5, log_line("l3"))],
    )

    sent = send(story)

    (identified,) = sent.of("identify")
    assert (identified["userId"], identified["anonymousId"], identified["traits"]) == ("u1", "P1", {"email": "a@x"})
    assert [call.get("userId") for call in sent.of("Email Opened")] == [None, "u1", "u1"]
    assert sent.calls.index(identified) < min(sent.calls.index(call) for call in sent.of("Email Opened")[1:])


@cached_and_rebuilt
def test_a_user_that_is_known_before_the_first_email_is_identified_with_it() -> None:
    sent = send(
        bundles(
            [arrive(1, news("P1", 1, user_id="u1")), arrive(2, news("P1", 2, email="a@x"))],
            [arrive(3, log_line("l1"))],
        )
    )

    assert [call["type"] for call in sent.calls] == ["identify", "track", "track"]
    assert {call["userId"] for call in sent.calls} == {"u1"}


@pytest.mark.slow
@cached_and_rebuilt
def test_what_comes_behind_the_watermark_is_sent() -> None:
    late = [arrive(5, log_line("l2")), arrive(6, log_line("l1"))]

    sent = send(bundles([arrive(900, log_line("l1"))], late, watermarks=(1000,)), TEN_MINUTES)

    assert sent.kinds() == {"Email Opened": 2, "Email Unique Opens": 1}


def test_a_bundle_that_fails_is_done_again_and_says_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever had been learned when it failed has been forgotten."""
    advance, failures = PersonHistories.advance, ["the third time"]
    times = []

    def fail_once(self: PersonHistories, block: Any) -> Any:
        calls = advance(self, block)
        times.append(block)
        if len(times) == 3:
            raise RuntimeError(failures.pop())
        return calls

    monkeypatch.setattr(PersonHistories, "advance", fail_once)
    lines = [log_line("l1"), log_line("l2"), log_line("l3", "clicked", user_id="u1"), log_line("l4")]

    sent = send(bundles(*([arrive(at, one)] for at, one in enumerate(lines))))

    assert failures == []
    assert sent.kinds() == {"Email Opened": 3, "Link Clicked": 1, "identify": 1, **dict.fromkeys(DERIVED, 1)}
    assert len(set(sent.ids())) == len(sent.ids())


def test_files_say_what_happened_in_the_order_of_time() -> None:
    lines = [
        log_line("l3", at="1970-01-01T00:00:30Z"),
        log_line("l2", "clicked", at="1970-01-01T00:00:20Z"),
        log_line("l1", at="1970-01-01T00:00:10Z"),
        log_line("l1", at="1970-01-01T00:00:10Z"),
    ]

    sent = send_files(lines, [news("P1", 25, user_id="u1"), news("P1", 40, email="a@x")])

    assert [(call.get("event", "identify"), call["timestamp"][17:19], call.get("userId")) for call in sent.calls] == [
        ("Email Opened", "10", None),
        ("Email Unique Opens", "10", None),
        ("Link Clicked", "20", None),
        ("Unique Link Click", "20", None),
        ("Unique Link Click per Unique Open", "20", None),
        ("identify", "25", "u1"),
        ("Email Opened", "30", "u1"),
    ]
    assert {call["anonymousId"] for call in sent.calls[:6]} == {"P1"}


@pytest.mark.slow
def test_files_need_no_news() -> None:
    sent = send_files([log_line("l1", person_id="P1"), log_line("l1", person_id="P1"), log_line("l2", email="b@x")])

    assert sent.kinds() == {"Email Opened": 2, "Email Unique Opens": 2}


def test_a_click_can_stand_for_an_open() -> None:
    implied = replace(STREAMING, implied_open_on_click=True)

    sent = send(bundles([arrive(1, log_line("l1", "clicked"))], [arrive(2, log_line("l2"))]), implied)

    assert sent.kinds() == {"Link Clicked": 1, "Email Opened": 1, **dict.fromkeys(DERIVED, 1)}
    assert sent.of("Email Unique Opens")[0]["context"]["implied_open"]


def texts_of(calls: Iterable[Any]) -> list[str]:
    return sorted(json.dumps(call, sort_keys=True) for call in calls)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(logs(), st.booleans())
def test_the_pipeline_over_files_says_what_the_oracle_says(blocks: list[Block], implied: bool) -> None:
    oracle = EmailOracle(implied)
    expected = oracle.read([one for block in blocks for one in block.lines], [one for b in blocks for one in b.updates])

    sent = send_blocks(as_log_blocks(blocks), replace(STREAMING, implied_open_on_click=implied), streaming=False)

    assert texts_of(sent.calls) == texts_of(one.call for one in expected)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(logs(), st.booleans())
def test_the_pipeline_over_a_stream_says_what_the_oracle_says(blocks: list[Block], implied: bool) -> None:
    oracle = EmailOracle(implied)
    expected = [one for block in blocks for one in oracle.hear(*block)]
    one_shard = replace(STREAMING, implied_open_on_click=implied, recipient_shards=1)

    sent = send_blocks(as_log_blocks(blocks), one_shard, streaming=True)

    assert texts_of(sent.calls) == texts_of(one.call for one in expected)


def as_log_blocks(blocks: list[Block]) -> list[LogBlock]:
    return [LogBlock(list(block.lines), list(block.updates)) for block in blocks]


def test_no_line_is_lost_between_packs_and_blocks_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [log_line(f"l{number % 30}", email=f"{number % 30}@x.example") for number in range(40)]
    at_once = send_files(lines)

    monkeypatch.setattr(pack_lines, "WAITING_BYTES", 300)
    monkeypatch.setattr(parse_email_logs, "MESSAGES_AT_ONCE", 2)
    in_small_packs = send_files(lines, settings=replace(STREAMING, recipient_shards=2))

    assert len(at_once.of("Email Opened")) == 30
    assert sorted(in_small_packs.ids()) == sorted(at_once.ids())


def test_bad_lines_at_the_beginning_of_a_large_block_stop_nothing() -> None:
    lines = [log_line(f"l{number}", event="nonsense" if number < 1_200 else "opened") for number in range(2_000)]

    sent = send_files(lines, blocks=1)

    assert len(sent.of("Email Opened")) == 800
