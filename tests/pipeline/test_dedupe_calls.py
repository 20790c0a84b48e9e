"""Each message once: across windows, for the horizon, in any mode."""

from dataclasses import replace
from typing import Any

import pytest
from apache_beam.testing.test_stream import TestStream

from tests.factories import line_of
from tests.pipeline.stories import STREAMING, arrive, read_lines, tell
from transforms import dedupe_calls, parse_calls

pytestmark = pytest.mark.usefixtures("state")

TEN_MINUTES = replace(STREAMING, dedupe_horizon_seconds=600)


def test_a_repeat_in_the_same_bundle_is_a_duplicate() -> None:
    story = TestStream().add_elements([arrive(1, messageId="m1"), arrive(2, messageId="m1")])

    told = tell(story.advance_watermark_to_infinity())

    assert told.ids() == ["m1"]
    assert told.counts == {("written", ""): 1, ("duplicate", ""): 1}


def test_a_repeat_in_a_later_window_is_a_duplicate() -> None:
    story = (
        TestStream()
        .add_elements([arrive(1, messageId="m1"), arrive(2, messageId="m2")])
        .advance_watermark_to(300)
        .add_elements([arrive(301, messageId="m1"), arrive(302, messageId="m3")])
        .advance_watermark_to_infinity()
    )

    told = tell(story, TEN_MINUTES)

    assert told.ids() == ["m1", "m2", "m3"]
    assert told.counts[("duplicate", "")] == 1


def test_a_repeat_after_the_horizon_is_kept_again() -> None:
    story = (
        TestStream()
        .add_elements([arrive(1, messageId="m1")])
        .advance_watermark_to(700)
        .add_elements([arrive(701, messageId="m1")])
        .advance_watermark_to_infinity()
    )

    assert tell(story, TEN_MINUTES).ids() == ["m1", "m1"]


def test_the_horizon_holds_to_the_second_although_state_is_forgotten_later() -> None:
    story = (
        TestStream()
        .add_elements([arrive(100, messageId="m1")])
        .advance_watermark_to(650)
        .add_elements([arrive(699, messageId="m1"), arrive(700, messageId="m1")])
        .advance_watermark_to_infinity()
    )

    assert tell(story, TEN_MINUTES).counts == {("written", ""): 2, ("duplicate", ""): 1}


@pytest.mark.slow
def test_what_is_still_within_the_horizon_survives_the_forgetting_of_what_is_not() -> None:
    # both ids fall into one shard only if the shard is the same, so many ids: some shard holds an old and a new one
    old = [arrive(1, messageId=f"old-{index}") for index in range(100)]
    young = [arrive(590, messageId=f"young-{index}") for index in range(100)]
    again = [arrive(1100, messageId=f"young-{index}") for index in range(100)]
    story = (
        TestStream()
        .add_elements(old)
        .advance_watermark_to(580)
        .add_elements(young)
        .advance_watermark_to(1050)
        .add_elements(again)
        .advance_watermark_to_infinity()
    )

    told = tell(story, TEN_MINUTES)

    assert told.counts == {("written", ""): 200, ("duplicate", ""): 100}


def test_a_repeat_that_comes_behind_the_watermark_is_a_duplicate_too() -> None:
    story = (
        TestStream()
        .add_elements([arrive(100, messageId="m1")])
        .advance_watermark_to(200)
        .add_elements([arrive(50, messageId="m1"), arrive(51, messageId="m2")])
        .advance_watermark_to_infinity()
    )

    told = tell(story, TEN_MINUTES)

    assert told.ids() == ["m1", "m2"]


@pytest.mark.slow
def test_workspaces_do_not_share_message_ids() -> None:
    one = arrive(1, messageId="m1")
    other = arrive(2, messageId="m1")
    other.value.attributes = {"workspace_id": "other"}

    told = tell(TestStream().add_elements([one, other]).advance_watermark_to_infinity())

    assert told.ids() == ["m1", "m1"]


def test_the_replay_of_a_dead_letter_is_no_duplicate_of_it_and_is_sent_once() -> None:
    first, replayed, again = (arrive(at, messageId="m1") for at in (1, 2, 3))
    replayed.value.attributes = again.value.attributes = {"replay": "2026-01-01T00:00:00+00:00"}

    told = tell(TestStream().add_elements([first, replayed, again]).advance_watermark_to_infinity())

    assert told.counts == {("written", ""): 2, ("duplicate", ""): 1}


@pytest.mark.slow
def test_a_call_without_message_id_is_known_by_its_content() -> None:
    story = TestStream().add_elements(
        [arrive(1, sentAt="2026-01-01T00:00:00Z"), arrive(2, sentAt="2026-01-02T00:00:00Z")]
    )

    assert tell(story.advance_watermark_to_infinity()).counts == {("written", ""): 1, ("duplicate", ""): 1}


def test_bounded_input_keeps_what_was_received_first() -> None:
    lines = [
        b'{"type":"track","event":"Late","userId":"u1","messageId":"m1","receivedAt":"2026-01-01T10:00:00Z"}',
        b'{"type":"track","event":"Early","userId":"u1","messageId":"m1","receivedAt":"2026-01-01T09:00:00Z"}',
        b'{"type":"track","event":"Next day","userId":"u1","messageId":"m1","receivedAt":"2026-01-02T09:00:00Z"}',
    ]

    told = read_lines(lines)

    assert sorted(row["event_text"] for row in told.table("activities")) == ["Early", "Next day"]
    assert told.counts[("duplicate", "")] == 1


@pytest.mark.slow
def test_of_copies_that_arrive_at_once_the_same_one_is_kept_in_whatever_order_they_stand() -> None:
    fields: dict[str, dict[str, Any]] = {
        "userId": {"userId": "u2"},
        "anonymousId": {"anonymousId": "a1"},
        "event": {"event": "Other"},
        "properties": {"properties": {"revenue": 1}},
        "context": {"context": {"ip": "10.0.0.1"}},
        "sentAt": {"sentAt": "2025-12-31T00:00:00Z"},
        "name": {"type": "page", "name": "Other"},
    }
    lines = [line_of(**{"messageId": field, **other}) for field, changed in fields.items() for other in ({}, changed)]

    told, reversed_told = read_lines(lines), read_lines(lines[::-1])

    assert told.counts == reversed_told.counts == {("written", ""): len(fields), ("duplicate", ""): len(fields)}
    assert sorted(map(repr, told.table("activities"))) == sorted(map(repr, reversed_told.table("activities")))


@pytest.mark.parametrize(("blocks_a_group", "groups_at_hand"), [(1, 1), (2, 3), (64, 16)])
def test_in_files_a_repeat_is_found_in_whatever_block_it_stands(
    monkeypatch: pytest.MonkeyPatch, blocks_a_group: int, groups_at_hand: int
) -> None:
    monkeypatch.setattr(parse_calls, "BLOCKS_A_GROUP", blocks_a_group)
    monkeypatch.setattr(dedupe_calls, "GROUPS_AT_HAND", groups_at_hand)
    ids = [f"m{number:02}" for number in range(50)]

    told = read_lines([line_of("identify", messageId=one) for one in (*ids, *ids[::-1], *ids)], blocks=9)

    assert told.ids("identifies") == ids
    assert told.counts == {("written", ""): 50, ("duplicate", ""): 100}


def test_a_repeat_in_files_tells_nothing_of_who_is_who() -> None:
    told = read_lines(
        [
            line_of("identify", receivedAt="2026-01-01T00:00:00Z"),
            line_of("identify", receivedAt="2026-01-01T00:00:01Z", traits={"email": "bob@example.com"}),
        ]
    )

    assert {row["identifier"] for row in told.table("identities")} == {"u1", "ann@example.com"}
