from apache_beam.transforms.window import IntervalWindow
from apache_beam.utils.timestamp import Timestamp

from schemas.calls import CallBlock, SegmentCall
from transforms.gather_calls import BLOCK_CALLS, GatherCallsFn

FIRST, SECOND = IntervalWindow(0, 10), IntervalWindow(10, 20)


def block(*message_ids: str) -> CallBlock:
    return CallBlock([SegmentCall("w", message_id, "track", 0, 0, 0) for message_id in message_ids])


def test_blocks_of_a_window_become_one_at_the_earliest_time() -> None:
    fn = GatherCallsFn()
    fn.start_bundle()

    at_once = [
        *fn.process(block("a", "b"), Timestamp(2), FIRST),
        *fn.process(block("c"), Timestamp(12), SECOND),
        *fn.process(block("d"), Timestamp(3), FIRST),
    ]
    rest = list(fn.finish_bundle())

    assert at_once == []
    gathered = {each.windows[0]: ([call.message_id for call in each.value.calls], each.timestamp) for each in rest}
    assert gathered == {FIRST: (["a", "b", "d"], Timestamp(2)), SECOND: (["c"], Timestamp(12))}


def test_a_full_block_goes_on_at_once_and_a_bundle_begins_with_nothing() -> None:
    fn = GatherCallsFn()
    fn.start_bundle()
    names = [f"m{number}" for number in range(BLOCK_CALLS)]

    full = [*fn.process(block(*names[:-1]), Timestamp(1), FIRST), *fn.process(block(names[-1]), Timestamp(2), FIRST)]
    rest = list(fn.finish_bundle())
    list(fn.process(block("left"), Timestamp(1), FIRST))
    fn.start_bundle()

    assert [[call.message_id for call in each.calls] for each in full] == [names]
    assert rest == []
    assert list(fn.finish_bundle()) == []
