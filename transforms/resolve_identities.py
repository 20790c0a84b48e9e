"""ResolveIdentities: who each call is from."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import msgspec
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import AsDict, PCollection, TaggedOutput
from apache_beam.transforms.trigger import AccumulationMode, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils.timestamp import Duration

from schemas.calls import CallBlock
from schemas.identities import LinkBlock, Persons
from schemas.rejections import DeadLetter
from schemas.rows import TableRows
from transforms.cached_log import LogCache
from transforms.logic.identify_callers import find_links, split_by_workspace
from transforms.logic.identity_graph import IdentityGraph, resolve_links
from transforms.logic.resolve_callers import ResolvedCallers, resolve_callers
from transforms.logic.shape_rows import shape_identities
from transforms.several_outputs import gives_several

NOBODY = Persons(0, {})

# Late data is never dropped (contract section 3). Beam wants a number: longer than any backlog that Pub/Sub can hold.
ALLOWED_LATENESS = Duration(seconds=400 * 24 * 3600)


class ResolvedCalls(NamedTuple):
    """What comes out of ResolveIdentities; every call comes out of `calls` or `dead_letters`."""

    calls: PCollection
    """`CallBlock`: person_id, identifier_type and identifier are set."""
    identities: PCollection
    """`TableRows` of `identities`: what is new or has changed."""
    dead_letters: PCollection
    """`DeadLetter`: identify calls without an email whose userId maps to nobody."""


class ResolveIdentities(beam.PTransform):
    """Give each call its person.

    Bounded input: the whole graph of each workspace is resolved first, so every call gets its final person. Unbounded
    input: the calls wait for the end of their window (by arrival) and get the person known by then; what is learned
    later reaches them through the `identities` table.
    """

    def __init__(self, window_seconds: int) -> None:
        super().__init__()
        self._window_seconds = window_seconds

    @gives_several
    def expand(self, calls: PCollection) -> ResolvedCalls:
        """Apply it to a PCollection of `CallBlock`."""
        if calls.is_bounded:
            return self._resolve_whole_graph(calls)
        return self._resolve_by_window(calls)

    def _resolve_whole_graph(self, calls: PCollection) -> ResolvedCalls:
        persons = (
            calls
            | "FindLinks" >> beam.ParDo(_FindLinksFn())
            | "GroupLinks" >> beam.GroupByKey()
            | "ResolveLinks" >> beam.ParDo(_ResolveLinksFn())
        )
        resolved = calls | "ResolveCallers" >> beam.ParDo(_ResolveCallersFn(), AsDict(persons)).with_outputs(
            "dead_letters", main="calls"
        )
        identities = persons | "ShapeIdentities" >> beam.ParDo(_ShapeIdentitiesFn())
        return ResolvedCalls(resolved.calls, identities, resolved.dead_letters)

    def _resolve_by_window(self, calls: PCollection) -> ResolvedCalls:
        resolved = (
            calls
            | "SplitByWorkspace" >> beam.ParDo(_SplitByWorkspaceFn())
            | "WindowByArrival"
            >> beam.WindowInto(
                FixedWindows(self._window_seconds),
                trigger=AfterWatermark(late=AfterProcessingTime(self._window_seconds)),
                accumulation_mode=AccumulationMode.DISCARDING,
                allowed_lateness=ALLOWED_LATENESS,
            )
            | "GroupWorkspace" >> beam.GroupByKey()
            # The graph outlives every window: a state of the global window remembers it.
            | "WindowGlobally" >> beam.WindowInto(GlobalWindows())
            | "GrowGraph" >> beam.ParDo(_GrowGraphFn()).with_outputs("identities", "dead_letters", main="calls")
        )
        return ResolvedCalls(resolved.calls, resolved.identities, resolved.dead_letters)


class _FindLinksFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[tuple[str, LinkBlock]]:
        yield from find_links(block.calls).items()


class _ResolveLinksFn(beam.DoFn):
    def process(self, group: tuple[str, Iterable[LinkBlock]]) -> Iterator[tuple[str, Persons]]:
        workspace_id, blocks = group[0], list(group[1])
        links = (link for block in blocks for link in block.links)
        yield workspace_id, resolve_links(workspace_id, links, max(block.newest for block in blocks))


class _Counters:
    """What both ways of resolving count."""

    def __init__(self) -> None:
        self._known = Metrics.counter("resolve_identities", "known_callers")
        self._unknown = Metrics.counter("resolve_identities", "unknown_callers")
        self._rejected = Metrics.counter("resolve_identities", "rejected_identify_without_email")

    def count(self, resolved: ResolvedCallers) -> None:
        known = sum(call.person_id is not None for call in resolved.calls)
        self._known.inc(known)
        self._unknown.inc(len(resolved.calls) - known)
        self._rejected.inc(len(resolved.dead_letters))


class _ResolveCallersFn(beam.DoFn):
    def __init__(self) -> None:
        self._counters = _Counters()

    def process(
        self, block: CallBlock, persons: dict[str, Persons]
    ) -> Iterator[CallBlock | TaggedOutput[Literal["dead_letters"], DeadLetter]]:
        for workspace_id, calls in split_by_workspace(block).items():
            resolved = resolve_callers(calls.calls, persons.get(workspace_id, NOBODY).find)
            self._counters.count(resolved)
            yield CallBlock(resolved.calls)
            for letter in resolved.dead_letters:
                yield TaggedOutput("dead_letters", letter)


class _ShapeIdentitiesFn(beam.DoFn):
    def process(self, group: tuple[str, Persons]) -> Iterator[TableRows]:
        workspace_id, persons = group
        yield TableRows("identities", shape_identities(workspace_id, persons.version, persons.identities()))


class _SplitByWorkspaceFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterator[tuple[str, CallBlock]]:
        yield from split_by_workspace(block).items()


def _rebuild_graph(workspace_id: str, log: Iterable[bytes]) -> IdentityGraph:
    graph = IdentityGraph(workspace_id)
    for record in log:
        block = _LINKS_DECODER.decode(record)
        graph.version = max(graph.version, block.newest)
        for link in block.links:
            graph.add(link)
    for _ in graph.publish():  # published before the log was written
        pass
    return graph


_GRAPHS: LogCache[IdentityGraph] = LogCache(capacity=1024)
_LINKS_DECODER = msgspec.msgpack.Decoder(LinkBlock)


class _GrowGraphFn(beam.DoFn):
    """Remembers, per workspace, every link that ever taught something new, for ever: people come back after years.

    All of a workspace passes through one key. That is right for one worker's load and no more; a graph that is spread
    by identifier takes this step's place without a change around it.
    """

    LINKS = BagStateSpec("links", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())

    def __init__(self) -> None:
        self._counters = _Counters()

    def process(
        self,
        window: tuple[str, Iterable[CallBlock]],
        link_log: Any = beam.DoFn.StateParam(LINKS),
        token: Any = beam.DoFn.StateParam(TOKEN),
    ) -> Iterator[
        CallBlock | TaggedOutput[Literal["identities"], TableRows] | TaggedOutput[Literal["dead_letters"], DeadLetter]
    ]:
        workspace_id = window[0]
        calls = [call for block in window[1] for call in block.calls]
        graph = _GRAPHS.take(token, link_log, lambda log: _rebuild_graph(workspace_id, log))
        for block in find_links(calls).values():
            learned = [link for link in block.links if graph.add(link)]
            if learned:
                graph.version = max(graph.version + 1, block.newest)
                link_log.add(msgspec.msgpack.encode(LinkBlock(learned, graph.version)))
        rows = shape_identities(workspace_id, graph.version, graph.publish())
        resolved = resolve_callers(calls, graph.find_person)
        _GRAPHS.put(token, graph)
        self._counters.count(resolved)
        yield CallBlock(resolved.calls)
        if rows:
            changes: TaggedOutput[Literal["identities"], TableRows] = TaggedOutput(
                "identities", TableRows("identities", rows)
            )
            yield changes
        for letter in resolved.dead_letters:
            rejected: TaggedOutput[Literal["dead_letters"], DeadLetter] = TaggedOutput("dead_letters", letter)
            yield rejected
