import threading
import time
from typing import Any

import pytest
from bqemulator.storage.engine import DuckDBEngine

from scripts.ask_duckdb_alone import ask_duckdb_alone


class Connection:
    """As DuckDB's: it holds the result of its last statement, for whoever reads."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def execute(self, sql: str) -> "Connection":
        self.rows = [sql]
        time.sleep(0.002)
        return self

    def fetchall(self) -> list[str]:
        time.sleep(0.002)
        return self.rows

    def register(self, name: str) -> None:
        before = self.rows
        time.sleep(0.002)
        assert self.rows is before, "another thread has the connection"


class Engine:
    """As bqemulator's."""

    def __init__(self) -> None:
        self._connection = Connection()

    @property
    def connection(self) -> Connection:
        return self._connection

    def execute(self, sql: str, parameters: list[Any] | None = None) -> Any:
        return self.connection.execute(sql)

    def fetch_arrow(self, sql: str, parameters: list[Any] | None = None) -> Any:
        result = self.execute(sql, parameters)
        return ["arrow", *result.fetchall()]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fake engine with what the real one's class is changed to."""
    names = "execute", "fetch_arrow", "connection"
    for name in names:
        monkeypatch.setattr(DuckDBEngine, name, vars(Engine)[name])
    ask_duckdb_alone()
    return type("Changed", (Engine,), {name: vars(DuckDBEngine)[name] for name in names})()


def test_each_thread_reads_the_rows_of_its_own_statement(engine: Any) -> None:
    wrong: list[object] = []

    def ask(name: str) -> None:
        for number in range(20):
            sql = f"{name} {number}"
            found = engine.fetch_arrow(sql) if number % 2 else engine.execute(sql).fetchall()
            if found != (["arrow", sql] if number % 2 else [sql]):
                wrong.append((sql, found))

    threads = [threading.Thread(target=ask, args=(f"thread {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_table_is_lent_while_nobody_asks(engine: Any) -> None:
    """At once, DuckDB's register and another thread's statement would wait for each other for ever."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            engine.execute("a statement")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(20):
            engine.connection.register(f"table {number}")
    finally:
        is_over.set()
        asking.join()


def test_rows_that_were_read_stay_what_they_were(engine: Any) -> None:
    engine.fetch_arrow("an arrow first")
    first = engine.execute("first")
    engine.execute("second")

    assert first.fetchone() == "first"
    assert first.fetchone() is None


def test_a_result_can_be_had_as_arrow(engine: Any) -> None:
    assert engine.execute("first").to_arrow_table() == ["arrow", "first"]
