"""Who is who: identifiers, the links that calls bring, and the persons they resolve to."""

from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec


class IdentifierType(StrEnum):
    """The kinds of identifiers, strongest first: a call counts for the strongest that it carries."""

    USER_ID = "user_id"
    EMAIL = "email"
    ANONYMOUS_ID = "anonymous_id"


PERSON_ID = "person_id"
"""The type of a node that no call carries: a person_id of the customer's warehouse, or of an earlier job."""

if TYPE_CHECKING:
    NodeType: TypeAlias = str
else:
    # Decoded, each of these is one object and not a text of its own in every fact: less to hold and to compare, which
    # is a tenth of a stream's time when a hundred thousand identifiers are known. "" stands for a whole workspace.
    NodeType = Literal[("", PERSON_ID, *(each.value for each in IdentifierType))]

Node: TypeAlias = tuple[str, NodeType, str]
"""One identifier of one workspace: workspace_id, identifier type (or `PERSON_ID`), value."""

Cause: TypeAlias = tuple[str, int]
"""The call that brought something about: its message_id, and its timestamp in microseconds since 1970."""


class Link(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one call says of who is who: the identifiers that it carries and that are not blocked."""

    user_id: str | None
    email: str | None
    anonymous_id: str | None
    previous_id: str | None
    """alias: the id that user_id replaces."""
    timestamp: int
    """When the call happened, in microseconds since 1970: the older email names the person."""
    message_id: str = ""


class WarehousePerson(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A row of the customer's own person table: whose id wins over ours."""

    workspace_id: str
    email: str
    """Lower-cased and trimmed."""
    person_id: str


class KnownIdentity(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The latest row of `identities` about an identifier, as an earlier job has left it."""

    workspace_id: str
    identifier_type: str
    identifier: str
    person_id: str | None
    """None if it belongs to nobody any more: its version still has to be passed by what binds it again."""
    person_since: int | None
    """When the email that names the person was first seen, in microseconds since 1970; None if a warehouse names it."""
    linked_at: int | None
    """anonymous_id: when it was first seen with its owner."""
    version: int
    led: str | None = None
    """email: the person_id that was called after it, if `identity_merges` says that another one stands for that."""


class PriorBlock(msgspec.Struct, array_like=True, gc=False):
    """Something that is known of persons before the first call."""

    warehouse: list[WarehousePerson] = []
    known: list[KnownIdentity] = []
    read_at: int = 0
    """When it was read, in microseconds since 1970."""


class LinkBlock(msgspec.Struct, array_like=True, gc=False):
    """The distinct links of some calls of one workspace, or what was known of it before."""

    links: list[Link]
    newest: int
    """When the newest of those calls was received, in microseconds since 1970: the version of what they resolve to."""
    erased: list[tuple[str, str]] = []
    """Identifier type and identifier of whom delete calls ask to forget."""
    prior: PriorBlock | None = None


class Persons(msgspec.Struct, array_like=True):
    """Today's person of every identifier of one workspace that has one."""

    version: int
    by_identifier: dict[str, dict[str, str]]
    """identifier type -> identifier -> person_id."""
    erased: list[tuple[str, str]] = []
    """All identifiers of the persons who asked to be forgotten: types and values."""

    def find(self, identifier_type: str | None, identifier: str | None) -> str | None:
        """The person of an identifier, None while there is none."""
        if identifier_type is None or identifier is None:
            return None
        return self.by_identifier.get(identifier_type, {}).get(identifier)
