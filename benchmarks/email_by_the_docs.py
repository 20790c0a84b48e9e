"""The job of email_logs_to_segment as Beam's documentation teaches it: one line, one dict, one call.

ReadFromText, json.loads, GroupByKey by event for the duplicates, GroupByKey by recipient, run and email and a sort for
the firsts, CombinePerKey for the identifies, json.dumps, WriteToText. It runs on the same runner as the pipeline.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
import msgspec
from apache_beam.io.textio import ReadFromText, WriteToText
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection, TaggedOutput

from benchmarks.read_email_events import Event, find_fault, find_person, is_machine
from benchmarks.shape_email_calls import (
    REWARD,
    UNIQUE_CLICK,
    UNIQUE_OPEN,
    Call,
    shape_first,
    shape_identify,
    shape_report,
)
from schemas.rejections import Reason

Fields: TypeAlias = dict[str, Any]
Email: TypeAlias = tuple[str, str | None, str]

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


def key_by_email(fields: Fields) -> tuple[Email, Fields]:
    """By recipient, run and email."""
    event = _read(fields)
    return (find_person(event), event.campaign_run_id, event.find_email_id()), fields


def tell_email(group: tuple[Email, Iterable[Fields]]) -> Iterator[Call]:
    """The calls of one email to one recipient, from all that became of it."""
    person_id = group[0][0]
    events = sorted(map(_read, group[1]), key=lambda event: (event.timestamp, event.sg_event_id))
    opened: Event | None = None
    awarded: Event | None = None
    clicked: dict[str | None, Event] = {}
    for event in events:
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
        yield shape_first(REWARD, awarded, person_id, max(opened.timestamp, awarded.timestamp))


def key_by_user(fields: Fields) -> Iterator[tuple[tuple[str, str, str], int]]:
    """When a user_id was seen with a person, if one was."""
    event = _read(fields)
    if event.user_id is not None:
        yield (event.user_id, find_person(event), event.email), event.timestamp


def tell_user(seen: tuple[tuple[str, str, str], int]) -> Call:
    """The identify of a user_id that was seen first at that time."""
    return shape_identify(*seen[0], seen[1])


def _read(fields: Fields) -> Event:
    return msgspec.convert(fields, Event)


def write(lines: PCollection, output: str, folder: str) -> None:
    """Dicts to files of JSON lines."""
    _ = (
        lines
        | f"Encode {folder}" >> beam.Map(json.dumps)
        | f"Write {folder}" >> WriteToText(f"{output}/{folder}/part", file_name_suffix=".jsonl")
    )


def build(pipeline: beam.Pipeline, log: str, output: str) -> None:
    """The whole pipeline."""
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
    of_emails = (
        unique
        | "Key by email" >> beam.Map(key_by_email)
        | "Group by email" >> beam.GroupByKey()
        | "Tell email" >> beam.FlatMap(tell_email)
    )
    of_users = (
        unique
        | "Key by user" >> beam.FlatMap(key_by_user)
        | "Find first" >> beam.CombinePerKey(min)
        | "Tell user" >> beam.Map(tell_user)
    )
    write((of_emails, of_users) | "Flatten calls" >> beam.Flatten(), output, "segment_calls")
    write(parsed.rejected, output, "dead_letters")


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.email_by_the_docs", description=__doc__)
    parser.add_argument("log", metavar="LOG.jsonl", help="what benchmarks.generate_email_logs has written")
    parser.add_argument("output", metavar="DIR", help="where segment_calls and dead_letters go")
    arguments = parser.parse_args(argv)
    with beam.Pipeline(options=PipelineOptions([], runner=_RUNNER)) as pipeline:
        build(pipeline, arguments.log, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
