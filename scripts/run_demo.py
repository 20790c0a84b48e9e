"""The main job end to end on this machine: emulators, simulated calls, the pipeline as a stream, some questions."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.cloud import bigquery, pubsub_v1
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.clients import bigquery_client
from scripts.bigquery_emulator import start_bigquery
from scripts.create_tables import create_tables
from scripts.simulate_calls import Simulated, simulate_calls
from scripts.start_pubsub import start_pubsub

PROJECT = "demo-project"
DATASET = f"{PROJECT}.segment"
TOPIC = f"projects/{PROJECT}/topics/segment-calls"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/segment-calls"
ATTRIBUTES = {"workspace_id": "acme", "connection_id": "segment-demo"}

# Longer than any run that goes well: what is still missing then will not come.
PATIENCE_SECONDS = 180.0
SETTLING_SECONDS = 20

QUESTIONS: tuple[tuple[str, str], ...] = (
    (
        "How did every message end?",
        "SELECT outcome, reason, SUM(count) AS messages FROM `{d}.counts` GROUP BY outcome, reason "
        "ORDER BY outcome DESC, messages DESC",
    ),
    (
        "Who are our people?",
        "SELECT first_name, emails[SAFE_OFFSET(0)] AS email, JSON_VALUE(traits, '$.plan') AS plan, "
        "anonymous_id_count AS devices FROM `{d}.persons` ORDER BY devices DESC, email LIMIT 5",
    ),
    (
        "What did they do, before and after they signed up?",
        "SELECT COALESCE(event, CONCAT('page: ', name)) AS activity, COUNT(*) AS calls, "
        "COUNT(DISTINCT person_id) AS people, "
        "COUNTIF(user_id IS NULL AND person_id IS NOT NULL) AS while_anonymous "
        "FROM `{d}.person_activities` GROUP BY activity ORDER BY calls DESC LIMIT 6",
    ),
    (
        "Which groups do we have, and who is in them?",
        "SELECT g.name AS group_name, g.industry, g.employees, COUNT(m.person_id) AS people FROM `{d}.groups` g "
        "LEFT JOIN `{d}.group_memberships` m USING (workspace_id, group_id) "
        "GROUP BY 1, 2, 3 ORDER BY people DESC, 1 LIMIT 5",
    ),
    (
        "Who is in which audience now?",
        "SELECT audience_key, COUNT(*) AS members FROM `{d}.audiences` GROUP BY audience_key",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code: 0 if every message is accounted for and ended as it should."""
    options = _make_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with ExitStack() as world:
        client = _start_cloud(world, console, embedded=options.embedded)
        pipeline = world.enter_context(_run_pipeline(options.window_seconds))
        simulated = simulate_calls(options.calls, options.seed, datetime.now(UTC))
        _publish(simulated, console)
        accounted = _await_accounted(client, pipeline, len(simulated.payloads), console)
        if not accounted:
            return 1
        failures = _await_tables(client, simulated)
        for question, sql in QUESTIONS:
            console.print(_ask(client, question, sql), "")
        for failure in failures:
            console.print(f"[red]{failure}")
        if not failures:
            console.print(
                f"[green]{len(simulated.payloads):,} messages published, each accounted for; "
                f"{simulated.people:,} people. {time.monotonic() - started:.0f} s in all."
            )
        if options.keep:
            _keep(console)
        return 1 if failures else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        allow_abbrev=False,
        description="Start Pub/Sub and BigQuery on this machine, publish simulated Segment calls, run the pipeline on "
        "them as a stream, wait until every message is accounted for, show what came of them, and stop everything.",
    )
    parser.add_argument("--calls", type=int, default=3000, help="messages to publish, about. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other people. Default: %(default)s")
    parser.add_argument("--window_seconds", type=int, default=2, help="the pipeline's own flag. Default: %(default)s")
    parser.add_argument(
        "--keep", action="store_true", help="leave all running until Ctrl-C, to query and publish yourself"
    )
    parser.add_argument(
        "--embedded", action="store_true", help="use the embedded Pub/Sub even where Google's is installed"
    )
    return parser


def _start_cloud(world: ExitStack, console: Console, *, embedded: bool) -> bigquery.Client:
    """Pub/Sub with topic and subscription, BigQuery with dataset, tables and views; the environment points to both."""
    with ThreadPoolExecutor(1) as side, console.status("starting Pub/Sub and BigQuery"):
        starting = side.submit(world.enter_context, start_bigquery())
        pubsub = world.enter_context(start_pubsub(prefer_google=not embedded))
        running = starting.result()
    os.environ["PUBSUB_EMULATOR_HOST"] = pubsub.host
    os.environ["BIGQUERY_EMULATOR_HOST"] = running.host
    console.print(f"Pub/Sub: {pubsub.kind} at {pubsub.host}. BigQuery: bqemulator at {running.host}.")
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        publisher.create_topic(name=TOPIC)
        subscriber.create_subscription(name=SUBSCRIPTION, topic=TOPIC, ack_deadline_seconds=60)
    client = world.enter_context(_closing(bigquery_client(PROJECT)))
    changes = create_tables(client, DATASET)
    console.print(f"Created topic, subscription, dataset {DATASET}, {len(changes)} tables and views.")
    return client


@contextmanager
def _closing(client: bigquery.Client) -> Iterator[bigquery.Client]:
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _run_pipeline(window_seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """The pipeline as a program of its own, as a user runs it; stopped on exit."""
    command = [sys.executable, "-m", "pipelines.segment_to_bigquery"]
    command += ["--input_subscription", SUBSCRIPTION, "--output_dataset", DATASET]
    command += ["--window_seconds", str(window_seconds), "--runner", "DirectRunner"]
    process = subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()  # it has nothing to save: what it acknowledged is written or lost
        process.wait()


def _publish(simulated: Simulated, console: Console) -> None:
    with pubsub_v1.PublisherClient() as publisher:
        futures = [publisher.publish(TOPIC, payload, **ATTRIBUTES) for payload in simulated.payloads]
        for future in futures:
            future.result(timeout=60)
    console.print(f"Published {len(futures):,} messages to {TOPIC}.")


def _await_accounted(
    client: bigquery.Client, pipeline: subprocess.Popen[bytes], published: int, console: Console
) -> bool:
    """Wait until the counts in BigQuery add up to what was published."""
    columns = (TextColumn("accounted for"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    deadline = time.monotonic() + PATIENCE_SECONDS
    accounted = 0
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=published)
        while accounted < published and time.monotonic() < deadline and pipeline.poll() is None:
            time.sleep(0.5)
            accounted = _read(client, "SELECT COALESCE(SUM(count), 0) FROM `{d}.counts`")[0][0]
            progress.update(task, completed=accounted)
    if accounted != published:
        state = "stopped" if pipeline.poll() is not None else "runs on"
        console.print(f"[red]{accounted:,} of {published:,} messages are accounted for, and the pipeline {state}.")
    return accounted == published


def _read(client: bigquery.Client, sql: str) -> list[Any]:
    return list(client.query_and_wait(sql.replace("{d}", DATASET)))


def _ask(client: bigquery.Client, question: str, sql: str) -> Table:
    rows = _read(client, sql)
    table = Table(title=question, title_justify="left", title_style="bold", min_width=len(question))
    for column, value in rows[0].items() if rows else ():
        table.add_column(column, justify="right" if isinstance(value, int) else "left")
    for row in rows:
        table.add_row(
            *("" if value is None else f"{value:,}" if isinstance(value, int) else str(value) for value in row)
        )
    return table


def _await_tables(client: bigquery.Client, simulated: Simulated) -> list[str]:
    """Counts and rows are written side by side, so the last rows may come after the last counts."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while (failures := _check(client, simulated)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return failures


def _check(client: bigquery.Client, simulated: Simulated) -> list[str]:
    """What did not end as the simulation knows that it must."""
    ended = {
        row["reason"] or row["outcome"]: row["messages"]
        for row in _read(
            client, "SELECT outcome, reason, SUM(count) AS messages FROM `{d}.counts` GROUP BY outcome, reason"
        )
    }
    failures = [
        f"{key}: {ended.get(key, 0):,} messages, expected {simulated.expected[key]:,}"
        for key in sorted(ended.keys() | simulated.expected.keys())
        if ended.get(key, 0) != simulated.expected[key]
    ]
    tables = ("activities", "identifies", "group_identifies", "aliases", "erasure_requests")
    rows = sum(_read(client, f"SELECT COUNT(*) FROM `{{d}}.{table}`")[0][0] for table in tables)
    if rows != simulated.expected["written"]:
        failures.append(f"{rows:,} rows in the fact tables, expected {simulated.expected['written']:,}")
    people = _read(client, "SELECT COUNT(*) FROM `{d}.persons`")[0][0]
    if people != simulated.people:
        failures.append(f"{people:,} persons, expected {simulated.people:,}")
    return failures


def _keep(console: Console) -> None:
    emulators = {name: os.environ[name] for name in ("PUBSUB_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST")}
    exports = " ".join(f"{name}={value}" for name, value in emulators.items())
    console.print(
        f"""
Everything runs on until Ctrl-C. In another terminal:

  export {exports}

  CLOUDSDK_AUTH_ACCESS_TOKEN=none bq --api {emulators["BIGQUERY_EMULATOR_HOST"]} --project_id {PROJECT} \\
    --discovery_file \\
    "$(gcloud info --format='value(installation.sdk_root)')/platform/bq/discovery_next/bigquery.json" \\
    query --nouse_legacy_sql 'SELECT * FROM segment.current_identities LIMIT 10'

  .venv/bin/python -c "from pipelines.clients import bigquery_client as client; \\
    [print(dict(row)) for row in client('{PROJECT}').query_and_wait('SELECT * FROM {DATASET}.persons LIMIT 10')]"
""",
        markup=False,
    )
    with suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
