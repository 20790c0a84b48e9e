"""The command line of segment_to_bigquery: what can be set, what it means, and what is refused."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.identity_settings import IdentitySettingsError, read_identity_settings
from pipelines.usage import (
    DAY_SECONDS,
    MAX_SHARDS,
    UsageError,
    UsageParser,
    add_dead_letter_topic,
    add_input,
    add_max_rejected_percent,
    check_one_input,
    check_output_dataset,
    check_percent,
    check_resource,
    check_workspace,
)
from schemas.calls import MAX_CALL_BYTES
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.tables import check_dataset

PROGRAM = "segment_to_bigquery"

MAX_HORIZON_DAYS = 30

# Enough for a million people. In one process there is nobody to share the work with, and each window costs each pair of
# shards an element.
IDENTITY_SHARDS = 16
LOCAL_IDENTITY_SHARDS = 1
BIGQUERY_METHODS = ("STREAMING_INSERTS", "STORAGE_WRITE_API", "FILE_LOADS")
PERSON_SOURCES = ("calls", "warehouse")
PERSON_FILES = (".csv", ".jsonl", ".jsonl.gz", ".parquet")
"""What the name of a file of warehouse persons ends in; any other name is a table of BigQuery."""

# https://cloud.google.com/bigquery/docs/tables#table_naming, without the characters that only quoted names may have.
_TABLE = re.compile(r"[\w-]{1,1024}")


@dataclass(frozen=True)
class Settings:
    """What one run of segment_to_bigquery does. Exactly one input, at least one output."""

    input_subscription: str | None = None
    input_files: str | None = None
    output_dataset: str | None = None
    output_dir: str | None = None
    dead_letter_topic: str | None = None
    identity_topic: str | None = None
    workspace_id: str = "default"
    dedupe_horizon_seconds: int = DAY_SECONDS
    window_seconds: int = 10
    max_call_bytes: int = MAX_CALL_BYTES
    max_rejected_percent: float = 95.0
    bigquery_method: str = "STREAMING_INSERTS"
    person_source: str = "calls"
    """One of PERSON_SOURCES: `warehouse` means that traits of persons come from there and none are written."""
    warehouse_persons: str | None = None
    """Files that end in one of PERSON_FILES, or a table PROJECT.DATASET.TABLE; set if person_source is warehouse."""
    identity_rules: IdentityRules = DEFAULT_RULES
    """What the file of --identity_settings says."""
    identity_shards: int | None = None
    """None: as many as suit where the stream runs, IDENTITY_SHARDS or one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_one_input(self.input_subscription, self.input_files)
        if self.output_dataset is None and self.output_dir is None:
            raise UsageError("give at least one output: --output_dataset or --output_dir")
        check_resource("--input_subscription", self.input_subscription, "subscriptions")
        check_resource("--dead_letter_topic", self.dead_letter_topic, "topics")
        check_resource("--identity_topic", self.identity_topic, "topics")
        check_output_dataset(self.output_dataset)
        check_workspace(self.workspace_id)
        if not 1 <= self.dedupe_horizon_seconds <= MAX_HORIZON_DAYS * DAY_SECONDS:
            raise UsageError(
                f"--dedupe_horizon_seconds lies between 1 and {MAX_HORIZON_DAYS * DAY_SECONDS}, {MAX_HORIZON_DAYS} days"
            )
        if self.window_seconds < 1:
            raise UsageError("--window_seconds is at least 1")
        if self.identity_shards is not None and not 1 <= self.identity_shards <= MAX_SHARDS:
            raise UsageError(f"--identity_shards lies between 1 and {MAX_SHARDS:,}")
        if self.max_call_bytes < 1:
            raise UsageError("--max_call_bytes is at least 1")
        check_percent("--max_rejected_percent", self.max_rejected_percent)
        if self.bigquery_method == "FILE_LOADS" and self.input_subscription is not None:
            raise UsageError("--bigquery_method FILE_LOADS gives no refused rows back: use it for --input_files only")
        if self.person_source == "warehouse" and self.warehouse_persons is None:
            raise UsageError("--person_source warehouse needs --warehouse_persons: whose persons are they?")
        if self.person_source != "warehouse" and self.warehouse_persons is not None:
            raise UsageError("--warehouse_persons needs --person_source warehouse")
        if self.warehouse_persons is not None:
            _check_persons(self.warehouse_persons)


def build_parser() -> UsageParser:
    """The flags; all others go to Beam's runner."""
    parser = UsageParser(
        PROGRAM,
        "Read Segment calls, validate and de-duplicate them, resolve who each is from, and write the\n"
        "tables of people, activities and groups. From files it ends with the files; from Pub/Sub it runs on.",
        """examples:
  calls in a file to Parquet files, with nothing else running:
    python -m pipelines.segment_to_bigquery --input_files 'calls.jsonl' --output_dir out

  Pub/Sub to BigQuery on this machine:
    python -m pipelines.segment_to_bigquery \\
      --input_subscription projects/my-project/subscriptions/segment-calls \\
      --output_dataset my-project.segment

All other flags are Beam's own, e.g. --runner DataflowRunner --region europe-west1 --temp_location gs://my-bucket/tmp
--setup_file "$PWD/setup.py". A flag that nobody knows is an error.""",
    )
    add_input(parser, "call")
    sink = parser.add_argument_group("output, at least one")
    sink.add_argument(
        "--output_dataset", metavar="PROJECT.DATASET", help="BigQuery; scripts/create_tables makes the tables"
    )
    sink.add_argument("--output_dir", metavar="DIR", help="Parquet files, a sub-folder per table, local or gs://")
    add_dead_letter_topic(sink)
    sink.add_argument(
        "--identity_topic",
        metavar="projects/P/topics/T",
        help="publish here which person an email or a user_id belongs to, whenever that changes",
    )
    sink.add_argument(
        "--bigquery_method",
        choices=BIGQUERY_METHODS,
        default=Settings.bigquery_method,
        help="Beam's way to write. STREAMING_INSERTS runs everywhere; STORAGE_WRITE_API is cheaper, for Dataflow, and "
        "needs Java where the job is launched; FILE_LOADS is free, for files only, and needs --temp_location gs://. "
        "Default: %(default)s",
    )
    rules = parser.add_argument_group("rules")
    rules.add_argument(
        "--workspace_id",
        default=Settings.workspace_id,
        help="for messages without that attribute. Default: %(default)s",
    )
    rules.add_argument(
        "--dedupe_horizon_seconds",
        type=int,
        default=Settings.dedupe_horizon_seconds,
        help="how long a messageId is remembered, up to 30 days. Default: %(default)s, 24 hours",
    )
    rules.add_argument(
        "--window_seconds",
        type=int,
        default=Settings.window_seconds,
        help="Pub/Sub only: how long a call waits for what tells who it is from. Default: %(default)s",
    )
    rules.add_argument(
        "--max_call_bytes",
        type=int,
        default=Settings.max_call_bytes,
        help="Segment's limit is the default: %(default)s",
    )
    add_max_rejected_percent(rules, Settings.max_rejected_percent, "messages")
    persons = parser.add_argument_group("persons")
    persons.add_argument(
        "--person_source",
        choices=PERSON_SOURCES,
        default=Settings.person_source,
        help="where persons and their traits come from. warehouse: from --warehouse_persons; an identify then only "
        "maps its userId to a person, and no traits are written. Default: %(default)s",
    )
    persons.add_argument(
        "--warehouse_persons",
        metavar="FILE_OR_TABLE",
        help="your own persons, whose ids win over ours: a file or GLOB that ends in .csv, .jsonl, .jsonl.gz or "
        ".parquet, local or gs://, or a table PROJECT.DATASET.TABLE; with the columns person_id and email, and "
        "workspace_id unless all are of --workspace_id. Read once, when the job starts",
    )
    persons.add_argument(
        "--identity_settings",
        metavar="FILE",
        help="a TOML file of limits, blocked values and priorities, local or gs://; docs/identity_settings.md. "
        "Default: schemas/identity_settings.toml",
    )
    persons.add_argument(
        "--identity_shards",
        type=int,
        help="Pub/Sub only: over how many keys the identifiers are spread. 16 do for a million people; more people and "
        "more workers want more, e.g. 512. It cannot be changed while a job is updated. "
        f"Default: {IDENTITY_SHARDS}, or {LOCAL_IDENTITY_SHARDS} where the stream runs in this process",
    )
    return parser


def parse_settings(argv: Sequence[str]) -> tuple[Settings, list[str]]:
    """The settings, and the flags that are Beam's. Raises `UsageError`."""
    flags, beam_flags = build_parser().parse_flags(argv)
    path = flags.pop("identity_settings")
    try:
        rules = read_identity_settings(path)
    except IdentitySettingsError as error:
        raise UsageError(f"--identity_settings: {error}") from None
    return Settings(**flags, identity_rules=rules), beam_flags


def fit_to_one_process(settings: Settings) -> Settings:
    """The settings of a local run: what was left to the runner is chosen for one process."""
    return settings if settings.identity_shards else replace(settings, identity_shards=LOCAL_IDENTITY_SHARDS)


def _check_persons(source: str) -> None:
    if source.endswith(PERSON_FILES):
        return
    dataset, _, table = source.rpartition(".")
    try:
        check_dataset(dataset)
    except ValueError:
        table = ""
    if not _TABLE.fullmatch(table):
        raise UsageError(
            f"--warehouse_persons {source!r} is neither a file that ends in {', '.join(PERSON_FILES[:-1])} or "
            f"{PERSON_FILES[-1]} nor a table PROJECT.DATASET.TABLE"
        )
