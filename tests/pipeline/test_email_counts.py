"""How everything ended, counted: over files and over a stream, whoever takes the calls, the counts add up."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import apache_beam as beam
import google.cloud.pubsub_v1 as pubsub_v1
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream

from pipelines import send_calls, write_calls
from pipelines.cached_options import CachedOptions
from pipelines.email_logs_to_segment import Inputs, build, count_all, deliver
from pipelines.email_settings import EmailSettings
from pipelines.read import BlockMessagesFn
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from schemas.email_outcomes import EmailOutcomeKey
from schemas.messages import Message, MessageBlock
from schemas.outgoing_calls import OutgoingBlock, OutgoingCall
from tests.misbehaving_segment import WRITE_KEY, MisbehavingSegment
from tests.pipeline.email_stories import arrive, log_line, news
from tests.pipeline.stories import READ_AT
from transforms.logic.email_logs.parse_email_logs import parse_email_logs
from transforms.logic.outgoing_blocks import join_block

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = EmailSettings(
    input_files="log.jsonl", output_dir="out", output_dataset="local-project.segment", max_rejected_percent=100
)
STREAM = replace(FILES, input_files=None, input_subscription="projects/test-project/subscriptions/s")

# Of each line one of these is made, whatever else is.
TELLING = frozenset(
    (
        *("Email Delivered", "Email Opened", "Email Bounced", "Email Reported as Spam"),
        *("Link Clicked", "Email Unsubscribed", "page"),
    )
)

LONG_LINK = "https://acme.example/" + "a" * 40_000
LOG = [
    log_line("l1", "delivered"),
    log_line("l2", "opened"),
    log_line("l2", "opened"),
    log_line("l2", "opened"),
    log_line("l3", "clicked", email_link_url="https://acme.example/a"),
    log_line("l4", "page_viewed", user_id="u1", account_id="acme"),
    log_line("l5", "clicked", email_link_url=LONG_LINK),
    log_line("l6", "bounced", email="nobody"),
    {"event": "deferred", "sg_event_id": "s1", "email": "a@x", "timestamp": 1},
    {"event": "exploded", "sg_event_id": "s2", "email": "a@x", "timestamp": 1},
    {"hello": "world"},
]
NEWS = [news("P1", 1, email="a@x"), {"version": 1}]

REJECTED = {
    ("bounced", "rejected", "recipient_not_valid"): 1,
    ("deferred", "rejected", "event_not_reported"): 1,
    ("unknown", "rejected", "unknown_event"): 1,
    ("unknown", "rejected", "unknown_provider"): 1,
    ("identity_update", "rejected", "identity_update_not_valid"): 1,
    ("opened", "duplicate", ""): 2,
    ("Link Clicked", "failed", "too_large"): 1,
    ("Unique Link Click", "failed", "too_large"): 1,
}
CALLS = {
    "Email Delivered": 1,
    "Email Opened": 1,
    "Email Unique Opens": 1,
    "Link Clicked": 1,
    "Unique Link Click": 1,
    "Unique Link Click per Unique Open": 1,
    "identify": 1,
    "group": 1,
    "page": 1,
}

_COUNTED: list[tuple[EmailOutcomeKey, int]] = []


class _KeepFn(beam.DoFn):
    def process(self, counted: tuple[EmailOutcomeKey, int]) -> None:
        _COUNTED.append(counted)


@pytest.fixture
def segment(monkeypatch: pytest.MonkeyPatch) -> Iterator[MisbehavingSegment]:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", WRITE_KEY)
    with MisbehavingSegment() as server:
        yield server


def count(read: Callable[[beam.Pipeline], Inputs], settings: EmailSettings) -> list[tuple[EmailOutcomeKey, int]]:
    """What is counted of these inputs, before it is added up."""
    _COUNTED.clear()
    streaming = settings.input_files is None
    options = CachedOptions(streaming=streaming, runner=STREAMING_RUNNER if streaming else FNAPI_RUNNER)
    with _TestPipeline(options=options) as pipeline:
        outputs = build(read(pipeline), settings)
        delivered = deliver(outputs.calls, settings)
        dead_letters = [each for each in (outputs.dead_letters, delivered.refused) if each is not None]
        assert outputs.repeats is not None
        counts = count_all(delivered, dead_letters | beam.Flatten(), outputs.repeats)
        _ = counts | beam.ParDo(_KeepFn())
    return list(_COUNTED)


def count_files(
    payloads: list[bytes], updates: list[bytes], settings: EmailSettings = FILES
) -> list[tuple[EmailOutcomeKey, int]]:
    def read(pipeline: beam.Pipeline) -> Inputs:
        logs, told = (
            [MessageBlock([Message(each, {}, None) for each in some[start::3]], "file", READ_AT) for start in range(3)]
            for some in (payloads, updates)
        )
        return Inputs(pipeline | "Logs" >> beam.Create(logs), pipeline | "Updates" >> beam.Create(told))

    return count(read, settings)


def tell(*bundles: list[Any]) -> Callable[[beam.Pipeline], Inputs]:
    """A stream in which each list arrives by itself; as in `arrive`, it carries updates, too."""
    story: TestStream = TestStream()
    for bundle in bundles:
        story = story.add_elements(bundle)
    story = story.advance_watermark_to_infinity()

    def read(pipeline: beam.Pipeline) -> Inputs:
        messages = pipeline | story
        logs, updates = (
            messages
            | f"Take {name}" >> beam.Filter(lambda message, wanted: ("news" in message.attributes) == wanted, wanted)
            | f"Block {name}" >> beam.ParDo(BlockMessagesFn("story", 0))
            for name, wanted in (("logs", False), ("updates", True))
        )
        return Inputs(logs, updates)

    return read


def encode(sent: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(one).encode() for one in sent]


def endings(counted: list[tuple[EmailOutcomeKey, int]]) -> Counter[tuple[str, str, str]]:
    ended: Counter[tuple[str, str, str]] = Counter()
    for key, number in counted:
        ended[key.event, key.outcome, key.reason] += number
    return ended


def events_told(ended: Counter[tuple[str, str, str]]) -> int:
    """How many events of logs the counts stand for."""
    return sum(
        number
        for (event, outcome, _), number in ended.items()
        if event in TELLING or (outcome in ("rejected", "duplicate") and event != "identity_update")
    )


def test_each_event_and_each_call_of_files_ends_once(segment: MisbehavingSegment) -> None:
    segment.refuses = lambda call: call.get("event") == "Email Delivered"

    ended = endings(count_files(encode(LOG), encode(NEWS), replace(FILES, segment_endpoint=segment.url)))

    refused = {("Email Delivered", "failed", "refused_by_segment"): 1}
    sent = {(event, "sent", ""): number for event, number in CALLS.items() if event != "Email Delivered"}
    assert ended == REJECTED | refused | sent
    assert events_told(ended) == len(LOG)
    assert sum(sent.values()) == len(segment.accepted)


def test_what_only_goes_to_files_is_written_and_not_sent() -> None:
    ended = endings(count_files(encode(LOG), encode(NEWS)))

    assert ended == REJECTED | {(event, "written", ""): number for event, number in CALLS.items()}
    assert events_told(ended) == len(LOG)


def test_the_golden_logs_and_rejects_add_up(segment: MisbehavingSegment) -> None:
    cases = [
        json.loads(line)
        for name in ("email_logs.jsonl", "email_log_rejects.jsonl")
        for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()
    ]
    payloads = [
        base64.b64decode(case["payload_base64"]) if "payload_base64" in case else case["payload"].encode()
        for case in cases
    ]
    parsed = [parse_email_logs([Message(payload, {}, None)], READ_AT, "default") for payload in payloads * 2]
    events = sum(len(each.lines) + len(each.rejected) for each in parsed)

    ended = endings(count_files(payloads * 2, [], replace(FILES, segment_endpoint=segment.url)))

    assert events_told(ended) == events
    lines = sum(len(each.lines) for each in parsed)
    assert sum(number for (event, *_), number in ended.items() if event in TELLING) <= lines / 2
    assert {outcome for _, outcome, _ in ended} == {"sent", "rejected", "duplicate"}


@pytest.mark.usefixtures("state")
def test_a_stream_counts_the_same_by_the_connection_that_delivered_it(segment: MisbehavingSegment) -> None:
    segment.refuses = lambda call: call.get("event") == "Email Delivered"
    lines = [
        [arrive(number + 2, one, workspace_id="default", connection_id=f"c{number % 2}")]
        for number, one in enumerate(LOG)
    ]

    counted = count(tell([arrive(1, one) for one in NEWS], *lines), replace(STREAM, segment_endpoint=segment.url))

    refused = {("Email Delivered", "failed", "refused_by_segment"): 1}
    sent = {(event, "sent", ""): number for event, number in CALLS.items() if event != "Email Delivered"}
    assert endings(counted) == REJECTED | refused | sent
    connections = {(key.event, key.outcome): key.connection_id for key, _ in counted if key.event != "opened"}
    assert connections == {
        ("Email Delivered", "failed"): "c0",
        ("Email Opened", "sent"): "c1",
        ("Email Unique Opens", "sent"): "c1",
        ("Link Clicked", "sent"): "c0",
        ("Unique Link Click", "sent"): "c0",
        ("Unique Link Click per Unique Open", "sent"): "c0",
        ("identify", "sent"): "c1",
        ("group", "sent"): "c1",
        ("page", "sent"): "c1",
        ("Link Clicked", "failed"): "c0",
        ("Unique Link Click", "failed"): "c0",
        ("bounced", "rejected"): "c1",
        ("deferred", "rejected"): "c0",
        ("unknown", "rejected"): "c0",
        ("identity_update", "rejected"): "",
    }
    assert {key.window_start for key, _ in counted if key.outcome in ("rejected", "duplicate")} == {0}


def test_an_identify_that_an_identity_update_makes_has_no_connection(segment: MisbehavingSegment) -> None:
    opened = arrive(1, log_line("l1", person_id="P1"), connection_id="c1")
    story = tell([opened], [arrive(2, news("P1", 2, user_id="u1"))])

    counted = count(story, replace(STREAM, segment_endpoint=segment.url))

    assert {(key.event, key.connection_id) for key, _ in counted} == {
        ("Email Opened", "c1"),
        ("Email Unique Opens", "c1"),
        ("identify", ""),
    }


def test_calls_of_a_bundle_that_fails_are_counted_when_it_succeeds(
    segment: MisbehavingSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt reaches Segment, and then something else breaks: they are sent twice and counted once."""
    failures = ["once"]

    def fail_once(calls: list[OutgoingCall]) -> OutgoingBlock:
        if failures:
            raise RuntimeError(failures.pop())
        return join_block(calls)

    monkeypatch.setattr(send_calls, "join_block", fail_once)
    story = tell([arrive(1, LOG[0])])

    ended = endings(count(story, replace(STREAM, segment_endpoint=segment.url)))

    assert len(segment.accepted) == 2
    assert ended == {("Email Delivered", "sent", ""): 1}


class _Publisher:
    """Google's client, of a Pub/Sub that refuses as often as `refusals` says."""

    published: ClassVar[list[dict[str, Any]]] = []
    refusals: ClassVar[list[Exception]] = []

    def publish(self, topic: str, data: bytes, **attributes: str) -> Future[str]:
        answer: Future[str] = Future()
        call = json.loads(data)
        if call["event"] == "Email Opened" and self.refusals:
            answer.set_exception(self.refusals.pop())
        else:
            self.published.append(call)
            answer.set_result("id")
        return answer

    def stop(self) -> None:
        pass

    transport = SimpleNamespace(close=lambda: None)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> type[_Publisher]:
    monkeypatch.setattr(pubsub_v1, "PublisherClient", _Publisher)
    monkeypatch.setattr(_Publisher, "published", [])
    monkeypatch.setattr(_Publisher, "refusals", [])
    return _Publisher


TOPIC = "projects/test-project/topics/events"
OPENED = [("Email Opened", "sent", ""), ("Email Unique Opens", "sent", "")]


def test_calls_are_counted_when_the_topic_has_them(publisher: type[_Publisher]) -> None:
    publisher.refusals.append(RuntimeError("not now"))

    ended = endings(count(tell([arrive(1, LOG[1])]), replace(STREAM, output_topic=TOPIC)))

    assert [call["event"] for call in publisher.published] == [
        "Email Unique Opens",  # of the attempt that failed
        "Email Opened",
        "Email Unique Opens",
    ]
    assert ended == dict.fromkeys(OPENED, 1)


def test_calls_that_the_topic_never_takes_are_not_counted(publisher: type[_Publisher]) -> None:
    publisher.refusals += [RuntimeError("never")] * 100

    with pytest.raises(RuntimeError, match="never"):
        count(tell([arrive(1, LOG[1])]), replace(STREAM, output_topic=TOPIC))

    assert _COUNTED == []


def test_many_calls_do_not_pile_up_before_their_answers(
    publisher: type[_Publisher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_calls, "MAX_UNANSWERED", 2)
    log = [log_line(f"l{number}", "bounced", email=f"a{number}@x") for number in range(50)]

    ended = endings(count_files(encode(log), [], replace(FILES, output_topic=TOPIC)))

    assert ended == {("Email Bounced", "sent", ""): 50}
    assert len(publisher.published) == 50


def test_what_segment_says_counts_more_than_that_a_topic_has_it(
    publisher: type[_Publisher], segment: MisbehavingSegment
) -> None:
    segment.refuses = lambda call: call["event"] == "Email Opened"

    both = replace(STREAM, output_topic=TOPIC, segment_endpoint=segment.url)
    ended = endings(count(tell([arrive(1, LOG[1])]), both))

    assert ended == {("Email Opened", "failed", "refused_by_segment"): 1, ("Email Unique Opens", "sent", ""): 1}
    assert len(publisher.published) == 2
