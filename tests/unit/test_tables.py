import re
from collections.abc import Iterator, Sequence
from importlib.resources import files

import pyarrow as pa
import pytest

from schemas.tables import (
    TABLES,
    VIEWS,
    Field,
    arrow_schema,
    beam_schema,
    bigquery_schema,
    check_dataset,
    describe_view,
    find_project,
    load_table,
    load_view,
)

# https://cloud.google.com/bigquery/docs/schemas#column_names, and the limits of tables and descriptions beside it.
COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
RESERVED_PREFIXES = ("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier")
MAX_DESCRIPTION = 1024
MAX_CLUSTER_COLUMNS = 4
MAX_COLUMNS = 10_000

TYPES = {"STRING", "JSON", "INTEGER", "FLOAT", "BOOLEAN", "TIMESTAMP", "BYTES", "RECORD"}
MODES = {"REQUIRED", "NULLABLE", "REPEATED"}

# https://cloud.google.com/bigquery/docs/clustered-tables#cluster_column_types
CLUSTERABLE = {"STRING", "INTEGER", "BOOLEAN", "TIMESTAMP"}


def all_fields(fields: Sequence[Field]) -> Iterator[Field]:
    for field in fields:
        yield field
        yield from all_fields(field.fields)


@pytest.mark.parametrize(("folder", "suffix", "names"), [("tables", ".json", TABLES), ("views", ".sql", VIEWS)])
def test_every_file_is_listed_and_every_name_has_a_file(folder: str, suffix: str, names: tuple[str, ...]) -> None:
    found = {path.name for path in files("schemas").joinpath(folder).iterdir()}

    assert found == {name + suffix for name in names}


@pytest.mark.parametrize("name", TABLES)
def test_fields_are_well_formed(name: str) -> None:
    table = load_table(name)

    assert table.name == name
    assert table.description
    assert len(table.fields) <= MAX_COLUMNS
    for field in all_fields(table.fields):
        assert COLUMN_NAME.fullmatch(field.name), field.name
        assert not field.name.lower().startswith(RESERVED_PREFIXES), field.name
        assert 0 < len(field.description) <= MAX_DESCRIPTION, field.name
        assert field.type in TYPES, field.name
        assert field.mode in MODES, field.name
        assert bool(field.fields) == (field.type == "RECORD"), field.name


@pytest.mark.parametrize("name", TABLES)
def test_names_differ_by_more_than_case(name: str) -> None:
    table = load_table(name)

    for fields in (table.fields, *(field.fields for field in all_fields(table.fields))):
        names = [field.name.lower() for field in fields]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", TABLES)
def test_partition_and_cluster_columns_exist_and_have_fitting_types(name: str) -> None:
    table = load_table(name)
    fields = {field.name: field for field in table.fields}

    assert fields[table.partition_by_day].type == "TIMESTAMP"
    assert fields[table.partition_by_day].mode == "REQUIRED"
    assert 1 <= len(table.cluster_by) <= MAX_CLUSTER_COLUMNS
    for column in table.cluster_by:
        assert fields[column].type in CLUSTERABLE
        assert fields[column].mode != "REPEATED"


@pytest.mark.parametrize("name", TABLES)
def test_arrow_and_bigquery_schema_agree(name: str) -> None:
    table = load_table(name)

    assert [_as_bigquery(field) for field in arrow_schema(table)] == [_flatten(f) for f in bigquery_schema(table)]
    assert beam_schema(table) == {"fields": bigquery_schema(table)}


def test_arrow_types_are_those_of_the_contract() -> None:
    schema = arrow_schema(load_table("identifies"))

    assert schema.field("workspace_id") == pa.field("workspace_id", pa.string(), nullable=False)
    assert schema.field("received_at") == pa.field("received_at", pa.timestamp("us", tz="UTC"), nullable=False)
    assert schema.field("age").type == pa.int64()
    assert schema.field("traits").type == pa.string()
    assert schema.field("trait_updates").type.value_type == pa.struct(
        [pa.field("name", pa.string(), nullable=False), pa.field("value", pa.string(), nullable=False)]
    )
    assert arrow_schema(load_table("dead_letters")).field("payload").type == pa.binary()
    assert arrow_schema(load_table("audience_memberships")).field("entered").type == pa.bool_()


def test_schema_given_out_is_not_shared() -> None:
    bigquery_schema(load_table("counts"))[0]["name"] = "broken"

    assert bigquery_schema(load_table("counts"))[0]["name"] == "window_start"


@pytest.mark.parametrize("name", VIEWS)
def test_view_reads_only_what_is_created_before_it(name: str) -> None:
    sources = set(re.findall(r"`my-project\.segment\.(\w+)`", load_view(name, "my-project.segment")))

    assert sources
    assert sources <= {*TABLES, *VIEWS[: VIEWS.index(name)]}


@pytest.mark.parametrize("name", VIEWS)
def test_view_leaves_no_placeholder_and_says_its_grain_and_cost(name: str) -> None:
    assert "{dataset}" not in load_view(name, "my-project.segment")
    assert "Grain: one row" in describe_view(name)
    assert "Cost: " in describe_view(name)


@pytest.mark.parametrize(
    ("view", "table", "key"), [("persons", "identifies", "person_id"), ("groups", "group_identifies", "group_id")]
)
def test_view_folds_every_reserved_trait(view: str, table: str, key: str) -> None:
    sql = load_view(view, "my-project.segment")

    for field in load_table(table).fields:
        if field.description.startswith("Reserved trait "):
            assert f"MAX(IF(trait_name = '{field.name}', {field.name}, NULL)) AS {field.name}," in sql
            assert f"\n  folded.{field.name},\n" in sql


@pytest.mark.parametrize(
    "dataset",
    ["", "segment", "my-project", "my-project.", ".segment", "My.segment", "p.a-b", "p.a.b", "p.a` UNION ALL SELECT 1"],
)
def test_dataset_that_is_no_name_is_refused(dataset: str) -> None:
    with pytest.raises(ValueError, match=re.escape("is no PROJECT.DATASET")):
        load_view("persons", dataset)


@pytest.mark.parametrize("dataset", ["local.segment", "my-project-1.segment_EU", "example.com:my-project.segment"])
def test_dataset_is_put_into_the_view(dataset: str) -> None:
    assert f"`{dataset}.identities`" in load_view("current_identities", dataset)


@pytest.mark.parametrize("project", ["my-project", "example.com:my-project"])
def test_a_project_of_a_domain_has_dots_of_its_own(project: str) -> None:
    check_dataset(f"{project}.segment")

    assert find_project(f"{project}.segment") == project


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError):
        load_table("../tables/counts")
    with pytest.raises(KeyError):
        load_view("../views/persons", "my-project.segment")


def _flatten(field: dict[str, object]) -> tuple[object, ...]:
    members = field.get("fields", [])
    assert isinstance(members, list)
    return field["name"], field["type"], field["mode"], field["description"], tuple(map(_flatten, members))


def _as_bigquery(field: pa.Field) -> tuple[object, ...]:
    """What BigQuery has for this Arrow field. JSON and STRING are both text in Arrow: names tell them apart."""
    kind, mode = field.type, "NULLABLE" if field.nullable else "REQUIRED"
    if pa.types.is_list(kind):
        kind, mode = kind.value_type, "REPEATED"
    description = field.metadata[b"description"].decode()
    if pa.types.is_struct(kind):
        return field.name, "RECORD", mode, description, tuple(_as_bigquery(member) for member in kind)
    names = {
        pa.int64(): "INTEGER",
        pa.float64(): "FLOAT",
        pa.bool_(): "BOOLEAN",
        pa.timestamp("us", tz="UTC"): "TIMESTAMP",
        pa.binary(): "BYTES",
    }
    is_json = field.name in {"traits", "properties", "context", "attributes", "rows_removed_by_table"}
    return field.name, names.get(kind, "JSON" if is_json else "STRING"), mode, description, ()
