"""Send dead letters again: messages to their topic, rows that BigQuery refused to their table.

Idempotent: a message keeps its bytes and so its messageId, and what is sent twice carries the same attributes: the
pipeline or the views drop what is there already.
The dead letters themselves stay; a message that is rejected again becomes one more.

The table holds those of both pipelines, which read different topics: those of email_logs_to_segment go with --step.
"""

import argparse
import base64
import difflib
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException

from pipelines.clients import bigquery_client, go_without_credentials
from pipelines.usage import UsageError, check_resource, warn
from pipelines.write_bigquery import DATA_TABLES, table_label
from schemas.email_outcomes import OUTCOME_OF_STEP
from schemas.rejections import Reason
from schemas.tables import check_dataset, find_project
from scripts.create_tables import RETRY
from scripts.publish_all import publish_all
from scripts.tell_error import tell_error
from services.one_line_parser import OneLineParser
from transforms.logic.snake_case import snake_case

BEHIND_DEDUPLICATION = "ResolveIdentities"
"""The step whose dead letters de-duplication has let through, and so remembers."""

EMAIL_STEPS = tuple(OUTCOME_OF_STEP)
"""The steps of email_logs_to_segment that make dead letters."""

STEPS = ("ParseCalls", BEHIND_DEDUPLICATION, *EMAIL_STEPS, *(f"Write{table_label(table)}" for table in DATA_TABLES))
"""All steps that make dead letters."""

_QUERY = """
SELECT
  reason, step, payload, attributes, workspace_id, connection_id, message_id, rejected_at, payload_sha256, part
FROM `{dataset}.dead_letters`
WHERE (ARRAY_LENGTH(@reasons) = 0 OR reason IN UNNEST(@reasons))
  AND (@since IS NULL OR rejected_at >= @since) AND (@until IS NULL OR rejected_at < @until)
ORDER BY rejected_at, payload_sha256, part
"""


class Replayed(NamedTuple):
    """How many dead letters were sent, by what became of them."""

    published: int
    inserted: int
    refused: int
    """Rows that BigQuery refused once more."""


def find_dead_letters(
    client: bigquery.Client, dataset: str, reasons: Sequence[str], since: datetime | None, until: datetime | None
) -> list[dict[str, Any]]:
    """The dead letters with one of these reasons (none: all) that arrived in [since, until)."""
    config = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ArrayQueryParameter("reasons", "STRING", list(reasons)),
            bigquery.ScalarQueryParameter("since", "TIMESTAMP", since),
            bigquery.ScalarQueryParameter("until", "TIMESTAMP", until),
        ]
    )
    return join_parts(client.query_and_wait(_QUERY.format(dataset=dataset), job_config=config, retry=RETRY))


def join_parts(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """One dead letter a message: the payload of a very large one stands in several rows, in the order of their part."""
    letters: list[dict[str, Any]] = []
    for row in rows:
        if row["part"] is not None and row["part"] > 1:
            letters[-1]["payload"] += row["payload"]
        else:
            letters.append(dict(row))
    return letters


def read_dead_letters(
    pattern: str, reasons: Sequence[str], since: datetime | None, until: datetime | None
) -> list[dict[str, Any]]:
    """The same of the files `dead_letters/*.jsonl` that email_logs_to_segment writes. Raises ValueError and OSError."""
    files = FileSystems.match([pattern])[0].metadata_list
    if not files:
        raise ValueError(f"no file matches {pattern!r}")
    letters = [letter for file in files for letter in _read_file(file.path)]
    return [
        letter
        for letter in letters
        if (not reasons or letter["reason"] in reasons)
        and (since is None or since <= letter["rejected_at"])
        and (until is None or letter["rejected_at"] < until)
    ]


def _read_file(path: str) -> Iterator[dict[str, Any]]:
    if os.path.isdir(path):
        raise ValueError(f"--files: {path} is a folder; name its files: '{path.rstrip('/')}/*.jsonl'")
    with FileSystems.open(path) as file:
        try:
            lines = file.read().splitlines()
        except zlib.error as error:
            raise ValueError(f"{path}: cannot be unpacked: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            letter = json.loads(line)
            encoded = letter.get("payload_base64")
            payload = letter["payload"].encode() if encoded is None else base64.b64decode(encoded)
            if not letter.keys() >= {"step", "reason", "workspace_id", "connection_id", "attributes"}:
                raise ValueError
            yield letter | {"payload": payload, "rejected_at": _read_time(letter["rejected_at"])}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path}, line {number}: no dead letter") from None


def _read_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def choose_letters(letters: Iterable[dict[str, Any]], step: str | None) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The letters of one step; without a step, those of segment_to_bigquery.

    Also how many of email_logs_to_segment were left out, by their step: no one topic would be right for them.
    """
    if step is not None:
        return [letter for letter in letters if letter["step"] == step], Counter()
    chosen, left_out = [], Counter[str]()
    for letter in letters:
        if letter["step"] in EMAIL_STEPS:
            left_out[letter["step"]] += 1
        else:
            chosen.append(letter)
    return chosen, left_out


def replay(client: bigquery.Client | None, dataset: str | None, topic: str, letters: Iterable[Any]) -> Replayed:
    """Publish the messages to `topic` with their attributes, and insert refused rows into their tables.

    Raises ValueError if there is no such topic, TimeoutError if Pub/Sub does not answer, and Google's exceptions.
    """
    messages, inserted, refused = [], 0, 0
    for letter in letters:
        if letter["reason"] == Reason.REFUSED_BY_BIGQUERY and client is not None:
            table = snake_case(letter["step"].removeprefix("Write"))
            errors = client.insert_rows_json(f"{dataset}.{table}", [json.loads(letter["payload"])], retry=RETRY)
            inserted, refused = inserted + (not errors), refused + bool(errors)
        else:
            messages.append((letter["payload"], replay_attributes(letter)))
    published = publish_all(topic, messages)
    return Replayed(published, inserted, refused)


def replay_attributes(letter: Any) -> dict[str, str]:
    """The message's own, and where it belongs: a default that the pipeline had may be another now.

    A message that was rejected behind the de-duplication is a duplicate of itself, unless `replay` says that it is
    another delivery. It says the same for all dead letters of one message, so that only one of them gets through; and
    something else each time that the replay itself was rejected. What was rejected earlier has not been remembered.
    """
    attributes = letter["attributes"] or {}
    if isinstance(attributes, str):
        attributes = json.loads(attributes)
    where = {"workspace_id": letter["workspace_id"], "connection_id": letter["connection_id"]}
    attributes = {name: value for name, value in where.items() if value} | attributes
    if letter["step"] == BEHIND_DEDUPLICATION:
        message = letter.get("message_id") or sha256(letter["payload"]).hexdigest()
        known_by = [attributes.get("workspace_id"), message, attributes.get("replay")]
        attributes["replay"] = sha256(json.dumps(known_by).encode()).hexdigest()
    return attributes


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay from the command line; the exit code: 1 if a row was refused again, 2 for the user's mistakes."""
    options = _make_parser().parse_args(arguments)
    warning = go_without_credentials([options.files or ""])
    if warning is not None:
        warn("replay_dead_letters", warning)
    try:
        check_resource("--topic", options.topic, "topics")
        client = None
        chosen = (options.reason, options.since, options.until)
        if options.files is not None:
            letters = read_dead_letters(options.files, *chosen)
        else:
            check_dataset(options.dataset)
            client = bigquery_client(find_project(options.dataset))
            letters = find_dead_letters(client, options.dataset, *chosen)
        if options.step is not None or options.dataset is not None:  # files hold those of email_logs_to_segment alone
            letters, left_out = choose_letters(letters, options.step)
            _tell_left_out(left_out)
        for reason, count in sorted(Counter(letter["reason"] for letter in letters).items()):
            print(f"{count:8,} {reason}")
        if options.dry_run:
            print(f"{len(letters):8,} dead letters would be sent")
            return 0
        replayed = replay(client, options.dataset, options.topic, letters)
    except (ValueError, OSError, UsageError, GoogleAPIError, GoogleAuthError, RequestException) as error:
        return tell_error("replay_dead_letters", error)
    print(
        f"{replayed.published:,} messages published, {replayed.inserted:,} rows inserted, "
        f"{replayed.refused:,} refused again"
    )
    return 1 if replayed.refused else 0


def _tell_left_out(left_out: Counter[str]) -> None:
    if left_out:
        steps = ", ".join(f"{count:,} {step}" for step, count in sorted(left_out.items()))
        print(
            f"{left_out.total():8,} dead letters of email_logs_to_segment left out ({steps}): they belong to other "
            "topics. Send those of each step with --step and its --topic: docs/dead_letters.md#replaying-email-logs"
        )


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/replay_dead_letters",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Send dead letters again after a fix. Twice does no harm.",
        epilog="examples:\n  scripts/replay_dead_letters --dataset my-project.segment "
        "--topic projects/my-project/topics/segment-calls --reason too_large --dry_run\n"
        "  scripts/replay_dead_letters --files 'out/dead_letters/*.jsonl' --step ParseEmailLogs "
        "--topic projects/my-project/topics/email-logs\n"
        "  scripts/replay_dead_letters --dataset my-project.segment --step ParseEmailLogs "
        "--topic projects/my-project/topics/email-logs",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="PROJECT.DATASET", help="the table dead_letters of it")
    source.add_argument("--files", metavar="GLOB", help="what email_logs_to_segment writes: out/dead_letters/*.jsonl")
    parser.add_argument(
        "--topic",
        required=True,
        metavar="projects/P/topics/T",
        help="where the pipeline reads from that rejected them; for calls that Segment refused, where it publishes to",
    )
    parser.add_argument(
        "--step",
        type=_read_step,
        help="only those of one step, e.g. ParseEmailLogs. Without it those of email_logs_to_segment stay in the table",
    )
    parser.add_argument(
        "--reason", action="append", default=[], choices=[reason.value for reason in Reason], help="may be repeated"
    )
    parser.add_argument("--since", type=_read_bound, metavar="TIME", help="ISO 8601, e.g. 2026-01-31T00:00:00Z")
    parser.add_argument("--until", type=_read_bound, metavar="TIME", help="ISO 8601, not included")
    parser.add_argument("--dry_run", action="store_true", help="only count")
    return parser


def _read_step(text: str) -> str:
    if text in STEPS:
        return text
    close = difflib.get_close_matches(text, STEPS, n=1)
    meant = f"did you mean {close[0]}?" if close else f"these do: {', '.join(STEPS)}"
    raise argparse.ArgumentTypeError(f"no step {text} makes dead letters; {meant}")


def _read_bound(text: str) -> datetime:
    try:
        return _read_time(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 time, e.g. 2026-01-31T00:00:00Z") from None


if __name__ == "__main__":
    sys.exit(main())
