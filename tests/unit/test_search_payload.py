"""A dead letter is found by what it holds, however it is spelt, cut or broken, and by nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.search_payload import PayloadSearch
from tests.strategies import arbitrary_payloads, near_valid_payloads

many = settings(max_examples=200)

ANN = PayloadSearch(
    [("user_id", "u1"), ("user_id", "42"), ("anonymous_id", "Ä-1"), ("email", "Ann@x.io"), ("email", "ann+b@x.io")]
)


def is_held(payload: bytes, **attributes: Any) -> bool:
    return ANN.is_held(payload, attributes)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"Track","userId":"u1"}',
        b'{"batch":[{"event":"e"},{"properties":{"by":["u1"]}}]}',
        b'"u1"',
        b'{"a":"\\u0075\\u0031"}',
        b'{"userId":"u1","userId":"u2"}',
        b'{"userId":{"id":42}}',
        b'{"user_id":[[42.0]]}',
        b'{"USER-ID":42}',
        b'{"previousId":4.2e1}',
        '{"anonymousId":"Ä-1"}'.encode(),
        b'{"anonymousId":"\\u00c4-1"}',
        b'{"x":" ANN@X.IO\\n"}',
        b'{"x":"ann+B@x.io"}',
        b'{"to":["Ann B. <Ann@x.io> "]}',
        b'{"Message":"{\\"mail\\":{\\"destination\\":[\\"Ann <ann@x.io>\\"]}}"}',
        b'{"row":"{\\"traits\\":{\\"email\\":\\"ann@x.io\\"}}"}',
        b'{"identifier":"u1","context":"{}"}',
        b'{"userId":NaN,"anonymousId":"u1"}',
        b"[" * 100_000 + b'"u1"',
        b'{"n":' + b"9" * 5000 + b',"userId":"u1"}',
    ],
)
def test_json_that_holds_one_is_found(payload: bytes) -> None:
    assert is_held(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"userId":"u1","ev',
        b'{"userId":"u1',
        b'{"userId" : 42, ',
        b'{"a":"\\u0075\\u0031","b',
        b"mail of Ann@X.io, bounced",
        b"<ann@x.io>",
        b"ann@x.io.",
        b'\xff{"userId":"u1"}',
        b"to=ann+b@x.io",
    ],
)
def test_what_is_no_json_is_searched_too(payload: bytes) -> None:
    assert is_held(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"u1",
        b'{"userId":"u12"}',
        b'{"userId":"U1"}',
        b'{"userId":" u1"}',
        b'{"userId":"u1@x.io"}',
        b'{"properties":{"quantity":42}}',
        b'{"userId":true,"messageId":42,"groupId":42}',
        b'{"userId":420}',
        b'{"a":"joann@x.io"}',
        b'{"a":"ann@x.io.au"}',
        b'{"a":"I know ann@x.io"}',
        b'{"u1":"u2"}',
        b'{"properties":{"quantity":42},"ev',
        b'{"userId":"u12","ev',
        b"joann@x.io",
        b"b-ann@x.io",
        b"ann@x.io.au",
        b"ann@x.iot",
        b"\xff",
    ],
)
def test_nothing_else_is_found(payload: bytes) -> None:
    assert not is_held(payload)


def test_an_attribute_may_be_one() -> None:
    assert is_held(b"{}", sender="u1")
    assert is_held(b"{}", sender="ANN@x.io")
    assert not is_held(b"{}", sender="u2", u1="x", number=42)


def test_who_has_no_email_is_found_by_none() -> None:
    assert not PayloadSearch([("user_id", "u1")]).is_held(b"@ ann@x.io", {})
    assert not PayloadSearch([]).is_held(b'{"userId":""}', {})


@many
@given(arbitrary_payloads | near_valid_payloads())
def test_any_payload_can_be_searched(payload: bytes) -> None:
    is_held(payload)


@many
@given(
    st.recursive(
        st.none() | st.integers() | st.sampled_from(["u1", "u2", "x"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "u2"]), inner, max_size=3),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_a_string_is_found_wherever_it_stands(value: Any, is_cut: bool) -> None:
    payload = json.dumps([value]).encode()

    assert is_held(payload[:-1] if is_cut else payload) == (b'"u1"' in payload)


@pytest.mark.parametrize("payload", [b'{"userId":"u1"}', b'{"a":" ANN@X.io"}', b'{"userId":42}', b"Ann@x.io"])
def test_needles_are_in_what_is_found(payload: bytes) -> None:
    assert any(needle in payload.decode().lower() for needle in ANN.needles)
