"""What skew costs the email pipeline: as many lines of one email, or with a busy recipient, beside an even log.

Runs the whole program on three logs of one size, in turns, round after round, and checks each time that it has found
what the truth says. `x even` is the median of the rounds' ratios: 1 is what no skew costs.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.compare_email_calls import check_email_outputs
from benchmarks.generate_email_logs import Skew, Truth, generate_email_logs
from benchmarks.measure_process import Cost, ProgramFailed
from benchmarks.report_costs import make_markdown, make_table
from benchmarks.run_rounds import EnginesDiffer, positive, run_apart, run_rounds, working_folder

_COLUMNS = ("wall s", "CPU s", "CPU us a line", "peak MB", "CPU x even", "lines of the busiest recipient")


def measure_skew(folder: Path, lines: int, rounds: int, seed: int, progress: Console) -> list[tuple[str, ...]]:
    """A row for each kind of skew. Raises `EnginesDiffer` and `ProgramFailed`."""
    truths: dict[str, Truth] = {}
    for skew in Skew:
        with progress.status(f"generating {lines:,} lines, skew {skew}"):
            truths[skew.value] = run_apart(generate_email_logs, folder / f"{skew}.jsonl", lines, seed, skew)

    def check(outputs: dict[str, Path]) -> None:
        for skew, output in outputs.items():
            differences = run_apart(check_email_outputs, {f"the pipeline, skew {skew}": output}, truths[skew])
            if differences:
                raise EnginesDiffer("\n".join(differences))

    commands = {skew: _command(folder / f"{skew}.jsonl") for skew in truths}
    runs = run_rounds(commands, folder, folder, rounds, check, progress).runs
    return [_row(skew, runs, truths[skew]) for skew in runs]


def _command(log: Path) -> Callable[[str, str], list[str]]:
    return lambda _, output: ["pipelines.email_logs_to_segment", "--input_files", str(log), "--output_dir", output]


def _row(skew: str, runs: dict[str, list[Cost]], truth: Truth) -> tuple[str, ...]:
    costs = runs[skew]
    cpu = median(cost.cpu_s for cost in costs)
    ratios = (cost.cpu_s / even.cpu_s for cost, even in zip(costs, runs[Skew.NONE.value], strict=True))
    return (
        skew,
        f"{median(cost.wall_s for cost in costs):.1f}",
        f"{cpu:.1f}",
        f"{1e6 * cpu / truth.lines:.1f}",
        f"{median(cost.peak_rss_mb for cost in costs):,.0f}",
        f"{median(ratios):.2f}",
        f"{truth.lines_of_the_busiest:,}",
    )


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure_email_skew", description=__doc__)
    parser.add_argument("--lines", type=positive, default=200_000, help="of each log. Default: %(default)s")
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each log. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/performance.md has it")
    arguments = parser.parse_args(argv)
    try:
        with working_folder(None, "measure_email_skew_") as folder:
            rows = measure_skew(folder, arguments.lines, arguments.rounds, arguments.seed, Console(stderr=True))
    except (EnginesDiffer, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    title = f"{arguments.lines:,} lines, by skew"
    if arguments.markdown:
        print(make_markdown(title, _COLUMNS, rows))
    else:
        Console().print(make_table(title, _COLUMNS, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
