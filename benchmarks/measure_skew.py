"""What skew costs a pipeline: as many lines that gather somewhere, beside an even file.

  --calls N    of segment_to_bigquery: one user makes 30 % of all calls; or everybody is in one group
  --emails N   of email_logs_to_segment: one email goes to everybody; one recipient has 30 % of all lines; or half of
               them are rejected, as what providers say of emails on their way

Runs the whole program on files of one size, in turns, round after round, and checks each time that it has found
what the truth says. `x even` is the median of the rounds' ratios: 1 is what no skew costs. Wall time matters where
several worker processes share the work, for skew may leave it to one of them; other programs disturb it more.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from benchmarks import generate_calls, generate_email_logs
from benchmarks.compare_email_calls import check_email_outputs
from benchmarks.compare_results import check_outputs
from benchmarks.explain_pairs import explain_output, make_cause_markdown
from benchmarks.measure_process import ProgramFailed
from benchmarks.report_costs import EngineCosts, make_markdown, make_table, summarise_runs
from benchmarks.run_rounds import EnginesDiffer, positive, run_apart, run_rounds, working_folder

_EVEN = "none"
_COLUMNS = ("wall s", "CPU s", "CPU us a line", "peak MB", "wall x even", "CPU x even")


class Job(NamedTuple):
    """A pipeline, and how its lines may gather."""

    module: str
    skews: Sequence[str]
    generate: Callable[[Path, int, int, Any], Any]
    """The truth about so many lines of a seed and a skew, written to a path."""
    find_faults: Callable[[Path, Any, Path], list[str]]
    """Where the output of an input differs from its truth."""
    gathered: dict[str, str]
    """What the truth calls that which gathers -> how a table does."""


class Skewed(msgspec.Struct):
    """A kind of skew."""

    costs: EngineCosts
    gathered: dict[str, int]


def find_call_faults(source: Path, truth: generate_calls.Truth, output: Path) -> list[str]:
    """Where the rows, or a person whom the calls make known, differ from the truth."""
    faults, _ = check_outputs({"the pipeline": output}, truth)
    explained = explain_output(source, truth, output)
    return faults if explained.is_right() else [*faults, make_cause_markdown(explained)]


def find_email_faults(_: Path, truth: generate_email_logs.Truth, output: Path) -> list[str]:
    """Where the calls or dead letters differ from the truth."""
    return check_email_outputs({"the pipeline": output}, truth)


CALLS = Job(
    "pipelines.segment_to_bigquery",
    list(generate_calls.Skew),
    generate_calls.generate_calls,
    find_call_faults,
    {"calls_of_the_busiest": "calls of the busiest", "members_of_the_largest": "people of the largest group"},
)
EMAILS = Job(
    "pipelines.email_logs_to_segment",
    list(generate_email_logs.Skew),
    generate_email_logs.generate_email_logs,
    find_email_faults,
    {"lines_of_the_busiest": "lines of the busiest recipient"},
)


def measure_skew(
    job: Job, folder: Path, lines: int, rounds: int, seed: int, workers: Sequence[str], progress: Console
) -> dict[str, Skewed]:
    """Each kind of skew. Raises `EnginesDiffer` and `ProgramFailed`."""
    truths: dict[str, Any] = {}
    sources = {str(skew): folder / f"{skew}.jsonl" for skew in job.skews}
    for skew in job.skews:
        with progress.status(f"generating {lines:,} lines, skew {skew}"):
            truths[str(skew)] = run_apart(job.generate, sources[skew], lines, seed, skew)

    def check(outputs: dict[str, Path]) -> None:
        for skew, output in outputs.items():
            faults = run_apart(job.find_faults, sources[skew], truths[skew], output)
            if faults:
                raise EnginesDiffer("\n".join([f"wrong with skew {skew}, so no time is shown:", *faults]))

    commands = {skew: _make_command(job, source, workers) for skew, source in sources.items()}
    runs = run_rounds(commands, folder, folder, rounds, check, progress).runs
    return {
        skew: Skewed(costs, {what: getattr(truths[skew], name) for name, what in job.gathered.items()})
        for skew, costs in summarise_runs(runs, lines).items()
    }


def _make_command(job: Job, source: Path, workers: Sequence[str]) -> Callable[[str, str], list[str]]:
    return lambda _, output: [job.module, "--input_files", str(source), "--output_dir", output, *workers]


def _make_row(skew: str, skewed: Skewed, lines: int) -> tuple[str, ...]:
    costs = skewed.costs
    return (
        skew,
        f"{costs.wall_s:.1f}",
        f"{costs.cpu_s:.1f}",
        f"{1e6 * costs.cpu_s / lines:.1f}",
        f"{costs.peak_rss_mb:,.0f}",
        f"{costs.wall_ratios[_EVEN]:.2f}",
        f"{costs.cpu_ratios[_EVEN]:.2f}",
        *(f"{count:,}" for count in skewed.gathered.values()),
    )


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measure_skew",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  python -m benchmarks.measure_skew --calls 200000 --markdown
  python -m benchmarks.measure_skew --emails 200000 --workers 1

The exit code is 0 if every run found what the truth says, 1 if not or if one fails, 2 for a wrong flag.""",
    )
    job = parser.add_mutually_exclusive_group(required=True)
    job.add_argument("--calls", type=positive, metavar="N", help="so many calls in each file")
    job.add_argument("--emails", type=positive, metavar="N", help="so many lines of email logs in each file")
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each file. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="worker processes. Default: as the pipeline chooses"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every run and the medians here as well")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/performance.md has it")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    job, lines, what = (CALLS, arguments.calls, "calls") if arguments.calls else (EMAILS, arguments.emails, "lines")
    workers = [] if arguments.workers is None else [f"--direct_num_workers={arguments.workers}"]
    progress = Console(stderr=True, highlight=False)
    try:
        with working_folder(None, "measure_skew_") as folder:
            skews = measure_skew(job, folder, lines, arguments.rounds, arguments.seed, workers, progress)
    except (EnginesDiffer, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    rows = [_make_row(skew, skewed, lines) for skew, skewed in skews.items()]
    title, columns = f"{lines:,} {what}, by skew", (*_COLUMNS, *job.gathered.values())
    if arguments.markdown:
        print(make_markdown(title, columns, rows))
    else:
        Console().print(make_table(title, columns, rows))
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(skews), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
