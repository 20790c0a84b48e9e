"""Event-time stories: messages that arrive at given seconds, and the steps of the pipeline that hear them."""

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.pvalue import PCollection
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines.cached_options import CachedOptions
from pipelines.read import BlockMessagesFn
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from pipelines.segment_to_bigquery import NOTHING, Outputs, Prior, build
from pipelines.settings import Settings
from schemas.identities import PriorBlock
from schemas.messages import Message, MessageBlock
from schemas.rows import row_values

STREAMING = Settings(input_subscription="projects/test-project/subscriptions/s", output_dir="out")

Story: TypeAlias = TestStream

READ_AT = 1_800_000_000_000_000
"""When files are read: in 2027, after everything in them was received."""


def arrive(at: float, /, **sent: Any) -> TimestampedValue:
    """A track call of u1 that Pub/Sub gets at this second, as `sent` says otherwise."""
    payload = {"type": "track", "event": "Seen", "userId": "u1"} | sent
    return TimestampedValue(PubsubMessage(json.dumps(payload).encode(), {}), at)


def tell(story: Story, settings: Settings = STREAMING, prior: PriorBlock | None = None) -> "Told":
    """Run the pipeline on a story, in the runner that a local stream uses; `prior` is known beforehand."""
    options = CachedOptions(streaming=True, runner=STREAMING_RUNNER)
    return _run(
        options, lambda p: p | story | beam.ParDo(BlockMessagesFn("story", settings.window_seconds)), settings, prior
    )


def read_lines(
    lines: Iterable[bytes], settings: Settings = STREAMING, blocks: int = 3, prior: PriorBlock | None = None
) -> "Told":
    """Run the pipeline on lines of a file, as bounded input."""
    messages = [Message(line, {}, None) for line in lines]
    parts = [MessageBlock(messages[start::blocks], "file", READ_AT) for start in range(blocks)]
    options = CachedOptions(runner=FNAPI_RUNNER)
    return _run(options, lambda p: p | beam.Create(parts), settings, prior)


class Told:
    """What came out: rows as values by column, and counts."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.dead_letters: list[Any] = []
        self.counts: dict[tuple[str, str], int] = {}

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of one table."""
        return [row for table, row in self.rows if table == name]

    def ids(self, table: str = "activities") -> list[str]:
        """The message ids of the rows of one table, sorted."""
        return sorted(row["message_id"] for row in self.table(table))

    def persons(self, table: str = "activities") -> dict[str, str | None]:
        """message id -> the person that was known when its row was written."""
        return {row["message_id"]: row.get("person_id") for row in self.table(table)}

    def identities(self) -> dict[tuple[str, str], str | None]:
        """(identifier type, identifier) -> today's person: the row with the highest version."""
        rows = sorted(self.table("identities"), key=lambda row: int(row["version"]))
        latest = {(row["identifier_type"], row["identifier"]): row.get("person_id") for row in rows}
        return {key: person_id for key, person_id in latest.items() if person_id is not None}


# A DoFn is pickled, a list of the test is not: what comes out is gathered here, by a number that travels.
_GATHERED: dict[int, Told] = {}


class _GatherFn(beam.DoFn):
    def __init__(self, told: int, kind: str) -> None:
        self._told = told
        self._kind = kind

    def process(self, element: Any) -> None:
        told = _GATHERED[self._told]
        if self._kind == "rows":
            told.rows += [(element.table, row_values(element.table, tuple(row))) for row in element.rows]
        elif self._kind == "dead_letters":
            told.dead_letters += element.letters
        else:
            key, count = element
            told.counts[key.outcome, key.reason] = told.counts.get((key.outcome, key.reason), 0) + count


def _run(
    options: CachedOptions, read: Callable[[Any], PCollection], settings: Settings, prior: PriorBlock | None
) -> Told:
    told = Told()
    number = len(_GATHERED)
    _GATHERED[number] = told
    with _TestPipeline(options=options) as pipeline:
        known = NOTHING if prior is None else Prior(pipeline | "CreatePrior" >> beam.Create([prior]), None)
        outputs: Outputs = build(read(pipeline), settings, known)
        gathered = {"facts": "rows", "identities": "rows", "dead_letters": "dead_letters", "counts": "counts"}
        for name, kind in gathered.items():
            collection: PCollection = getattr(outputs, name)
            _ = collection | f"Gather {name}" >> beam.ParDo(_GatherFn(number, kind))
    return told
