"""Run the collector: `python -m services.run_collector --help`."""

import argparse
import logging
import math
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import FrameType

import uvicorn
from google.auth.exceptions import DefaultCredentialsError
from starlette.applications import Starlette

from pipelines.clients import bigquery_client
from schemas.tables import check_dataset
from services.collector import build_collector
from services.connection_store import ConnectionStore, StoreError
from services.door import Door
from services.fetch_amazon import fetch_amazon
from services.http_protocol import LimitedProtocol
from services.known_connections import KnownConnections
from services.limits import KEEP_ALIVE_SECONDS, REFRESH_SECONDS
from services.one_line_parser import OneLineParser
from services.publish_messages import Publisher, open_channel
from services.secret_store import SecretStoreError, open_secret_store
from services.signatures.remember_certificates import RememberedCertificates
from services.signatures.remember_signatures import SeenSignatures
from services.take_webhooks import TakeWebhooks

PROGRAM = "python -m services.run_collector"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CollectorSettings:
    """The command line."""

    calls_topic: str
    logs_topic: str
    dataset: str
    secrets: str
    refresh_seconds: float
    host: str
    port: int


class _Server(uvicorn.Server):
    """Ends with 0 after a signal, when all are answered: uvicorn's own ends by the signal."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal; a second one waits for nobody."""
        self.force_exit, self.should_exit = self.should_exit, True


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
    settings = CollectorSettings(**vars(parser.parse_args(arguments)))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        check_dataset(settings.dataset)
        for topic in (settings.calls_topic, settings.logs_topic):
            _check_topic(topic)
        store = ConnectionStore(bigquery_client(settings.dataset.partition(".")[0]), settings.dataset)
        connections = KnownConnections(store.load, open_secret_store(settings.secrets).read)
        connections.refresh()
    except DefaultCredentialsError:
        parser.error("no Google credentials: gcloud auth application-default login")
    except (ValueError, StoreError, SecretStoreError) as error:
        parser.error(str(error))
    try:
        listening = _listen(settings.host, settings.port)
    except OSError as error:
        parser.error(f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}")
    with listening:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        _log.info("Taking calls and webhooks at http://%s:%d", host, listening.getsockname()[1])
        server = _Server(_configure(settings, connections))
        server.run([listening])
    return 0 if server.started else 1


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OverflowError:
        raise OSError("a port lies between 0 and 65535") from None


def _read_seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise argparse.ArgumentTypeError("seconds are more than 0")
    return seconds


def _check_topic(topic: str) -> None:
    parts = topic.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != "topics" or not all(parts):
        raise ValueError(f"{topic!r} is not of the form projects/PROJECT/topics/NAME")


def _configure(settings: CollectorSettings, connections: KnownConnections) -> uvicorn.Config:
    door = Door(connections, lambda: time.time_ns() // 1000, time.monotonic)
    calls, logs = Publisher(settings.calls_topic), Publisher(settings.logs_topic)

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncIterator[None]:
        async with open_channel() as channel:
            calls.open(channel)
            logs.open(channel)
            threading.Thread(target=connections.keep_fresh, args=(settings.refresh_seconds,), daemon=True).start()
            yield
            await calls.close()
            await logs.close()

    certificates = RememberedCertificates(fetch_amazon)
    take_webhooks = TakeWebhooks(door, calls, logs, SeenSignatures(), certificates, fetch_amazon)
    return uvicorn.Config(
        build_collector(door, calls, take_webhooks, live),
        loop="uvloop",
        http=LimitedProtocol,
        ws="none",
        access_log=False,  # a line a request, with its address, is neither affordable nor anybody's business
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # nobody asks for addresses
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    sys.exit(main())
