"""How messages end, counted so that the counts add up to what came in."""

from enum import StrEnum
from typing import NamedTuple

MICROSECONDS_A_MINUTE = 60_000_000


class Outcome(StrEnum):
    """How a message ends: exactly one of these."""

    WRITTEN = "written"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"
    SUPPRESSED = "suppressed"


class OutcomeKey(NamedTuple):
    """What messages are counted by; one row of `counts` each."""

    window_start: int
    """The minute in which they arrived, in microseconds since 1970."""
    workspace_id: str
    connection_id: str
    """Empty text for none."""
    type: str
    """The call's type; `unknown` where it could not be read."""
    outcome: str
    """An `Outcome`."""
    reason: str
    """A `Reason`, or empty text."""


def outcome_key(
    arrived_at: int,
    workspace_id: str,
    connection_id: str | None,
    call_type: str | None,
    outcome: Outcome,
    reason: str = "",
) -> OutcomeKey:
    """The key under which a message that arrived at `arrived_at` (microseconds) is counted."""
    return OutcomeKey(
        arrived_at - arrived_at % MICROSECONDS_A_MINUTE,
        workspace_id,
        connection_id or "",
        call_type or "unknown",
        outcome.value,
        reason,
    )
