"""The job of email_logs_to_segment as Beam's documentation teaches it: one line, one dict, one call.

ReadFromText, json.loads, GroupByKey by event for the duplicates, GroupByKey by recipient, run and email and a sort for
the firsts, CombinePerKey and side inputs for who is who, json.dumps, WriteToText. It runs on the same runner as the
pipeline.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import msgspec
from apache_beam.io.textio import ReadFromText, WriteToText
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, PCollection, TaggedOutput

from benchmarks.read_email_events import Event, find_fault, find_person, is_machine
from benchmarks.read_identity_updates import KnownUser
from benchmarks.shape_email_calls import (
    REWARD,
    UNIQUE_CLICK,
    UNIQUE_OPEN,
    Call,
    shape_first,
    shape_identify,
    shape_report,
)
from benchmarks.updates_by_the_docs import read_updates
from schemas.rejections import Reason

Fields: TypeAlias = dict[str, Any]
Email: TypeAlias = tuple[str, str | None, str]
Happening: TypeAlias = tuple[int, str]
"""When an event happened, and its id: events of one second are ordered by it."""
Seen: TypeAlias = tuple[Happening, str, str | None]
"""An event's email and user_id, by when it happened."""

_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class ParseLine(beam.DoFn):
    """A line to an event, or to a rejection."""

    def process(self, line: str) -> Iterator[Any]:
        """Give one of the two."""
        try:
            fields = json.loads(line)
            fault = find_fault(fields)
        except json.JSONDecodeError:
            fault = Reason.BAD_REQUEST
        if fault is None:
            yield fields
        else:
            yield TaggedOutput("rejected", {"reason": fault.value, "payload": line})


def keep_one(group: tuple[str, Iterable[Fields]]) -> Fields:
    """Of all deliveries of an event any: they are the same."""
    return next(iter(group[1]))


def key_by_email(fields: Fields, persons: dict[str, str]) -> tuple[Email, Fields]:
    """By recipient, run and email."""
    event = _read(fields)
    return (find_person(event, persons), event.campaign_run_id, event.find_email_id()), fields


class User(NamedTuple):
    """The user_id of a person who was emailed."""

    user_id: str
    email: str
    """That it is identified with."""
    at: int
    """When, in seconds since 1970."""
    first: Happening
    """From which event on it is known."""


def key_by_person(
    fields: Fields, persons: dict[str, str], known_users: dict[str, KnownUser]
) -> Iterator[tuple[str, tuple[Seen, Seen | None]]]:
    """An event of a person who has a user_id: what it tells of the first one, and of the first one that carries it."""
    event = _read(fields)
    if event.user_id is None and not known_users:
        return
    person_id = find_person(event, persons)
    if event.user_id is not None or person_id in known_users:
        seen = (_happening(event), event.email, event.user_id)
        yield person_id, (seen, seen if event.user_id is not None else None)


class FirstSeen(beam.CombineFn):
    """The first event of a person, and the first that carries a user_id."""

    def create_accumulator(self) -> tuple[Seen | None, Seen | None]:
        """Nothing has happened."""
        return None, None

    def add_input(
        self, accumulator: tuple[Seen | None, Seen | None], seen: tuple[Seen, Seen | None]
    ) -> tuple[Seen | None, Seen | None]:
        """One more."""
        first, carrying = accumulator
        return _earlier(first, seen[0]), _earlier(carrying, seen[1])

    def merge_accumulators(
        self, accumulators: Iterable[tuple[Seen | None, Seen | None]]
    ) -> tuple[Seen | None, Seen | None]:
        """What several have seen."""
        first = carrying = None
        for one in accumulators:
            first, carrying = _earlier(first, one[0]), _earlier(carrying, one[1])
        return first, carrying

    def extract_output(self, accumulator: tuple[Seen | None, Seen | None]) -> tuple[Seen | None, Seen | None]:
        """As it is."""
        return accumulator


def find_user(person: tuple[str, tuple[Seen, Seen | None]], known_users: dict[str, KnownUser]) -> tuple[str, User]:
    """From when on a person's user_id is known: by an update or by an event."""
    person_id, (first, carrying) = person
    known = known_users.get(person_id)
    if known is not None and (carrying is None or known.since <= carrying[0][0]):
        return person_id, User(known.user_id, first[1], known.since, (known.since, ""))
    happening, email, user_id = carrying or first
    return person_id, User(str(user_id), email, happening[0], happening)


def tell_user(known: tuple[str, User]) -> Call:
    """The identify."""
    person_id, user = known
    return shape_identify(user.user_id, person_id, user.email, user.at)


def tell_email(group: tuple[Email, Iterable[Fields]], users: dict[str, User]) -> Iterator[Call]:
    """The calls of one email to one recipient, from all that became of it."""
    person_id = group[0][0]
    user = users.get(person_id)
    events = sorted(map(_read, group[1]), key=_happening)
    opened: Event | None = None
    awarded: Event | None = None
    clicked: dict[str | None, Event] = {}
    for event in events:
        if user is not None and _happening(event) >= user.first:
            event.user_id = user.user_id
        is_first = False
        if event.event == "open" and not is_machine(event):
            is_first = opened is None
            opened = opened or event
        elif event.event == "click" and not is_machine(event):
            is_first = event.url not in clicked
            clicked.setdefault(event.url, event)
            awarded = awarded or event
        yield shape_report(event, person_id, is_first=is_first)
    if opened is not None:
        yield shape_first(UNIQUE_OPEN, opened, person_id, opened.timestamp)
    for click in clicked.values():
        yield shape_first(UNIQUE_CLICK, click, person_id, click.timestamp)
    if opened is not None and awarded is not None:
        last = max(opened, awarded, key=_happening)
        click = msgspec.structs.replace(awarded, user_id=last.user_id)
        yield shape_first(REWARD, click, person_id, last.timestamp)


def _happening(event: Event) -> Happening:
    return event.timestamp, event.sg_event_id


def _earlier(one: Seen | None, other: Seen | None) -> Seen | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def _read(fields: Fields) -> Event:
    return msgspec.convert(fields, Event)


def write(lines: PCollection, output: str, folder: str) -> None:
    """Dicts to files of JSON lines."""
    _ = (
        lines
        | f"Encode {folder}" >> beam.Map(json.dumps)
        | f"Write {folder}" >> WriteToText(f"{output}/{folder}/part", file_name_suffix=".jsonl")
    )


def build(pipeline: beam.Pipeline, log: str, updates: str | None, output: str) -> None:
    """The whole pipeline."""
    persons, known_users = read_updates(pipeline, updates)
    parsed = (
        pipeline
        | "Read lines" >> ReadFromText(log)
        | "Parse lines" >> beam.ParDo(ParseLine()).with_outputs("rejected", main="events")
    )
    unique = (
        parsed.events
        | "Key by event" >> beam.Map(lambda fields: (fields["sg_event_id"], fields))
        | "Group deliveries" >> beam.GroupByKey()
        | "Keep one" >> beam.Map(keep_one)
    )
    users = (
        unique
        | "Key by person" >> beam.FlatMap(key_by_person, persons, known_users)
        | "Find first" >> beam.CombinePerKey(FirstSeen())
        | "Find user" >> beam.Map(find_user, known_users)
    )
    of_emails = (
        unique
        | "Key by email" >> beam.Map(key_by_email, persons)
        | "Group by email" >> beam.GroupByKey()
        | "Tell email" >> beam.FlatMap(tell_email, {} if updates is None else AsDict(users))
    )
    of_users = users | "Tell user" >> beam.Map(tell_user)
    write((of_emails, of_users) | "Flatten calls" >> beam.Flatten(), output, "segment_calls")
    write(parsed.rejected, output, "dead_letters")


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.email_by_the_docs", description=__doc__)
    parser.add_argument("log", metavar="LOG.jsonl", help="what benchmarks.generate_email_logs has written")
    parser.add_argument("output", metavar="DIR", help="where segment_calls and dead_letters go")
    parser.add_argument("--updates", metavar="UPDATES.jsonl", help="who is who, by identity updates")
    arguments = parser.parse_args(argv)
    with beam.Pipeline(options=PipelineOptions([], runner=_RUNNER)) as pipeline:
        build(pipeline, arguments.log, arguments.updates, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
