"""What bqemulator 1.4.0 does otherwise than BigQuery: a query that fails is an answer without rows.

It answers jobs.query with HTTP 200 and a field `errors`, which Google's client does not read: a table that is not there
looks empty. BigQuery answers 4xx. The other way to ask, jobs.insert, tells of errors as BigQuery does.
"""

import functools
from typing import Any


def refuse_failed_queries() -> None:
    """Let this process answer a query that fails with the HTTP status of its reason. Before the app is made."""
    from bqemulator.api.routes import jobs

    answer_query = jobs.query
    errors = {error.bq_reason: error for error in jobs._SQL_EXECUTION_DOMAIN_ERRORS}

    @functools.wraps(answer_query)
    async def query(*args: Any, **named: Any) -> dict[str, Any]:
        answer = await answer_query(*args, **named)
        for failed in answer.get("errors", ()):
            raise errors[failed["reason"]](failed["message"], location=failed.get("location"))
        return answer

    (route,) = [route for route in jobs.router.routes if getattr(route, "endpoint", None) is answer_query]
    route.endpoint = query  # type: ignore[attr-defined]  # a route of FastAPI has one
