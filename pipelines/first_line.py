"""What an error says, in one line."""

from typing import Any

MAX_CHARACTERS = 300


def first_line(error: BaseException, most: int = MAX_CHARACTERS) -> str:
    """The first line of what it says, cut to so many characters; its kind if it says nothing.

    Beam's file systems wrap an error for each path, and that once more: of these what the first of them says.
    """
    inner: Any = getattr(error, "exception_details", None)
    if isinstance(inner, dict) and inner:
        return first_line(next(iter(inner.values())), most)
    text = str(error).strip()
    return text.splitlines()[0][:most] if text else type(error).__name__
