from typing import Any

import pytest
from google.cloud import bigquery

from schemas.tables import TABLES, VIEWS, Table, bigquery_schema, describe_view, load_table, load_view
from scripts import create_tables as command
from scripts.create_tables import Change, UpdateRefusedError, create_tables, main

needs_emulator = pytest.mark.slow

COUNTS = bigquery_schema(load_table("counts"))
IDENTIFIES = bigquery_schema(load_table("identifies"))


def make_table(client: bigquery.Client, dataset: str, table: Table, **replaced: Any) -> bigquery.Table:
    """The table as create_tables makes it, but for what is replaced."""
    client.create_dataset(dataset, exists_ok=True)
    fields = replaced.get("fields", bigquery_schema(table))
    made = bigquery.Table(f"{dataset}.{table.name}", schema=fields)
    made.description = replaced.get("description", table.description)
    made.time_partitioning = bigquery.TimePartitioning("DAY", replaced.get("partition", table.partition_by_day))
    made.clustering_fields = replaced.get("clustering", list(table.cluster_by))
    return client.create_table(made)


def change_field(declared: list[dict[str, Any]], name: str, **changes: Any) -> list[dict[str, Any]]:
    return [{**field, **changes} if field["name"] == name else field for field in declared]


def drop_field(fields: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [field for field in fields if field["name"] != name]


def table_names(client: bigquery.Client, dataset: str) -> list[str]:
    return [item.table_id for item in client.list_tables(dataset)]


@needs_emulator
def test_an_empty_project_gets_everything(client: bigquery.Client, dataset: str) -> None:
    changes = create_tables(client, dataset, location="EU")

    assert changes == [
        *(Change("table", name, "created") for name in TABLES),
        *(Change("view", name, "created") for name in VIEWS),
    ]
    assert client.get_dataset(dataset).location == "EU"
    for name in TABLES:
        made, table = client.get_table(f"{dataset}.{name}"), load_table(name)
        assert [field.to_api_repr() for field in made.schema] == bigquery_schema(table)
        assert made.description == table.description
        assert (made.time_partitioning.type_, made.time_partitioning.field) == ("DAY", table.partition_by_day)
        assert made.clustering_fields == list(table.cluster_by)
        assert not made.labels
    for name in VIEWS:
        made = client.get_table(f"{dataset}.{name}")
        assert made.table_type == "VIEW"
        assert made.description == describe_view(name)
        assert list(client.query_and_wait(f"SELECT * FROM `{dataset}.{name}`")) == []


@needs_emulator
def test_a_second_run_changes_nothing(client: bigquery.Client, dataset: str) -> None:
    create_tables(client, dataset)
    before = {name: client.get_table(f"{dataset}.{name}").modified for name in (*TABLES, *VIEWS)}

    changes = create_tables(client, dataset)

    assert {change.action for change in changes} == {"unchanged"}
    assert {name: client.get_table(f"{dataset}.{name}").modified for name in (*TABLES, *VIEWS)} == before


@needs_emulator
def test_a_table_of_an_older_version_gains_fields_and_keeps_its_rows(client: bigquery.Client, dataset: str) -> None:
    identifies = load_table("identifies")
    older = drop_field(drop_field(IDENTIFIES, "age"), "trait_updates")
    make_table(client, dataset, identifies, fields=older)
    row = {"workspace_id": "w", "message_id": "m1", "timestamp": "2026-01-01T00:00:00Z"}
    row["received_at"] = row["timestamp"]
    assert client.insert_rows_json(f"{dataset}.identifies", [row], retry=command.RETRY) == []

    changes = create_tables(client, dataset)

    assert Change("table", "identifies", "updated", ("+trait_updates", "+age")) in changes
    updates = [{"name": "age", "value": "36"}]
    newer = {**row, "message_id": "m2", "age": 36, "trait_updates": updates}
    assert client.insert_rows_json(f"{dataset}.identifies", [newer], retry=command.RETRY) == []
    rows = client.query_and_wait(f"SELECT message_id, age, trait_updates FROM `{dataset}.identifies` ORDER BY 1")
    assert [tuple(row.values()) for row in rows] == [("m1", None, []), ("m2", 36, updates)]
    assert {change.action for change in create_tables(client, dataset)} == {"unchanged"}


@needs_emulator
@pytest.mark.parametrize(
    "replaced",
    [
        pytest.param({"description": "Once said otherwise."}, id="of the table"),
        pytest.param({"fields": change_field(COUNTS, "count", description="Once said otherwise.")}, id="of a field"),
    ],
)
def test_changed_descriptions_are_written(client: bigquery.Client, dataset: str, replaced: dict[str, Any]) -> None:
    counts = load_table("counts")
    make_table(client, dataset, counts, **replaced)

    changes = create_tables(client, dataset)

    assert Change("table", "counts", "updated", ("descriptions",)) in changes
    made = client.get_table(f"{dataset}.counts")
    assert made.description == counts.description
    assert [field.to_api_repr() for field in made.schema] == COUNTS


@needs_emulator
def test_a_changed_view_is_replaced(client: bigquery.Client, dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(command, "load_view", lambda name, dataset: f"{load_view(name, dataset)} LIMIT 0")
        create_tables(client, dataset)
    row = {"workspace_id": "w", "identifier_type": "email", "identifier": "a@b.example", "person_id": "p", "version": 1}
    client.insert_rows_json(f"{dataset}.identities", [{**row, "updated_at": "2026-01-01T00:00:00Z"}])
    assert list(client.query_and_wait(f"SELECT * FROM `{dataset}.current_identities`")) == []

    changes = create_tables(client, dataset)

    assert [change.action for change in changes if change.kind == "view"] == ["updated"] * len(VIEWS)
    assert len(list(client.query_and_wait(f"SELECT * FROM `{dataset}.current_identities`"))) == 1


NAME_ONLY = [{"name": "name", "type": "STRING", "mode": "REQUIRED", "description": "n"}]


@needs_emulator
@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        pytest.param(
            {"fields": [*IDENTIFIES, {"name": "mine", "type": "STRING", "mode": "NULLABLE"}]},
            "identifies.mine: the schema has no such field, BigQuery has",
            id="removed field",
        ),
        pytest.param(
            {"fields": change_field(IDENTIFIES, "age", type="FLOAT")},
            "identifies.age: the schema says NULLABLE INTEGER, BigQuery has NULLABLE FLOAT",
            id="changed type",
        ),
        pytest.param(
            {"fields": change_field(IDENTIFIES, "age", mode="REQUIRED")},
            "identifies.age: the schema says NULLABLE INTEGER, BigQuery has REQUIRED INTEGER",
            id="changed mode",
        ),
        pytest.param(
            {"fields": drop_field(IDENTIFIES, "message_id")},
            "identifies.message_id: a new field cannot be REQUIRED",
            id="new required field",
        ),
        pytest.param(
            {"fields": change_field(IDENTIFIES, "trait_updates", fields=NAME_ONLY)},
            "identifies.trait_updates.value: a new field cannot be REQUIRED",
            id="new required member of a record",
        ),
        pytest.param(
            {"partition": "timestamp"},
            "identifies.received_at: the schema partitions the table by DAY of this field, "
            "BigQuery has DAY of timestamp",
            id="changed partitioning",
        ),
        pytest.param(
            {"clustering": ["workspace_id"]},
            "identifies: the schema clusters the table by workspace_id, identifier, BigQuery has workspace_id",
            id="changed clustering",
        ),
    ],
)
def test_what_would_lose_data_is_refused_before_anything_changes(
    client: bigquery.Client,
    dataset: str,
    capsys: pytest.CaptureFixture[str],
    replaced: dict[str, Any],
    said: str,
) -> None:
    make_table(client, dataset, load_table("identifies"), **replaced)

    with pytest.raises(UpdateRefusedError) as refusal:
        create_tables(client, dataset)
    status = main(["--dataset", dataset])

    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1
    assert status == 2
    assert said in capsys.readouterr().err
    assert table_names(client, dataset) == ["identifies"]


@needs_emulator
def test_a_table_in_a_views_place_and_a_view_in_a_tables_place_are_refused(
    client: bigquery.Client, dataset: str
) -> None:
    client.create_dataset(dataset)
    client.create_table(bigquery.Table(f"{dataset}.persons", schema=NAME_ONLY))
    view = bigquery.Table(f"{dataset}.counts")
    view.view_query = "SELECT 1 AS one"
    client.create_table(view)

    with pytest.raises(UpdateRefusedError) as refusal:
        create_tables(client, dataset)

    assert str(refusal.value).splitlines() == ["counts is a VIEW, not a table", "persons is a TABLE, not a view"]


@needs_emulator
def test_another_location_than_the_datasets_is_refused(client: bigquery.Client, dataset: str) -> None:
    create_tables(client, dataset, location="EU")

    with pytest.raises(UpdateRefusedError, match="is in EU, not in US"):
        create_tables(client, dataset, location="US")
    assert {change.action for change in create_tables(client, dataset, location="eu")} == {"unchanged"}


@needs_emulator
def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    client: bigquery.Client, dataset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(client, dataset, load_table("counts"), fields=drop_field(COUNTS, "reason"))

    status = main(["--dataset", dataset, "--dry_run"])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert "would create table identifies" in lines
    assert "would update table counts (+reason)" in lines
    assert not [line for line in lines if line.startswith(("created", "updated"))]
    assert lines[-1] == "A dry run: nothing was changed."
    assert table_names(client, dataset) == ["counts"]
    assert "reason" not in [field.name for field in client.get_table(f"{dataset}.counts").schema]


@needs_emulator
def test_one_line_is_printed_for_each_table_and_view(
    running_bigquery: str,
    dataset: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # without http://, as people write the other emulators' variables
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", running_bigquery.removeprefix("http://"))

    status = main(["--dataset", dataset])

    assert status == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"created   table {name}" for name in TABLES),
        *(f"created   view  {name}" for name in VIEWS),
    ]


@pytest.mark.parametrize("dataset", ["segment", "my-project", "my-project.seg-ment", "My Project.segment"])
def test_a_bad_dataset_name_is_one_line_and_status_2(dataset: str, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--dataset", dataset])

    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert said.err.startswith(f"--dataset: {dataset!r} is no PROJECT.DATASET")
    assert said.err.count("\n") == 1


def test_an_emulator_that_is_down_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(command, "RETRY", command.RETRY.with_timeout(0.1))

    status = main(["--dataset", "local-project.segment"])

    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert said.err.startswith("The emulator at BIGQUERY_EMULATOR_HOST=http://127.0.0.1:1 failed: ")
    assert "Connection refused" in said.err
    assert said.err.count("\n") == 1


def test_missing_credentials_are_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")

    status = main(["--dataset", "my-project.segment"])

    said = capsys.readouterr()
    assert (status, said.out) == (2, "")
    assert said.err.startswith("No access to BigQuery: File /nowhere/key.json was not found")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--dataset", "a.b", "--dry"], ["--dataset", "a.b", "--project", "p"]])
def test_unknown_and_missing_flags_are_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("scripts/create_tables: ")
