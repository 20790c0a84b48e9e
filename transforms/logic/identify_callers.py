"""Which identifiers of a call identify somebody, and which of them the call counts for."""

import re
from collections.abc import Iterable

from schemas.calls import CallBlock, SegmentCall
from schemas.identities import IdentifierType, Link, LinkBlock

# Values that clients send when they know nobody. Segment suggests the first three and `anonymous`
# (https://segment.com/docs/unify/identity-resolution/identity-resolution-settings/#blocked-values); the others are what
# JavaScript makes of nothing.
BLOCKED = re.compile(r"[0-]*|-1|null|none|undefined|anonymous|unknown|\[object Object\]|nan", re.IGNORECASE)


def is_blocked(identifier: str) -> bool:
    """Whether the value never identifies anyone."""
    return BLOCKED.fullmatch(identifier) is not None


def find_caller(call: SegmentCall) -> tuple[str, str] | tuple[None, None]:
    """The strongest identifier of the call that is not blocked: whom the call counts for."""
    if call.user_id is not None and not is_blocked(call.user_id):
        return IdentifierType.USER_ID.value, call.user_id
    if call.email is not None:
        return IdentifierType.EMAIL.value, call.email
    if call.anonymous_id is not None and not is_blocked(call.anonymous_id):
        return IdentifierType.ANONYMOUS_ID.value, call.anonymous_id
    return None, None


def find_links(calls: Iterable[SegmentCall]) -> dict[str, LinkBlock]:
    """Workspace -> the distinct links of these calls, each at its earliest.

    A call that carries only an anonymous_id links nothing and is left out: visitors who never say who they are cost no
    state.
    """
    earliest: dict[str, dict[tuple[str | None, str | None, str | None, str | None], int]] = {}
    newest: dict[str, int] = {}
    for call in calls:
        user_id = _unblocked(call.user_id)
        if user_id is None and call.email is None:
            continue
        key = (user_id, call.email, _unblocked(call.anonymous_id), _unblocked(call.previous_id))
        links = earliest.setdefault(call.workspace_id, {})
        links[key] = min(links.get(key, call.timestamp), call.timestamp)
        newest[call.workspace_id] = max(newest.get(call.workspace_id, call.received_at), call.received_at)
    return {
        workspace_id: LinkBlock([Link(*key, timestamp) for key, timestamp in links.items()], newest[workspace_id])
        for workspace_id, links in earliest.items()
    }


def split_by_workspace(block: CallBlock) -> dict[str, CallBlock]:
    """The calls of each workspace."""
    blocks: dict[str, CallBlock] = {}
    for call in block.calls:
        blocks.setdefault(call.workspace_id, CallBlock([])).calls.append(call)
    return blocks


def _unblocked(identifier: str | None) -> str | None:
    return None if identifier is None or is_blocked(identifier) else identifier
