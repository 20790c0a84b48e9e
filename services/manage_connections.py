"""What people do with connections: create, rotate a key, revoke. For `scripts/connections` and the Connections page."""

import re
import secrets

from schemas.connections import Connection, ConnectionKind
from services.connection_changes import add_key, create, expire_key, keep_secret
from services.connection_store import ConnectionStore
from services.keys import make_key
from services.secret_store import SecretStore, signing_secret_name
from services.signatures.amazon_sns import check_topic_arn
from services.signatures.sendgrid import check_verification_key
from services.signatures.verdicts import BadTopicArnError, BadVerificationKeyError

DEFAULT_CALLS_PER_SECOND = 1000
"""What Segment recommends for a workspace:
https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#rate-limits"""
MAX_CALLS_PER_SECOND = 1_000_000

ROTATION_SECONDS = 24 * 3600
"""How long the old key stays valid beside the new one, by default."""

MAX_NAME_CHARACTERS = 80
MAX_SECRET_CHARACTERS = 512

SIGNED_WITH_SECRET = frozenset({ConnectionKind.SEGMENT, ConnectionKind.MAILGUN})
"""Whose webhooks are signed with a secret that both sides keep."""

RESERVED_IDS = ("new",)

_SECOND = 1_000_000
# It becomes a Pub/Sub attribute, part of a URL, and of a secret's name.
_CONNECTION_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class RefusedConnectionError(ValueError):
    """What was asked for cannot be; one line that says why."""


def create_connection(
    store: ConnectionStore,
    name: str,
    workspace_id: str,
    kind: ConnectionKind,
    now: int,
    *,
    connection_id: str | None = None,
    calls_per_second: int = DEFAULT_CALLS_PER_SECOND,
    verification_key: str | None = None,
    topic_arn: str | None = None,
    has_signing_secret: bool = False,
) -> tuple[Connection, str]:
    """Make a connection with one key; gives it and the key's text, which is nowhere else.

    `now` is in microseconds since 1970. The id is made of the name and four random characters if none is given.
    `has_signing_secret`: the secret store has one already, under `signing_secret_name`.
    Raises `RefusedConnectionError` and `StoreError`.
    """
    name = check_name(name)
    if not workspace_id or not workspace_id.isprintable() or len(workspace_id.encode()) > 1024:
        raise RefusedConnectionError("the workspace is empty, too long, or has characters that cannot be printed")
    if connection_id is None:
        connection_id = make_connection_id(name, kind)
    if not _CONNECTION_ID.fullmatch(connection_id):
        raise RefusedConnectionError(
            f"the connection id {connection_id!r} is not made of 1 to 63 lower-case letters, digits and hyphens"
        )
    if connection_id in RESERVED_IDS:
        raise RefusedConnectionError(f"the connection id {connection_id!r} is an address of the Connections page")
    if not 1 <= calls_per_second <= MAX_CALLS_PER_SECOND:
        raise RefusedConnectionError(f"calls per second lie between 1 and {MAX_CALLS_PER_SECOND:,}")
    if verification_key and kind is not ConnectionKind.SENDGRID:
        raise RefusedConnectionError("a verification key is SendGrid's")
    if topic_arn and kind is not ConnectionKind.AMAZON_SES:
        raise RefusedConnectionError("a topic ARN is Amazon's")
    if connection_id in store.load():
        raise RefusedConnectionError(
            f"there is a connection {connection_id} already: rotate its key, or take another id"
        )
    try:
        verification_key = check_verification_key(verification_key) if verification_key else None
        topic_arn = check_topic_arn(topic_arn) if topic_arn else None
    except (BadVerificationKeyError, BadTopicArnError) as error:
        raise RefusedConnectionError(str(error)) from None
    text, key = make_key(now)
    connection = Connection(
        connection_id=connection_id,
        workspace_id=workspace_id,
        kind=kind,
        name=name,
        created_at=now,
        calls_per_second=calls_per_second,
        verification_key=verification_key,
        topic_arn=topic_arn,
        secret_kept_at=now if has_signing_secret else None,
        keys=(key,),
    )
    secret = [keep_secret(connection_id, now)] if has_signing_secret else []
    store.append([create(connection), add_key(connection, key), *secret])
    return connection, text


def make_connection_id(name: str, kind: ConnectionKind) -> str:
    """An id made of the name, or of the kind if the name has nothing to make it of, and four random characters."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or kind.value.replace("_", "-")
    return f"{stem}-{secrets.token_hex(2)}"


def check_name(name: str) -> str:
    """The name, trimmed. Raises `RefusedConnectionError`."""
    name = name.strip()
    if not name or not name.isprintable() or len(name) > MAX_NAME_CHARACTERS:
        raise RefusedConnectionError(f"a name has 1 to {MAX_NAME_CHARACTERS} characters that can be printed")
    return name


def rotate_key(
    store: ConnectionStore, connection_id: str, now: int, keep_seconds: int = ROTATION_SECONDS
) -> tuple[Connection, str]:
    """Add a key and let the ones before it expire in `keep_seconds`; gives the connection as it was, and the key.

    Raises `RefusedConnectionError` and `StoreError`.
    """
    connection = find_connection(store, connection_id)
    text, key = make_key(now)
    ends = now + keep_seconds * _SECOND
    old = [old.key_id for old in connection.keys if old.is_valid(ends)]
    store.append([add_key(connection, key), *(expire_key(connection_id, key_id, ends, now) for key_id in old)])
    return connection, text


def revoke_keys(store: ConnectionStore, connection_id: str, now: int, key_id: str | None = None) -> list[str]:
    """Let one key, or all of the connection's, open nothing from now on; gives the ids of those that did until now.

    Raises `RefusedConnectionError` and `StoreError`.
    """
    connection = find_connection(store, connection_id)
    if key_id is not None and key_id not in {key.key_id for key in connection.keys}:
        raise RefusedConnectionError(f"connection {connection_id} has no key {key_id}")
    ended = [key.key_id for key in connection.keys if key.is_valid(now) and key_id in (None, key.key_id)]
    if ended:
        store.append([expire_key(connection_id, key, now, now) for key in ended])
    return ended


def find_connection(store: ConnectionStore, connection_id: str) -> Connection:
    """The connection of this id. Raises `RefusedConnectionError`."""
    connections = store.load()
    if connection_id not in connections:
        raise RefusedConnectionError(f"there is no connection {connection_id!r}: scripts/connections list shows all")
    return connections[connection_id]


def check_secret(secret: str) -> None:
    """Raise `RefusedConnectionError` for what is no signing secret."""
    if not secret or len(secret) > MAX_SECRET_CHARACTERS or not secret.isprintable():
        raise RefusedConnectionError(
            f"a signing secret has 1 to {MAX_SECRET_CHARACTERS} characters that can be printed"
        )


def keep_signing_secret(
    store: ConnectionStore, secrets: SecretStore, connection_id: str, secret: str, now: int
) -> None:
    """Keep what the webhooks of a connection are signed with; from then on unsigned ones are refused.

    Raises `RefusedConnectionError`, `SecretStoreError` and `StoreError`.
    """
    connection = find_connection(store, connection_id)
    if connection.kind not in SIGNED_WITH_SECRET:
        raise RefusedConnectionError(f"webhooks of the kind {connection.kind} are not signed with a shared secret")
    check_secret(secret)
    secrets.write(signing_secret_name(connection_id), secret)
    store.append([keep_secret(connection_id, now)])
