"""The Connections page as an application."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.connection_store import StoreError
from services.manage_connections import RefusedConnectionError
from services.page.change_connections import (
    show_key,
    show_new,
    show_revocation,
    take_new,
    take_revocation,
    take_rotation,
)
from services.page.guard import Guard
from services.page.keep_write_key import show_source, take_write_key
from services.page.log_in import show_login, take_login, take_logout
from services.page.parts import Parts
from services.page.read_form import MAX_FORM_BYTES
from services.page.read_statistics import StatisticsError
from services.page.render import STATIC_FOLDER, render
from services.page.show_connections import show_connection, show_list, show_unknown
from services.secret_store import SecretStoreError

_TITLES = {
    400: "This cannot be done",
    403: "Refused",
    404: "There is nothing here",
    405: "This cannot be done",
    408: "That took too long",
    413: "That is too much",
}


def build_page(parts: Parts, is_https: bool = False) -> ASGIApp:
    """The application; `is_https`: see `Guard`."""
    one = "/connections/{connection_id}"
    routes = [
        Route("/health", _tell_health, methods=["GET"]),
        Route("/login", show_login, methods=["GET"]),
        Route("/login", take_login(parts), methods=["POST"]),
        Route("/logout", take_logout(parts), methods=["POST"]),
        Route("/", show_list(parts), methods=["GET"]),
        Route("/connections/new", show_new, methods=["GET"]),
        Route("/connections/new", take_new(parts), methods=["POST"]),
        Route(one, show_connection(parts), methods=["GET"]),
        Route(f"{one}/key", show_key(parts), methods=["GET"]),
        Route(f"{one}/rotate", take_rotation(parts), methods=["POST"]),
        Route(f"{one}/revoke", show_revocation(parts), methods=["GET"]),
        Route(f"{one}/revoke", take_revocation(parts), methods=["POST"]),
        Route("/unknown", show_unknown(parts), methods=["GET"]),
        Route("/source", show_source(parts), methods=["GET"]),
        Route("/source", take_write_key(parts), methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC_FOLDER)),
    ]
    handlers = {
        HTTPException: _say_refused,
        RefusedConnectionError: _say_impossible,
        StoreError: _say_away,
        StatisticsError: _say_away,
        SecretStoreError: _say_away,
        Exception: _say_failed,
    }
    app = Starlette(routes=routes, exception_handlers=handlers, max_body_size=MAX_FORM_BYTES)
    return Guard(app, parts.sessions, is_https)


async def _tell_health(request: Request) -> Response:
    return PlainTextResponse("alive")


async def _say_away(request: Request, error: Exception) -> Response:
    return _render_error(request, 503, "Something that this page asks does not answer", str(error))


async def _say_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "Look for it in the list of connections.", 413: "A form has at most 16 KiB."}
    is_ours = error.detail.endswith(".")
    text = error.detail if is_ours else words.get(error.status_code, "")
    return _render_error(request, error.status_code, _TITLES.get(error.status_code, "Refused"), text)


async def _say_impossible(request: Request, error: Exception) -> Response:
    return _render_error(request, 400, _TITLES[400], str(error))


async def _say_failed(request: Request, error: Exception) -> Response:
    return _render_error(request, 500, "A mistake of ours", "The program’s log says more.")


def _render_error(request: Request, status: int, title: str, text: str) -> Response:
    text = text[:1].upper() + text[1:]
    if text and not text.endswith((".", "?")):
        text += "."
    return render(request, "error.html", status, title=title, text=text)
