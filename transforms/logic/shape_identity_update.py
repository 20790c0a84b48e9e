"""From a row of `identities` to what other systems are told of it."""

from schemas.identities import IdentifierType
from schemas.identity_updates import IdentityUpdate
from schemas.rows import Row
from schemas.tables import load_table
from transforms.logic.read_timestamps import format_timestamp


def shape_identity_update(row: Row) -> IdentityUpdate | None:
    """The update that a row of `identities` stands for; None for an anonymous_id, which concerns nobody else."""
    values = dict(zip(load_table("identities").columns, row, strict=True))
    kind, identifier = values["identifier_type"], values["identifier"]
    if kind == IdentifierType.ANONYMOUS_ID:
        return None
    return IdentityUpdate(
        workspace_id=values["workspace_id"],
        person_id=values["person_id"],
        user_id=identifier if kind == IdentifierType.USER_ID else None,
        email=identifier if kind == IdentifierType.EMAIL else None,
        at=format_timestamp(values["updated_at"]),
        version=values["version"],
    )
