"""The same job as Beam's documentation teaches it: one line, one dict, one row, from the first step to the last.

ReadFromText, json.loads, GroupByKey by message for the duplicates, a CombineFn for the persons, a side input to join
them back, WriteToParquet for each table. It runs on the same runner as the pipeline.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.io.textio import ReadFromText
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict, PCollection, TaggedOutput

from benchmarks.check_calls import find_fault, read_micros
from benchmarks.shape_columns import (
    FACT_TABLES,
    audience_values,
    caller_email,
    caller_values,
    columns_of,
    context_values,
    event_values,
    organisation_values,
    person_values,
    schema_of,
)
from benchmarks.unite_persons import UnitePersons
from schemas.rejections import Reason

Call: TypeAlias = dict[str, Any]
Row: TypeAlias = dict[str, Any]

WORKSPACE = "default"
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
        if fault is None:
            yield call
        else:
            yield TaggedOutput("rejected", (fault.value, line))


class KeepEarliest(beam.DoFn):
    """Of all deliveries of a message the first; the others are counted."""

    def process(self, group: tuple[tuple[str, str], Iterable[Call]]) -> Iterator[Any]:
        """Give the call, and a count for each duplicate."""
        first, *rest = sorted(group[1], key=lambda call: str(call["receivedAt"]))
        yield first
        for call in rest:
            yield TaggedOutput("counts", ((call["type"], "duplicate"), 1))


class ResolveCaller(beam.DoFn):
    """Add the caller's person to a call, or reject an identify that tells nothing of an unknown caller."""

    def process(self, call: Call, persons: dict[str, dict[tuple[str, str], str]]) -> Iterator[Any]:
        """Give one of the two."""
        email = find_email(call)
        identifier_type, identifier = caller_values(call.get("userId"), email, call.get("anonymousId"))
        person_id = persons.get(WORKSPACE, {}).get((identifier_type, identifier))
        if call["type"] == "identify" and email is None and person_id is None:
            yield TaggedOutput("rejected", (Reason.IDENTIFY_WITHOUT_EMAIL.value, json.dumps(call)))
        else:
            caller = {"identifier_type": identifier_type, "identifier": identifier, "person_id": person_id}
            yield {**call, "caller": caller}


def find_email(call: Call) -> str | None:
    """The email that the call says of its caller."""
    return caller_email(call["type"], call["context"], call.get("traits", {}))


def find_body(call: Call) -> dict[str, Any]:
    """The call's traits or properties."""
    body: dict[str, Any] = call.get("traits") or call.get("properties") or {}
    return body


def make_link(call: Call) -> dict[str, Any]:
    """What the call says of who is who."""
    return {
        "user_id": call.get("userId"),
        "email": find_email(call),
        "anonymous_id": call.get("anonymousId"),
        "previous_id": call.get("previousId") if call["type"] == "alias" else None,
        "timestamp": read_micros(call["timestamp"]),
    }


def shape_fact(call: Call) -> Row:
    """The row of a call."""
    table = FACT_TABLES[call["type"]]
    body, context = find_body(call), call["context"]
    values: tuple[Any, ...] = ()
    if table == "activities":
        values = event_values(call["type"], call.get("event"), call.get("name"), call.get("category"))
        values += (json.dumps(body), json.dumps(context), *context_values(context))
    elif table == "identifies":
        values = (json.dumps(body), *person_values(body), json.dumps(context), *context_values(context))
    elif table == "group_identifies":
        values = (call["groupId"], json.dumps(body), *organisation_values(body))
        values += (json.dumps(context), *context_values(context))
    elif table == "aliases":
        values = (call["previousId"], json.dumps(context))
    return _make_row(table, call, values)


def shape_membership(call: Call) -> Iterator[Row]:
    """The audience that a call tells of."""
    values = audience_values(call["context"], find_body(call))
    if values is not None:
        yield _make_row("audience_memberships", call, values)


def _make_row(table: str, call: Call, values: tuple[Any, ...]) -> Row:
    row = {
        "workspace_id": WORKSPACE,
        "message_id": call["messageId"],
        **call["caller"],
        "user_id": call.get("userId"),
        "anonymous_id": call.get("anonymousId"),
        "timestamp": read_micros(call["timestamp"]),
        "sent_at": read_micros(call["sentAt"]),
        "received_at": read_micros(call["receivedAt"]),
    }
    own = [column for column in columns_of(table) if column not in row]
    return {**row, **dict(zip(own, values, strict=True))}


def shape_identities(persons: tuple[str, dict[tuple[str, str], str]]) -> Iterator[Row]:
    """The rows of a workspace's persons."""
    for (identifier_type, identifier), person_id in persons[1].items():
        yield {
            "workspace_id": persons[0],
            "identifier_type": identifier_type,
            "identifier": identifier,
            "person_id": person_id,
        }


def shape_dead_letter(rejected: tuple[str, str]) -> Row:
    """The row of a rejection."""
    return {"workspace_id": WORKSPACE, "reason": rejected[0], "payload": rejected[1].encode()}


def shape_count(counted: tuple[tuple[str, str], int]) -> Row:
    """The row of a count."""
    (call_type, outcome), count = counted
    return {"workspace_id": WORKSPACE, "type": call_type, "outcome": outcome, "count": count}


def write(rows: PCollection, output: str, table: str) -> None:
    """Rows to the Parquet files of their table."""
    _ = rows | f"Write {table}" >> WriteToParquet(
        f"{output}/{table}/part", schema_of(table), codec="zstd", file_name_suffix=".parquet"
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
        | "Unite persons" >> beam.CombinePerKey(UnitePersons(WORKSPACE))
    )
    resolved = unique.calls | "Resolve callers" >> beam.ParDo(ResolveCaller(), AsDict(persons)).with_outputs(
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
    rejected = (parsed.rejected, resolved.rejected) | "Flatten rejected" >> beam.Flatten()
    write(rejected | "Shape dead letters" >> beam.Map(shape_dead_letter), output, "dead_letters")
    counts = (
        unique.counts,
        rejected | "Count rejected" >> beam.Map(lambda rejected: (("unknown", "rejected"), 1)),
        resolved.calls | "Count written" >> beam.Map(lambda call: ((call["type"], "written"), 1)),
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
