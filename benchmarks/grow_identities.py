"""What the identity graph costs as it grows, for ordinary people and for the worst shapes.

Each shape is resolved at several sizes, as bounded input and as a stream, and every person is compared with the true
one; only then are times shown.

  ordinary people   2 user_ids, 2 emails and 3 devices each
  tangle            a user_id and an email each, and one user in ten shows the email of anybody else as well
  hub               one user_id on so many devices
  chain of aliases  one user_id that was renamed so many times, the aliases in any order: one person
  chain of emails   user_ids with two emails each, emails with two user_ids each: one person, after many merges

Bounded input is `resolve_links`. The stream is told a thousand links a window; its steps, shards, logs and encodings
are those of GrowGraph without Beam, whose local runner would hide them: a last table has the whole on that runner.

  size      identifiers
  us        microseconds of CPU time a link, the median of all rounds
  growth    the CPU time of all links by that of the size before, a tenth by default: then 10 is linear
  again     the same links told to the stream once more
  bytes     what the steps of the stream remember, for each identifier
  beyond    facts that the hops of the stream did not bring to their end, a link (`grow_graph/links_beyond_the_hops`)
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.invent_graphs import SHAPES
from benchmarks.measure_growth import BeamCosts, Growth, PersonsDiffer, measure_beam, measure_growth
from benchmarks.report_costs import describe_machine
from pipelines.runners import make_options
from pipelines.settings import build_parser as build_pipeline_parser

_COLUMNS = (
    "size", "links", "persons", "bounded us", "growth", "stream us", "growth", "again us", "bytes each",
    "beyond",
)  # fmt: skip
_BEAM_COLUMNS = ("links", "stream us", "again us")


class GrowthReport(msgspec.Struct):
    """All shapes at all sizes."""

    measured_on: str
    machine: dict[str, Any]
    rounds: int
    growths: list[Growth]
    beam: BeamCosts | None


def grow_identities(
    shapes: Sequence[str], sizes: Sequence[int], rounds: int, beam_size: int, progress: Console
) -> GrowthReport:
    """Measure them all. Raises `PersonsDiffer`."""
    # A local run's settings for this process, above all how rarely Python looks for garbage cycles.
    make_options([], build_pipeline_parser(), input_files=None)
    measure_growth(shapes[0], min(1_000, *sizes), 1)  # imports and caches
    growths = []
    for shape in shapes:
        for size in sorted(sizes):
            with progress.status(f"{shape}, {size:,} identifiers"):
                growth = measure_growth(shape, size, rounds)
            growths.append(growth)
            bounded, new = median(growth.bounded_us), median(growth.new_us)
            progress.print(f"{shape}, {size:,} identifiers: bounded {bounded:.0f} us a link, stream {new:.0f}")
    beam = None
    if beam_size:
        with progress.status(f"Beam's local runner, {beam_size:,} identifiers"):
            beam = measure_beam(beam_size, rounds)
    return GrowthReport(datetime.now(UTC).date().isoformat(), describe_machine(), rounds, growths, beam)


def _rows(report: GrowthReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    before: Growth | None = None
    for growth in report.growths:
        if before is not None and before.shape != growth.shape:
            before = None
        rows.append(
            (
                growth.shape,
                f"{growth.identifiers:,}",
                f"{growth.links:,}",
                f"{growth.persons:,}",
                f"{median(growth.bounded_us):.1f}",
                ""
                if before is None
                else f"{_total(growth, growth.bounded_us) / _total(before, before.bounded_us):.1f}",
                f"{median(growth.new_us):.0f}",
                "" if before is None else f"{_total(growth, growth.new_us) / _total(before, before.new_us):.1f}",
                f"{median(growth.repeated_us):.0f}",
                f"{growth.state_bytes / growth.identifiers:,.0f}",
                f"{growth.beyond_the_hops / growth.links:.3f}",
            )
        )
        before = growth
    return rows


def _total(growth: Growth, us: Sequence[float]) -> float:
    return median(us) * growth.links


def _beam_row(beam: BeamCosts) -> tuple[str, ...]:
    return f"{beam.links:,}", f"{median(beam.new_us):,.0f}", f"{median(beam.repeated_us):,.0f}"


def make_growth_tables(report: GrowthReport) -> list[Table]:
    """For a terminal."""
    tables: dict[str, Table] = {}
    for shape, *row in _rows(report):
        table = tables.setdefault(shape, _make_table(f"{shape}: every person exact", _COLUMNS))
        table.add_row(*row)
    if report.beam is not None:
        beam = _make_table("ResolveIdentities on Beam's local streaming runner", _BEAM_COLUMNS)
        beam.add_row(*_beam_row(report.beam))
        tables[""] = beam
    return list(tables.values())


def _make_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.replace(" ", "\n"), justify="right", vertical="bottom")
    return table


def make_growth_markdown(report: GrowthReport) -> str:
    """For docs/performance.md."""
    lines = [f"| {report.measured_on} | {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(report)]
    if report.beam is not None:
        lines += ["", f"| {' | '.join(_BEAM_COLUMNS)} |", f"|{'---:|' * len(_BEAM_COLUMNS)}"]
        lines.append(f"| {' | '.join(_beam_row(report.beam))} |")
    return "\n".join(lines)


def _size(text: str) -> int:
    number = int(text.replace(",", "").replace("_", ""))
    if number < 100:
        raise argparse.ArgumentTypeError("is at least 100")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is at least 1")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grow_identities",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look, in a quarter of a minute:
    python -m benchmarks.grow_identities --sizes 1000 --rounds 1 --beam 0

  one shape:
    python -m benchmarks.grow_identities --shapes "chain of aliases" --sizes 1000 10000 --beam 0

  the figures of docs/performance.md (several minutes):
    python -m benchmarks.grow_identities --markdown --json growth.json

The exit code is 0 if every person is exact, 1 if not, 2 for a wrong flag.""",
    )
    parser.add_argument(
        "--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), metavar="SHAPE", help="which. Default: all"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        default=[1_000, 10_000, 100_000],
        metavar="N",
        help="identifiers of each shape",
    )
    parser.add_argument("--rounds", type=_count, default=3, help="of each measurement. Default: %(default)s")
    parser.add_argument(
        "--beam", type=int, default=17_500, metavar="N", help="identifiers on Beam's runner; 0 leaves it out"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every round here as well")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    progress = Console(stderr=True, highlight=False)
    try:
        report = grow_identities(arguments.shapes, arguments.sizes, arguments.rounds, arguments.beam, progress)
    except PersonsDiffer as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.markdown:
        print(make_growth_markdown(report))
    else:
        Console().print(*make_growth_tables(report), sep="\n")
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
