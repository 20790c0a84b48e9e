import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.calls import SegmentCall
from schemas.messages import Message
from services.answers import RefusedError
from services.limits import MAX_BATCH_CALLS, MAX_SHARED_BYTES, MAX_WEBHOOK_CALLS
from services.split_calls import find_write_key, split_webhook
from services.split_calls import split_batch as split_admitted_batch
from services.split_calls import split_call as split_admitted_call
from tests.factories import NOW, SECOND, line_of, sent
from tests.strategies import BROKEN_TEXTS, ODD_TEXTS, json_values
from transforms.logic.parse_call import parse_call

RECEIVED_AT = "2026-01-01T00:00:00.000Z"  # NOW


def split_batch(body: bytes, received_at: str) -> list[bytes]:
    """What is announced is what comes, but for what the collector adds to a call."""
    announced: list[tuple[int, int]] = []
    payloads = split_admitted_batch(body, received_at, lambda *about: announced.append(about))
    ((count, size),) = announced
    assert len(payloads) == count
    assert sum(map(len, payloads)) <= size + 150 * count
    return payloads


def split_call(body: bytes, call_type: str, received_at: str) -> list[bytes]:
    return split_admitted_call(body, call_type, received_at, lambda count, size: None)


odd_texts = st.sampled_from((*ODD_TEXTS, *BROKEN_TEXTS)) | json_values.map(json.dumps)
names = st.sampled_from(
    ("batch", "sentAt", "context", "integrations", "writeKey", r"write\u004bey", "timestamp", "type", "messageId", "a")
)
odd_objects = st.lists(st.tuples(names, odd_texts), max_size=6).map(
    lambda fields: "{" + ",".join(f'"{name}":{text}' for name, text in fields) + "}"
)
odd_batches = st.tuples(st.lists(odd_objects | odd_texts, max_size=4), odd_objects).map(
    lambda parts: f'{{"batch":[{",".join(parts[0])}],' + parts[1][1:].replace("{}", "")
)
near_bodies = (odd_objects | odd_batches | odd_texts).map(lambda text: text.encode("utf-8", "surrogatepass"))
DEEP = b'{"a":' * 100_000
BAD_NAMES = (b'{"a\xff":1}', rb'{"\ud800":1}', b'{"batch":[{"a\xff":1}]}', b'{"batch":[{}],"context":{"a\xff":1}}')


@given(st.binary() | near_bodies)
@example(b"[" * 100_000)
@example(DEEP)
@example(b'{"batch":[' + DEEP + b"}" * 100_000 + b"]}")
@example(b'{"batch":[{"timestamp":"\xff","sentAt":1}]}')
@example(b'{"writeKey":"\xff"}')
def test_any_body_is_split_or_refused(body: bytes) -> None:
    find_write_key(body)
    for split in (lambda: split_call(body, "track", RECEIVED_AT), lambda: split_batch(body, RECEIVED_AT)):
        with suppress(RefusedError):
            assert split()
    with suppress(RefusedError):
        assert split_webhook(body)


def test_what_nests_too_deep_for_any_decoder_is_told_so() -> None:
    body = b'{"batch":[{},{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"

    with pytest.raises(RefusedError) as refused:
        split_batch(body, RECEIVED_AT)
    assert "nests some thousand levels deep" in refused.value.message


@pytest.mark.parametrize("body", BAD_NAMES)
def test_names_that_are_no_text_are_refused_or_the_pipelines_to_judge(body: bytes) -> None:
    test_any_body_is_split_or_refused.hypothesis.inner_test(body)  # type: ignore[attr-defined]


# What each payload has to be, slowly

calls: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"userId": st.just("u1")},
    optional={
        "messageId": st.sampled_from(("m1", None, "", 5)),
        "timestamp": st.sampled_from(("2025-12-31T23:00:00Z", "2025-12-31", "yesterday", None, 5, "")),
        "originalTimestamp": st.sampled_from(("2025-12-31T22:00:00Z", None)),
        "sentAt": st.sampled_from(("2025-12-31T23:30:00Z", None, "soon")),
        "context": st.sampled_from(({}, {"ip": "1"}, {"ip": None, "page": {}}, None, 5, "x")),
        "integrations": st.sampled_from(({"All": False}, None, True)),
        "writeKey": st.sampled_from(("k", 5, None, {})),
        "type": st.sampled_from(("track", "identify", None, 5)),
        "receivedAt": st.just("1999-01-01T00:00:00Z"),
    },
)
batches: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"batch": st.lists(calls, min_size=1, max_size=4)},
    optional={
        "sentAt": st.sampled_from(("2025-12-31T23:59:00Z", None)),
        "writeKey": st.sampled_from(("k", 5, None)),
        "context": st.sampled_from(({"ip": "2", "os": {"a": 1}}, {}, None)),
        "integrations": st.sampled_from(({"All": True, "X": False}, None)),
    },
)


def is_read_by_the_pipeline(timestamp: object) -> bool:
    return timestamp == "2025-12-31T23:00:00Z"


def expect(call: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
    """But for an id that is made up."""
    expected = {name: value for name, value in call.items() if name != "writeKey"}
    for name in ("context", "integrations"):
        own, shared = call.get(name), batch.get(name)
        if shared and own is None:
            expected[name] = shared
        elif shared and isinstance(own, dict):
            expected[name] = {**shared, **own}
    if call.get("sentAt") is None and batch.get("sentAt") is not None:
        expected["sentAt"] = batch["sentAt"]
    is_relabelled = is_read_by_the_pipeline(call.get("timestamp")) and call.get("originalTimestamp") is None
    if is_relabelled and expected.get("sentAt") is not None:
        expected["originalTimestamp"] = expected.pop("timestamp")
    return {**expected, "receivedAt": RECEIVED_AT}


def same_but_for_made_up_ids(payload: bytes, expected: dict[str, Any]) -> bool:
    call = json.loads(payload)
    if expected.get("messageId") is None:
        assert call.pop("messageId").startswith("api-")
        expected = {name: value for name, value in expected.items() if name != "messageId"}
    return bool(call == expected)


@given(batches)
def test_a_batch_becomes_what_segments_api_would_pass_on(batch: dict[str, Any]) -> None:
    body = json.dumps(batch).encode()

    payloads = split_batch(body, RECEIVED_AT)

    assert len(payloads) == len(batch["batch"])
    for payload, call in zip(payloads, batch["batch"], strict=True):
        assert same_but_for_made_up_ids(payload, expect(call, batch))
    key = batch.get("writeKey")
    assert find_write_key(body) == (key if isinstance(key, str) else None)


@given(calls)
def test_a_single_call_has_the_type_of_its_path(call: dict[str, Any]) -> None:
    (payload,) = split_call(json.dumps(call).encode(), "screen", RECEIVED_AT)

    assert same_but_for_made_up_ids(payload, {**expect(call, {}), "type": "screen"})


def test_a_batch_that_is_not_admitted_is_not_split() -> None:
    def refuse(count: int, size: int) -> None:
        assert count == 2
        raise RefusedError(429, "too_fast", "", 1)

    with pytest.raises(RefusedError, match=r"^429 "):
        split_admitted_batch(b'{"batch":[{},{}]}', RECEIVED_AT, refuse)


def test_made_up_ids_differ() -> None:
    payloads = split_batch(b'{"batch":[{},{}]}', RECEIVED_AT)

    assert len({json.loads(payload)["messageId"] for payload in payloads}) == 2


def test_names_that_come_twice_or_escaped_hide_no_key() -> None:
    (payload,) = split_batch(rb'{"batch":[{"writeKey":"a","write\u004bey":"b","userId":"u1"}]}', RECEIVED_AT)

    assert set(json.loads(payload)) == {"userId", "messageId", "receivedAt"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b"{}", 400, "empty_batch"),
        (b'{"batch":null}', 400, "empty_batch"),
        (b'{"batch":[]}', 400, "empty_batch"),
        (b'{"batch":{}}', 400, "bad_request"),
        (b'{"batch":[{}],"context":5}', 400, "bad_request"),
        (b'{"batch":[' + b"0," * MAX_BATCH_CALLS + b"0]}", 413, "too_large"),
        (
            b'{"batch":[' + b"{}," * 2000 + b'{}],"context":{"a":"' + b"x" * (MAX_SHARED_BYTES // 2001) + b'"}}',
            413,
            "too_large",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_batch_is_refused(body: bytes, status: int, code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        split_batch(body, RECEIVED_AT)

    assert (refused.value.status, refused.value.code) == (status, code)


def test_a_full_batch_with_the_usual_context_is_split() -> None:
    batch = {"batch": [{}] * MAX_BATCH_CALLS, "context": {"page": "x" * 1500}}

    assert len(split_batch(json.dumps(batch).encode(), RECEIVED_AT)) == MAX_BATCH_CALLS


def test_a_bad_call_among_good_ones_goes_on_as_it_is() -> None:
    bad = [b"[1, 2]", b'"text"', b"null", b'{"a\xff":1}']

    payloads = split_batch(b'{"batch":[' + b",".join([*bad, line_of()]) + b'],"context":{"ip":"1"}}', RECEIVED_AT)

    assert payloads[: len(bad)] == bad
    assert json.loads(payloads[-1])["context"] == {"ip": "1"}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (rb"\ud83d", "\ufffd"),
        (rb"\uDE00x", "\ufffdx"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud83d \ud83d", "\\ud83d \ufffd"),
        (rb"\"\u00e9\ud83d", '"\u00e9\ufffd'),
    ],
)
def test_half_an_emoji_spoils_no_batch(said: bytes, kept: str) -> None:
    call = b'{"event":"' + said + b'"}'

    (single,) = split_call(call, "track", RECEIVED_AT)
    half, whole = split_batch(b'{"writeKey":"k","batch":[' + call + b',{"event":"whole"}]}', RECEIVED_AT)

    assert json.loads(single)["event"] == json.loads(half)["event"] == kept
    assert json.loads(whole)["event"] == "whole"
    assert find_write_key(b'{"event":"' + said + b'","writeKey":"k"}') == "k"


def test_webhooks_go_on_byte_for_byte() -> None:
    one, other = b'{ "type":"track","n":1.0}', '{"n":"\u00fc"}'.encode()

    assert split_webhook(one) == [one]
    assert split_webhook(b" [" + one + b" , " + other + b"]") == [one, other]


@pytest.mark.parametrize("body", [b"", b"5", b'"x"', b"null", b"[]", b"[0]", b"[{},0]", b"[" * 9000, b"{} {}"])
def test_what_is_no_webhook_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^400 "):
        split_webhook(body)


def test_a_webhook_has_no_more_calls_than_segment_puts_into_one() -> None:
    split_webhook(b"[" + b"{}," * (MAX_WEBHOOK_CALLS - 1) + b"{}]")
    with pytest.raises(RefusedError, match=r"^413 "):
        split_webhook(b"[" + b"{}," * MAX_WEBHOOK_CALLS + b"{}]")


# What the pipeline makes of it

event_names = st.sampled_from(
    ("Order Completed", "<script>alert(1)</script>", "'; DROP TABLE calls; --", "\u2028", "\\")
)


def parse(payload: bytes) -> SegmentCall:
    attributes = {"workspace_id": "w1", "connection_id": "c1", "received_at": RECEIVED_AT}
    return parse_call(Message(payload, attributes, NOW), NOW, "default")


@given(
    st.integers(0, 10**9),
    st.integers(-(10**9), 10**9),
    st.sampled_from(("timestamp", "originalTimestamp")),
    event_names,
)
def test_the_pipeline_corrects_the_clients_clock(waited: int, ahead: int, name: str, event: str) -> None:
    sent_at = datetime.fromtimestamp(NOW / 1e6, UTC) + timedelta(milliseconds=ahead)
    called = sent_at - timedelta(milliseconds=waited)
    call = sent(event=event, **{name: called.isoformat()})

    (payload,) = split_batch(json.dumps({"batch": [call], "sentAt": sent_at.isoformat()}).encode(), RECEIVED_AT)

    parsed = parse(payload)
    assert (parsed.message_id, parsed.user_id, parsed.event) == ("m1", "u1", event)
    assert parsed.timestamp == NOW - waited * 1000


def test_without_sent_at_the_clients_timestamp_counts() -> None:
    (payload,) = split_call(line_of(timestamp="2025-12-31T23:59:00Z"), "track", RECEIVED_AT)

    parsed = parse(payload)
    assert (parsed.timestamp, parsed.received_at) == (NOW - 60 * SECOND, NOW)
