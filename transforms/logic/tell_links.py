"""From what is known of who is who, in calls and in tables, to the facts that the streaming graph is told."""

from collections.abc import Iterator

from schemas.identities import PERSON_ID, Cause, IdentifierType, KnownIdentity, Link, Node, PriorBlock
from schemas.identity_facts import BINDING, Claimed, Fact, Met, Name, Seen, Succeeded
from schemas.identity_rules import IdentityRules
from transforms.logic.name_persons import email_name, person_id_of, prior_name, user_name, warehouse_name

# to ask the enum for each link takes a tenth of a microsecond
_EMAIL, _USER_ID = IdentifierType.EMAIL.value, IdentifierType.USER_ID.value
_ANONYMOUS_ID = IdentifierType.ANONYMOUS_ID.value

NEVER = 2**62
"""After every call: when an email was seen first that only a table brings."""


def tell_link(workspace_id: str, link: Link, rules: IdentityRules) -> Iterator[Fact]:
    """What a call says."""
    cause = link.message_id, link.timestamp
    owners: list[Node] = []
    if link.email is not None:
        email = workspace_id, _EMAIL, link.email
        owners.append(email)
        yield Seen(email, email_name(link.email, link.timestamp), cause)
    if link.user_id is not None:
        user = workspace_id, _USER_ID, link.user_id
        owners.append(user)
        yield Seen(user, user_name(link.user_id), cause)
        if link.email is not None:
            yield Met(user, email, cause)
            yield Met(email, user, cause)
        if link.previous_id is not None and link.previous_id != link.user_id:
            previous = workspace_id, _USER_ID, link.previous_id
            yield Succeeded(previous, user, cause)
            yield Met(user, previous, cause, BINDING)
            # The call does not say whether it is a user_id, so it is an anonymous_id in any case.
            yield _claim(link.previous_id, link.timestamp, user, rules, cause)
    if owners and link.anonymous_id is not None:
        owner = owners[0] if len(owners) == 1 else min(owners, key=lambda node: owner_strength(node, rules))
        yield _claim(link.anonymous_id, link.timestamp, owner, rules, cause)


def tell_prior(block: PriorBlock) -> Iterator[Fact]:
    """What a warehouse and an earlier job say. No call is the cause: no message_id, and the time of reading."""
    cause = "", block.read_at
    for person in block.warehouse:
        node = _node(person.workspace_id, PERSON_ID, person.person_id)
        email = _node(person.workspace_id, IdentifierType.EMAIL, person.email)
        yield Seen(node, warehouse_name(person.person_id), cause)
        yield Seen(email, email_name(person.email, NEVER), cause)
        yield from _bind(node, email, cause)
    for identity in block.known:
        if identity.person_id is None:
            continue
        workspace_id = identity.workspace_id
        node = _node(workspace_id, PERSON_ID, identity.person_id)
        yield Seen(node, known_person_name(identity.person_id, identity.person_since), cause)
        if identity.identifier_type == IdentifierType.ANONYMOUS_ID:
            visitor = _node(workspace_id, identity.identifier_type, identity.identifier)
            yield Claimed(visitor, (identity.linked_at or 0, 0, node), cause)
        else:
            known = _node(workspace_id, identity.identifier_type, identity.identifier)
            yield Seen(known, known_name(identity), cause)
            yield from _bind(node, known, cause)


def known_person_name(person_id: str, person_since: int | None) -> Name:
    """The name that a published person_id gives: a warehouse's names the person, ours is named by its email."""
    return warehouse_name(person_id) if person_since is None else prior_name(person_id)


def known_name(identity: KnownIdentity) -> Name:
    """The name that a published user_id or email gives."""
    if identity.identifier_type == IdentifierType.USER_ID:
        return user_name(identity.identifier)
    own = person_id_of(identity.workspace_id, email_name(identity.identifier, 0))
    # An email that does not name its person was seen after the one that does; when exactly was not kept.
    since = identity.person_since
    return email_name(identity.identifier, since if since is not None and own == identity.person_id else NEVER)


def known_leader(identity: KnownIdentity) -> str | None:
    """The person_id that was published and was called after this identifier, None if there is none."""
    if identity.person_id is None:
        return None  # who is nobody's leads nobody
    if identity.led is not None or identity.identifier_type != IdentifierType.EMAIL:
        return identity.led
    own = person_id_of(identity.workspace_id, email_name(identity.identifier, 0))
    return own if own == identity.person_id else None


def owner_strength(owner: Node, rules: IdentityRules) -> int:
    """How strong an owner of anonymous_ids is; 0 is strongest."""
    return 0 if owner[1] == PERSON_ID else rules.priority.index(owner[1])


def _bind(one: Node, other: Node, cause: Cause) -> Iterator[Fact]:
    yield Met(one, other, cause, BINDING)
    yield Met(other, one, cause, BINDING)


def _claim(anonymous_id: str, timestamp: int, owner: Node, rules: IdentityRules, cause: Cause) -> Claimed:
    return Claimed((owner[0], _ANONYMOUS_ID, anonymous_id), (timestamp, owner_strength(owner, rules), owner), cause)


def _node(workspace_id: str, identifier_type: str, identifier: str) -> Node:
    return workspace_id, str(identifier_type), identifier
