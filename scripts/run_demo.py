"""Both pipelines end to end on this machine: emulators, simulated people, the pipelines as streams, some questions."""

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

from google.cloud import bigquery, pubsub_v1
from rich.console import Console

from pipelines.clients import bigquery_client
from scripts.bigquery_emulator import start_bigquery
from scripts.create_tables import create_tables
from scripts.demo_questions import QUESTIONS
from scripts.play_demo import Demo
from scripts.relay_events import Relay
from scripts.simulate_calls import simulate_calls
from scripts.simulate_emails import simulate_emails
from scripts.start_pubsub import start_pubsub

PROJECT = "demo-project"
DATASET = f"{PROJECT}.segment"
SEGMENT_CALLS = "segment-calls"
IDENTITY_UPDATES = "identity-updates"
EMAIL_LOGS = "email-logs"
SEGMENT_EVENTS = "segment-events"
DEAD_LETTERS = "dead-letters"
TOPICS = (SEGMENT_CALLS, IDENTITY_UPDATES, EMAIL_LOGS, SEGMENT_EVENTS, DEAD_LETTERS)
ATTRIBUTES = {"workspace_id": "acme", "connection_id": "segment-demo"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code: 0 if every message is accounted for and all came out as it should."""
    options = _make_parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with ExitStack() as world:
        client = _start_cloud(world, console, embedded=options.embedded)
        pipelines = [world.enter_context(_run_pipeline(command)) for command in _make_commands(options.window_seconds)]
        relay = world.enter_context(Relay(_subscription(SEGMENT_EVENTS), _topic(SEGMENT_CALLS), ATTRIBUTES))
        now = datetime.now(UTC)
        simulated = simulate_calls(options.calls, options.seed, now)
        prospect = next(iter(simulated.user_ids))
        mailing = simulate_emails(simulated.everyone, prospect, options.seed, now)
        demo = Demo(client, DATASET, console, pipelines, relay, ATTRIBUTES)
        failures = demo.play(simulated, mailing, _topic(SEGMENT_CALLS), _topic(EMAIL_LOGS))
        for question, sql in QUESTIONS:
            console.print(demo.ask(question, sql), "")
        console.print(demo.tell(prospect), "")
        for failure in failures:
            console.print(f"[red]{failure}")
        if not failures:
            console.print(
                f"[green]{len(simulated.payloads):,} calls and {len(mailing.before + mailing.after):,} messages of an "
                f"email provider published, {relay.relayed():,} events sent to Segment and back, each accounted for; "
                f"{demo.count_people():,} people. {time.monotonic() - started:.0f} s in all."
            )
        if options.keep:
            _keep(console)
        return 1 if failures else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        allow_abbrev=False,
        description="Start Pub/Sub and BigQuery on this machine and both pipelines as streams; publish a simulated "
        "mailing, visits and sign-ups, and the mailing's next day; wait until every message is accounted for, show "
        "what came of it, and stop everything.",
    )
    parser.add_argument("--calls", type=int, default=3000, help="Segment calls to publish, about. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other people. Default: %(default)s")
    parser.add_argument("--window_seconds", type=int, default=2, help="of segment_to_bigquery. Default: %(default)s")
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
        for name in TOPICS:
            publisher.create_topic(name=_topic(name))
            subscriber.create_subscription(name=_subscription(name), topic=_topic(name), ack_deadline_seconds=60)
    client = world.enter_context(_closing(bigquery_client(PROJECT)))
    changes = create_tables(client, DATASET)
    console.print(f"Created {len(TOPICS)} topics, dataset {DATASET}, {len(changes)} tables and views.")
    return client


@contextmanager
def _closing(client: bigquery.Client) -> Iterator[bigquery.Client]:
    try:
        yield client
    finally:
        client.close()


def _topic(name: str) -> str:
    return f"projects/{PROJECT}/topics/{name}"


def _subscription(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"


def _make_commands(window_seconds: int) -> tuple[list[str], list[str]]:
    """The two programs, as a user starts them."""
    calls = ["pipelines.segment_to_bigquery", "--input_subscription", _subscription(SEGMENT_CALLS)]
    calls += ["--output_dataset", DATASET, "--identity_topic", _topic(IDENTITY_UPDATES)]
    emails = ["pipelines.email_logs_to_segment", "--input_subscription", _subscription(EMAIL_LOGS)]
    emails += ["--identity_subscription", _subscription(IDENTITY_UPDATES), "--output_topic", _topic(SEGMENT_EVENTS)]
    emails += ["--dead_letter_topic", _topic(DEAD_LETTERS), "--output_dataset", DATASET]
    return [*calls, "--window_seconds", str(window_seconds), "--runner", "DirectRunner"], emails


@contextmanager
def _run_pipeline(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A pipeline as a program of its own; stopped on exit."""
    folder = Path(__file__).resolve().parent.parent
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


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
