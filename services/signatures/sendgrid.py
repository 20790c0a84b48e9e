"""The signature of SendGrid's Event Webhook: ECDSA on P-256, with SHA-256, of the timestamp and the body.

https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
https://github.com/sendgrid/sendgrid-python/blob/main/sendgrid/helpers/eventwebhook/__init__.py
"""

import base64
import hashlib
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from services.signatures.verdicts import (
    BadVerificationKeyError,
    ForgedError,
    check_age,
    read_base64,
    read_seconds,
    to_bytes,
)

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"

# The keys of connections, read once: nothing from outside gets in here.
_KEPT_KEYS = 1024

_NO_KEY = "that is no verification key of SendGrid: base64 of 124 characters that starts with MFkwEwYHKoZI"


def check_sendgrid_signature(public_key: str, signature: str, timestamp: str, body: bytes, now: int) -> str:
    """Gives a text of what was signed, under which the webhook is to be remembered.

    `signature` and `timestamp` are the texts of the two headers; `now` is in microseconds since 1970. The signature
    itself is not for remembering: from any ECDSA signature (r, s) everybody can make another that fits, (r, n - s).
    Raises `ForgedError`, and `BadVerificationKeyError` if the connection's key is none.
    """
    key = _read_key(public_key)
    check_age(read_seconds(timestamp), now)
    try:
        key.verify(read_base64(signature), to_bytes(timestamp) + body, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise ForgedError("its signature does not fit the body and the verification key") from None
    return f"{timestamp}-{hashlib.blake2b(body, digest_size=16).hexdigest()}"


def check_verification_key(text: str) -> str:
    """The key as it is kept, without the spaces and line ends of a paste. Raises `BadVerificationKeyError`."""
    key = "".join(text.split())
    _read_key(key)
    return key


@lru_cache(_KEPT_KEYS)
def _read_key(text: str) -> ec.EllipticCurvePublicKey:
    """The key in the base64 of a DER SubjectPublicKeyInfo, as SendGrid shows it. Raises `BadVerificationKeyError`."""
    try:
        written = base64.b64decode(text, validate=True)
        key = load_der_public_key(written)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadVerificationKeyError(_NO_KEY) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadVerificationKeyError(_NO_KEY)
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != written:
        raise BadVerificationKeyError(_NO_KEY)  # OpenSSL reads points written in other ways too
    return key
