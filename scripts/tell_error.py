"""What a command says of an error: one line."""

import sys

FAILED = 2
"""The exit code of a mistake, or of a cloud that cannot be asked."""


def tell_error(program: str, error: Exception) -> int:
    """Print the error's first line, or its kind if it says nothing; the exit code."""
    said = str(error).strip() or type(error).__name__
    print(f"{program}: {said.splitlines()[0]}", file=sys.stderr)
    return FAILED
