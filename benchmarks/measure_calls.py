"""What the calls of a file cost segment_to_bigquery in this process: shuffles, state, rows, and CPU by step."""

import gc
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics.monitoring_infos import extract_counter_value

from benchmarks.count_state import StateUse, count_state
from benchmarks.play_stream import apply_stream, no_bigquery
from benchmarks.profile_stages import apply_calls
from benchmarks.weigh_rows import RowBytes
from benchmarks.weigh_shuffles import WeighingPipeline, Weight, take_weights
from pipelines.runners import make_options
from pipelines.settings import build_parser

_EXECUTION_TIME = "beam:metric:ptransform_execution_time:total_msecs:v1"

# Steps that are told apart from the rest of the step that they belong to.
_APART = ("ResolveIdentities/GrowGraph",)

BETWEEN = "Beam, between the steps"


class Source(msgspec.Struct):
    """A file of calls, and how it is played; without a block it is read as a file."""

    path: Path
    calls: int
    calls_a_block: int | None
    calls_a_second: int
    method: str = "STREAMING_INSERTS"
    """A stream's --bigquery_method; files are written to Parquet."""


class Flow(msgspec.Struct):
    """What all calls of a source moved."""

    shuffles: dict[str, Weight]
    states: dict[str, StateUse]
    """By step and state: `DedupeCalls/DropSeen seen`."""
    rows: dict[str, RowBytes]


class CpuTime(msgspec.Struct):
    """CPU microseconds a call."""

    total: float
    """Of the process, without what a run of a few calls takes."""
    by_step: dict[str, float]
    """Beam's samples of which step is at work, scaled from wall time to CPU time."""


def measure_flow(source: Source) -> Flow:
    """Run it with everything weighed."""
    with no_bigquery() as rows, count_state() as uses:
        pipeline = WeighingPipeline(options=_options(source))
        _run(pipeline, source)
    states = {f"{step} {name.removeprefix('ts-')}": use for (step, name), use in sorted(uses.by_state.items())}
    return Flow(dict(sorted(take_weights().items())), states, rows)


def measure_cpu(source: Source) -> CpuTime:
    """Run it twice, first with so few calls that it is the start alone."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)  # as the pipeline has it
    with tempfile.TemporaryDirectory(prefix="estimate_cost_") as folder, no_bigquery(is_weighed=False):
        few = msgspec.structs.replace(source, path=Path(folder) / "few.jsonl", calls=20)
        with source.path.open("rb") as lines:
            few.path.write_bytes(b"".join(islice(lines, few.calls)))
        started, _, _ = _time(few)
        cpu, wall, steps = _time(source)
    us = 1_000_000 / source.calls
    by_step = {step: seconds * cpu / wall * us for step, seconds in steps.most_common()}
    total = (cpu - started) * us
    return CpuTime(total, by_step | {BETWEEN: total - sum(by_step.values())})


def _options(source: Source) -> Any:
    return make_options(["--direct_num_workers=1"], build_parser(), input_files=str(source.path))


def _time(source: Source) -> tuple[float, float, Counter[str]]:
    """CPU and wall seconds, and the wall seconds of each step."""
    pipeline = beam.Pipeline(options=_options(source))
    cpu, wall = time.process_time(), time.perf_counter()
    result = _run(pipeline, source)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    seconds: Counter[str] = Counter()
    for info in result.monitoring_infos():
        if info.urn == _EXECUTION_TIME:
            seconds[_step_of(info.labels["PTRANSFORM"])] += extract_counter_value(info) / 1000
    return cpu, wall, seconds


def _step_of(name: str) -> str:
    return next((step for step in _APART if name.startswith(step)), name.partition("/")[0])


def _run(pipeline: beam.Pipeline, source: Source) -> Any:
    with tempfile.TemporaryDirectory(prefix="estimate_cost_") as folder:
        if source.calls_a_block is None:
            apply_calls(pipeline, str(source.path), folder)
        else:
            apply_stream(pipeline, source.path, source.calls_a_block, source.calls_a_second, source.method)
        result: Any = pipeline.run()
        result.wait_until_finish()
    return result
