"""What an error says, in one line."""

from typing import Any

MAX_CHARACTERS = 300


def first_line(error: BaseException, most: int = MAX_CHARACTERS) -> str:
    """The first line of what it says, cut to so many characters; its kind if it says nothing."""
    error = innermost(error)
    text = str(error).strip()
    return text.splitlines()[0][:most] if text else type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """What Beam's file systems have wrapped, an error for each path, and that once more: of these the first."""
    wrapped: Any = getattr(error, "exception_details", None)
    return innermost(next(iter(wrapped.values()))) if isinstance(wrapped, dict) and wrapped else error
