"""Work grows with what is told, not with its square, and what is long or wide is exact."""

import gc
import random
import time
from collections.abc import Callable, Sequence

import pytest

from schemas.identities import Link, LinkBlock
from tests.factories import link
from tests.unit.graph_stream import GraphStream
from tests.unit.identity_histories import NO_LIMITS, persons_of
from tests.unit.identity_oracle import Identifier, person_id_of
from transforms.logic.resolve_links import resolve_links

Way = Callable[[Sequence[Link]], dict[Identifier, str]]

WINDOWS = 10


def bounded(links: Sequence[Link]) -> dict[Identifier, str]:
    return persons_of(resolve_links("w1", [LinkBlock(list(links), 7)], NO_LIMITS))


def streamed(links: Sequence[Link]) -> dict[Identifier, str]:
    stream = GraphStream(NO_LIMITS)
    for start in range(WINDOWS):
        stream.learn("w1", links[start::WINDOWS])
    return {node[1:]: person_id for node, person_id in stream.persons().items()}


def chain(length: int) -> list[Link]:
    """Aliases of aliases, each user_id seen, in random order."""
    links = [link(f"u{place + 1}", None, None, f"u{place}", at=place) for place in range(length)]
    links += [link("u0", "ann@x"), link(f"u{length}")]
    random.Random(length).shuffle(links)
    return links


def hub(visitors: int) -> list[Link]:
    links = [link("u1", None, f"a{visitor}", at=visitor) for visitor in range(visitors)]
    links.insert(visitors // 2, link("u1", "bob@x", at=2))
    return [*links, link("u1", "ann@x", at=1)]


WAYS = pytest.mark.parametrize("way", [bounded, streamed])


@WAYS
def test_a_chain_of_two_thousand_aliases_is_one_person(way: Way) -> None:
    persons = way(chain(2_000))

    assert len(persons) == 2_001 + 1 + 2_000
    assert set(persons.values()) == {person_id_of("ann@x")}


@WAYS
def test_twenty_thousand_visitors_of_one_person_are_hers(way: Way) -> None:
    persons = way(hub(20_000))

    assert len(persons) == 20_000 + 3
    assert set(persons.values()) == {person_id_of("ann@x")}


@WAYS
@pytest.mark.parametrize(("shape", "size"), [(chain, 400), (hub, 3_000)])
def test_four_times_as_much_takes_not_much_more_than_four_times_as_long(
    way: Way, shape: Callable[[int], list[Link]], size: int
) -> None:
    """A square would take sixteen times as long. Of some rounds the best: a busy machine only slows one down."""
    few, many = shape(size), shape(4 * size)
    ratios = []
    for _ in range(4):
        ratios.append(seconds(way, many) / seconds(way, few))
        if min(ratios) < 6:
            return
    raise AssertionError(ratios)


def seconds(way: Way, links: Sequence[Link]) -> float:
    """Without the garbage collector, which takes its time by what the whole process holds."""
    gc.collect()
    gc.disable()
    try:
        started = time.process_time()
        way(links)
        return time.process_time() - started
    finally:
        gc.enable()
