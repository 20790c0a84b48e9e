"""The door: who knocks, whether they may come in, and how fast."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from schemas.connections import Connection
from services.answers import RefusedError
from services.known_connections import KnownConnections
from services.limit_rate import Bucket
from services.limits import MAX_PENDING_BYTES, MAX_STRANGER_BYTES, RETRY_SECONDS
from services.read_body import PendingBytes, Room
from services.tell_refusals import Refusals


@dataclass
class Door:
    """Checks keys and rates. What it remembers of a rate is this process's own, as long as it runs."""

    connections: KnownConnections
    wall_clock: Callable[[], int]
    """Microseconds since 1970."""
    monotonic_clock: Callable[[], float]
    """Seconds."""
    pending: PendingBytes = field(default_factory=lambda: PendingBytes(MAX_PENDING_BYTES))
    strangers: PendingBytes = field(init=False)
    """The part of it for those who have not shown a key yet."""
    refusals: Refusals = field(default_factory=Refusals)
    _buckets: dict[str, Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.strangers = PendingBytes(MAX_STRANGER_BYTES, self.pending)

    def open_room(self, key: str | None) -> Room:
        """Room for one request, which came with this key in its head."""
        return (self.strangers if key is None else self.pending).open_room()

    def admit_key(self, key: str | None) -> Connection:
        """The connection of a key. Raises `RefusedError`: 401 without a valid one, 503 before any is known."""
        self._expect_connections()
        found = self.connections.find(key or "", self.wall_clock())
        if found is None:
            raise RefusedError(
                401, "no_valid_key", "Send a valid API key as the user name of Basic authentication, with no password"
            )
        return found

    def admit_named(self, connection_id: str) -> Connection:
        """The connection of an id, of which the caller still has to ask for a proof. Raises `RefusedError`.

        A revoked connection takes no webhooks either, however well they are signed.
        """
        self._expect_connections()
        connection = self.connections.get(connection_id)
        if connection is None or connection.is_revoked(self.wall_clock()):
            raise RefusedError(401, "no_valid_key", "There is no such connection, or it is revoked")
        return connection

    def _expect_connections(self) -> None:
        if not self.connections.is_loaded:
            raise RefusedError(503, "starting", "The collector does not know its keys yet; come back", RETRY_SECONDS)

    def admit_calls(self, connection: Connection, calls: int) -> None:
        """Whether so many calls may come now; 0 asks whether any may. Raises `RefusedError` (429).

        A connection has one rate for all of its keys: a rotation does not double it.
        """
        now = self.monotonic_clock()
        rate = max(1, connection.calls_per_second)
        bucket = self._buckets.get(connection.connection_id)
        if bucket is None:
            bucket = self._buckets[connection.connection_id] = Bucket(rate, now)
        if wait := bucket.take(calls, rate, now):
            raise RefusedError(429, "too_fast", f"More than {rate:,} calls a second", wait)

    def attributes(self, connection: Connection, received_at: str) -> dict[str, str]:
        """What each message says of its way in; the pipelines read it."""
        return {
            "workspace_id": connection.workspace_id,
            "connection_id": connection.connection_id,
            "received_at": received_at,
        }

    def tell_time(self) -> str:
        """The wall clock as RFC 3339 with milliseconds, as Segment writes times."""
        now = datetime.fromtimestamp(self.wall_clock() / 1e6, UTC)
        return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
