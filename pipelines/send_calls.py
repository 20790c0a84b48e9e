"""Calls to Segment: posted to its HTTP tracking API, in their order and at least once."""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.segment_api import Packer, SegmentApi
from pipelines.version import pipeline_version
from pipelines.write_key import WriteKeySource
from schemas.calls import MAX_CALL_BYTES
from schemas.outgoing_calls import OutgoingBlock, OutgoingCall
from schemas.rejections import DeadLetter, LetterBlock, Reason
from transforms.logic.outgoing_blocks import join_block, split_block
from transforms.logic.parse_call import peek_call
from transforms.rejection_limit import find_limit
from transforms.several_outputs import gives_several

STEP = "SendCalls"
"""The step that the dead letters name."""

_Answered: TypeAlias = LetterBlock | TaggedOutput[Literal["taken"], OutgoingBlock]


class SendCalls(beam.PTransform):
    """Send each call to Segment, and give what Segment refused.

    At least once: a bundle that fails is sent again as a whole, with the same messageIds, by which Segment knows the
    calls that it has. Requests fill up within a bundle and what is left goes out at its end, so nothing waits for
    company. The order of the calls is kept within a bundle.

    A bundle fails, and nothing of it is lost, if Segment cannot be reached for 15 minutes (`SegmentUnreachableError`),
    if there is no write key (`NoWriteKeyError`), or if more than `max_rejected_percent` of the last 1,000 calls or more
    were refused (`MostlyRejectedError`).
    """

    def __init__(self, endpoint: str, key_source: WriteKeySource, max_rejected_percent: float = 95.0) -> None:
        """`endpoint` as https://api.segment.io. Raises ValueError if it is no such URL."""
        super().__init__()
        self._fn = _SendCallFn(endpoint, key_source, max_rejected_percent)

    def expand(self, calls: PCollection) -> PCollection:
        """Apply it to a PCollection of `OutgoingBlock`; gives `LetterBlock`s, in the global window."""
        refused: PCollection = (
            calls | "WindowGlobally" >> beam.WindowInto(GlobalWindows()) | "SendCall" >> beam.ParDo(self._fn)
        )
        return refused


class SentCalls(NamedTuple):
    """What became of the calls; every call is in exactly one of the two."""

    taken: PCollection
    """`OutgoingBlock`: the calls of a request that Segment took."""
    refused: PCollection
    """`LetterBlock`."""


class SendCallsAndTell(beam.PTransform):
    """The same, and give what Segment took as well."""

    def __init__(self, endpoint: str, key_source: WriteKeySource, max_rejected_percent: float = 95.0) -> None:
        """As SendCalls."""
        super().__init__()
        self._fn = _SendAndTellFn(endpoint, key_source, max_rejected_percent)

    @gives_several
    def expand(self, calls: PCollection) -> SentCalls:
        """Apply it to a PCollection of `OutgoingBlock`; what it gives is in the global window."""
        send = beam.ParDo(self._fn).with_outputs("taken", main="refused")
        sent = calls | "WindowGlobally" >> beam.WindowInto(GlobalWindows()) | "SendCall" >> send
        return SentCalls(sent.taken, sent.refused)


class _SendFn(beam.DoFn):
    def __init__(self, endpoint: str, key_source: WriteKeySource, max_rejected_percent: float) -> None:
        self._endpoint = endpoint
        self._key_source = key_source
        self._max_rejected_percent = max_rejected_percent
        self._user_agent = f"segment-warehouse/{pipeline_version()}"
        self._delivered = Metrics.counter("send_calls", "delivered")
        self._refused = Metrics.counter("send_calls", "refused")
        self._requests = Metrics.counter("send_calls", "requests")
        self._retries = Metrics.counter("send_calls", "retries")
        self._too_large = Metrics.counter("send_calls", "too_large")

    def setup(self) -> None:
        self._api = SegmentApi(
            self._endpoint,
            self._key_source.read(),
            user_agent=self._user_agent,
            on_request=self._requests.inc,
            on_retry=self._retries.inc,
        )
        self._limit = find_limit(f"{STEP} {self._endpoint}", self._max_rejected_percent)

    def start_bundle(self) -> None:
        self._packer = Packer()
        self._timestamp = GlobalWindow().max_timestamp()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for answered in self._send(self._packer.take()):
            yield self._place(answered)

    def teardown(self) -> None:
        self._api.close()

    def _take(self, block: OutgoingBlock, timestamp: Any) -> Iterator[Any]:
        self._timestamp = timestamp
        for call in split_block(block):
            if len(call.payload) > MAX_CALL_BYTES:
                self._too_large.inc()
                detail = f"{len(call.payload):,} bytes; a call may have {MAX_CALL_BYTES:,}"
                self._observe([call], detail)
                yield LetterBlock([_bury(call, Reason.TOO_LARGE, detail)])
            elif full := self._packer.add(call):
                yield from self._send(full)

    def _place(self, answered: Any) -> Any:
        return WindowedValue(answered, self._timestamp, (GlobalWindow(),))

    def _send(self, calls: Sequence[OutgoingCall]) -> Iterator[Any]:
        for sent, refusal in self._api.send(calls):
            self._observe(sent, refusal)
            if refusal is None:
                self._delivered.inc(len(sent))
                yield from self._tell(sent)
            else:
                self._refused.inc(len(sent))
                yield LetterBlock([_bury(call, Reason.REFUSED_BY_SEGMENT, refusal) for call in sent])

    def _tell(self, taken: Sequence[OutgoingCall]) -> Iterator[Any]:
        """What to give of calls that Segment took: nothing."""
        return iter(())

    def _observe(self, calls: Sequence[OutgoingCall], refusal: str | None) -> None:
        hint = f"The last one: {refusal}. Are {self._endpoint} and the write key right?"
        self._limit.observe(len(calls), 0 if refusal is None else len(calls), "calls", hint)


class _SendCallFn(_SendFn):
    def process(self, block: OutgoingBlock, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[LetterBlock]:
        yield from self._take(block, timestamp)


class _SendAndTellFn(_SendFn):
    def process(self, block: OutgoingBlock, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[_Answered]:
        yield from self._take(block, timestamp)

    def _tell(self, taken: Sequence[OutgoingCall]) -> Iterator[Any]:
        yield TaggedOutput("taken", join_block(taken))

    def _place(self, answered: Any) -> Any:
        if isinstance(answered, TaggedOutput):
            return TaggedOutput(answered.tag, super()._place(answered.value))
        return super()._place(answered)


def _bury(call: OutgoingCall, reason: Reason, detail: str) -> DeadLetter:
    call_type, message_id = peek_call(call.payload)
    line = call.made_of.line
    return DeadLetter(
        call.payload,
        STEP,
        reason.value,
        detail,
        time.time_ns() // 1000,
        line.workspace_id,
        line.connection_id,
        type=call_type,
        message_id=message_id,
        source="",
    )
