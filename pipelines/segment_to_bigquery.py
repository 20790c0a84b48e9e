"""Segment calls to BigQuery: `python -m pipelines.segment_to_bigquery --help`.

The same steps for files and for Pub/Sub; `build` is the table of contents.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.import_beam import import_beam
from pipelines.settings import IDENTITY_SHARDS, PROGRAM, Settings, build_parser, fit_to_one_process, parse_settings
from pipelines.usage import UsageError, answer_early, fail

if __name__ == "__main__":
    answer_early(PROGRAM, parse_settings)
    import_beam(sys.argv[1:])

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipelines.clients import use_emulators
from pipelines.preflight import check_world
from pipelines.read import ReadFiles, ReadSubscription
from pipelines.read_known import ReadKnownIdentities
from pipelines.read_persons import ReadWarehousePersons
from pipelines.read_suppressions import AddSuppressions
from pipelines.report import Reported, run_reported
from pipelines.report_calls import describe_persons, read_outcomes
from pipelines.runners import is_local, make_options, make_runner
from pipelines.version import pipeline_version
from pipelines.write_dead_letters import PublishDeadLetters
from pipelines.write_identity_updates import FOLDER, PublishIdentityUpdates, WriteIdentityUpdates
from pipelines.write_lines import complete_lines
from pipelines.write_parquet import WriteParquet, complete_folders
from transforms.count_outcomes import CountDeadLetters, CountOutcomes
from transforms.dedupe_calls import DedupeCalls
from transforms.parse_calls import ParseCalls
from transforms.resolve_identities import ResolveIdentities
from transforms.shape_rows import ShapeDeadLetters, ShapeRows


class Outputs(NamedTuple):
    """What `build` makes of messages."""

    facts: PCollection
    """`TableRows` of what the calls say."""
    identities: PCollection
    """`TableRows` of who is who: `identities` and `identity_merges`."""
    dead_letters: PCollection
    """`LetterBlock`."""
    counts: PCollection
    """`tuple[OutcomeKey, int]`."""


class Prior(NamedTuple):
    """What tables know of persons before the first message."""

    persons: PCollection | None
    """`PriorBlock`."""
    merges: PCollection | None
    """`TableRows` of `identity_merges`: what the tables contradict themselves in."""


NOTHING = Prior(None, None)


def build(messages: PCollection, settings: Settings, prior: Prior = NOTHING) -> Outputs:
    """Messages to rows, dead letters and counts; every message is counted once."""
    parsed = messages | "ParseCalls" >> ParseCalls(
        settings.workspace_id, settings.max_call_bytes, settings.max_rejected_percent, settings.identity_rules
    )
    calls = parsed.calls
    if settings.output_dataset is not None:
        calls = calls | "AddSuppressions" >> AddSuppressions(settings.output_dataset)
    unique = calls | "DedupeCalls" >> DedupeCalls(settings.dedupe_horizon_seconds)
    resolved = (unique.calls, unique.callers) | "ResolveIdentities" >> ResolveIdentities(
        settings.identity_rules, settings.identity_shards or IDENTITY_SHARDS, settings.window_seconds, prior.persons
    )
    shaped = resolved.calls | "ShapeRows" >> ShapeRows(settings.person_source)
    identities = resolved.identities
    if prior.merges is not None:
        identities = (identities, prior.merges) | "AddConflicts" >> beam.Flatten()
    dead_letters = (parsed.dead_letters, resolved.dead_letters) | "FlattenDeadLetters" >> beam.Flatten()
    rejected = dead_letters | "CountDeadLetters" >> CountDeadLetters()
    counted = [each for each in (rejected, unique.counts, resolved.counts, shaped.counts) if each is not None]
    counts = counted | "FlattenCounts" >> beam.Flatten()
    return Outputs(shaped.rows, identities, dead_letters, counts)


def read(pipeline: beam.Pipeline, settings: Settings) -> PCollection:
    """The one input."""
    messages: PCollection
    if settings.input_subscription is not None:
        messages = pipeline | "ReadSubscription" >> ReadSubscription(
            settings.input_subscription, settings.window_seconds
        )
    else:
        messages = pipeline | "ReadFiles" >> ReadFiles(str(settings.input_files))
    return messages


def read_prior(pipeline: beam.Pipeline, settings: Settings) -> Prior:
    """What earlier jobs have written to the dataset, and the customer's own persons."""
    blocks, merges = [], None
    if settings.output_dataset is not None:
        blocks.append(pipeline | "ReadKnownIdentities" >> ReadKnownIdentities(settings.output_dataset))
    if settings.warehouse_persons is not None:
        warehouse = pipeline | "ReadWarehousePersons" >> ReadWarehousePersons(
            settings.warehouse_persons, settings.workspace_id, settings.identity_rules
        )
        blocks.append(warehouse.prior)
        merges = warehouse.merges
    return Prior(blocks | "FlattenPrior" >> beam.Flatten() if blocks else None, merges)


def write(outputs: Outputs, settings: Settings) -> None:
    """All outputs: the data first, then the ledgers, which also hold what BigQuery refused of the data."""
    dead_letters, counts = outputs.dead_letters, outputs.counts
    if settings.output_dataset is not None:
        # With Google's clients, which runs without a dataset do without.
        from pipelines.write_bigquery import DATA_TABLES, LEDGER_TABLES, FailIfRefused, WriteBigQuery

        rows = (outputs.facts, outputs.identities) | "FlattenRows" >> beam.Flatten()
        refused = rows | "WriteData" >> WriteBigQuery(settings.output_dataset, DATA_TABLES, settings.bigquery_method)
        if refused is not None:
            dead_letters = (dead_letters, refused.dead_letters) | "AddRefused" >> beam.Flatten()
            counts = (counts, refused.counts) | "AddRefusedCounts" >> beam.Flatten()
    letter_rows = dead_letters | "ShapeDeadLetters" >> ShapeDeadLetters(pipeline_version())
    count_rows = counts | "CountOutcomes" >> CountOutcomes(settings.window_seconds)
    if settings.output_dataset is not None:
        ledgers = (letter_rows, count_rows) | "FlattenLedgers" >> beam.Flatten()
        refused = ledgers | "WriteLedgers" >> WriteBigQuery(
            settings.output_dataset, LEDGER_TABLES, settings.bigquery_method
        )
        if refused is not None:
            _ = refused.dead_letters | "FailIfRefused" >> FailIfRefused()
    if settings.output_dir is not None:
        rows = {"Facts": outputs.facts, "Identities": outputs.identities}
        rows |= {"DeadLetters": letter_rows, "Counts": count_rows}
        _ = rows | "WriteParquet" >> WriteParquet(settings.output_dir, settings.window_seconds)
        _ = outputs.identities | "WriteIdentityUpdates" >> WriteIdentityUpdates(settings.output_dir)
    if settings.identity_topic is not None:
        _ = outputs.identities | "PublishIdentityUpdates" >> PublishIdentityUpdates(settings.identity_topic)
    if settings.dead_letter_topic is not None:
        _ = dead_letters | "PublishDeadLetters" >> PublishDeadLetters(settings.dead_letter_topic)


def run(argv: Sequence[str]) -> int:
    """Parse the command line, check the world, run the pipeline; the exit code."""
    try:
        settings, beam_flags = parse_settings(argv)
        options = make_options(beam_flags, build_parser(), input_files=settings.input_files)
        if is_local(options):
            settings = fit_to_one_process(settings)
        use_emulators(settings.output_dataset)
        runner = make_runner(options)
        check_world(settings, options)
        pipeline = beam.Pipeline(runner, options)
        write(build(read(pipeline, settings), settings, read_prior(pipeline, settings)), settings)
    except UsageError as error:
        fail(PROGRAM, error)
    outputs = {"Parquet": settings.output_dir, "BigQuery": settings.output_dataset}
    about = Reported(
        PROGRAM, settings.input_files, settings.input_subscription, outputs, "messages", read_outcomes, describe_persons
    )
    return run_reported(pipeline, about, is_local(options), lambda: _complete(settings))


def _complete(settings: Settings) -> None:
    if settings.output_dir is not None:
        complete_folders(settings.output_dir)
        complete_lines(settings.output_dir, FOLDER)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
