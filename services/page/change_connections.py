"""A new connection, a new key, and the end of keys."""

import re
from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schemas.connections import Connection, ConnectionKind
from services.manage_connections import (
    DEFAULT_CALLS_PER_SECOND,
    MAX_CALLS_PER_SECOND,
    MAX_NAME_CHARACTERS,
    SIGNED_WITH_SECRET,
    RefusedConnectionError,
    check_name,
    check_secret,
    create_connection,
    make_connection_id,
    revoke_keys,
    rotate_key,
)
from services.page.hold_keys import HOLD_SECONDS, HeldKey
from services.page.parts import Parts
from services.page.read_form import Endpoint, Form, take_form
from services.page.render import render
from services.page.show_connections import name_connection, name_kind
from services.page.write_snippets import PROVIDERS, write_snippets
from services.secret_store import signing_secret_name

KEEPS = {"0": "at once", "3600": "in an hour", "86400": "in 24 hours", "604800": "in a week"}
"""Seconds -> when the old keys of a rotation end."""

_EMPTY = {
    "name": "",
    "workspace_id": "default",
    "kind": ConnectionKind.SEGMENT.value,
    "calls_per_second": str(DEFAULT_CALLS_PER_SECOND),
    "verification_key": "",
    "topic_arn": "",
}


def show_new(request: Request) -> Response:
    """The form for a new connection."""
    return _render_new(request, _EMPTY)


def take_new(parts: Parts) -> Endpoint:
    """Makes the connection and leads to its key; 400 with the form and what is wrong with it."""

    def take(request: Request, form: Form) -> Response:
        try:
            connection, key = _create(parts, form)
        except RefusedConnectionError as error:
            return _render_new(request, {name: form.get(name, "") for name in _EMPTY}, 400, str(error))
        return _lead_to_key(parts, connection, key)

    return take_form(take)


def _create(parts: Parts, form: Form) -> tuple[Connection, str]:
    name = check_name(form.get("name", ""))
    if form.get("kind") not in list(ConnectionKind):
        raise RefusedConnectionError("choose what sends through the connection")
    kind = ConnectionKind(form["kind"])
    verification_key = form.get("verification_key", "").strip() if kind is ConnectionKind.SENDGRID else None
    topic_arn = form.get("topic_arn", "").strip() if kind is ConnectionKind.AMAZON_SES else None
    secret = _read_secret(form) if kind in SIGNED_WITH_SECRET else None
    rate = form.get("calls_per_second", "").strip()
    if not re.fullmatch(r"[0-9]{1,9}", rate):
        raise RefusedConnectionError("calls per second are a whole number")
    connection_id = make_connection_id(name, kind)
    if secret:
        # Before the connection, which refuses whatever is not signed with it.
        parts.secrets.write(signing_secret_name(connection_id), secret)
    return create_connection(
        parts.store,
        name,
        form.get("workspace_id", "").strip(),
        kind,
        parts.clock(),
        connection_id=connection_id,
        calls_per_second=int(rate),
        verification_key=verification_key,
        topic_arn=topic_arn,
        has_signing_secret=secret is not None,
    )


def _read_secret(form: Form) -> str | None:
    text = form.get("signing_secret", "").strip()
    if not text:
        return None
    check_secret(text)
    return text


def take_rotation(parts: Parts) -> Endpoint:
    """Adds a key and leads to it; the keys before it end as chosen."""

    def take(request: Request, form: Form) -> Response:
        keep = form.get("keep", "")
        if keep not in KEEPS:
            raise HTTPException(400, "Choose when the old keys end.")
        connection_id = request.path_params["connection_id"]
        connection, key = rotate_key(parts.store, connection_id, parts.clock(), int(keep))
        return _lead_to_key(parts, connection, key)

    return take_form(take)


def _lead_to_key(parts: Parts, connection: Connection, key: str) -> Response:
    ticket = parts.held_keys.hold(HeldKey(connection.connection_id, key))
    return RedirectResponse(f"/connections/{connection.connection_id}/key?ticket={ticket}", 303)


def show_key(parts: Parts) -> Callable[[Request], Response]:
    """A new key and how to use it, once; 410 ever after."""

    def show(request: Request) -> Response:
        connection = _find(parts, request)
        ticket = request.query_params.get("ticket", "")
        # A HEAD would take the key and show it to nobody.
        held = parts.held_keys.take(ticket, connection.connection_id) if request.method == "GET" else None
        return render(
            request,
            "key.html",
            200 if held else 410,
            connection=connection,
            label=name_connection(connection),
            key=held.text if held else None,
            snippets=write_snippets(connection, held.text, parts.collector_url) if held else [],
            hold_minutes=int(HOLD_SECONDS // 60),
        )

    return show


def show_revocation(parts: Parts) -> Callable[[Request], Response]:
    """Asks whether a key, or all of a connection's, shall end."""

    def show(request: Request) -> Response:
        connection = _find(parts, request)
        key_id = request.query_params.get("key", "")
        keys = [key for key in connection.keys if key.is_valid(parts.clock()) and key_id in ("", key.key_id)]
        return render(
            request,
            "revoke.html",
            connection=connection,
            label=name_connection(connection),
            kind=name_kind(connection),
            key_id=key_id,
            keys=keys,
            is_last=len(keys) == sum(key.is_valid(parts.clock()) for key in connection.keys),
            now=parts.clock(),
        )

    return show


def take_revocation(parts: Parts) -> Endpoint:
    """Ends them."""

    def take(request: Request, form: Form) -> Response:
        connection_id = request.path_params["connection_id"]
        revoke_keys(parts.store, connection_id, parts.clock(), form.get("key") or None)
        return RedirectResponse(f"/connections/{connection_id}#keys", 303)

    return take_form(take)


def _find(parts: Parts, request: Request) -> Connection:
    connection = parts.store.load().get(request.path_params["connection_id"])
    if connection is None:
        raise HTTPException(404, "There is no connection of this id.")
    return connection


def _render_new(request: Request, values: dict[str, str], status: int = 200, error: str = "") -> Response:
    return render(
        request,
        "new.html",
        status,
        values=values,
        error=error,
        kinds=[(ConnectionKind.SEGMENT.value, "Segment", "SDKs, the HTTP API, Segment’s webhooks")]
        + [(kind.value, name, "logs of sent email") for kind, (name, _) in PROVIDERS.items()],
        max_name=MAX_NAME_CHARACTERS,
        max_rate=MAX_CALLS_PER_SECOND,
    )
