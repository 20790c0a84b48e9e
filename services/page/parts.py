"""What the page's answers are made with."""

from collections.abc import Callable
from dataclasses import dataclass

from services.connection_store import ConnectionStore
from services.page.hold_keys import HeldKeys
from services.page.read_statistics import Statistics
from services.page.sessions import Attempts, Sessions
from services.secret_store import SecretStore


@dataclass(frozen=True)
class Parts:
    """The world as the page knows it."""

    store: ConnectionStore
    statistics: Statistics
    secrets: SecretStore
    secrets_at: str
    """`projects/P` or a folder."""
    collector_url: str
    """The collector's public address, without a slash at its end."""
    sessions: Sessions
    attempts: Attempts
    held_keys: HeldKeys
    clock: Callable[[], int]
    """Microseconds since 1970."""
