"""ResolveIdentities: who each call is from."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import AsDict, PCollection, TaggedOutput
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindow, GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from schemas.calls import CallBlock, CallerBlock, SegmentCall
from schemas.identities import IdentifierType, KnownIdentity, LinkBlock, Node, Persons, PriorBlock
from schemas.identity_facts import HomeBlock, Published, decode_facts, encode_facts
from schemas.identity_rules import IdentityRules
from schemas.outcomes import Outcome, OutcomeKey
from schemas.rejections import LetterBlock
from schemas.rows import TableRows
from transforms.cached_log import LogCache, LogSize
from transforms.gather_calls import GatherCallsFn
from transforms.grow_graph import GrowGraph, home_shard, rewrite
from transforms.logic.count_calls import count_calls
from transforms.logic.identify_callers import GatheredLinks, find_links, set_callers, split_prior
from transforms.logic.publish_identities import PublishedIdentities
from transforms.logic.resolve_callers import ResolvedCallers, resolve_callers, split_erased
from transforms.logic.resolve_links import resolve_links
from transforms.logic.shape_identities import shape_merge, shape_published
from transforms.several_outputs import gives_several
from transforms.windows import window_by_arrival

NOBODY = Persons(0, {})


class ResolvedCalls(NamedTuple):
    """What comes out of ResolveIdentities; every call comes out of `calls` or `dead_letters`, or is in `counts`."""

    calls: PCollection
    """`CallBlock`: person_id, identifier_type and identifier are set."""
    identities: PCollection
    """`TableRows` of `identities`, what is new or has changed, and of `identity_merges`."""
    dead_letters: PCollection
    """`LetterBlock`: identify calls without an email whose userId maps to nobody."""
    counts: PCollection | None
    """`tuple[OutcomeKey, int]`: bounded input's calls of persons who ask in it to be forgotten; else None."""


class ResolveIdentities(beam.PTransform):
    """Give each call its person.

    Bounded input: the whole graph of each workspace is resolved first, so every call gets its final person. Unbounded
    input: the calls wait for the end of their window (by arrival) and get the person known by then; what is learned
    later reaches them through the `identities` table.
    """

    def __init__(
        self, rules: IdentityRules, shards: int, window_seconds: int, prior: PCollection | None = None
    ) -> None:
        """`prior`: a PCollection of `PriorBlock`, what tables say of persons before the first call.

        `shards`: over how many keys a stream spreads the identifiers of all workspaces.
        """
        super().__init__()
        self._rules = rules
        self._shards = shards
        self._window_seconds = window_seconds
        self._prior = prior

    @gives_several
    def expand(self, unique: tuple[PCollection, PCollection]) -> ResolvedCalls:
        """Apply it to a PCollection of `CallBlock`, and one of its callers: `CallerBlock`, or the calls themselves."""
        calls, callers = unique
        if calls.is_bounded:
            return self._resolve_whole_graph(calls, callers)
        return self._resolve_by_window(calls)

    def _resolve_whole_graph(self, calls: PCollection, callers: PCollection) -> ResolvedCalls:
        links = callers | "FindLinks" >> beam.ParDo(_GatherLinksFn(self._rules))
        if self._prior is not None:
            prior = self._prior | "SplitPrior" >> beam.ParDo(_SplitPriorFn())
            links = (links, prior) | "AddPrior" >> beam.Flatten()
        linked = (
            links
            | "GroupLinks" >> beam.GroupByKey()
            | "ResolveLinks" >> beam.ParDo(_ResolveLinksFn(self._rules)).with_outputs("identities", main="persons")
        )
        resolved = calls | "ResolveCallers" >> beam.ParDo(
            _ResolveCallersFn(self._rules), AsDict(linked.persons)
        ).with_outputs("dead_letters", "counts", main="calls")
        return ResolvedCalls(resolved.calls, linked.identities, resolved.dead_letters, resolved.counts)

    def _resolve_by_window(self, calls: PCollection) -> ResolvedCalls:
        calls = (
            calls
            | "WindowByArrival" >> window_by_arrival(self._window_seconds)
            # De-duplication gives a few calls an element; the shards of identifiers would leave one call in each.
            | "GatherCalls" >> beam.ParDo(GatherCallsFn())
        )
        links = calls | "FindLinks" >> beam.ParDo(_FindLinksFn(self._rules))
        at_home = [calls | "SendCallsHome" >> beam.ParDo(_SendCallsHomeFn(self._rules, self._shards))]
        if self._prior is not None:
            prior = (
                self._prior
                | "DatePrior" >> beam.ParDo(_DatePriorFn())
                | "WindowPrior" >> window_by_arrival(self._window_seconds)
            )
            links = (links, prior | "SplitPrior" >> beam.ParDo(_SplitPriorFn())) | "AddPrior" >> beam.Flatten()
            at_home.append(prior | "SendKnownHome" >> beam.ParDo(_SendKnownHomeFn(self._shards)))
        grown = links | "GrowGraph" >> GrowGraph(self._rules, self._shards, self._window_seconds)
        at_home.append(
            grown.belongings
            | "WindowBelongings" >> window_by_arrival(self._window_seconds)
            | "SendBelongingsHome" >> beam.ParDo(_SendBelongingsHomeFn())
        )
        resolved = (
            at_home
            | "FlattenHome" >> beam.Flatten()
            | "GatherHome" >> beam.GroupByKey()
            # What is published outlives every window: a state of the global window remembers it.
            | "WindowGlobally" >> beam.WindowInto(GlobalWindows())
            | "ResolveAtHome" >> beam.ParDo(_ResolveAtHomeFn()).with_outputs("identities", "dead_letters", main="calls")
        )
        identities = (resolved.identities, grown.refusals) | "FlattenIdentities" >> beam.Flatten()
        return ResolvedCalls(resolved.calls, identities, resolved.dead_letters, None)


class _FindLinksFn(beam.DoFn):
    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules

    def process(self, block: CallBlock) -> Iterator[tuple[str, LinkBlock]]:
        yield from find_links(block.calls, self._rules).items()


class _GatherLinksFn(beam.DoFn):
    """The links of a whole bundle at once: the calls of one person are spread over all of its blocks."""

    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules

    def start_bundle(self) -> None:
        self._links = GatheredLinks(self._rules)

    def process(self, block: CallerBlock) -> Iterator[tuple[str, LinkBlock]]:
        self._links.add(block.calls)
        return iter(())

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for links in self._links.blocks().items():
            yield WindowedValue(links, MIN_TIMESTAMP, (GlobalWindow(),))


class _SplitPriorFn(beam.DoFn):
    def process(self, block: PriorBlock) -> Iterator[tuple[str, LinkBlock]]:
        for workspace_id, prior in split_prior(block).items():
            yield workspace_id, LinkBlock([], 0, [], prior)


class _Counters:
    """What both ways of resolving count."""

    def __init__(self) -> None:
        self._known = Metrics.counter("resolve_identities", "known_callers")
        self._unknown = Metrics.counter("resolve_identities", "unknown_callers")
        self._rejected = Metrics.counter("resolve_identities", "rejected_identify_without_email")

    def count(self, resolved: ResolvedCallers) -> None:
        unknown = [call.person_id for call in resolved.calls].count(None)
        self._known.inc(len(resolved.calls) - unknown)
        self._unknown.inc(unknown)
        self._rejected.inc(len(resolved.dead_letters))


class _ResolveLinksFn(beam.DoFn):
    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules

    def process(
        self, group: tuple[str, Iterable[LinkBlock]]
    ) -> Iterator[tuple[str, Persons] | TaggedOutput[Literal["identities"], TableRows]]:
        resolved = resolve_links(group[0], group[1], self._rules)
        yield group[0], resolved.persons
        yield TaggedOutput("identities", TableRows("identities", resolved.identities))
        yield TaggedOutput("identities", TableRows("identity_merges", resolved.merges))


class _ResolveCallersFn(beam.DoFn):
    def __init__(self, rules: IdentityRules) -> None:
        self._rules = rules
        self._counters = _Counters()
        self._suppressed = Metrics.counter("resolve_identities", "suppressed")

    def process(
        self, block: CallBlock, persons: dict[str, Persons]
    ) -> Iterator[
        CallBlock
        | TaggedOutput[Literal["dead_letters"], LetterBlock]
        | TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]]
    ]:
        calls = block.calls
        erased = {workspace_id: frozenset(each.erased) for workspace_id, each in persons.items() if each.erased}
        if erased:
            calls, suppressed = split_erased(calls, erased)
            self._suppressed.inc(len(suppressed))
            for count in count_calls(suppressed, Outcome.SUPPRESSED).items():
                counted: TaggedOutput[Literal["counts"], tuple[OutcomeKey, int]] = TaggedOutput("counts", count)
                yield counted
        set_callers(calls, self._rules)
        resolved = resolve_callers(
            calls,
            lambda call: persons.get(call.workspace_id, NOBODY).find(call.identifier_type, call.identifier),
            lambda call: self._has_known_user(call, persons.get(call.workspace_id, NOBODY)),
        )
        self._counters.count(resolved)
        yield CallBlock(resolved.calls)
        if resolved.dead_letters:
            letters = LetterBlock(resolved.dead_letters)
            rejected: TaggedOutput[Literal["dead_letters"], LetterBlock] = TaggedOutput("dead_letters", letters)
            yield rejected

    def _has_known_user(self, call: SegmentCall, persons: Persons) -> bool:
        """Also where a stronger identifier than the userId is whom the call counts for."""
        user_id = call.user_id
        return (
            user_id is not None
            and not self._rules.is_blocked(user_id)
            and persons.find(IdentifierType.USER_ID, user_id) is not None
        )


class _DatePriorFn(beam.DoFn):
    """What was known beforehand belongs to the first of all windows, and no window ends before it has been read."""

    def process(self, block: PriorBlock) -> Iterator[PriorBlock]:
        dated: Any = TimestampedValue(block, 0)
        yield dated


class _SendCallsHomeFn(beam.DoFn):
    def __init__(self, rules: IdentityRules, shards: int) -> None:
        self._rules = rules
        self._shards = shards

    def process(self, block: CallBlock) -> Iterator[tuple[int, HomeBlock]]:
        set_callers(block.calls, self._rules)
        homes: dict[int, list[SegmentCall]] = {}
        if self._shards == 1:  # as in `send_home`
            homes = {0: block.calls} if block.calls else {}
        else:
            for call in block.calls:
                homes.setdefault(home_shard(_caller(call), self._shards), []).append(call)
        for shard, calls in homes.items():
            yield shard, HomeBlock(calls)


class _SendBelongingsHomeFn(beam.DoFn):
    def process(self, told: tuple[int, bytes]) -> Iterator[tuple[int, HomeBlock]]:
        yield told[0], HomeBlock([], told[1])


class _SendKnownHomeFn(beam.DoFn):
    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, block: PriorBlock) -> Iterator[tuple[int, HomeBlock]]:
        homes: dict[int, list[KnownIdentity]] = {}
        for known in block.known:
            node = known.workspace_id, known.identifier_type, known.identifier
            homes.setdefault(home_shard(node, self._shards), []).append(known)
        for shard, identities in homes.items():
            yield shard, HomeBlock([], b"", identities)


def _caller(call: SegmentCall) -> Node:
    """Whom the call counts for; calls that count for nobody are spread by themselves."""
    return call.workspace_id, call.identifier_type or "", call.identifier or call.message_id


_PUBLISHED: LogCache[tuple[PublishedIdentities, LogSize]] = LogCache(capacity=4096)


class _ResolveAtHomeFn(beam.DoFn):
    """Remembers, per shard and for ever, what `identities` says of each identifier: people come back after years.

    Nobody forgets it, but the log is condensed to one record an identifier whenever it has doubled.
    """

    PUBLISHED = BagStateSpec("published", BytesCoder())
    TOKEN = ReadModifyWriteStateSpec("token", BytesCoder())

    def __init__(self) -> None:
        self._counters = _Counters()
        self._merges = Metrics.counter("resolve_identities", "merges")

    def process(
        self,
        home: tuple[int, Iterable[HomeBlock]],
        timestamp: Any = beam.DoFn.TimestampParam,
        log: Any = beam.DoFn.StateParam(PUBLISHED),
        token: Any = beam.DoFn.StateParam(TOKEN),
    ) -> Iterator[
        CallBlock | TaggedOutput[Literal["identities"], TableRows] | TaggedOutput[Literal["dead_letters"], LetterBlock]
    ]:
        blocks = list(home[1])
        memory = _PUBLISHED.take(token, log, _recall_published)
        published, size = memory
        news = published.recognise(known for block in blocks for known in block.known)
        facts = decode_facts(block.facts for block in blocks if block.facts)
        changes = published.publish(facts, timestamp.micros)
        news += changes.published
        calls = [call for block in blocks for call in block.calls]
        find = published.find_person
        resolved = resolve_callers(
            calls, lambda call: find((call.workspace_id, call.identifier_type or "", call.identifier or ""))
        )
        self._counters.count(resolved)
        if resolved.calls:
            yield CallBlock(resolved.calls)
        if resolved.dead_letters:
            letters = LetterBlock(resolved.dead_letters)
            rejected: TaggedOutput[Literal["dead_letters"], LetterBlock] = TaggedOutput("dead_letters", letters)
            yield rejected
        for table, rows in (
            ("identities", [shape_published(record) for record in changes.identities]),
            ("identity_merges", [shape_merge(merge) for merge in changes.merges]),
        ):
            if rows:
                written: TaggedOutput[Literal["identities"], TableRows] = TaggedOutput(
                    "identities", TableRows(table, rows)
                )
                yield written
        self._merges.inc(len(changes.merges))
        if news:
            log.add(encode_facts(news))
            if size.grow(len(news)):
                rewrite(log, published.records())
                size.shrink(len(published.records()))
            _PUBLISHED.put(token, memory)
        else:
            _PUBLISHED.put_back(token, memory)


def _recall_published(log: Iterable[bytes]) -> tuple[PublishedIdentities, LogSize]:
    published, records = PublishedIdentities(), decode_facts(log)
    published.recall(fact for fact in records if isinstance(fact, Published))
    return published, LogSize(len(records))
