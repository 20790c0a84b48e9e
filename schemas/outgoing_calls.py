"""Segment calls that we make, on their way out."""

import msgspec


class OutgoingCall(msgspec.Struct, array_like=True, gc=False):
    """One call, ready to be sent."""

    workspace_id: str
    message_id: str
    payload: bytes
    """The call as JSON, at most 32 KB: https://segment.com/docs/connections/sources/catalog/libraries/server/http-api."""
    kind: str = ""
    """The `EmailCallKind` that it was made as."""
    connection_id: str | None = None
    """The connection that delivered what it tells of."""


class OutgoingBlock(msgspec.Struct, array_like=True, gc=False):
    """Some calls that travel as one element, in the order in which they are to be sent."""

    calls: list[OutgoingCall]
