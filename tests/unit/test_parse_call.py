"""Contract section 2, rule by rule. What holds for any payload at all stands in test_any_payload.py."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.calls import CallType
from schemas.rejections import Reason
from tests.factories import ABSENT, DAY, HOUR, NOW, SECOND, message, parse, reject, sent
from tests.strategies import ODD_EMAILS, ONE_OF_EACH_TYPE, json_values
from transforms.logic.parse_call import normalise_email, parse_call
from transforms.logic.read_wire import MAX_NESTING

GOLDEN = Path(__file__).parents[1] / "golden"
SDK_PAYLOADS = json.loads((GOLDEN / "segment_sdk_python_payloads.json").read_text())["payloads"]
PROPERTIES_TYPES = ("track", "page", "screen")
TRAITS_TYPES = ("identify", "group")


def iso(micros: int) -> str:
    return datetime.fromtimestamp(micros / SECOND, UTC).isoformat()


# What is read


@pytest.mark.parametrize("call_type", list(CallType))
def test_each_type_of_call_is_read(call_type: CallType) -> None:
    assert parse(sent(call_type)).type == call_type


@pytest.mark.parametrize("sdk", SDK_PAYLOADS, ids=lambda sdk: f"{sdk['call']}-{sdk['payload']['messageId'][:8]}")
def test_what_the_python_sdk_sends_is_a_call(sdk: dict[str, Any]) -> None:
    payload = sdk["payload"]

    call = parse(payload)

    assert call.type == sdk["call"]
    assert call.message_id == payload["messageId"]
    assert call.user_id == payload["userId"]
    assert call.anonymous_id == payload["anonymousId"]
    assert json.loads(call.context) == payload["context"]
    assert json.loads(call.body) == payload.get("properties", payload.get("traits", {}))
    assert call.future_timestamp is None or call.future_timestamp > NOW + DAY


def test_properties_and_context_are_kept_as_they_were_sent() -> None:
    payload = (
        b'{"type":"track","userId":"u","event":"e","properties":{"b":1.0, "a":[1e999,"\\u00e9"]},"context":{ "x":{}}}'
    )

    call = parse(payload)

    assert call.body == '{"b":1.0, "a":[1e999,"\\u00e9"]}'
    assert call.context == '{ "x":{}}'


def test_the_traits_of_an_alias_are_not_its_body() -> None:
    assert parse(sent("alias", traits={"a": 1}, properties={"b": 2})).body == "{}"


@pytest.mark.parametrize(("call_type", "field"), [("identify", "traits"), ("track", "properties")])
def test_the_body_is_of_its_type(call_type: str, field: str) -> None:
    call = parse(sent(call_type, traits={"in": "traits"}, properties={"in": "properties"}))

    assert json.loads(call.body) == {"in": field}


@pytest.mark.parametrize("call_type", list(CallType))
def test_a_call_has_only_the_fields_of_its_type(call_type: CallType) -> None:
    call = parse(sent(call_type, event="e", name="n", category="c", groupId="g", previousId="p"))

    assert (call.event is not None) == (call_type == "track")
    assert (call.name is not None, call.category is not None) == (call_type in ("page", "screen"),) * 2
    assert (call.group_id is not None) == (call_type == "group")
    assert (call.previous_id is not None) == (call_type == "alias")


def test_workspace_and_connection_come_from_the_attributes() -> None:
    call = parse(sent(), attributes={"workspace_id": "w9", "connection_id": "c9"})

    assert (call.workspace_id, call.connection_id) == ("w9", "c9")


@pytest.mark.parametrize("attributes", [{}, {"workspace_id": "", "connection_id": ""}])
def test_without_attributes_the_workspace_is_the_default(attributes: dict[str, str]) -> None:
    call = parse(sent(), attributes=attributes)

    assert (call.workspace_id, call.connection_id) == ("default-workspace", None)


def test_the_payload_is_kept_only_where_the_call_may_still_be_rejected() -> None:
    without_email = sent("identify", traits={})

    assert parse(without_email).payload == json.dumps(without_email).encode()
    assert parse(sent("identify")).payload is None
    assert parse(sent("track")).payload is None


def test_a_suppress_message_is_read() -> None:
    call = parse(sent("suppress", erasureId="e7", timestamp="2025-12-31T00:00:00Z"))

    assert (call.identifier_hash, call.erasure_id) == ("0123456789abcdef" * 4, "e7")
    assert call.timestamp == NOW - DAY


def test_a_suppress_message_says_nothing_of_anybody() -> None:
    context = {"traits": {"email": "ann@example.com"}, "groupId": "g1"}

    call = parse(sent("suppress", userId="u1", anonymousId="a1", previousId="p1", groupId="g1", context=context))

    assert (call.user_id, call.anonymous_id, call.previous_id, call.email, call.group_id) == (None,) * 5
    assert (call.body, call.context) == ("{}", "{}")


@pytest.mark.parametrize(
    "identifier_hash", [ABSENT, None, "", 5, "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", ["0" * 64]]
)
def test_a_suppress_message_needs_a_hash(identifier_hash: object) -> None:
    verdict = reject(sent("suppress", identifierHash=identifier_hash))

    assert verdict.reason == Reason.BAD_REQUEST
    assert "identifierHash" in verdict.detail


@pytest.mark.parametrize("call_type", [call_type for call_type in CallType if call_type != "suppress"])
def test_only_a_suppress_message_suppresses(call_type: CallType) -> None:
    call = parse(sent(call_type, identifierHash="0" * 64, erasureId="e1"))

    assert (call.identifier_hash, call.erasure_id) == (None, None)
    assert parse(sent(call_type, identifierHash=5, erasureId=[])).user_id == "u1"


# Ids


@pytest.mark.parametrize("field", ["messageId", "userId", "anonymousId", "groupId", "previousId", "event", "name"])
@pytest.mark.parametrize("call_type", list(CallType))
def test_null_is_absent(call_type: CallType, field: str) -> None:
    with_null, without = sent(call_type, **{field: None}), sent(call_type, **{field: ABSENT})
    required = {
        "track": ("event", "userId"),
        "group": ("groupId", "userId"),
        "alias": ("previousId", "userId"),
        "suppress": (),
    }

    if field in required.get(call_type, ("userId",)):
        assert reject(with_null).reason == reject(without).reason
    else:
        null, absent = parse(with_null), parse(without)
        if field == "messageId":
            null.message_id = absent.message_id
        assert null == absent


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp", "sentAt", "receivedAt", "context", "properties"])
def test_null_is_absent_for_times_and_objects(field: str) -> None:
    assert parse(sent(**{field: None})) == parse(sent(**{field: ABSENT}))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("5", "5"),
        ("5.0", "5"),
        ("-0.0", "0"),
        ("1.5", "1.5"),
        ("1e3", "1000"),
        ("157963456373623802", "157963456373623802"),
        ("18446744073709551616", "18446744073709551616"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_a_number_as_an_id_is_text(number: str, text: str) -> None:
    ids = ("messageId", "userId", "anonymousId", "groupId")
    group = parse(f'{{"type":"group",{",".join(f"{json.dumps(name)}:{number}" for name in ids)}}}'.encode())
    alias = parse(f'{{"type":"alias","userId":"u","previousId":{number}}}'.encode())
    track = parse(f'{{"type":"track","userId":"u","event":"e","context":{{"groupId":{number}}}}}'.encode())

    assert (group.message_id, group.user_id, group.anonymous_id, group.group_id) == (text,) * 4
    assert alias.previous_id == text
    assert track.group_id == text


@pytest.mark.parametrize(
    ("call_type", "field", "reason"),
    [
        ("track", "userId", Reason.ID_NOT_STRING),
        ("track", "anonymousId", Reason.ID_NOT_STRING),
        ("group", "groupId", Reason.ID_NOT_STRING),
        ("alias", "previousId", Reason.ID_NOT_STRING),
        ("track", "messageId", Reason.MESSAGE_ID_NOT_VALID),
    ],
)
@pytest.mark.parametrize("value", ["", True, False, [], {}, ["u1"], {"id": "u1"}])
def test_an_id_that_is_neither_text_nor_number_is_rejected(
    call_type: str, field: str, reason: Reason, value: object
) -> None:
    assert reject(sent(call_type, **{field: value})).reason == reason


def test_an_id_beyond_all_numbers_is_rejected() -> None:
    assert reject(b'{"type":"track","event":"e","userId":1e999}').reason == Reason.BAD_REQUEST


def test_an_anonymous_id_is_enough() -> None:
    call = parse(sent(userId=ABSENT, anonymousId="a1"))

    assert (call.user_id, call.anonymous_id) == (None, "a1")


@pytest.mark.parametrize("call_type", [call_type for call_type in CallType if call_type != "suppress"])
def test_nobody_is_no_caller(call_type: CallType) -> None:
    assert reject(sent(call_type, userId=ABSENT)).reason == Reason.NO_USER_ANON_ID


def test_an_alias_needs_the_user_id_whom_it_links() -> None:
    assert reject(sent("alias", userId=ABSENT, anonymousId="a1")).reason == Reason.NO_USER_ANON_ID


def test_an_alias_needs_a_previous_id() -> None:
    assert reject(sent("alias", previousId=ABSENT)).reason == Reason.PREVIOUS_ID_REQUIRED


def test_a_group_call_needs_a_group_id() -> None:
    verdict = reject(sent("group", groupId=ABSENT, context={"groupId": "g1"}))

    assert verdict.reason == Reason.GROUP_ID_REQUIRED


@pytest.mark.parametrize(
    ("group_id", "expected"), [("g7", "g7"), (7, "7"), ("", None), (None, None), (True, None), ([], None)]
)
def test_the_group_of_other_calls_is_that_of_the_context(group_id: object, expected: str | None) -> None:
    assert parse(sent(groupId="not this", context={"groupId": group_id})).group_id == expected


def test_the_group_is_found_whatever_else_the_context_holds() -> None:
    context = b'{"traits":[1e999],"group\\u0049d":"g7"}'

    assert parse(b'{"type":"track","event":"e","userId":"u","context":%s}' % context).group_id == "g7"


def test_a_message_id_has_at_most_100_characters() -> None:
    assert parse(sent(messageId="é" * 100)).message_id == "é" * 100
    assert reject(sent(messageId="é" * 101)).reason == Reason.MESSAGE_ID_NOT_VALID


# Names


@pytest.mark.parametrize("field", ["name", "category"])
@pytest.mark.parametrize("call_type", ["page", "screen"])
@pytest.mark.parametrize("value", ["", 5, True, [], {}])
def test_a_name_is_text(call_type: str, field: str, value: object) -> None:
    assert reject(sent(call_type, **{field: value})).reason == f"{field}_not_string"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (ABSENT, Reason.EVENT_NOT_DEFINED),
        (None, Reason.EVENT_NOT_DEFINED),
        ("", Reason.EVENT_NOT_DEFINED),
        (5, Reason.EVENT_NOT_STRING),
        (True, Reason.EVENT_NOT_STRING),
        ({}, Reason.EVENT_NOT_STRING),
    ],
)
def test_a_track_call_names_its_event(event: object, reason: Reason) -> None:
    assert reject(sent("track", event=event)).reason == reason


@pytest.mark.parametrize("text", ONE_OF_EACH_TYPE)
@pytest.mark.parametrize("call_type", list(CallType))
def test_a_body_is_an_object(call_type: CallType, text: str) -> None:
    for field, types in (("properties", PROPERTIES_TYPES), ("traits", TRAITS_TYPES), ("context", tuple(CallType))):
        payload = sent(call_type, **{field: json.loads(text)})
        if call_type in types and text not in ("null", "{}"):
            assert reject(payload).reason == f"{field}_not_object"
        else:
            assert parse(payload).type == call_type


@pytest.mark.parametrize("call_type", ["", "Track", "TRACK", " track", "batch", None, 5, True, [], {}])
def test_another_type_is_rejected(call_type: object) -> None:
    assert reject({**sent(), "type": call_type}).reason == Reason.UNKNOWN_TYPE


def test_the_type_is_required() -> None:
    verdict = reject({"userId": "u1", "event": "e"})

    assert (verdict.reason, verdict.detail) == (Reason.UNKNOWN_TYPE, "type is missing")


# Bytes


def test_a_payload_has_at_most_32_kilobytes() -> None:
    payload = json.dumps(sent()).encode()
    largest = payload + b" " * (32 * 1024 - len(payload))

    assert parse(largest).message_id == "m1"
    assert reject(largest + b" ").reason == Reason.TOO_LARGE


def test_the_limit_of_bytes_is_a_setting() -> None:
    assert reject(sent(), max_call_bytes=10).reason == Reason.TOO_LARGE


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_is_bounded(opening: str) -> None:
    def nested(depth: int) -> bytes:
        closing = "]" if opening == "[" else "}"
        text = opening * depth + "1" + closing * depth
        return f'{{"type":"track","userId":"u","event":"e","properties":{{"x":{text}}}}}'.encode()

    assert parse(nested(MAX_NESTING - 2)).event == "e"
    assert reject(nested(MAX_NESTING - 1)).reason == Reason.BAD_REQUEST


def test_brackets_in_text_do_not_nest() -> None:
    assert parse(sent(event='[{"' * 1000)).event == '[{"' * 1000


@pytest.mark.parametrize("opening", [b'"', b'{"a":"', b'"\\"'])
def test_text_without_an_end_is_rejected_in_no_time(opening: bytes) -> None:
    payload = b"[" * (MAX_NESTING + 1) + opening + b'\\"' * 16_000
    started = time.process_time()

    assert reject(payload).reason == Reason.BAD_REQUEST
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"nonsense", b"0", b"null", b"[]", b'"text"', b"\xff\xfe", b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_object_is_a_bad_request(payload: bytes) -> None:
    assert reject(payload).reason == Reason.BAD_REQUEST


@pytest.mark.parametrize("broken", [b"{", b'"x', b'"\\ud800"', b"NaN", b"01", b"[1,]", b'"a\nb"', b"\xff"])
@pytest.mark.parametrize("first", [b'"u1"', b"5", b'""', b"true"])
def test_json_that_breaks_behind_an_odd_field_is_a_bad_request(first: bytes, broken: bytes) -> None:
    """The strict decoder stops at the odd field and never sees what is behind it."""
    payload = b'{"type":"track","event":"e","userId":%s,"properties":{"a":%s}}' % (first, broken)

    assert reject(payload).reason == Reason.BAD_REQUEST


def test_of_two_fields_of_one_name_the_last_one_counts() -> None:
    assert parse(b'{"userId":5,"type":"page","type":"track","event":"e","userId":"u2"}').user_id == "u2"


@given(json_values)
def test_a_detail_never_quotes_a_value(value: object) -> None:
    secret = "s3cret"
    for call_type in CallType:
        for field in ("userId", "event", "timestamp", "traits", "properties", "context", "name", "messageId", "type"):
            payload = {**sent(call_type), field: [secret, value]}
            if (call_type, field) in accepted_anyway:
                continue

            assert secret not in reject(payload).detail


accepted_anyway = {
    (call_type, field)
    for call_type in CallType
    for field, types in (
        ("event", ("track",)),
        ("traits", TRAITS_TYPES),
        ("properties", PROPERTIES_TYPES),
        ("name", ("page", "screen")),
    )
    if call_type not in types
}


# Times


def test_a_valid_timestamp_is_kept() -> None:
    call = parse(sent(timestamp="2020-05-17T01:02:03.456789+02:00", sentAt=iso(NOW), originalTimestamp=iso(NOW)))

    assert call.timestamp == 1_589_670_123_456_789
    assert call.future_timestamp is None


def test_a_timestamp_without_a_zone_is_utc() -> None:
    assert parse(sent(timestamp="2026-01-01T00:00:00")).timestamp == NOW


@pytest.mark.parametrize("value", ["", "now", "2026-13-01", 1_767_225_600, 1.5, True, [], {}, "0000-01-01T00:00:00Z"])
def test_a_timestamp_that_is_none_is_rejected(value: object) -> None:
    assert reject(sent(timestamp=value)).reason == Reason.TIMESTAMP_NOT_VALID


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01"])
def test_a_timestamp_that_bigquery_cannot_hold_is_rejected(value: str) -> None:
    assert reject(sent(timestamp=value)).reason == Reason.TIMESTAMP_NOT_VALID


@pytest.mark.parametrize("field", ["originalTimestamp", "sentAt", "receivedAt"])
@pytest.mark.parametrize("value", ["", "now", 5, True, [], {}, "0001-01-01T00:00:00+14:00"])
def test_other_times_that_cannot_be_read_are_absent(field: str, value: object) -> None:
    assert parse(sent(**{field: value})) == parse(sent())


def test_without_timestamp_the_clock_of_the_client_is_corrected() -> None:
    """receivedAt - (sentAt - originalTimestamp)"""
    call = parse(
        sent(
            originalTimestamp=iso(NOW - 700 * DAY), sentAt=iso(NOW - 700 * DAY + 5 * SECOND), receivedAt=iso(NOW - HOUR)
        )
    )

    assert call.timestamp == NOW - HOUR - 5 * SECOND
    assert (call.original_timestamp, call.sent_at) == (NOW - 700 * DAY, NOW - 700 * DAY + 5 * SECOND)


def test_without_sent_at_the_client_is_believed() -> None:
    assert parse(sent(originalTimestamp=iso(NOW - DAY))).timestamp == NOW - DAY


def test_without_original_timestamp_it_happened_when_it_was_received() -> None:
    assert parse(sent(sentAt=iso(NOW - DAY), receivedAt=iso(NOW - HOUR))).timestamp == NOW - HOUR


def test_a_correction_that_leads_out_of_time_is_not_made() -> None:
    call = parse(sent(originalTimestamp="0001-01-01T00:00:00Z", sentAt="9999-12-31T00:00:00Z", receivedAt=iso(NOW)))

    assert call.timestamp == NOW


def test_a_timestamp_up_to_24_hours_ahead_is_kept() -> None:
    call = parse(sent(timestamp=iso(NOW + DAY)))

    assert (call.timestamp, call.future_timestamp) == (NOW + DAY, None)


def test_a_timestamp_further_ahead_is_replaced_and_kept_aside() -> None:
    call = parse(sent(timestamp=iso(NOW + DAY + SECOND), receivedAt=iso(NOW)))

    assert (call.timestamp, call.future_timestamp) == (NOW, NOW + DAY + SECOND)


def test_a_derived_timestamp_in_the_future_is_replaced_too() -> None:
    call = parse(sent(originalTimestamp=iso(NOW + 3 * DAY)))

    assert (call.timestamp, call.future_timestamp, call.original_timestamp) == (NOW, NOW + 3 * DAY, NOW + 3 * DAY)


def test_received_at_is_the_attribute_then_the_payload_then_the_publish_time_then_the_reading() -> None:
    times = {"received_at": iso(NOW - 4 * HOUR)}
    payload = sent(receivedAt=iso(NOW - 3 * HOUR))

    assert parse(payload, NOW - 2 * HOUR, times).received_at == NOW - 4 * HOUR
    assert parse(payload, NOW - 2 * HOUR, {"received_at": "?"}).received_at == NOW - 3 * HOUR
    assert parse(payload, NOW - 2 * HOUR).received_at == NOW - 3 * HOUR
    assert parse(sent(), NOW - 2 * HOUR).received_at == NOW - 2 * HOUR
    assert parse(sent(), read_at=NOW - HOUR).received_at == NOW - HOUR


def test_arrival_is_the_publish_time_and_for_a_line_the_receipt() -> None:
    assert parse(sent(receivedAt=iso(NOW - HOUR)), NOW - SECOND).arrived_at == NOW - SECOND
    assert parse(sent(receivedAt=iso(NOW - HOUR))).arrived_at == NOW - HOUR


# The messageId of a call that came without


def test_a_redelivery_without_message_id_gets_the_same_one() -> None:
    payload = sent(messageId=ABSENT, timestamp="2026-01-01T00:00:00Z")
    again = {
        **dict(reversed(payload.items())),
        "sentAt": iso(NOW),
        "receivedAt": iso(NOW),
        "writeKey": "k",
        "_metadata": {},
    }

    first = parse(payload)
    second = parse(json.dumps(again, indent=2).encode(), NOW + HOUR, {"received_at": iso(NOW + HOUR)}, NOW + DAY)

    assert second.message_id == first.message_id


def test_keys_inside_objects_may_come_in_any_order_too() -> None:
    one = sent(messageId=ABSENT, properties={"a": 1, "b": {"c": 2, "d": 3}})
    other = sent(messageId=ABSENT, properties={"b": {"d": 3, "c": 2}, "a": 1})

    assert parse(one).message_id == parse(other).message_id


def test_the_timestamp_that_the_transport_derived_does_not_tell_calls_apart() -> None:
    clock = {"messageId": ABSENT, "originalTimestamp": iso(NOW - HOUR)}

    assert parse(sent(**clock, timestamp=iso(NOW))).message_id == parse(sent(**clock)).message_id


@pytest.mark.parametrize(
    "other",
    [
        {"userId": "u2"},
        {"event": "Order completed"},
        {"properties": {"revenue": 9.6}},
        {"timestamp": iso(NOW)},
        {"originalTimestamp": iso(NOW)},
        {"context": {"ip": "::1"}},
    ],
)
def test_calls_that_differ_get_different_message_ids(other: dict[str, object]) -> None:
    assert parse(sent(messageId=ABSENT, **other)).message_id != parse(sent(messageId=ABSENT)).message_id


def test_a_content_id_never_changes() -> None:
    """It may stand in tables already: a release that changes it writes replayed calls twice."""
    payload = sent(messageId=ABSENT, properties={"a": [1, 2.5, None, "é"], "b": 18446744073709551616})

    assert parse(payload).message_id == "3d2e2aaf-6c84-5cbc-b12e-186400a8453d"


def test_a_content_id_copes_with_numbers_that_no_double_holds() -> None:
    payload = b'{"type":"track","userId":"u","event":"e","properties":{"a":1e999,"b":%s}}'

    assert parse(payload % (b"9" * 5000)).message_id != parse(payload % (b"8" * 5000)).message_id


# Whose email


def test_the_email_is_that_of_the_traits_then_the_contexts_then_the_user_id() -> None:
    everywhere: dict[str, Any] = {"userId": "id@x.io", "context": {"traits": {"email": "context@x.io"}}}

    assert parse(sent("identify", **everywhere, traits={"email": "traits@x.io"})).email == "traits@x.io"
    assert parse(sent("identify", **everywhere, traits={"email": "none"})).email == "context@x.io"
    assert parse(sent("identify", **everywhere, traits={"email": None})).email == "context@x.io"
    assert parse(sent("identify", **everywhere, traits={"email": 5})).email == "context@x.io"
    assert parse(sent("identify", userId="id@x.io", traits={})).email == "id@x.io"
    assert parse(sent("identify", userId="u1", traits={})).email is None


@pytest.mark.parametrize("call_type", [each for each in CallType if each not in ("identify", "suppress")])
def test_other_calls_name_the_caller_in_the_context(call_type: CallType) -> None:
    call = parse(sent(call_type, traits={"email": "not@this.one"}, context={"traits": {"email": "Ann@x.io"}}))

    assert call.email == "ann@x.io"


@pytest.mark.parametrize("name", [b"traits", b"tr\\u0061its"])
def test_an_email_of_the_context_that_is_not_the_callers_is_remembered(name: bytes) -> None:
    payload = b'{"type":"identify","userId":"u","traits":%s,"context":{"' + name + b'":{"email":" Bo@X.io"}}}'

    for traits, emails in (
        (b"{}", ("bo@x.io", None)),
        (b'{"email":"bo@x.io"}', ("bo@x.io", None)),
        (b'{"email":"ann@x.io"}', ("ann@x.io", "bo@x.io")),
    ):
        call = parse(payload % traits)
        assert (call.email, call.context_email) == emails


def test_the_email_of_a_group_is_not_the_callers() -> None:
    assert parse(sent("group", traits={"email": "office@acme.io"})).email is None


def test_the_email_is_found_however_its_key_is_spelt() -> None:
    payload = (
        b'{"type":"track","event":"e","userId":"u","context":{"tr\\u0061its":{"em\\u0061il":"a@x.io"},"groupId":%s}}'
    )

    for group_id in (b'"g1"', b"5", b"1e999", b"9" * 5000):
        assert parse(payload % group_id).email == "a@x.io"


NO_EMAILS: list[object] = ["", "ann", "@", "@b", "a@", "a@b@c", "a b@c", "a@b c", None, 5, True, [], {}]


@pytest.mark.parametrize(
    ("value", "email"),
    [
        ("ann@example.com", "ann@example.com"),
        (" \tAnn@Example.COM\n", "ann@example.com"),
        ("\u2003a@b\u2003", "a@b"),
        ("ÄNN@x", "änn@x"),
        *[(value, None) for value in NO_EMAILS],
    ],
)
def test_an_email_is_lower_case_and_trimmed(value: object, email: str | None) -> None:
    assert normalise_email(value) == email


@given(st.text(max_size=8).map(lambda text: f"{text}@{text}") | st.sampled_from(ODD_EMAILS))
@example("İ@ẞ.Σ")
def test_a_normal_email_stays_as_it_is(value: str) -> None:
    email = normalise_email(value)

    assert email is None or normalise_email(email) == email


@given(st.text(st.sampled_from("aB@ \t\n\x1c\x85\u2003\u200bİ"), max_size=8))
def test_an_email_is_one_word_around_one_at_sign(value: str) -> None:
    trimmed = value.strip().lower()

    assert normalise_email(value) == (trimmed if re.fullmatch(r"[^@\s]+@[^@\s]+", trimmed) else None)


@settings(max_examples=50)
@given(st.integers(-(10**6) * DAY, 10**6 * DAY), st.none() | st.integers(-DAY, DAY))
def test_no_arrival_is_too_odd(read_at: int, published_at: int | None) -> None:
    call = parse_call(message(sent(), published_at), read_at, "w")

    assert call.arrived_at == (read_at if published_at is None else published_at)
