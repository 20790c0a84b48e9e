"""From a row of `identities` to what other systems are told of it."""

from functools import lru_cache
from operator import itemgetter

from schemas.identities import IdentifierType
from schemas.identity_updates import IdentityUpdate
from schemas.rows import Row
from transforms.logic.read_timestamps import format_timestamp
from transforms.logic.shape_identities import IDENTITY_COLUMNS

# to ask the enum for each row takes a tenth of a microsecond
_USER_ID, _EMAIL = IdentifierType.USER_ID.value, IdentifierType.EMAIL.value
_ANONYMOUS_ID = IdentifierType.ANONYMOUS_ID.value

_READ = ("workspace_id", "identifier_type", "identifier", "person_id", "version", "updated_at")
_read = itemgetter(*map(IDENTITY_COLUMNS.index, _READ))
_format_timestamp = lru_cache(maxsize=64)(format_timestamp)  # all that one window or one file teaches has one time


def shape_identity_update(row: Row) -> IdentityUpdate | None:
    """The update that a row of `identities` stands for; None for an anonymous_id, which concerns nobody else."""
    workspace_id, kind, identifier, person_id, version, updated_at = _read(row)
    if kind == _ANONYMOUS_ID:
        return None
    return IdentityUpdate(
        workspace_id=workspace_id,
        person_id=person_id,
        user_id=identifier if kind == _USER_ID else None,
        email=identifier if kind == _EMAIL else None,
        at=_format_timestamp(updated_at),
        version=version,
    )
