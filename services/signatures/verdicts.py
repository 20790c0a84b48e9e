"""What a check of a signature comes to, and what all checks share: ages, base64, comparing."""

import base64
import hmac
import re

# The longest that a provider repeats a webhook; what is older is no repetition but a replay.
# SendGrid: up to 24 hours after the event, https://docs.sendgrid.com/for-developers/tracking-events/troubleshooting
# Mailgun: 8 hours, https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-retries
# Amazon SNS: 3,600 seconds, https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html
# Nobody says that a repetition is signed anew, so it is taken to bear the time of the first attempt.
MAX_AGE_SECONDS = 24 * 3600

# How far the clocks of a provider and of this machine may be apart: what Stripe's libraries, for one, tolerate
# (https://docs.stripe.com/webhooks#replay-attacks). More would let a signature live longer than it is remembered.
MAX_AHEAD_SECONDS = 5 * 60

_SECOND = 1_000_000
# Eleven digits of seconds reach the year 5138: no text is too long to be made a number.
_SECONDS = re.compile(r"[0-9]{1,11}")


class ForgedError(Exception):
    """A webhook is not proved to be its sender's; one line that says why, without secrets and personal data."""


class BadVerificationKeyError(ValueError):
    """The public key set for a connection is none; one line that says what it has to be."""


class BadTopicArnError(ValueError):
    """The topic ARN set for a connection is none; one line that says what it has to be."""


def check_age(signed_at: int, now: int) -> None:
    """Both in microseconds since 1970. Raises `ForgedError` if it was signed too long ago, or in the future."""
    age = now - signed_at
    if age > MAX_AGE_SECONDS * _SECOND:
        raise ForgedError(f"it was signed more than {MAX_AGE_SECONDS // 3600} hours ago")
    if -age > MAX_AHEAD_SECONDS * _SECOND:
        raise ForgedError(f"it is signed for a time more than {MAX_AHEAD_SECONDS // 60} minutes ahead")


def read_seconds(text: str) -> int:
    """A time in seconds since 1970, as providers write it, in microseconds. Raises `ForgedError`."""
    if not _SECONDS.fullmatch(text):
        raise ForgedError("its timestamp is no number of seconds")
    return int(text) * _SECOND


def read_base64(text: str) -> bytes:
    """What the base64 stands for. Raises `ForgedError`.

    Only the one way of writing it counts that encoders write (RFC 4648, section 3.5): else a signature could be
    written anew, unlike any that is remembered.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        raise ForgedError("its signature is not base64") from None
    if base64.b64encode(decoded) != to_bytes(text):
        raise ForgedError("its signature is not base64 as it is written")
    return decoded


def is_same(one: str, other: str) -> bool:
    """Whether the texts are equal; takes as long wherever they differ."""
    return hmac.compare_digest(to_bytes(one), to_bytes(other))


def to_bytes(text: str) -> bytes:
    """The text in UTF-8, also one that UTF-8 has no place for: a header or a secret may be anything."""
    return text.encode("utf-8", "surrogatepass")
