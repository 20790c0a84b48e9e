"""State that is only ever appended to, and a process-wide cache of what it adds up to."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


# A log is condensed when it is twice as long as it was after the last time, and so many records longer: then that costs
# each record as much as writing it twice.
CONDENSE_RECORDS = 50_000


class LogSize:
    """How many records a log holds, and whether that is more than it may need."""

    def __init__(self, records: int) -> None:
        self._records = records
        self._needed = 0

    def grow(self, records: int) -> bool:
        """Count what was appended; whether it is time to condense the log."""
        self._records += records
        return self._records > 2 * self._needed + CONDENSE_RECORDS

    def shrink(self, records: int) -> None:
        """So many are left of it."""
        self._records = self._needed = records


class LogCache(Generic[Value]):
    """Values rebuilt from append-only state logs, kept between bundles.

    A keyed state holds a log and a token. Who appends writes a new random token; who finds its token here has exactly
    what the log holds, and anyone else (another worker, a retried bundle, a restarted process) reads the log. So a
    bundle costs one small read, not one of everything that was ever seen.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[bytes, Value] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, token: Any, log: Any, rebuild: Callable[[Iterable[bytes]], Value]) -> Value:
        """The value of this state, no longer in the cache: it is about to change. `token` and `log` are Beam states."""
        written = token.read()
        if written is not None:
            with self._lock:
                value = self._values.pop(written, None)
            if value is not None:
                return value
        return rebuild(log.read())

    def put(self, token: Any, value: Value) -> None:
        """Keep the value that the log now adds up to, under a new token; the oldest beyond the capacity is dropped."""
        fresh = secrets.token_bytes(16)
        token.write(fresh)
        with self._lock:
            self._values[fresh] = value
            while len(self._values) > self._capacity:
                self._values.popitem(last=False)

    def put_back(self, token: Any, value: Value) -> None:
        """Keep a value that `take` gave and that has not changed: nothing is written."""
        written = token.read()
        if written is not None:
            with self._lock:
                self._values[written] = value
