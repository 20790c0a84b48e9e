"""Whatever comes in: a call or a verdict, and a call travels through coders, rows and sinks without a crash.

What explodes there is outside of every `except Rejected`: one such message kills the job at every retry.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from pipelines.write_bigquery import bigquery_rows
from pipelines.write_parquet import parquet_table
from schemas.calls import CallBlock, CallType, SegmentCall
from schemas.identities import LinkBlock
from schemas.identity_rules import DEFAULT_RULES
from schemas.rejections import DeadLetter, LetterBlock, Reason, Rejected
from schemas.rows import Row, row_values
from schemas.tables import load_table
from tests.factories import ABSENT, NOW, dead_letter, message, parse, sent
from tests.strategies import (
    BROKEN_TEXTS,
    ODD_TEXTS,
    Fields,
    arbitrary_payloads,
    near_valid_payloads,
    render,
    well_typed_calls,
)
from transforms.coders import StructCoder
from transforms.logic.identify_callers import find_links, set_callers
from transforms.logic.parse_call import parse_call
from transforms.logic.read_timestamps import read_timestamp
from transforms.logic.resolve_callers import resolve_callers
from transforms.logic.shape_rows import shape_call, shape_dead_letter

CALLS, LINKS, LETTERS = StructCoder(CallBlock), StructCoder(LinkBlock), StructCoder(LetterBlock)

many = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

WIDE_NUMBER = re.compile(r"e\+?\d{3}|\d{300}", re.IGNORECASE)


def test_the_odd_texts_are_json_and_the_broken_ones_are_not() -> None:
    """Else the strategies aim at nothing."""
    for text in ODD_TEXTS:
        assert parse(render([*valid("track"), ("properties", f'{{"a":{text}}}')])).type == "track"
    for text in BROKEN_TEXTS:
        with pytest.raises(Rejected) as rejected:
            parse(render([*valid("track"), ("properties", f'{{"a":{text}}}')]))

        assert rejected.value.reason == Reason.BAD_REQUEST


@many
@given(arbitrary_payloads)
@example(b"0")
@example(b"")
@example(b'{"userId":5,')
def test_arbitrary_bytes_are_a_call_or_rejected(payload: bytes) -> None:
    judge(payload)


@many
@given(near_valid_payloads())
@example(b'{"type":"track","event":"e","userId":"\\ud800"}')
@example(b'{"type":"track","event":"e","userId":"u","properties":{"a":"\\ud800"}}')
@example(b'{"type":"identify","userId":5,"traits":{"email":"\\ud800"}}')
@example(b'{"type":"identify","userId":9223372036854775808,"traits":{"age":9223372036854775808}}')
@example(b'{"type":"identify","userId":"a@b","traits":{"age":1e999,"createdAt":-1e999,"name":1e999}}')
@example(b'{"type":"identify","userId":"a@b","traits":{"name":%s,"age":%s}}' % (b"9" * 5000, b"9" * 5000))
@example(b'{"type":"track","event":"e","userId":"u","timestamp":"0001-01-01T00:00:00+14:00"}')
@example(b'{"type":"group","groupId":"g","userId":"u","context":{"personas":{"computation_class":"audience"}}}')
def test_a_near_valid_payload_is_a_call_that_travels_or_rejected(payload: bytes) -> None:
    judge(payload)


@many
@given(well_typed_calls(), st.none() | st.just("p1"))
def test_a_call_of_the_right_types_travels(fields: Fields, person_id: str | None) -> None:
    judge(render(fields), person_id)


@many
@given(well_typed_calls())
@example(
    [*json.loads('[["type","\\"track\\""],["userId","\\"u\\""],["event","\\"e\\""]]'), ("timestamp", '"2026-01-01"')]
)
def test_an_odd_field_that_is_not_read_changes_nothing(fields: Fields) -> None:
    """The strict decoder refuses such a field, and what reads the call field by field must come to the same."""
    call_type = next((json.loads(text) for name, text in reversed(fields) if name == "type"), None)
    ignored = "category" if call_type == "track" else "event"
    plain = [field for field in fields if field[0] != ignored]

    strict, lenient = attempt(render(plain)), attempt(render([*plain, (ignored, "5")]))

    if isinstance(strict, SegmentCall) and isinstance(lenient, SegmentCall):
        event("accepted")
        if strict.payload is not None:
            strict.payload = lenient.payload
        if "messageId" not in dict(plain) or dict(plain)["messageId"] == "null":
            strict.message_id = lenient.message_id  # the ignored field is content too
        assert strict == lenient
    else:
        assert isinstance(strict, Rejected) == isinstance(lenient, Rejected)


@many
@given(well_typed_calls(), st.randoms())
def test_the_order_of_the_fields_changes_nothing(fields: Fields, random: Any) -> None:
    unique = list(dict(fields).items())
    shuffled = random.sample(unique, len(unique))

    one, other = attempt(render(unique)), attempt(render(shuffled))

    if isinstance(one, SegmentCall) and isinstance(other, SegmentCall):
        one.payload = other.payload
        assert one == other
    else:
        assert str(one) == str(other)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
def test_a_number_that_no_double_holds_survives_a_load_job(number: str) -> None:
    call = parse(f'{{"type":"track","userId":"u","event":"e","properties":{{"a":{number}}}}}'.encode())

    (row,) = bigquery_rows("activities", [shape_call(call).row], "FILE_LOADS")

    assert strict_json(json.dumps(row, allow_nan=False))["properties"] == {"a": number}


def valid(call_type: str) -> Fields:
    return [(name, json.dumps(value)) for name, value in sent(call_type, properties=ABSENT).items()]


def attempt(payload: bytes) -> SegmentCall | Rejected:
    try:
        return parse_call(message(payload), NOW, "w1")
    except Rejected as verdict:
        return verdict


def judge(payload: bytes, person_id: str | None = None) -> None:
    """What happens to a message, up to the sinks."""
    outcome = attempt(payload)
    if isinstance(outcome, Rejected):
        event(f"rejected: {outcome.reason}")
        check_letter(dead_letter(payload, outcome))
        return
    event(f"accepted: {outcome.type}")
    check_call(outcome)
    members = None if is_wide(payload.decode()) else json.loads(payload)
    set_callers([outcome], DEFAULT_RULES)
    resolved = resolve_callers([outcome], lambda call: person_id)
    for letter in resolved.dead_letters:
        assert letter.payload == payload

        check_letter(letter)
    for call in resolved.calls:
        check_call(call)
        shaped = shape_call(call)
        check_row(shaped.table, shaped.row)
        if shaped.membership is not None:
            check_row("audience_memberships", shaped.membership)
        if members is not None:
            check_json_is_kept(shaped.table, shaped.row, members)


def check_call(call: SegmentCall) -> None:
    assert CALLS.decode(CALLS.encode(CallBlock([call]))) == CallBlock([call])
    assert call.type in list(CallType)
    assert call.user_id != ""
    assert call.anonymous_id != ""
    assert call.user_id or call.anonymous_id or re.fullmatch("[0-9a-f]{64}", call.identifier_hash or "")
    assert (call.type == CallType.SUPPRESS) == (call.identifier_hash is not None)
    assert len(call.message_id) <= 100
    for block in find_links([call], DEFAULT_RULES).values():
        assert LINKS.decode(LINKS.encode(block)) == block


def check_letter(letter: DeadLetter) -> None:
    assert LETTERS.decode(LETTERS.encode(LetterBlock([letter]))) == LetterBlock([letter])

    (row,) = shape_dead_letter(letter, "1.0")
    check_row("dead_letters", row)

    assert row_values("dead_letters", row)["payload"] == letter.payload


def check_row(table: str, row: Row) -> None:
    """A row fits its Arrow schema and what both ways into BigQuery want of it."""
    fields = load_table(table).fields
    parquet_table(table, [row]).validate(full=True)

    assert len(row) == len(fields)
    for value, field in zip(row, fields, strict=True):
        assert value is not None or field.mode == "NULLABLE", field.name

    (inserted,) = bigquery_rows(table, [row], "STREAMING_INSERTS")
    wire = json.dumps(inserted, allow_nan=False, ensure_ascii=False).encode()

    assert json.loads(wire) == inserted
    for value, field in zip(row, fields, strict=True):
        if field.type == "TIMESTAMP" and value is not None:
            assert read_timestamp(inserted[field.name]) == value
        if field.type == "JSON" and value is not None:
            strict_json(inserted[field.name])
    for update in inserted.get("trait_updates", ()):
        strict_json(update["value"])

    (loaded,) = bigquery_rows(table, [row], "FILE_LOADS")
    wire = json.dumps(loaded, allow_nan=False, ensure_ascii=False).encode()

    if not any(isinstance(value, str) and is_wide(value) for value in row):  # Python's own json cannot be the judge
        json_columns = [field.name for field in fields if field.type == "JSON" and field.name in inserted]
        assert json.loads(wire) == inserted | {column: json.loads(inserted[column]) for column in json_columns}


def check_json_is_kept(table: str, row: Row, members: dict[str, Any]) -> None:
    """Properties, traits and context stand in the row as they were sent."""
    values = row_values(table, row)
    for column in ("properties", "traits", "context"):
        if column in values:
            assert json.loads(values[column]) == (members.get(column) or {})


def is_wide(text: str) -> bool:
    """Whether it may hold a number that Python's json cannot hold or print again."""
    return WIDE_NUMBER.search(text) is not None


def strict_json(text: str) -> Any:
    """JSON as its standard has it; a number that Python cannot hold is its own text."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def read(kind: Callable[[str], Any]) -> Callable[[str], Any]:
        return lambda digits: digits if is_wide(digits) else kind(digits)

    return json.loads(text, parse_constant=refuse, parse_int=read(int), parse_float=read(float))
