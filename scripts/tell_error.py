"""What a command says of an error: one line."""

import sys

from pipelines.first_line import first_line

FAILED = 2
"""The exit code of a mistake, or of a cloud that cannot be asked."""

# What BigQuery says of a query is long.
_MAX_CHARACTERS = 2_000


def tell_error(program: str, error: Exception) -> int:
    """Print the error's first line, or its kind if it says nothing; the exit code."""
    print(f"{program}: {first_line(error, _MAX_CHARACTERS)}", file=sys.stderr)
    return FAILED
