"""What a person is called: the one rule from which every person_id comes."""

from uuid_utils import UUID, uuid5

from schemas.identities import PERSON_ID, IdentifierType, Node
from schemas.identity_facts import EMAIL, NAMELESS, WAREHOUSE, Name

# Namespace of person_ids. Never change it: every person would get a new id.
_PERSONS = UUID("0f6a5c0b-3c2e-5b7d-8f59-6a4de1a90d21")

# to ask the enum for each link takes a tenth of a microsecond
_EMAIL, _USER_ID = IdentifierType.EMAIL.value, IdentifierType.USER_ID.value


def email_name(email: str, timestamp: int) -> Name:
    """The name that an email gives, seen at `timestamp` (microseconds)."""
    return Name(EMAIL, timestamp, _EMAIL, email)


def user_name(user_id: str) -> Name:
    """The name by which a person goes that has no email."""
    return Name(NAMELESS, 0, _USER_ID, user_id)


def warehouse_name(person_id: str) -> Name:
    """The name that the customer's warehouse gives."""
    return Name(WAREHOUSE, 0, PERSON_ID, person_id)


def prior_name(person_id: str) -> Name:
    """The name of a person_id of an earlier job: the email it was called after names it still."""
    return Name(NAMELESS, 0, PERSON_ID, person_id)


def name_node(workspace_id: str, name: Name) -> Node:
    """The node after which a person of this name is called."""
    return workspace_id, name.identifier_type, name.value


def person_id_of(workspace_id: str, name: Name) -> str | None:
    """The person_id, None for a person without email: the warehouse's, else a UUIDv5 of the workspace and the email."""
    if name.rank == WAREHOUSE:
        return name.value
    return person_id_of_email(workspace_id, name.value) if name.rank == EMAIL else None


def person_id_of_email(workspace_id: str, email: str) -> str:
    """The person_id of whoever is known by this email."""
    return str(uuid5(_PERSONS, f"{workspace_id}\n{email}"))
