"""Segment calls that we make, on their way out."""

import msgspec


class OutgoingCall(msgspec.Struct, array_like=True, gc=False):
    """One call, ready to be sent."""

    workspace_id: str
    message_id: str
    payload: bytes
    """The call as JSON, at most 32 KB: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api."""


class OutgoingBlock(msgspec.Struct, array_like=True, gc=False):
    """Some calls that travel as one element, in the order in which they are to be sent."""

    calls: list[OutgoingCall]
