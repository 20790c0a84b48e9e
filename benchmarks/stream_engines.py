"""One engine over a file of calls that is played as a stream: `python -m benchmarks.stream_engines --help`.

What runs is what remembers: parsing, de-duplication and identity, from messages to calls with their persons. What came
of it is gathered in this process and written as one JSON file, with what the calls after the start have taken. The
sources read the messages and nothing else.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.pvalue import PCollection

from benchmarks.play_calls import START_CALLS, GiveMessagesFn, PlayCalls
from benchmarks.read_clocks import Spent, read_clocks
from benchmarks.shape_call_rows import WORKSPACE
from benchmarks.shape_ledger_rows import Counted
from benchmarks.stream_by_the_docs import resolve_stream
from pipelines.runners import make_options
from pipelines.settings import LOCAL_IDENTITY_SHARDS, Settings, build_parser
from schemas.calls import CallBlock
from schemas.outcomes import OutcomeKey
from schemas.rejections import LetterBlock
from schemas.rows import TableRows, row_values
from transforms.dedupe_calls import DedupeCalls
from transforms.parse_calls import ParseCalls
from transforms.resolve_identities import ResolveIdentities

SOURCE, SOURCE_BY_THE_DOCS, PIPELINE = "source", "source, one by one", "the pipeline"
BY_THE_DOCS: Mapping[str, str] = {
    "by the docs": "cell",
    "by the docs, combining": "combining",
    "by the docs, timer": "timer",
}
"""Engine -> how it holds persons in state."""

_HORIZON_SECONDS = Settings.dedupe_horizon_seconds


class Heard(msgspec.Struct):
    """What an engine made of a stream."""

    facts: dict[str, int]
    """As `compare_results.expected_facts` has them."""
    persons: dict[str, dict[str, str]]
    """Identifier type -> identifier -> today's person_id."""
    heard_at_start: int = 0
    """Of how many lines it was heard what became of them when the start was over."""
    spent: Spent = Spent(0.0, 0.0)
    """From the end of the start to the end of the stream."""


_started: list[tuple[int, Spent]] = []
_facts: Counter[str] = Counter()
_persons: dict[str, dict[str, str]] = {}
_versions: dict[tuple[str, str], int] = {}


class _DropFn(beam.DoFn):
    def process(self, message: Any) -> Iterable[None]:
        return ()


class _HearCallsFn(beam.DoFn):
    def process(self, block: CallBlock) -> Iterable[None]:
        _facts.update(f"written {call.type}" for call in block.calls)
        return ()


class _HearLetterFn(beam.DoFn):
    def process(self, block: LetterBlock) -> Iterable[None]:
        _facts.update(f"rejected {letter.reason}" for letter in block.letters)
        return ()


class _HearCountFn(beam.DoFn):
    def process(self, counted: tuple[OutcomeKey, int]) -> Iterable[None]:
        _facts["duplicates"] += counted[1]
        return ()


class _HearIdentitiesFn(beam.DoFn):
    def process(self, rows: TableRows) -> Iterable[None]:
        if rows.table == "identities":
            for row in rows.rows:
                values = row_values("identities", row)
                node = values["identifier_type"], values["identifier"]
                if values["version"] > _versions.get(node, -1):
                    _versions[node] = values["version"]
                    _hear_person(*node, values.get("person_id"))
        return ()


def _hear_call(call: dict[str, Any]) -> Iterable[None]:
    _facts[f"written {call['type']}"] += 1
    return ()


def _hear_rejected(rejected: tuple[str, str]) -> Iterable[None]:
    _facts[f"rejected {rejected[0]}"] += 1
    return ()


def _hear_duplicate(counted: tuple[Counted, int]) -> Iterable[None]:
    _facts["duplicates"] += counted[1]
    return ()


def _hear_identity(row: dict[str, Any]) -> Iterable[None]:
    _hear_person(row["identifier_type"], row["identifier"], row["person_id"])
    return ()


def _hear_person(identifier_type: str, identifier: str, person_id: str | None) -> None:
    of_type = _persons.setdefault(identifier_type, {})
    if person_id is None:
        of_type.pop(identifier, None)
    else:
        of_type[identifier] = person_id


def _end_start() -> None:
    _started.append((_facts.total(), read_clocks()))


def _run_source(blocks: PCollection, window_seconds: int) -> None:
    _ = blocks | "Drop" >> beam.ParDo(_DropFn())


def _run_source_by_the_docs(blocks: PCollection, window_seconds: int) -> None:
    _ = blocks | "Give messages" >> beam.ParDo(GiveMessagesFn()) | "Drop" >> beam.ParDo(_DropFn())


def _run_pipeline(blocks: PCollection, window_seconds: int) -> None:
    parsed = blocks | "ParseCalls" >> ParseCalls(WORKSPACE, Settings.max_call_bytes, Settings.max_rejected_percent)
    unique = parsed.calls | "DedupeCalls" >> DedupeCalls(_HORIZON_SECONDS)
    resolved = (unique.calls, unique.callers) | "ResolveIdentities" >> ResolveIdentities(
        Settings.identity_rules, LOCAL_IDENTITY_SHARDS, window_seconds
    )
    _ = resolved.calls | "HearCalls" >> beam.ParDo(_HearCallsFn())
    letters = (parsed.dead_letters, resolved.dead_letters) | "FlattenLetters" >> beam.Flatten()
    _ = letters | "HearLetters" >> beam.ParDo(_HearLetterFn())
    _ = unique.counts | "HearDuplicates" >> beam.ParDo(_HearCountFn())
    _ = resolved.identities | "HearIdentities" >> beam.ParDo(_HearIdentitiesFn())


def _run_by_the_docs(way: str, blocks: PCollection, window_seconds: int) -> None:
    messages = blocks | "Give messages" >> beam.ParDo(GiveMessagesFn())
    resolved = resolve_stream(messages, way, _HORIZON_SECONDS, window_seconds)
    _ = resolved.calls | "Hear calls" >> beam.FlatMap(_hear_call)
    _ = resolved.rejected | "Hear rejected" >> beam.FlatMap(_hear_rejected)
    _ = resolved.counts | "Hear duplicates" >> beam.FlatMap(_hear_duplicate)
    _ = resolved.identities | "Hear identities" >> beam.FlatMap(_hear_identity)


ENGINES: Mapping[str, Callable[[PCollection, int], None]] = {
    SOURCE: _run_source,
    SOURCE_BY_THE_DOCS: _run_source_by_the_docs,
    PIPELINE: _run_pipeline,
    **{name: partial(_run_by_the_docs, way) for name, way in BY_THE_DOCS.items()},
}
"""What there is to run."""


def source_of(engine: str) -> str:
    """What only reads the messages as this engine does: in blocks, or one by one."""
    return SOURCE if engine in (SOURCE, PIPELINE) else SOURCE_BY_THE_DOCS


def make_command(engine: str, calls: Path, output: Path, calls_a_window: int) -> list[str]:
    """The command line of one engine."""
    arguments = [engine, str(calls), str(output), "--calls_a_window", str(calls_a_window)]
    return [sys.executable, "-m", "benchmarks.stream_engines", *arguments]


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream_engines",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m benchmarks.stream_engines 'the pipeline' calls.jsonl heard.json",
    )
    parser.add_argument("engine", choices=ENGINES, help="the sources only read the messages")
    parser.add_argument("calls", type=Path, metavar="CALLS.jsonl", help="what benchmarks.generate_calls has written")
    parser.add_argument("output", type=Path, metavar="HEARD.json", help="what came of it")
    parser.add_argument("--calls_a_window", type=int, default=5000, help="how full windows are. Default: %(default)s")
    parser.add_argument("--window_seconds", type=int, default=10, help="Default: %(default)s")
    arguments = parser.parse_args(argv)
    options = make_options([], build_parser(), input_files=None)
    pipeline = beam.Pipeline(options=options)
    blocks = pipeline | "PlayCalls" >> PlayCalls(
        arguments.calls, arguments.calls_a_window, arguments.window_seconds, _end_start
    )
    ENGINES[arguments.engine](blocks, arguments.window_seconds)
    pipeline.run().wait_until_finish()
    ended = read_clocks()
    if not _started:
        parser.error(f"{arguments.calls} has no more than the {START_CALLS} calls of the start")
    ((heard_at_start, started),) = _started
    heard = Heard(dict(_facts), _persons, heard_at_start, ended.since(started))
    arguments.output.write_bytes(msgspec.json.encode(heard))
    return 0


if __name__ == "__main__":
    # What is defined in __main__ travels by value, and would gather in copies of what is gathered here.
    from benchmarks.stream_engines import main as main_by_reference

    exit_code = main_by_reference(sys.argv[1:])
    sys.stdout.flush()
    os._exit(exit_code)  # a stream has no end: what Python does at one is not measured
