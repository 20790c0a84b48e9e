"""Identity updates, which tell other systems who is who: to a Pub/Sub topic, or as lines of JSON to files."""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.gcp.pubsub import PubsubMessage, WriteToPubSub
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.write_dead_letters import cut_attribute
from pipelines.write_parquet import HIDDEN, ShowFileFn, has_files, make_folder
from schemas.identity_updates import IdentityUpdate
from schemas.rows import TableRows
from transforms.logic.shape_identity_update import shape_identity_update

FOLDER = "identity_updates"
"""The sub-folder of --output_dir. No table is called so."""

_MIME_TYPE = "application/x-ndjson"
_ENCODER = msgspec.json.Encoder()


class PublishIdentityUpdates(beam.PTransform):
    """Publish each update as JSON, with the attributes `workspace_id` and `version`."""

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    def expand(self, rows: PCollection) -> PCollection:
        """Apply it to a PCollection of `TableRows`; of other tables than `identities` nothing is published."""
        published: PCollection = (
            rows
            | "AddressUpdate" >> beam.ParDo(_AddressUpdateFn())
            | "PublishUpdate" >> WriteToPubSub(self._topic, with_attributes=True)
        )
        return published


class WriteIdentityUpdates(beam.PTransform):
    """Write updates to `DIR/identity_updates/part-ID.jsonl`.

    As with WriteParquet a file is hidden until it is whole and committed: a bundle that is tried again shows it once.
    """

    def __init__(self, output_dir: str) -> None:
        super().__init__()
        self._output_dir = output_dir

    def expand(self, rows: PCollection) -> PCollection:
        """Apply it to a PCollection of `TableRows`, of which `identities` are written; gives the paths of the files."""
        files: PCollection = (
            rows
            | "WindowGlobally" >> beam.WindowInto(GlobalWindows())
            | "WriteHidden" >> beam.ParDo(_WriteHiddenFn(self._output_dir))
            | "CommitFiles" >> beam.Reshuffle()
            | "ShowFiles" >> beam.ParDo(ShowFileFn())
        )
        return files


def complete_updates(output_dir: str) -> None:
    """Write an empty file if there were no updates: who reads `*.jsonl` after a run finds one in any case."""
    if not has_updates(output_dir):
        folder = FileSystems.join(output_dir, FOLDER)
        make_folder(folder)
        _create_file(FileSystems.join(folder, "part-empty.jsonl")).close()


def has_updates(output_dir: str) -> bool:
    """Whether a run has written updates, or that there are none, below the folder."""
    return has_files(FileSystems.join(output_dir, FOLDER), "*.jsonl")


def address_update(update: IdentityUpdate) -> PubsubMessage:
    """The message of an update."""
    attributes = {"workspace_id": cut_attribute(update.workspace_id), "version": str(update.version)}
    return PubsubMessage(_ENCODER.encode(update), attributes)


def _shape_updates(rows: TableRows) -> Iterator[IdentityUpdate]:
    if rows.table == "identities":
        for row in rows.rows:
            update = shape_identity_update(row)
            if update is not None:
                yield update


class _AddressUpdateFn(beam.DoFn):
    def __init__(self) -> None:
        self._updates = Metrics.counter("write_identity_updates", "published")

    def process(self, rows: TableRows) -> Iterator[PubsubMessage]:
        for update in _shape_updates(rows):
            self._updates.inc()
            yield address_update(update)


def _create_file(path: str) -> Any:
    return FileSystems.create(path, mime_type=_MIME_TYPE, compression_type=CompressionTypes.UNCOMPRESSED)


class _WriteHiddenFn(beam.DoFn):
    """One file a bundle, if the bundle has updates."""

    def __init__(self, output_dir: str) -> None:
        self._folder = FileSystems.join(output_dir, FOLDER)
        self._updates = Metrics.counter("write_identity_updates", "written")

    def start_bundle(self) -> None:
        self._path: str | None = None

    def process(self, rows: TableRows) -> Iterable[str]:
        lines = [_ENCODER.encode(update) + b"\n" for update in _shape_updates(rows)]
        if lines and self._path is None:
            make_folder(self._folder)
            self._path = FileSystems.join(self._folder, f".part-{uuid.uuid4().hex}.jsonl{HIDDEN}")
            self._file = _create_file(self._path)
        if lines:
            self._file.write(b"".join(lines))
            self._updates.inc(len(lines))
        return ()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._path is not None:
            self._file.close()
            yield WindowedValue(self._path, GlobalWindow().max_timestamp(), (GlobalWindow(),))
