"""Run the collector: `python -m services.run_collector --help`."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence

from schemas.pubsub_names import check_pubsub_name
from schemas.tables import check_dataset, find_project
from services.limits import REFRESH_SECONDS
from services.one_line_parser import OneLineParser
from services.open_socket import find_url, open_socket

PROGRAM = "python -m services.run_collector"

_log = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = OneLineParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="The door: takes the calls of Segment's SDKs and the webhooks of Segment and of email providers, "
        "checks who sends them, and answers when Pub/Sub has taken them. One process uses one core; start "
        "more of them behind a load balancer that speaks HTTPS.",
        epilog="PUBSUB_EMULATOR_HOST and BIGQUERY_EMULATOR_HOST send it to emulators. Keys: scripts/connections --help",
    )
    parser.add_argument("--calls_topic", required=True, metavar="projects/P/topics/T", help="where Segment calls go")
    parser.add_argument("--logs_topic", required=True, metavar="projects/P/topics/T", help="where email logs go")
    parser.add_argument("--dataset", required=True, metavar="PROJECT.DATASET", help="whose connections may send")
    parser.add_argument(
        "--secrets",
        required=True,
        metavar="projects/P|FOLDER",
        help="where signing secrets of webhooks are kept: Secret Manager, or a folder on this machine",
    )
    parser.add_argument(
        "--refresh_seconds",
        type=_read_seconds,
        default=REFRESH_SECONDS,
        help="how often connections are read anew: a revoked key is good for no longer. Default: %(default)g",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on. Default: %(default)s, this machine"
    )
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one. Default: %(default)s")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the exit code."""
    parser = build_parser()
    settings = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        check_dataset(settings.dataset)
        for topic in (settings.calls_topic, settings.logs_topic):
            check_pubsub_name(topic, "topics")
    except ValueError as error:
        parser.error(str(error))
    # These take most of a second to import; a mistake in the flags is told before.
    from google.auth.exceptions import DefaultCredentialsError

    from pipelines.clients import bigquery_client
    from services.connection_store import ConnectionStore, StoreError
    from services.known_connections import KnownConnections
    from services.secret_store import SecretStoreError, open_secret_store
    from services.serve_collector import make_server

    try:
        store = ConnectionStore(bigquery_client(find_project(settings.dataset)), settings.dataset)
        connections = KnownConnections(store.load, open_secret_store(settings.secrets).read)
        connections.refresh()
    except DefaultCredentialsError:
        parser.error("no Google credentials: gcloud auth application-default login")
    except (StoreError, SecretStoreError) as error:
        parser.error(str(error))
    try:
        listening = open_socket(settings.host, settings.port)
    except OSError as error:
        parser.error(f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}")
    with listening:
        _log.info("Taking calls and webhooks at %s", find_url(settings.host, listening))
        server = make_server(settings.calls_topic, settings.logs_topic, connections, settings.refresh_seconds)
        server.run([listening])
    return 0 if server.started else 1


def _read_seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError("seconds are more than 0")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
