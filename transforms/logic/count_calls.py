"""Counting how calls end."""

from collections import Counter
from collections.abc import Iterable

from schemas.calls import Caller
from schemas.outcomes import MICROSECONDS_A_MINUTE, Outcome, OutcomeKey, outcome_key
from schemas.rejections import DeadLetter


def count_calls(calls: Iterable[Caller], outcome: Outcome) -> dict[OutcomeKey, int]:
    """How many calls ended so, by all that is counted."""
    counts = Counter(
        (call.arrived_at // MICROSECONDS_A_MINUTE, call.workspace_id, call.connection_id, call.type) for call in calls
    )
    return {
        outcome_key(minute * MICROSECONDS_A_MINUTE, workspace_id, connection_id, call_type, outcome): count
        for (minute, workspace_id, connection_id, call_type), count in counts.items()
    }


def count_dead_letter(letter: DeadLetter) -> OutcomeKey:
    """What a rejected message is counted by."""
    return outcome_key(
        letter.rejected_at, letter.workspace_id, letter.connection_id, letter.type, Outcome.REJECTED, letter.reason
    )
