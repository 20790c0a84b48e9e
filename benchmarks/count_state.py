"""What stateful steps ask of state while a pipeline runs in this process, counted at the API that they call.

It is the worker code of every portable runner, Dataflow's too, that is counted. What it asks of the service is as much:
a read is one request, appends to one state of one key are sent together at the end of a bundle, and a write is sent as
a clear and an append. A timer that is set is counted and never rings: at the end of a file all would, where a stream
of a day hears each once or twice.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec
from apache_beam.runners.worker.bundle_processor import FnApiUserStateContext

from benchmarks.list_shuffles import short_name


class StateUse(msgspec.Struct):
    """What was asked of one state or timer of a step."""

    reads: int = 0
    writes: int = 0
    appends: int = 0
    clears: int = 0
    timers: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class StateUses:
    """By step and the name of the state or the timer."""

    def __init__(self) -> None:
        self.by_state: dict[tuple[str, str], StateUse] = {}
        self._lock = threading.Lock()

    def add(self, state: tuple[str, str], **counts: int) -> None:
        """Count."""
        with self._lock:
            use = self.by_state.setdefault(state, StateUse())
            for name, count in counts.items():
                setattr(use, name, getattr(use, name) + count)


@contextmanager
def count_state() -> Iterator[StateUses]:
    """While this is open, all uses of state in this process are counted."""
    uses = StateUses()
    get_state = FnApiUserStateContext.get_state

    def get_counted_state(self: Any, spec: Any, *arguments: Any) -> Any:
        return _CountedState(
            get_state(self, spec, *arguments), spec.coder, (short_name(self._transform_id), spec.name), uses
        )

    def get_counted_timer(self: Any, spec: Any, *arguments: Any) -> Any:
        return _CountedTimer((short_name(self._transform_id), spec.name), uses)

    with (
        mock.patch.object(FnApiUserStateContext, "get_state", get_counted_state),
        mock.patch.object(FnApiUserStateContext, "get_timer", get_counted_timer),
    ):
        yield uses


class _CountedState:
    """A bag or a state of one value."""

    def __init__(self, state: Any, coder: Any, name: tuple[str, str], uses: StateUses) -> None:
        self._state = state
        self._coder = coder
        self._name = name
        self._uses = uses

    def read(self) -> Any:
        found = self._state.read()
        # the token is bytes, a log gives them one after the other
        values = list(found) if isinstance(found, Iterable) and not isinstance(found, bytes) else found
        several = values if isinstance(values, list) else [each for each in (values,) if each is not None]
        self._uses.add(self._name, reads=1, bytes_read=sum(map(self._weigh, several)))
        return values

    def write(self, value: Any) -> None:
        self._uses.add(self._name, writes=1, bytes_written=self._weigh(value))
        self._state.write(value)

    def add(self, value: Any) -> None:
        self._uses.add(self._name, appends=1, bytes_written=self._weigh(value))
        self._state.add(value)

    def clear(self) -> None:
        self._uses.add(self._name, clears=1)
        self._state.clear()

    def _weigh(self, value: Any) -> int:
        return len(self._coder.encode(value))


class _CountedTimer:
    def __init__(self, name: tuple[str, str], uses: StateUses) -> None:
        self._name = name
        self._uses = uses

    def set(self, timestamp: Any, **tag: Any) -> None:
        self._uses.add(self._name, timers=1)

    def clear(self, **tag: Any) -> None:
        self._uses.add(self._name, timers=1)
