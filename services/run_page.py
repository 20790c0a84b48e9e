"""The Connections page as a program: `python -m services.run_page --dataset PROJECT.DATASET --secrets FOLDER`.

The admin token is the environment variable ADMIN_TOKEN. A mistake is one line and exit code 2.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from schemas.tables import check_dataset, find_project
from services.one_line_parser import OneLineParser
from services.open_socket import find_url, open_socket
from services.page.sessions import MIN_TOKEN_CHARACTERS

ADMIN_TOKEN = "ADMIN_TOKEN"
"""The environment variable that holds the token; never a flag, since other users of a machine see its command lines."""

DEFAULT_COLLECTOR_URL = "http://127.0.0.1:8080"

# https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Host - it goes into shell commands and code.
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?", re.ASCII)


class SettingsError(ValueError):
    """The page cannot be started like this; one line that says why."""


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = OneLineParser(
        prog="python -m services.run_page",
        description="Serve the Connections page; its admin token is the environment variable ADMIN_TOKEN.",
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, metavar="PROJECT.DATASET", help="where the tables are")
    parser.add_argument(
        "--secrets",
        required=True,
        metavar="projects/P|FOLDER",
        help="where secrets are kept: Secret Manager or a folder",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on; default: this machine only")
    parser.add_argument("--port", type=int, default=8090, help="default: 8090")
    parser.add_argument(
        "--collector_url",
        default=DEFAULT_COLLECTOR_URL,
        metavar="URL",
        help=f"the collector's public address, for what is shown to copy; default: {DEFAULT_COLLECTOR_URL}",
    )
    parser.add_argument("--https", action="store_true", help="browsers come by https, through a proxy that ends it")
    return parser


def read_token(environment: Mapping[str, str]) -> str:
    """The admin token. Raises `SettingsError`."""
    token = environment.get(ADMIN_TOKEN, "").strip()
    if len(token) < MIN_TOKEN_CHARACTERS:
        state = "is not set" if not token else f"has {len(token)} characters"
        raise SettingsError(
            f"the environment variable {ADMIN_TOKEN} {state}: set it to {MIN_TOKEN_CHARACTERS} or more random "
            "characters, e.g. those of: openssl rand -hex 16"
        )
    return token


def check_url(url: str) -> str:
    """The URL without a slash at its end. Raises `SettingsError`."""
    if not _URL.fullmatch(url):
        raise SettingsError(f"--collector_url {url!r} is no address such as https://collector.example.com")
    return url.rstrip("/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until it is stopped; gives the exit code."""
    flags = build_parser().parse_args(arguments)
    try:
        token, collector_url = read_token(os.environ), check_url(flags.collector_url)
        check_dataset(flags.dataset)
        if not 0 <= flags.port <= 65_535:
            raise SettingsError(f"--port {flags.port} is no port")
        _serve(flags, token, collector_url)
    except ValueError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        pass
    return 0


def _serve(flags: argparse.Namespace, token: str, collector_url: str) -> None:
    # These take a second to import; a mistake in the flags is told before.
    import uvicorn
    from google.auth.exceptions import GoogleAuthError

    from pipelines.clients import bigquery_client
    from services.connection_store import ConnectionStore
    from services.http_protocol import LimitedProtocol
    from services.page.app import build_page
    from services.page.hold_keys import HeldKeys
    from services.page.parts import Parts
    from services.page.read_statistics import BigqueryStatistics
    from services.page.sessions import Attempts, Sessions
    from services.secret_store import SecretManagerStore, SecretStoreError, open_secret_store

    try:
        client = bigquery_client(find_project(flags.dataset))
        secrets = open_secret_store(flags.secrets)
    except (GoogleAuthError, SecretStoreError) as error:
        raise SettingsError(f"no access to Google Cloud: {' '.join(str(error).split())}") from None
    parts = Parts(
        store=ConnectionStore(client, flags.dataset),
        statistics=BigqueryStatistics(client, flags.dataset),
        secrets=secrets,
        secrets_at=flags.secrets if isinstance(secrets, SecretManagerStore) else str(Path(flags.secrets).resolve()),
        collector_url=collector_url,
        sessions=Sessions(token, _now),
        attempts=Attempts(time.monotonic),
        held_keys=HeldKeys(time.monotonic),
        clock=_now,
    )
    config = uvicorn.Config(
        build_page(parts, is_https=flags.https),
        http=LimitedProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
        limit_concurrency=100,
        timeout_graceful_shutdown=5,
    )
    try:
        listening = open_socket(flags.host, flags.port)
    except OSError as error:
        raise SettingsError(f"cannot listen on {flags.host}, port {flags.port}: {error.strerror or error}") from None
    with listening:
        print(f"The Connections page is at {find_url(flags.host, listening)}", flush=True)  # noqa: T201
        uvicorn.Server(config).run(sockets=[listening])


def _now() -> int:
    return time.time_ns() // 1000


def _fail(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201 - talks to who started it
    return 2


if __name__ == "__main__":
    sys.exit(main())
