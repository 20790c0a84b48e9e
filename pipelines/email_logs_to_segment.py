"""Email logs to Segment calls: `python -m pipelines.email_logs_to_segment --help`.

The same steps for files and for Pub/Sub; `build` is the table of contents.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.email_settings import COUNTS_WINDOW_SECONDS, PROGRAM, EmailSettings, build_parser, parse_email_settings
from pipelines.import_beam import import_beam
from pipelines.usage import UsageError, answer_early, fail, warn

if __name__ == "__main__":
    answer_early(PROGRAM, parse_email_settings)
    import_beam(sys.argv[1:])

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipelines.clients import use_emulators
from pipelines.preflight import check_email_world
from pipelines.read import ReadFiles, ReadSubscription
from pipelines.report import Reported, run_reported
from pipelines.report_emails import describe_calls, read_outcomes
from pipelines.runners import is_local, make_options, make_runner
from pipelines.version import pipeline_version
from pipelines.write_calls import (
    CALLS_FOLDER,
    DEAD_LETTERS_FOLDER,
    PublishCalls,
    PublishCallsAndTell,
    WriteCalls,
    WriteDeadLetters,
)
from pipelines.write_dead_letters import PublishDeadLetters
from pipelines.write_lines import complete_lines
from schemas.email_outcomes import EmailOutcome
from schemas.tables import EMAIL_TABLES
from transforms.count_email_outcomes import CountDelivered, CountEmailLetters, CountRepeats
from transforms.count_outcomes import CountOutcomes
from transforms.find_recipients import FindRecipients, SplitRepeats
from transforms.make_calls import MakeCalls
from transforms.mark_first_events import MarkFirstEvents
from transforms.parse_email_logs import ParseEmailLogs
from transforms.parse_identity_updates import ParseIdentityUpdates
from transforms.shape_rows import ShapeDeadLetters


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
    """`LetterBlock`."""
    repeats: PCollection | None = None
    """`LogBlock`: lines that came before, if somebody counts them."""


class Delivered(NamedTuple):
    """What became of the calls."""

    calls: PCollection
    """`OutgoingBlock`: those that were taken, if --output_dataset asks who took them; else all."""
    outcome: EmailOutcome
    """What they count as."""
    refused: PCollection | None = None
    """`LetterBlock`."""


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
    tells = settings.output_dataset is not None
    found = parsed.lines | "FindRecipients" >> FindRecipients(
        settings.recipient_shards,
        settings.dedupe_horizon_seconds,
        settings.unique_ttl_seconds,
        updates,
        tells_repeats=tells,
    )
    repeats = None
    if tells:
        found, repeats = found | "SplitRepeats" >> SplitRepeats()
    marked = found | "MarkFirstEvents" >> MarkFirstEvents(
        implied_open_on_click=settings.implied_open_on_click, ttl_seconds=settings.unique_ttl_seconds
    )
    made = marked | "MakeCalls" >> MakeCalls()
    dead_letters.append(made.dead_letters)
    return Outputs(made.calls, dead_letters | "FlattenDeadLetters" >> beam.Flatten(), repeats)


def read(pipeline: beam.Pipeline, settings: EmailSettings) -> Inputs:
    """The one input, and what tells who is who."""
    logs: PCollection
    # Calls wait for nothing, but their counts do.
    window_seconds = 0 if settings.output_dataset is None else COUNTS_WINDOW_SECONDS
    if settings.input_subscription is not None:
        logs = pipeline | "ReadSubscription" >> ReadSubscription(settings.input_subscription, window_seconds)
    else:
        logs = pipeline | "ReadFiles" >> ReadFiles(str(settings.input_files))
    updates = []
    if settings.identity_subscription is not None:
        updates.append(
            pipeline | "ReadIdentitySubscription" >> ReadSubscription(settings.identity_subscription, window_seconds)
        )
    if settings.identity_files is not None:
        updates.append(pipeline | "ReadIdentityFiles" >> ReadFiles(settings.identity_files))
    return Inputs(logs, updates | "FlattenUpdates" >> beam.Flatten() if updates else None)


def write(outputs: Outputs, settings: EmailSettings) -> None:
    """All outputs; what Segment refuses is a dead letter as well."""
    dead_letters = outputs.dead_letters
    delivered = deliver(outputs.calls, settings)
    if delivered.refused is not None:
        dead_letters = (dead_letters, delivered.refused) | "AddRefused" >> beam.Flatten()
    if settings.output_dir is not None:
        _ = outputs.calls | "WriteCalls" >> WriteCalls(settings.output_dir)
        _ = dead_letters | "WriteDeadLetters" >> WriteDeadLetters(settings.output_dir, pipeline_version())
    if settings.dead_letter_topic is not None:
        _ = dead_letters | "PublishDeadLetters" >> PublishDeadLetters(settings.dead_letter_topic)
    if settings.output_dataset is not None and outputs.repeats is not None:
        counts = count_all(delivered, dead_letters, outputs.repeats)
        write_ledgers(dead_letters, counts, settings.output_dataset)


def deliver(calls: PCollection, settings: EmailSettings) -> Delivered:
    """Calls to the topic and to Segment. With --output_dataset both tell what they took: if both are given, Segment."""
    tells = settings.output_dataset is not None
    delivered = Delivered(calls, EmailOutcome.WRITTEN)
    if settings.output_topic is not None and tells:
        taken = calls | "PublishCalls" >> PublishCallsAndTell(settings.output_topic)
        delivered = Delivered(taken, EmailOutcome.SENT)
    elif settings.output_topic is not None:
        _ = calls | "PublishCalls" >> PublishCalls(settings.output_topic)
    if settings.segment_endpoint is not None:
        from pipelines.send_calls import SendCalls, SendCallsAndTell  # with an HTTP client, which others do without

        segment = settings.segment_endpoint, settings.write_key_source, settings.max_rejected_percent
        if tells:
            sent = calls | "SendCalls" >> SendCallsAndTell(*segment)
            delivered = Delivered(sent.taken, EmailOutcome.SENT, sent.refused)
        else:
            delivered = Delivered(calls, EmailOutcome.SENT, calls | "SendCalls" >> SendCalls(*segment))
    return delivered


def count_all(delivered: Delivered, dead_letters: PCollection, repeats: PCollection) -> PCollection:
    """How everything ended, as `tuple[EmailOutcomeKey, int]`."""
    counts: PCollection = (
        delivered.calls | "CountDelivered" >> CountDelivered(delivered.outcome),
        dead_letters | "CountDeadLetters" >> CountEmailLetters(),
        repeats | "CountRepeats" >> CountRepeats(),
    ) | "FlattenCounts" >> beam.Flatten()
    return counts


def write_ledgers(dead_letters: PCollection, counts: PCollection, dataset: str) -> None:
    """The books: `dead_letters` and `email_counts`. Their rows are few, so streaming inserts do, from files too."""
    from pipelines.write_bigquery import FailIfRefused, WriteBigQuery  # with Google's clients, which others do without

    ledgers = (
        dead_letters | "ShapeDeadLetters" >> ShapeDeadLetters(pipeline_version()),
        counts | "CountOutcomes" >> CountOutcomes(COUNTS_WINDOW_SECONDS, "email_counts"),
    ) | "FlattenLedgers" >> beam.Flatten()
    refused = ledgers | "WriteLedgers" >> WriteBigQuery(dataset, EMAIL_TABLES, "STREAMING_INSERTS")
    if refused is not None:
        _ = refused.dead_letters | "FailIfRefused" >> FailIfRefused()


def run(argv: Sequence[str]) -> int:
    """Parse the command line, check the world, run the pipeline; the exit code."""
    try:
        settings, beam_flags = parse_email_settings(argv)
        options = make_options(beam_flags, build_parser(), input_files=settings.input_files)
        use_emulators(settings.output_dataset)
        runner = make_runner(options)
        check_email_world(settings, is_local(options))
        pipeline = beam.Pipeline(runner, options)
        write(build(read(pipeline, settings), settings), settings)
    except UsageError as error:
        fail(PROGRAM, error)
    if settings.output_dir is None and settings.dead_letter_topic is None and settings.output_dataset is None:
        warn(
            PROGRAM, "what is rejected is only counted; --output_dataset, --dead_letter_topic or --output_dir keeps it"
        )
    outputs = {
        "files": settings.output_dir,
        "Pub/Sub": settings.output_topic,
        "Segment": settings.segment_endpoint,
        "BigQuery": settings.output_dataset,
    }
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
