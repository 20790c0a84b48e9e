"""Is a connection well? One word and one sentence, from a few numbers and the clock."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from services.page.say_times import DAY, say_share, say_span, say_time

REJECTING_SHARE = 0.1
"""From this share of the last hour's messages on, rejections are what there is to say of a connection."""

MEMORY = 30 * DAY
"""How far back the page looks for a connection's newest message."""


class State(StrEnum):
    """A connection's state; the value is the word on its badge."""

    RECEIVING = "Receiving"
    REJECTING = "Rejecting"
    SILENT = "Silent"
    WAITING = "Waiting"
    REVOKED = "Revoked"


class Status(NamedTuple):
    """A state, and what the page says of it."""

    state: State
    sentence: str


@dataclass(frozen=True)
class RecentTraffic:
    """What came through a connection lately."""

    last_at: int | None = None
    """The minute of the newest message, in microseconds since 1970; None: none within `MEMORY`."""
    hour_messages: int = 0
    hour_rejected: int = 0
    """Of the last hour: all messages, and those that were rejected, or refused where they were sent."""


def judge_status(
    traffic: RecentTraffic, now: int, created_at: int | None = None, is_revoked: bool = False, noun: str = "call"
) -> Status:
    """The status at `now`, in microseconds since 1970.

    `created_at` and `is_revoked` are the connection's; None where messages name one that nobody made. `noun` is what
    comes through it, in the singular.
    """
    messages = traffic.hour_messages
    if is_revoked:
        still = f", yet {_count(messages, noun)} came in the last hour" if messages > 0 else ""
        return Status(State.REVOKED, f"Revoked: no key opens the door{still}")
    if messages > 0:
        rejected = max(0, traffic.hour_rejected)
        if rejected >= REJECTING_SHARE * messages:
            return Status(State.REJECTING, f"Rejecting: {say_share(rejected, messages)} of the last hour’s {noun}s")
        return Status(State.RECEIVING, f"Receiving: {_count(messages, noun)} in the last hour")
    if traffic.last_at is not None:
        since = say_time(traffic.last_at, now)
        return Status(State.SILENT, f"Silent since {since} UTC ({say_span(now - traffic.last_at)})")
    if created_at is None or created_at < now - MEMORY:
        return Status(State.SILENT, f"Silent: no {noun} in the last {MEMORY // DAY} days")
    return Status(State.WAITING, f"Waiting for the first {noun}")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
