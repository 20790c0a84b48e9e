"""What the emulator needs and BigQuery does not."""

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.cloud.bigquery import Client


def ask_one_by_one(client: "Client") -> None:
    """Let this client, which several threads share, send a request only when the one before is answered.

    bqemulator 1.4.0 has one connection to DuckDB for all: a listing of rows and a query at the same time may get each
    other's rows.
    """
    ask, lock = client._connection.api_request, threading.Lock()

    def ask_alone(*arguments: Any, **named: Any) -> Any:
        with lock:
            return ask(*arguments, **named)

    client._connection.api_request = ask_alone  # type: ignore[method-assign] # there is no other place to wait
