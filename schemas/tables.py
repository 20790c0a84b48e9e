"""The tables and views, read from `tables/*.json` and `views/*.sql`: as values, for Arrow and for BigQuery."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from itertools import takewhile
from typing import Any

import pyarrow as pa

TABLES: tuple[str, ...] = (
    "activities",
    "identifies",
    "group_identifies",
    "aliases",
    "identities",
    "identity_merges",
    "audience_memberships",
    "erasure_requests",
    "suppressions",
    "erasures",
    "dead_letters",
    "counts",
    "email_counts",
    "connection_changes",
)
"""Every table's name; each has a file `tables/NAME.json`."""

CALLS_TABLES: tuple[str, ...] = tuple(
    name for name in TABLES if name not in ("erasures", "email_counts", "connection_changes")
)
"""What segment_to_bigquery writes; of the others it has no rows."""

EMAIL_TABLES: tuple[str, ...] = ("dead_letters", "email_counts")
"""What email_logs_to_segment writes."""

VIEWS: tuple[str, ...] = (
    "connections",
    "current_identities",
    "persons",
    "person_activities",
    "groups",
    "group_memberships",
    "audiences",
    "email_activities",
    "email_engagement",
    "email_links",
)
"""Every view's name; each has a file `views/NAME.sql`. A view reads tables and views before it, never one after it."""

_ARROW_TYPES: dict[str, pa.DataType] = {
    "STRING": pa.string(),
    "JSON": pa.string(),  # JSON text: Parquet and Beam's sink both carry it as text
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),  # BigQuery's own precision
    "BYTES": pa.binary(),
}

# A project may carry a domain (`example.com:project`); a dataset has letters, digits and underscores only:
# https://cloud.google.com/bigquery/docs/datasets#dataset-naming. Google asks for 6 letters or more in a project;
# an emulator's may be shorter, and a project that doesn't exist is BigQuery's to refuse.
_DATASET = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{0,28}[a-z0-9]\.[A-Za-z0-9_]{1,1024}")


@dataclass(frozen=True)
class Field:
    """One column or one member of a record: `type` and `mode` are BigQuery's words, only a RECORD has `fields`."""

    name: str
    type: str
    mode: str
    description: str
    fields: tuple["Field", ...] = ()


@dataclass(frozen=True)
class Table:
    """One table: partitioned by the day of the column `partition_by_day`, clustered by `cluster_by` in this order."""

    name: str
    description: str
    partition_by_day: str
    cluster_by: tuple[str, ...]
    fields: tuple[Field, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the fields, in their order."""
        return tuple(field.name for field in self.fields)


@cache
def load_table(name: str) -> Table:
    """Read a table's schema; KeyError if `name` is not in TABLES."""
    if name not in TABLES:
        raise KeyError(name)
    declared = json.loads(files("schemas").joinpath("tables", f"{name}.json").read_text(encoding="utf-8"))
    return Table(
        name=declared["name"],
        description=declared["description"],
        partition_by_day=declared["partition_by_day"],
        cluster_by=tuple(declared["cluster_by"]),
        fields=tuple(_read_field(field) for field in declared["fields"]),
    )


@cache
def arrow_schema(table: Table) -> pa.Schema:
    """Return the table's Arrow schema: JSON is text, a TIMESTAMP counts microseconds in UTC, REQUIRED is not nullable.

    Descriptions are field metadata under the key `description`; the table's own is schema metadata.
    """
    return pa.schema([_arrow_field(field) for field in table.fields], metadata={"description": table.description})


def bigquery_schema(table: Table) -> list[dict[str, Any]]:
    """Return the fields in BigQuery's REST form (name, type, mode, description, fields): a new list each time."""
    return [_bigquery_field(field) for field in table.fields]


def beam_schema(table: Table) -> dict[str, list[dict[str, Any]]]:
    """Return the table's schema as Beam's WriteToBigQuery takes it: `{"fields": [...]}`."""
    return {"fields": bigquery_schema(table)}


def load_view(name: str, dataset: str) -> str:
    """Return a view's GoogleSQL that reads from `dataset`, given as PROJECT.DATASET.

    Raises KeyError if `name` is not in VIEWS and ValueError if `dataset` is no such name: it becomes part of the SQL.
    """
    check_dataset(dataset)
    return _read_view(name).replace("{dataset}", dataset)


def describe_view(name: str) -> str:
    """Return what a view means, from the comment at the top of its file; KeyError if `name` is not in VIEWS."""
    comment = takewhile(lambda line: line.startswith("--"), _read_view(name).splitlines())
    return " ".join(line.removeprefix("--").strip() for line in comment)


def find_project(name: str) -> str:
    """The project of PROJECT.DATASET: all before the last dot, since a domain's project has dots of its own."""
    return name.rpartition(".")[0]


def check_dataset(dataset: str) -> None:
    """Raise ValueError unless `dataset` is PROJECT.DATASET with names that BigQuery allows."""
    if not _DATASET.fullmatch(dataset):
        raise ValueError(
            f"{dataset!r} is no PROJECT.DATASET: a project is made of lower-case letters, digits and hyphens "
            "and begins with a letter; a dataset is made of letters, digits and underscores"
        )


@cache
def _read_view(name: str) -> str:
    if name not in VIEWS:
        raise KeyError(name)
    return files("schemas").joinpath("views", f"{name}.sql").read_text(encoding="utf-8")


def _read_field(declared: Mapping[str, Any]) -> Field:
    return Field(
        name=declared["name"],
        type=declared["type"],
        mode=declared["mode"],
        description=declared["description"],
        fields=tuple(_read_field(member) for member in declared.get("fields", ())),
    )


def _arrow_field(field: Field) -> pa.Field:
    kind = pa.struct([_arrow_field(member) for member in field.fields]) if field.fields else _ARROW_TYPES[field.type]
    if field.mode == "REPEATED":
        # BigQuery's array is never NULL and holds no NULL; an absent one reads as empty.
        kind = pa.list_(pa.field("element", kind, nullable=False))
    return pa.field(field.name, kind, nullable=field.mode != "REQUIRED", metadata={"description": field.description})


def _bigquery_field(field: Field) -> dict[str, Any]:
    declared: dict[str, Any] = {
        "name": field.name,
        "type": field.type,
        "mode": field.mode,
        "description": field.description,
    }
    if field.fields:
        declared["fields"] = [_bigquery_field(member) for member in field.fields]
    return declared
