"""Messages of a subscription in blocks: all of them, each block of one window, none larger than it may be."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pipelines.read import BLOCK_MESSAGES, gather_blocks
from schemas.messages import Message

SECOND = 1_000_000


def gather(times: Sequence[int], window_seconds: int) -> list[tuple[int, list[int | None]]]:
    messages = [Message(b"", {}, at) for at in times]
    blocks = gather_blocks(messages, "projects/p/subscriptions/s", window_seconds)
    return [(earliest, [message.published_at for message in block.messages]) for earliest, block in blocks]


@given(st.lists(st.integers(0, 50 * SECOND)), st.integers(1, 12))
def test_a_block_has_messages_of_one_window_and_its_earliest_time(times: list[int], window_seconds: int) -> None:
    blocks = gather(times, window_seconds)

    assert sorted(at for _, block in blocks for at in block if at is not None) == sorted(times)
    for earliest, block in blocks:
        known = [at for at in block if at is not None]
        assert earliest == min(known)
        assert len({at // (window_seconds * SECOND) for at in known}) == 1


def test_messages_of_a_window_keep_their_order_and_windows_follow_each_other() -> None:
    blocks = gather([12 * SECOND, 3 * SECOND, 11 * SECOND, 2 * SECOND], window_seconds=10)

    assert blocks == [
        (2 * SECOND, [3 * SECOND, 2 * SECOND]),
        (11 * SECOND, [12 * SECOND, 11 * SECOND]),
    ]


def test_where_nothing_waits_for_a_window_there_is_one_block() -> None:
    assert gather([12 * SECOND, 3 * SECOND], window_seconds=0) == [(3 * SECOND, [12 * SECOND, 3 * SECOND])]


def test_a_full_block_goes_before_the_rest_has_come() -> None:
    sizes = [len(block) for _, block in gather([0] * (2 * BLOCK_MESSAGES + 1), window_seconds=10)]

    assert sizes == [BLOCK_MESSAGES, BLOCK_MESSAGES, 1]
