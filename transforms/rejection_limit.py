"""Stops a job in which nearly everything is rejected."""

import threading

# A job begins with a few messages of any kind: fewer tell nothing.
SAMPLE = 1000


class MostlyRejectedError(RuntimeError):
    """Nearly every message is rejected: something is misconfigured, and going on would drain the topic."""


class RejectionLimit:
    """Stops a worker when nearly everything that it reads is rejected.

    Remembers a fading share of the last messages of the process: it must outlive the DoFn, which a failed bundle throws
    away. While it is exceeded the bundles fail and their messages stay unacknowledged.
    """

    def __init__(self, percent: float) -> None:
        self._percent = percent
        self._seen = 0.0
        self._rejected = 0.0
        self._lock = threading.Lock()

    def observe(self, seen: int, rejected: int, what: str = "messages", hint: str = "Is this the right input?") -> None:
        """Count a block of `what`; `hint` says what to look at.

        Raises `MostlyRejectedError` over the limit, once the sample is large enough to tell.
        """
        with self._lock:
            if self._seen > 10 * SAMPLE:
                self._seen, self._rejected = self._seen / 2, self._rejected / 2
            self._seen += seen
            self._rejected += rejected
            if self._seen >= SAMPLE and 100 * self._rejected > self._percent * self._seen:
                raise MostlyRejectedError(
                    f"{self._rejected:,.0f} of the last {self._seen:,.0f} {what} were rejected, more than "
                    f"{self._percent:g} % (--max_rejected_percent). {hint}"
                )


_LIMITS: dict[tuple[str, float], RejectionLimit] = {}


def find_limit(step: str, percent: float) -> RejectionLimit:
    """The limit of this step in this process."""
    return _LIMITS.setdefault((step, percent), RejectionLimit(percent))
