"""Which calls are dropped because somebody was erased: identifiers as hashes, and the calls that carry one.

Nothing here keeps an identifier. A hash can still be guessed from a list of emails, so it is as private as the tables.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import TypeVar

from schemas.calls import Caller, CallType, SegmentCall
from schemas.identities import IdentifierType
from schemas.identity_rules import IdentityRules
from transforms.logic.identify_callers import find_caller
from transforms.logic.parse_call import normalise_email

AnyCaller = TypeVar("AnyCaller", bound=Caller)

_WORKSPACE_BYTES = 8
_HASH_BYTES = 16
KEY_BYTES = _WORKSPACE_BYTES + _HASH_BYTES

NEVER_SUPPRESSED = frozenset({CallType.DELETE, CallType.SUPPRESS})
"""What asks for an erasure must arrive, however often."""


def hash_identifier(workspace_id: str, identifier_type: str, identifier: str) -> str:
    """What stands for an identifier in `suppressions`: never change it, else nobody who was erased stays so."""
    if identifier_type == IdentifierType.EMAIL:
        identifier = identifier.strip().lower()
    return sha256(f"{workspace_id}\n{identifier_type}\n{identifier}".encode()).hexdigest()


def suppression_key(workspace_id: str, identifier_hash: str) -> bytes:
    """What a shard remembers of a suppressed identifier.

    The workspace is in it once more, because a hash does not tell its workspace: who can send messages for one
    workspace can suppress nothing in another.
    """
    return _workspace_key(workspace_id) + bytes.fromhex(identifier_hash)[:_HASH_BYTES]


def suppressed_keys(call: SegmentCall, rules: IdentityRules) -> list[bytes]:
    """The key that a suppress message names, or that of whom a delete call counts for.

    Only the strongest identifier of a delete call: its anonymousId may be a device that others share.
    """
    if call.type == CallType.SUPPRESS:
        return [suppression_key(call.workspace_id, call.identifier_hash or "")]
    identifier_type, identifier = find_caller(call, rules)
    if identifier_type is None or identifier is None:
        return []
    return [_key(call.workspace_id, identifier_type, identifier)]


def find_carried(call: Caller) -> Iterator[tuple[str, str]]:
    """Type and value of every identifier that a call carries, also those that don't tell who called.

    An id that is an email is looked at as both, and previousId as a userId and as an anonymousId: it may be either.
    """
    if call.user_id is not None:
        yield IdentifierType.USER_ID, call.user_id
    if call.anonymous_id is not None:
        yield IdentifierType.ANONYMOUS_ID, call.anonymous_id
    if call.previous_id is not None:
        yield IdentifierType.USER_ID, call.previous_id
        yield IdentifierType.ANONYMOUS_ID, call.previous_id
    ids = (call.user_id, call.anonymous_id, call.previous_id)
    for email in {call.email, call.context_email, *map(normalise_email, ids)}:
        if email is not None:
            yield IdentifierType.EMAIL, email


class SuppressedIdentifiers:
    """The identifiers whose calls are dropped, as keys."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def learn(self, keys: Iterable[bytes]) -> bytes:
        """Suppress these from now on; the log record of those that are new."""
        new = set(keys) - self._keys
        self._keys |= new
        return b"".join(sorted(new))

    def replay(self, log: Iterable[bytes]) -> None:
        """Remember what a log holds."""
        for record in log:
            self._keys.update(record[at : at + KEY_BYTES] for at in range(0, len(record), KEY_BYTES))

    def drop_carriers(self, calls: list[AnyCaller]) -> tuple[list[AnyCaller], list[AnyCaller]]:
        """The calls that are kept, and those that carry a suppressed identifier."""
        if not self._keys:
            return calls, []
        kept: list[AnyCaller] = []
        dropped: list[AnyCaller] = []
        for call in calls:
            (dropped if self.is_suppressed(call) else kept).append(call)
        return kept, dropped

    def is_suppressed(self, call: Caller) -> bool:
        """Whether the call carries a suppressed identifier."""
        if not self._keys or call.type in NEVER_SUPPRESSED:
            return False
        return any(_key(call.workspace_id, *carried) in self._keys for carried in find_carried(call))


def _key(workspace_id: str, identifier_type: str, identifier: str) -> bytes:
    return suppression_key(workspace_id, hash_identifier(workspace_id, identifier_type, identifier))


@lru_cache(maxsize=1024)
def _workspace_key(workspace_id: str) -> bytes:
    return blake2b(workspace_id.encode(), digest_size=_WORKSPACE_BYTES).digest()
