"""Rows of `identities` and `identity_merges`."""

from schemas.identities import IdentifierType, Node
from schemas.identity_facts import EMAIL, Merge, Published, RefusedLink
from schemas.rows import Row, make_row

_REASONS = {IdentifierType.USER_ID: "too_many_emails", IdentifierType.EMAIL: "too_many_user_ids"}

IDENTITY_COLUMNS = (
    *("workspace_id", "identifier_type", "identifier", "person_id"),
    *("version", "updated_at", "person_since", "linked_at"),
)
"""The columns of the rows that `shape_identity` makes, in their order."""


def shape_identity(
    node: Node, person_id: str | None, version: int, person_since: int | None, linked_at: int | None
) -> Row:
    """A row of `identities`; see schemas/tables/identities.json. Times are microseconds since 1970."""
    return *node, person_id, version, version, person_since, linked_at


def shape_published(record: Published) -> Row:
    """The row of `identities` that says what was published."""
    name, claim = record.name, record.claim
    since = name.timestamp if name is not None and name.rank == EMAIL else None
    return shape_identity(record.node, record.person_id, record.version, since, None if claim is None else claim[0])


def shape_merge(merge: Merge) -> Row:
    """The row of `identity_merges` of a merge."""
    values = {
        "workspace_id": merge.workspace_id,
        "from_person_id": merge.from_person_id,
        "into_person_id": merge.into_person_id,
        "reason": "merged",
        "identifier_type": merge.identifier_type,
        "identifier": merge.identifier,
        "message_id": merge.cause[0] or None,
        "timestamp": merge.cause[1],
        "recorded_at": merge.recorded_at,
    }
    return make_row("identity_merges", values)


def shape_refusal(refusal: RefusedLink, recorded_at: int) -> Row:
    """The row of `identity_merges` of a link that a limit refused."""
    values = {
        "workspace_id": refusal.node[0],
        "reason": _REASONS[IdentifierType(refusal.node[1])],
        "identifier_type": refusal.node[1],
        "identifier": refusal.node[2],
        "refused_type": refusal.partner[1],
        "refused_identifier": refusal.partner[2],
        "message_id": refusal.cause[0],
        "timestamp": refusal.cause[1],
        "recorded_at": recorded_at,
    }
    return make_row("identity_merges", values)
