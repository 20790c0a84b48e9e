"""Rows for STORAGE_WRITE_API are what Beam would make of them, up to where Java and a cloud would be needed."""

import json
from collections.abc import Iterator
from typing import Any
from unittest import mock

import apache_beam as beam
import pytest
from apache_beam.coders import RowCoder
from apache_beam.coders.typecoders import registry
from apache_beam.io.gcp import bigquery
from apache_beam.io.gcp.bigquery_tools import beam_row_from_dict
from apache_beam.pvalue import PCollection
from apache_beam.pvalue import Row as BeamRow
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp

from pipelines.cached_options import CachedOptions
from pipelines.runners import FNAPI_RUNNER
from pipelines.write_bigquery import WriteBigQuery, beam_row_type, beam_rows, bigquery_rows
from schemas.rows import Row, TableRows
from schemas.tables import beam_schema, load_table
from tests.factories import parse, sent
from transforms.logic.resolve_callers import resolve_callers
from transforms.logic.shape_rows import shape_call
from transforms.several_outputs import gives_several


def shaped(call_type: str, **fields: object) -> tuple[str, Row]:
    resolved = resolve_callers([parse(sent(call_type, **fields))], lambda call: "person")
    call = shape_call(resolved.calls[0])
    return call.table, call.row


def made_by_beam(table: str, row: Row) -> Any:
    columns = zip(load_table(table).fields, row, strict=True)
    values = {
        field.name: Timestamp(micros=value) if field.type == "TIMESTAMP" else value
        for field, value in columns
        if value is not None
    }
    return beam_row_from_dict(values, beam_schema(load_table(table)))


@pytest.mark.parametrize("call_type", ["track", "page", "screen", "identify", "group", "alias", "delete", "suppress"])
def test_rows_go_to_java_as_beam_would_have_made_them(call_type: str) -> None:
    table, row = shaped(call_type)
    coder: Any = RowCoder.from_type_hint(beam_row_type(table), None)
    (made,) = beam_rows(table, [row])

    encoded = coder.encode(made)

    assert encoded == coder.encode(made_by_beam(table, row))
    back = coder.decode(encoded)
    assert back.message_id == "m1"
    assert isinstance(back.received_at, Timestamp)
    if table == "activities":
        assert json.loads(back.properties) is not None
    if table == "group_identifies":
        assert [update.name for update in back.trait_updates] == ["name"]


class _Java(beam.PTransform):
    """The transform in Java, as it would be if BigQuery refused each row whose messageId is `refused`."""

    def __init__(self, **flags: Any) -> None:
        super().__init__()

    @gives_several
    def expand(self, rows: PCollection) -> dict[str, PCollection]:
        row_type: Any = rows.element_type
        kind = RowTypeConstraint.from_fields([("failed_row", row_type), ("error_message", str)])
        refuse = beam.ParDo(_RefuseFn(registry.get_coder(kind))).with_output_types(kind)
        return {bigquery.StorageWriteToBigQuery.FAILED_ROWS_WITH_ERRORS: rows | "Refuse" >> refuse}


class _RefuseFn(beam.DoFn):
    def __init__(self, coder: Any) -> None:
        self._coder = coder

    def process(self, row: Any) -> Iterator[Any]:
        travelled = self._coder.decode(self._coder.encode(BeamRow(failed_row=row, error_message="no such day")))
        if row.message_id == "refused":
            yield travelled


def test_what_is_refused_comes_back_as_for_streaming_inserts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery, "BeamJarExpansionService", mock.Mock(return_value=None))
    monkeypatch.setattr(bigquery, "SchemaAwareExternalTransform", _Java)
    table, row = shaped("group", messageId="refused", traits={"name": "Acme", "plan": {"seats": 5}})
    (values,) = bigquery_rows(table, [row], "STREAMING_INSERTS")
    taken = TableRows(*shaped("track")[:1], [shaped("track")[1]])

    with _TestPipeline(options=CachedOptions(runner=FNAPI_RUNNER)) as pipeline:
        rows = pipeline | beam.Create([taken, TableRows(table, [row])])
        refused = rows | WriteBigQuery("my-project.segment", ("activities", table), "STORAGE_WRITE_API")
        assert refused is not None
        letters = refused.dead_letters | beam.FlatMap(lambda block: block.letters)
        told = letters | beam.Map(lambda letter: (letter.detail, letter.message_id, json.loads(letter.payload)))
        assert_that(told, equal_to([(f"{table}: no such day", "refused", values)]))
        outcomes = refused.counts | beam.Map(lambda counted: (counted[0].outcome, counted[1]))
        assert_that(outcomes, equal_to([("written", -1), ("rejected", 1)]), label="counts")
