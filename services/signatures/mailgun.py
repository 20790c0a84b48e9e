"""The signature of Mailgun's webhooks, in the body: `{"signature": {"timestamp", "token", "signature"}, "event-data"}`.

https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks

It is the HMAC-SHA256 of timestamp and token in hex, and does not cover the event: who has seen one webhook can put
another event behind its signature. So a token may not be taken twice with different bodies (`remember_signatures`).
What is left open: a token that this process has not taken itself, say one that was sent to another connection with the
same signing key. The API key in the webhook's URL closes that.
"""

import hashlib
import hmac
from typing import Annotated

import msgspec

from services.signatures.verdicts import ForgedError, check_age, is_same, read_seconds, to_bytes

# "Randomly generated string with length of 50"; some room, as nothing hangs on it.
_Token = Annotated[str, msgspec.Meta(min_length=16, max_length=200)]


class _Signature(msgspec.Struct):
    timestamp: str | int
    """Seconds since 1970: a text in Mailgun's examples, an int in its table of fields."""
    token: _Token
    signature: str
    parent_signature: str | None = msgspec.field(name="parent-signature", default=None)
    """With the key of the account that the sender's is a part of."""


class _Webhook(msgspec.Struct):
    signature: _Signature


_WEBHOOK = msgspec.json.Decoder(_Webhook)


def check_mailgun_signature(secret: str, body: bytes, now: int) -> str:
    """Gives the token, under which the webhook is to be remembered. `now` is in microseconds since 1970.

    Nothing stands between timestamp and token where they are signed, but no digit can move from one to the other: the
    time would be tenfold or a tenth, and is refused for that. Raises `ForgedError`.
    """
    if not secret:
        raise ForgedError("there is no signing key to check the signature with")
    try:
        signed = _WEBHOOK.decode(body).signature
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ForgedError("it is no JSON object with a signature of timestamp, token and signature") from None
    timestamp = str(signed.timestamp)
    check_age(read_seconds(timestamp), now)
    expected = hmac.new(to_bytes(secret), to_bytes(timestamp + signed.token), hashlib.sha256).hexdigest()
    if not is_same(expected, signed.signature) and not is_same(expected, signed.parent_signature or ""):
        raise ForgedError("its signature does not fit the token and the signing key")
    return signed.token
