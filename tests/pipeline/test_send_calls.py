"""Calls to a server of this machine, by real runners: what arrives, what comes back, and what a failure costs."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal import pickler
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue

from pipelines import send_calls
from pipelines.cached_options import CachedOptions
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from pipelines.segment_api import SegmentApi
from pipelines.send_calls import SendCalls
from pipelines.write_key import SEGMENT_WRITE_KEY, WriteKeySource
from schemas.calls import MAX_CALL_BYTES
from schemas.outgoing_calls import OutgoingBlock, OutgoingCall
from schemas.rejections import DeadLetter, LetterBlock
from tests.factories import outgoing
from tests.misbehaving_segment import WRITE_KEY, Answer, MisbehavingSegment
from transforms.logic.outgoing_blocks import join_block

COUNTERS = ("delivered", "refused", "requests", "retries", "too_large")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingSegment]:
    monkeypatch.setenv(SEGMENT_WRITE_KEY, WRITE_KEY)
    with MisbehavingSegment() as server:
        yield server
    assert server.faults == []


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_calls, "SegmentApi", partial(SegmentApi, sleep=lambda seconds: None))


def call(number: int, padding: int = 0) -> OutgoingCall:
    body = {"type": "track", "messageId": f"m{number}", "event": "Opened", "properties": {"number": number}}
    if padding:
        body["context"] = {"padding": "x" * padding}
    return outgoing(json.dumps(body).encode(), workspace_id=f"w{number % 2}")


def block(*numbers: int) -> OutgoingBlock:
    return join_block(call(number) for number in numbers)


def blocks(count: int, size: int) -> list[OutgoingBlock]:
    return [block(*range(first, min(first + size, count))) for first in range(0, count, size)]


class _InOneBundleFn(beam.DoFn):
    def __init__(self, some: list[OutgoingBlock]) -> None:
        self._blocks = some

    def process(self, element: Any) -> Iterator[OutgoingBlock]:
        yield from self._blocks


_LETTERS: list[tuple[DeadLetter, float, Any]] = []


class _KeepFn(beam.DoFn):
    def process(
        self, block: LetterBlock, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> None:
        _LETTERS.extend((letter, float(timestamp), window) for letter in block.letters)


def run(
    some: list[OutgoingBlock], endpoint: str, percent: float = 100, source: WriteKeySource | None = None
) -> tuple[list[DeadLetter], dict[str, int]]:
    """The dead letters of one bundle, and the counters."""
    _LETTERS.clear()
    pipeline = _TestPipeline(options=CachedOptions(runner=FNAPI_RUNNER))
    refused = (
        pipeline
        | beam.Create([None])
        | beam.ParDo(_InOneBundleFn(some)).with_output_types(OutgoingBlock)
        | SendCalls(endpoint, source or WriteKeySource(), percent)
    )
    _ = refused | beam.ParDo(_KeepFn())
    result = pipeline.run()
    result.wait_until_finish()
    found = {counter.key.metric.name: counter.committed for counter in result.metrics().query()["counters"]}
    return [letter for letter, _, _ in _LETTERS], {name: found.get(name, 0) for name in COUNTERS}


def counts(**given: int) -> dict[str, int]:
    return dict.fromkeys(COUNTERS, 0) | given


def test_requests_fill_up_over_the_blocks_of_a_bundle_in_their_order(segment: MisbehavingSegment) -> None:
    letters, counters = run(blocks(6_000, 7), segment.url)

    assert letters == []
    assert segment.accepted_ids == [f"m{number}" for number in range(6_000)]
    assert [len(batch) for batch in segment.batches] == [2_500, 2_500, 1_000]
    assert segment.received[0].headers["user-agent"].startswith("segment-warehouse/0.1.0")
    assert counters == counts(delivered=6_000, requests=3)


def test_what_is_refused_comes_back_and_the_rest_arrives(segment: MisbehavingSegment) -> None:
    too_large = call(3, padding=MAX_CALL_BYTES)
    largest = call(4, padding=MAX_CALL_BYTES - len(call(4, padding=1).payload) + 1)
    segment.script = iter([Answer(503)])
    segment.refuses = lambda received: received["messageId"] == "m1"
    before = time.time_ns() // 1000

    letters, counters = run(
        [block(0, 1, 2), join_block([too_large, largest]), block(), block(5)],
        segment.url + "/v1/batch/",
    )

    assert len(largest.payload) == MAX_CALL_BYTES
    assert segment.accepted_ids == ["m0", "m2", "m4", "m5"]
    detail = f"{len(too_large.payload):,} bytes; a call may have 32,768"
    words = 'HTTP 400: {"success": false, "message": "malformed call"}'
    common: dict[str, Any] = {"type": "track", "source": ""}
    times = [letter.rejected_at for letter in letters]
    assert letters == [
        DeadLetter(too_large.payload, "SendCalls", "too_large", detail, times[0], "w1", message_id="m3", **common),
        DeadLetter(
            call(1).payload, "SendCalls", "refused_by_segment", words, times[1], "w1", message_id="m1", **common
        ),
    ]
    assert all(before <= at <= time.time_ns() // 1000 for at in times)
    assert counters == counts(delivered=4, refused=1, too_large=1, requests=6, retries=1)


def test_a_worker_without_a_key_says_what_to_do(segment: MisbehavingSegment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEGMENT_WRITE_KEY)

    with pytest.raises(RuntimeError, match="workers elsewhere, which do not have the launcher's environment"):
        run([block(1)], segment.url)

    assert segment.received == []


def test_neither_the_key_nor_a_connection_travels(segment: MisbehavingSegment) -> None:
    pipeline = beam.Pipeline(options=CachedOptions(runner=FNAPI_RUNNER))
    _ = pipeline | beam.Create([block(1)]) | SendCalls(segment.url, WriteKeySource())
    text = str(pipeline.to_runner_api()).encode() + pickler.dumps(
        SendCalls(segment.url, WriteKeySource()), use_zlib=False
    )

    assert WRITE_KEY.encode() not in text
    assert pickle.loads(pickle.dumps(WriteKeySource("projects/p/secrets/s"))) == WriteKeySource("projects/p/secrets/s")


def test_a_wrong_key_stops_the_job_before_all_is_drained(segment: MisbehavingSegment) -> None:
    segment.always = Answer(401, body=b"no such key")

    with pytest.raises(
        RuntimeError,
        match=r"2,500 of the last 2,500 calls were rejected.*HTTP 401: no such key\. Are http://.* and the write key",
    ):
        run(blocks(6_000, 1_000), segment.url, percent=95)

    assert len(segment.received) == 1
    assert _LETTERS == []


@pytest.mark.slow
def test_a_wrong_key_that_is_to_stop_nothing_gives_all_calls_back(segment: MisbehavingSegment) -> None:
    segment.always = Answer(403)

    letters, counters = run([block(1, 2), block(3)], segment.url, percent=100)

    assert [letter.message_id for letter in letters] == ["m1", "m2", "m3"]
    assert [letter.workspace_id for letter in letters] == ["w1", "w0", "w1"]
    assert counters == counts(refused=3, requests=1)


@pytest.mark.slow
def test_few_refusals_stop_nothing_and_many_single_ones_do(segment: MisbehavingSegment) -> None:
    segment.refuses = lambda received: received["properties"]["number"] % 10 > 0
    letters, counters = run(blocks(1_000, 100), segment.url, percent=95)
    assert (len(letters), counters["delivered"], counters["refused"]) == (900, 100, 900)

    with MisbehavingSegment(refuses=lambda received: True) as other:
        with pytest.raises(RuntimeError, match="1,000 of the last 1,000 calls were rejected"):
            run(blocks(2_000, 100), other.url, percent=95)
        assert len({number for batch in other.batches for number in batch if len(batch) == 1}) == 1_000


@pytest.mark.slow
def test_calls_that_are_all_too_large_stop_the_job(segment: MisbehavingSegment) -> None:
    large = join_block([outgoing(b" " * (MAX_CALL_BYTES + 1))] * 1_000)

    with pytest.raises(RuntimeError, match=r"1,000 of the last 1,000 calls were rejected.*32,769 bytes"):
        run([large], segment.url, percent=95)


@pytest.mark.slow
def test_a_segment_that_is_gone_fails_the_bundle_and_the_next_run_loses_nothing(
    segment: MisbehavingSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = partial(SegmentApi, give_up_seconds=0)
    monkeypatch.setattr(send_calls, "SegmentApi", impatient)
    segment.script = iter([Answer(), Answer(503)])

    with pytest.raises(RuntimeError, match=r"Segment took no request at .* 1 attempts, the last ended with HTTP 503"):
        run(blocks(5_100, 100), segment.url)
    assert segment.accepted_ids == [f"m{number}" for number in range(2_500)]

    run(blocks(5_100, 100), segment.url)

    assert segment.accepted_ids[2_500:] == [f"m{number}" for number in range(5_100)]
    assert all(len(ids) == 1 for ids in segment.ids_by_event().values())


@pytest.mark.slow
def test_dead_letters_are_in_the_global_window_at_the_time_of_a_call(segment: MisbehavingSegment) -> None:
    segment.refuses = lambda received: True
    _LETTERS.clear()
    with _TestPipeline(options=CachedOptions(runner=FNAPI_RUNNER)) as pipeline:
        refused = (
            pipeline
            | beam.Create([block(1), block(2)])
            | beam.Map(TimestampedValue, 1_000).with_output_types(OutgoingBlock)
            | beam.WindowInto(FixedWindows(10))
            | SendCalls(segment.url, WriteKeySource(), 100)
        )
        nothing = pipeline | "Nothing" >> beam.Create([], reshuffle=False).with_output_types(LetterBlock)
        _ = (refused, nothing) | beam.Flatten() | beam.ParDo(_KeepFn())

    assert sorted(letter.message_id or "" for letter, _, _ in _LETTERS) == ["m1", "m2"]
    assert {(at, window) for _, at, window in _LETTERS} == {(1_000.0, GlobalWindow())}
    assert refused.element_type == LetterBlock


@pytest.mark.slow
def test_in_a_stream_nothing_waits_for_company(segment: MisbehavingSegment) -> None:
    story = (
        TestStream()
        .add_elements([TimestampedValue(block(1, 2), 1)])
        .add_elements([TimestampedValue(block(3), 2)])
        .advance_watermark_to_infinity()
    )
    _LETTERS.clear()
    with _TestPipeline(options=CachedOptions(streaming=True, runner=STREAMING_RUNNER)) as pipeline:
        _ = pipeline | story | SendCalls(segment.url, WriteKeySource()) | beam.ParDo(_KeepFn())

    assert segment.batches == [["m1", "m2"], ["m3"]]
    assert _LETTERS == []


PROGRAM = """
import sys
import apache_beam as beam
from pipelines.send_calls import SendCalls
from pipelines.write_key import WriteKeySource
from schemas.outgoing_calls import OutgoingBlock
from tests.factories import outgoing
from transforms.logic.outgoing_blocks import join_block

def read_block(lines):
    return join_block(outgoing(line.encode()) for line in lines)

with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
    lines = open(sys.argv[1]).read().splitlines()
    some = [lines[first:first + 100] for first in range(0, len(lines), 100)]
    _ = (
        pipeline
        | beam.Create(some, reshuffle=False)
        | beam.Map(read_block).with_output_types(OutgoingBlock)
        | SendCalls(sys.argv[2], WriteKeySource())
    )
"""


@pytest.mark.slow
def test_a_run_that_is_killed_and_run_again_delivers_every_call_under_one_id(
    segment: MisbehavingSegment, tmp_path: Path
) -> None:
    total = 10_000
    program, file = tmp_path / "send.py", tmp_path / "calls.jsonl"
    program.write_text(PROGRAM)
    file.write_text("".join(f"{call(number).payload.decode()}\n" for number in range(total)))
    command = [sys.executable, str(program), str(file), segment.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    segment.pause_seconds = 0.3

    killed = subprocess.Popen(command, cwd=ROOT, env=environment)
    while len(segment.received) < 2:  # the second request has been read and not been answered
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    first = len(segment.accepted)
    segment.pause_seconds = 0
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=60)

    assert 0 < first < total
    assert set(segment.accepted_ids) == {f"m{number}" for number in range(total)}
    assert segment.accepted_ids[first:] == [f"m{number}" for number in range(total)]
    assert all(len(ids) == 1 for ids in segment.ids_by_event().values())
