"""Mailgun's signature in the body: what it proves, and that it is not the event."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.signatures.mailgun import check_mailgun_signature
from services.signatures.verdicts import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, ForgedError
from tests.unit.bit_flips import flips

SECOND = 1_000_000
SECRET = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0"
# Timestamp and token of Mailgun's documentation; the signature is what `openssl dgst -sha256 -hmac` makes of them.
TIMESTAMP = "1770920772"
TOKEN = "e0b5477167110d68991efc6b9f89f0a11066af27834600e123"
SIGNATURE = "3f9f9869e390626cfa401e164e5cd201b24d153eafc2004a69d41c945dc93c1e"
SIGNED_AT = int(TIMESTAMP) * SECOND


def webhook(**changed: Any) -> bytes:
    signature = {"timestamp": TIMESTAMP, "token": TOKEN, "signature": SIGNATURE} | changed
    return json.dumps({"signature": signature, "event-data": {"event": "opened"}}).encode()


def is_forged(body: bytes, secret: str = SECRET, now: int = SIGNED_AT) -> bool:
    try:
        check_mailgun_signature(secret, body, now)
    except ForgedError:
        return True
    return False


def sign(text: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def test_a_signed_token_is_proved_and_given() -> None:
    assert check_mailgun_signature(SECRET, webhook(), SIGNED_AT) == TOKEN


def test_a_timestamp_may_be_a_number() -> None:
    assert check_mailgun_signature(SECRET, webhook(timestamp=int(TIMESTAMP)), SIGNED_AT) == TOKEN


def test_the_event_of_a_subaccount_is_proved_by_the_key_of_its_account() -> None:
    body = webhook(signature=sign("of the subaccount"), **{"parent-signature": SIGNATURE})

    assert check_mailgun_signature(SECRET, body, SIGNED_AT) == TOKEN


def test_the_event_is_not_signed_so_that_its_token_has_to_be_remembered() -> None:
    forged = webhook().replace(b"opened", b"complained")

    assert check_mailgun_signature(SECRET, forged, SIGNED_AT) == TOKEN


@pytest.mark.parametrize(
    "body",
    [
        webhook(signature=SIGNATURE.upper()),
        webhook(signature=f"{SIGNATURE} "),
        webhook(signature=""),
        webhook(signature="ä" * 64),
        webhook(signature=None),
        webhook(signature=None, **{"parent-signature": None}),
        webhook(signature="", **{"parent-signature": ""}),
        webhook(token=TOKEN[:-1]),
        webhook(token=""),
        webhook(token=1),
        webhook(timestamp="1770920773"),
        webhook(timestamp=float(TIMESTAMP)),
        webhook(timestamp=True),
        webhook(timestamp=f" {TIMESTAMP}"),
        webhook(timestamp=-1),
        webhook(timestamp=10**30),
        webhook().replace(b'"' + TIMESTAMP.encode() + b'"', b"9" * 5000),
        b'{"signature":"' + SIGNATURE.encode() + b'"}',
        b'{"event-data":{}}',
        b"[" + webhook() + b"]",
        b"",
        b"null",
        b"\xff",
        b'{"signature":{"token":"\xff"}}',
        b'{"a":' + b"[" * 100_000,
    ],
)
def test_another_body_is_forged(body: bytes) -> None:
    assert is_forged(body)


def test_no_digit_moves_between_timestamp_and_token() -> None:
    """They are signed as one text: with a digit moved the signature fits still, and the time does not."""
    assert is_forged(webhook(timestamp=TIMESTAMP[:-1], token=TIMESTAMP[-1] + TOKEN))

    token = "1" + TOKEN[1:]
    assert is_forged(webhook(timestamp=TIMESTAMP + "1", token=token[1:], signature=sign(TIMESTAMP + token)))


def test_without_a_key_nothing_is_proved() -> None:
    assert is_forged(webhook(signature=sign(TIMESTAMP + TOKEN, "")), secret="")


def test_one_bit_is_enough_to_be_forged() -> None:
    assert all(is_forged(webhook(signature=text.decode("latin-1"))) for text in flips(SIGNATURE.encode()))
    assert all(is_forged(webhook(token=text.decode("latin-1"))) for text in flips(TOKEN.encode()))
    assert all(is_forged(webhook(timestamp=text.decode("latin-1"))) for text in flips(TIMESTAMP.encode()))
    assert all(is_forged(webhook(), secret.decode("latin-1")) for secret in flips(SECRET.encode()))


@pytest.mark.parametrize(
    ("seconds_later", "forged"),
    [
        (MAX_AGE_SECONDS, False),
        (MAX_AGE_SECONDS + 1, True),
        (-MAX_AHEAD_SECONDS, False),
        (-MAX_AHEAD_SECONDS - 1, True),
    ],
)
def test_a_signature_counts_for_a_day(seconds_later: int, forged: bool) -> None:
    assert is_forged(webhook(), now=SIGNED_AT + seconds_later * SECOND) is forged


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.binary() | json_values.map(lambda value: json.dumps({"signature": value}).encode()), st.integers())
@example(b'{"signature":{"timestamp":"1","token":"\\ud800aaaaaaaaaaaaaaaa","signature":"\\ud800"}}', SECOND)
def test_any_body_gets_a_verdict(body: bytes, now: int) -> None:
    assert is_forged(body, now=now)


@given(st.sampled_from(["timestamp", "token", "signature"]), json_values)
@example("timestamp", 10**4000)
def test_whatever_a_field_is_there_is_a_verdict(name: str, value: Any) -> None:
    assert is_forged(webhook(**{name: value}))


@given(json_values)
def test_whatever_the_signature_of_the_account_is_there_is_a_verdict(value: Any) -> None:
    assert is_forged(webhook(signature="", **{"parent-signature": value}))
