"""Counting how calls end."""

from collections.abc import Iterable

from schemas.calls import Caller
from schemas.outcomes import Outcome, OutcomeKey, outcome_key
from schemas.rejections import DeadLetter


def count_calls(calls: Iterable[Caller], outcome: Outcome) -> dict[OutcomeKey, int]:
    """How many calls ended so, by all that is counted."""
    counts: dict[OutcomeKey, int] = {}
    for call in calls:
        key = outcome_key(call.arrived_at, call.workspace_id, call.connection_id, call.type, outcome)
        counts[key] = counts.get(key, 0) + 1
    return counts


def count_dead_letter(letter: DeadLetter) -> OutcomeKey:
    """What a rejected message is counted by."""
    return outcome_key(
        letter.rejected_at, letter.workspace_id, letter.connection_id, letter.type, Outcome.REJECTED, letter.reason
    )
