"""CPU time and memory of the identity graph as it grows, with a check that every person is the true one."""

import gc
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from benchmarks.invent_graphs import SHAPES, Graph
from benchmarks.name_persons import Node
from benchmarks.stream_calls import stream_calls
from benchmarks.stream_graph import StreamedGraph
from schemas.identity_rules import DEFAULT_RULES
from transforms.logic.resolve_links import resolve_links

Answer = TypeVar("Answer")

_WORKSPACE = "default"
# So small a graph is resolved several times over: a few milliseconds are not worth their noise.
_LEAST_LINKS = 20_000
_BEAM_SHAPE = "ordinary people"


class PersonsDiffer(Exception):  # noqa: N818 - a finding, told as it is
    """A person is not the true one: no time means anything."""


class Growth(msgspec.Struct):
    """One shape at one size; CPU times are medians over all rounds."""

    shape: str
    identifiers: int
    links: int
    persons: int
    bounded_us: list[float]
    """CPU microseconds a link of bounded input, round by round."""
    new_us: list[float]
    """Of the stream: a link that is new."""
    repeated_us: list[float]
    """A link that is known."""
    state_bytes: int
    """What all steps of the stream remember."""
    beyond_the_hops: int
    """What had to be settled because the hops did not reach it."""


class BeamCosts(msgspec.Struct):
    """The stream on Beam's local runner, in CPU microseconds a link."""

    links: int
    new_us: list[float]
    repeated_us: list[float]


def measure_growth(shape: str, size: int, rounds: int) -> Growth:
    """Both ways, over and over. Raises `PersonsDiffer`."""
    graph = SHAPES[shape](size)
    growth = Growth(shape, len(graph.persons), len(graph.links), len(set(graph.persons.values())), [], [], [], 0, 0)
    for _ in range(rounds):
        growth.bounded_us.append(measure_bounded(shape, graph))
        _measure_stream(growth, graph)
    return growth


def measure_bounded(shape: str, graph: Graph) -> float:
    """CPU microseconds a link. Raises `PersonsDiffer`."""
    blocks, times = graph.blocks(), max(1, _LEAST_LINKS // len(graph.links))
    resolved, seconds = _clock(lambda: [resolve_links(_WORKSPACE, blocks, DEFAULT_RULES) for _ in range(times)])
    by_type = resolved[-1].persons.by_identifier
    _check(shape, graph, {(kind, value): person for kind, known in by_type.items() for value, person in known.items()})
    return 1e6 * seconds / times / len(graph.links)


def measure_beam(size: int, rounds: int) -> BeamCosts:
    """The same calls once and twice; what one call alone takes, the graph of the pipeline, is no link's."""
    links = SHAPES[_BEAM_SHAPE](size).links
    costs = BeamCosts(len(links), [], [])
    stream_calls(links[:1])  # imports and caches
    for _ in range(rounds):
        start, once, twice = (stream_calls(heard) for heard in (links[:1], links, links * 2))
        costs.new_us.append(1e6 * (once - start) / len(links))
        costs.repeated_us.append(1e6 * (twice - once) / len(links))
    return costs


def _measure_stream(growth: Growth, graph: Graph) -> None:
    times = max(1, _LEAST_LINKS // len(graph.links))
    streams = [StreamedGraph() for _ in range(times)]
    _, new = _clock(lambda: _stream(streams, graph))
    _check(growth.shape, graph, streams[-1].persons())
    growth.state_bytes, growth.beyond_the_hops = streams[-1].state_bytes, streams[-1].links_beyond_the_hops
    _, repeated = _clock(lambda: _stream(streams, graph))
    if streams[-1].state_bytes != growth.state_bytes:
        raise PersonsDiffer(f"{growth.shape}: a link that was known has been remembered again")
    growth.new_us.append(1e6 * new / times / len(graph.links))
    growth.repeated_us.append(1e6 * repeated / times / len(graph.links))


def _stream(streams: Iterable[StreamedGraph], graph: Graph) -> None:
    for stream in streams:
        for block in graph.blocks():
            stream.learn(block.links)


def _clock(work: Callable[[], Answer]) -> tuple[Answer, float]:
    gc.collect()
    started = time.process_time()
    answer = work()
    return answer, time.process_time() - started


def _check(shape: str, graph: Graph, resolved: dict[Node, str]) -> None:
    if not graph.is_resolved_by(resolved):
        raise PersonsDiffer(f"{shape}, {len(graph.links):,} links: the persons are not the true ones")
