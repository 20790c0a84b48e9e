"""What a log of emails costs as it grows: the pipeline beside the same job by the book, and beside a plain loop.

Generates SendGrid events whose truth is known, runs the three as whole programs, in turns, round after round, and
checks after each round that all three made the same calls, content and all, with the same dead letters, and as many as
the truth says. Only then are times shown.

  the pipeline   python -m pipelines.email_logs_to_segment --input_files ... --output_dir ...
  by the docs    python -m benchmarks.email_by_the_docs: one dict a line, GroupByKey by event, GroupByKey by email
  plain loop     python -m benchmarks.email_plain_loop: one loop without Beam, the floor and the oracle

The three share no code that decides what is first. The baselines share how a call is written, and that is not the
pipeline's either. Times are of the whole program, its start included; CPU is user and system; memory is the peak of
what all its processes hold together. A ratio is the median of those of all rounds: another program that slows a round
slows both sides of it. Below 1 is faster. With several sizes a last table has the CPU microseconds a line, start
included: flat or falling if growth is linear.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.compare_email_calls import check_email_outputs
from benchmarks.generate_email_logs import Skew, Truth, generate_email_logs
from benchmarks.measure_process import ProgramFailed
from benchmarks.report_costs import (
    BY_THE_DOCS,
    PIPELINE,
    PLAIN_LOOP,
    EngineCosts,
    cost_cells,
    cost_columns,
    describe_machine,
    make_markdown,
    make_table,
    ratio_cells,
    ratio_columns,
    summarise_runs,
)
from benchmarks.run_rounds import (
    Command,
    EnginesDiffer,
    add_engine_flags,
    choose_engines,
    new_folder,
    positive,
    run_apart,
    run_rounds,
    working_folder,
)

_COMMANDS: dict[str, Command] = {
    PIPELINE: lambda log, output: ["pipelines.email_logs_to_segment", "--input_files", log, "--output_dir", output],
    BY_THE_DOCS: lambda log, output: ["benchmarks.email_by_the_docs", log, output],
    PLAIN_LOOP: lambda log, output: ["benchmarks.email_plain_loop", log, output],
}
_READ_UPDATES = {PIPELINE: "--identity_files", BY_THE_DOCS: "--updates", PLAIN_LOOP: "--updates"}

_COLUMNS = (*cost_columns("lines"), *ratio_columns())


class SizeReport(msgspec.Struct):
    """All engines on a log of one size."""

    lines: int
    calls: int
    megabytes: float
    lines_of_the_busiest: int
    """Recipient."""
    engines: dict[str, EngineCosts]


class EmailReport(msgspec.Struct):
    """One comparison."""

    measured_on: str
    machine: dict[str, Any]
    seed: int
    skew: Skew
    identities: bool
    """Whether identity updates were read as well."""
    rounds: int
    sizes: list[SizeReport]


def compare_emails(
    folder: Path,
    engines: Mapping[str, Command],
    lines: int,
    rounds: int,
    seed: int,
    skew: Skew,
    identities: bool,
    progress: Console,
) -> SizeReport:
    """Generate, run and check in `folder`. Raises `EnginesDiffer` and `ProgramFailed`."""
    folder.mkdir()
    log, updates = folder / "log.jsonl", folder / "updates.jsonl" if identities else None
    with progress.status(f"generating {lines:,} lines"):
        truth: Truth = run_apart(generate_email_logs, log, lines, seed, skew, updates)
    if updates is not None:
        engines = {name: add_updates(command, _READ_UPDATES[name], updates) for name, command in engines.items()}
    (folder / "truth.json").write_bytes(msgspec.json.format(msgspec.json.encode(truth), indent=1))
    megabytes = log.stat().st_size / 1e6
    progress.print(f"generated {lines:,} lines, {megabytes:,.0f} MB")
    runs = run_rounds(engines, log, folder, rounds, lambda outputs: _check(outputs, truth), progress).runs
    costs = summarise_runs(runs, lines)
    return SizeReport(lines, sum(truth.calls.values()), megabytes, truth.lines_of_the_busiest, costs)


def add_updates(command: Command, flag: str, updates: Path) -> Command:
    """The same, with identity updates."""
    return lambda log, output: [*command(log, output), flag, str(updates)]


def _check(outputs: dict[str, Path], truth: Truth) -> None:
    differences = run_apart(check_email_outputs, outputs, truth)
    if differences:
        raise EnginesDiffer("\n".join(["the engines differ, so no time is shown:", *differences]))


def _title(size: SizeReport, report: EmailReport) -> str:
    skewed = "" if report.skew == Skew.NONE else f", skew {report.skew}"
    return f"{size.lines:,} lines{skewed}{', with identity updates' if report.identities else ''}"


def _rows(size: SizeReport) -> list[tuple[str, ...]]:
    return [(name, *cost_cells(name, size.engines), *ratio_cells(name, size.engines)) for name in size.engines]


def _growth_rows(report: EmailReport) -> list[tuple[str, ...]]:
    return [
        (name, *(f"{1e6 * size.engines[name].cpu_s / size.lines:.1f}" for size in report.sizes))
        for name in report.sizes[0].engines
    ]


def _growth_columns(report: EmailReport) -> list[str]:
    return [f"{size.lines:,}" for size in report.sizes]


def make_email_tables(report: EmailReport) -> list[Table]:
    """For a terminal: an engine a column."""
    title = f"medians of {report.rounds} rounds (lowest to highest)"
    tables = [make_table(f"{_title(size, report)}, {title}", _COLUMNS, _rows(size)) for size in report.sizes]
    if len(report.sizes) > 1:
        tables.append(make_table("CPU us a line", _growth_columns(report), _growth_rows(report)))
    return tables


def make_email_markdown(report: EmailReport) -> str:
    """For docs/performance.md."""
    tables = [
        make_markdown(f"{_title(size, report)}, {report.measured_on}", _COLUMNS, _rows(size)) for size in report.sizes
    ]
    if len(report.sizes) > 1:
        title = f"CPU us a line, {report.measured_on}"
        tables.append(
            make_markdown(title, [f"{column} lines" for column in _growth_columns(report)], _growth_rows(report))
        )
    return "\n\n".join(tables)


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_emails",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look, in a quarter of a minute:
    python -m benchmarks.compare_emails --lines 20000 --rounds 1

  the figures of docs/performance.md (a quarter of an hour and 4 GB of memory; let nothing else run):
    python -m benchmarks.compare_emails --lines 20000 200000 1000000 --markdown --json costs.json

  everything at one recipient, or one email to everybody:
    python -m benchmarks.compare_emails --lines 200000 --skew recipient
    python -m benchmarks.compare_emails --lines 200000 --skew campaign

  with updates of who is who, as segment_to_bigquery gives them:
    python -m benchmarks.compare_emails --lines 200000 --identities

  keep what was written, to look at it:
    python -m benchmarks.compare_emails --lines 2000 --rounds 1 --output compared

The exit code is 0 if all three agree with each other and the truth, 1 if not or if one of them fails, 2 for a wrong
flag.""",
    )
    parser.add_argument(
        "--lines",
        type=positive,
        nargs="+",
        default=[200_000],
        metavar="N",
        help="to generate; several numbers measure several logs. Default: 200000",
    )
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each engine. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    add_engine_flags(parser)
    parser.add_argument(
        "--skew",
        type=Skew,
        choices=list(Skew),
        default=Skew.NONE,
        help="campaign: one email to everybody; recipient: one has 30 %% of all lines. Default: %(default)s",
    )
    parser.add_argument(
        "--identities", action="store_true", help="who is who is told by identity updates, which all three read as well"
    )
    parser.add_argument(
        "--output", type=new_folder, metavar="DIR", help="keep logs, truth and last rounds here. Default: nowhere"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every run and the medians here as well")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    engines = choose_engines(_COMMANDS, arguments)
    progress = Console(stderr=True, highlight=False)
    sizes = []
    try:
        for lines in sorted(set(arguments.lines)):
            with working_folder(arguments.output, "compare_emails_") as folder:
                sizes.append(
                    compare_emails(
                        folder / f"{lines}_lines",
                        engines,
                        lines,
                        arguments.rounds,
                        arguments.seed,
                        arguments.skew,
                        arguments.identities,
                        progress,
                    )
                )
    except (EnginesDiffer, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    now = datetime.now(UTC).date().isoformat()
    report = EmailReport(
        now, describe_machine(), arguments.seed, arguments.skew, arguments.identities, arguments.rounds, sizes
    )
    if arguments.markdown:
        print(make_email_markdown(report))
    else:
        Console().print(*make_email_tables(report), sep="\n")
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
