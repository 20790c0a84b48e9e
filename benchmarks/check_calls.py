"""The rules by which both baselines reject calls: the reasons that the workload provokes, on calls as dicts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.rejections import Reason

_TYPES = frozenset({"identify", "track", "page", "screen", "group", "alias"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEEDED = {
    "track": ("event", Reason.EVENT_NOT_DEFINED),
    "group": ("groupId", Reason.GROUP_ID_REQUIRED),
    "alias": ("previousId", Reason.PREVIOUS_ID_REQUIRED),
}


def find_fault(call: Any) -> Reason | None:
    """Why a call that was JSON is rejected, None if it is not."""
    if not isinstance(call, dict):
        return Reason.BAD_REQUEST
    if call.get("type") not in _TYPES:
        return Reason.UNKNOWN_TYPE
    ids = [call.get("userId"), call.get("anonymousId")]
    if "" in ids:
        return Reason.ID_NOT_STRING
    if ids == [None, None]:
        return Reason.NO_USER_ANON_ID
    if not _is_time(call.get("timestamp")):
        return Reason.TIMESTAMP_NOT_VALID
    field, reason = _NEEDED.get(call["type"], ("type", Reason.UNKNOWN_TYPE))
    return None if call.get(field) else reason


def read_micros(text: str) -> int:
    """An ISO 8601 time as microseconds since 1970."""
    return to_micros(datetime.fromisoformat(text))


def to_micros(moment: datetime) -> int:
    """A time as microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def clean_email(email: str | None) -> str | None:
    """As identities are compared."""
    return None if email is None else email.strip().lower()


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(datetime.fromisoformat(value))
    except ValueError:
        return False
