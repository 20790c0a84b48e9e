from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.factories import DAY, HOUR, NOW, SECOND
from tests.strategies import UTC_MOMENTS, json_values, odd_times
from transforms.logic.read_timestamps import (
    MAX_FUTURE_MICROS,
    MAX_MICROS,
    MIN_MICROS,
    derive_timestamp,
    format_timestamp,
    parse_moment,
    read_timestamp,
    to_micros,
    to_moment,
)

many = settings(max_examples=200)
micros = st.integers(MIN_MICROS, MAX_MICROS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01T00:00:00Z", NOW),
        ("2026-01-01T00:00:00z", NOW),
        ("2026-01-01t00:00:00Z", NOW),
        ("2026-01-01 00:00:00", NOW),
        ("2026-01-01", NOW),
        ("20260101", NOW),
        ("20260101T000000Z", NOW),
        ("2026-W01-4", NOW),
        ("2026-01-01T00:00", NOW),
        ("2026-01-01T00:00:00.000+0000", NOW),
        ("2026-01-01T05:30:00+05:30", NOW),
        ("2025-12-31T19:00:00-05:00", NOW),
        ("2026-01-01T00:00:00.5Z", NOW + SECOND // 2),
        ("2026-01-01T00:00:00.000001Z", NOW + 1),
        ("0001-01-01T00:00:00Z", MIN_MICROS),
        ("9999-12-31T23:59:59.999999Z", MAX_MICROS),
    ],
)
def test_iso_8601_in_its_many_shapes_is_read(text: str, expected: int) -> None:
    assert read_timestamp(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "now",
            "1767225600",
            "2026-02-30",
            "2026-13-01",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00+24:00",
        ),
        *("0000-01-01", "10000-01-01", "9999-W53-7", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "\x00"),
        *(None, True, 1_767_225_600, 1.5, [], {}, ["2026-01-01"]),
    ],
)
def test_what_is_no_time_or_none_that_bigquery_holds_is_none(value: object) -> None:
    assert read_timestamp(value) is None


@many
@given(json_values | odd_times)
@example("9999-12-31T23:59:59.9999999Z")
def test_a_time_is_read_into_bigquerys_range_or_not_at_all(value: object) -> None:
    moment, read = parse_moment(value), read_timestamp(value)

    assert (moment is None) == (read is None)
    assert read is None or MIN_MICROS <= read <= MAX_MICROS


@many
@given(st.datetimes(), st.integers(-24 * 60 + 1, 24 * 60 - 1))
def test_micros_are_those_since_1970_whatever_the_zone(local: datetime, minutes: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (local - datetime(1970, 1, 1)) // timedelta(microseconds=1) - minutes * 60 * SECOND

    assert to_micros(moment) == (expected if MIN_MICROS <= expected <= MAX_MICROS else None)


@given(st.datetimes())
def test_a_moment_without_a_zone_is_utc(moment: datetime) -> None:
    assert to_micros(moment) == to_micros(moment.replace(tzinfo=UTC))


def test_no_moment_has_no_micros() -> None:
    assert to_micros(None) is None


@many
@given(UTC_MOMENTS)
def test_a_moment_is_read_as_it_was_printed(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == moment


@many
@given(micros)
@example(MIN_MICROS)
@example(MAX_MICROS)
@example(-1)
def test_a_time_survives_being_written_for_bigquery(at: int) -> None:
    text = format_timestamp(at)

    assert read_timestamp(text) == at
    assert len(text) == len("0001-01-01T00:00:00.000000Z")


@many
@given(micros, st.none() | micros, st.none() | micros)
def test_a_derived_timestamp_is_always_one_that_bigquery_holds(
    received_at: int, sent_at: int | None, original_timestamp: int | None
) -> None:
    assert MIN_MICROS <= derive_timestamp(received_at, sent_at, original_timestamp) <= MAX_MICROS


@pytest.mark.parametrize(
    ("sent_at", "original", "expected"),
    [
        (NOW - HOUR, NOW - HOUR - SECOND, NOW - SECOND),
        (NOW + DAY, NOW + DAY + SECOND, NOW + SECOND),
        (None, NOW - HOUR, NOW - HOUR),
        (NOW - HOUR, None, NOW),
        (None, None, NOW),
        (MAX_MICROS, MIN_MICROS, NOW),
        (MIN_MICROS, MAX_MICROS, NOW),
    ],
)
def test_a_timestamp_is_received_at_less_the_time_between_call_and_sending(
    sent_at: int | None, original: int | None, expected: int
) -> None:
    assert derive_timestamp(NOW, sent_at, original) == expected


def test_the_future_begins_after_24_hours() -> None:
    assert MAX_FUTURE_MICROS == DAY


@many
@example(MIN_MICROS)
@example(MAX_MICROS)
@example(-1)
@given(micros)
def test_a_moment_is_the_epoch_and_the_microseconds_since(value: int) -> None:
    moment = to_moment(value)

    assert moment == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    assert moment.tzinfo is UTC
    assert to_micros(moment) == value


@pytest.mark.parametrize("value", [MIN_MICROS - 1, MAX_MICROS + 1])
def test_what_bigquery_cannot_hold_is_no_moment(value: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        to_moment(value)
