"""What the door refuses, told to who runs it: a line in some seconds, whatever storms outside."""

import asyncio
import logging
from collections import Counter

from schemas.connections import Connection
from services.answers import RefusedError

TELL_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Refusals:
    """Counts them by code and connection, which are few: a connection is named only if it is known."""

    def __init__(self, seconds: float = TELL_SECONDS) -> None:
        self._seconds = seconds
        self._counts: Counter[str] = Counter()

    def note(self, refused: RefusedError) -> None:
        """One more. To be called in the event loop."""
        if not self._counts:
            asyncio.get_running_loop().call_later(self._seconds, self.tell)
        whose = f" of {refused.connection_id}" if refused.connection_id else ""
        self._counts[f"{refused.code}{whose}"] += 1

    def tell(self) -> None:
        """A line of what was refused since the last one; none if there is nothing."""
        if self._counts:
            told = ", ".join(f"{count:,} {what}" for what, count in self._counts.most_common())
            _log.warning("Refused within %g seconds: %s", self._seconds, told)
            self._counts.clear()


class Naming:
    """Lets what is refused within say whose it is."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RefusedError):
            error.connection_id = self._connection.connection_id
