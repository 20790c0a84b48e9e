"""Erase people: their rows in every table, and whatever they send from then on. What stays is said in docs/erasure.md.

Idempotent: what was interrupted is finished by running the same command again.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from requests.exceptions import RequestException

from pipelines.clients import bigquery_client
from pipelines.identity_settings import read_identity_settings
from pipelines.usage import UsageError, check_resource
from schemas.identities import IdentifierType
from schemas.identity_rules import IdentityRules
from schemas.tables import check_dataset, find_project
from scripts.erase_person import Erased, Eraser, Request, RowsRefusedError
from scripts.tell_error import tell_error
from services.one_line_parser import OneLineParser
from transforms.logic.parse_call import normalise_email

DONE, LEFT = 0, 1
"""Exit codes: all is erased; some rows are too young, try again later. 2: a mistake, or BigQuery cannot be asked."""

DEFAULT_WORKSPACE = "default"


class _StreamingBufferError(Exception):
    """Rows were written so recently that BigQuery does not delete them yet."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Erase from the command line; the exit code."""
    options = _make_parser().parse_args(arguments)
    try:
        check_dataset(options.dataset)
        check_resource("--topic", options.topic, "topics")
        rules = read_identity_settings(options.identity_settings)
        request = _read_request(options, rules)
        client = bigquery_client(find_project(options.dataset))
        eraser = Eraser(client, options.dataset, rules, options.topic)
        requests = eraser.find_requests(options.workspace_id) if request is None else [request]
        return _erase_all(eraser, requests, options)
    except (
        ValueError,
        UsageError,
        GoogleAPIError,
        GoogleAuthError,
        RequestException,
        RowsRefusedError,
        TimeoutError,
    ) as error:
        return tell_error("erase", error)


def _read_request(options: argparse.Namespace, rules: IdentityRules) -> Request | None:
    """Whom the command line names; None with --pending."""
    if options.pending:
        return None
    identifier_type, identifier = next(
        (kind.value, getattr(options, kind)) for kind in IdentifierType if getattr(options, kind) is not None
    )
    if identifier_type == IdentifierType.EMAIL:
        identifier = normalise_email(identifier)
        if identifier is None:
            raise ValueError("--email: that is no email")
    if not identifier or rules.is_blocked(identifier):
        raise ValueError(
            f"--{identifier_type}: that value is blocked: it is nobody's, and many people's calls carry it"
        )
    return Request(options.workspace_id or DEFAULT_WORKSPACE, ((identifier_type, identifier),), datetime.now(UTC))


def _erase_all(eraser: Eraser, requests: list[Request], options: argparse.Namespace) -> int:
    rows: Counter[str] = Counter()
    identifiers = left = 0
    for request in requests:
        try:
            erased = eraser.count(request) if options.dry_run else _erase(eraser, request)
        except _StreamingBufferError as error:
            print(f"erase: {error}", file=sys.stderr)
            left += 1
            continue
        rows.update(erased.rows)
        identifiers += erased.identifiers
    for table, count in sorted(rows.items()):
        print(f"{count:10,} {table}")
    done = len(requests) - left
    everywhere = options.pending and options.workspace_id is None
    where = "all workspaces" if everywhere else f"workspace {options.workspace_id or DEFAULT_WORKSPACE}"
    print(f"requests: {done:,} of {where}; rows removed: {rows.total():,}; identifiers suppressed: {identifiers:,}")
    if options.dry_run:
        print("A dry run: nothing was changed.")
    if requests and options.topic is None and not options.dry_run:
        print("Running jobs do not know of it: with --topic they suppress at once, without it when they start.")
    return LEFT if left else DONE


def _erase(eraser: Eraser, request: Request) -> Erased:
    try:
        return eraser.erase(request)
    except GoogleAPIError as error:
        if "streaming buffer" not in str(error):
            raise
        what = "this person" if request.message_id is None else "a delete call"
        raise _StreamingBufferError(
            f"{what} is not erased whole yet: BigQuery deletes no rows that were streamed within the last 90 minutes; "
            "run the same command again then"
        ) from error


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/erase",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Erase a person by any identifier: every row of theirs in every table, dead letters included.\n"
            "Whatever they send from then on is dropped. One row of `erasures` says that it was done, not to whom.\n"
            "Twice does no harm, and a second run finishes what was interrupted."
        ),
        epilog=(
            "examples:\n"
            "  scripts/erase --dataset my-project.segment --email ann@example.com --dry_run\n"
            "      how many rows of which tables would go\n"
            "  scripts/erase --dataset my-project.segment --user_id u1 --topic projects/my-project/topics/calls\n"
            "      erase one person; a running pipeline drops their calls from now on\n"
            "  scripts/erase --dataset my-project.segment --pending --topic projects/my-project/topics/calls\n"
            "      carry out all delete calls; hourly is a good time\n"
            "\n"
            "exit codes: 0 all is erased; 1 some rows are too young for BigQuery to delete, run it again later;\n"
            "2 a mistake, or BigQuery cannot be asked"
        ),
    )
    parser.add_argument("--dataset", required=True, metavar="PROJECT.DATASET")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user_id", help="as it was sent, e.g. u1")
    who.add_argument("--email", help="in any case")
    who.add_argument("--anonymous_id", help="as it was sent")
    who.add_argument("--pending", action="store_true", help="every delete call that was not carried out yet")
    parser.add_argument(
        "--workspace_id", help="whose person it is. Default: `default`; with --pending those of all workspaces"
    )
    parser.add_argument(
        "--topic",
        metavar="projects/P/topics/T",
        help="where the pipeline reads from: tells it whom to suppress. Without it only jobs that start later know",
    )
    parser.add_argument(
        "--identity_settings", metavar="FILE", help="the pipeline's own, if it has one: what is blocked is nobody's"
    )
    parser.add_argument("--dry_run", action="store_true", help="only count")
    return parser


if __name__ == "__main__":
    sys.exit(main())
