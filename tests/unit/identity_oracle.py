"""Contract section 4, slow and obvious: who belongs to whom, from all calls at once.

No union-find, no increments, nothing of `transforms`: labels spread along the links until nothing changes any more.
"""

import re
import uuid
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from schemas.calls import SegmentCall
from schemas.identities import KnownIdentity, WarehousePerson
from schemas.identity_rules import DEFAULT_RULES, IdentityRules

Identifier: TypeAlias = tuple[str, str]
"""Type and value."""

Pair: TypeAlias = tuple[str, str]
"""A user_id and an email."""

Naming: TypeAlias = tuple[int, int, str]
"""0 for a warehouse's person_id, 1 for an email; when the email was first seen; the person_id, or the email."""

LONG_AFTER = 10**18
PERSON_NAMESPACE = uuid.UUID("0f6a5c0b-3c2e-5b7d-8f59-6a4de1a90d21")


class Refusal(NamedTuple):
    refusing: Identifier
    refused: Identifier
    message_id: str
    at: int


class Loss(NamedTuple):
    """A person_id that was given by the calls up to some moment, and that another stands for by now."""

    lost: str
    kept: str
    name: Identifier
    """What `lost` was called after."""
    at: int


class Answer(NamedTuple):
    persons: dict[Identifier, str]
    """Every identifier that belongs to a person -> the person_id."""
    named: dict[Identifier, Naming]
    """The same -> what the person is called after."""
    refused: set[Refusal]
    erased: set[Identifier]
    """Whoever asks to be forgotten in these calls: everything that is the person's."""


def resolve(
    calls: Iterable[SegmentCall],
    rules: IdentityRules = DEFAULT_RULES,
    warehouse: Collection[WarehousePerson] = (),
    known: Collection[KnownIdentity] = (),
    accepted: Collection[Pair] | None = None,
    later: Iterable[SegmentCall] = (),
) -> Answer:
    """Everybody's person.

    `accepted`: which links count, if that was decided elsewhere; else the rules decide it here. `later`: calls of which
    only is known which user_ids there are, because that makes a previousId one from the start.
    """
    calls = list(calls)
    refused: set[Refusal] = set()
    if accepted is None:
        refused = find_refusals(calls, rules)
        over = {(refusal.refusing, refusal.refused) for refusal in refused}
        accepted = {
            (user, email)
            for user, email in first_calls(calls, rules)
            if (("user_id", user), ("email", email)) not in over and (("email", email), ("user_id", user)) not in over
        }
    links: list[tuple[Identifier, Identifier]] = [(("user_id", user), ("email", email)) for user, email in accepted]
    claims: list[tuple[str, int, int, Identifier]] = []
    namings: dict[Identifier, Naming] = {}
    nodes: set[Identifier] = set()

    for person in warehouse:
        named, email = ("person_id", person.person_id), ("email", person.email)
        nodes |= {named, email}
        namings[named] = 0, 0, person.person_id
        see_email(namings, person.email, LONG_AFTER)
        links.append((named, email))
    for identity in known:
        if identity.person_id is None:
            continue
        named = ("person_id", identity.person_id)
        nodes.add(named)
        if identity.person_since is None:
            namings[named] = 0, 0, identity.person_id
        if identity.identifier_type == "anonymous_id":
            claims.append((identity.identifier, identity.linked_at or 0, 0, named))
            continue
        nodes.add((identity.identifier_type, identity.identifier))
        links.append(((identity.identifier_type, identity.identifier), named))
        if identity.identifier_type == "email":
            is_namer = person_id_of(identity.identifier, identity.workspace_id) == identity.person_id
            since = identity.person_since if is_namer else None
            see_email(namings, identity.identifier, LONG_AFTER if since is None else since)
    for call in (*calls, *later):
        user = unblocked(call.user_id, rules)
        if user is not None:
            nodes.add(("user_id", user))
    for call in calls:
        email_of_call = unblocked(call.email, rules)
        if email_of_call is not None:
            nodes.add(("email", email_of_call))
            see_email(namings, email_of_call, call.timestamp)

    for call in calls:
        user, email_of_call = unblocked(call.user_id, rules), unblocked(call.email, rules)
        anonymous, previous = unblocked(call.anonymous_id, rules), unblocked(call.previous_id, rules)
        owners: list[Identifier] = []
        for identifier_type in rules.priority:
            if identifier_type == "user_id" and user is not None:
                owners.append(("user_id", user))
            if identifier_type == "email" and email_of_call is not None:
                owners.append(("email", email_of_call))
        if owners and anonymous is not None:
            claims.append((anonymous, call.timestamp, rules.priority.index(owners[0][0]), owners[0]))
        if user is not None and previous is not None and previous != user:
            if ("user_id", previous) in nodes:
                links.append((("user_id", previous), ("user_id", user)))
            # Whether it is a user_id may be learned years later, so it counts as an anonymous_id in any case.
            claims.append((previous, call.timestamp, rules.priority.index("user_id"), ("user_id", user)))

    labels = spread_labels(nodes, links)
    named_after: dict[Identifier, Naming] = {}
    for node in nodes:
        candidates = [namings[other] for other in nodes if other in namings and labels[other] == labels[node]]
        if candidates:
            named_after[node] = min(candidates)
    for anonymous in {claim[0] for claim in claims}:
        owner = min(claim[1:] for claim in claims if claim[0] == anonymous)[2]
        if owner in named_after:
            named_after["anonymous_id", anonymous] = named_after[owner]

    # Only whom a delete call counts for: its anonymousId may be a device that others share.
    asked = {identifier for call in calls if call.type == "delete" for identifier in identifiers_of(call, rules)[:1]}
    forgotten = {named_after[identifier] for identifier in asked if identifier in named_after}
    erased = asked | {node for node, naming in named_after.items() if naming in forgotten and node[0] != "person_id"}
    mentioned = {node: naming for node, naming in named_after.items() if node[0] != "person_id"}
    persons = {node: person_of(naming) for node, naming in mentioned.items()}
    return Answer(persons, mentioned, refused, erased)


def find_losses(
    calls: Iterable[SegmentCall], rules: IdentityRules = DEFAULT_RULES, warehouse: Collection[WarehousePerson] = ()
) -> set[Loss]:
    """Every person_id that was somebody's after the calls up to some moment, and is nobody's in the end."""
    calls = list(calls)
    today = resolve(calls, rules, warehouse)
    stages = [(None, resolve([], rules, warehouse))] + [
        (moment, resolve([call for call in calls if call.timestamp <= moment], rules, warehouse, later=calls))
        for moment in sorted({call.timestamp for call in calls})
    ]
    losses = set()
    gone: set[Naming] = set()
    for (_, before), (moment, after) in pairwise(stages):
        for identifier, naming in before.named.items():
            # A person's name changes if an earlier sight of its email is learned; by moments, that cannot be.
            if naming not in after.named.values() and naming not in gone:
                gone.add(naming)
                assert moment is not None
                name = ("person_id" if naming[0] == 0 else "email", naming[2])
                losses.add(Loss(person_of(naming), today.persons[identifier], name, moment))
    return losses


def first_calls(calls: Iterable[SegmentCall], rules: IdentityRules) -> dict[Pair, tuple[int, str]]:
    """Each pair of a user_id and an email -> when and by which message they were first seen together."""
    first: dict[Pair, tuple[int, str]] = {}
    for call in calls:
        user, email = unblocked(call.user_id, rules), unblocked(call.email, rules)
        if user is not None and email is not None:
            seen = call.timestamp, call.message_id
            first[user, email] = min(seen, first.get((user, email), seen))
    return first


def find_refusals(calls: Iterable[SegmentCall], rules: IdentityRules) -> set[Refusal]:
    first = first_calls(calls, rules)
    refused = set()
    for user in {pair[0] for pair in first}:
        emails = sorted((first[pair][0], pair[1]) for pair in first if pair[0] == user)
        for at, email in emails[rules.emails_per_user_id :]:
            refused.add(Refusal(("user_id", user), ("email", email), first[user, email][1], at))
    for email in {pair[1] for pair in first}:
        users = sorted((first[pair][0], pair[0]) for pair in first if pair[1] == email)
        for at, user in users[rules.user_ids_per_email :]:
            refused.add(Refusal(("email", email), ("user_id", user), first[user, email][1], at))
    return refused


def spread_labels(
    nodes: Iterable[Identifier], links: Iterable[tuple[Identifier, Identifier]]
) -> dict[Identifier, Identifier]:
    """Node -> the smallest node that it is linked to over any number of links."""
    labels = {node: node for node in nodes}
    changed = True
    while changed:
        changed = False
        for one, other in links:
            smallest = min(labels[one], labels[other])
            if (labels[one], labels[other]) != (smallest, smallest):
                labels[one] = labels[other] = smallest
                changed = True
    return labels


def see_email(namings: dict[Identifier, Naming], email: str, at: int) -> None:
    naming = 1, at, email
    namings["email", email] = min(naming, namings.get(("email", email), naming))


def person_of(naming: Naming) -> str:
    return naming[2] if naming[0] == 0 else person_id_of(naming[2])


def person_id_of(email: str, workspace_id: str = "w1") -> str:
    return str(uuid.uuid5(PERSON_NAMESPACE, f"{workspace_id}\n{email}"))


def identifiers_of(call: SegmentCall, rules: IdentityRules = DEFAULT_RULES) -> list[Identifier]:
    """The call's own identifiers that may identify somebody, strongest first."""
    found = []
    for identifier_type in rules.priority:
        value = unblocked(getattr(call, identifier_type), rules)
        if value is not None:
            found.append((identifier_type, value))
    return found


def unblocked(value: str | None, rules: IdentityRules) -> str | None:
    return None if value is None or is_blocked(value, rules) else value


def is_blocked(value: str, rules: IdentityRules = DEFAULT_RULES) -> bool:
    if value.lower() in [blocked.lower() for blocked in rules.blocked_values]:
        return True
    return any(re.fullmatch(pattern, value, re.IGNORECASE) for pattern in rules.blocked_patterns)
