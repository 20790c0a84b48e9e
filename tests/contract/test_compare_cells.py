"""The comparison of files looks at every cell: one that differs is found, wherever it is."""

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.compare_cells import KEYS, compare_cells, compare_table
from schemas.tables import Field, arrow_schema, load_table

ROWS = 3
OWN = {"dead_letters": ("rejected_at", "detail", "pipeline_version")}

Rows = list[dict[str, Any]]
Write = Callable[[str, Rows], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    numbers = count()

    def write_rows(table: str, rows: Rows) -> Path:
        output = tmp_path / f"output_{next(numbers)}"
        add_table(output, table, rows)
        return output

    return write_rows


def add_table(output: Path, table: str, rows: Rows) -> None:
    (output / table).mkdir(parents=True)
    schema = arrow_schema(load_table(table))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), output / table / "part.parquet")


def make_rows(table: str) -> Rows:
    fields = load_table(table).fields
    return [{field.name: make_value(field, number) for field in fields} for number in range(ROWS)]


def make_value(field: Field, number: int) -> Any:
    if field.fields:
        return [{"name": "tier", "value": '"basic"'}, {"name": "loans", "value": str(number)}]
    by_type = {
        "STRING": f"{field.name} {number}",
        "JSON": f'{{"number": {number}}}',
        "INTEGER": number,
        "BOOLEAN": number == 0,
        "TIMESTAMP": number * 60_000_000,
        "BYTES": f"payload {number}".encode(),
    }
    return by_type[field.type]


def change_row(rows: Rows, **values: Any) -> Rows:
    return [rows[0], rows[1] | values, *rows[2:]]


def tell(table: str, output: Path, reference: Path) -> list[str]:
    return list(compare_table(table, output, reference))


@pytest.mark.parametrize("table", KEYS)
def test_equal_rows_in_any_order_pass(table: str, write: Write) -> None:
    rows = make_rows(table)

    assert tell(table, write(table, [rows[2], rows[0], rows[1]]), write(table, rows)) == []


@pytest.mark.parametrize("table", KEYS)
@pytest.mark.parametrize("is_null", [False, True])
def test_a_changed_cell_is_found_in_every_column(table: str, is_null: bool, write: Write) -> None:
    rows, own = make_rows(table), (*KEYS[table], *OWN.get(table, ()))
    fields = [field for field in load_table(table).fields if not is_null or field.mode == "NULLABLE"]
    changed = {
        field.name: None if is_null else make_value(field, ROWS) for field in fields if field.name not in KEYS[table]
    }
    if "entered" in changed:
        changed["entered"] = not rows[1]["entered"]

    told = tell(table, write(table, change_row(rows, **changed)), write(table, rows))

    expected = [f"{table}.{column}: 1 differ" for column in changed if column not in own]
    assert [line.partition(", as ")[0] for line in told] == expected


@pytest.mark.parametrize(("table", "key"), [(table, key) for table, keys in KEYS.items() for key in keys])
def test_a_changed_key_is_found(table: str, key: str, write: Write) -> None:
    rows = make_rows(table)
    (field,) = [field for field in load_table(table).fields if field.name == key]

    told = tell(table, write(table, change_row(rows, **{key: make_value(field, ROWS)})), write(table, rows))

    assert len(told) == 1
    assert told[0].startswith(f"{table}: 3 rows, not 3: 1 missing, 1 too many, as ")


@pytest.mark.parametrize(
    ("sent", "written", "is_same"),
    [
        ('{"a":1,"b":[true,null]}', '{"b": [true, null], "a": 1}', True),
        ('{"a":"\u00e9"}', '{"a": "\\u00e9"}', True),
        ('{"a":1}', '{"a":1.0}', False),
        ('{"a":1}', '{"a":true}', False),
        ('{"a":null}', "{}", False),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":1}', '{"a":', False),
    ],
)
def test_json_is_compared_as_what_it_says(sent: str, written: str, is_same: bool, write: Write) -> None:
    rows = make_rows("identifies")
    sent_updates, written_updates = [{"name": "all", "value": sent}], [{"name": "all", "value": written}]
    reference = write("identifies", change_row(rows, traits=sent, trait_updates=sent_updates))
    output = write("identifies", change_row(rows, traits=written, trait_updates=written_updates))

    told = tell("identifies", output, reference)

    differing = [] if is_same else ["identifies.traits", "identifies.trait_updates"]
    assert [line.partition(":")[0] for line in told] == differing


def test_examples_are_told_and_no_more_than_three(write: Write) -> None:
    rows = [{**row, "message_id": f"m{number}"} for number, row in enumerate(make_rows("aliases") * 2)]
    reference = write("aliases", rows)
    output = write("aliases", [{**row, "previous_id": "other", "user_id": None} for row in rows])

    previous, user = tell("aliases", output, reference)

    assert previous.startswith("aliases.previous_id: 6 differ, as workspace_id 0/m0: other, not previous_id 0, work")
    assert user.count("None, not") == 3


def test_an_example_shows_where_long_json_differs(write: Write) -> None:
    rows = make_rows("aliases")
    sent, written = (f'{{"long": "{"x" * 900}", "then": {value}}}' for value in (1, 2))

    (told,) = tell(
        "aliases",
        write("aliases", change_row(rows, context=written)),
        write("aliases", change_row(rows, context=sent)),
    )

    assert 'x","then":2}, not ...' in told
    assert told.endswith('x","then":1}')
    assert len(told) < 300


@pytest.mark.parametrize("found", [[0, 1], [0, 1, 2, 2], [0, 0, 1]])
def test_rows_that_are_missing_or_too_many_are_found(found: list[int], write: Write) -> None:
    rows = make_rows("activities")

    told = tell("activities", write("activities", [rows[number] for number in found]), write("activities", rows))

    assert len(told) == 1
    assert told[0].startswith(f"activities: {len(found)} rows, not 3: ")


def test_counts_are_added_up_and_a_rejection_has_the_minute_of_its_run(write: Write) -> None:
    rows = make_rows("counts")
    rows[0] |= {"outcome": "rejected"}
    reference = write("counts", rows)
    halves = [rows[0] | {"window_start": 7}, rows[1], rows[2] | {"count": 1}, rows[2] | {"count": 1}]

    assert tell("counts", write("counts", halves), reference) == []
    assert len(tell("counts", write("counts", change_row(rows, window_start=7)), reference)) == 1


def test_what_an_engine_does_not_write_is_not_compared(tmp_path: Path) -> None:
    for table in KEYS:
        rows = make_rows(table)
        add_table(tmp_path / "whole", table, rows)
        if table != "identity_merges":
            columns = [name for name in load_table(table).columns if name in (*KEYS[table], "person_id", "count")]
            (tmp_path / "less" / table).mkdir(parents=True)
            few = pa.Table.from_pylist(rows, schema=arrow_schema(load_table(table))).select(columns)
            pq.write_table(few, tmp_path / "less" / table / "part.parquet")

    assert compare_cells("less", tmp_path / "less", "whole", tmp_path / "whole") == []


def test_a_column_that_the_reference_lacks_is_told(write: Write) -> None:
    rows = make_rows("aliases")
    whole, less = write("aliases", rows), write("aliases", rows)
    table = pq.read_table(less / "aliases" / "part.parquet")
    pq.write_table(table.drop_columns(["context"]), less / "aliases" / "part.parquet")

    assert tell("aliases", whole, less) == ["aliases.context: there is no such column"]
    assert tell("aliases", less, whole) == []


@pytest.mark.slow
def test_the_baseline_by_the_docs_has_no_code_of_the_pipeline() -> None:
    program = "import sys, benchmarks.by_the_docs; print(*sorted({name.partition('.')[0] for name in sys.modules}))"

    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()

    assert {"benchmarks", "schemas", "apache_beam"} <= set(loaded)
    assert not {"pipelines", "transforms"} & set(loaded)
