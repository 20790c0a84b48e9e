"""Connections to the collector: create, list, rotate, revoke. A key is shown once, here, and kept only as a hash."""

import argparse
import getpass
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from google.auth.exceptions import GoogleAuthError
from rich.console import Console
from rich.table import Table

from pipelines.clients import bigquery_client
from schemas.connections import ApiKey, Connection, ConnectionKind
from schemas.tables import check_dataset, find_project
from scripts.tell_error import tell_error
from services.connection_store import ConnectionStore, StoreError
from services.manage_connections import (
    DEFAULT_CALLS_PER_SECOND,
    ROTATION_SECONDS,
    create_connection,
    keep_signing_secret,
    revoke_keys,
    rotate_key,
)
from services.one_line_parser import OneLineParser
from services.secret_store import SecretStoreError, open_secret_store

_OUT = Console(highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    options = _make_parser().parse_args(arguments)
    try:
        check_dataset(options.dataset)
        store = ConnectionStore(bigquery_client(find_project(options.dataset)), options.dataset)
        options.act(store, options)
    except (ValueError, StoreError, SecretStoreError, GoogleAuthError) as error:
        return tell_error("connections", error)
    return 0


def _create(store: ConnectionStore, options: argparse.Namespace) -> None:
    connection, key = create_connection(
        store,
        options.name,
        options.workspace_id,
        ConnectionKind(options.kind),
        _now(),
        connection_id=options.connection_id,
        calls_per_second=options.calls_per_second,
        verification_key=options.verification_key,
        topic_arn=options.topic_arn,
    )
    about = f"Created connection {connection.connection_id} of workspace {connection.workspace_id}."
    print(about, file=sys.stderr)
    _show_key(key)


def _show_key(key: str) -> None:
    print("Its API key, shown only now (standard output holds nothing else):", file=sys.stderr)
    print(key)


def _list(store: ConnectionStore, options: argparse.Namespace) -> None:
    connections = store.load()
    if not connections:
        _OUT.print("There are no connections yet: scripts/connections create --help")
        return
    table = Table()
    for column in ("connection", "name", "workspace", "kind", "calls/s", "keys"):
        table.add_column(column, justify="right" if column == "calls/s" else "left", overflow="fold")
    now = _now()
    for connection in connections.values():
        table.add_row(*(_escape(text) for text in _describe(connection, now)))
    _OUT.print(table)


def _describe(connection: Connection, now: int) -> tuple[str, ...]:
    keys = "\n".join(f"{key.key_id} {_tell_state(key, now)}" for key in connection.keys)
    rate = f"{connection.calls_per_second:,}"
    return connection.connection_id, connection.name, connection.workspace_id, connection.kind.value, rate, keys


def _escape(text: str) -> str:
    return text.replace("[", r"\[")


def _tell_state(key: ApiKey, now: int) -> str:
    if key.expires_at is None:
        return f"valid, since {_tell_time(key.created_at)}"
    return f"{'valid until' if key.is_valid(now) else 'ended'} {_tell_time(key.expires_at)}"


def _tell_time(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _rotate(store: ConnectionStore, options: argparse.Namespace) -> None:
    _, key = rotate_key(store, options.connection_id, _now(), round(options.keep_hours * 3600))
    print(f"The keys before it open the door for {options.keep_hours:g} hours more.", file=sys.stderr)
    _show_key(key)


def _revoke(store: ConnectionStore, options: argparse.Namespace) -> None:
    ended = revoke_keys(store, options.connection_id, _now(), options.key_id)
    if ended:
        print(f"Revoked {', '.join(ended)}: collectors refuse it within some 15 seconds.")
    else:
        print("Nothing to revoke: no such key was valid.")


def _keep_secret(store: ConnectionStore, options: argparse.Namespace) -> None:
    secrets = open_secret_store(options.secrets)
    secret = getpass.getpass("Signing secret: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    keep_signing_secret(store, secrets, options.connection_id, secret, _now())
    print("Kept. From now on webhooks of this connection that are not signed with it are refused.")


def _now() -> int:
    return time.time_ns() // 1000


def _make_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="scripts/connections",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Who may send to the collector, and with which keys. A key is shown once, when it is made; what is kept\n"
            "is a salted hash. Collectors learn of a change within some 15 seconds."
        ),
        epilog=(
            "examples:\n"
            "  scripts/connections create --dataset my-project.segment --workspace_id acme --name 'Web site'\n"
            "  scripts/connections create --dataset my-project.segment --workspace_id acme --name SendGrid \\\n"
            "      --kind sendgrid --verification_key MFkwEwYH...\n"
            "  scripts/connections rotate --dataset my-project.segment web-site-3f2a\n"
            "  scripts/connections revoke --dataset my-project.segment web-site-3f2a --key_id 0123456789ab\n"
            "\n"
            "exit codes: 0 done; 2 a mistake, or BigQuery cannot be asked. BIGQUERY_EMULATOR_HOST names an emulator."
        ),
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    create = _add_command(commands, "create", _create, "make a connection with one key", has_id=False)
    create.add_argument("--name", required=True, help="what people call it")
    create.add_argument("--workspace_id", required=True, help="whose calls these are")
    create.add_argument(
        "--kind",
        choices=[kind.value for kind in ConnectionKind],
        default=ConnectionKind.SEGMENT.value,
        help="what sends through it. Default: %(default)s: SDKs, the HTTP API, Segment's webhooks",
    )
    create.add_argument("--connection_id", help="lower-case letters, digits and hyphens. Default: made of the name")
    create.add_argument(
        "--calls_per_second",
        type=int,
        default=DEFAULT_CALLS_PER_SECOND,
        help="above it, 429; of one collector process. Default: %(default)s, which Segment recommends",
    )
    create.add_argument("--verification_key", help="sendgrid: its public key, from the settings of its webhook")
    create.add_argument("--topic_arn", help="amazon_ses: the SNS topic whose notifications count")
    _add_command(commands, "list", _list, "show all connections and the states of their keys", has_id=False)
    rotate = _add_command(commands, "rotate", _rotate, "make a new key; the ones before it end soon")
    rotate.add_argument(
        "--keep_hours",
        type=_read_hours,
        default=ROTATION_SECONDS / 3600,
        help="how long the keys before it stay valid. Default: %(default)g",
    )
    revoke = _add_command(commands, "revoke", _revoke, "end all keys of a connection, or one, at once")
    revoke.add_argument("--key_id", help="only this one: the 12 characters that list shows")
    secret = _add_command(
        commands, "keep_secret", _keep_secret, "keep what webhooks are signed with (asked for, or from standard input)"
    )
    secret.add_argument(
        "--secrets", required=True, metavar="projects/P|FOLDER", help="Secret Manager, or a folder on this machine"
    )
    return parser


def _add_command(
    commands: "argparse._SubParsersAction[OneLineParser]",
    name: str,
    act: object,
    help_text: str,
    *,
    has_id: bool = True,
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_text, description=f"{help_text.capitalize()}.", allow_abbrev=False)
    command.add_argument("--dataset", required=True, metavar="PROJECT.DATASET", help="where connections are kept")
    if has_id:
        command.add_argument("connection_id", metavar="CONNECTION", help="its id, as list shows it")
    command.set_defaults(act=act)
    return command


def _read_hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours <= 24 * 365:
        raise argparse.ArgumentTypeError("hours lie between 0 and 8,760")
    return hours


if __name__ == "__main__":
    sys.exit(main())
