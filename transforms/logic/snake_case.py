"""Segment's snake_case: how its warehouses name events and traits.

The rule of github.com/segmentio/go-snakecase, which looks at ASCII only: letters and digits form tokens, a token being
some capitals or digits and the small letters or digits behind them, and tokens are joined with `_`.
"""

import re
from functools import lru_cache

_ALREADY_SNAKE = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_TOKEN = re.compile(r"[A-Z0-9]+[a-z0-9]*|[a-z0-9]+")


@lru_cache(maxsize=4096)  # a workspace has few names and says them often
def snake_case(name: str) -> str:
    """`Order Completed` to order_completed. A name without ASCII letters or digits gives an empty string."""
    if _ALREADY_SNAKE.fullmatch(name):
        return name
    return "_".join(_TOKEN.findall(name)).lower()
