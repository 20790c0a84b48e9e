"""Segment's write key, for what is sent to Segment: it comes in here, and never out again."""

import shlex
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.page.parts import Parts
from services.page.read_form import Endpoint, Form, take_form
from services.page.render import render
from services.secret_store import WRITE_KEY_SECRET

MAX_KEY_CHARACTERS = 200


def show_source(parts: Parts) -> Callable[[Request], Response]:
    """Whether a key is kept, and the form for another."""

    def show(request: Request) -> Response:
        return _render_source(parts, request, is_new="kept" in request.query_params)

    return show


def take_write_key(parts: Parts) -> Endpoint:
    """Keeps the key; 400 if the text can be none."""

    def take(request: Request, form: Form) -> Response:
        key = form.get("write_key", "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key or len(key) > MAX_KEY_CHARACTERS:
            return _render_source(parts, request, 400, "That is no write key: copy it whole, and nothing with it.")
        parts.secrets.write(WRITE_KEY_SECRET, key)
        return RedirectResponse("/source?kept", 303)

    return take_form(take)


def _render_source(
    parts: Parts, request: Request, status: int = 200, error: str = "", is_new: bool = False
) -> Response:
    is_kept = bool(parts.secrets.read(WRITE_KEY_SECRET))
    return render(
        request,
        "source.html",
        status,
        is_kept=is_kept,
        is_new=is_new and is_kept,
        error=error,
        in_cloud=parts.secrets_at.startswith("projects/"),
        secret=f"{parts.secrets_at}/secrets/{WRITE_KEY_SECRET}",
        file=shlex.quote(f"{parts.secrets_at}/{WRITE_KEY_SECRET}"),
        max_key=MAX_KEY_CHARACTERS,
    )
