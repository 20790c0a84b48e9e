"""What a local run tells the person who started it: progress while it runs, a summary at the end."""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import MetricsFilter
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn
from rich.table import Table

from pipelines.read import BYTES_READ, UnreadableFileError
from pipelines.settings import Settings
from transforms.logic.shape_rows import FACT_TABLES
from transforms.parse_calls import MostlyRejectedError

# The exit code of a run that its input stopped, not a bug.
FAILED = 1

_EXPECTED = (KeyboardInterrupt, MostlyRejectedError, UnreadableFileError)

# They show the stack of every error, and repeat it when it passes another step.
_BEAM_LOGGERS = tuple(
    logging.getLogger(f"apache_beam.runners.{name}") for name in ("common", "direct.executor", "worker.sdk_worker")
)


def find_expected(error: BaseException | None) -> BaseException | None:
    """The error as it was raised, if it needs no stack to be understood; None if it does.

    Beam raises errors anew with the name of the step, a Ctrl-C even as a RuntimeError: the first of the chain counts.
    """
    found = None
    while error is not None:
        if isinstance(error, _EXPECTED):
            found = error
        error = error.__cause__ or error.__context__
    return found


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
    return find_expected(error) is None


class Report:
    """Progress on stderr for a run in this process (a bar on a terminal, else a line now and then), then a summary."""

    def __init__(self, settings: Settings, local: bool) -> None:
        self._settings = settings
        self._local = local
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show_progress, daemon=True)
        self._started = time.monotonic()

    def __enter__(self) -> "Report":
        if self._local and self._settings.input_files is not None:
            self._thread.start()
        elif self._local:
            self._console.print(f"Reading {self._settings.input_subscription}; Ctrl-C stops.", soft_wrap=True)
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
            print(f"segment_to_bigquery: {cause}", file=sys.stderr)  # noqa: T201
            sys.exit(FAILED)

    def finish(self, result: Any) -> None:
        """Show how the messages ended, from the counters of a run that has finished."""
        self.__exit__(None, None, None)
        if not self._local:
            return
        ended = read_outcomes(result)
        seconds = time.monotonic() - self._started
        title = f"{sum(ended.values()):,} messages in {seconds:,.1f} s"
        table = Table(title=title, title_justify="left", min_width=len(title))
        table.add_column("outcome")
        table.add_column("messages", justify="right")
        for outcome, count in ended.items():
            table.add_row(outcome, f"{count:,}")
        self._console.print(table)
        for line in describe_persons(result):
            self._console.print(line, soft_wrap=True)
        for flag, where in (("Parquet", self._settings.output_dir), ("BigQuery", self._settings.output_dataset)):
            if where is not None:
                self._console.print(f"{flag}: {where}", soft_wrap=True)

    def _show_progress(self) -> None:
        before = BYTES_READ.total
        total = sum(
            file.size_in_bytes for file in FileSystems.match([str(self._settings.input_files)])[0].metadata_list
        )
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


def read_outcomes(result: Any) -> dict[str, int]:
    """Outcome (rejected ones with their reason) -> messages, from the counters of a pipeline result."""
    counters = _read_counters(result)
    ended = {
        "written": counters.get("shape_rows/calls", 0),
        "duplicate": counters.get("dedupe_calls/duplicates", 0),
    }
    suppressed = sum(counters.get(f"{step}/suppressed", 0) for step in ("dedupe_calls", "resolve_identities"))
    if suppressed:
        ended["suppressed"] = suppressed
    refused = sum(counters.get(f"write_bigquery/refused_{table}", 0) for table in set(FACT_TABLES.values()))
    if refused:
        ended["written"] -= refused
        ended["rejected: refused_by_bigquery"] = refused
    for key, count in sorted(counters.items()):
        name = key.split("/")[1]
        if name.startswith("rejected_") and count:
            ended[f"rejected: {name.removeprefix('rejected_')}"] = count
    return ended


def describe_persons(result: Any) -> list[str]:
    """What was read of persons before the first call, a line a fact, from the counters of a pipeline result."""
    counters = _read_counters(result)
    facts = {
        "read_persons/emails_with_a_person": "emails to which the warehouse gives a person",
        "read_persons/conflicting_emails": "emails to which the warehouse gives several persons, of which none is used "
        "(warehouse_conflict in identity_merges)",
        "read_persons/skipped_rows": "rows of the warehouse without a usable email or person_id, skipped",
        "read_known/identities": "identities known from earlier jobs",
    }
    return [f"{text}: {counters[key]:,}" for key, text in facts.items() if counters.get(key)]


def _read_counters(result: Any) -> dict[str, int]:
    counters: dict[str, int] = {}
    for counter in result.metrics().query(MetricsFilter())["counters"]:
        key = f"{counter.key.metric.namespace}/{counter.key.metric.name}"
        counters[key] = counters.get(key, 0) + counter.result
    return counters
