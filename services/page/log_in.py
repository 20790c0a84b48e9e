"""In with the admin token, and out again."""

import math
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.page.guard import LOGIN, local_path, set_cookie
from services.page.parts import Parts
from services.page.read_form import Endpoint, Form, read_form, take_form
from services.page.render import render
from services.page.sessions import SESSION_SECONDS


def show_login(request: Request) -> Response:
    """The form for the token."""
    if request.state.session is not None:
        return RedirectResponse("/", 303)
    return _render_login(request, request.query_params.get("next", "/"))


def take_login(parts: Parts) -> Callable[[Request], Awaitable[Response]]:
    """Starts a session for who has the token; 401 for another, 429 after too many of them."""

    async def take(request: Request) -> Response:
        form = await read_form(request)
        wanted = local_path(form.get("next", "/"))
        if wait := math.ceil(parts.attempts.take()):
            error = f"Too many wrong tokens. Try again in {wait} seconds."
            return _render_login(request, wanted, 429, error, {"Retry-After": str(wait)})
        if not parts.sessions.is_token(form.get("token", "").strip()):
            return _render_login(request, wanted, 401, "That is not the admin token.")
        parts.attempts.give_back()
        response = RedirectResponse(wanted, 303)
        set_cookie(response, parts.sessions.start(), request.state.is_https, SESSION_SECONDS)
        return response

    return take


def take_logout(parts: Parts) -> Endpoint:
    """Ends the session."""

    def log_out(request: Request, form: Form) -> Response:
        parts.sessions.end(request.state.session)
        response = RedirectResponse(LOGIN, 303)
        set_cookie(response, "", request.state.is_https, 0)
        return response

    return take_form(log_out)


def _render_login(
    request: Request, wanted: str, status: int = 200, error: str = "", headers: dict[str, str] | None = None
) -> Response:
    return render(request, "login.html", status, headers, next=local_path(wanted), error=error)
