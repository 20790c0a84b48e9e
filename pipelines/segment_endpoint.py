"""Where Segment takes calls."""

from urllib.parse import urlsplit


def batch_url(endpoint: str) -> str:
    """Where to post, e.g. for https://api.segment.io or https://events.eu1.segmentapis.com/v1/.

    Raises ValueError if it is no address of a server, or one that says more than Segment's have.
    """
    try:
        parts = urlsplit(endpoint.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half of an IPv6 address, or a port that is no number up to 65535
        is_address = False
    if not is_address:
        raise ValueError("Segment's endpoint is a URL such as https://api.segment.io")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("Segment's endpoint is a URL without a user, a query or a fragment")
    path = parts.path.rstrip("/").removesuffix("/v1/batch").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}/v1/batch"
