"""Times and numbers as people read them; all times in UTC."""

from datetime import UTC, datetime

SECOND = 1_000_000
"""In microseconds, as all times here are counted."""
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_UNITS = ((DAY, "day", "d"), (HOUR, "hour", "h"), (MINUTE, "minute", "min"))


def to_datetime(time: int) -> datetime:
    """Microseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(time / SECOND, UTC)


def to_micros(time: datetime) -> int:
    """A time as microseconds since 1970."""
    return round(time.timestamp() * SECOND)


def say_iso(time: int) -> str:
    """For machines: `2026-01-31T14:05:00Z`."""
    return to_datetime(time).strftime("%Y-%m-%dT%H:%M:%SZ")


def say_time(time: int, now: int) -> str:
    """`14:05` on the day of `now`, else `31 Jan, 14:05`, and with the year if it is another one."""
    then, today = to_datetime(time), to_datetime(now)
    if then.date() == today.date():
        return f"{then:%H:%M}"
    year = "" if then.year == today.year else f" {then.year}"
    return f"{then.day} {then:%b}{year}, {then:%H:%M}"


def say_span(span: int) -> str:
    """A span of microseconds in its largest whole unit: `2 h`."""
    for unit, _, short in _UNITS:
        if span >= unit:
            return f"{span // unit} {short}"
    return "under a minute"


def say_ago(time: int, now: int) -> str:
    """`2 hours ago`; what lies ahead by a clock's error is `just now`."""
    span = now - time
    for unit, word, _ in _UNITS:
        if span >= unit:
            number = span // unit
            return f"{number} {word}{'' if number == 1 else 's'} ago"
    return "just now"


def say_share(part: int, whole: int) -> str:
    """A percentage without decimals that is 0 % or 100 % only if it is exactly so."""
    if part <= 0 or whole <= 0:
        return "0 %"
    if part >= whole:
        return "100 %"
    percent = 100 * part / whole
    if percent < 1:
        return "under 1 %"
    return f"{min(99, round(percent))} %"
