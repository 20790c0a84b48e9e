"""Answers that may be a few seconds old, so that a page that is reloaded all the time asks BigQuery now and then."""

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

MAX_ANSWERS = 1000


class KeptAnswers:
    """Answers by their question, in this process; errors are not kept. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[Hashable, tuple[float, Any]] = {}

    def get(self, question: Hashable, seconds: float, ask: Callable[[], T]) -> T:
        """The answer, asked anew if it would be older than `seconds`. Two may ask at once; both answers are right."""
        with self._lock:
            kept = self._answers.get(question)
            if kept is not None and self._clock() - kept[0] < seconds:
                answer: T = kept[1]
                return answer
        asked_at, answer = self._clock(), ask()
        with self._lock:
            self._answers[question] = (asked_at, answer)
            while len(self._answers) > MAX_ANSWERS:
                del self._answers[next(iter(self._answers))]
        return answer
