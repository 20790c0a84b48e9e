"""How events of email logs end, and the calls that are made of them; counted so that the counts add up."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from schemas.outcomes import MICROSECONDS_A_MINUTE

UNKNOWN_EVENT = "unknown"
"""The event where it cannot be read, or is none that we know: a sender's own words would make rows without end."""

IDENTITY_UPDATE = "identity_update"
"""The event of what came to tell who is who."""


class EmailOutcome(StrEnum):
    """How it ends. A call: sent, written or failed. An event of a log that made no call: rejected or a duplicate."""

    SENT = "sent"
    """Segment has answered that it took the call; without --segment_endpoint, Pub/Sub has."""
    WRITTEN = "written"
    """There is neither: the call went to the files of --output_dir."""
    FAILED = "failed"
    """The call was made and reaches nobody: Segment refused it for good, or it is larger than Segment takes."""
    REJECTED = "rejected"
    """An event of a log, or an identity update, that can never become a call."""
    DUPLICATE = "duplicate"
    """An event of a log that has come before, at the same address."""


OUTCOME_OF_STEP: Mapping[str, EmailOutcome] = MappingProxyType(
    {
        "ParseEmailLogs": EmailOutcome.REJECTED,
        "ParseIdentityUpdates": EmailOutcome.REJECTED,
        "MakeCalls": EmailOutcome.FAILED,
        "SendCalls": EmailOutcome.FAILED,
    }
)
"""Every step of email_logs_to_segment that makes dead letters -> what these count as."""


class EmailOutcomeKey(NamedTuple):
    """What is counted by; one row of `email_counts` each."""

    window_start: int
    """A minute, in microseconds since 1970: of a call when it was handed over or failed, else of the arrival."""
    workspace_id: str
    connection_id: str
    """Empty text for none."""
    event: str
    """An `EmailCallKind` of a call; else the log's word, `UNKNOWN_EVENT` or `IDENTITY_UPDATE`."""
    outcome: str
    """An `EmailOutcome`."""
    reason: str
    """A `Reason`, or empty text."""


def email_outcome_key(
    at: int,
    workspace_id: str,
    connection_id: str | None,
    event: str | None,
    outcome: EmailOutcome,
    reason: str = "",
) -> EmailOutcomeKey:
    """The key under which something is counted that ended at `at` (microseconds)."""
    return EmailOutcomeKey(
        at - at % MICROSECONDS_A_MINUTE,
        workspace_id,
        connection_id or "",
        event or UNKNOWN_EVENT,
        outcome.value,
        reason,
    )
