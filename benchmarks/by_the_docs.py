"""The same job as Beam's documentation teaches it: one line, one dict, one row, from the first step to the last.

ReadFromText, json.loads, GroupByKey by message for the duplicates, a CombineFn for the persons, a side input to join
them back, WriteToParquet for each table. It runs on the same runner as the pipeline.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.io.textio import ReadFromText
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, PCollection, TaggedOutput

from benchmarks.check_calls import find_fault, read_micros
from benchmarks.describe_persons import DescribePersons
from benchmarks.name_persons import Node
from benchmarks.shape_call_rows import WORKSPACE, Call, find_times, shape_fact, shape_membership
from benchmarks.shape_columns import FACT_TABLES, caller_email, caller_values
from benchmarks.shape_ledger_rows import (
    Counted,
    count_arrival,
    count_dead_letter,
    shape_count,
    shape_dead_letter,
    shape_identities,
    shape_merges,
)
from schemas.rejections import Reason
from schemas.tables import arrow_schema, load_table

_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class ParseLine(beam.DoFn):
    """A line to a call, or to a rejection."""

    def process(self, line: str) -> Iterator[Any]:
        """Give one of the two."""
        try:
            call = json.loads(line)
            fault = find_fault(call)
        except json.JSONDecodeError:
            fault = Reason.BAD_REQUEST
        if fault is not None:
            yield TaggedOutput("rejected", (fault.value, line))
            return
        if call["type"] == "identify" and find_email(call) is None:
            call["line"] = line  # it may have to be rejected yet
        yield call


class KeepEarliest(beam.DoFn):
    """Of all deliveries of a message the first; the others are counted."""

    def process(self, group: tuple[tuple[str, str], Iterable[Call]]) -> Iterator[Any]:
        """Give the call, and a count for each duplicate."""
        first, *rest = sorted(group[1], key=lambda call: str(call["receivedAt"]))
        yield first
        for call in rest:
            yield TaggedOutput("counts", count_call(call, "duplicate"))


class ResolveCaller(beam.DoFn):
    """Add the caller's person to a call, or reject an identify that tells nothing of an unknown caller."""

    def process(self, call: Call, persons: dict[str, dict[Node, str]]) -> Iterator[Any]:
        """Give one of the two."""
        email = find_email(call)
        identifier_type, identifier = caller_values(call.get("userId"), email, call.get("anonymousId"))
        person_id = persons.get(WORKSPACE, {}).get((identifier_type, identifier))
        if call["type"] == "identify" and email is None and person_id is None:
            yield TaggedOutput("rejected", (Reason.IDENTIFY_WITHOUT_EMAIL.value, call["line"]))
        else:
            caller = {"identifier_type": identifier_type, "identifier": identifier, "person_id": person_id}
            yield {**call, "caller": caller}


def find_email(call: Call) -> str | None:
    """The email that the call says of its caller."""
    return caller_email(call["type"], call["context"], call.get("traits", {}))


def make_link(call: Call) -> dict[str, Any]:
    """What the call says of who is who."""
    timestamp, received_at, _ = find_times(call)
    return {
        "message_id": call["messageId"],
        "user_id": call.get("userId"),
        "email": find_email(call),
        "anonymous_id": call.get("anonymousId"),
        "previous_id": call.get("previousId") if call["type"] == "alias" else None,
        "timestamp": timestamp,
        "received_at": received_at,
    }


def count_call(call: Call, outcome: str) -> tuple[Counted, int]:
    """What the call counts for."""
    return count_arrival(read_micros(call["receivedAt"]), call["type"], outcome)


def write(rows: PCollection, output: str, table: str) -> None:
    """Rows to the Parquet files of their table."""
    _ = rows | f"Write {table}" >> WriteToParquet(
        f"{output}/{table}/part", arrow_schema(load_table(table)), codec="zstd", file_name_suffix=".parquet"
    )


def build(pipeline: beam.Pipeline, calls_path: str, output: str) -> None:
    """The whole pipeline."""
    parsed = (
        pipeline
        | "Read lines" >> ReadFromText(calls_path)
        | "Parse lines" >> beam.ParDo(ParseLine()).with_outputs("rejected", main="calls")
    )
    unique = (
        parsed.calls
        | "Key by message" >> beam.Map(lambda call: ((WORKSPACE, call["messageId"]), call))
        | "Group deliveries" >> beam.GroupByKey()
        | "Keep earliest" >> beam.ParDo(KeepEarliest()).with_outputs("counts", main="calls")
    )
    persons = (
        unique.calls
        | "Key by workspace" >> beam.Map(lambda call: (WORKSPACE, make_link(call)))
        | "Describe persons" >> beam.CombinePerKey(DescribePersons(WORKSPACE))
    )
    person_ids = persons | "Person ids" >> beam.Map(lambda described: (described[0], described[1]["person_ids"]))
    resolved = unique.calls | "Resolve callers" >> beam.ParDo(ResolveCaller(), AsDict(person_ids)).with_outputs(
        "rejected", main="calls"
    )
    for table in sorted(set(FACT_TABLES.values())):
        rows = (
            resolved.calls
            | f"Choose {table}" >> beam.Filter(lambda call, table: FACT_TABLES[call["type"]] == table, table)
            | f"Shape {table}" >> beam.Map(shape_fact)
        )
        write(rows, output, table)
    write(resolved.calls | "Shape memberships" >> beam.FlatMap(shape_membership), output, "audience_memberships")
    write(persons | "Shape identities" >> beam.FlatMap(shape_identities), output, "identities")
    write(persons | "Shape merges" >> beam.FlatMap(shape_merges), output, "identity_merges")
    rejected = (parsed.rejected, resolved.rejected) | "Flatten rejected" >> beam.Flatten()
    dead_letters = rejected | "Shape dead letters" >> beam.Map(shape_dead_letter, calls_path)
    write(dead_letters, output, "dead_letters")
    counts = (
        unique.counts,
        dead_letters | "Count rejected" >> beam.Map(count_dead_letter),
        resolved.calls | "Count written" >> beam.Map(count_call, "written"),
    ) | "Flatten counts" >> beam.Flatten()
    summed = counts | "Sum counts" >> beam.CombinePerKey(sum)
    write(summed | "Shape counts" >> beam.Map(shape_count), output, "counts")


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.by_the_docs", description=__doc__)
    parser.add_argument("calls", metavar="CALLS.jsonl", help="what benchmarks.generate_calls has written")
    parser.add_argument("output", metavar="DIR", help="where the Parquet files go, a folder a table")
    arguments = parser.parse_args(argv)
    with beam.Pipeline(options=PipelineOptions([], runner=_RUNNER)) as pipeline:
        build(pipeline, arguments.calls, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
