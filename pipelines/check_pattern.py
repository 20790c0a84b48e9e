"""Is a regular expression fit to block identifiers? A bad one would block everybody, or stop a worker for hours."""

import re
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Nobody would want to block all of any of these rows.
_ORDINARY = {
    "email": ("ann@example.com", "b.lee@mail.acme.io", "7-x@uni-köln.de"),
    "user_id": ("48213", "usr9fQ2x", "7d3e1c0a-52b4-4f0e-9a1b-6c2f8e4d5a90"),
}

# An identifier may have as many characters as a call may have bytes, 32 KiB; who sends such an identifier must not be
# able to stop a worker. What takes the square of the length passes here, what takes more does not.
_REPEATS = (30, 2_000)
_SECONDS = 1.0


class _TooSlowError(Exception):
    pass


def find_fault(pattern: str) -> str | None:
    """What is wrong with a pattern and how to mend it; None if nothing is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"is no regular expression: {error}"
    if not pattern.strip("^$()?:|"):
        return "matches only the empty text, which no identifier is; remove it"
    try:
        with _time_limit(_SECONDS):
            for _ in map(compiled.fullmatch, _provoke(pattern)):
                pass
            for kind, values in _ORDINARY.items():
                if all(map(compiled.fullmatch, values)):
                    return f"blocks every {kind}, so nobody could be a person; match less"
    except _TooSlowError:
        return "takes too long on long values; avoid repeats within repeats, such as (a+)+"
    return None


def _provoke(pattern: str) -> Iterator[str]:
    """Texts that nearly match: what stands in the pattern, repeated, with an end that fits nothing."""
    parts = {"a", "0", "-", "@", "a@", " ", *re.findall(r"[^\W_]", pattern), *re.findall(r"\w+", pattern)}
    for part in sorted(parts):
        for repeats in _REPEATS:
            yield part * repeats + "\0"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_TooSlowError` in the block after so many seconds of this process's work; matching can be interrupted.

    Only where there are signals for it: the main thread, and not on Windows.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlowError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
