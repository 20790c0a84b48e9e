"""Email logs to Segment calls: `python -m pipelines.email_logs_to_segment --help`.

The same steps for files and for Pub/Sub; `build` is the table of contents.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.email_settings import PROGRAM, EmailSettings, build_parser, parse_email_settings
from pipelines.usage import UsageError, answer_early, fail, warn

if __name__ == "__main__":
    answer_early(PROGRAM, parse_email_settings)

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipelines.preflight import check_email_world
from pipelines.read import ReadFiles, ReadSubscription
from pipelines.report import Reported, run_reported
from pipelines.report_emails import describe_calls, read_outcomes
from pipelines.runners import is_local, make_options, make_runner
from pipelines.send_calls import SendCalls
from pipelines.version import pipeline_version
from pipelines.write_calls import CALLS_FOLDER, DEAD_LETTERS_FOLDER, PublishCalls, WriteCalls, WriteDeadLetters
from pipelines.write_dead_letters import PublishDeadLetters
from pipelines.write_lines import complete_lines
from transforms.find_recipients import FindRecipients
from transforms.make_calls import MakeCalls
from transforms.mark_first_events import MarkFirstEvents
from transforms.parse_email_logs import ParseEmailLogs
from transforms.parse_identity_updates import ParseIdentityUpdates


class Inputs(NamedTuple):
    """What is read."""

    logs: PCollection
    """`MessageBlock`: email logs."""
    updates: PCollection | None
    """`MessageBlock`: identity updates."""


class Outputs(NamedTuple):
    """What `build` makes of them."""

    calls: PCollection
    """`OutgoingBlock`."""
    dead_letters: PCollection
    """`DeadLetter`."""


def build(inputs: Inputs, settings: EmailSettings) -> Outputs:
    """Email logs to Segment calls and dead letters."""
    parsed = inputs.logs | "ParseEmailLogs" >> ParseEmailLogs(
        settings.workspace_id, settings.max_log_bytes, settings.max_rejected_percent
    )
    dead_letters, updates = [parsed.dead_letters], None
    if inputs.updates is not None:
        news = inputs.updates | "ParseIdentityUpdates" >> ParseIdentityUpdates(
            settings.workspace_id, settings.max_rejected_percent
        )
        updates = news.updates
        dead_letters.append(news.dead_letters)
    found = parsed.lines | "FindRecipients" >> FindRecipients(
        settings.recipient_shards, settings.dedupe_horizon_seconds, settings.unique_ttl_seconds, updates
    )
    marked = found | "MarkFirstEvents" >> MarkFirstEvents(
        implied_open_on_click=settings.implied_open_on_click, ttl_seconds=settings.unique_ttl_seconds
    )
    made = marked | "MakeCalls" >> MakeCalls()
    dead_letters.append(made.dead_letters)
    return Outputs(made.calls, dead_letters | "FlattenDeadLetters" >> beam.Flatten())


def read(pipeline: beam.Pipeline, settings: EmailSettings) -> Inputs:
    """The one input, and what tells who is who."""
    logs: PCollection
    if settings.input_subscription is not None:
        logs = pipeline | "ReadSubscription" >> ReadSubscription(settings.input_subscription)
    else:
        logs = pipeline | "ReadFiles" >> ReadFiles(str(settings.input_files))
    updates = []
    if settings.identity_subscription is not None:
        updates.append(pipeline | "ReadIdentitySubscription" >> ReadSubscription(settings.identity_subscription))
    if settings.identity_files is not None:
        updates.append(pipeline | "ReadIdentityFiles" >> ReadFiles(settings.identity_files))
    return Inputs(logs, updates | "FlattenUpdates" >> beam.Flatten() if updates else None)


def write(outputs: Outputs, settings: EmailSettings) -> None:
    """All outputs; what Segment refuses is a dead letter as well."""
    dead_letters = outputs.dead_letters
    if settings.segment_endpoint is not None:
        refused = outputs.calls | "SendCalls" >> SendCalls(
            settings.segment_endpoint, settings.write_key_source, settings.max_rejected_percent
        )
        dead_letters = (dead_letters, refused) | "AddRefused" >> beam.Flatten()
    if settings.output_topic is not None:
        _ = outputs.calls | "PublishCalls" >> PublishCalls(settings.output_topic)
    if settings.output_dir is not None:
        _ = outputs.calls | "WriteCalls" >> WriteCalls(settings.output_dir)
        _ = dead_letters | "WriteDeadLetters" >> WriteDeadLetters(settings.output_dir, pipeline_version())
    if settings.dead_letter_topic is not None:
        _ = dead_letters | "PublishDeadLetters" >> PublishDeadLetters(settings.dead_letter_topic)


def run(argv: Sequence[str]) -> int:
    """Parse the command line, check the world, run the pipeline; the exit code."""
    try:
        settings, beam_flags = parse_email_settings(argv)
        options = make_options(beam_flags, build_parser(), input_files=settings.input_files)
        check_email_world(settings, is_local(options))
        pipeline = beam.Pipeline(make_runner(options), options)
        write(build(read(pipeline, settings), settings), settings)
    except UsageError as error:
        fail(PROGRAM, error)
    if settings.output_dir is None and settings.dead_letter_topic is None:
        warn(PROGRAM, "what is rejected is only counted; --dead_letter_topic or --output_dir keeps it")
    outputs = {"files": settings.output_dir, "Pub/Sub": settings.output_topic, "Segment": settings.segment_endpoint}
    about = Reported(
        PROGRAM, settings.input_files, settings.input_subscription, outputs, "events", read_outcomes, describe_calls
    )
    return run_reported(pipeline, about, is_local(options), lambda: _complete(settings))


def _complete(settings: EmailSettings) -> None:
    if settings.output_dir is not None:
        complete_lines(settings.output_dir, CALLS_FOLDER)
        complete_lines(settings.output_dir, DEAD_LETTERS_FOLDER)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
