"""Where a pipeline's time goes, step by step: `python -m benchmarks.profile_stages CALLS.jsonl` (or of emails).

Beam samples which step is at work; what no step accounts for is Beam's own: the graph, encoding, grouping between the
steps. Shares are of the whole run, without the start of Python.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics.monitoring_infos import extract_counter_value

from pipelines import email_logs_to_segment as emails
from pipelines import segment_to_bigquery as calls
from pipelines.email_settings import EmailSettings
from pipelines.runners import make_options
from pipelines.settings import Settings, build_parser

_EXECUTION_TIME = "beam:metric:ptransform_execution_time:total_msecs:v1"


def apply_calls(pipeline: beam.Pipeline, source: str, output: str) -> None:
    """All steps of segment_to_bigquery."""
    settings = Settings(input_files=source, output_dir=output)
    calls.write(calls.build(calls.read(pipeline, settings), settings), settings)


def apply_emails(pipeline: beam.Pipeline, source: str, output: str) -> None:
    """All steps of email_logs_to_segment."""
    settings = EmailSettings(input_files=source, output_dir=output)
    emails.write(emails.build(emails.read(pipeline, settings), settings), settings)


def profile_stages(
    apply: Callable[[beam.Pipeline, str, str], None], source: Path, output: Path
) -> tuple[float, dict[str, float]]:
    """Seconds of the whole run, and of each of the pipeline's steps."""
    options = make_options(["--direct_num_workers=1"], build_parser(), input_files=str(source))
    started = time.perf_counter()
    pipeline: Any = beam.Pipeline(options=options)
    apply(pipeline, str(source), str(output))
    result: Any = pipeline.run()
    result.wait_until_finish()
    wall = time.perf_counter() - started
    seconds: Counter[str] = Counter()
    for info in result.monitoring_infos():
        if info.urn == _EXECUTION_TIME:
            seconds[info.labels["PTRANSFORM"].split("/")[0]] += extract_counter_value(info) / 1000
    return wall, dict(seconds.most_common())


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile_stages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="CALLS.jsonl",
        help="what benchmarks.generate_calls has written; with --emails benchmarks.generate_email_logs",
    )
    parser.add_argument(
        "--emails",
        dest="apply",
        action="store_const",
        const=apply_emails,
        default=apply_calls,
        help="profile email_logs_to_segment, not segment_to_bigquery",
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="profile_stages_") as folder:
        wall, seconds = profile_stages(arguments.apply, arguments.source, Path(folder))
    rest = {"Beam, between the steps": wall - sum(seconds.values())}
    print(f"| step | s | % of {wall:.1f} s |\n|---|---:|---:|")
    for step, spent in (seconds | rest).items():
        if spent / wall >= 0.005:
            print(f"| {step} | {spent:.1f} | {100 * spent / wall:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
