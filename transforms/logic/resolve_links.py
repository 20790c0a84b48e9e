"""From all links of one workspace to what bounded input writes of its persons."""

from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from schemas.identities import IdentifierType, KnownIdentity, LinkBlock, Persons
from schemas.identity_facts import EMAIL, Merge, Name
from schemas.identity_rules import IdentityRules
from schemas.rows import Row
from transforms.logic.identity_graph import ResolvedGraph, resolve_graph
from transforms.logic.name_persons import person_id_of
from transforms.logic.shape_identities import shape_identity, shape_merge, shape_refusal
from transforms.logic.tell_links import known_leader


class ResolvedLinks(NamedTuple):
    """The persons of one workspace."""

    persons: Persons
    identities: list[Row]
    """Rows of `identities`: those that an earlier job has not written already."""
    merges: list[Row]
    """Rows of `identity_merges`."""


def resolve_links(workspace_id: str, blocks: Iterable[LinkBlock], rules: IdentityRules) -> ResolvedLinks:
    """Resolve them all at once."""
    blocks = list(blocks)
    priors = [block.prior for block in blocks if block.prior is not None]
    version = max(block.newest for block in blocks) or max((prior.read_at for prior in priors), default=0)
    known = [identity for prior in priors for identity in prior.known]
    graph = resolve_graph(
        workspace_id,
        chain.from_iterable(block.links for block in blocks),
        rules,
        version,
        (person for prior in priors for person in prior.warehouse),
        known,
    )
    asked = {identifier for block in blocks for identifier in block.erased}
    forgotten = {name for kind, identifier in asked if (name := graph.names[kind].get(identifier)) is not None}
    erased = asked | _find_identifiers(graph, forgotten)
    persons = Persons(version, {kind: {} for kind in graph.names}, sorted(erased))
    written = {(identity.identifier_type, identity.identifier): identity for identity in known}
    rows = []
    person_ids: dict[Name, str | None] = {}
    for kind, names in graph.names.items():
        linked_at = graph.linked_at if kind == IdentifierType.ANONYMOUS_ID else {}
        for identifier, name in names.items():
            if (kind, identifier) in erased:
                continue
            if name not in person_ids:
                person_ids[name] = person_id_of(workspace_id, name)
            person_id = person_ids[name]
            assert person_id is not None  # only those that have one are named
            persons.by_identifier[kind][identifier] = person_id
            before = written.get((kind, identifier))
            if before is None or before.person_id != person_id:
                node, since = (workspace_id, kind, identifier), name.timestamp if name.rank == EMAIL else None
                rows.append(
                    shape_identity(node, person_id, next_version(version, before), since, linked_at.get(identifier))
                )
    gone = {person_id_of(workspace_id, name) for name in forgotten}
    lost = graph.merges + _find_replaced(graph, known, version)
    merges = [shape_merge(merge) for merge in lost if merge.into_person_id not in gone]
    merges += [
        shape_refusal(refusal, version)
        for refusal in graph.refusals
        if refusal.node[1:] not in erased and refusal.partner[1:] not in erased
    ]
    return ResolvedLinks(persons, rows, merges)


def next_version(version: int, before: KnownIdentity | None) -> int:
    """The version of news about an identifier: this one, or greater than the one before."""
    return version if before is None else max(before.version + 1, version)


def _find_replaced(graph: ResolvedGraph, known: Iterable[KnownIdentity], version: int) -> list[Merge]:
    """What an earlier job has called a person, and what it is called now; what calls explain is left out."""
    explained = {merge.from_person_id for merge in graph.merges}
    merges = []
    for identity in known:
        led = known_leader(identity)
        if led is None or led in explained:
            continue
        name = graph.names[identity.identifier_type].get(identity.identifier)
        person_id = None if name is None else person_id_of(identity.workspace_id, name)
        if person_id is not None and person_id != identity.person_id:
            cause = "", version
            about = identity.workspace_id, led, person_id, identity.identifier_type, identity.identifier
            merges.append(Merge(*about, cause, version))
    return merges


def _find_identifiers(graph: ResolvedGraph, persons: set[Name]) -> set[tuple[str, str]]:
    """Every identifier of these persons."""
    if not persons:
        return set()
    named = ((kind, identifier, name) for kind, names in graph.names.items() for identifier, name in names.items())
    return {(kind, identifier) for kind, identifier, name in named if name in persons}
