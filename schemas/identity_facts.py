"""What the steps of the streaming identity graph tell each other: each of these, once true, is true for ever.

The first field is always the node that is told, and the step keeps what it learns under that node.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import msgspec

from schemas.calls import SegmentCall
from schemas.identities import Cause, KnownIdentity, Node, NodeType


class Name(NamedTuple):
    """What a person may be called after; of all names in a person the smallest is the person's.

    So a warehouse's person_id names before any email, and the email seen first before the others (ties by value). A
    person that has no email yet is nobody's person_id, but goes by one of its user_ids all the same.
    """

    rank: int
    """`WAREHOUSE`, `EMAIL` or `NAMELESS`."""
    timestamp: int
    """When the email was first seen, in microseconds since 1970; 0 for the other ranks."""
    identifier_type: NodeType
    value: str


WAREHOUSE, EMAIL, NAMELESS = 0, 1, 2

Claim: TypeAlias = tuple[int, int, Node]
"""When an anonymous_id was seen with an owner, how strong the owner's type is (0 is strongest), and the owner."""


class Fact(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=True):
    """Something that one node is told."""

    node: Node


class Seen(Fact, frozen=True, tag=0):
    """A call carried this email or user_id, or a table this person_id."""

    name: Name
    cause: Cause


class Met(Fact, frozen=True, tag=1):
    """A call carried this node together with another."""

    partner: Node
    cause: Cause
    verdict: int = 0
    """`UNDECIDED`, or what was decided when it was first learned."""


UNDECIDED, ADMITTED, REFUSED, BINDING = 0, 1, 2, 3
"""Verdicts on a link. `BINDING` ones come from a table or an alias and count for no limit."""


class Succeeded(Fact, frozen=True, tag=2):
    """An alias replaced this user_id, if it is one, by another."""

    successor: Node
    cause: Cause


class Admitted(Fact, frozen=True, tag=3):
    """The node links to a partner, as far as its own limit goes."""

    partner: Node
    cause: Cause


class Told(Fact, frozen=True, tag=4):
    """A sender, the node itself or one that it is linked to, goes by this name."""

    sender: Node
    name: Name
    cause: Cause


class Same(Fact, frozen=True, tag=5):
    """Two names are one person's; told to the node that stands for the workspace."""

    one: Name
    other: Name
    cause: Cause


class Followed(Fact, frozen=True, tag=6):
    """A follower goes by the name of this node."""

    follower: Node
    name: Name
    cause: Cause


class Renamed(Fact, frozen=True, tag=7):
    """Whoever goes by the name of this node is to go by a smaller one."""

    name: Name
    cause: Cause


class Called(Fact, frozen=True, tag=8):
    """The node's person goes by this name."""

    name: Name
    cause: Cause


class Led(Fact, frozen=True, tag=13):
    """Somebody else's person was called after this node."""

    name: Name
    cause: Cause


class Claimed(Fact, frozen=True, tag=9):
    """A call carried this anonymous_id together with an owner."""

    claim: Claim
    cause: Cause


class Owned(Fact, frozen=True, tag=10):
    """An anonymous_id belongs to this node."""

    visitor: Node
    claim: Claim
    cause: Cause


class Belongs(Fact, frozen=True, tag=11):
    """The identifier belongs to the person of this name; an anonymous_id by this claim."""

    name: Name
    claim: Claim | None
    cause: Cause


class Published(Fact, frozen=True, tag=12):
    """What `identities` says of the identifier."""

    name: Name | None
    """None if an earlier job published it."""
    claim: Claim | None
    person_id: str | None
    version: int
    led: str | None = None
    """The person_id that was called after this node, if one was ever published."""


class RefusedLink(NamedTuple):
    """A link that a limit refused: the node has too many, and its partner is one too many."""

    node: Node
    partner: Node
    cause: Cause


class Merge(NamedTuple):
    """From now on one person_id stands for another."""

    workspace_id: str
    from_person_id: str
    into_person_id: str
    identifier_type: str
    identifier: str
    """The email that named from_person_id (its type may be `person_id`: a warehouse's)."""
    cause: Cause
    recorded_at: int
    """When it became known, in microseconds since 1970."""


class HomeBlock(msgspec.Struct, array_like=True, gc=False):
    """What comes together for some identifiers: their calls, and the news of whose they are."""

    calls: list[SegmentCall] = []
    facts: bytes = b""
    """Of type `Belongs` and `Led`."""
    known: list[KnownIdentity] = []


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(
    list[
        Seen
        | Met
        | Succeeded
        | Admitted
        | Told
        | Same
        | Followed
        | Renamed
        | Called
        | Claimed
        | Owned
        | Belongs
        | Published
        | Led
    ]
)


def encode_facts(facts: Sequence[Fact]) -> bytes:
    """Facts as they travel and are remembered: MessagePack."""
    return _ENCODER.encode(facts)


def decode_facts(blobs: Iterable[bytes]) -> list[Fact]:
    """The facts of all the blobs."""
    return list(chain.from_iterable(map(_DECODER.decode, blobs)))
