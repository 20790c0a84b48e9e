"""What bqemulator 1.4.0 lacks: its threads share one connection to DuckDB, and take each other's rows.

A statement's result belongs to the connection until it is read: a thread that lists rows, and another that runs a query
between its statement and its reading, each get what the other asked for.

Worse, they can wait for each other for ever: DuckDB's `register` and `unregister` want Python's lock while they hold
the connection, and a statement that another thread begins wants the connection while it holds Python's lock.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bqemulator.storage.engine import DuckDBEngine


class _Rows:
    """A result that has been read; as Arrow it is asked for again, which only a query ever is."""

    def __init__(self, rows: list[Any], ask_as_arrow: Callable[[], Any]) -> None:
        self._rows = rows
        self.to_arrow_table = ask_as_arrow

    def fetchall(self) -> list[Any]:
        """As DuckDB's."""
        rows, self._rows = self._rows, []
        return rows

    def fetchone(self) -> Any:
        """As DuckDB's."""
        return self._rows.pop(0) if self._rows else None


class _Connection:
    """DuckDB's, each method of which waits for the lock."""

    def __init__(self, connection: Any, lock: AbstractContextManager[Any]) -> None:
        self._connection = connection
        self._lock = lock

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return method(*args, **kwargs)

        return ask


def ask_duckdb_alone() -> None:
    """Let each thread of this process run and read a statement, or lend DuckDB a table, while the others wait."""
    lock = threading.RLock()
    reading = threading.local()
    execute, fetch_arrow = DuckDBEngine.execute, DuckDBEngine.fetch_arrow
    connection: Any = DuckDBEngine.connection

    def execute_alone(self: Any, sql: str, parameters: list[Any] | None = None) -> Any:
        with lock:
            result = execute(self, sql, parameters)
            # `fetch_arrow` reads the result itself, and holds the lock until it has.
            if getattr(reading, "is_arrow", False):
                return result
            return _Rows(result.fetchall(), lambda: fetch_arrow_alone(self, sql, parameters))

    def fetch_arrow_alone(self: Any, sql: str, parameters: list[Any] | None = None) -> Any:
        with lock:
            reading.is_arrow = True
            try:
                return fetch_arrow(self, sql, parameters)
            finally:
                reading.is_arrow = False

    alone: Any = property(lambda self: _Connection(connection.fget(self), lock))
    DuckDBEngine.connection = alone  # type: ignore[method-assign]
    DuckDBEngine.execute = execute_alone  # type: ignore[method-assign]
    DuckDBEngine.fetch_arrow = fetch_arrow_alone  # type: ignore[method-assign]
