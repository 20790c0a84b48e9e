"""Segment calls that we make, on their way out."""

import msgspec

from schemas.email_calls import EmailCall


class OutgoingBlock(msgspec.Struct, array_like=True, gc=False):
    """Some calls that travel as one element, in the order in which they are to be sent."""

    calls: list[EmailCall]
    """What each was made of."""
    lines: bytes
    """Each as a line of JSON, of at most 32 KB without its end.

    https://segment.com/docs/connections/sources/catalog/libraries/server/http-api
    """


class OutgoingCall(msgspec.Struct, gc=False):
    """One call of a block."""

    made_of: EmailCall
    payload: bytes
    """The call as JSON."""
