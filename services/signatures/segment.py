"""The signature of Segment's webhooks: `X-Signature`, the HMAC-SHA1 of the body in lower-case hex.

https://segment.com/docs/connections/destinations/catalog/actions-webhook/#authentication
https://github.com/segmentio/action-destinations/blob/main/packages/destination-actions/src/destinations/webhook/index.ts

A batch, a JSON array, is signed by its first event only. Who has seen one signed event can thus put whatever they like
behind it: the rest of such a batch is proved by nothing, and the caller has to ask for the API key.

There is no time in the signature: whoever has a signed body can send it again for ever. That adds nothing as long as
its messageIds are remembered, and is why the API key is worth asking for as well.
"""

import hashlib
import hmac
from enum import StrEnum

import msgspec

from services.signatures.verdicts import ForgedError, is_same, to_bytes

_EVENTS = msgspec.json.Decoder(list[msgspec.Raw])


class Coverage(StrEnum):
    """How much of the body the signature proves."""

    WHOLE = "whole"
    """All events: there is one, or the whole body is signed."""
    FIRST_EVENT = "first_event"
    """The first of several: take such a body only with the API key.

    Nor is it a replay if the signature comes again with another body: Segment may batch the first event anew.
    """


def check_segment_signature(secret: str, header: str, body: bytes) -> Coverage:
    """Whether `header`, the text of X-Signature, signs the body or its first event. Raises `ForgedError`."""
    if not secret:
        raise ForgedError("there is no shared secret to check X-Signature with")
    if is_same(_sign(secret, body), header):
        return Coverage.WHOLE
    events = _split(body)
    if not events or not is_same(_sign(secret, events[0]), header):
        raise ForgedError("X-Signature does not fit the body and the shared secret")
    return Coverage.WHOLE if len(events) == 1 else Coverage.FIRST_EVENT


def _split(body: bytes) -> list[msgspec.Raw]:
    """The events of a batch as they are written; none if it is no JSON array."""
    try:
        return _EVENTS.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return []


def _sign(secret: str, text: bytes | msgspec.Raw) -> str:
    return hmac.new(to_bytes(secret), text, hashlib.sha1).hexdigest()
