"""Who may see the page, and what browsers may do with it. No answer leaves without passing here."""

from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.page.sessions import Session, Sessions

CSP = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "img-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_SAFE = ("GET", "HEAD")
LOGIN = "/login"
STATIC = "/static/"
_OPEN = (LOGIN, "/health")


class Guard:
    """Lets through who has a session, and forms that this site has sent; all else learns nothing.

    `is_https`: whether browsers come by https whatever the request looks like from here, as behind a proxy.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, is_https: bool) -> None:
        self._app = app
        self._sessions = sessions
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_https = self._is_https or scope["scheme"] == "https"
        headers = Headers(scope=scope)
        session = self._sessions.find(read_cookie(headers, cookie_name(is_https)))
        scope.setdefault("state", {}).update(session=session, is_https=is_https)
        answer = self._refuse(scope, headers, session) or self._app
        await answer(scope, receive, _add_headers(send, scope["path"], is_https))

    def _refuse(self, scope: Scope, headers: Headers, session: Session | None) -> Response | None:
        path, method = scope["path"], scope["method"]
        if method not in _SAFE and not is_same_origin(headers):
            return PlainTextResponse("This form was sent by another site.", 403)
        if session is not None or path in _OPEN or path.startswith(STATIC):
            return None
        if method not in _SAFE:
            return PlainTextResponse("Log in first.", 401)
        wanted = path + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        return RedirectResponse(LOGIN if wanted == "/" else f"{LOGIN}?next={quote(wanted, safe='')}", 303)


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from a page of ours.

    Over plain http browsers send no Sec-Fetch-Site, and with our Referrer-Policy an Origin of `null`: then the cookie's
    SameSite and the form's token have to do. https://fetch.spec.whatwg.org/#append-a-request-origin-header
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "null")
    return origin == "null" or origin.partition("://")[2] == headers.get("host")


def cookie_name(is_https: bool) -> str:
    """The name of the session's cookie; browsers take `__Host-` only from this very host, by https."""
    return "__Host-connections-session" if is_https else "connections-session"


def set_cookie(response: Response, value: str, is_https: bool, seconds: int) -> None:
    """Give the browser its session, or with 0 seconds take it away."""
    response.set_cookie(
        cookie_name(is_https), value, max_age=seconds, path="/", secure=is_https, httponly=True, samesite="strict"
    )


def read_cookie(headers: Headers, name: str) -> str:
    """The cookie of this name; empty if there is none."""
    return cookie_parser(headers.get("cookie", "")).get(name, "")


def local_path(path: str) -> str:
    """Where a login leads to: a path of this site, whatever was asked for."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_local else "/"


def _add_headers(send: Send, path: str, is_https: bool) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers["Cache-Control"] = "no-cache" if path.startswith(STATIC) else "no-store"
            if is_https:
                headers["Strict-Transport-Security"] = "max-age=31536000"
        await send(message)

    return send_with_headers
