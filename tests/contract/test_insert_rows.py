"""How Beam's streaming inserts weigh our rows."""

import json
from typing import Any

import pytest
from apache_beam.io.gcp.bigquery import MAX_INSERT_PAYLOAD_SIZE, BigQueryDisposition, BigQueryWriteFn

import pipelines.write_bigquery  # noqa: F401 - what is under test

ENVELOPE = len('{"dead_letter": ""}')


def weigh(row: dict[str, Any]) -> tuple[int, str | None]:
    weighed: tuple[int, str | None] = BigQueryWriteFn(
        batch_size=500, schema=None, create_disposition=BigQueryDisposition.CREATE_NEVER
    )._check_row_size((row, "insert-id"))
    return weighed


@pytest.mark.parametrize("row", [{"message_id": "m1", "count": 5}, {"event": "Größe \x00"}, {"updates": [{"a": None}]}])
def test_a_row_weighs_what_it_takes_in_the_request(row: dict[str, Any]) -> None:
    assert weigh(row) == (len(json.dumps(row)), None)


@pytest.mark.parametrize(("missing", "is_refused"), [(1, False), (0, True)])
def test_a_row_that_no_request_takes_is_refused(missing: int, is_refused: bool) -> None:
    row = {"dead_letter": "x" * (MAX_INSERT_PAYLOAD_SIZE - ENVELOPE - missing)}

    assert (weigh(row)[1] is not None) == is_refused
