"""What the collector looks at in the head of each request."""

import base64
from collections.abc import Iterable
from typing import NamedTuple

_BASIC = b"basic "


class Head(NamedTuple):
    """Some headers, of which only the first of a name counts."""

    key: str | None
    """The user name of Basic authentication (RFC 7617); None without it. The password is not looked at."""
    encoding: bytes
    """In lower case; `identity` if it is not said."""
    content_length: bytes | None


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """`headers` as ASGI gives them: names in lower case, values as they came."""
    found = dict(reversed(list(headers)))
    return Head(
        _read_key(found.get(b"authorization", b"")),
        found.get(b"content-encoding", b"identity").strip().lower(),
        found.get(b"content-length"),
    )


def _read_key(header: bytes) -> str | None:
    if header[: len(_BASIC)].lower() != _BASIC:
        return None
    try:
        return base64.b64decode(header[len(_BASIC) :].strip(), validate=True).decode().partition(":")[0]
    except ValueError:
        return ""
