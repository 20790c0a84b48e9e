"""Connections are the sum of their changes, in whatever order these are read: a revoked key stays revoked."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from schemas.connections import ApiKey, Connection, ConnectionKind

CREATED = "created"
SET = "set"
KEY_ADDED = "key_added"
KEY_EXPIRES = "key_expires"

SECRET_KEPT = "secret_kept"

SETTINGS = ("name", "calls_per_second", "verification_key", "topic_arn")
"""What `set` may change; of each the last counts, and NULL changes nothing."""

_KINDS = frozenset(kind.value for kind in ConnectionKind)


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of `connection_changes`, times in microseconds since 1970."""

    changed_at: int
    connection_id: str
    change: str
    workspace_id: str | None = None
    kind: str | None = None
    name: str | None = None
    calls_per_second: int | None = None
    verification_key: str | None = None
    topic_arn: str | None = None
    key_id: str | None = None
    key_salt: bytes | None = None
    key_hash: bytes | None = None
    expires_at: int | None = None


def create(connection: Connection) -> Change:
    """The change that makes a connection, without its keys."""
    settings = {name: getattr(connection, name) for name in SETTINGS}
    about = connection.connection_id, CREATED, connection.workspace_id, connection.kind.value
    return Change(connection.created_at, *about, **settings)


def add_key(connection: Connection, key: ApiKey) -> Change:
    """The change that adds a key."""
    about = connection.connection_id, KEY_ADDED, connection.workspace_id
    return Change(key.created_at, *about, key_id=key.key_id, key_salt=key.salt, key_hash=key.hash)


def expire_key(connection_id: str, key_id: str, expires_at: int, now: int) -> Change:
    """The change after which a key opens nothing from `expires_at` on."""
    return Change(now, connection_id, KEY_EXPIRES, key_id=key_id, expires_at=expires_at)


def fold_changes(changes: Iterable[Change]) -> dict[str, Connection]:
    """The connections by their id, oldest first; changes of one that was never created count for nothing.

    So do those of a kind that this version does not know, a second creation, and a key of another workspace: of two who
    create the same id at the same moment, the later one's key opens nothing. None keeps the others from being read.
    """
    created: dict[str, Change] = {}
    settings: dict[str, dict[str, Any]] = {}
    keys: dict[tuple[str, str | None], dict[str, ApiKey]] = {}
    expiries: dict[tuple[str, str], int] = {}
    over: set[tuple[str, str]] = set()
    for change in sorted(changes, key=lambda change: (change.changed_at, msgspec.json.encode(change))):
        connection_id = change.connection_id
        if change.change == CREATED:
            if connection_id in created or not _is_readable(change):
                continue
            created[connection_id] = change
        if change.change in (CREATED, SET):
            settings.setdefault(connection_id, {}).update(_read_settings(change))
        elif change.change == SECRET_KEPT:
            settings.setdefault(connection_id, {})["secret_kept_at"] = change.changed_at
        elif change.change == KEY_ADDED and change.key_id and change.key_salt and change.key_hash:
            key = ApiKey(change.key_id, change.key_salt, change.key_hash, change.changed_at)
            keys.setdefault((connection_id, change.workspace_id), {}).setdefault(change.key_id, key)
        elif change.change == KEY_EXPIRES and change.key_id and change.expires_at is not None:
            place = connection_id, change.key_id
            expiries[place] = min(expiries.get(place, change.expires_at), change.expires_at)
            if change.expires_at <= change.changed_at:
                over.add(place)
    return {
        connection_id: Connection(
            connection_id=connection_id,
            workspace_id=change.workspace_id or "",
            kind=ConnectionKind(change.kind or ""),
            created_at=change.changed_at,
            keys=tuple(
                msgspec.structs.replace(
                    key, expires_at=expiries.get((connection_id, key_id)), is_over=(connection_id, key_id) in over
                )
                for key_id, key in keys.get((connection_id, change.workspace_id), {}).items()
            ),
            **settings[connection_id],
        )
        for connection_id, change in created.items()
    }


def keep_secret(connection_id: str, now: int) -> Change:
    """The change that says that the secret store has a new signing secret, which stands nowhere else."""
    return Change(now, connection_id, SECRET_KEPT)


def _is_readable(creation: Change) -> bool:
    return creation.kind in _KINDS and creation.name is not None and creation.calls_per_second is not None


def _read_settings(change: Change) -> Mapping[str, Any]:
    return {name: value for name in SETTINGS if (value := getattr(change, name)) is not None}
