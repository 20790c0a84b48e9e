"""What `identities` should say, from all calls at once, and what it says: the rows that mend the difference."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.identities import KnownIdentity, LinkBlock, PriorBlock
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


def rebuild(workspace_id: str, links: Iterable[LinkBlock], known: list[KnownIdentity], rules: IdentityRules) -> Healing:
    """Resolve from the calls alone: also parts what the calls, by today's rules, do not say is one person.

    An identifier that no call here carries keeps its person, unless it is blocked.
    """
    blocks = list(links)
    resolved = resolve_links(workspace_id, blocks, rules)
    version = max((block.newest for block in blocks), default=0)
    before = {(identity.identifier_type, identity.identifier): identity for identity in known}
    rows = []
    for row in resolved.identities:
        values = row_values("identities", row)
        held = before.get((values["identifier_type"], values["identifier"]))
        if held is None or held.person_id != values["person_id"]:
            rows.append(_shape(workspace_id, values, version, held))
    homeless = _find_homeless(blocks, resolved.persons.by_identifier) & before.keys()
    homeless |= {identifier for identifier in before if rules.is_blocked(identifier[1])}
    for identifier in sorted(homeless):
        values = dict(zip(("identifier_type", "identifier"), identifier, strict=True))
        rows.append(_shape(workspace_id, values, version, before[identifier]))
    return Healing(rows, [])


def _find_homeless(blocks: Iterable[LinkBlock], persons: Mapping[str, Mapping[str, str]]) -> set[tuple[str, str]]:
    """Identifiers that calls carry and that belong to no person by what the calls say."""
    carried = {
        (identifier_type, identifier)
        for block in blocks
        for link in block.links
        for identifier_type, identifier in (
            ("user_id", link.user_id),
            ("email", link.email),
            ("anonymous_id", link.anonymous_id),
        )
        if identifier is not None
    }
    return {identifier for identifier in carried if identifier[1] not in persons[identifier[0]]}


def _shape(workspace_id: str, values: Mapping[str, str], version: int, held: KnownIdentity | None) -> Row:
    node = workspace_id, values["identifier_type"], values["identifier"]
    times = (values.get(column) for column in ("person_since", "linked_at"))
    since, linked_at = (None if time is None else int(time) for time in times)
    return shape_identity(node, values.get("person_id"), next_version(version, held), since, linked_at)
