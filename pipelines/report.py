"""What a local run tells the person who started it: progress while it runs, a summary at the end."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import MetricsFilter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table

from pipelines.bytes_read import BYTES_READ
from pipelines.read import UnreadableFileError
from pipelines.segment_endpoint import SegmentUnreachableError
from pipelines.usage import INTERRUPTED, interrupt_again
from pipelines.write_key import NoWriteKeyError
from transforms.rejection_limit import MostlyRejectedError

# The exit code of a run that its input stopped, not a bug.
FAILED = 1

_EXPECTED = (
    KeyboardInterrupt,
    MostlyRejectedError,
    NoWriteKeyError,
    SegmentUnreachableError,
    UnreadableFileError,
)

# They show the stack of every error, and repeat it when it passes another step.
_BEAM_LOGGERS = tuple(
    logging.getLogger(f"apache_beam.runners.{name}") for name in ("common", "direct.executor", "worker.sdk_worker")
)


def find_expected(error: BaseException | None) -> BaseException | None:
    """The error as it was raised, if it needs no stack to be understood; None if it does.

    Beam raises errors anew with the name of the step, a Ctrl-C even as a RuntimeError: the first of the chain counts.
    What a worker process raised comes as the text of its traceback.
    """
    found: BaseException | None = None
    while error is not None:
        if isinstance(error, _EXPECTED):
            found = error
        elif isinstance(error, RuntimeError):
            found = _find_told(str(error)) or found
        error = error.__cause__ or error.__context__
    return found


def _find_told(traceback: str) -> BaseException | None:
    for kind in _EXPECTED:
        told = re.search(rf"^{kind.__module__}\.{kind.__qualname__}: (.*)", traceback, re.MULTILINE)
        if told is not None:
            return kind(told[1])
    return None


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    return find_expected(error) is None


class Reported(NamedTuple):
    """What a report is about."""

    program: str
    input_files: str | None
    input_subscription: str | None
    outputs: dict[str, str | None]
    """What it is -> where it is."""
    unit: str
    """What came in: `messages`."""
    read_outcomes: Callable[[dict[str, int]], dict[str, int]]
    """From counters, `namespace/name` -> value, to outcome -> how many ended so."""
    describe: Callable[[dict[str, int]], list[str]]
    """From counters to what else is worth a line."""


def run_reported(pipeline: Any, about: Reported, local: bool, complete: Callable[[], None]) -> int:
    """Run a pipeline to its end with a report of it; `complete` is called when all is written. The exit code."""
    interrupt_again()
    try:
        with Report(about, local) as report:
            result = pipeline.run()
            result.wait_until_finish()
            complete()
        report.finish(result)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        BYTES_READ.unshare()
    return 0


class Report:
    """Progress on stderr for a run in this process (a bar on a terminal, else a line now and then), then a summary."""

    def __init__(self, about: Reported, local: bool) -> None:
        self._about = about
        self._local = local
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_progress, daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> "Report":
        if self._local and self._about.input_files is not None:
            self._thread.start()
        elif self._local:
            self._console.print(f"Reading {self._about.input_subscription}; Ctrl-C stops.", soft_wrap=True)
        if self._local:
            for logger in _BEAM_LOGGERS:
                logger.addFilter(_is_unexpected)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for logger in _BEAM_LOGGERS:
            logger.removeFilter(_is_unexpected)
        cause = find_expected(error) if self._local else None
        if isinstance(cause, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if cause is not None:
            print(f"{self._about.program}: {cause}", file=sys.stderr)  # noqa: T201
            sys.exit(FAILED)

    def finish(self, result: Any) -> None:
        """Show how the input ended, from the counters of a run that has finished."""
        if not self._local:
            return
        counters = read_counters(result)
        ended = self._about.read_outcomes(counters)
        seconds = time.monotonic() - self._started
        title = f"{sum(ended.values()):,} {self._about.unit} in {seconds:,.1f} s"
        table = Table(title=title, title_justify="left", min_width=len(title))
        table.add_column("outcome")
        table.add_column(self._about.unit, justify="right")
        for outcome, count in ended.items():
            table.add_row(outcome, f"{count:,}")
        self._console.print(table)
        for line in self._about.describe(counters):
            self._console.print(line, soft_wrap=True)
        for name, where in self._about.outputs.items():
            if where is not None:
                self._console.print(f"{name}: {where}", soft_wrap=True)

    def _show_progress(self) -> None:
        before = BYTES_READ.total
        total = sum(file.size_in_bytes for file in FileSystems.match([str(self._about.input_files)])[0].metadata_list)
        columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
        if not sys.stderr.isatty():
            while not self._stop.wait(10):
                read = BYTES_READ.total - before
                self._console.print(f"read {read / 1e6:,.0f} of {total / 1e6:,.0f} MB, {read / max(total, 1):.0%}")
            return
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task("reading", total=total)
            while not self._stop.wait(0.1):
                progress.update(task, completed=BYTES_READ.total - before)


def read_counters(result: Any) -> dict[str, int]:
    """`namespace/name` -> value, of a pipeline result."""
    counters: dict[str, int] = {}
    for counter in result.metrics().query(MetricsFilter())["counters"]:
        key = f"{counter.key.metric.namespace}/{counter.key.metric.name}"
        counters[key] = counters.get(key, 0) + counter.result
    return counters
