"""New keys between being made and being shown: in memory, for a few minutes, and given out once."""

import secrets
import threading
from collections.abc import Callable
from typing import NamedTuple

HOLD_SECONDS = 300.0
MAX_HELD = 100


class HeldKey(NamedTuple):
    """A key that nobody has seen yet."""

    connection_id: str
    text: str


class HeldKeys:
    """Keys by a random ticket; `clock` counts seconds. A restart forgets them: then rotate."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, tuple[float, HeldKey]] = {}

    def hold(self, key: HeldKey) -> str:
        """The ticket for this key."""
        ticket = secrets.token_urlsafe(16)
        with self._lock:
            self._forget()
            while len(self._held) >= MAX_HELD:
                del self._held[next(iter(self._held))]
            self._held[ticket] = (self._clock(), key)
        return ticket

    def take(self, ticket: str, connection_id: str) -> HeldKey | None:
        """The key of a ticket, which is worth nothing from now on; None if it was taken or is too old."""
        with self._lock:
            self._forget()
            _, key = self._held.pop(ticket, (0.0, None))
        return key if key is not None and key.connection_id == connection_id else None

    def _forget(self) -> None:
        oldest = self._clock() - HOLD_SECONDS
        for ticket in [ticket for ticket, (held_at, _) in self._held.items() if held_at < oldest]:
            del self._held[ticket]
