"""The streaming job as Beam's documentation teaches it: one message, one element, one state access, one dict a row.

json.loads makes a dict of each message. De-duplication is the example of Beam's guide to stateful processing: a cell
for each (workspace, messageId), and a timer that clears it. Who is who is state, too, keyed by workspace, because a
call may join any two of its persons: https://beam.apache.org/documentation/programming-guide/#state-and-timers

There are three ways to hold it, and all are in that chapter:

  cell       ReadModifyWriteState: read for each call, written for each that teaches something. No straw man: what is in
             the cell grows by its smallest change, nothing is computed anew, and pickle is Beam's fastest coder for it
  combining  CombiningState with the CombineFn of the job over files, as it is: each call reads all persons
  timer      a BagState that calls wait in, and a timer: the cell is read and written once a window
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
from apache_beam.coders import BooleanCoder, PickleCoder
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Duration, Timestamp

from benchmarks.by_the_docs import count_call, find_email, make_link
from benchmarks.check_calls import find_fault
from benchmarks.grow_persons import GrownPersons
from benchmarks.name_persons import Node
from benchmarks.shape_call_rows import WORKSPACE
from benchmarks.shape_columns import caller_values
from benchmarks.unite_persons import UnitePersons
from schemas.rejections import Reason

Call: TypeAlias = dict[str, Any]


class ParseMessage(beam.DoFn):
    """A message to a call, or to a rejection."""

    def process(self, message: Any) -> Iterator[Any]:
        """Give one of the two."""
        try:
            call = json.loads(message.data)
            fault = find_fault(call)
        except json.JSONDecodeError:
            fault = Reason.BAD_REQUEST
        if fault is None:
            yield call
        else:
            yield TaggedOutput("rejected", (fault.value, message.data.decode(errors="replace")))


class KeepFirst(beam.DoFn):
    """Of all deliveries of a message the first within the horizon; the others are counted."""

    SEEN = ReadModifyWriteStateSpec("seen", BooleanCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def __init__(self, horizon_seconds: int) -> None:
        self._horizon = Duration(seconds=horizon_seconds)

    def process(
        self,
        keyed: tuple[str, Call],
        timestamp: Any = beam.DoFn.TimestampParam,
        seen: Any = beam.DoFn.StateParam(SEEN),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Any]:
        """Give the call or a count."""
        call = keyed[1]
        if seen.read():
            yield TaggedOutput("counts", count_call(call, "duplicate"))
        else:
            seen.write(True)
            expiry.set(timestamp + self._horizon)
            yield call

    @on_timer(EXPIRY)
    def forget(self, seen: Any = beam.DoFn.StateParam(SEEN)) -> None:
        """The horizon is over."""
        seen.clear()


class ResolveInCell(beam.DoFn):
    """Learn what a call says of who is who, and add its caller's person."""

    PERSONS = ReadModifyWriteStateSpec("persons", PickleCoder())

    def process(self, keyed: tuple[str, Call], cell: Any = beam.DoFn.StateParam(PERSONS)) -> Iterator[Any]:
        """Give the call or a rejection, and rows of identities."""
        persons = cell.read() or GrownPersons(WORKSPACE)
        changed = persons.learn(make_link(keyed[1]))
        if persons.has_news:
            cell.write(persons)
        yield from _tell(changed)
        yield _resolve(keyed[1], persons.persons)


class ResolveCombined(beam.DoFn):
    """The same, with the CombineFn that names persons in the job over files."""

    PERSONS = CombiningValueStateSpec("persons", PickleCoder(), UnitePersons(WORKSPACE))

    def process(self, keyed: tuple[str, Call], state: Any = beam.DoFn.StateParam(PERSONS)) -> Iterator[Any]:
        """Give the call or a rejection, and rows of identities."""
        before = state.read()
        state.add(make_link(keyed[1]))
        persons = state.read()
        nodes = {**before, **persons}
        yield from _tell({node: persons.get(node) for node in nodes if before.get(node) != persons.get(node)})
        yield _resolve(keyed[1], persons)


class ResolveByTimer(beam.DoFn):
    """The same, once a window for all of its calls."""

    PERSONS = ReadModifyWriteStateSpec("persons", PickleCoder())
    CALLS = BagStateSpec("calls", PickleCoder())
    RESOLVE = TimerSpec("resolve", TimeDomain.WATERMARK)

    def __init__(self, window_seconds: int) -> None:
        self._window_micros = window_seconds * 1_000_000

    def process(
        self,
        keyed: tuple[str, Call],
        timestamp: Any = beam.DoFn.TimestampParam,
        calls: Any = beam.DoFn.StateParam(CALLS),
        resolve: Any = beam.DoFn.TimerParam(RESOLVE),
    ) -> Iterable[Any]:
        """Let the call wait for the end of its window."""
        calls.add(keyed[1])
        resolve.set(Timestamp(micros=(timestamp.micros // self._window_micros + 1) * self._window_micros))
        return ()

    @on_timer(RESOLVE)
    def resolve_all(
        self, cell: Any = beam.DoFn.StateParam(PERSONS), calls: Any = beam.DoFn.StateParam(CALLS)
    ) -> Iterator[Any]:
        """Learn from all that wait, then let them go."""
        persons = cell.read() or GrownPersons(WORKSPACE)
        waiting = list(calls.read())
        calls.clear()
        changed: dict[Node, str | None] = {}
        for call in waiting:
            changed |= persons.learn(make_link(call))
        cell.write(persons)
        yield from _tell(changed)
        for call in waiting:
            yield _resolve(call, persons.persons)


WAYS: Mapping[str, Callable[[int], beam.DoFn]] = {
    "cell": lambda window_seconds: ResolveInCell(),
    "combining": lambda window_seconds: ResolveCombined(),
    "timer": ResolveByTimer,
}
"""How persons are held in state -> what makes the step, with the length of a window."""


class Resolved(NamedTuple):
    """What the steps that remember make of messages."""

    calls: PCollection
    """Dicts; `caller` holds identifier and person."""
    identities: PCollection
    """Rows of what is new or has changed, as dicts."""
    rejected: PCollection
    """Reason and the message or call as text."""
    counts: PCollection
    """The duplicates: `Counted` and 1."""


def resolve_stream(messages: PCollection, way: str, horizon_seconds: int, window_seconds: int) -> Resolved:
    """`PubsubMessage`s to calls with their persons."""
    parsed = messages | "Parse messages" >> beam.ParDo(ParseMessage()).with_outputs("rejected", main="calls")
    unique = (
        parsed.calls
        | "Key by message" >> beam.Map(_key_by_message).with_output_types(tuple[str, dict[str, Any]])
        | "Keep first" >> beam.ParDo(KeepFirst(horizon_seconds)).with_outputs("counts", main="calls")
    )
    resolved = (
        unique.calls
        | "Key by workspace" >> beam.Map(_key_by_workspace).with_output_types(tuple[str, dict[str, Any]])
        | "Resolve callers"
        >> beam.ParDo(WAYS[way](window_seconds)).with_outputs("identities", "rejected", main="calls")
    )
    rejected = (parsed.rejected, resolved.rejected) | "Flatten rejected" >> beam.Flatten()
    return Resolved(resolved.calls, resolved.identities, rejected, unique.counts)


def _key_by_message(call: Call) -> tuple[str, Call]:
    return f"{WORKSPACE}/{call['messageId']}", call


def _key_by_workspace(call: Call) -> tuple[str, Call]:
    return WORKSPACE, call


def _tell(changed: Mapping[Node, str | None]) -> Iterator[Any]:
    for (identifier_type, identifier), person_id in changed.items():
        row = {"identifier_type": identifier_type, "identifier": identifier, "person_id": person_id}
        yield TaggedOutput("identities", {"workspace_id": WORKSPACE, **row})


def _resolve(call: Call, persons: Mapping[Node, str | None]) -> Any:
    email = find_email(call)
    identifier_type, identifier = caller_values(call.get("userId"), email, call.get("anonymousId"))
    person_id = persons.get((identifier_type, identifier))
    if call["type"] == "identify" and email is None and person_id is None:
        return TaggedOutput("rejected", (Reason.IDENTIFY_WITHOUT_EMAIL.value, json.dumps(call)))
    return {**call, "caller": {"identifier_type": identifier_type, "identifier": identifier, "person_id": person_id}}
