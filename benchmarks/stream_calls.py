"""ResolveIdentities on Beam's local streaming runner: what a stream of calls costs there."""

import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream

from benchmarks.invent_graphs import LINKS_A_BLOCK
from pipelines.runners import STREAMING_RUNNER
from pipelines.settings import IDENTITY_SHARDS
from schemas.calls import CallBlock, SegmentCall
from schemas.identities import Link
from schemas.identity_rules import DEFAULT_RULES
from transforms.resolve_identities import ResolveIdentities

_WORKSPACE = "default"
_WINDOW_SECONDS = 10


def stream_calls(links: Sequence[Link]) -> float:
    """CPU seconds of a pipeline that hears these links, as calls, a thousand in a window."""
    story: Any = TestStream()
    for window, start in enumerate(range(0, len(links), LINKS_A_BLOCK)):
        calls = [_make_call(link) for link in links[start : start + LINKS_A_BLOCK]]
        story = story.advance_watermark_to(window * _WINDOW_SECONDS).add_elements([CallBlock(calls)])
    started = time.process_time()
    pipeline: Any = beam.Pipeline(options=PipelineOptions(streaming=True, runner=STREAMING_RUNNER))
    calls = pipeline | "HearCalls" >> story.advance_watermark_to_infinity()
    resolve = ResolveIdentities(DEFAULT_RULES, IDENTITY_SHARDS, _WINDOW_SECONDS)
    _ = (calls, calls) | "ResolveIdentities" >> resolve
    pipeline.run().wait_until_finish()
    return time.process_time() - started


def _make_call(link: Link) -> SegmentCall:
    call_type = "identify" if link.previous_id is None else "alias"
    call = SegmentCall(_WORKSPACE, link.message_id, call_type, link.timestamp, link.timestamp, link.timestamp)
    call.user_id, call.email = link.user_id, link.email
    call.anonymous_id, call.previous_id = link.anonymous_id, link.previous_id
    return call
