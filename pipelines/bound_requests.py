"""Requests that end."""

from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

MOST_SECONDS = 300.0
"""How long a request waits for the next bytes of its answer if nobody says. BigQuery's longest silence is that before
the answer to a query, about 200 s:
https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/query#QueryRequest.FIELDS.timeout_ms."""


class BoundAdapter(HTTPAdapter):
    """Gives a request without a timeout one: Google's client would wait for ever for a connection that is gone."""

    def send(
        self, request: PreparedRequest, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
    ) -> Response:
        """As requests calls it."""
        return super().send(request, stream, MOST_SECONDS if timeout is None else timeout, *args, **kwargs)
