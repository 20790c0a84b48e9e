"""A Segment call, valid and with its defaults filled in, and the block in which calls travel.

The field's terms are Segment's: https://segment.com/docs/connections/spec/common/.
"""

from enum import StrEnum

import msgspec

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size: 32 KB a call.
MAX_CALL_BYTES = 32 * 1024

GROUP_ID_BYTES = 12
"""Blocks of one group have ids that begin alike: what is told of all of them is looked up at once."""
BLOCK_ID_BYTES = GROUP_ID_BYTES + 4


class CallType(StrEnum):
    """The calls that are read: Segment's six, its erasure request `delete`, and `suppress`.

    `suppress` is our own control message: scripts/erase makes it, customers don't.
    """

    TRACK = "track"
    PAGE = "page"
    SCREEN = "screen"
    IDENTIFY = "identify"
    GROUP = "group"
    ALIAS = "alias"
    DELETE = "delete"
    SUPPRESS = "suppress"


class Caller(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """Who made a call, and when: all that de-duplication and identity go by, in a fifth of the call's bytes.

    Times are microseconds since 1970 in UTC; ids are non-empty text. Order of the fields is the wire format between
    workers, here and in `SegmentCall`, which goes on with it.
    """

    workspace_id: str
    message_id: str
    type: str
    """A `CallType`."""
    timestamp: int
    received_at: int
    arrived_at: int
    """When the message reached us: Pub/Sub's publish time; for a file, received_at. Duplicates and counts go by it."""
    connection_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    email: str | None = None
    """Who called, by email: traits.email, context.traits.email, or a userId that is one; lower-cased and trimmed."""
    context_email: str | None = None
    """context.traits.email where traits.email says another: it tells nobody's identity, but may be suppressed."""
    previous_id: str | None = None
    replay: str = ""
    """The message attribute `replay`: which rejection this delivery replays. Part of what a duplicate is known by."""
    checksum: int = 0
    """In files: of the message's bytes. Which of two repeats that arrive at once is kept."""


class SegmentCall(Caller, array_like=True, omit_defaults=True, gc=False):
    """One call. JSON is kept as it was sent."""

    group_id: str | None = None
    """group: groupId; other calls: context.groupId."""
    event: str | None = None
    """track: the event's name as sent."""
    name: str | None = None
    """page and screen: the name as sent."""
    category: str | None = None
    """page and screen: the category as sent."""
    future_timestamp: int | None = None
    """The timestamp as sent, if it lay too far in the future and was replaced."""
    original_timestamp: int | None = None
    sent_at: int | None = None
    body: str = "{}"
    """properties (track, page, screen) or traits (identify, group): a JSON object."""
    context: str = "{}"
    """A JSON object."""
    payload: bytes | None = None
    """The message's bytes, kept only where a later step may still reject the call."""
    attributes: dict[str, str] | None = None
    """The message's attributes, kept with the payload."""
    source: str | None = None
    """Where the message was read, kept with the payload."""
    person_id: str | None = None
    """Set by ResolveIdentities."""
    identifier_type: str | None = None
    """Set by ResolveIdentities: the type of the strongest identifier that is not blocked."""
    identifier: str | None = None
    """Set by ResolveIdentities."""
    identifier_hash: str | None = None
    """suppress: what `hash_identifier` in `transforms/logic/suppress_calls.py` makes of the identifier."""
    erasure_id: str | None = None
    """suppress: the erasure that it belongs to."""


class CallBlock(msgspec.Struct, array_like=True, gc=False):
    """Some calls that travel as one element: a shuffle costs per element, so calls never travel alone."""

    calls: list[SegmentCall]
    suppress: list[bytes] = []
    """Keys of identifiers (`suppression_key`) whose calls are dropped from now on, in every shard."""
    block_id: bytes = b""
    """Files: which block, so that rows of it can be dropped; BLOCK_ID_BYTES."""


class CallerBlock(msgspec.Struct, array_like=True, gc=False):
    """The callers of those calls of one block that tell who is who."""

    calls: list[Caller]
    """Without what they say."""
    block_id: bytes
    """The block of their calls."""
    rows: list[int]
    """Where the call of each caller stands in that block; empty once the dropped ones are gone."""


class DroppedRows(msgspec.Struct, array_like=True, gc=False):
    """Which calls of a group of blocks are dropped."""

    rows: dict[bytes, list[int]]
    """Block id -> where they stand."""
