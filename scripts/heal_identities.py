"""Resolve all identities of a dataset anew from the calls in its tables, and append what `identities` lacks.

For what a stream cannot know or must not do by itself: calls that another job has loaded, a job that lost its state,
and, with --rebuild and other settings, a merge that was wrong. Reads the identifiers of every call once, and holds the
distinct links of all workspaces in memory. Twice does no harm: the second time there is nothing left to do.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException
from rich.console import Console
from rich.table import Table

from pipelines.clients import bigquery_client
from pipelines.identity_settings import read_identity_settings
from pipelines.read_known import read_known
from pipelines.write_bigquery import bigquery_rows
from schemas.calls import SegmentCall
from schemas.identities import KnownIdentity, LinkBlock
from schemas.identity_rules import IdentityRules
from schemas.tables import check_dataset, find_project
from scripts.create_tables import RETRY
from scripts.tell_error import tell_error
from services.one_line_parser import OneLineParser
from transforms.logic.heal_identities import Healing, find_named, heal, rebuild
from transforms.logic.identify_callers import find_links
from transforms.logic.parse_call import normalise_email
from transforms.logic.read_timestamps import to_micros

BLOCK_CALLS = 10_000

# What Google recommends a request to have at most: https://cloud.google.com/bigquery/quotas#streaming_inserts
INSERT_ROWS = 500

# The email of a call is traits.email, else context.traits.email, else a userId that is one, as in parse_call.
_CALLS = """
SELECT workspace_id, message_id, 'identify' AS type, user_id, anonymous_id, timestamp,
  JSON_VALUE(traits, '$.email') AS email, JSON_VALUE(context, '$.traits.email') AS context_email,
  CAST(NULL AS STRING) AS previous_id
FROM `{dataset}.identifies`
UNION ALL
SELECT workspace_id, message_id, type, user_id, anonymous_id, timestamp,
  NULL, JSON_VALUE(context, '$.traits.email'), NULL
FROM `{dataset}.activities`
UNION ALL
SELECT workspace_id, message_id, 'group', user_id, anonymous_id, timestamp,
  NULL, JSON_VALUE(context, '$.traits.email'), NULL
FROM `{dataset}.group_identifies`
UNION ALL
SELECT workspace_id, message_id, 'alias', user_id, anonymous_id, timestamp,
  NULL, JSON_VALUE(context, '$.traits.email'), previous_id
FROM `{dataset}.aliases`
"""


class WarehousePersonsError(Exception):
    """The persons of this dataset come from a warehouse: its tables do not hold what they were resolved from."""


def find_healing(
    client: bigquery.Client, dataset: str, rules: IdentityRules, *, is_rebuild: bool
) -> dict[str, Healing]:
    """Workspace -> the rows that `identities` lacks. Raises `WarehousePersonsError` and Google's exceptions."""
    known: dict[str, list[KnownIdentity]] = defaultdict(list)
    for identity in read_known(dataset):
        if identity.person_id is not None and identity.person_since is None:
            raise WarehousePersonsError(f"{dataset} has persons of a warehouse, whose emails are not in its calls")
        known[identity.workspace_id].append(identity)
    # Only what has a row to be mended: most visitors never say who they are, and are not held in memory.
    written = {(each.workspace_id, each.identifier_type, each.identifier) for of in known.values() for each in of}
    links: dict[str, list[LinkBlock]] = defaultdict(list)
    carried: dict[str, set[tuple[str, str]]] = defaultdict(set)
    now = time.time_ns() // 1000
    for calls in _read_calls(client, dataset, now):
        for workspace_id, block in find_links(calls, rules).items():
            links[workspace_id].append(block)
        if is_rebuild:
            for call in calls:
                carried[call.workspace_id].update(
                    named for named in find_named(call) if (call.workspace_id, *named) in written
                )
    if not is_rebuild:
        return {
            workspace_id: heal(workspace_id, blocks, known[workspace_id], rules)
            for workspace_id, blocks in links.items()
        }
    # A workspace whose calls link nothing any more has persons to be parted all the same.
    return {
        workspace_id: rebuild(
            workspace_id,
            links[workspace_id] or [LinkBlock([], now)],
            known[workspace_id],
            carried[workspace_id],
            rules,
        )
        for workspace_id in known.keys() | links.keys()
    }


def write_healing(client: bigquery.Client, dataset: str, healing: dict[str, Healing]) -> None:
    """Append the rows. Raises Google's exceptions, and ValueError for a row that BigQuery refuses."""
    for table, column in (("identities", "identities"), ("identity_merges", "merges")):
        rows = [row for each in healing.values() for row in getattr(each, column)]
        values = list(bigquery_rows(table, rows, "STREAMING_INSERTS"))
        for start in range(0, len(values), INSERT_ROWS):
            refused = client.insert_rows_json(f"{dataset}.{table}", values[start : start + INSERT_ROWS], retry=RETRY)
            if refused:
                raise ValueError(f"BigQuery refuses a row of {table}: {refused[0]['errors']}")


def _read_calls(client: bigquery.Client, dataset: str, now: int) -> Iterator[list[SegmentCall]]:
    rows = client.query_and_wait(_CALLS.format(dataset=dataset), page_size=BLOCK_CALLS, retry=RETRY)
    calls = []
    for row in rows:
        email = (
            normalise_email(row["email"]) or normalise_email(row["context_email"]) or normalise_email(row["user_id"])
        )
        call = SegmentCall(
            row["workspace_id"], row["message_id"], row["type"], to_micros(row["timestamp"]) or 0, now, now
        )
        call.user_id, call.anonymous_id, call.previous_id = row["user_id"], row["anonymous_id"], row["previous_id"]
        call.email = email
        calls.append(call)
        if len(calls) == BLOCK_CALLS:
            yield calls
            calls = []
    yield calls


def main(arguments: Sequence[str] | None = None) -> int:
    """Heal from the command line; the exit code: 2 for the user's mistakes."""
    options = _make_parser().parse_args(arguments)
    try:
        check_dataset(options.dataset)
        rules = read_identity_settings(options.identity_settings)
        client = bigquery_client(find_project(options.dataset))
        healing = find_healing(client, options.dataset, rules, is_rebuild=options.rebuild)
        if not options.dry_run:
            write_healing(client, options.dataset, healing)
    except (
        ValueError,
        WarehousePersonsError,
        GoogleAPIError,
        GoogleAuthError,
        RequestException,
    ) as error:
        return tell_error("heal_identities", error)
    table = Table("workspace", "identities to change" if options.dry_run else "identities changed", "persons replaced")
    for workspace_id, each in sorted(healing.items()):
        table.add_row(workspace_id, f"{len(each.identities):,}", f"{len(each.merges):,}")
    Console().print(table)
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/heal_identities",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Resolve all identities of a dataset anew from the calls in its tables, and append to `identities` "
        "what it lacks.\nA running job is not disturbed; it does not learn of it either, until it is started anew.",
        epilog="""examples:
  what would change:
    scripts/heal_identities --dataset my-project.segment --dry_run

  undo a wrong merge, after the shared value was added to the blocked ones (docs/identity.md):
    scripts/heal_identities --dataset my-project.segment --identity_settings identity.toml --rebuild""",
    )
    parser.add_argument("--dataset", required=True, metavar="PROJECT.DATASET")
    parser.add_argument("--identity_settings", metavar="FILE", help="the job's own; docs/identity_settings.md")
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="go by the calls alone, and part persons whom the calls, by these settings, do not unite; without it "
        "persons are only united",
    )
    parser.add_argument("--dry_run", action="store_true", help="only count")
    return parser


if __name__ == "__main__":
    sys.exit(main())
