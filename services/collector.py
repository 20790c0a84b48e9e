"""The collector: what SDKs, Segment and email providers send, checked at the door and published to Pub/Sub."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.answers import BUG, EXPOSED, RefusedError, say_refused
from services.door import Door
from services.publish_messages import Publisher
from services.take_calls import TakeCalls
from services.take_webhooks import TakeWebhooks


def build_collector(
    door: Door,
    calls: Publisher,
    take_webhooks: TakeWebhooks,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> ASGIApp:
    """The application; `calls` publishes Segment calls."""
    take = TakeCalls(door, calls)
    routes = [
        Route("/v1/{kind}", take, methods=["POST"]),
        Route("/hooks/{sender}", take_webhooks.__call__, methods=["POST"]),
        Route("/health", _tell_health, methods=["GET"]),
        Route("/ready", _tell_ready(door), methods=["GET"]),
    ]
    handlers = {RefusedError: _answer_refused(door), HTTPException: _answer_http, Exception: _answer_bug}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False  # else it sends calls to wherever the header Host says
    # Around all of Starlette: within, a browser could not read what is said of a bug of ours.
    others = CORSMiddleware(
        app,
        allow_origins=["*"],
        allow_methods=["POST"],
        allow_headers=["*"],  # analytics.js adds X-Retry-Count to what it sends again
        expose_headers=EXPOSED,
        max_age=24 * 3600,
    )

    async def collect(scope: Scope, receive: Receive, send: Send) -> None:
        """Calls take the short way, all else goes through Starlette."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith("/v1/"):
            await take(scope, receive, send)
        else:
            await others(scope, receive, send)

    return collect


async def _tell_health(request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _tell_ready(door: Door) -> Callable[[Request], object]:
    async def tell(request: Request) -> Response:
        is_ready = door.connections.is_loaded
        return JSONResponse({"status": "ready" if is_ready else "starting"}, 200 if is_ready else 503)

    return tell


def _answer_refused(door: Door) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        door.refusals.note(error)
        return say_refused(error)

    return answer


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow")
    code, message = {
        404: ("not_found", "There is nothing at this path; calls go to /v1/batch and its like"),
        405: ("method_not_allowed", f"Here one may send: {allowed}"),
    }[error.status_code]
    answer = say_refused(RefusedError(error.status_code, code, message))
    if allowed:
        answer.headers["Allow"] = allowed
    return answer


async def _answer_bug(request: Request, error: Exception) -> Response:
    """The error itself goes to the log, and on to who runs the server."""
    return say_refused(BUG)
