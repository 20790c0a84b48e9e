"""Histories of calls in which people share identifiers, and what the tables say after them."""

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

from hypothesis import strategies as st

from schemas.calls import SegmentCall
from schemas.identities import KnownIdentity, Link, LinkBlock, Node, PriorBlock, WarehousePerson
from schemas.identity_facts import Published
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from schemas.rows import row_values
from tests.factories import call
from tests.unit.identity_oracle import Identifier, Refusal
from transforms.logic.identify_callers import find_links
from transforms.logic.resolve_links import ResolvedLinks, resolve_links

Choose: TypeAlias = Callable[[Sequence[Any]], Any]
"""One of several."""

USERS = ("u1", "u2", "u3", "x1", "e1@x", "null")
EMAILS = ("e1@x", "e2@x", "e3@x")
ANONYMOUS = ("a1", "a2", "x1", "u3", "[object Object]")

NO_LIMITS = IdentityRules(emails_per_user_id=10**6, user_ids_per_email=10**6)

LONGEST_PATH = 14
"""Links: several times as many as the hops of the stream reach."""

RULES = st.builds(
    IdentityRules,
    emails_per_user_id=st.just(10**6),
    user_ids_per_email=st.just(10**6),
    blocked_values=st.sampled_from(((), ("null",), ("U1", "e2@X"))),
    blocked_patterns=st.sampled_from(((), ("[0-]*",), ("[xa]1", "E1.*"))),
    priority=st.permutations(("user_id", "email", "anonymous_id")).map(tuple),
)
"""Without limits."""

TIGHT_RULES = st.builds(IdentityRules, emails_per_user_id=st.integers(1, 3), user_ids_per_email=st.integers(1, 3))


def identity_call(choose: Choose) -> SegmentCall:
    """Few identifiers and few moments, so that calls share both."""
    user_id = choose((None, *USERS))
    previous_id = choose((None, None, None, "u1", "u2", "x1", "x1", "a1", "e1@x", "null"))
    email = choose((None, None, *EMAILS))
    if user_id is not None and "@" in user_id and email is None:
        email = user_id  # as parse_call reads it
    return call(
        at=choose(range(5)),
        call_type="track" if previous_id is None else "alias",
        user_id=user_id,
        email=email,
        anonymous_id=choose((None, None, *ANONYMOUS)),
        previous_id=previous_id,
    )


def path_call(choose: Choose) -> SegmentCall:
    """A call that links neighbours of one long path: what the hops of the stream do not reach."""
    place = choose(range(LONGEST_PATH // 2))
    email_place = choose((None, place, place, place + 1, place + 1))
    previous = choose((None, None, None, place + 1))
    return call(
        at=choose(range(30)),
        call_type="track" if previous is None else "alias",
        user_id=f"u{place}",
        email=None if email_place is None else f"e{email_place}@x",
        anonymous_id=choose((None, "a1", "a2", "a3")),
        previous_id=None if previous is None else f"u{previous}",
    )


@st.composite
def choosers(draw: st.DrawFn) -> Choose:
    """Choices that shrink well, or that are really random: those find what needs many identifiers at once."""
    if draw(st.booleans()):
        return lambda options: draw(st.sampled_from(options))
    return random.Random(draw(st.integers(0, 2**32))).choice


@st.composite
def some_calls(draw: st.DrawFn, most: int) -> list[SegmentCall]:
    """Each with a message_id of its own."""
    make, choose = draw(st.sampled_from((identity_call, path_call))), draw(choosers())
    calls = [make(choose) for _ in range(draw(st.integers(0, most)))]
    for number, one in enumerate(calls):
        one.message_id = f"m{number}"
    return calls


HISTORIES = some_calls(24)


@st.composite
def split_histories(
    draw: st.DrawFn, histories: st.SearchStrategy[list[SegmentCall]] = HISTORIES
) -> tuple[list[SegmentCall], list[list[SegmentCall]]]:
    """A history, and the same calls shuffled, some of them repeated, in windows."""
    history = draw(histories)
    shuffled = random.Random(draw(st.integers(0, 2**32)))
    arrived = [*history, *(shuffled.choice(history) for _ in range(draw(st.integers(0, 4))) if history)]
    shuffled.shuffle(arrived)
    cuts = sorted(draw(st.lists(st.integers(0, len(arrived)), min_size=1, max_size=5)))
    return history, [arrived[start:end] for start, end in pairwise([0, *cuts, len(arrived)])]


@st.composite
def warehouses(draw: st.DrawFn) -> list[WarehousePerson]:
    """Some emails of both kinds of histories, and few persons for them."""
    choose = draw(choosers())
    emails = (*EMAILS, "e4@x", "e5@x")
    return [WarehousePerson("w1", choose(emails), choose(("P1", "P2", "P3"))) for _ in range(draw(st.integers(0, 4)))]


WAREHOUSES = warehouses()


def links_of(calls: Iterable[SegmentCall], rules: IdentityRules = DEFAULT_RULES) -> list[Link]:
    return [link for block in find_links(calls, rules).values() for link in block.links]


def resolve_bounded(
    calls: Sequence[SegmentCall],
    rules: IdentityRules = DEFAULT_RULES,
    prior: PriorBlock | None = None,
    version: int = 7,
) -> ResolvedLinks:
    """What bounded input makes of the calls of one workspace."""
    blocks = list(find_links(calls, rules).values()) or [LinkBlock([], version)]
    for block in blocks:
        block.newest = version
    if prior is not None:
        blocks.append(LinkBlock([], 0, [], prior))
    return resolve_links("w1", blocks, rules)


def persons_of(resolved: ResolvedLinks) -> dict[Identifier, str]:
    """Identifier -> person, as the whole graph has it."""
    return {
        (identifier_type, identifier): person_id
        for identifier_type, persons in resolved.persons.by_identifier.items()
        for identifier, person_id in persons.items()
    }


def refusals_of(resolved: ResolvedLinks) -> list[Refusal]:
    """The refused links, as the rows of identity_merges have them."""
    return [
        Refusal(
            (row["identifier_type"], row["identifier"]),
            (row["refused_type"], row["refused_identifier"]),
            row["message_id"],
            row["timestamp"],
        )
        for row in (row_values("identity_merges", row) for row in resolved.merges)
        if row["reason"] != "merged"
    ]


def without_workspace(persons: dict[Node, str]) -> dict[Identifier, str]:
    return {(identifier_type, identifier): person_id for (_, identifier_type, identifier), person_id in persons.items()}


def as_known(rows: Iterable[Published]) -> list[KnownIdentity]:
    """What the next job reads of the rows of this one: `current_identities`."""
    latest = {row.node: row for row in sorted(rows, key=lambda row: row.version)}
    known = []
    for node, row in latest.items():
        if row.person_id is not None:
            since = row.name.timestamp if row.name is not None and row.name.rank == 1 else None
            linked_at = None if row.claim is None else row.claim[0]
            known.append(KnownIdentity(*node, row.person_id, since, linked_at, row.version))
    return known
