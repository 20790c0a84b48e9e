"""All of it on this machine: emulators, the collector, both pipelines as streams, simulated people, the page."""

import argparse
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.usage import INTERRUPTED, interrupt_again, leave_at_once

if __name__ == "__main__":
    leave_at_once()

from google.api_core.exceptions import GoogleAPIError
from google.cloud import bigquery, pubsub_v1
from requests.exceptions import RequestException
from rich.console import Console

from pipelines.clients import bigquery_client
from schemas.connections import ConnectionKind
from scripts.bigquery_emulator import start_bigquery
from scripts.check_page import check_page
from scripts.create_tables import create_tables
from scripts.demo_questions import QUESTIONS
from scripts.play_demo import Demo
from scripts.relay_events import Relay
from scripts.send_to_collector import Application, Door, Segment, SendGrid
from scripts.simulate_calls import Simulated, positive, simulate_calls
from scripts.simulate_emails import simulate_emails
from scripts.start_pubsub import start_pubsub
from scripts.start_services import start_service
from services.connection_store import ConnectionStore
from services.manage_connections import create_connection, keep_signing_secret
from services.one_line_parser import OneLineParser
from services.secret_store import open_secret_store

PROJECT = "demo-project"
DATASET = f"{PROJECT}.segment"
WORKSPACE = "acme"
SEGMENT_CALLS = "segment-calls"
IDENTITY_UPDATES = "identity-updates"
EMAIL_LOGS = "email-logs"
SEGMENT_EVENTS = "segment-events"
DEAD_LETTERS = "dead-letters"
TOPICS = (SEGMENT_CALLS, IDENTITY_UPDATES, EMAIL_LOGS, SEGMENT_EVENTS, DEAD_LETTERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code: 0 if every message is accounted for and all came out as it should."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    now = datetime.now(UTC)
    simulated = simulate_calls(options.calls, options.seed, now)
    if not simulated.user_ids:
        parser.error("argument --calls: nobody signs up in so few calls, and the mailing's story needs one who does")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    interrupt_again()
    try:
        return _run(options, simulated, now)
    except KeyboardInterrupt:
        print("demo: interrupted; all that it started is stopped", file=sys.stderr)
        return INTERRUPTED
    except (RuntimeError, RequestException, GoogleAPIError) as error:  # a program or emulator has died
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, simulated: Simulated, now: datetime) -> int:
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    with ExitStack() as world:
        client = _start_cloud(world, console, embedded=options.embedded)
        folder = world.enter_context(TemporaryDirectory())
        door, collector = _open_door(world, client, folder)
        console.print(f"Collector: {door.url}, with 3 connections.")
        programs = {"the collector": collector}
        for command in _make_commands(options.window_seconds):
            programs[command[0]] = world.enter_context(_run_pipeline(command))
        relay = world.enter_context(Relay(_subscription(SEGMENT_EVENTS), door.segment.deliver))
        prospect = next(iter(simulated.user_ids))
        mailing = simulate_emails(simulated.everyone, prospect, options.seed, now)
        demo = Demo(client, DATASET, console, programs, relay)
        failures = demo.play(simulated, mailing, door.send_calls, door.send_logs)
        if demo.find_ended():
            raise RuntimeError("\n".join(failures or demo.find_ended()))
        for question, sql in QUESTIONS:
            console.print(demo.ask(question, sql), "")
        console.print(demo.tell(prospect), "")
        token = secrets.token_urlsafe(18)
        flags = ["--dataset", DATASET, "--secrets", folder, "--collector_url", door.url]
        page = world.enter_context(start_service("services.run_page", flags, "/health", {"ADMIN_TOKEN": token})).url
        failures += check_page(page, token, door.connection_ids.values(), demo.count_accepted())
        for failure in failures:
            console.print(f"[red]{failure}")
        if not failures:
            console.print(
                f"[green]{len(simulated.payloads):,} calls and {len(mailing.before + mailing.after):,} messages of an "
                f"email provider sent, {relay.relayed():,} events sent to Segment and back, each accounted for; "
                f"{demo.count_people():,} people. {time.monotonic() - started:.0f} s in all."
            )
        if not options.check:
            console.print(tell_access(page, token), markup=False)
            with suppress(KeyboardInterrupt):
                signal.pause()
        return 1 if failures else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/demo",
        allow_abbrev=False,
        description="Start Pub/Sub and BigQuery on this machine, the collector and both pipelines as streams; send a "
        "simulated mailing, visits and sign-ups, and the mailing's next day; wait until every message is accounted "
        "for, show what came of it, and open the Connections page until Ctrl-C.",
    )
    parser.add_argument(
        "--calls", type=positive, default=3000, help="Segment calls to publish, about. Default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other people. Default: %(default)s")
    parser.add_argument(
        "--window_seconds", type=positive, default=2, help="of segment_to_bigquery. Default: %(default)s"
    )
    parser.add_argument("--check", action="store_true", help="stop at the end; the exit code says whether all came out")
    parser.add_argument(
        "--embedded", action="store_true", help="use the embedded Pub/Sub even where Google's is installed"
    )
    return parser


def _start_cloud(world: ExitStack, console: Console, *, embedded: bool) -> bigquery.Client:
    """Pub/Sub with topic and subscription, BigQuery with dataset, tables and views; the environment points to both."""
    with ThreadPoolExecutor(1) as side, console.status("starting Pub/Sub and BigQuery"):
        starting = side.submit(world.enter_context, start_bigquery())
        pubsub = world.enter_context(start_pubsub(prefer_google=not embedded))
        bigquery_host = starting.result()
    os.environ["PUBSUB_EMULATOR_HOST"] = pubsub.host
    os.environ["BIGQUERY_EMULATOR_HOST"] = bigquery_host
    console.print(f"Pub/Sub: {pubsub.kind} at {pubsub.host}. BigQuery: bqemulator at {bigquery_host}.")
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        for name in TOPICS:
            publisher.create_topic(name=_topic(name))
            subscriber.create_subscription(name=_subscription(name), topic=_topic(name), ack_deadline_seconds=60)
    client = world.enter_context(_closing(bigquery_client(PROJECT)))
    changes = create_tables(client, DATASET)
    console.print(f"Created {len(TOPICS)} topics, dataset {DATASET}, {len(changes)} tables and views.")
    return client


def _open_door(world: ExitStack, client: bigquery.Client, folder: str) -> tuple[Door, subprocess.Popen[bytes]]:
    """The collector, the connections of those who knock, and its program."""
    store = ConnectionStore(client, DATASET)
    sendgrid = SendGrid()
    now = time.time_ns() // 1000
    # Above the usual rate Segment's library would be told to wait, and sends what was refused after what comes later:
    # an audience's identify, which has no email, would come before the one that tells whose it is.
    application, key = create_connection(
        store, "Acme web app", WORKSPACE, ConnectionKind.SEGMENT, now, calls_per_second=100_000
    )
    segment, segment_key = create_connection(store, "Segment", WORKSPACE, ConnectionKind.SEGMENT, now)
    shared = secrets.token_urlsafe(18)
    keep_signing_secret(store, open_secret_store(folder), segment.connection_id, shared, now)
    provider, _ = create_connection(
        store,
        "SendGrid",
        WORKSPACE,
        ConnectionKind.SENDGRID,
        now,
        verification_key=sendgrid.verification_key(),
    )
    flags = ["--calls_topic", _topic(SEGMENT_CALLS), "--logs_topic", _topic(EMAIL_LOGS), "--dataset", DATASET]
    url, program = world.enter_context(start_service("services.run_collector", [*flags, "--secrets", folder], "/ready"))
    door = Door(
        url,
        Application(url, key),
        Segment(url, segment_key, shared),
        sendgrid,
        {
            "application": application.connection_id,
            "segment": segment.connection_id,
            "sendgrid": provider.connection_id,
        },
        _publish,
    )
    return door, program


def _publish(topic: str, payloads: Sequence[bytes]) -> None:
    with pubsub_v1.PublisherClient() as publisher:
        for future in [publisher.publish(_topic(topic), data, workspace_id=WORKSPACE) for data in payloads]:
            future.result(timeout=60)


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


def tell_access(page: str, token: str) -> str:
    """How somebody gets to the page, and at what stands in the emulators."""
    emulators = {name: os.environ[name] for name in ("PUBSUB_EMULATOR_HOST", "BIGQUERY_EMULATOR_HOST")}
    exports = " ".join(f"{name}={value}" for name, value in emulators.items())
    return f"""
The Connections page is open until Ctrl-C, and everything runs on:

  {page}    admin token: {token}

To query and publish yourself, in another terminal:

  export {exports}

  CLOUDSDK_AUTH_ACCESS_TOKEN=none bq --api {emulators["BIGQUERY_EMULATOR_HOST"]} --project_id {PROJECT} \\
    --discovery_file \\
    "$(gcloud info --format='value(installation.sdk_root)')/platform/bq/discovery_next/bigquery.json" \\
    query --nouse_legacy_sql 'SELECT * FROM segment.current_identities LIMIT 10'

  {shlex.quote(sys.executable)} -c "from pipelines.clients import bigquery_client as client; \\
    [print(dict(row)) for row in client('{PROJECT}').query_and_wait('SELECT * FROM \\`{DATASET}.persons\\` LIMIT 10')]"
"""


if __name__ == "__main__":
    sys.exit(main())
