"""Identity updates as files: every line once, nothing hidden left over, also late and in a stream."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from pipelines.cached_options import CachedOptions
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from pipelines.write_identity_updates import FOLDER, WriteIdentityUpdates
from pipelines.write_lines import complete_lines, has_lines
from schemas.rows import TableRows
from tests.unit.test_shape_identity_update import identity


def updates(number: int) -> TableRows:
    return TableRows("identities", [identity("user_id", f"u{number}"), identity("anonymous_id", f"a{number}")])


MERGES = TableRows("identity_merges", [(None,) * 11])


def lines(folder: Path) -> list[str]:
    files = (folder / "identity_updates").glob("*")
    found = [(file.name, json.loads(line)) for file in files for line in file.read_text().splitlines()]
    assert all(name.startswith("part-") and name.endswith(".jsonl") for name, _ in found)
    return sorted(line["user_id"] for _, line in found)


def run(source: Any, folder: Path, streaming: bool) -> None:
    options = CachedOptions(streaming=streaming, runner=STREAMING_RUNNER if streaming else FNAPI_RUNNER)
    with _TestPipeline(options=options) as pipeline:
        _ = pipeline | source | WriteIdentityUpdates(str(folder))


def test_files_hold_each_update_once(tmp_path: Path) -> None:
    run(beam.Create([updates(number) for number in range(5)] + [MERGES]), tmp_path, streaming=False)

    assert lines(tmp_path) == ["u0", "u1", "u2", "u3", "u4"]
    assert has_lines(str(tmp_path), FOLDER)


def test_a_stream_shows_each_bundle_and_what_is_late(tmp_path: Path) -> None:
    story = (
        TestStream()
        .add_elements([TimestampedValue(updates(1), 1_000), TimestampedValue(MERGES, 1_000)])
        .advance_watermark_to(5_000)
        .add_elements([TimestampedValue(updates(2), 1)])
        .advance_watermark_to_infinity()
    )

    run(story, tmp_path, streaming=True)

    assert lines(tmp_path) == ["u1", "u2"]


def test_without_updates_there_is_no_file_until_the_run_is_completed(tmp_path: Path) -> None:
    nobody = TableRows("identities", [identity("anonymous_id", "a1")])
    run(beam.Create([MERGES, nobody]), tmp_path, streaming=False)
    assert not has_lines(str(tmp_path), FOLDER)
    assert not (tmp_path / "identity_updates").exists()

    complete_lines(str(tmp_path), FOLDER)

    assert has_lines(str(tmp_path), FOLDER)
    assert [file.read_bytes() for file in (tmp_path / "identity_updates").iterdir()] == [b""]


def test_completing_a_run_with_updates_adds_nothing(tmp_path: Path) -> None:
    run(beam.Create([updates(1)]), tmp_path, streaming=False)

    complete_lines(str(tmp_path), FOLDER)

    assert len(list((tmp_path / "identity_updates").iterdir())) == 1


class _FailAtTheEndFn(beam.DoFn):
    def process(self, rows: TableRows) -> None:
        pass

    def finish_bundle(self) -> None:
        raise OSError("fails")


def test_a_bundle_that_fails_shows_nothing(tmp_path: Path) -> None:
    """What it wrote stays hidden: a reader of *.jsonl sees no line of it."""
    pipeline = _TestPipeline(options=CachedOptions(runner=FNAPI_RUNNER))
    rows = pipeline | beam.Create([updates(1)])
    _ = rows | WriteIdentityUpdates(str(tmp_path))
    _ = rows | beam.ParDo(_FailAtTheEndFn())

    with pytest.raises(OSError, match="fails"):
        pipeline.run()

    assert [file.suffix for file in tmp_path.glob("identity_updates/*")] == [".unfinished"]
