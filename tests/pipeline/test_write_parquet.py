"""Parquet in a stream: what is late is shown as well."""

import os
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pyarrow.dataset as ds
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream

from pipelines.cached_options import CachedOptions
from pipelines.read import BlockMessagesFn
from pipelines.runners import STREAMING_RUNNER
from pipelines.segment_to_bigquery import build, write
from schemas.tables import TABLES
from tests.pipeline.stories import STREAMING, arrive


@pytest.mark.slow
def test_late_rows_are_shown_and_nothing_stays_hidden(tmp_path: Path) -> None:
    settings = replace(STREAMING, output_dir=str(tmp_path))
    story = (
        TestStream()
        .add_elements([arrive(1_000, messageId="m1")])
        .advance_watermark_to(5_000)
        .add_elements([arrive(1, messageId="m2"), arrive(2, type="screenview")])
        .advance_watermark_to_infinity()
    )

    with _TestPipeline(options=CachedOptions(streaming=True, runner=STREAMING_RUNNER)) as pipeline:
        write(
            build(pipeline | story | beam.ParDo(BlockMessagesFn("story", settings.window_seconds)), settings), settings
        )

    rows = {
        table: ds.dataset(tmp_path / table).to_table().to_pylist() for table in os.listdir(tmp_path) if table in TABLES
    }
    assert sorted(row["message_id"] for row in rows["activities"]) == ["m1", "m2"]
    assert [row["reason"] for row in rows["dead_letters"]] == ["unknown_type"]
    assert sum(row["count"] for row in rows["counts"]) == 3
    assert not list(tmp_path.glob("*/.part-*"))
