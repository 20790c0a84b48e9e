"""Segment's X-Signature: what it proves, and of what."""

import hashlib
import hmac

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.signatures.segment import Coverage, check_segment_signature
from services.signatures.verdicts import ForgedError
from tests.unit.bit_flips import flips

SECRET = "pässword"
FIRST = (
    '{"type":"track","event":"Zahlung é <b>","userId":"u1","messageId":"m1","properties":{"price":1.5,"n":1e+21}}'
).encode()
SECOND = b'{"type":"identify","userId":"u2","messageId":"m2"}'
# By Node.js, as Segment does it: createHmac("sha1", secret).update(JSON.stringify(first), "utf8").digest("hex")
SIGNATURE = "107fc94847b6e7b007aadcc7f97d43609d3b741e"


def sign(body: bytes) -> str:
    return hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()


def is_forged(body: bytes, header: str = SIGNATURE, secret: str = SECRET) -> bool:
    try:
        check_segment_signature(secret, header, body)
    except ForgedError:
        return True
    return False


def test_a_signed_event_is_proved() -> None:
    assert check_segment_signature(SECRET, SIGNATURE, FIRST) is Coverage.WHOLE


def test_a_batch_that_is_signed_as_a_whole_is_proved() -> None:
    batch = b"[" + FIRST + b"," + SECOND + b"]"

    assert check_segment_signature(SECRET, sign(batch), batch) is Coverage.WHOLE


def test_of_a_batch_that_is_signed_by_its_first_event_only_that_is_proved() -> None:
    batch = b"[" + FIRST + b"," + SECOND + b"]"

    assert check_segment_signature(SECRET, SIGNATURE, batch) is Coverage.FIRST_EVENT


def test_what_a_stranger_puts_behind_a_signed_event_is_not_taken_for_proved() -> None:
    forged = b"[" + FIRST + b',{"type":"track","userId":"u1","event":"Refund"}]'

    assert check_segment_signature(SECRET, SIGNATURE, forged) is Coverage.FIRST_EVENT


@pytest.mark.parametrize("batch", [b"[%s]", b" [ %s\n] "])
def test_a_batch_of_one_event_is_proved_by_it(batch: bytes) -> None:
    assert check_segment_signature(SECRET, SIGNATURE, batch % FIRST) is Coverage.WHOLE


@pytest.mark.parametrize(
    "body",
    [
        b"[" + SECOND + b"," + FIRST + b"]",  # the signed one is not the first
        b"[[" + FIRST + b"]]",
        b'{"batch":[' + FIRST + b"]}",
        b"[" + FIRST,
        b"[" + FIRST + b",]",
        b"[" + FIRST + b"] " + SECOND,
        b"[]",
        b"",
        b"null",
        b"[" * 100_000,
        FIRST + b" ",
    ],
)
def test_another_body_is_forged(body: bytes) -> None:
    assert is_forged(body)


@pytest.mark.parametrize(
    "header", ["", SIGNATURE.upper(), f"sha1={SIGNATURE}", f"{SIGNATURE} ", SIGNATURE[:-1], f"{SIGNATURE}0", "ä" * 40]
)
def test_another_writing_of_the_signature_is_forged(header: str) -> None:
    assert is_forged(FIRST, header)


def test_without_a_secret_nothing_is_proved() -> None:
    assert is_forged(FIRST, hmac.new(b"", FIRST, hashlib.sha1).hexdigest(), secret="")


def test_one_bit_is_enough_to_be_forged() -> None:
    assert all(is_forged(body) for body in flips(FIRST))
    assert all(is_forged(FIRST, header.decode("latin-1")) for header in flips(SIGNATURE.encode()))
    assert all(is_forged(FIRST, secret=secret.decode("latin-1")) for secret in flips(b"password"))
    batch = b"[" + FIRST + b"]"
    assert all(is_forged(body) for body in flips(batch))


@given(st.text(st.characters(), min_size=1), st.text(st.characters()), st.binary())
@example("\ud800", "\ud800", b'["\xff"]')
@example("s", "ÿ", b"[" * 10_000)
def test_any_header_and_any_body_get_a_verdict(secret: str, header: str, body: bytes) -> None:
    assert is_forged(body, header, secret)


@given(st.binary())
@example(b"[]")
def test_any_body_that_is_signed_as_a_whole_is_proved(body: bytes) -> None:
    assert check_segment_signature(SECRET, sign(body), body) is Coverage.WHOLE


def test_what_is_said_of_a_forged_one_gives_nothing_away() -> None:
    with pytest.raises(ForgedError) as raised:
        check_segment_signature(SECRET, "0" * 40, FIRST)

    said = str(raised.value)
    assert "\n" not in said
    assert not any(word in said for word in (SECRET, SIGNATURE, "0" * 40, "Zahlung"))
