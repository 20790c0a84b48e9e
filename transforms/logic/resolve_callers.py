"""From calls and what is known of persons to resolved calls."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from schemas.calls import CallType, SegmentCall
from schemas.identities import IdentifierType
from schemas.rejections import DeadLetter, Reason
from transforms.logic.identify_callers import find_caller


class ResolvedCallers(NamedTuple):
    """Every call is in exactly one of the two."""

    calls: list[SegmentCall]
    dead_letters: list[DeadLetter]


def resolve_callers(
    calls: Iterable[SegmentCall], find_person: Callable[[str | None, str | None], str | None]
) -> ResolvedCallers:
    """Set identifier_type, identifier and person_id of each call.

    An identify call without an email is only processed if its userId maps to a person already: Engage sends such
    calls (contract section 2).
    """
    resolved, dead_letters = [], []
    for call in calls:
        call.identifier_type, call.identifier = find_caller(call)
        call.person_id = find_person(call.identifier_type, call.identifier)
        is_known_user = call.person_id is not None and call.identifier_type == IdentifierType.USER_ID
        if call.type == CallType.IDENTIFY and call.email is None and not is_known_user:
            dead_letters.append(_bury(call))
        else:
            resolved.append(call)
    return ResolvedCallers(resolved, dead_letters)


def _bury(call: SegmentCall) -> DeadLetter:
    return DeadLetter(
        call.payload or b"",
        "ResolveIdentities",
        Reason.IDENTIFY_WITHOUT_EMAIL.value,
        "neither traits.email nor context.traits.email, and userId maps to no person",
        call.arrived_at,
        call.workspace_id,
        call.connection_id,
        call.type,
        call.message_id,
        call.attributes or {},
        call.source,
    )
