"""Event-time stories of emails: log lines and news of who is who arrive at given seconds, and calls are sent."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.pvalue import PCollection
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines.cached_options import CachedOptions
from pipelines.email_logs_to_segment import Inputs, Outputs, build
from pipelines.email_settings import EmailSettings
from pipelines.read import BlockMessagesFn
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from schemas.email_logs import LogBlock
from schemas.messages import Message, MessageBlock
from tests.factories import NOW, SECOND
from tests.pipeline.stories import READ_AT
from tests.unit.email_histories import written
from transforms.coders import StructCoder
from transforms.find_recipients import FindRecipients
from transforms.make_calls import MakeCalls
from transforms.mark_first_events import MarkFirstEvents

STREAMING = EmailSettings(input_subscription="projects/test-project/subscriptions/s", output_dir="out")

_NEWS = "news"
"""Attribute of what is an identity update: one stream carries both, since a story has one clock."""


def log_line(log_id: str, event: str = "opened", **fields: Any) -> dict[str, Any]:
    """What happened to a@x in an email of a run."""
    about = {"email": "a@x", "campaign_run_id": "r", "email_id": "e", "at": "1970-01-01T00:00:01Z"}
    return {"log_id": log_id, "event": event, **about, **fields}


def news(person_id: str | None, version: int, **identifier: str) -> dict[str, Any]:
    """A user_id or an email is this person's since `version`, in seconds."""
    fields = {"workspace_id": "default", "user_id": None, "email": None, "at": written(version * 1_000_000)}
    return fields | {"person_id": person_id, "version": version * 1_000_000} | identifier


def arrive(at: float, sent: dict[str, Any], **attributes: str) -> TimestampedValue:
    """What Pub/Sub gets at this second."""
    kind = {_NEWS: "yes"} if "version" in sent else {}
    return TimestampedValue(PubsubMessage(json.dumps(sent).encode(), kind | attributes), at)


class Sent:
    """What came out."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.dead_letters: list[Any] = []

    def kinds(self) -> Counter[str]:
        """How many of each event, and of each type of the other calls."""
        return Counter(call.get("event", call["type"]) for call in self.calls)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The calls of this event or type."""
        return [call for call in self.calls if kind in (call.get("event"), call["type"])]

    def ids(self) -> list[str]:
        return [call["messageId"] for call in self.calls]


def send(story: TestStream, settings: EmailSettings = STREAMING) -> Sent:
    """Run the pipeline on a story, in the runner that a local stream uses."""

    def read(pipeline: beam.Pipeline) -> Inputs:
        messages = pipeline | story
        logs, updates = (
            messages
            | f"Take {name}" >> beam.Filter(_is_news, wanted)
            | f"Block {name}" >> beam.ParDo(BlockMessagesFn("story", 0))
            for name, wanted in (("logs", False), ("updates", True))
        )
        return Inputs(logs, updates)

    options = CachedOptions(streaming=True, runner=STREAMING_RUNNER)
    return _run(options, lambda pipeline: build(read(pipeline), settings))


def send_files(
    lines: Iterable[dict[str, Any]],
    updates: Iterable[dict[str, Any]] = (),
    settings: EmailSettings = STREAMING,
    blocks: int = 3,
) -> Sent:
    """Run the pipeline on lines of files, as bounded input."""

    def read(pipeline: beam.Pipeline) -> Inputs:
        logs, told = (
            [Message(json.dumps(one).encode(), {}, None) for one in lines],
            [Message(json.dumps(one).encode(), {}, None) for one in updates],
        )
        return Inputs(
            pipeline | "Logs" >> beam.Create(_split(logs, blocks)),
            pipeline | "Updates" >> beam.Create(_split(told, blocks)) if told else None,
        )

    return _run(CachedOptions(runner=FNAPI_RUNNER), lambda pipeline: build(read(pipeline), settings))


def send_blocks(blocks: Sequence[LogBlock], settings: EmailSettings, *, streaming: bool) -> Sent:
    """Run the steps that follow the reading on blocks, which in a stream come one by one about NOW."""

    def make(pipeline: beam.Pipeline) -> Outputs:
        source: Any = beam.Create([LogBlock(block.lines) for block in blocks])
        updates: PCollection | None = None
        if streaming:
            source = TestStream(coder=StructCoder(LogBlock))
            for block in blocks:
                source = source.add_elements([TimestampedValue(block, NOW / SECOND)])
            source = source.advance_watermark_to_infinity()
        else:
            updates = pipeline | "Updates" >> beam.Create([LogBlock([], block.updates) for block in blocks])
        found = (pipeline | source) | FindRecipients(
            settings.recipient_shards, settings.dedupe_horizon_seconds, settings.unique_ttl_seconds, updates
        )
        made = found | MarkFirstEvents(implied_open_on_click=settings.implied_open_on_click) | MakeCalls()
        return Outputs(made.calls, made.dead_letters)

    return _run(CachedOptions(streaming=streaming, runner=STREAMING_RUNNER if streaming else FNAPI_RUNNER), make)


def _split(messages: list[Message], blocks: int) -> list[MessageBlock]:
    return [MessageBlock(messages[start::blocks], "file", READ_AT) for start in range(blocks)]


def _is_news(message: PubsubMessage, wanted: bool) -> bool:
    return (_NEWS in message.attributes) == wanted


# A DoFn is pickled, a list of the test is not: what comes out is gathered here, by a number that travels.
_GATHERED: dict[int, Sent] = {}


class _GatherFn(beam.DoFn):
    def __init__(self, sent: int, kind: str) -> None:
        self._sent = sent
        self._kind = kind

    def process(self, element: Any) -> None:
        sent = _GATHERED[self._sent]
        if self._kind == "calls":
            sent.calls += map(json.loads, element.lines.splitlines())
        else:
            sent.dead_letters += element.letters


def _run(options: CachedOptions, make: Callable[[beam.Pipeline], Outputs]) -> Sent:
    sent = Sent()
    number = len(_GATHERED)
    _GATHERED[number] = sent
    with _TestPipeline(options=options) as pipeline:
        outputs = make(pipeline)
        for kind in ("calls", "dead_letters"):
            collection: PCollection = getattr(outputs, kind)
            _ = collection | f"Gather {kind}" >> beam.ParDo(_GatherFn(number, kind))
    return sent
