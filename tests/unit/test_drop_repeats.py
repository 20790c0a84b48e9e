from collections.abc import Iterable, Sequence
from random import Random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.calls import Caller, SegmentCall
from tests.factories import NOW, call
from tests.strategies import repeated_calls
from transforms.logic.drop_repeats import SeenMessages, find_repeats, message_key, pack_keys

HORIZON = 10

many = settings(max_examples=200)


def keep_slowly(calls: Iterable[SegmentCall]) -> list[bool]:
    """Whether each call is a repeat: of any call before it that was kept, whichever arrived first."""
    kept: list[SegmentCall] = []
    verdicts = []
    for one in calls:
        is_repeat = any(
            (other.workspace_id, other.message_id) == (one.workspace_id, one.message_id)
            and abs(other.arrived_at - one.arrived_at) < HORIZON
            for other in kept
        )
        verdicts.append(is_repeat)
        if not is_repeat:
            kept.append(one)
    return verdicts


def drop_repeats(calls: Sequence[SegmentCall], horizon_micros: int) -> list[tuple[SegmentCall, bool]]:
    """Each call, and whether it is a repeat."""
    for one in calls:
        one.checksum = crc32(repr((one.user_id, one.event)).encode())
    repeats = find_repeats([(b"block", bytes(keys)) for keys in pack_keys(calls, 1).values()], horizon_micros)
    return [(one, position in repeats.get(b"block", ())) for position, one in enumerate(calls)]


def seen_from(*logs: bytes) -> SeenMessages:
    seen = SeenMessages()
    seen.replay(logs)
    return seen


def text_of(calls: Iterable[Caller]) -> list[str]:
    return sorted(map(repr, calls))


# Bounded


@many
@given(repeated_calls(span=40))
def test_in_the_order_of_arrival_what_the_oracle_keeps_is_kept(calls: list[SegmentCall]) -> None:
    by_arrival = sorted(calls, key=lambda one: one.arrived_at)

    def about(one: SegmentCall) -> tuple[str, str, int]:
        return one.workspace_id, one.message_id, one.arrived_at

    verdicts = list(drop_repeats(calls, HORIZON))
    expected = zip(map(about, by_arrival), keep_slowly(by_arrival), strict=True)

    assert text_of(one for one, _ in verdicts) == text_of(calls)
    assert sorted((about(one), is_repeat) for one, is_repeat in verdicts) == sorted(expected)


@pytest.mark.slow
@many
@given(repeated_calls(span=40))
def test_the_shuffle_does_not_decide_which_call_is_kept(calls: list[SegmentCall]) -> None:
    def kept(arrived: list[SegmentCall]) -> list[str]:
        return text_of(one for one, is_repeat in drop_repeats(arrived, HORIZON) if not is_repeat)

    assert kept(calls[::-1]) == kept(calls)
    assert kept(calls[1::2] + calls[::2]) == kept(calls)


def test_a_repeat_within_the_horizon_is_dropped_and_one_at_it_is_kept() -> None:
    calls = [call(arrived_at=at) for at in (0, HORIZON - 1, HORIZON)]

    assert [(one.arrived_at, is_repeat) for one, is_repeat in drop_repeats(calls, HORIZON)] == [
        (0, False),
        (HORIZON - 1, True),
        (HORIZON, False),
    ]


@pytest.mark.parametrize("other", [{"message_id": "m2"}, {"workspace_id": "w2"}])
def test_another_message_or_workspace_is_no_repeat(other: dict[str, Any]) -> None:
    calls = [call(), call(**other)]

    assert [is_repeat for _, is_repeat in drop_repeats(calls, HORIZON)] == [False, False]
    assert SeenMessages().keep_new(calls, HORIZON)[0] == calls


def test_the_event_time_does_not_matter() -> None:
    calls = [call(timestamp=0), call(timestamp=NOW)]

    assert [is_repeat for _, is_repeat in drop_repeats(calls, HORIZON)] == [False, True]
    assert len(SeenMessages().keep_new(calls, HORIZON)[1]) == 1


@many
@given(repeated_calls(span=40), st.integers(1, 4), st.integers(1, 3), st.randoms())
def test_the_repeats_of_all_blocks_and_shards_are_those_that_there_are_without_any(
    calls: list[SegmentCall], size: int, shards: int, random: Random
) -> None:
    repeats = [one for one, is_repeat in drop_repeats(calls, HORIZON) if is_repeat]
    by_shard: dict[int, list[tuple[bytes, bytes]]] = {}
    for start in range(0, len(calls), size):
        for shard, keys in pack_keys(calls[start : start + size], shards).items():
            by_shard.setdefault(shard, []).append((b"%d" % start, bytes(keys)))

    found = [
        calls[int(block_id) + row]
        for blocks in by_shard.values()
        for block_id, rows in find_repeats(random.sample(blocks, len(blocks)), HORIZON).items()
        for row in rows
    ]

    assert text_of(found) == text_of(repeats)


def test_the_keys_of_a_call_are_40_bytes() -> None:
    calls = [call("é" * 100, workspace_id="w" * 1000), call(checksum=2**32 - 1)]

    assert sum(map(len, pack_keys(calls, 32).values())) == 80


# Unbounded


@many
@given(repeated_calls(span=40), st.integers(0, 12), st.integers(0, 12))
def test_what_was_seen_is_remembered_over_any_blocks(calls: list[SegmentCall], one: int, other: int) -> None:
    """Whether the memory is kept or rebuilt from the log, and in whatever order the calls arrive."""
    first, second = sorted((one, other))
    blocks = [calls[:first], calls[first:second], calls[second:]]
    seen, log, verdicts = SeenMessages(), list[bytes](), list[bool]()
    for block in blocks:
        rebuilt = seen_from(*log)
        kept, repeats, record = seen.keep_new(block, HORIZON)

        assert rebuilt.keep_new(block, HORIZON) == (kept, repeats, record)
        assert text_of(kept + repeats) == text_of(block)
        assert bool(record) == bool(kept)

        dropped = {id(repeat) for repeat in repeats}
        verdicts += [id(one) in dropped for one in block]
        log.append(record)

    assert verdicts == keep_slowly(calls)
    assert len(seen_from(*log)) == len(seen)


@many
@given(repeated_calls(span=40), repeated_calls(span=40), st.integers(NOW, NOW + 41))
def test_only_what_arrived_before_is_forgotten(
    calls: list[SegmentCall], later: list[SegmentCall], forgotten_before: int
) -> None:
    seen = SeenMessages()
    kept = seen.keep_new(calls, HORIZON)[0]
    rest = seen.forget_before(forgotten_before)
    remembered = [one for one in kept if one.arrived_at >= forgotten_before]

    assert len(seen) == len({message_key(one) for one in remembered})
    assert sorted(seen_from(rest).forget_before(0)) == sorted(rest)

    expected = keep_slowly([*remembered, *later])[len(remembered) :]
    for memory in (seen, seen_from(rest)):
        again = memory.keep_new(later, HORIZON)[1]

        assert [any(repeat is one for repeat in again) for one in later] == expected


def test_a_message_that_comes_again_before_what_was_kept_is_a_repeat_too() -> None:
    seen = SeenMessages()
    seen.keep_new([call(arrived_at=100)], HORIZON)

    assert seen.keep_new([call(arrived_at=95)], HORIZON)[0] == []


def test_each_time_that_a_message_was_kept_is_remembered() -> None:
    """Pub/Sub delivers the first one again, after the second one was kept a horizon later."""
    seen = SeenMessages()
    seen.keep_new([call(arrived_at=0), call(arrived_at=100)], HORIZON)

    assert seen.keep_new([call(arrived_at=0)], HORIZON)[0] == []


def test_nothing_new_leaves_no_log() -> None:
    seen = SeenMessages()
    seen.keep_new([call()], HORIZON)

    assert seen.keep_new([call()], HORIZON)[2] == b""
    assert seen_from().forget_before(NOW) == b""


def test_a_message_costs_24_bytes_of_log() -> None:
    assert len(SeenMessages().keep_new([call("é" * 100, workspace_id="w" * 1000)], HORIZON)[2]) == 24


def test_the_key_of_a_message_never_changes() -> None:
    """State of running jobs is made of it."""
    assert message_key(call("m1", workspace_id="w1")).hex() == "5d5706f6f2c6bcd859a89af79d8cd8f4"
