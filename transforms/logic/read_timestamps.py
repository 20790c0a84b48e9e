"""Timestamps: from what clients send to microseconds since 1970 in UTC.

https://segment.com/docs/connections/spec/common/#timestamps
"""

from datetime import UTC, datetime, timedelta
from struct import Struct

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)
_SECONDS_A_DAY = 24 * 3600

# What BigQuery's TIMESTAMP can hold: 0001-01-01 to 9999-12-31 23:59:59.999999 UTC.
# https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#timestamp_type
MIN_MICROS = -62_135_596_800_000_000
MAX_MICROS = 253_402_300_799_999_999

# MessagePack's timestamp of 96 bits: what it is, nanoseconds and seconds since 1970.
# https://github.com/msgpack/msgpack/blob/master/spec.md#timestamp-extension-type
_TIMESTAMP = Struct(">3sIq")
_TIMESTAMP_TYPE = b"\xc7\x0c\xff"
_decode_timestamp = msgspec.msgpack.Decoder(datetime).decode

# A client whose clock runs ahead may date its calls a little into the future (a day covers time zones that were
# mistaken for UTC); rows that are years ahead break every model that takes max(timestamp): contract section 2.
MAX_FUTURE_MICROS = 24 * 3600 * 1_000_000


def to_micros(moment: datetime | None) -> int | None:
    """Microseconds since 1970; a naive moment is UTC. None if there is none, or none that BigQuery can hold."""
    if moment is None:
        return None
    try:
        since = moment - _EPOCH
    except TypeError:  # it is naive; most are not
        since = moment.replace(tzinfo=UTC) - _EPOCH
    micros = (since.days * _SECONDS_A_DAY + since.seconds) * 1_000_000 + since.microseconds
    return micros if MIN_MICROS <= micros <= MAX_MICROS else None


def to_moment(micros: int) -> datetime:
    """The inverse of `to_micros`, for what BigQuery can hold; in UTC. Raises ValueError for anything else."""
    seconds, rest = divmod(micros, 1_000_000)
    # to add a timedelta to a datetime takes 1.7 times as long
    return _decode_timestamp(_TIMESTAMP.pack(_TIMESTAMP_TYPE, rest * 1000, seconds))


def parse_moment(value: object) -> datetime | None:
    """The moment that an ISO 8601 date or date and time names; None for anything else or what BigQuery cannot hold.

    The same parser as the fast path of `parse_call` comes first, so that both agree on every digit; Python's own then
    takes what RFC 3339 lacks (a date alone, no seconds, the basic format).
    """
    moment = _parse_iso(value)
    return moment if to_micros(moment) is not None else None


def read_timestamp(value: object) -> int | None:
    """`parse_moment` in microseconds since 1970."""
    return to_micros(_parse_iso(value))


def _parse_iso(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return None


def derive_timestamp(received_at: int, sent_at: int | None, original_timestamp: int | None) -> int:
    """When a call without `timestamp` happened: receivedAt - (sentAt - originalTimestamp), as Segment corrects clocks.

    Without sentAt the client's clock is taken at its word; without originalTimestamp it is the receipt.
    """
    if original_timestamp is None:
        return received_at
    derived = original_timestamp if sent_at is None else received_at - (sent_at - original_timestamp)
    return derived if MIN_MICROS <= derived <= MAX_MICROS else received_at


def format_timestamp(micros: int) -> str:
    """RFC 3339 in UTC with microseconds, as BigQuery reads it."""
    # Each row of a stream has five: a keyword takes half as long again, and a time zone twice as long.
    return (_NAIVE_EPOCH + timedelta(0, 0, micros)).isoformat("T", "microseconds") + "Z"
