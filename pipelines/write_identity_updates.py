"""Identity updates, which tell other systems who is who: to a Pub/Sub topic, or as lines of JSON to files."""

from collections.abc import Iterator

import apache_beam as beam
import msgspec
from apache_beam.io.gcp.pubsub import PubsubMessage, WriteToPubSub
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection

from pipelines.write_dead_letters import cut_attribute
from pipelines.write_lines import WriteLines
from schemas.identity_updates import IdentityUpdate
from schemas.rows import TableRows
from transforms.logic.shape_identity_update import shape_identity_update

FOLDER = "identity_updates"
"""The sub-folder of --output_dir. No table is called so."""

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
    """Write updates to `DIR/identity_updates/part-ID.jsonl`."""

    def __init__(self, output_dir: str) -> None:
        super().__init__()
        self._output_dir = output_dir

    def expand(self, rows: PCollection) -> PCollection:
        """Apply it to a PCollection of `TableRows`, of which `identities` are written; gives the paths of the files."""
        files: PCollection = (
            rows
            | "EncodeUpdates" >> beam.ParDo(_EncodeUpdatesFn())
            | "WriteUpdates" >> WriteLines(self._output_dir, FOLDER)
        )
        return files


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


class _EncodeUpdatesFn(beam.DoFn):
    def __init__(self) -> None:
        self._updates = Metrics.counter("write_identity_updates", "written")

    def process(self, rows: TableRows) -> Iterator[bytes]:
        updates = list(_shape_updates(rows))
        self._updates.inc(len(updates))
        if updates:
            yield _ENCODER.encode_lines(updates)
