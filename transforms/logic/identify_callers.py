"""Which identifiers of a call identify somebody, and which of them the call counts for."""

from collections.abc import Iterable
from typing import TypeAlias

from schemas.calls import Caller, CallType, SegmentCall
from schemas.identities import Link, LinkBlock, PriorBlock
from schemas.identity_rules import IdentityRules

_DELETE = CallType.DELETE.value  # to ask the enum for each call takes a tenth of a microsecond


def find_caller(call: Caller, rules: IdentityRules) -> tuple[str, str] | tuple[None, None]:
    """The strongest identifier of the call that is not blocked: whom the call counts for."""
    for identifier_type, identifier in zip(rules.priority, rules.read_identifiers(call), strict=True):
        if identifier is not None and not rules.is_blocked(identifier):
            return identifier_type, identifier
    return None, None


def set_callers(calls: Iterable[SegmentCall], rules: IdentityRules) -> None:
    """Set identifier_type and identifier of each call."""
    read, types, is_blocked = rules.read_identifiers, rules.priority, rules.is_blocked
    for call in calls:  # as find_caller, but not called for each
        for identifier_type, identifier in zip(types, read(call)):  # noqa: B905 - strict= takes 0.2 us a call
            if identifier is not None and not is_blocked(identifier):
                call.identifier_type, call.identifier = identifier_type, identifier
                break
        else:
            call.identifier_type = call.identifier = None


def tells_who_is_who(call: Caller) -> bool:
    """Whether `GatheredLinks` learns anything from the call: all but visits of visitors who never say who they are."""
    return call.user_id is not None or call.email is not None or call.type == _DELETE


def take_callers(calls: Iterable[SegmentCall]) -> tuple[list[Caller], list[int]]:
    """The callers of those calls that tell who is who, without what the calls say, and where each stands."""
    callers, rows = [], []
    for row, call in enumerate(calls):
        if tells_who_is_who(call):
            callers.append(
                Caller(
                    call.workspace_id,
                    call.message_id,
                    call.type,
                    call.timestamp,
                    call.received_at,
                    call.arrived_at,
                    call.connection_id,
                    call.user_id,
                    call.anonymous_id,
                    call.email,
                    call.context_email,
                    call.previous_id,
                )
            )
            rows.append(row)
    return callers, rows


def find_links(calls: Iterable[Caller], rules: IdentityRules) -> dict[str, LinkBlock]:
    """Workspace -> the distinct links of these calls, each at its earliest."""
    links = GatheredLinks(rules)
    links.add(calls)
    return links.blocks()


_Identifiers: TypeAlias = tuple[str | None, str | None, str | None, str | None]
"""user_id, email, anonymous_id and previous_id."""
_Seen: TypeAlias = tuple[int, str]
"""Timestamp and message_id."""


class GatheredLinks:
    """The distinct links of calls, each at its earliest.

    A call that carries only an anonymous_id links nothing and is left out: visitors who never say who they are cost no
    state.
    """

    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules
        self._earliest: dict[str, dict[_Identifiers, _Seen]] = {}
        """Workspace -> identifiers as they were sent, for most are sent again and again."""
        self._unblocked: dict[_Identifiers, _Identifiers] = {}
        """Those that hold a blocked one -> the same without; taken out at the end."""
        self._newest: dict[str, int] = {}
        self._erased: dict[str, list[tuple[str, str]]] = {}

    def add(self, calls: Iterable[Caller]) -> None:
        """What these calls link."""
        for call in calls:
            if call.type == _DELETE:
                # Only whom it counts for: its anonymousId may be a device that others share.
                identifier_type, identifier = find_caller(call, self._rules)
                if identifier_type is not None and identifier is not None:
                    self._erased.setdefault(call.workspace_id, []).append((identifier_type, identifier))
            if call.user_id is None and call.email is None:
                continue
            key = call.user_id, call.email, call.anonymous_id, call.previous_id
            links = self._earliest.setdefault(call.workspace_id, {})
            seen = call.timestamp, call.message_id
            known = links.get(key)
            if known is None and not self._learn(key):
                continue
            if known is None or seen < known:
                links[key] = seen
            newest = self._newest.get(call.workspace_id)
            if newest is None or newest < call.received_at:
                self._newest[call.workspace_id] = call.received_at

    def blocks(self) -> dict[str, LinkBlock]:
        """Workspace -> its links."""
        return {
            workspace_id: LinkBlock(
                [Link(*key, *seen) for key, seen in self._take_out_blocked(workspace_id).items()],
                self._newest.get(workspace_id, 0),
                self._erased.get(workspace_id, []),
            )
            for workspace_id in self._newest.keys() | self._erased.keys()
        }

    def _learn(self, key: _Identifiers) -> bool:
        """Whether identifiers that are new link anything."""
        user_id, email, anonymous_id, previous_id = key
        drop = self._drop_blocked
        unblocked = drop(user_id), drop(email), drop(anonymous_id), drop(previous_id)
        if unblocked[0] is None and unblocked[1] is None:
            return False
        if unblocked != key:
            self._unblocked[key] = unblocked
        return True

    def _take_out_blocked(self, workspace_id: str) -> dict[_Identifiers, _Seen]:
        links = self._earliest.get(workspace_id, {})
        for key in self._unblocked.keys() & links.keys():
            seen, unblocked = links.pop(key), self._unblocked[key]
            links[unblocked] = min(seen, links.get(unblocked, seen))
        return links

    def _drop_blocked(self, identifier: str | None) -> str | None:
        return None if identifier is None or self._rules.is_blocked(identifier) else identifier


def split_prior(block: PriorBlock) -> dict[str, PriorBlock]:
    """What is known of each workspace."""
    blocks: dict[str, PriorBlock] = {}
    for person in block.warehouse:
        blocks.setdefault(person.workspace_id, PriorBlock([], [], block.read_at)).warehouse.append(person)
    for identity in block.known:
        blocks.setdefault(identity.workspace_id, PriorBlock([], [], block.read_at)).known.append(identity)
    return blocks
