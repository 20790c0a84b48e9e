"""What `identities` should say, from all calls at once, and what it says: the rows that mend the difference."""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from schemas.calls import Caller
from schemas.identities import IdentifierType, KnownIdentity, LinkBlock, PriorBlock
from schemas.identity_rules import IdentityRules
from schemas.rows import Row, row_values
from transforms.logic.resolve_links import next_version, resolve_links
from transforms.logic.shape_identities import shape_identity


class Healing(NamedTuple):
    """Rows to append for one workspace."""

    identities: list[Row]
    merges: list[Row]
    """Rows of `identity_merges`: the persons that another one replaces."""


def heal(workspace_id: str, links: Iterable[LinkBlock], known: list[KnownIdentity], rules: IdentityRules) -> Healing:
    """Unite what the calls say is one person. What is united already stays, also where its calls are gone."""
    resolved = resolve_links(workspace_id, [*links, LinkBlock([], 0, [], PriorBlock([], known))], rules)
    replaced = {identity.person_id for identity in known}
    merges = [row for row in resolved.merges if row_values("identity_merges", row).get("from_person_id") in replaced]
    return Healing(resolved.identities, merges)


def rebuild(
    workspace_id: str,
    links: Iterable[LinkBlock],
    known: list[KnownIdentity],
    carried: Set[tuple[str, str]],
    rules: IdentityRules,
) -> Healing:
    """Resolve from the calls alone: also parts what the calls, by today's rules, do not say is one person.

    An identifier that no call here carries keeps its person, unless it is blocked. `carried`: type and identifier of
    what the calls carry, as `find_named` gives it. The links do not tell: they have lost what is blocked, and the
    calls that link nothing.
    """
    blocks = list(links)
    resolved = resolve_links(workspace_id, blocks, rules)
    version = max(block.newest for block in blocks)
    before = {(identity.identifier_type, identity.identifier): identity for identity in known}
    rows = []
    for row in resolved.identities:
        values = row_values("identities", row)
        held = before.get((values["identifier_type"], values["identifier"]))
        if held is None or held.person_id != values["person_id"]:
            rows.append(_shape(workspace_id, values, version, held))
    persons = resolved.persons.by_identifier
    for (identifier_type, identifier), held in sorted(before.items()):
        is_resolved = (identifier_type, identifier) in carried or rules.is_blocked(identifier)
        if held.person_id is not None and is_resolved and identifier not in persons[identifier_type]:
            values = {"identifier_type": identifier_type, "identifier": identifier}
            rows.append(_shape(workspace_id, values, version, held))
    return Healing(rows, [])


def find_named(call: Caller) -> Iterator[tuple[str, str]]:
    """Type and value of the identifiers of which a call may say whose they are, blocked ones too.

    What previousId is, the call does not say: a user_id or an anonymous_id.
    """
    for identifier_type, identifier in (
        (IdentifierType.USER_ID, call.user_id),
        (IdentifierType.EMAIL, call.email),
        (IdentifierType.ANONYMOUS_ID, call.anonymous_id),
        (IdentifierType.USER_ID, call.previous_id),
        (IdentifierType.ANONYMOUS_ID, call.previous_id),
    ):
        if identifier is not None:
            yield identifier_type, identifier


def _shape(workspace_id: str, values: Mapping[str, str], version: int, held: KnownIdentity | None) -> Row:
    node = workspace_id, values["identifier_type"], values["identifier"]
    times = (values.get(column) for column in ("person_since", "linked_at"))
    since, linked_at = (None if time is None else int(time) for time in times)
    return shape_identity(node, values.get("person_id"), next_version(version, held), since, linked_at)
