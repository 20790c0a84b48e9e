"""What email_logs_to_segment would launch on Dataflow, built without contacting the cloud."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipelines.email_logs_to_segment import build, read, write
from pipelines.email_settings import build_parser, parse_email_settings
from pipelines.runners import make_options
from tests.contract.dataflow_jobs import (
    compare_step_names,
    is_beams_own,
    launch,
    no_cloud,
    state_key_coders,
    step_names,
)

ROOT = Path(__file__).parent.parent.parent
CLOUD = [
    *("--runner", "DataflowRunner", "--project", "my-project", "--region", "europe-west1"),
    *("--temp_location", "gs://my-bucket/tmp", "--setup_file", str(ROOT / "setup.py")),
]
SEGMENT = [
    *("--segment_endpoint", "https://api.segment.io"),
    *("--segment_write_key_secret", "projects/my-project/secrets/segment-write-key"),
]
STREAM = [
    *("--input_subscription", "projects/my-project/subscriptions/email-logs"),
    *("--identity_subscription", "projects/my-project/subscriptions/identity-updates"),
    *("--identity_files", "gs://my-bucket/identity_updates/*.jsonl"),
    *("--output_topic", "projects/my-project/topics/segment-events", "--output_dir", "gs://my-bucket/out"),
    *("--dead_letter_topic", "projects/my-project/topics/dead-letters", "--unique_ttl_days", "400"),
]
LEDGERS = ["--output_dataset", "my-project.segment"]
LEDGER_STEPS = {
    *("SplitRepeats", "CountDelivered", "CountDeadLetters", "CountRepeats", "FlattenCounts", "CountOutcomes"),
    *("ShapeDeadLetters", "FlattenLedgers", "WriteLedgers", "FailIfRefused"),
}
FILES = ["--input_files", "gs://my-bucket/*.jsonl", "--identity_files", "gs://my-bucket/identity_updates/*.jsonl"]


def build_pipeline(argv: list[str]) -> beam.Pipeline:
    settings, beam_flags = parse_email_settings(argv)
    options = make_options(beam_flags, build_parser(), input_files=settings.input_files)
    pipeline = beam.Pipeline(options=options)
    write(build(read(pipeline, settings), settings), settings)
    return pipeline


@pytest.fixture(scope="module", autouse=True)
def _no_cloud() -> Iterator[None]:
    with no_cloud():
        yield


@pytest.fixture(scope="module")
def job() -> Any:
    return launch(build_pipeline([*STREAM, *SEGMENT, *LEDGERS, *CLOUD]))


@pytest.mark.slow
def test_step_names_are_those_of_the_golden_file(job: Any) -> None:
    """A stateful step that is renamed loses its state on update: a change here needs an update note in CHANGELOG.md."""
    compare_step_names(job, "email_step_names.txt")


@pytest.mark.slow
def test_without_a_dataset_there_are_no_steps_for_it_and_no_step_has_another_name(job: Any) -> None:
    """What remembers something is named alike in both, so that a running job can begin to keep its books."""
    bare = launch(build_pipeline([*STREAM, *SEGMENT, *CLOUD]))

    without, keeping = set(step_names(bare)), set(step_names(job))
    assert without - keeping == {"PublishCalls/AddressCall", "PublishCalls/PublishCall"}
    assert {name.split("/")[0] for name in keeping} - {name.split("/")[0] for name in without} == LEDGER_STEPS
    assert {name for name in keeping - without if name.split("/")[0] not in LEDGER_STEPS} == {
        "PublishCalls/PublishBlock",
        "PublishCalls/WindowGlobally",
        "SendCalls/SendCall/ParDo(_SendAndTellFn)",
    }
    assert state_key_coders(bare) == state_key_coders(job)


@pytest.mark.slow
def test_no_step_of_ours_is_named_after_a_line_number(job: Any) -> None:
    assert not [name for name in step_names(job) if "lambda" in name]


@pytest.mark.slow
def test_state_is_keyed_by_a_fast_and_deterministic_coder(job: Any) -> None:
    assert state_key_coders(job) == {
        "FindRecipients/FindInStream": "beam:coder:varint:v1",
        "MarkFirstEvents/MarkInStream": "beam:coder:varint:v1",
    }


@pytest.mark.slow
@pytest.mark.parametrize("files", [FILES[:2], FILES], ids=["lines alone", "with updates"])
def test_files_are_shuffled_twice_as_bytes(files: list[str]) -> None:
    components = build_pipeline([*files, "--output_dir", "gs://my-bucket/out", *CLOUD]).to_runner_api().components
    grouped = {
        transform.unique_name: transform
        for transform in components.transforms.values()
        if transform.spec.urn == "beam:transform:group_by_key:v1" and not is_beams_own(transform.unique_name + "/x")
    }

    assert grouped.keys() == {"FindRecipients/GatherHome", "MarkFirstEvents/GatherPersons"}
    for transform in grouped.values():
        coder = components.coders[components.pcollections[next(iter(transform.inputs.values()))].coder_id]
        key, value = (components.coders[part] for part in coder.component_coder_ids)
        assert key.spec.urn == "beam:coder:varint:v1"
        assert value.spec.urn == "beam:coder:bytes:v1"


def test_the_write_key_is_no_part_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENT_WRITE_KEY", "a-key-that-nobody-may-see")

    proto = build_pipeline(["--input_files", "*.jsonl", *SEGMENT[:2]]).to_runner_api()

    assert b"a-key-that-nobody-may-see" not in proto.SerializeToString()
