"""Our changes to bqemulator."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.api_core.exceptions import BadRequest, GoogleAPIError, NotFound
from google.cloud import bigquery

from pipelines.clients import bigquery_client
from scripts import bigquery_emulator
from scripts.bigquery_emulator import start_bigquery
from scripts.create_tables import create_tables
from tests.emulator.conftest import PROJECT

pytestmark = pytest.mark.slow

ROUNDS = 150


def test_it_needs_no_home_folder_and_fills_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with start_bigquery():
        pass
    assert not list(tmp_path.iterdir())

    monkeypatch.delenv("HOME")
    with start_bigquery():
        pass


def test_a_start_that_fails_says_why_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery_emulator, "find_free_ports", lambda _: ["-1", "-1"])

    with pytest.raises(RuntimeError) as failure, start_bigquery():
        pass

    assert "greater than or equal" in str(failure.value)
    assert "Fatal Python error" not in str(failure.value)


def test_who_lists_rows_and_who_queries_get_their_own(client: bigquery.Client, dataset: str) -> None:
    create_tables(client, dataset)
    table = f"{dataset}.connection_changes"
    rows = [{"changed_at": "2026-01-01", "connection_id": f"c{n}", "change": "set", "name": "n"} for n in range(20)]
    assert client.insert_rows_json(table, rows) == []
    schema = client.get_table(table)

    def list_names(_: int) -> list[str]:
        return [row["connection_id"] for row in client.list_rows(schema)]

    def query_numbers(number: int) -> list[int]:
        with_its_own = bigquery_client(PROJECT)
        try:
            return [
                row[0] for row in with_its_own.query_and_wait(f"SELECT n FROM UNNEST([{number}, 7]) AS n ORDER BY n")
            ]
        finally:
            with_its_own.close()

    with ThreadPoolExecutor(8) as threads:
        listed = [threads.submit(list_names, number) for number in range(ROUNDS)]
        queried = [threads.submit(query_numbers, number) for number in range(ROUNDS)]

    assert {tuple(sorted(each.result())) for each in listed} == {tuple(sorted(row["connection_id"] for row in rows))}
    assert [each.result() for each in queried] == [sorted((number, 7)) for number in range(ROUNDS)]


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT * FROM `{d}.nowhere`", NotFound),
        ("SELECT * FROM `local-project.nowhere.persons`", NotFound),
        ("SELECT nothing FROM `{d}.persons`", BadRequest),
        ("SELECT", BadRequest),
    ],
)
def test_a_query_that_fails_is_no_answer_without_rows(
    client: bigquery.Client, dataset: str, sql: str, error: type[GoogleAPIError]
) -> None:
    create_tables(client, dataset)

    with pytest.raises(error):
        client.query_and_wait(sql.replace("{d}", dataset))
    with pytest.raises(error):
        client.query(sql.replace("{d}", dataset)).result()
