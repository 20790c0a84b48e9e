"""What a stream of calls costs: the pipeline beside the same job as Beam's documentation teaches it.

Two questions, both with whole programs, in turns, round after round, on the runner of local streams:

  state    The steps that remember, from messages to calls with their persons: parsing, de-duplication, identity. The
           lines of a file are played as a stream (Beam's TestStream): 5,000 a read and a window. Each program looks at
           its own clocks when the first 100 calls are done with, and at the end; what only reading the messages costs
           is subtracted.
  pubsub   Whole jobs from Pub/Sub to Parquet, in windows of one second: Google's emulator if it is installed, else the
           embedded one. A backlog that drains; and with --rates a steady stream, from publish to the visible row.

By the docs (`stream_by_the_docs.py`): one dict an element, a state cell and a timer a message, and persons in
one cell a workspace, read and written by each call. --ways names other ways that the documentation shows.

After each round it is compared what came of the calls: how many of each type are written, duplicates, rejections by
reason, and the person of each identifier. All must equal each other and the generator's truth, or no time is shown.
(From Pub/Sub it depends on the moment whether an identify without an email is written: those are counted as one.)
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from pathlib import Path

import msgspec
from rich.console import Console

from benchmarks.compare_results import compare_values, expected_facts, read_result
from benchmarks.generate_calls import Truth, generate_calls
from benchmarks.measure_process import ProgramFailed
from benchmarks.measure_pubsub import Command, Program, drain_backlog, measure_latencies
from benchmarks.measure_stream_state import StateCost, measure_state
from benchmarks.report_streams import PubsubCost, make_stream_markdown, make_stream_report, make_stream_tables
from benchmarks.run_rounds import EnginesDiffer, new_folder, positive, run_apart, working_folder
from benchmarks.stream_engines import BY_THE_DOCS, PIPELINE
from scripts.start_pubsub import start_pubsub

_WINDOW_SECONDS = "1"
_STEADY_SECONDS = 30
_PATIENCE_SECONDS = 900.0

_COMMANDS: dict[str, Command] = {
    PIPELINE: lambda subscription, output: [
        *("pipelines.segment_to_bigquery", "--input_subscription", subscription),
        *("--output_dir", output, "--window_seconds", _WINDOW_SECONDS),
    ],
    "by the docs": lambda subscription, output: [
        *("benchmarks.drain_by_the_docs", subscription, output, "--window_seconds", _WINDOW_SECONDS)
    ],
}


def compare_state(arguments: argparse.Namespace, folder: Path, progress: Console) -> dict[str, list[StateCost]]:
    """The first question. Raises `EnginesDiffer` and `ProgramFailed`."""
    by_the_docs = {name: arguments.sizes for name, way in BY_THE_DOCS.items() if way in arguments.ways}
    ours = sorted({*arguments.sizes, *arguments.larger})
    return measure_state(
        {PIPELINE: ours, **by_the_docs}, folder, arguments.rounds, arguments.seed, arguments.calls_a_window, progress
    )


def compare_pubsub(arguments: argparse.Namespace, folder: Path, progress: Console) -> tuple[str, dict[str, PubsubCost]]:
    """The second question: which emulator it was, and what it cost. Raises `EnginesDiffer` and `ProgramFailed`."""
    truth = run_apart(generate_calls, folder / "backlog.jsonl", arguments.backlog, arguments.seed)
    lines = (folder / "backlog.jsonl").read_bytes().splitlines()
    costs = {name: PubsubCost([], [], []) for name in _COMMANDS}
    with start_pubsub() as running:
        os.environ["PUBSUB_EMULATOR_HOST"] = running.host
        for number in range(1, arguments.rounds + 1):
            outputs: dict[str, Path] = {}
            for name, command in _COMMANDS.items():
                new = _numbered_programs(command, folder / f"round_{number}" / name.replace(" ", "_"))
                with progress.status(f"round {number} of {arguments.rounds}: {name}"):
                    costs[name].starts.append(drain_backlog(new(), lines[:1]))
                    program = new()
                    costs[name].drains.append(drain_backlog(program, lines))
                    outputs[name] = program.output
                    for rate in arguments.rates:
                        steady = list(chain.from_iterable(repeat(lines, 1 + rate * _STEADY_SECONDS // len(lines))))
                        costs[name].latencies.append(
                            measure_latencies(new(), steady[: 1 + rate * _STEADY_SECONDS], rate)
                        )
                progress.print(f"round {number} of {arguments.rounds}: {name} {costs[name].drains[-1].whole_s:.1f} s")
            run_apart(check_tables, outputs, truth)
            shutil.rmtree(folder / f"round_{number}")
    return running.kind, costs


def _settle(facts: dict[str, int]) -> dict[str, int]:
    """Without what depends on the moment in which Pub/Sub delivers.

    Whether an identify without an email is written goes by who is known by the end of its window, and with it whether
    Engage's audience changes: what is written and what is rejected of them is counted together.
    """
    rejected, written = "rejected identify_without_email", "written identify"
    settled = {fact: count for fact, count in facts.items() if fact not in (rejected, "audience changes")}
    return settled | {written: facts.get(written, 0) + facts.get(rejected, 0)}


def check_tables(outputs: dict[str, Path], truth: Truth) -> None:
    """Raise `EnginesDiffer` unless all wrote what the truth says, and the same persons of identifiers."""
    results = {name: read_result(output) for name, output in outputs.items()}
    reference = results[PIPELINE].identities
    found = [] if reference else ["there are no persons"]
    for name, result in results.items():
        found += compare_values(f"{name} and the truth", _settle(result.facts), _settle(expected_facts(truth)))
        found += compare_values(f"{name} and {PIPELINE}, persons", result.identities, reference)
    if found:
        raise EnginesDiffer("\n".join(["the engines differ, so no time is shown:", *found]))


def _numbered_programs(command: Command, folder: Path) -> Callable[[], Program]:
    numbers = iter(range(1_000_000))
    return lambda: Program(command, folder / f"run_{next(numbers)}" / "out", _PATIENCE_SECONDS)


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_streams",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look, in a minute:
    python -m benchmarks.compare_streams --only state --sizes 2000 --larger 4000 --rounds 1

  the figures of docs/performance.md (a quarter of an hour; let nothing else run):
    python -m benchmarks.compare_streams --rates 100 --markdown --json streams.json

The exit code is 0 if all agree, 1 if not or if one of them fails, 2 for a wrong flag.""",
    )
    parser.add_argument("--only", choices=("state", "pubsub"), help="one of the two questions. Default: both")
    parser.add_argument(
        "--sizes", type=positive, nargs="+", default=[2_000, 16_000], help="calls, for both. Default: %(default)s"
    )
    parser.add_argument(
        "--larger", type=positive, nargs="*", default=[200_000], help="for the pipeline alone. Default: %(default)s"
    )
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=tuple(BY_THE_DOCS.values()),
        default=["cell"],
        help="how those by the docs hold persons in state; `combining` takes minutes. Default: %(default)s",
    )
    parser.add_argument("--calls_a_window", type=positive, default=5_000, help="for `state`. Default: %(default)s")
    parser.add_argument("--backlog", type=positive, default=16_000, help="calls, for `pubsub`. Default: %(default)s")
    parser.add_argument(
        "--rates", type=positive, nargs="*", default=[], help="calls a second, for half a minute each. Default: none"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each engine. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    parser.add_argument(
        "--output", type=new_folder, metavar="DIR", help="keep calls and results here. Default: nowhere"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every run and the medians here as well")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    progress = Console(stderr=True, highlight=False)
    state: dict[str, list[StateCost]] = {}
    pubsub: dict[str, PubsubCost] = {}
    emulator = None
    try:
        with working_folder(arguments.output, "compare_streams_") as folder:
            if arguments.only != "pubsub":
                state = compare_state(arguments, folder, progress)
            if arguments.only != "state":
                emulator, pubsub = compare_pubsub(arguments, folder, progress)
    except (EnginesDiffer, ProgramFailed) as error:
        print(error, file=sys.stderr)
        return 1
    report = make_stream_report(arguments.rounds, state, pubsub, emulator, datetime.now(UTC))
    if arguments.markdown:
        print(make_stream_markdown(report))
    else:
        Console().print(*make_stream_tables(report), sep="\n")
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
