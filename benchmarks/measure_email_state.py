"""What a stream of email logs must remember, and whether more of it makes it slower.

Feeds a log to the two classes that are kept in state, `AddressBook` of FindRecipients and `PersonHistories` of
MarkFirstEvents, in blocks as they come from a subscription: without Beam, all of it to one shard, and nothing is
forgotten.

  us a block      CPU microseconds of a block, the median over a tenth of the log; flat if memory costs no time
  log bytes       what is written to state for each 1,000 lines, repeats and all
  rebuild s       CPU seconds to rebuild the whole from its log, as a worker does that takes over
  resident MB     memory that the rebuilt whole takes
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import msgspec
from rich.console import Console

from benchmarks.generate_email_logs import EmailWorkload, Skew
from benchmarks.read_email_events import WORKSPACE
from benchmarks.report_costs import describe_machine, make_markdown, make_table
from benchmarks.run_rounds import positive, run_apart
from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, LogLine
from schemas.messages import Message
from transforms.logic.email_logs.parse_email_logs import parse_email_logs
from transforms.logic.find_recipients import AddressBook
from transforms.logic.mark_first_events import PersonHistories

Answer = TypeVar("Answer")

_TENTHS = 10
_ARRIVED_AT = 1_773_000_000_000_000
_MICROS_A_LINE = 37_000
_COLUMNS = ("us a block, first tenth", "middle", "last tenth", "log bytes a 1,000 lines", "rebuild s", "resident MB")


class StateCosts(msgspec.Struct):
    """What one of the two classes costs."""

    us_a_block: list[float]
    """CPU microseconds, the median of each tenth of the log."""
    log_bytes: int
    rebuild_s: float = 0.0
    resident_mb: float = 0.0


class StateReport(msgspec.Struct):
    """Both classes on one log."""

    measured_on: str
    machine: dict[str, Any]
    lines: int
    lines_a_block: int
    seed: int
    skew: Skew
    costs: dict[str, StateCosts]


class _Log:
    """The state of a class as it would be written, and what writing it took."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.us: list[float] = []

    def clock(self, work: Callable[[], Answer]) -> Answer:
        started = time.process_time_ns()
        answer = work()
        self.us.append((time.process_time_ns() - started) / 1_000)
        return answer

    def remember(self, record: bytes) -> None:
        if record:
            self.records.append(record)

    def costs(self) -> StateCosts:
        tenth = max(1, len(self.us) // _TENTHS)
        medians = [
            median(self.us[start : start + tenth]) for start in range(0, tenth * _TENTHS, tenth) if self.us[start:]
        ]
        return StateCosts(medians, sum(map(len, self.records)))


def read_blocks(lines: int, lines_a_block: int, seed: int, skew: Skew) -> Iterator[LogBlock]:
    """The lines of a log as they arrive."""
    messages = EmailWorkload(lines, seed, skew).lines()
    arrived_at = _ARRIVED_AT
    while payloads := list(islice(messages, lines_a_block)):
        parsed: list[LogLine] = []
        for payload in payloads:
            arrived_at += _MICROS_A_LINE
            parsed += parse_email_logs([Message(payload, {}, arrived_at)], arrived_at, WORKSPACE).lines
        yield LogBlock(parsed)


def measure_state(lines: int, lines_a_block: int, seed: int, skew: Skew) -> StateReport:
    """Feed both, block by block, then rebuild each from what it has written."""
    book, histories = AddressBook(), PersonHistories(implied_open_on_click=False)
    books, persons = _Log(), _Log()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)  # as the pipeline has it
    for block in read_blocks(lines, lines_a_block, seed, skew):
        found, record = books.clock(partial(book.find, block))
        books.remember(record)
        persons.remember(persons.clock(partial(_advance, histories, found.block)))
    costs = {"AddressBook": books.costs(), "PersonHistories": persons.costs()}
    for name, log in (("AddressBook", books), ("PersonHistories", persons)):
        costs[name].rebuild_s, costs[name].resident_mb = run_apart(rebuild, name, log.records)
    return StateReport(
        datetime.now(UTC).date().isoformat(), describe_machine(), lines, lines_a_block, seed, skew, costs
    )


def _advance(histories: PersonHistories, block: PersonBlock) -> bytes:
    histories.advance(block)
    return histories.take_record()


def rebuild(name: str, records: Iterable[bytes]) -> tuple[float, float]:
    """CPU seconds and resident MB of the class, from its log, in a process of its own."""
    whole: AddressBook | PersonHistories
    whole = AddressBook() if name == "AddressBook" else PersonHistories(implied_open_on_click=False)
    gc.collect()
    before, started = _resident_bytes(), time.process_time()
    whole.replay(records)
    return time.process_time() - started, (_resident_bytes() - before) / 1e6


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _rows(report: StateReport) -> list[tuple[str, ...]]:
    return [
        (
            name,
            *(f"{costs.us_a_block[position]:,.0f}" for position in (0, len(costs.us_a_block) // 2, -1)),
            f"{1_000 * costs.log_bytes / report.lines:,.0f}",
            f"{costs.rebuild_s:.1f}",
            f"{costs.resident_mb:,.0f}",
        )
        for name, costs in report.costs.items()
    ]


def _title(report: StateReport) -> str:
    return f"{report.lines:,} lines, {report.lines_a_block} a block"


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.measure_email_state",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look:
    python -m benchmarks.measure_email_state --lines 20000

  the figures of docs/performance.md (a few minutes):
    python -m benchmarks.measure_email_state --markdown --json state.json""",
    )
    parser.add_argument("--lines", type=positive, default=1_000_000, help="of the log. Default: %(default)s")
    parser.add_argument("--block", type=positive, default=500, help="lines of a block. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    parser.add_argument("--skew", type=Skew, choices=list(Skew), default=Skew.NONE, help="Default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all tenths here as well")
    parser.add_argument("--markdown", action="store_true", help="print the table as docs/performance.md has it")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    with Console(stderr=True).status(f"feeding {arguments.lines:,} lines"):
        report = measure_state(arguments.lines, arguments.block, arguments.seed, arguments.skew)
    if arguments.markdown:
        print(make_markdown(f"{_title(report)}, {report.measured_on}", _COLUMNS, _rows(report)))
    else:
        Console().print(make_table(_title(report), _COLUMNS, _rows(report)))
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
