"""The streaming job by the docs as a program: Pub/Sub in, Parquet out. `python -m benchmarks.drain_by_the_docs --help`.

What remembers is in `stream_by_the_docs.py`. Each call becomes a dict of a row, each row an element of its own, up to
the sink, which is the pipeline's: so the two differ in what comes before it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from benchmarks.by_the_docs import count_call
from benchmarks.play_calls import GiveMessagesFn
from benchmarks.shape_call_rows import shape_fact, shape_membership
from benchmarks.shape_columns import FACT_TABLES
from benchmarks.shape_ledger_rows import count_dead_letter, shape_count, shape_dead_letter
from benchmarks.stream_by_the_docs import WAYS, Call, resolve_stream
from pipelines.read import ReadSubscription
from pipelines.runners import make_options
from pipelines.settings import Settings, build_parser
from pipelines.write_parquet import WriteParquet
from schemas.rows import TableRows
from schemas.tables import arrow_schema, load_table


def shape_rows(call: Call) -> Iterator[TableRows]:
    """The rows of a call, one by one."""
    table = FACT_TABLES[call["type"]]
    yield pack_row(table, shape_fact(call))
    for row in shape_membership(call):
        yield pack_row("audience_memberships", row)


def shape_identity(row: dict[str, Any]) -> TableRows:
    """A row of `identities`; what is told later has the higher version."""
    return pack_row("identities", {**row, "version": time.time_ns() // 1000})


def pack_row(table: str, row: dict[str, Any]) -> TableRows:
    """One row as the sink takes it."""
    return TableRows(table, [tuple(row.get(column, empty) for column, empty in _columns(table))])


@cache
def _columns(table: str) -> list[tuple[str, Any]]:
    """The table's columns, and what stands in those that a row does not have: not NULL where that is refused."""
    empty = {pa.string(): "", pa.binary(): b"", pa.bool_(): False}
    return [
        (field.name, None if field.nullable else empty.get(field.type, 0)) for field in arrow_schema(load_table(table))
    ]


def build(messages: PCollection, way: str, output: str, window_seconds: int) -> None:
    """The whole pipeline behind Pub/Sub."""
    resolved = resolve_stream(messages, way, Settings.dedupe_horizon_seconds, window_seconds)
    dead_letters = resolved.rejected | "Shape dead letters" >> beam.Map(shape_dead_letter)
    counts = (
        resolved.counts,
        dead_letters | "Count rejected" >> beam.Map(count_dead_letter),
        resolved.calls | "Count written" >> beam.Map(count_call, "written"),
    ) | "Flatten counts" >> beam.Flatten()
    summed = (
        counts
        | "Window counts" >> beam.WindowInto(FixedWindows(window_seconds))
        | "Sum counts" >> beam.CombinePerKey(sum)
        | "Shape counts" >> beam.Map(lambda counted: pack_row("counts", shape_count(counted)))
        | "Counts globally" >> beam.WindowInto(GlobalWindows())
    )
    rows = (
        resolved.calls | "Shape rows" >> beam.FlatMap(shape_rows),
        resolved.identities | "Shape identities" >> beam.Map(shape_identity),
        dead_letters | "Pack dead letters" >> beam.Map(lambda row: pack_row("dead_letters", row)),
        summed,
    ) | "Flatten rows" >> beam.Flatten()
    _ = {"Rows": rows} | "Write Parquet" >> WriteParquet(output, window_seconds)


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.drain_by_the_docs",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="It runs until it is stopped. PUBSUB_EMULATOR_HOST says where Pub/Sub is, as for the pipeline.",
    )
    parser.add_argument("subscription", metavar="projects/P/subscriptions/S")
    parser.add_argument("output", metavar="DIR", help="where the Parquet files go, a folder a table")
    parser.add_argument(
        "--way", choices=WAYS, default="cell", help="how persons are held in state. Default: %(default)s"
    )
    parser.add_argument("--window_seconds", type=int, default=1, help="of files and counts. Default: %(default)s")
    arguments = parser.parse_args(argv)
    options = make_options([], build_parser(), input_files=None)
    pipeline = beam.Pipeline(options=options)
    # On Beam's own local reader a backlog is late, and its counts are dropped: the reader is the pipeline's.
    messages = (
        pipeline
        | "Read blocks" >> ReadSubscription(arguments.subscription, arguments.window_seconds)
        | "Read messages" >> beam.ParDo(GiveMessagesFn())
    )
    build(messages, arguments.way, arguments.output, arguments.window_seconds)
    pipeline.run().wait_until_finish()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
