"""Rows for STORAGE_WRITE_API pass Beam's own conversion, as far as Python goes; what follows needs Java and a cloud."""

import json
from typing import Any

import pytest
from apache_beam.coders import RowCoder
from apache_beam.io.gcp.bigquery_tools import beam_row_from_dict, get_beam_typehints_from_tableschema
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp

from pipelines.write_bigquery import bigquery_rows
from schemas.rows import Row
from schemas.tables import beam_schema, load_table
from tests.factories import parse, sent
from transforms.logic.resolve_callers import resolve_callers
from transforms.logic.shape_rows import shape_call


def shaped(call_type: str) -> tuple[str, Row]:
    resolved = resolve_callers([parse(sent(call_type))], lambda call: "person")
    call = shape_call(resolved.calls[0])
    return call.table, call.row


@pytest.mark.parametrize("call_type", ["track", "page", "screen", "identify", "group", "alias", "delete", "suppress"])
def test_rows_pass_the_coder_that_takes_them_to_java(call_type: str) -> None:
    table, row = shaped(call_type)
    schema = beam_schema(load_table(table))
    (values,) = bigquery_rows(table, [row], "STORAGE_WRITE_API")
    hint = RowTypeConstraint.from_fields(get_beam_typehints_from_tableschema(schema, {"JSON": str}))
    coder: Any = RowCoder.from_type_hint(hint, None)

    back = coder.decode(coder.encode(beam_row_from_dict(dict(values), schema)))

    assert back.message_id == "m1"
    assert isinstance(back.received_at, Timestamp)
    if table == "activities":
        assert json.loads(back.properties) is not None
