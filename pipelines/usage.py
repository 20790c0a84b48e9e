"""What the command lines of both pipelines have in common: how flags are parsed, checked and refused."""

import argparse
import difflib
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pipelines.clients import go_without_credentials
from schemas.pubsub_names import check_pubsub_name

DAY_SECONDS = 24 * 3600

# More keys than any job has use for: each costs every window, or every block of lines, some bytes.
MAX_SHARDS = 10_000

# What a shell reports for a program that Ctrl-C ended: 128 and the signal's number.
INTERRUPTED = 130

# How like one of ours a flag must be to be meant for it. None of Beam's is.
_MISSPELT = 0.8

# What Beam's Pub/Sub reader and writer take for a project (apache_beam.io.gcp.pubsub).
_PROJECT = re.compile(r"[a-z][-a-z0-9:.]{4,61}[a-z0-9]")


class UsageError(Exception):
    """The user's mistake, in one line that says what, where and how to mend it."""


class UsageParser(argparse.ArgumentParser):
    """Flags by their whole names; what cannot be parsed is a `UsageError`."""

    def __init__(self, program: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=f"python -m pipelines.{program}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=description,
            epilog=epilog,
        )

    def parse_flags(self, argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Our flags by name, and the others.

        Raises `UsageError`, also for a flag that is given twice, and for one that is nearly ours: the flag that was
        meant is missing then, and that is not what should be told.
        """
        given = [word.partition("=")[0] for word in argv]
        for flag in self._option_string_actions:
            if flag.startswith("--") and given.count(flag) > 1:
                raise UsageError(f"{flag} is given twice, and only one can count")
        known, others = self.parse_known_args(argv)
        ours = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for flag in others:
            if difflib.get_close_matches(flag.split("=")[0], ours, n=1, cutoff=_MISSPELT):
                raise UsageError(suggest_flag(flag, ours))
        return vars(known), others

    def error(self, message: str) -> NoReturn:
        """As argparse calls it."""
        raise UsageError(message)


def add_input(parser: argparse.ArgumentParser, what_files_hold: str) -> None:
    """The flags of the one input."""
    source = parser.add_argument_group("input, exactly one")
    source.add_argument(
        "--input_subscription", metavar="projects/P/subscriptions/S", help="Pub/Sub; runs until stopped"
    )
    source.add_argument(
        "--input_files",
        metavar="GLOB",
        help=f"files of one {what_files_hold} a line, .jsonl or .jsonl.gz, local or gs://",
    )


def add_dead_letter_topic(sink: Any) -> None:
    """The flag, in the parser's group of outputs."""
    sink.add_argument(
        "--dead_letter_topic", metavar="projects/P/topics/T", help="publish what is rejected here as well"
    )


def add_max_rejected_percent(rules: Any, default: float, what: str) -> None:
    """The flag, in the parser's group of rules."""
    rules.add_argument(
        "--max_rejected_percent",
        type=float,
        default=default,
        help=f"stop when more of the last 1,000 or more {what} are rejected. Default: %(default)s; 100 never stops",
    )


def answer_early(program: str, parse: Callable[[Sequence[str]], object]) -> None:
    """Show the help, or refuse a flag, by `parse`: called before Beam is imported, which takes a second.

    And say so if a flag names a bucket and there are no credentials for it.

    The garbage collector is off from here on, until `make_options` finds that the run is not local: what is imported
    stays, and looking through it over and over for what does not takes a fifth of the import. Until `run_reported` a
    Ctrl-C shows no stack of what is imported.
    """
    leave_at_once()
    warning = go_without_credentials(sys.argv[1:])
    if warning is not None:
        warn(program, warning)
    try:
        parse(sys.argv[1:])
    except UsageError as error:
        fail(program, error)
    gc.disable()


def leave_at_once() -> None:
    """Let a Ctrl-C show no stack of what is imported, until somebody has more to do at one."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, leave)


def interrupt_again() -> None:
    """Let a Ctrl-C raise KeyboardInterrupt, if it was to `leave_at_once`."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave(*_: Any) -> NoReturn:
    """What a Ctrl-C does while nothing has begun."""
    os._exit(INTERRUPTED)


def fail(program: str, error: UsageError) -> NoReturn:
    """Say what is wrong in one line and end with exit code 2."""
    print(f"{program}: {error}  (--help shows every flag)", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def warn(program: str, text: str) -> None:
    """Say in one line what the user may not want."""
    print(f"{program}: {text}", file=sys.stderr)  # noqa: T201


def suggest_flag(unknown: str, known: Sequence[str]) -> str:
    """A sentence that refuses a flag, with the one that was probably meant."""
    if not unknown.startswith("-"):
        return f"{unknown!r} belongs to no flag; quote the pattern of several files, e.g. --input_files '*.jsonl'"
    name = unknown.split("=")[0]
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown flag {name}" + (f"; did you mean {close[0]}?" if close else "")


def check_one_input(subscription: str | None, files: str | None) -> None:
    """Raise `UsageError` unless it is one of the two."""
    if (subscription is None) == (files is None):
        raise UsageError("give exactly one input: --input_subscription or --input_files")


def check_output_dataset(dataset: str | None) -> None:
    """Raise `UsageError` unless it is PROJECT.DATASET, or none."""
    if dataset is None:
        return
    from schemas.tables import check_dataset  # which takes Arrow, and that its time

    try:
        check_dataset(dataset)
    except ValueError as error:
        raise UsageError(f"--output_dataset: {error}") from None


def check_resource(flag: str, name: str | None, kind: str) -> None:
    """Raise `UsageError` unless it is a name of Pub/Sub: projects/PROJECT/KIND/NAME."""
    if name is None:
        return
    try:
        check_pubsub_name(name, kind)
    except ValueError as error:
        raise UsageError(f"{flag} {error}") from None
    project = name.split("/")[1]
    if not _PROJECT.fullmatch(project):
        raise UsageError(f"{flag}: {project!r} is no project id: 6 to 63 lower-case letters, digits and hyphens")


def check_workspace(workspace_id: str) -> None:
    """Raise `UsageError` unless rows can carry it."""
    if not workspace_id or not workspace_id.isprintable():
        raise UsageError("--workspace_id is empty or has characters that cannot be printed")


def check_percent(flag: str, percent: float) -> None:
    """Raise `UsageError` unless it lies above 0 and up to 100."""
    if not 0 < percent <= 100:
        raise UsageError(f"{flag} lies above 0 and up to 100")
