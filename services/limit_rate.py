"""How fast a key may send: a bucket of calls that fills by the second."""

import math


class Bucket:
    """Holds one second's calls at most. A request passes if there is a call in it, and takes all of its calls.

    So a batch larger than the bucket passes too and leaves a debt, which the next ones wait for: in the long run no
    more pass than the rate. Libraries of rate limits refuse such a batch for ever.
    """

    __slots__ = ("_calls", "_filled_at")

    def __init__(self, calls_per_second: int, now: float) -> None:
        self._calls = float(calls_per_second)
        self._filled_at = now

    def take(self, calls: int, calls_per_second: int, now: float) -> int:
        """0 if the calls pass, else in how many seconds to come back. `now` is monotonic, in seconds."""
        filled = self._calls + (now - self._filled_at) * calls_per_second
        self._calls = min(filled, float(calls_per_second))
        self._filled_at = now
        if self._calls < 1:
            # A millisecond more: who comes back to the second is not to fail by a rounding of the clock.
            return math.ceil((1 - self._calls) / calls_per_second + 0.001)
        self._calls -= calls
        return 0
