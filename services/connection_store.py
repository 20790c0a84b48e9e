"""Where connections are kept: the table `connection_changes`, to which rows are only ever added."""

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from schemas.connections import Connection
from services.connection_changes import Change, fold_changes

if TYPE_CHECKING:  # google.cloud takes a second to import
    from google.cloud.bigquery import Client

TABLE = "connection_changes"
TIMEOUT_SECONDS = 10.0

_TIMES = ("changed_at", "expires_at")
_BYTES = ("key_salt", "key_hash")


class StoreError(RuntimeError):
    """BigQuery did not take or give the connections; one line that says what to do."""


class ConnectionStore:
    """The connections of one dataset, PROJECT.DATASET."""

    def __init__(self, client: "Client", dataset: str) -> None:
        self._client = client
        self._table = f"{dataset}.{TABLE}"

    def load(self) -> dict[str, Connection]:
        """All connections by their id, oldest first. Raises `StoreError`.

        The rows are listed, not queried: that is free of charge and shows what was written a moment ago.
        https://cloud.google.com/bigquery/docs/managing-table-data#browse-table
        """
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.bigquery import DEFAULT_RETRY
        from requests.exceptions import RequestException

        try:
            retry = DEFAULT_RETRY.with_timeout(TIMEOUT_SECONDS)
            table = self._client.get_table(self._table, retry=retry, timeout=TIMEOUT_SECONDS)
            rows = self._client.list_rows(table, retry=retry, timeout=TIMEOUT_SECONDS)
            return fold_changes(_read_row(dict(row.items())) for row in rows)
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            raise StoreError(
                f"connections cannot be read from {self._table} ({type(error).__name__}): "
                "run scripts/create_tables, or look at the account's roles"
            ) from error

    def append(self, changes: Iterable[Change]) -> None:
        """Keep these changes. Raises `StoreError`; then some may have been kept and some not."""
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        try:
            refused = self._client.insert_rows_json(
                self._table, [_shape_row(change) for change in changes], timeout=TIMEOUT_SECONDS
            )
        except (GoogleAPIError, GoogleAuthError, RequestException) as error:
            raise StoreError(
                f"the change cannot be written to {self._table} ({type(error).__name__}): "
                "run scripts/create_tables, or look at the account's roles"
            ) from error
        if refused:
            raise StoreError(f"{self._table} refused the change: run scripts/create_tables to bring it up to date")


def _shape_row(change: Change) -> dict[str, Any]:
    row = {name: getattr(change, name) for name in change.__struct_fields__}
    for name in _TIMES:
        if row[name] is not None:
            row[name] = datetime.fromtimestamp(row[name] / 1e6, UTC).isoformat()
    for name in _BYTES:
        if row[name] is not None:
            row[name] = base64.b64encode(row[name]).decode()
    return row


def _read_row(row: Mapping[str, Any]) -> Change:
    """Columns that only a newer version knows count for nothing: it may have added them while this one runs."""
    known = {name: row[name] for name in Change.__struct_fields__ if name in row}
    for name in _TIMES:
        if known.get(name) is not None:
            known[name] = round(known[name].timestamp() * 1e6)
    return Change(**known)
