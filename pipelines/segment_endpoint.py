"""Where Segment takes calls, and what is raised when nobody is there. Without a client: every run imports it."""

import re
from ipaddress import IPv6Address
from urllib.parse import urlsplit

# Names as a resolver takes them, an international one as xn--, or an IPv6 address; and a port. With anything else every
# request would fail, and none before the first.
_LABEL = r"[a-z0-9_-]{1,63}"
_SERVER = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[([0-9a-f:.]+)\])(?::[0-9]*)?", re.ASCII | re.IGNORECASE)


class SegmentUnreachableError(RuntimeError):
    """Segment did not take a request for so long that it is time to tell. Nothing is lost: send the calls again."""


def batch_url(endpoint: str) -> str:
    """Where to post, e.g. for https://api.segment.io or https://events.eu1.segmentapis.com/v1/.

    Raises ValueError if it is no address of a server, or one that says more than Segment's have.
    """
    try:
        parts = urlsplit(endpoint.strip())
        is_address = parts.scheme in ("http", "https") and _is_server(parts.netloc) and parts.port != 0
    except ValueError:  # no IPv6 address between brackets, or a port that is no number up to 65535
        is_address = False
    if not is_address:
        raise ValueError("Segment's endpoint is a URL such as https://api.segment.io")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("Segment's endpoint is a URL without a user, a query or a fragment")
    path = parts.path.rstrip("/").removesuffix("/v1/batch").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}/v1/batch"


def _is_server(netloc: str) -> bool:
    server = _SERVER.fullmatch(netloc.rpartition("@")[2])
    return server is not None and (server[1] is None or bool(IPv6Address(server[1])))
