"""Rows as columns of Arrow: what is NULL, and what only looks like it."""

import pytest

from pipelines.write_parquet import parquet_table
from schemas.rows import make_row
from schemas.tables import CALLS_TABLES, arrow_schema, load_table


@pytest.mark.parametrize("table", CALLS_TABLES)
def test_columns_without_values_are_nulls_of_their_type(table: str) -> None:
    columns = parquet_table(table, [make_row(table, {})] * 3)

    columns.validate(full=True)
    assert columns.schema.equals(arrow_schema(load_table(table)), check_metadata=True)
    assert {column.null_count for column in columns.columns} == {3}


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("audience_memberships", {"audience_key": "", "entered": False}),
        ("counts", {"count": 0}),
        ("identifies", {"trait_updates": []}),
        ("dead_letters", {"payload": b""}),
    ],
)
@pytest.mark.parametrize("is_alone", [True, False])
def test_values_that_say_nothing_are_no_nulls(table: str, values: dict[str, object], is_alone: bool) -> None:
    rows = [make_row(table, values), *([] if is_alone else [make_row(table, {})])]

    columns = parquet_table(table, rows)

    assert {name: columns[name][0].as_py() for name in values} == values
    assert all(columns[name].null_count == len(rows) - 1 for name in values)
