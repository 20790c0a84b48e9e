"""The command line of email_logs_to_segment: what can be set, what it means, and what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.segment_endpoint import batch_url
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
from pipelines.write_key import SECRET_FLAG, SEGMENT_WRITE_KEY, WriteKeySource
from schemas.email_logs import MAX_LOG_BYTES

PROGRAM = "email_logs_to_segment"

# Longer than any provider tries to deliver a webhook: SNS, the most patient, ends after 23 days.
# https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
HORIZON_DAYS = 30
MAX_HORIZON_DAYS = 400
MAX_TTL_DAYS = 3650

# Pub/Sub: so long a count waits for others of its minute, so fresh is the page that shows them, and so much later a
# local run acknowledges a message.
COUNTS_WINDOW_SECONDS = 5

_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class EmailSettings:
    """What one run of email_logs_to_segment does. Exactly one input, at least one output."""

    input_subscription: str | None = None
    input_files: str | None = None
    identity_subscription: str | None = None
    identity_files: str | None = None
    output_topic: str | None = None
    segment_endpoint: str | None = None
    segment_write_key_secret: str | None = None
    output_dir: str | None = None
    output_dataset: str | None = None
    dead_letter_topic: str | None = None
    workspace_id: str = "default"
    implied_open_on_click: bool = False
    unique_ttl_days: int | None = None
    """None: for ever."""
    dedupe_horizon_seconds: int = HORIZON_DAYS * DAY_SECONDS
    recipient_shards: int | None = None
    """None: as many as FindRecipients finds right for files or for a stream."""
    max_log_bytes: int = MAX_LOG_BYTES
    max_rejected_percent: float = 95.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_one_input(self.input_subscription, self.input_files)
        if self.output_topic is None and self.segment_endpoint is None and self.output_dir is None:
            raise UsageError(
                "give at least one output of calls: --output_topic, --segment_endpoint or --output_dir"
                + (" (--output_dataset holds no calls)" if self.output_dataset is not None else "")
            )
        if self.input_files is not None and self.identity_subscription is not None:
            raise UsageError(
                "--identity_subscription never ends, and --input_files does: give --identity_files with files"
            )
        check_resource("--input_subscription", self.input_subscription, "subscriptions")
        check_resource("--identity_subscription", self.identity_subscription, "subscriptions")
        check_resource("--output_topic", self.output_topic, "topics")
        check_resource("--dead_letter_topic", self.dead_letter_topic, "topics")
        check_output_dataset(self.output_dataset)
        check_workspace(self.workspace_id)
        if self.segment_endpoint is None and self.segment_write_key_secret is not None:
            raise UsageError(f"{SECRET_FLAG} needs --segment_endpoint, e.g. https://api.segment.io")
        if self.segment_endpoint is not None:
            _check_endpoint(self.segment_endpoint)
        WriteKeySource(self.segment_write_key_secret)
        if self.unique_ttl_days is not None and not 1 <= self.unique_ttl_days <= MAX_TTL_DAYS:
            raise UsageError(f"--unique_ttl_days lies between 1 and {MAX_TTL_DAYS}")
        if not 1 <= self.dedupe_horizon_seconds <= MAX_HORIZON_DAYS * DAY_SECONDS:
            raise UsageError(
                f"--dedupe_horizon_seconds lies between 1 and {MAX_HORIZON_DAYS * DAY_SECONDS}, {MAX_HORIZON_DAYS} days"
            )
        if self.recipient_shards is not None and not 1 <= self.recipient_shards <= MAX_SHARDS:
            raise UsageError(f"--recipient_shards lies between 1 and {MAX_SHARDS:,}")
        if self.max_log_bytes < 1:
            raise UsageError("--max_log_bytes is at least 1")
        check_percent("--max_rejected_percent", self.max_rejected_percent)

    @property
    def unique_ttl_seconds(self) -> int | None:
        """unique_ttl_days in seconds."""
        return None if self.unique_ttl_days is None else self.unique_ttl_days * DAY_SECONDS

    @property
    def write_key_source(self) -> WriteKeySource:
        """Where the write key is."""
        return WriteKeySource(self.segment_write_key_secret)


def _check_endpoint(endpoint: str) -> None:
    try:
        url = urlsplit(batch_url(endpoint))
    except ValueError as error:
        raise UsageError(f"--segment_endpoint: {error}") from None
    if url.scheme == "http" and url.hostname not in _THIS_MACHINE:
        raise UsageError("--segment_endpoint: http:// would show the write key to the network; give https://")


def build_parser() -> UsageParser:
    """The flags; all others go to Beam's runner."""
    parser = UsageParser(
        PROGRAM,
        "Read the logs of email providers, find first opens and clicks, each exactly once, and send what happened to\n"
        "Segment as calls. From files it ends with the files; from Pub/Sub it runs on.",
        """examples:
  a log to files of calls, with nothing else running:
    python -m pipelines.email_logs_to_segment --input_files 'log.jsonl' --output_dir out

  files to Segment, with who is who from the other pipeline:
    SEGMENT_WRITE_KEY=... python -m pipelines.email_logs_to_segment --input_files 'log.jsonl' \\
      --identity_files 'out/identity_updates/*.jsonl' --segment_endpoint https://api.segment.io

  Pub/Sub to Pub/Sub on this machine:
    python -m pipelines.email_logs_to_segment \\
      --input_subscription projects/my-project/subscriptions/email-logs \\
      --identity_subscription projects/my-project/subscriptions/identity-updates \\
      --output_topic projects/my-project/topics/segment-events

All other flags are Beam's own, e.g. --runner DataflowRunner --region europe-west1 --temp_location gs://my-bucket/tmp
--setup_file "$PWD/setup.py". A flag that nobody knows is an error.""",
    )
    add_input(parser, "log line, webhook or batch of webhooks")
    persons = parser.add_argument_group("who is who, if known: what segment_to_bigquery tells of it")
    persons.add_argument(
        "--identity_subscription",
        metavar="projects/P/subscriptions/S",
        help="of the topic of its --identity_topic; with --input_subscription",
    )
    persons.add_argument(
        "--identity_files", metavar="GLOB", help="the files identity_updates/*.jsonl of its --output_dir"
    )
    sink = parser.add_argument_group("output, at least one")
    sink.add_argument("--output_topic", metavar="projects/P/topics/T", help="publish each call here")
    sink.add_argument(
        "--segment_endpoint",
        metavar="URL",
        help="send the calls to Segment's HTTP API, e.g. https://api.segment.io. The write key comes from the "
        f"environment variable {SEGMENT_WRITE_KEY} or from {SECRET_FLAG}, never from a flag",
    )
    sink.add_argument(
        SECRET_FLAG,
        metavar="projects/P/secrets/S",
        help="where in Secret Manager the write key is; workers in the cloud read it there",
    )
    sink.add_argument(
        "--output_dir",
        metavar="DIR",
        help="segment_calls/*.jsonl and dead_letters/*.jsonl, local or gs://",
    )
    sink.add_argument(
        "--output_dataset",
        metavar="PROJECT.DATASET",
        help="BigQuery; scripts/create_tables makes the tables. Not for calls: dead_letters holds what is rejected or "
        "refused, email_counts how everything ended",
    )
    add_dead_letter_topic(sink)
    rules = parser.add_argument_group("rules")
    rules.add_argument(
        "--workspace_id",
        default=EmailSettings.workspace_id,
        help="for messages without that attribute and lines without that field. Default: %(default)s",
    )
    rules.add_argument(
        "--implied_open_on_click",
        action="store_true",
        help="a human click of an email without an open makes a unique open: images may be blocked",
    )
    rules.add_argument(
        "--unique_ttl_days",
        type=int,
        help="Pub/Sub only: forget first opens and clicks after so many days, and what comes then is a first again. "
        "Default: never",
    )
    rules.add_argument(
        "--dedupe_horizon_seconds",
        type=int,
        default=EmailSettings.dedupe_horizon_seconds,
        help="Pub/Sub only: how long a log line is remembered. Default: %(default)s, 30 days",
    )
    rules.add_argument(
        "--recipient_shards",
        type=int,
        help="over how many keys recipients and persons are spread. Files: all lines of a shard are in memory at once. "
        "It cannot be changed while a job is updated. Default: 512 for files, 16 for Pub/Sub",
    )
    rules.add_argument(
        "--max_log_bytes",
        type=int,
        default=EmailSettings.max_log_bytes,
        help="of one message or line. Default: %(default)s, what Pub/Sub takes",
    )
    add_max_rejected_percent(
        rules, EmailSettings.max_rejected_percent, "events, of the identity updates or of the calls sent"
    )
    return parser


def parse_email_settings(argv: Sequence[str]) -> tuple[EmailSettings, list[str]]:
    """The settings, and the flags that are Beam's. Raises `UsageError`."""
    flags, beam_flags = build_parser().parse_flags(argv)
    return EmailSettings(**flags), beam_flags
