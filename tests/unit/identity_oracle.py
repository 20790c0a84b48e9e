"""Contract section 4, slow and obvious: who belongs to whom, from all calls at once.

No union-find, no order, no increments: labels spread along the links until nothing changes any more.
"""

import re
from collections.abc import Iterable
from typing import TypeAlias

from schemas.calls import SegmentCall

Identifier: TypeAlias = tuple[str, str]
"""Type and value."""

BLOCKED_VALUES = {"-1", "null", "none", "undefined", "anonymous", "unknown", "[object object]", "nan"}


def is_blocked(value: str) -> bool:
    return re.fullmatch("[0-]*", value) is not None or value.lower() in BLOCKED_VALUES


def naming_emails(calls: Iterable[SegmentCall]) -> dict[Identifier, str]:
    """Every identifier that belongs to a person -> the email that names the person."""
    calls = list(calls)
    user_ids = {call.user_id for call in calls if call.user_id is not None and not is_blocked(call.user_id)}
    links: list[tuple[Identifier, Identifier]] = []
    claims: list[tuple[str, int, int, Identifier]] = []
    first_seen: dict[str, int] = {}
    nodes: set[Identifier] = {("user_id", user_id) for user_id in user_ids}
    for call in calls:
        owners: list[Identifier] = []
        if call.user_id in user_ids:
            owners.append(("user_id", call.user_id or ""))
        if call.email is not None:
            owners.append(("email", call.email))
            nodes.add(("email", call.email))
            first_seen[call.email] = min(call.timestamp, first_seen.get(call.email, call.timestamp))
        if len(owners) == 2:
            links.append((owners[0], owners[1]))
        if not owners:
            continue
        strength = 0 if owners[0][0] == "user_id" else 1
        if call.anonymous_id is not None and not is_blocked(call.anonymous_id):
            claims.append((call.anonymous_id, call.timestamp, strength, owners[0]))
        previous = call.previous_id
        if strength == 0 and previous is not None and not is_blocked(previous) and previous != call.user_id:
            if previous in user_ids:
                links.append((("user_id", previous), owners[0]))
            # Whether it is a user_id may be learned years later, so it counts as an anonymous_id in any case.
            claims.append((previous, call.timestamp, strength, owners[0]))
    component = spread_labels(nodes, links)
    names: dict[Identifier, str] = {}
    for node in nodes:
        emails = [other[1] for other in nodes if other[0] == "email" and component[other] == component[node]]
        if emails:
            names[node] = min(emails, key=lambda email: (first_seen[email], email))
    for anonymous_id in {claim[0] for claim in claims}:
        owner = min(claim[1:] for claim in claims if claim[0] == anonymous_id)[2]
        if owner in names:
            names["anonymous_id", anonymous_id] = names[owner]
    return names


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
