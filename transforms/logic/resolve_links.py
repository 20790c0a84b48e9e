"""From all links of one workspace to what bounded input writes of its persons."""

from collections.abc import Iterable
from typing import NamedTuple

from schemas.identities import PERSON_ID, IdentifierType, KnownIdentity, Link, LinkBlock, Persons
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
        _tell_apart(block.links for block in blocks),
        rules,
        version,
        (person for prior in priors for person in prior.warehouse),
        known,
    )
    asked = {identifier for block in blocks for identifier in block.erased}
    forgotten = {name for each in asked if (name := graph.names.get((workspace_id, *each))) is not None}
    erased = asked | _find_identifiers(graph, forgotten)
    persons = Persons(version, {identifier_type.value: {} for identifier_type in IdentifierType}, sorted(erased))
    written = {(identity.identifier_type, identity.identifier): identity for identity in known}
    rows = []
    person_ids: dict[object, str | None] = {}
    for node, name in graph.names.items():
        identifier = node[1], node[2]
        if node[1] == PERSON_ID or identifier in erased:
            continue
        if name not in person_ids:
            person_ids[name] = person_id_of(workspace_id, name)
        person_id = person_ids[name]
        assert person_id is not None  # only those that have one are named
        persons.by_identifier[node[1]][node[2]] = person_id
        before = written.get(identifier)
        if before is None or before.person_id != person_id:
            since = name.timestamp if name.rank == EMAIL else None
            claim = graph.claims.get(node)
            linked_at = None if claim is None else claim[0]
            rows.append(shape_identity(node, person_id, _next(version, before), since, linked_at))
    gone = {person_id_of(workspace_id, name) for name in forgotten}
    lost = graph.merges + _find_replaced(graph, known, version)
    merges = [shape_merge(merge) for merge in lost if merge.into_person_id not in gone]
    merges += [
        shape_refusal(refusal, version)
        for refusal in graph.refusals
        if refusal.node[1:] not in erased and refusal.partner[1:] not in erased
    ]
    return ResolvedLinks(persons, rows, merges)


def _tell_apart(blocks: Iterable[Iterable[Link]]) -> Iterable[Link]:
    """The distinct links, each at its earliest: a person's calls are in the bundles of several workers."""
    earliest: dict[tuple[str | None, ...], Link] = {}
    for links in blocks:
        for link in links:
            key = link.user_id, link.email, link.anonymous_id, link.previous_id
            known = earliest.get(key)
            if known is None or (link.timestamp, link.message_id) < (known.timestamp, known.message_id):
                earliest[key] = link
    return earliest.values()


def _next(version: int, before: KnownIdentity | None) -> int:
    return version if before is None else max(before.version + 1, version)


def _find_replaced(graph: ResolvedGraph, known: Iterable[KnownIdentity], version: int) -> list[Merge]:
    """What an earlier job has called a person, and what it is called now; what calls explain is left out."""
    explained = {merge.from_person_id for merge in graph.merges}
    merges = []
    for identity in known:
        led = known_leader(identity)
        if led is None or led in explained:
            continue
        name = graph.names.get((identity.workspace_id, identity.identifier_type, identity.identifier))
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
    return {(node[1], node[2]) for node, name in graph.names.items() if name in persons and node[1] != PERSON_ID}
