"""What would be launched on Dataflow, built without contacting the cloud: the steps' names and what is shipped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, StandardOptions

from pipelines.runners import make_options
from pipelines.segment_to_bigquery import build, read, read_prior, write
from pipelines.settings import build_parser, parse_settings
from pipelines.usage import UsageError
from tests.contract.dataflow_jobs import (
    compare_step_names,
    is_beams_own,
    launch,
    no_cloud,
    state_key_coders,
    step_names,
)

ROOT = Path(__file__).parent.parent.parent
LAUNCH = [
    *("--input_subscription", "projects/my-project/subscriptions/segment-calls"),
    *("--output_dataset", "my-project.segment"),
    *("--output_dir", "gs://my-bucket/parquet"),
    *("--dead_letter_topic", "projects/my-project/topics/dead-letters"),
    *("--runner", "DataflowRunner", "--project", "my-project", "--region", "europe-west1"),
    *("--temp_location", "gs://my-bucket/tmp", "--setup_file", str(ROOT / "setup.py")),
    *("--identity_topic", "projects/my-project/topics/identity-updates"),
]


def build_pipeline(argv: list[str]) -> tuple[beam.Pipeline, PipelineOptions]:
    settings, beam_flags = parse_settings(argv)
    options = make_options(beam_flags, build_parser(), input_files=settings.input_files)
    pipeline = beam.Pipeline(options=options)
    write(build(read(pipeline, settings), settings, read_prior(pipeline, settings)), settings)
    return pipeline, options


@pytest.fixture(scope="module", autouse=True)
def _no_cloud() -> Iterator[None]:
    with no_cloud():
        yield


@pytest.fixture(scope="module")
def job() -> Any:
    return launch(build_pipeline(LAUNCH)[0])


@pytest.mark.slow
def test_step_names_are_those_of_the_golden_file(job: Any) -> None:
    """A stateful step that is renamed loses its state on update: a change here needs an update note in CHANGELOG.md."""
    compare_step_names(job, "step_names.txt")


@pytest.mark.slow
def test_no_step_of_ours_is_named_after_a_line_number(job: Any) -> None:
    assert not [name for name in step_names(job) if "lambda" in name]


@pytest.mark.slow
def test_what_travels_has_our_coders(job: Any) -> None:
    components = job.proto_pipeline.components
    grouped = [
        transform
        for transform in components.transforms.values()
        if transform.spec.urn == "beam:transform:group_by_key:v1" and not is_beams_own(transform.unique_name + "/x")
    ]
    steps = ("Admit", "Meet", "Spread1", "Spread2", "Conclude", "Settle", "Follow", "Claim", "Hold")
    hops = {f"ResolveIdentities/GrowGraph/{step}Gather" for step in steps}

    assert {transform.unique_name for transform in grouped} == hops | {"ResolveIdentities/GatherHome"}
    for transform in grouped:
        coder = components.coders[components.pcollections[next(iter(transform.inputs.values()))].coder_id]
        key, value = (components.coders[part] for part in coder.component_coder_ids)
        assert key.spec.urn == "beam:coder:varint:v1"
        if transform.unique_name in hops:
            assert value.spec.urn == "beam:coder:bytes:v1"
        else:
            assert "StructCoder" in str(value.spec.payload)


@pytest.mark.slow
def test_state_is_keyed_by_a_fast_and_deterministic_coder(job: Any) -> None:
    key_coders = state_key_coders(job)

    assert len(key_coders) == 11
    assert set(key_coders.values()) == {"beam:coder:varint:v1"}


def test_the_pipelines_set_the_options_that_they_need() -> None:
    settings, beam_flags = parse_settings(LAUNCH)
    options = make_options(beam_flags, build_parser(), input_files=settings.input_files)

    assert options.view_as(StandardOptions).streaming
    assert not options.view_as(SetupOptions).save_main_session


@pytest.mark.slow
def test_load_jobs_build_for_files() -> None:
    files = [*("--input_files", "gs://my-bucket/*.jsonl", "--output_dataset", "my-project.segment"), *LAUNCH[8:]]

    pipeline, _ = build_pipeline([*files, "--bigquery_method", "FILE_LOADS"])
    names = {transform.unique_name for transform in pipeline.to_runner_api().components.transforms.values()}

    assert "WriteData/WriteActivities/BigQueryBatchFileLoads" in names
    assert not [name for name in names if name.startswith("WriteData/Refused")]


def test_the_storage_write_api_without_its_jar_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Unable to fetch remote job server jar")

    monkeypatch.setattr("apache_beam.io.gcp.bigquery.StorageWriteToBigQuery.__init__", fail)

    with pytest.raises(UsageError, match=r"needs Java.*Unable to fetch"):
        build_pipeline([*LAUNCH, "--bigquery_method", "STORAGE_WRITE_API"])
