"""Our runner of local streams and Beam's own give the same panes of the same windows, late ones included."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.userstate import CombiningValueStateSpec
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue

from pipelines.cached_options import CachedOptions
from transforms.windows import window_by_arrival

STREAMING_RUNNER = "pipelines.local_runner.LocalStreamingRunner"
BEAMS_RUNNER = "BundleBasedDirectRunner"

_heard: list[Any] = []
_lives: Counter[str] = Counter()


class HearFn(beam.DoFn):
    def process(
        self,
        group: tuple[str, Iterable[int]],
        window: Any = beam.DoFn.WindowParam,
        timestamp: Any = beam.DoFn.TimestampParam,
    ) -> Iterator[tuple[str, int]]:
        _heard.append((group[0], sorted(group[1]), window, timestamp.micros))
        for value in group[1]:
            yield group[0], value


class NoteFn(beam.DoFn):
    def process(self, total: tuple[str, int]) -> Iterable[None]:
        _heard.append(total[1])
        return ()


class LivingFn(beam.DoFn):
    """Fails once, in the middle of a bundle."""

    TOTAL = CombiningValueStateSpec("total", beam.coders.PickleCoder(), sum)

    def setup(self) -> None:
        _lives["setup"] += 1

    def start_bundle(self) -> None:
        self._values: list[int] = []

    def process(self, keyed: tuple[str, int], total: Any = beam.DoFn.StateParam(TOTAL)) -> Iterator[tuple[str, int]]:
        if keyed[1] == 13 and not _lives["failed"]:
            _lives["failed"] += 1
            raise ValueError("once")
        self._values.append(keyed[1])
        total.add(keyed[1])
        yield keyed[0], total.read()

    def teardown(self) -> None:
        _lives["teardown"] += 1


@pytest.fixture(autouse=True)
def nothing_heard() -> None:
    _heard.clear()
    _lives.clear()


def story(latest: Sequence[tuple[str, int, int]]) -> Any:
    def add(stream: Any, *timed: tuple[str, int, int]) -> Any:
        return stream.add_elements([TimestampedValue((key, value), at) for key, value, at in timed])

    stream: Any = TestStream().advance_watermark_to(0)
    stream = add(stream, ("a", 1, 1), ("b", 2, 2), ("a", 3, 11))
    stream = add(stream, ("a", 4, 9)).advance_watermark_to(10)
    stream = add(stream, ("a", 5, 8), ("c", 6, 7), ("a", 7, 6), ("c", 8, 12))
    stream = add(stream, ("b", 9, 35)).advance_watermark_to(40)
    if latest:
        stream = add(stream, *latest)
    return stream.advance_watermark_to_infinity()


def run(runner: str, windowed: Any, latest: Sequence[tuple[str, int, int]] = ()) -> list[Any]:
    _heard.clear()
    pipeline: Any = beam.Pipeline(options=CachedOptions(streaming=True, runner=runner))
    keyed = pipeline | "Hear" >> story(latest) | "Type" >> beam.Map(lambda kv: kv).with_output_types(tuple[str, int])
    _ = (
        keyed
        | "Window" >> windowed
        | "Group" >> beam.GroupByKey()
        | "Note" >> beam.ParDo(HearFn()).with_output_types(tuple[str, int])
        | "Again" >> beam.Reshuffle()
        | "GroupAgain" >> beam.GroupByKey()
        | "NoteAgain" >> beam.ParDo(HearFn())
    )
    pipeline.run().wait_until_finish()
    return sorted(_heard, key=repr)


@pytest.mark.slow
@pytest.mark.parametrize(
    "windowed",
    [
        window_by_arrival(10),
        beam.WindowInto(FixedWindows(10)),
        beam.WindowInto(Sessions(5)),
    ],
    ids=["ours", "fixed", "sessions"],
)
def test_panes_are_those_of_beams_runner(windowed: Any) -> None:
    assert run(STREAMING_RUNNER, windowed) == run(BEAMS_RUNNER, windowed) != []


def test_what_is_late_at_the_very_end_passes_every_group() -> None:
    heard = run(STREAMING_RUNNER, window_by_arrival(10), [("b", 10, 5)])

    # Beam's own loses it between the two: a Reshuffle gives what is late the time of the end of the world.
    assert [values for key, values, _, _ in heard if key == "b" and 10 in values] == [[10], [10]]


def test_a_dofn_lives_through_bundles_and_is_replaced_after_a_failure() -> None:
    stream: Any = TestStream().advance_watermark_to(0)
    for values in ((1, 2), (3, 13), (4,)):
        stream = stream.add_elements([("a", value) for value in values])
    pipeline: Any = beam.Pipeline(options=CachedOptions(streaming=True, runner=STREAMING_RUNNER))
    _ = (
        pipeline
        | "Hear" >> stream.advance_watermark_to_infinity()
        | "Type" >> beam.Map(lambda kv: kv).with_output_types(tuple[str, int])
        | "Live" >> beam.ParDo(LivingFn()).with_output_types(tuple[str, int])
        | "Note" >> beam.ParDo(NoteFn())
    )

    pipeline.run().wait_until_finish()

    assert _heard == [1, 3, 6, 19, 23]  # the failed try has left nothing behind
    assert _lives == {"setup": 2, "failed": 1, "teardown": 2}
