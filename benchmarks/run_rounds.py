"""Programs that do the same job, run in turns; after each round it is compared what each has written."""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from rich.console import Console

from benchmarks.measure_process import Cost, measure_process
from benchmarks.report_costs import ENGINES, PIPELINE

Answer = TypeVar("Answer")
Command: TypeAlias = Callable[[str, str], list[str]]
"""The module and arguments for an input and an output."""


class EnginesDiffer(Exception):  # noqa: N818 - a finding, told as it is
    """The engines did not do the same job: no time means anything."""


class Rounds(NamedTuple, Generic[Answer]):
    """What all rounds came to."""

    runs: dict[str, list[Cost]]
    """By engine, round by round."""
    outputs: dict[str, Path]
    """What each engine has written in the last round."""
    answer: Answer
    """What the last comparison has found."""


def run_rounds(
    commands: Mapping[str, Command],
    source: Path,
    folder: Path,
    rounds: int,
    compare: Callable[[dict[str, Path]], Answer],
    progress: Console,
) -> Rounds[Answer]:
    """Run all in turns on `source`, and compare what they have written below `folder`.

    Raises what `compare` raises, and `ProgramFailed`.
    """
    runs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(1, rounds + 1):
        outputs = {name: folder / f"round_{number}" / name.replace(" ", "_") for name in commands}
        for name, output in outputs.items():
            output.parent.mkdir(exist_ok=True)
            with progress.status(f"round {number} of {rounds}: {name}"):
                command = [sys.executable, "-m", *commands[name](str(source), str(output))]
                cost = measure_process(command, output.with_suffix(".log"))
            runs[name].append(cost)
            progress.print(f"round {number} of {rounds}: {name} {cost.wall_s:.1f} s, {cost.peak_rss_mb:,.0f} MB")
        with progress.status(f"round {number} of {rounds}: comparing what was written"):
            answer = compare(outputs)
        if number < rounds:
            shutil.rmtree(folder / f"round_{number}")
    return Rounds(runs, outputs, answer)


def choose_engines(commands: Mapping[str, Command], arguments: argparse.Namespace) -> dict[str, Command]:
    """Those that the flags of `add_engine_flags` ask for."""
    workers = [] if arguments.workers is None else [f"--direct_num_workers={arguments.workers}"]
    pipeline = commands[PIPELINE]
    chosen = {**commands, PIPELINE: lambda source, output: [*pipeline(source, output), *workers]}
    return {name: command for name, command in chosen.items() if name in arguments.engines}


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Which programs run, and with how many worker processes."""
    names = ", ".join(ENGINES)
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, default=ENGINES, metavar="NAME", help=f"of {names}. Default: all"
    )
    parser.add_argument(
        "--workers", type=positive, metavar="N", help="worker processes of the pipeline. Default: as it chooses"
    )


def run_apart(function: Callable[..., Answer], *arguments: Any) -> Answer:
    """Call it in another process: memory that this one took would be counted as that of the programs it starts."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def working_folder(output: Path | None, prefix: str) -> Iterator[Path]:
    """The folder to work in: this one and kept, or one that is gone afterwards."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        yield output
        return
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)


def positive(text: str) -> int:
    """A flag's value: a count of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is at least 1")
    return number


def new_folder(text: str) -> Path:
    """A flag's value: a folder that has nothing in it."""
    folder = Path(text)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise argparse.ArgumentTypeError(f"{text!r} is there and not an empty folder; name another")
    return folder
