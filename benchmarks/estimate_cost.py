"""What Dataflow would cost, from what can be measured without it: `python -m benchmarks.estimate_cost`.

Runs segment_to_bigquery in this process over generated calls: once as files, and as a stream in blocks of several
sizes. A block is what one bundle brings from Pub/Sub, and nobody but Dataflow decides how much that is. Counted are

  shuffles    elements and bytes that enter each, encoded by the pipeline's own coders, compressed as they travel
  state       reads, writes, appends and timers of each stateful step, and their bytes, at the API that the steps call
  rows        of each BigQuery table: as insertAll takes them, as the Storage Write API does, and as they are billed

Those are exact and the same on every machine. CPU time by step is Beam's sampling in one worker process, the median
of the rounds. benchmarks/price_calls.py makes vCPU-hours and dollars of them, by the prices in list_prices.py.

Nothing runs on Dataflow, and what happens there beside our code is not counted.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.generate_calls import generate_calls
from benchmarks.measure_calls import CpuTime, Flow, Source, measure_cpu, measure_flow
from benchmarks.price_calls import Bill, CallCosts, price_files, price_storage_write, price_streaming_inserts
from benchmarks.report_costs import describe_machine, make_markdown
from benchmarks.report_estimate import (
    FILES,
    ModeCosts,
    Table,
    is_of_sink,
    tabulate_bills,
    tabulate_cpu,
    tabulate_flow,
    tabulate_rows,
    tabulate_states,
    total_bytes,
)
from benchmarks.run_rounds import positive, run_apart

# A billion calls in a month of 30 days.
_CALLS_A_SECOND = 386


class Estimate(msgspec.Struct):
    """All that was measured and what follows."""

    measured_on: str
    machine: dict[str, Any]
    calls: int
    seed: int
    calls_a_second: int
    rounds: int
    modes: list[ModeCosts]
    streaming_inserts: str
    """The stream for which these two are."""
    streaming_inserts_cpu: CpuTime
    streaming_inserts_bill: Bill


def estimate_cost(calls: int, seed: int, calls_a_second: int, blocks: Sequence[int], rounds: int) -> Estimate:
    """Measure files and streams; streaming inserts with the block size before the last."""
    with tempfile.TemporaryDirectory(prefix="estimate_cost_") as folder:
        path = Path(folder) / "calls.jsonl"
        generate_calls(path, calls, seed)
        call_bytes = path.stat().st_size / calls - 1
        sources = {FILES: Source(path, calls, None, calls_a_second)}
        sources |= {f"blocks of {size}": Source(path, calls, size, calls_a_second) for size in blocks}
        flows = {name: run_apart(measure_flow, source) for name, source in sources.items()}
        flows[FILES].rows = flows[f"blocks of {blocks[0]}"].rows
        modes = []
        for name, source in sources.items():
            cpu = _measure_cpu(msgspec.structs.replace(source, method="STORAGE_WRITE_API"), rounds)
            costs = _cost_call(flows[name], call_bytes, calls, cpu)
            is_stream = name != FILES
            bill = price_storage_write(costs) if is_stream else price_files(costs)
            modes.append(ModeCosts(name, is_stream, flows[name], cpu, costs, bill))
        chosen = f"blocks of {blocks[-2:][0]}"
        cpu = _measure_cpu(sources[chosen], rounds)
        bill = price_streaming_inserts(_cost_call(flows[chosen], call_bytes, calls, cpu))
    today = datetime.now(UTC).date().isoformat()
    return Estimate(today, describe_machine(), calls, seed, calls_a_second, rounds, modes, chosen, cpu, bill)


def _measure_cpu(source: Source, rounds: int) -> CpuTime:
    """The medians, of each step by itself."""
    timed = [run_apart(measure_cpu, source) for _ in range(rounds)]
    steps = {step for each in timed for step in each.by_step}
    by_step = {step: median(each.by_step.get(step, 0.0) for each in timed) for step in steps}
    return CpuTime(median(each.total for each in timed), by_step)


def _cost_call(flow: Flow, call_bytes: float, calls: int, cpu: CpuTime) -> CallCosts:
    shuffles, rows = flow.shuffles.items(), flow.rows.values()
    return CallCosts(
        cpu_us=cpu.total,
        input=call_bytes,
        shuffled=total_bytes(weight for step, weight in shuffles if not is_of_sink(step)) / calls,
        sink_shuffled=total_bytes(weight for step, weight in shuffles if is_of_sink(step)) / calls,
        state=sum(use.bytes_read + use.bytes_written for use in flow.states.values()) / calls,
        json=sum(weight.json for weight in rows) / calls,
        proto=sum(weight.proto for weight in rows) / calls,
        billed_inserts=sum(weight.billed_inserts for weight in rows) / calls,
        logical=sum(weight.logical for weight in rows) / calls,
    )


def make_tables(estimate: Estimate) -> list[Table]:
    """What was measured, then what it costs."""
    streams = {mode.name: mode for mode in estimate.modes if mode.is_stream}
    inserts = f"{estimate.streaming_inserts}, streaming inserts"
    timed = {mode.name: mode.cpu for mode in estimate.modes} | {inserts: estimate.streaming_inserts_cpu}
    bills = {mode.name: mode.bill for mode in estimate.modes} | {inserts: estimate.streaming_inserts_bill}
    return [
        tabulate_flow(estimate.modes, estimate.calls),
        tabulate_states(streams[estimate.streaming_inserts]),
        tabulate_rows(streams[estimate.streaming_inserts].flow.rows, estimate.calls),
        tabulate_cpu(timed),
        tabulate_bills(bills),
    ]


def _lay_out(table: Table) -> RichTable:
    laid_out = RichTable("", title=table.title, title_justify="left")
    for column in table.columns:
        laid_out.add_column(column, justify="right")
    for row in table.rows:
        laid_out.add_row(*(cell.strip("*") for cell in row))
    return laid_out


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimate_cost",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  a look, in a minute or two:
    python -m benchmarks.estimate_cost --calls 2000 --blocks 10 100 --rounds 1

  the figures of docs/performance.md:
    python -m benchmarks.estimate_cost --markdown --json estimate.json

  a busy stream, whose windows are fuller:
    python -m benchmarks.estimate_cost --rate 4000 --blocks 100 500""",
    )
    parser.add_argument("--calls", type=positive, default=20_000, help="generated. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="of the generator. Default: %(default)s")
    parser.add_argument(
        "--rate",
        type=positive,
        default=_CALLS_A_SECOND,
        metavar="CALLS_A_SECOND",
        help="how fast they come: how full a window of 10 s is. Default: %(default)s, a billion in 30 days",
    )
    parser.add_argument(
        "--blocks", type=positive, nargs="+", default=[1, 10, 100, 500], help="calls of a block. Default: 1 10 100 500"
    )
    parser.add_argument("--rounds", type=positive, default=3, help="of the CPU times. Default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all that was measured here as well")
    parser.add_argument("--markdown", action="store_true", help="print the tables as docs/performance.md has them")
    return parser


def main(argv: Sequence[str]) -> int:
    """The command line."""
    arguments = build_parser().parse_args(argv)
    with Console(stderr=True).status(f"measuring {arguments.calls:,} calls"):
        estimate = estimate_cost(arguments.calls, arguments.seed, arguments.rate, arguments.blocks, arguments.rounds)
    for table in make_tables(estimate):
        if arguments.markdown:
            print(make_markdown(table.title, table.columns, table.rows), end="\n\n")
        else:
            Console().print(_lay_out(table))
    if arguments.json is not None:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(estimate), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
