"""Counted messages, added up into the numbers, the reasons and the bars of a page: what is shown is what came in."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple

from schemas.rejections import Reason
from services.page.say_times import SECOND

CALL_TYPES = ("track", "page", "screen", "identify", "group", "alias", "delete")
OTHER = "other"

MAX_TYPES = 8
"""So many colours can be told apart; what is rarer is added up as `other`."""


class Period(StrEnum):
    """What a page shows; its bars are whole minutes, quarters of an hour, or two hours."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    @property
    def bucket_seconds(self) -> int:
        """How much time a bar stands for."""
        return {Period.HOUR: 60, Period.DAY: 15 * 60, Period.WEEK: 2 * 3600}[self]

    @property
    def buckets(self) -> int:
        """How many bars there are."""
        return {Period.HOUR: 60, Period.DAY: 96, Period.WEEK: 84}[self]

    @property
    def bucket_words(self) -> str:
        """What a bar stands for, in words."""
        return {Period.HOUR: "minute", Period.DAY: "15 minutes", Period.WEEK: "2 hours"}[self]

    def start(self, now: int) -> int:
        """When it begins: the bar of `now` is its last. Microseconds since 1970."""
        bucket = self.bucket_seconds * SECOND
        return now - now % bucket - (self.buckets - 1) * bucket


class Fact(NamedTuple):
    """So many messages of one kind, in one bar."""

    bucket: int
    """Counted from the start of the period."""
    type: str
    """The call's type, or the event of an email."""
    outcome: str
    """An `Outcome`; of emails: sent, failed, rejected or duplicate."""
    reason: str
    """Empty for none."""
    messages: int


@dataclass(frozen=True)
class Totals:
    """How the messages of a period ended; these add up to `all`."""

    accepted: int = 0
    """Written to BigQuery, or sent to Segment."""
    duplicates: int = 0
    rejected: int = 0
    suppressed: int = 0
    unreported: int = 0
    """Events of a provider that Segment is not told of, which is nobody's mistake."""
    failed: int = 0
    """Made, and not taken by Segment."""
    other: int = 0
    """Outcomes that are newer than this page."""

    @property
    def all(self) -> int:
        """Everything that came in."""
        return sum(getattr(self, field.name) for field in fields(self))


_OUTCOMES = {
    "written": "accepted",
    "sent": "accepted",
    "duplicate": "duplicates",
    "rejected": "rejected",
    "suppressed": "suppressed",
    "failed": "failed",
}


def add_up(facts: Iterable[Fact]) -> Totals:
    """The totals of a period."""
    sums: Counter[str] = Counter()
    for fact in facts:
        unreported = fact.outcome == "rejected" and fact.reason == Reason.EVENT_NOT_REPORTED
        sums["unreported" if unreported else _OUTCOMES.get(fact.outcome, "other")] += fact.messages
    return Totals(**sums)


def count_reasons(facts: Iterable[Fact]) -> list[tuple[str, int]]:
    """Why messages were rejected or not delivered, the most frequent first."""
    sums: Counter[str] = Counter()
    for fact in facts:
        if _OUTCOMES.get(fact.outcome) in ("rejected", "failed"):
            sums[fact.reason] += fact.messages
    return sorted(((reason, count) for reason, count in sums.items() if count), key=lambda pair: (-pair[1], pair[0]))


class Series(NamedTuple):
    """The messages of one type, a number a bar."""

    type: str
    counts: list[int]

    @property
    def total(self) -> int:
        """Of the whole period."""
        return sum(self.counts)


def group_by_type(facts: Iterable[Fact], buckets: int) -> list[Series]:
    """All messages that came in, by type: calls in their usual order, then the most frequent, then `other`.

    Nothing is below zero: what is taken back of one outcome is added to another, in the same minute and type.
    """
    counts: dict[str, list[int]] = {}
    for fact in facts:
        counts.setdefault(fact.type, [0] * buckets)[min(max(fact.bucket, 0), buckets - 1)] += fact.messages
    order = sorted(counts, key=lambda name: (_rank(name), -sum(counts[name]), name))
    if len(order) > MAX_TYPES:
        rest = [counts.pop(name) for name in order[MAX_TYPES - 1 :]]
        order = [*order[: MAX_TYPES - 1], OTHER]
        counts[OTHER] = [sum(column) for column in zip(*rest, strict=True)]
    return [Series(name, counts[name]) for name in order if any(counts[name])]


def _rank(name: str) -> int:
    return CALL_TYPES.index(name) if name in CALL_TYPES else len(CALL_TYPES)


class Traffic(NamedTuple):
    """What came through one connection within the last 24 hours, for a row of the list."""

    hours: list[int]
    """Messages an hour, the newest last."""
    messages: int
    rejected: int


def fold_hours(facts: Iterable[tuple[int, bool, int]], hours: int) -> Traffic:
    """The row of a connection, of (hour, whether it was rejected, how many)."""
    columns, rejected = [0] * hours, 0
    for hour, is_rejected, count in facts:
        columns[min(max(hour, 0), hours - 1)] += count
        rejected += count if is_rejected else 0
    return Traffic([max(0, column) for column in columns], sum(columns), max(0, rejected))
