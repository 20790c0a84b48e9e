"""What a file of calls costs: the pipeline beside the same job by the book, and beside a plain loop.

Generates calls whose truth is known, runs the three as whole programs, in turns, round after round, and checks after
each round that all wrote what the truth says, and in every cell what the pipeline wrote. Only then are times shown.

  the pipeline   python -m pipelines.segment_to_bigquery --input_files ... --output_dir ...
  by the docs    python -m benchmarks.by_the_docs: one dict a call, GroupByKey, CombineFn, side input, WriteToParquet
  plain loop     python -m benchmarks.plain_loop: one loop without Beam and with fewer columns, the floor

Times are of the whole program, its start included; CPU is user and system; memory is the peak of what all its processes
hold together; a ratio below 1 is faster. Precision and recall compare the persons with the true ones, as pairs of
identifiers: over all of them, and where the calls hold evidence enough (`benchmarks/find_evidence.py` says when), where
both must be 1. What is missed or wrong is counted by cause.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.compare_results import check_outputs
from benchmarks.explain_pairs import Explained, explain_output, make_cause_markdown, make_cause_tables
from benchmarks.generate_calls import Truth, generate_calls, write_truth
from benchmarks.measure_process import ProgramFailed
from benchmarks.report_bounded import Report, make_bounded_markdown, make_bounded_table, make_report
from benchmarks.report_costs import BY_THE_DOCS, PIPELINE, PLAIN_LOOP
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
from benchmarks.score_persons import Score

_COMMANDS: dict[str, Command] = {
    PIPELINE: lambda calls, output: ["pipelines.segment_to_bigquery", "--input_files", calls, "--output_dir", output],
    BY_THE_DOCS: lambda calls, output: ["benchmarks.by_the_docs", calls, output],
    PLAIN_LOOP: lambda calls, output: ["benchmarks.plain_loop", calls, output],
}


def compare_bounded(
    folder: Path, engines: Mapping[str, Command], calls: int, rounds: int, seed: int, progress: Console
) -> Report:
    """Generate, run and check in `folder`. Raises `EnginesDiffer` and `ProgramFailed`."""
    calls_path = folder / "calls.jsonl"
    with progress.status(f"generating {calls:,} calls"):
        truth = run_apart(generate_calls, calls_path, calls, seed)
    write_truth(folder / "truth.json", truth)
    progress.print(f"generated {calls:,} calls, {calls_path.stat().st_size / 1e6:,.0f} MB")
    runs, outputs, scores = run_rounds(
        engines, calls_path, folder, rounds, lambda outputs: _check(outputs, truth), progress
    )
    with progress.status("explaining what is missed and wrong"):
        explained = _explain(calls_path, truth, next(iter(outputs.values())))
    return make_report(runs, scores, explained, calls, seed, datetime.now(UTC))


def _check(outputs: dict[str, Path], truth: Truth) -> dict[str, Score]:
    differences, scores = run_apart(check_outputs, outputs, truth)
    if differences:
        raise EnginesDiffer("\n".join(["the engines differ, so no time is shown:", *differences]))
    return scores


def _explain(calls: Path, truth: Truth, output: Path) -> Explained:
    explained = run_apart(explain_output, calls, truth, output)
    if not explained.is_right():
        raise EnginesDiffer(f"the engines agree, and are wrong, so no time is shown:\n{make_cause_markdown(explained)}")
    return explained


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_bounded",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look, in half a minute:
    python -m benchmarks.compare_bounded --calls 20000 --rounds 1

  the figures of docs/performance.md (some minutes; let nothing else run):
    python -m benchmarks.compare_bounded --calls 200000 --markdown --json costs.json

  keep what was written, to look at it:
    python -m benchmarks.compare_bounded --calls 2000 --rounds 1 --output compared

The exit code is 0 if all three agree and the calls explain every pair that is missed or wrong, 1 if not or if one of
them fails, 2 for a wrong flag.""",
    )
    parser.add_argument("--calls", type=positive, default=200_000, help="lines to generate. Default: %(default)s")
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each engine. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    add_engine_flags(parser)
    parser.add_argument(
        "--output", type=new_folder, metavar="DIR", help="keep calls, truth and the last round here. Default: nowhere"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every run and the medians here as well")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/performance.md has it")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    engines = choose_engines(_COMMANDS, arguments)
    progress = Console(stderr=True, highlight=False)
    try:
        with working_folder(arguments.output, "compare_bounded_") as folder:
            report = compare_bounded(folder, engines, arguments.calls, arguments.rounds, arguments.seed, progress)
    except (EnginesDiffer, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.markdown:
        print(make_bounded_markdown(report), make_cause_markdown(report.persons), sep="\n\n")
    else:
        Console().print(make_bounded_table(report), *make_cause_tables(report.persons), sep="\n")
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
