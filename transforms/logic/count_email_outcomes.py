"""Counting how events of email logs and the calls made of them end."""

from collections import Counter
from collections.abc import Iterable

import msgspec

from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_logs import LogLine
from schemas.email_outcomes import (
    IDENTITY_UPDATE,
    OUTCOME_OF_STEP,
    EmailOutcome,
    EmailOutcomeKey,
    email_outcome_key,
)
from schemas.rejections import DeadLetter, Reason
from transforms.logic.email_logs.name_event import name_event

_KINDS = frozenset(EmailCallKind)


class _Named(msgspec.Struct, gc=False):
    type: str = ""
    event: str = ""


_NAMED = msgspec.json.Decoder(_Named)


def count_delivered(calls: Iterable[EmailCall], outcome: EmailOutcome, at: int) -> dict[EmailOutcomeKey, int]:
    """How many calls were delivered at `at` (microseconds since 1970), by all that is counted."""
    counts = Counter((call.line.workspace_id, call.line.connection_id, call.kind) for call in calls)
    return {email_outcome_key(at, *about, outcome): count for about, count in counts.items()}


def count_repeats(lines: Iterable[LogLine]) -> dict[EmailOutcomeKey, int]:
    """How many lines were dropped as repeats, by the minute in which they arrived."""
    return dict(
        Counter(
            email_outcome_key(
                line.arrived_at, line.workspace_id, line.connection_id, line.event, EmailOutcome.DUPLICATE
            )
            for line in lines
        )
    )


def count_email_letter(letter: DeadLetter) -> EmailOutcomeKey:
    """What a dead letter of email_logs_to_segment is counted by. Raises KeyError for a step of another pipeline."""
    outcome = OUTCOME_OF_STEP[letter.step]
    about = letter.rejected_at, letter.workspace_id, letter.connection_id
    return email_outcome_key(*about, _name_what_was_rejected(letter, outcome), outcome, letter.reason)


def _name_what_was_rejected(letter: DeadLetter, outcome: EmailOutcome) -> str | None:
    if outcome == EmailOutcome.FAILED:
        return name_call(letter.payload)
    if letter.step == "ParseIdentityUpdates":
        return IDENTITY_UPDATE
    # A message that is too large was not read, and is not read now.
    return None if letter.reason == Reason.TOO_LARGE else name_event(letter.payload)


def name_call(payload: bytes) -> str | None:
    """The `EmailCallKind` of a call as it was to be sent; None if it is none of ours."""
    try:
        named = _NAMED.decode(payload)
    except (ValueError, RecursionError):  # every other error of the decoder is a ValueError
        return None
    kind = named.event if named.type == "track" else named.type
    return kind if kind in _KINDS else None
