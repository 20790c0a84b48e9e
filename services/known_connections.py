"""The connections as the collector knows them: read again and again, and found by their keys."""

import logging
import time
from collections.abc import Callable, Mapping

from schemas.connections import ApiKey, Connection
from services.connection_store import StoreError
from services.keys import find_key_id, is_key
from services.secret_store import SecretStoreError, signing_secret_name

_log = logging.getLogger(__name__)


class KnownConnections:
    """Remembers what was last read; if BigQuery is down, for as long as that lasts: who may send goes on sending."""

    def __init__(self, load: Callable[[], Mapping[str, Connection]], read_secret: Callable[[str], str | None]) -> None:
        self._load = load
        self._read_secret = read_secret
        self._connections: Mapping[str, Connection] = {}
        self._secrets: dict[str, tuple[int, str]] = {}
        self._keys: dict[str, tuple[Connection, ApiKey]] = {}
        self.is_loaded = False

    def refresh(self) -> None:
        """Read them, and the signing secrets that are new. Raises `StoreError`; secrets it can go on without.

        Keys come first: a secret store that is slow or down keeps no revoked key alive.
        """
        connections = self._load()
        self._keys = {key.key_id: (connection, key) for connection in connections.values() for key in connection.keys}
        self._connections = connections
        for connection in connections.values():
            self._refresh_secret(connection)
        self.is_loaded = True

    def keep_fresh(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Read them every few seconds, for ever; what cannot be read is logged, and stays as it was.

        For a thread of its own, and a daemon: a program that is to end does not wait for BigQuery.
        """
        while True:
            sleep(seconds)
            try:
                self.refresh()
            except StoreError as error:
                _log.error("%s. Going on with the %d connections known", error, len(self._connections))
            except Exception:  # whatever it is: a thread that has ended would never hear of a revoked key
                _log.exception("Going on with the %d connections known", len(self._connections))

    def find(self, text: str, now: int) -> Connection | None:
        """The connection whose valid key this is; `now` in microseconds since 1970.

        It takes as long for a key that is unknown as for one whose secret is wrong.
        """
        connection, kept = self._keys.get(find_key_id(text) or "", (None, None))
        is_right = is_key(text, kept)
        if not is_right or connection is None or kept is None or not kept.is_valid(now):
            return None
        return connection

    def find_secret(self, connection: Connection) -> str | None:
        """What its webhooks are signed with; None if that could not be read yet."""
        kept = self._secrets.get(connection.connection_id)
        return kept[1] if kept is not None else None

    def _refresh_secret(self, connection: Connection) -> None:
        kept_at, known = connection.secret_kept_at, self._secrets.get(connection.connection_id)
        if kept_at is None or (known is not None and known[0] == kept_at):
            return
        try:
            secret = self._read_secret(signing_secret_name(connection.connection_id))
        except SecretStoreError as error:
            _log.error("%s", error)
            return
        if not secret:  # with an empty one everybody could sign
            _log.error("The secret store has no signing secret of %s: its webhooks get 503", connection.connection_id)
            return
        self._secrets[connection.connection_id] = (kept_at, secret)

    def get(self, connection_id: str) -> Connection | None:
        """The connection of this id."""
        return self._connections.get(connection_id)
