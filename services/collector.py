"""The collector: what SDKs, Segment and email providers send, checked at the door and published to Pub/Sub."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.answers import RefusedError, say_refused
from services.door import Door
from services.publish_messages import Publisher
from services.take_calls import take_calls
from services.take_webhooks import TakeWebhooks

# Calls come from pages of any origin. A key that is in a page is no secret: it opens the door for that page's calls.
_CORS = Middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_methods=["POST"],
    allow_headers=["*"],  # analytics.js adds X-Retry-Count to what it sends again
    expose_headers=["Retry-After", "X-RateLimit-Reset"],
    max_age=24 * 3600,
)


def build_collector(
    door: Door,
    calls: Publisher,
    take_webhooks: TakeWebhooks,
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
) -> Starlette:
    """The application; `calls` publishes Segment calls."""
    routes = [
        Route("/v1/{kind}", take_calls(door, calls), methods=["POST"]),
        Route("/hooks/{sender}", take_webhooks.__call__, methods=["POST"]),
        Route("/health", _tell_health, methods=["GET"]),
        Route("/ready", _tell_ready(door), methods=["GET"]),
    ]
    handlers = {RefusedError: _answer_refused, HTTPException: _answer_http}
    return Starlette(routes=routes, middleware=[_CORS], exception_handlers=handlers, lifespan=lifespan)


async def _tell_health(request: Request) -> Response:
    return JSONResponse({"status": "alive"})


def _tell_ready(door: Door) -> Callable[[Request], object]:
    async def tell(request: Request) -> Response:
        is_ready = door.connections.is_loaded
        return JSONResponse({"status": "ready" if is_ready else "starting"}, 200 if is_ready else 503)

    return tell


async def _answer_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return say_refused(error)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, message = {
        404: ("not_found", "There is nothing at this path; calls go to /v1/batch and its like"),
        405: ("method_not_allowed", "Send a POST"),
    }.get(error.status_code, ("refused", "This cannot be answered"))
    return say_refused(RefusedError(error.status_code, code, message))
