"""SendGrid's signed Event Webhook, by the example in Twilio's own tests and by keys made here."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from services.signatures.sendgrid import check_sendgrid_signature, check_verification_key
from services.signatures.verdicts import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, BadVerificationKeyError, ForgedError
from tests.unit.bit_flips import flips

SECOND = 1_000_000

# Twilio's: https://github.com/sendgrid/sendgrid-python/blob/main/test/unit/test_eventwebhook.py
KEY = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="  # noqa: E501 - as it is published
SIGNATURE = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
TIMESTAMP = "1600112502"
BODY = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)
OTHER_KEY = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqTxd43gyp8IOEto2LdIfjRQrIbsd4SXZkLW6jDutdhXSJCWHw8REntlo7aNDthvj+y7GjUuFDb/R1NGe1OPzpA=="  # noqa: E501 - as it is published
OTHER_SIGNATURE = "MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRamr2nlxFDWYNH3j/0="
SIGNED_AT = int(TIMESTAMP) * SECOND

PRIVATE_KEY = ec.derive_private_key(0x5E9DC21D, ec.SECP256R1())


def write_key(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def is_forged(
    key: str = KEY, signature: str = SIGNATURE, timestamp: str = TIMESTAMP, body: bytes = BODY, now: int = SIGNED_AT
) -> bool:
    try:
        check_sendgrid_signature(key, signature, timestamp, body, now)
    except ForgedError:
        return True
    return False


def test_twilios_own_example_is_proved() -> None:
    assert not is_forged()


@pytest.mark.parametrize(
    "changed",
    [
        {"key": OTHER_KEY},
        {"body": b"payload"},
        {"body": BODY.rstrip()},
        {"signature": OTHER_SIGNATURE},
        {"signature": ""},
        {"signature": SIGNATURE.rstrip("=")},
        {"signature": f" {SIGNATURE}"},
        {"signature": f"{SIGNATURE[:-2]}N="},  # the same bytes in base64 that no encoder writes
        {"signature": "MAYCAQACAQA="},  # r = s = 0
        {"timestamp": "timestamp"},
        {"timestamp": ""},
        {"timestamp": "1600112503"},
        {"timestamp": f" {TIMESTAMP}"},
        {"timestamp": f"+{TIMESTAMP}"},
        {"timestamp": "١٦٠٠١١٢٥٠٢"},
        {"timestamp": TIMESTAMP[:-1], "body": b"2" + BODY},
        {"timestamp": "9" * 5000},
    ],
)
def test_what_differs_from_the_example_is_forged(changed: dict[str, str | bytes]) -> None:
    assert is_forged(**changed)  # type: ignore[arg-type] # one of them at a time


def test_one_bit_is_enough_to_be_forged() -> None:
    signature, key = base64.b64decode(SIGNATURE), base64.b64decode(KEY)

    assert all(is_forged(body=body) for body in flips(BODY))
    assert all(is_forged(timestamp=text.decode("latin-1")) for text in flips(TIMESTAMP.encode()))
    assert all(is_forged(signature=base64.b64encode(text).decode()) for text in flips(signature))
    assert all(is_forged(signature=text.decode("latin-1")) for text in flips(SIGNATURE.encode()))
    for text in flips(key):
        with pytest.raises((ForgedError, BadVerificationKeyError)):
            check_sendgrid_signature(base64.b64encode(text).decode(), SIGNATURE, TIMESTAMP, BODY, SIGNED_AT)


@pytest.mark.parametrize(
    ("seconds_later", "forged"),
    [
        (0, False),
        (MAX_AGE_SECONDS, False),
        (MAX_AGE_SECONDS + 1, True),
        (-MAX_AHEAD_SECONDS, False),
        (-MAX_AHEAD_SECONDS - 1, True),
    ],
)
def test_a_signature_counts_for_a_day(seconds_later: int, forged: bool) -> None:
    assert is_forged(now=SIGNED_AT + seconds_later * SECOND) is forged


@given(st.text(st.characters()), st.text(st.characters()) | st.integers().map(str), st.binary(), st.integers())
@example("\ud800", TIMESTAMP, BODY, SIGNED_AT)
@example("ä", TIMESTAMP, BODY, SIGNED_AT)
@example("AAAA", TIMESTAMP, BODY, SIGNED_AT)
@example(SIGNATURE, "\ud800", BODY, SIGNED_AT)
def test_any_headers_and_any_body_get_a_verdict(signature: str, timestamp: str, body: bytes, now: int) -> None:
    assert is_forged(KEY, signature, timestamp, body, now)


@given(st.binary())
def test_any_signature_of_bytes_gets_a_verdict(signature: bytes) -> None:
    assert is_forged(signature=base64.b64encode(signature).decode())


@given(st.binary(), st.integers(0, 99_999_999_999))
def test_any_body_that_is_signed_is_proved(body: bytes, seconds: int) -> None:
    signature = base64.b64encode(PRIVATE_KEY.sign(str(seconds).encode() + body, ec.ECDSA(SHA256()))).decode()

    assert not is_forged(write_key(PRIVATE_KEY.public_key()), signature, str(seconds), body, seconds * SECOND)


def test_the_other_signature_that_everybody_can_make_is_remembered_as_the_same_webhook() -> None:
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = utils.decode_dss_signature(base64.b64decode(SIGNATURE))
    other = base64.b64encode(utils.encode_dss_signature(r, order - s)).decode()

    assert other != SIGNATURE
    assert check_sendgrid_signature(KEY, other, TIMESTAMP, BODY, SIGNED_AT) == check_sendgrid_signature(
        KEY, SIGNATURE, TIMESTAMP, BODY, SIGNED_AT
    )


def test_two_webhooks_of_one_second_are_remembered_apart() -> None:
    names = set()
    for body in (b"[1]", b"[2]"):
        signature = base64.b64encode(PRIVATE_KEY.sign(TIMESTAMP.encode() + body, ec.ECDSA(SHA256()))).decode()
        key = write_key(PRIVATE_KEY.public_key())
        names.add(check_sendgrid_signature(key, signature, TIMESTAMP, body, SIGNED_AT))

    assert len(names) == 2


def test_a_key_is_kept_without_what_a_paste_adds() -> None:
    assert check_verification_key(f" {KEY[:64]}\n{KEY[64:]}\r\n") == KEY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SG.x",
        KEY[:-8],
        f"-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY-----",
        "schlüssel",
        f"{KEY[:10]}!{KEY[10:]}",
        "\ud800",
        base64.b64encode(base64.b64decode(KEY) + b"\0").decode(),
        write_key(ec.derive_private_key(7, ec.SECP384R1()).public_key()),
        write_key(ec.derive_private_key(7, ec.SECP256K1()).public_key()),
        write_key(rsa.generate_private_key(65537, 1024).public_key()),
        write_key(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()),
    ],
)
def test_what_is_no_key_of_sendgrid_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadVerificationKeyError) as raised:
        check_verification_key(text)
    assert "\n" not in str(raised.value)
    with pytest.raises(BadVerificationKeyError):
        check_sendgrid_signature(text, SIGNATURE, TIMESTAMP, BODY, SIGNED_AT)


@given(st.text(st.characters()) | st.binary().map(lambda der: base64.b64encode(der).decode()))
def test_any_text_is_a_key_or_is_refused(text: str) -> None:
    with pytest.raises(BadVerificationKeyError):
        check_verification_key(text)
