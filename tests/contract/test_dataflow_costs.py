"""What Dataflow works through by the piece: shuffles, and requests to state. A change is one of what a call costs.

docs/performance.md has what follows in bytes and dollars: after `UPDATE_GOLDEN=1` measure that again.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest

from benchmarks.count_state import count_state
from benchmarks.generate_calls import generate_calls
from benchmarks.list_prices import GIB
from benchmarks.list_shuffles import Shuffle, list_shuffles
from benchmarks.play_stream import PlayCalls
from benchmarks.price_calls import CallCosts, price_files, price_storage_write, price_streaming_inserts
from benchmarks.weigh_rows import weigh_row
from benchmarks.weigh_shuffles import WeighingPipeline, take_weights
from pipelines import email_logs_to_segment as emails
from pipelines.email_settings import build_parser as build_email_parser
from pipelines.email_settings import parse_email_settings
from pipelines.runners import make_options
from pipelines.segment_to_bigquery import build, read, read_prior, write
from pipelines.settings import Settings, build_parser, parse_settings
from tests.contract.dataflow_jobs import no_cloud

CLOUD = [
    *("--runner", "DataflowRunner", "--project", "my-project", "--region", "europe-west1"),
    *("--temp_location", "gs://my-bucket/tmp"),
]
SUBSCRIPTION = "projects/my-project/subscriptions/segment-calls"
TABLES = ["--output_dataset", "my-project.segment"]
STREAM = ["--input_subscription", SUBSCRIPTION, *TABLES, *CLOUD]
FILES = ["--input_files", "gs://my-bucket/*.jsonl", "--bigquery_method", "FILE_LOADS", *TABLES, *CLOUD]

TOPIC = ["--output_topic", "projects/my-project/topics/segment-events"]
EMAIL_STREAM = [
    *("--input_subscription", "projects/my-project/subscriptions/email-logs"),
    *("--identity_subscription", "projects/my-project/subscriptions/identity-updates", *TOPIC, *CLOUD),
]
EMAIL_FILES = ["--input_files", "gs://my-bucket/*.jsonl", "--output_dir", "gs://my-bucket/out", *CLOUD]

# A window of ten seconds each.
BLOCKS, CALLS_A_BLOCK = 3, 100


@pytest.fixture(scope="module", autouse=True)
def _no_cloud() -> Iterator[None]:
    with no_cloud():
        yield


def find_shuffles(argv: list[str]) -> list[Shuffle]:
    settings, beam_flags = parse_settings(argv)
    options = make_options(beam_flags, build_parser(), input_files=settings.input_files)
    pipeline = beam.Pipeline(options=options)
    write(build(read(pipeline, settings), settings, read_prior(pipeline, settings)), settings)
    return list_shuffles(pipeline.to_runner_api())


def find_email_shuffles(argv: list[str]) -> list[Shuffle]:
    settings, beam_flags = parse_email_settings(argv)
    options = make_options(beam_flags, build_email_parser(), input_files=settings.input_files)
    pipeline = beam.Pipeline(options=options)
    emails.write(emails.build(emails.read(pipeline, settings), settings), settings)
    return list_shuffles(pipeline.to_runner_api())


def describe_shuffles(mode: str, shuffles: list[Shuffle]) -> list[str]:
    """Ours by name, those of Beam's sinks by number."""
    counted = Counter(
        (shuffle.step.split("/")[0] + "/..." if shuffle.step.startswith("Write") else shuffle.step, shuffle.kind.value)
        for shuffle in shuffles
    )
    return [f"{mode:14} {kind:7} {count:2} {step}" for (step, kind), count in sorted(counted.items())]


def compare_golden(lines: list[str], golden: str) -> None:
    path = Path(__file__).parent / golden
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text("\n".join(lines) + "\n")

    assert lines == path.read_text().splitlines()


def test_a_row_weighs_what_bigquery_documents() -> None:
    row = {"workspace_id": "ütf", "message_id": "m1", "timestamp": "2026-03-02", "context": '{"a":1}'}
    sent = {"insertId": "id", "json": row}

    weight = weigh_row("aliases", row, "id")

    assert weight.logical == (2 + 4) + (2 + 2) + 8 + 7
    assert weight.proto == (1 + 1 + 4) + (1 + 1 + 2) + (1 + 8) + (1 + 1 + 7)
    assert weight.billed_inserts == 1024
    assert weight.json == len(json.dumps(sent, ensure_ascii=False, separators=(",", ":")).encode())


def test_a_billion_calls_are_priced_as_by_hand() -> None:
    # 2.16 us are an hour for a billion calls of a vCPU that is busy for six tenths; 1.073741824 bytes are a GiB
    costs = CallCosts(2.16, GIB / 1e9, GIB / 1e9, GIB / 1e9, GIB / 1e9, GIB / 1e9, GIB / 1e9, GIB / 1e9, GIB / 1e9)

    files, inserts, storage = price_files(costs), price_streaming_inserts(costs), price_storage_write(costs)

    assert files.vcpu_hours == pytest.approx(1)
    assert files.calls_a_vcpu_second == pytest.approx(1e9 / 3600)
    assert files.total == pytest.approx(0.056 + 3.75 * 0.003557 + 0.011 + 0.02)
    assert inserts.total == pytest.approx(
        0.069 + 3.75 * 0.003557 + 5 * 0.018 + 2 * 40 / 1024 + 0.01 * 1024 / 200 + 0.02
    )
    assert storage.vcpu_hours == pytest.approx(1 + 1e9 / 6_000 / 3600)
    assert storage.service == pytest.approx(5 * 0.018)
    assert storage.ingestion == pytest.approx(0.025)


@pytest.mark.slow
def test_shuffles_are_those_of_the_golden_file() -> None:
    found = {
        "calls, files": find_shuffles(FILES),
        "calls, stream": find_shuffles(STREAM),
        "emails, files": find_email_shuffles(EMAIL_FILES),
        "emails, stream": find_email_shuffles(EMAIL_STREAM),
    }

    compare_golden(
        [line for mode, shuffles in found.items() for line in describe_shuffles(mode, shuffles)], "shuffles.txt"
    )


@pytest.mark.slow
def test_requests_to_state_are_those_of_the_golden_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    generate_calls(path, BLOCKS * CALLS_A_BLOCK, seed=7)
    options = make_options(["--direct_num_workers=1"], build_parser(), input_files=str(path))
    settings = Settings(input_subscription=SUBSCRIPTION, output_dir="unused")
    take_weights()

    with count_state() as uses:
        pipeline = WeighingPipeline(options=options)
        messages = pipeline | "PlayCalls" >> PlayCalls(path, CALLS_A_BLOCK, CALLS_A_BLOCK // settings.window_seconds)
        build(messages, settings)
        pipeline.run().wait_until_finish()

    elements = {step: weight.elements for step, weight in take_weights().items()}
    lines = [f"{'elements':>8} {'reads':>5} {'writes':>6} {'appends':>7} {'clears':>6} {'timers':>6} step and state"]
    for (step, state), use in sorted(uses.by_state.items()):
        asked = f"{use.reads:5} {use.writes:6} {use.appends:7} {use.clears:6} {use.timers:6}"
        lines.append(f"{elements[step]:8} {asked} {step} {state.removeprefix('ts-')}")
    compare_golden(lines, "state_requests.txt")
