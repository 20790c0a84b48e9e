import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.page.mask_payload import HARMLESS, MAX_DEPTH, MAX_LINES, MAX_NAME_CHARACTERS, mask_payload

# None of the words in which a description is written, nor the names that are kept, are made of these.
SECRETS = st.text("ÄΩЖ漢字QXZ%@&|!", min_size=3, max_size=30)
NAMES = st.sampled_from(["userId", "type", "email", "traits", "version", "channel", "name", "event", "first name"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | SECRETS,
    lambda children: st.lists(children, max_size=5) | st.dictionaries(NAMES | SECRETS, children, max_size=5),
    max_leaves=20,
)


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for member in value.values() for text in texts(member)]
    if isinstance(value, list):
        return [text for member in value for text in texts(member)]
    return [value] if isinstance(value, str) else []


@given(VALUES)
def test_no_text_of_the_message_is_shown(value: object) -> None:
    shown = mask_payload(json.dumps(value, ensure_ascii=False).encode())

    assert [text for text in texts(value) if text in shown] == []


@given(st.integers(min_value=100_000) | st.floats(min_value=100_000, allow_infinity=False))
def test_no_number_of_the_message_is_shown(number: float) -> None:
    assert mask_payload(json.dumps({"value": number}).encode()) == '{\n  "value": ‹number›\n}'


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"a":' * 900 + b"1" + b"}" * 900)
@example(b'"\\ud800"')
@example(b'{"\\ud800": 1}')
@example(b"9" * 5000)
@example(b"NaN")
def test_any_bytes_are_masked_and_the_answer_is_short(payload: bytes) -> None:
    shown = mask_payload(payload)

    assert shown
    assert len(shown.splitlines()) <= MAX_LINES + 1
    assert max(map(len, shown.splitlines())) <= 200
    shown.encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ann@example.com", "‹email›"),
        ("", "‹empty text›"),
        ("Ann", "‹text, 3 characters›"),
        ("491701234567", "‹digits, 12 characters›"),
        (4711, "‹number›"),
        (True, "true"),
        (None, "null"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_a_value_is_described(value: object, shown: str) -> None:
    assert mask_payload(json.dumps({"userId": value}).encode()) == f'{{\n  "userId": {shown}\n}}'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "identify"),
        ("channel", "server"),
        ("version", "2.1.0"),
        ("event", "spamreport"),
        ("name", "analytics.js"),
    ],
)
def test_what_says_how_a_message_was_built_is_shown(name: str, value: str) -> None:
    assert f'"{name}": "{value}"' in mask_payload(json.dumps({name: value}).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "Ann Smith"),
        ("event", "identify"),
        ("version", "203.0.113.7"),
        ("version", "2026.01.31"),
        ("nickname", "server"),
    ],
)
def test_other_values_of_such_fields_are_not(name: str, value: str) -> None:
    assert value not in mask_payload(json.dumps({name: value}).encode())


@pytest.mark.parametrize("name", ["userId", "first_name", "$set", "Plan Type", "größe", "a.b-c:d"])
def test_names_of_fields_are_shown(name: str) -> None:
    assert f'"{name}": null' in mask_payload(json.dumps({name: None}).encode())


@pytest.mark.parametrize(
    "name",
    ["ann@example.com", "+49 170 1234567", "20260131", "u4711", "<b>", "x" * (MAX_NAME_CHARACTERS + 1), " ", "a\nb"],
)
def test_names_that_may_be_values_are_not(name: str) -> None:
    assert f'"{name}"' not in mask_payload(json.dumps({name: None}, ensure_ascii=False).encode())


def test_what_is_no_json_is_told_by_its_length() -> None:
    assert mask_payload(b"\xff" * 412) == "‹412 bytes that are no JSON›"
    assert mask_payload(b"") == "‹no bytes›"


def test_the_structure_stays() -> None:
    payload = {"traits": {"address": {"city": "Berlin"}, "tags": ["a", 1]}}

    assert mask_payload(json.dumps(payload).encode()).splitlines() == [
        "{",
        '  "traits": {',
        '    "address": {',
        '      "city": ‹text, 6 characters›',
        "    }",
        '    "tags": [',
        "      ‹text, 1 character›",
        "      ‹number›",
        "    ]",
        "  }",
        "}",
    ]


def test_what_is_deep_inside_is_counted() -> None:
    shown = mask_payload(b"[" * 20 + b"1, 2" + b"]" * 20).splitlines()

    assert shown[MAX_DEPTH].strip() == "[ ‹1 inside› ]"
    assert len(shown) == 2 * MAX_DEPTH + 1


def test_long_lists_are_cut() -> None:
    assert "‹470 more›" in mask_payload(json.dumps(["x"] * 500).encode())


def test_harmless_values_are_words() -> None:
    assert [value for values in HARMLESS.values() for value in values if "@" in value[1:] or value.isdigit()] == []
