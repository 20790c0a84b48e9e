"""From calls and what is known of persons to resolved calls."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from schemas.calls import CallType, SegmentCall
from schemas.identities import IdentifierType
from schemas.rejections import DeadLetter, Reason
from transforms.logic.suppress_calls import NEVER_SUPPRESSED, find_carried

_IDENTIFY = CallType.IDENTIFY.value  # to ask the enum for each call takes a tenth of a microsecond


class ResolvedCallers(NamedTuple):
    """Every call is in exactly one of the two."""

    calls: list[SegmentCall]
    dead_letters: list[DeadLetter]


class SplitCalls(NamedTuple):
    """Every call is in exactly one of the two."""

    kept: list[SegmentCall]
    erased: list[SegmentCall]


def counts_for_known_user(call: SegmentCall) -> bool:
    """Whether the call's person is that of its userId: what is known of a userId where the call counts for it."""
    return call.person_id is not None and call.identifier_type == IdentifierType.USER_ID


def resolve_callers(
    calls: Iterable[SegmentCall],
    find_person: Callable[[SegmentCall], str | None],
    has_known_user: Callable[[SegmentCall], bool] = counts_for_known_user,
) -> ResolvedCallers:
    """Set person_id of each call whose identifier_type and identifier are set.

    An identify call without an email is only processed if its userId maps to a person already: Engage sends such
    calls (contract section 2). `has_known_user` is asked that, after person_id is set.
    """
    resolved, dead_letters = [], []
    for call in calls:
        call.person_id = find_person(call)
        if call.type == _IDENTIFY and call.email is None and not has_known_user(call):
            dead_letters.append(_bury(call))
        else:
            resolved.append(call)
    return ResolvedCallers(resolved, dead_letters)


def split_erased(calls: Iterable[SegmentCall], erased: Mapping[str, frozenset[tuple[str, str]]]) -> SplitCalls:
    """Take out the calls that carry an identifier of a person who asked to be forgotten; the asking itself stays.

    `erased`: workspace -> identifier types and identifiers.
    """
    split = SplitCalls([], [])
    for call in calls:
        names = erased.get(call.workspace_id)
        is_erased = names is not None and call.type not in NEVER_SUPPRESSED and not names.isdisjoint(find_carried(call))
        (split.erased if is_erased else split.kept).append(call)
    return split


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
