"""What the collector answers: Segment's `{"success": true}`, or what is wrong, in words and as a code."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

TAKEN = b'{"success": true}'


class RefusedError(Exception):
    """The request is not taken; the sender hears why, and whether it helps to come back."""

    def __init__(self, status: int, code: str, message: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        """A word for programs."""
        self.message = message
        """A sentence for people, in which nothing of the request is repeated."""
        self.retry_after_seconds = retry_after_seconds
        self.connection_id: str | None = None
        """Whose request it is, where that is known: for the log."""


BUG = RefusedError(500, "bug", "The collector has a bug; nothing is known to be taken")

EXPOSED = ("Retry-After", "X-RateLimit-Reset")
"""Headers that a page of another origin may read."""

OPEN_TO_PAGES = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": ", ".join(EXPOSED)}
"""Calls come from pages of any origin. A key in a page is no secret: it opens the door for that page's calls."""


def say_taken() -> Response:
    """All of it is in Pub/Sub."""
    return Response(TAKEN, media_type="application/json")


def say_refused(refused: RefusedError, further_headers: Mapping[str, str] | None = None) -> Response:
    """The sender's fault, or ours; 401 names the scheme, so that `curl` and browsers know what is asked for.

    `X-RateLimit-Reset` is what Segment sends beside Retry-After:
    https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#rate-limits
    """
    headers = dict(further_headers or {})
    if refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds)
    if refused.status == 429:
        headers["X-RateLimit-Reset"] = str(refused.retry_after_seconds)
    if refused.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="API key as user name, no password"'
    if refused.status == 408:
        headers["Connection"] = "close"
    content = msgspec.json.encode({"success": False, "code": refused.code, "message": refused.message})
    return Response(content, refused.status, headers, "application/json")
