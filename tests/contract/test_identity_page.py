"""docs/identity.md shows what the pipeline makes of its examples: exactly the rows that come out."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.segment_to_bigquery import run
from schemas.identity_rules import DEFAULT_RULES
from tests.factories import NOW, message
from tests.unit.graph_stream import GraphStream
from transforms.logic.identify_callers import find_links
from transforms.logic.parse_call import parse_call

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/identity.md").read_text()
EXAMPLES = ROOT / "docs/examples/identity"

SECTIONS = {
    "visitor.jsonl": "A visitor signs up",
    "devices.jsonl": "Two devices, and a borrowed one",
    "merge.jsonl": "Two persons merge, then a third",
    "alias.jsonl": "An alias before its user_id is known",
    "inbox.jsonl": "A shared inbox",
    "warehouse/calls.jsonl": "Persons of a warehouse",
}

IDENTITIES = "| identifier_type | identifier | person | linked_at |"
ACTIVITIES = "| message_id | timestamp | identifier_type | identifier | person |"
MERGES = "| reason | from_person | into_person | identifier | refused_identifier | message_id | timestamp |"
STREAM_MERGES = "| message_id | from_person | into_person | identifier |"

Rows = set[tuple[str, ...]]
Ask = Callable[[str, str], Rows]


def section(file: str) -> str:
    return PAGE.partition(f"\n### {SECTIONS[file]}\n")[2].partition("\n##")[0]


def tables(text: str) -> Iterator[tuple[str, Rows]]:
    """Header -> rows, of each table in a text."""
    for header, rows in re.findall(r"^(\|.*\|)\n\|[-:|]+\|\n((?:\|.*\|\n)*)", text, re.MULTILINE):
        yield header, {tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows.splitlines()}


def shown(files: Iterable[str], header: str) -> Rows:
    """The rows that the page shows below this header in the sections of these files."""
    return {row for file in files for found, rows in tables(section(file)) if found == header for row in rows}


def cell(value: object) -> str:
    """As the page shows it."""
    if value is None:
        return ""
    return value.strftime("%Y-%m-%d %H:%M") if isinstance(value, datetime) else str(value)


def asker(output_dir: Path) -> Ask:
    def ask(columns: str, table: str) -> Rows:
        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        rows: list[tuple[Any, ...]] = connection.execute(
            f"SELECT {columns} FROM read_parquet(?)", [f"{output_dir}/{table}/*.parquet"]
        ).fetchall()
        return {tuple(cell(value) for value in row) for row in rows}

    return ask


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """The tables of all examples but the warehouse's: they share no identifier, so one run is as good as five."""
    output_dir = tmp_path_factory.mktemp("identity") / "out"
    assert run(["--input_files", f"{EXAMPLES}/*.jsonl", "--output_dir", str(output_dir)]) == 0
    return asker(output_dir)


@pytest.mark.parametrize("file", SECTIONS)
def test_the_page_shows_the_calls_of_its_examples(file: str) -> None:
    assert f"```json\n{(EXAMPLES / file).read_text()}```" in section(file)


def test_every_example_is_on_the_page() -> None:
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.jsonl")} == SECTIONS.keys()


def test_the_page_shows_the_persons_that_come_out(ask: Ask) -> None:
    identities = ask("identifier_type, identifier, person_id[:8], linked_at", "identities")
    activities = ask("message_id, timestamp, identifier_type, identifier, person_id[:8]", "activities")
    on_page = shown(SECTIONS.keys() - {"warehouse/calls.jsonl"}, IDENTITIES)

    assert on_page == identities
    assert shown(SECTIONS, ACTIVITIES) == activities


def test_the_page_shows_the_merges_and_refusals_that_come_out(ask: Ask) -> None:
    columns = 'reason, from_person_id[:8], into_person_id[:8], identifier, refused_identifier, message_id, "timestamp"'

    assert shown(SECTIONS.keys() - {"warehouse/calls.jsonl"}, MERGES) == ask(columns, "identity_merges")


def test_the_page_shows_the_persons_of_the_warehouse(tmp_path: Path) -> None:
    warehouse = ["--person_source", "warehouse", "--warehouse_persons", str(EXAMPLES / "warehouse/persons.csv")]
    calls, output_dir = str(EXAMPLES / "warehouse/calls.jsonl"), tmp_path / "out"
    assert run(["--input_files", calls, "--output_dir", str(output_dir), *warehouse]) == 0
    ask = asker(output_dir)
    identities = ask("identifier_type, identifier, person_id[:8], linked_at", "identities")
    columns = "reason, from_person_id[:8], into_person_id[:8], identifier, refused_identifier, message_id"

    assert shown(["warehouse/calls.jsonl"], IDENTITIES) == identities
    assert {row[:-1] for row in shown(["warehouse/calls.jsonl"], MERGES)} == ask(columns, "identity_merges")


def test_the_page_shows_the_merges_of_a_stream() -> None:
    stream = GraphStream()
    for line in (EXAMPLES / "merge.jsonl").read_bytes().splitlines():
        for workspace_id, block in find_links([parse_call(message(line), NOW, "default")], DEFAULT_RULES).items():
            stream.learn(workspace_id, block.links)
    merges = {
        (merge.cause[0], merge.from_person_id[:8], merge.into_person_id[:8], merge.identifier)
        for merge in stream.merges
    }

    assert shown(["merge.jsonl"], STREAM_MERGES) == merges
