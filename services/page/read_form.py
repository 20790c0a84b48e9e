"""Forms that come in: small, soon, and sent by a page of ours."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

MAX_FORM_BYTES = 16_384
FORM_SECONDS = 10.0

Form = Mapping[str, str]
Endpoint = Callable[[Request], Awaitable[Response]]


def take_form(answer: Callable[[Request, Form], Response]) -> Endpoint:
    """Answers a form of whoever is logged in: 403 if it lacks the session's token, 408 if it is slow."""

    async def take(request: Request) -> Response:
        form = await read_form(request)
        session = request.state.session
        if not hmac.compare_digest(form.get("form_token", "").encode(), session.form_token.encode()):
            raise HTTPException(403, "This form is not of this session. Go back, reload the page and send it again.")
        return await run_in_threadpool(answer, request, form)

    return take


async def read_form(request: Request) -> Form:
    """The fields of a form that are not empty, the last one of each name, as our pages send them: without files."""
    try:
        async with asyncio.timeout(FORM_SECONDS):
            body = await request.body()
        return dict(parse_qsl(body.decode()))
    except (UnicodeDecodeError, ClientDisconnect):
        raise HTTPException(400, "That is no form of this page.") from None
    except TimeoutError:
        raise HTTPException(408, "The form took too long to arrive. Send it again.") from None
