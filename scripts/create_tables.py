"""Create the dataset's tables and views in BigQuery, or bring them up to date: never anything that loses data."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from google.api_core.exceptions import GoogleAPIError, NotFound
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client, is_bigquery_emulated
from schemas.tables import (
    TABLES,
    VIEWS,
    Field,
    Table,
    bigquery_schema,
    check_dataset,
    describe_view,
    find_project,
    load_table,
    load_view,
)
from services.one_line_parser import OneLineParser

RETRY: Retry = bigquery.DEFAULT_RETRY.with_timeout(10)
"""Google's own retries last ten minutes: too long for someone at a terminal whose emulator is down."""

TIMEOUT_SECONDS = 30.0

# BigQuery answers in the older words, but takes both: https://cloud.google.com/bigquery/docs/schemas#standard_sql_data_types
_OLDER_WORDS = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}

_STANDARD_WORDS = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}

_WOULD = {"created": "would create", "updated": "would update", "unchanged": "unchanged"}

_Apply: TypeAlias = Callable[[], object]


@dataclass(frozen=True)
class Change:
    """What became of one table or view; `details` are its new fields (`+name`) and `descriptions`, if these changed."""

    kind: Literal["table", "view"]
    name: str
    action: Literal["created", "updated", "unchanged"]
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self._tell(f"{self.action:9}")

    def announce(self) -> str:
        """The same of what a dry run has not done."""
        return self._tell(f"{_WOULD[self.action]:12}")

    def _tell(self, action: str) -> str:
        line = f"{action} {self.kind:5} {self.name}"
        return f"{line} ({', '.join(self.details)})" if self.details else line


class UpdateRefusedError(Exception):
    """What stands in BigQuery cannot become what the schemas say without losing data: one line for each difference."""


def create_tables(
    client: bigquery.Client, dataset: str, *, location: str | None = None, dry_run: bool = False
) -> list[Change]:
    """Create or update the tables and views of `dataset` (PROJECT.DATASET); one Change each, in the order of creation.

    The dataset itself is created if it is absent, in `location` or else in BigQuery's default. Tables only ever gain
    NULLABLE or REPEATED fields and new descriptions: any other difference raises UpdateRefusedError before anything is
    changed. Views are replaced. With `dry_run` nothing is changed and the list says what would be.
    Raises ValueError for a name that is no PROJECT.DATASET, and Google's exceptions.
    """
    check_dataset(dataset)
    refusals = list(_refuse_dataset(client, dataset, location))
    plan: list[tuple[Change, _Apply]] = []
    for name in TABLES:
        existing = _get(client, f"{dataset}.{name}")
        table = load_table(name)
        if existing is None:
            plan.append((Change("table", name, "created"), _table_creation(client, dataset, table)))
            continue
        refusals += _refuse_table(existing, table)
        plan.append(_plan_update(client, existing, table))
    for name in VIEWS:
        existing = _get(client, f"{dataset}.{name}")
        if existing is not None and existing.table_type != "VIEW":
            refusals.append(f"{name} is a {existing.table_type}, not a view")
            continue
        plan.append(_plan_view(client, dataset, name, existing))
    if refusals:
        raise UpdateRefusedError("\n".join(refusals))
    if not dry_run:
        _create_dataset(client, dataset, location)
        for _, apply in plan:
            apply()
    return [change for change, _ in plan]


def _get(client: bigquery.Client, name: str) -> bigquery.Table | None:
    try:
        return client.get_table(name, retry=RETRY, timeout=TIMEOUT_SECONDS)
    except NotFound:
        return None


def _refuse_dataset(client: bigquery.Client, dataset: str, location: str | None) -> Iterable[str]:
    try:
        existing = client.get_dataset(dataset, retry=RETRY, timeout=TIMEOUT_SECONDS)
    except NotFound:
        return
    if location is not None and existing.location.lower() != location.lower():
        yield f"dataset {dataset} is in {existing.location}, not in {location}: a dataset cannot move"


def _create_dataset(client: bigquery.Client, dataset: str, location: str | None) -> None:
    wanted = bigquery.Dataset(dataset)
    if location is not None:
        wanted.location = location
    client.create_dataset(wanted, exists_ok=True, retry=RETRY, timeout=TIMEOUT_SECONDS)


def _table_creation(client: bigquery.Client, dataset: str, table: Table) -> _Apply:
    wanted = bigquery.Table(f"{dataset}.{table.name}", schema=bigquery_schema(table))
    wanted.description = table.description
    wanted.time_partitioning = bigquery.TimePartitioning(bigquery.TimePartitioningType.DAY, table.partition_by_day)
    wanted.clustering_fields = list(table.cluster_by)
    return lambda: client.create_table(wanted, retry=RETRY, timeout=TIMEOUT_SECONDS)


def _refuse_table(existing: bigquery.Table, table: Table) -> Iterable[str]:
    """Say what of the existing table cannot be updated, one line each."""
    if existing.table_type != "TABLE":
        yield f"{table.name} is a {existing.table_type}, not a table"
        return
    partitioning = existing.time_partitioning
    found = (partitioning.type_, partitioning.field) if partitioning else None
    if found != ("DAY", table.partition_by_day):
        yield (
            f"{table.name}.{table.partition_by_day}: the schema partitions the table by DAY of this field, "
            f"BigQuery has {'{} of {}'.format(*found) if found else 'no time partitioning'}; that cannot change"
        )
    clustering = tuple(existing.clustering_fields or ())
    if clustering != table.cluster_by:
        yield (
            f"{table.name}: the schema clusters the table by {', '.join(table.cluster_by)}, "
            f"BigQuery has {', '.join(clustering) or 'no clustering'}; that is not changed here"
        )
    yield from _refuse_fields(table.name, existing.schema, table.fields)


def _refuse_fields(path: str, existing: Sequence[bigquery.SchemaField], fields: Sequence[Field]) -> Iterable[str]:
    wanted = {field.name.lower(): field for field in fields}
    found = {field.name.lower(): field for field in existing}
    for key, there in found.items():
        here = wanted.get(key)
        if here is None:
            yield f"{path}.{there.name}: the schema has no such field, BigQuery has; a field is not removed"
            continue
        there_type = _OLDER_WORDS.get(there.field_type, there.field_type)
        if (there_type, there.mode) != (here.type, here.mode):
            yield (
                f"{path}.{here.name}: the schema says {here.mode} {here.type}, "
                f"BigQuery has {there.mode} {there_type}; a field's type and mode are not changed"
            )
        elif here.fields:
            yield from _refuse_fields(f"{path}.{here.name}", there.fields, here.fields)
    for key, here in wanted.items():
        if key not in found and here.mode == "REQUIRED":
            yield f"{path}.{here.name}: a new field cannot be REQUIRED, the rows that are there have no value for it"


def _plan_update(client: bigquery.Client, existing: bigquery.Table, table: Table) -> tuple[Change, _Apply]:
    added = list(_added_fields("", existing.schema, table.fields))
    is_described = existing.description == table.description and _are_described(existing.schema, table.fields)
    details = (*(f"+{name}" for name, _ in added), *(() if is_described else ("descriptions",)))
    if not details:
        return Change("table", table.name, "unchanged"), _do_nothing

    def apply() -> None:
        merged = _merge_fields([field.to_api_repr() for field in existing.schema], bigquery_schema(table))
        existing.schema = [bigquery.SchemaField.from_api_repr(field) for field in merged]
        existing.description = table.description
        client.update_table(existing, ["schema", "description"], retry=RETRY, timeout=TIMEOUT_SECONDS)
        if is_bigquery_emulated():
            _add_emulated_columns(client, existing, [field for name, field in added if "." not in name])

    return Change("table", table.name, "updated", details), apply


def _added_fields(
    path: str, existing: Sequence[bigquery.SchemaField], fields: Sequence[Field]
) -> Iterable[tuple[str, Field]]:
    """Yield the fields that are new, each with its dotted name."""
    found = {field.name.lower(): field for field in existing}
    for field in fields:
        there = found.get(field.name.lower())
        if there is None:
            yield path + field.name, field
        else:
            yield from _added_fields(f"{path}{field.name}.", there.fields, field.fields)


def _are_described(existing: Sequence[bigquery.SchemaField], fields: Sequence[Field]) -> bool:
    wanted = {field.name.lower(): field for field in fields}
    return all(
        there.description == here.description and _are_described(there.fields, here.fields)
        for there in existing
        if (here := wanted.get(there.name.lower()))
    )


def _merge_fields(existing: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the existing fields in their order, described anew, then the new ones; their policies and such stay."""
    by_name = {field["name"].lower(): field for field in wanted}
    merged = []
    for field in existing:
        here = by_name.pop(field["name"].lower(), field)
        both = {**field, "description": here.get("description")}
        if "fields" in here:
            both["fields"] = _merge_fields(field.get("fields", ()), here["fields"])
        merged.append(both)
    return [*merged, *by_name.values()]


def _add_emulated_columns(client: bigquery.Client, table: bigquery.Table, fields: Sequence[Field]) -> None:
    """Add columns to the emulator's storage: what tables.patch adds, bqemulator 1.4.0 only notes in its catalogue."""
    for field in fields:
        client.query_and_wait(
            f"ALTER TABLE `{table.full_table_id.replace(':', '.')}` ADD COLUMN IF NOT EXISTS {_declare_column(field)}",
            retry=RETRY,
            job_retry=RETRY,
        )


def _declare_column(field: Field) -> str:
    kind = _STANDARD_WORDS.get(field.type, field.type)
    if field.fields:
        # Without modes: DuckDB, which is underneath, knows no NOT NULL within a record.
        kind = f"STRUCT<{', '.join(_declare_column(member) for member in field.fields)}>"
    return f"`{field.name}` ARRAY<{kind}>" if field.mode == "REPEATED" else f"`{field.name}` {kind}"


def _plan_view(
    client: bigquery.Client, dataset: str, name: str, existing: bigquery.Table | None
) -> tuple[Change, _Apply]:
    query, description = load_view(name, dataset), describe_view(name)
    # bqemulator 1.4.0 never tells a view's SQL, so there a label remembers it.
    labels = {"sql": sha256(query.encode()).hexdigest()[:16]} if is_bigquery_emulated() else {}
    if existing is None:
        wanted = bigquery.Table(f"{dataset}.{name}")
        wanted.view_query, wanted.description, wanted.labels = query, description, labels
        return Change("view", name, "created"), lambda: client.create_table(
            wanted, retry=RETRY, timeout=TIMEOUT_SECONDS
        )
    is_same = existing.labels == labels if is_bigquery_emulated() else existing.view_query == query
    if is_same and existing.description == description:
        return Change("view", name, "unchanged"), _do_nothing

    def apply() -> None:
        existing.view_query, existing.description = query, description
        existing.labels = {**existing.labels, **labels}
        client.update_table(existing, ["view_query", "description", "labels"], retry=RETRY, timeout=TIMEOUT_SECONDS)

    return Change("view", name, "updated"), apply


def _do_nothing() -> None:
    """Apply a Change that says `unchanged`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 with one line on standard error for each thing that stands in the way."""
    options = _make_parser().parse_args(arguments)
    try:
        check_dataset(options.dataset)
    except ValueError as error:
        print(f"--dataset: {error}", file=sys.stderr)
        return 2
    try:
        client = bigquery_client(find_project(options.dataset))
        changes = create_tables(client, options.dataset, location=options.location, dry_run=options.dry_run)
    except UpdateRefusedError as refusal:
        print(f"{refusal}\nNothing was changed.", file=sys.stderr)
        return 2
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        print(_explain(error), file=sys.stderr)
        return 2
    for change in changes:
        print(change.announce() if options.dry_run else change)
    if options.dry_run:
        print("A dry run: nothing was changed.")
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/create_tables",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Creates the dataset, its tables and its views in BigQuery, or brings them up to date.\n"
            "Tables only gain fields and descriptions; whatever would lose data is refused. Run it at any time."
        ),
        epilog=(
            "examples:\n"
            "  scripts/create_tables --dataset my-project.segment --location EU --dry_run\n"
            "      with your Google credentials (gcloud auth application-default login)\n"
            f"  {BIGQUERY_EMULATOR_HOST}=http://127.0.0.1:9050 scripts/create_tables --dataset local.segment\n"
            "      on an emulator"
        ),
    )
    parser.add_argument("--dataset", required=True, metavar="PROJECT.DATASET", help="where to; created if absent")
    parser.add_argument("--location", help="where a new dataset lives, e.g. EU; default: where BigQuery puts it (US)")
    parser.add_argument("--dry_run", action="store_true", help="say what would be done, and do nothing")
    return parser


def _explain(error: Exception) -> str:
    """Say in one line why BigQuery could not be asked, and what to do where that is known."""
    reason = " ".join(str(getattr(error, "cause", None) or getattr(error, "message", None) or error).split())
    if isinstance(error, GoogleAuthError):
        return f"No access to BigQuery: {reason}"
    if is_bigquery_emulated():
        return f"The emulator at {BIGQUERY_EMULATOR_HOST}={os.environ[BIGQUERY_EMULATOR_HOST]} failed: {reason}"
    return f"BigQuery refused or did not answer: {reason}"


if __name__ == "__main__":
    sys.exit(main())
