"""What BigQuery knows of the connections: GoogleSQL with parameters, and nothing of a request in its text."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from services.page.fold_traffic import Fact, Period, Traffic, fold_hours
from services.page.judge_status import MEMORY, RecentTraffic
from services.page.keep_answers import KeptAnswers
from services.page.say_times import to_datetime, to_micros

if TYPE_CHECKING:  # google.cloud takes a second to import
    from google.cloud.bigquery import Client

TIMEOUT_SECONDS = 15.0
"""How long people wait for a page, at most."""
KEEP_SECONDS = 10.0
KEEP_SAMPLES_SECONDS = 60.0
KEEP_WORKSPACE_SECONDS = 600.0
"""People and groups: their query reads much more than the others."""

MAX_SAMPLE_BYTES = 65_536
"""A longer payload is not shown. Calls have at most 32 KiB."""

# `connection_id` is NULL where a message names none; here that is an empty text.
# What is not reported is nobody's mistake.
_HOURS = """
SELECT
  IFNULL(connection_id, '') AS connection_id,
  DIV(TIMESTAMP_DIFF(window_start, @start, SECOND), 3600) AS hour,
  window_start >= @hour_start AS is_recent,
  outcome IN ('rejected', 'failed') AND IFNULL(reason, '') != 'event_not_reported' AS is_rejected,
  SUM(count) AS messages
FROM `{dataset}.{table}`
WHERE window_start >= @start
GROUP BY 1, 2, 3, 4
"""

_LAST = """
SELECT IFNULL(connection_id, '') AS connection_id, MAX(window_start) AS last_at
FROM `{dataset}.{table}`
WHERE window_start >= @start AND count > 0
GROUP BY 1
"""

_FACTS = """
SELECT
  DIV(TIMESTAMP_DIFF(window_start, @start, SECOND), @bucket_seconds) AS bucket,
  {type} AS type,
  outcome,
  IFNULL(reason, '') AS reason,
  SUM(count) AS messages
FROM `{dataset}.{table}`
WHERE window_start >= @start AND IFNULL(connection_id, '') = @connection_id
GROUP BY 1, 2, 3, 4
"""

# BigQuery reads the payloads of the period's days; the workspace, by which the table is clustered, makes that less.
_SAMPLES = """
SELECT
  reason,
  step,
  rejected_at,
  IF(reason = 'refused_by_bigquery', SPLIT(detail, ':')[OFFSET(0)], detail) AS detail,
  LENGTH(payload) AS length,
  IF(LENGTH(payload) <= @max_bytes, payload, NULL) AS payload
FROM `{dataset}.dead_letters`
WHERE
  rejected_at >= @start
  AND IFNULL(connection_id, '') = @connection_id
  AND (@workspace_id = '' OR workspace_id = @workspace_id)
  AND IFNULL(part, 1) = 1
QUALIFY ROW_NUMBER() OVER (PARTITION BY reason ORDER BY rejected_at DESC, message_id) = 1
"""

_KNOWN = """
SELECT
  (SELECT COUNT(DISTINCT person_id) FROM `{dataset}.current_identities` WHERE workspace_id = @workspace_id) AS people,
  (SELECT COUNT(DISTINCT group_id) FROM `{dataset}.group_identifies` WHERE workspace_id = @workspace_id) AS groups_known
"""

_EMAILS = """
SELECT outcome, SUM(count) AS events
FROM `{dataset}.email_counts`
WHERE window_start >= @start AND workspace_id = @workspace_id
GROUP BY outcome
"""

_TABLES = (("counts", "type"), ("email_counts", "event"))
"""Where messages are counted, and what each calls their kind. Calls stand in one, events of email logs in the other."""


class StatisticsError(RuntimeError):
    """BigQuery did not answer; one line that says what to do."""


class Overview(NamedTuple):
    """All connections of the last 24 hours; an empty id stands for messages that name none."""

    start: int
    """The same as of a page of the last day, microseconds since 1970."""
    day: dict[str, Traffic]
    recent: dict[str, RecentTraffic]


class Detail(NamedTuple):
    """One connection's messages in a period."""

    start: int
    """Microseconds since 1970."""
    facts: list[Fact]


class Sample(NamedTuple):
    """The newest rejected message of a reason."""

    step: str
    rejected_at: int
    """Microseconds since 1970."""
    detail: str
    """Without values of the message."""
    length: int
    payload: bytes | None
    """None if it has more than `MAX_SAMPLE_BYTES`."""


class Workspace(NamedTuple):
    """What is known in a workspace, whichever connection it came through."""

    people: int
    groups: int
    emails_sent: int
    """Email events that Segment took within the period."""
    emails_failed: int
    """Those that it did not take."""


class Statistics(Protocol):
    """What the page asks. All methods raise `StatisticsError`; `now` is in microseconds since 1970."""

    def read_overview(self, now: int) -> Overview:
        """Every connection that was heard of."""

    def read_detail(self, connection_id: str, period: Period, now: int) -> Detail:
        """One connection; an empty id stands for messages that name none."""

    def read_samples(self, connection_id: str, workspace_id: str, period: Period, now: int) -> dict[str, Sample]:
        """By reason; an empty `workspace_id` looks into all workspaces."""

    def read_workspace(self, workspace_id: str, period: Period, now: int) -> Workspace:
        """One workspace."""


class BigqueryStatistics:
    """The statistics of one dataset, PROJECT.DATASET; answers are up to `KEEP_SECONDS` old."""

    def __init__(self, client: "Client", dataset: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._dataset = dataset
        self._kept = KeptAnswers(clock)
        # A page asks a few questions at once; BigQuery takes a second for each.
        self._asking = ThreadPoolExecutor(8, thread_name_prefix="ask_bigquery")

    def read_overview(self, now: int) -> Overview:
        """See `Statistics`."""
        return self._kept.get("overview", KEEP_SECONDS, lambda: self._ask_overview(now))

    def read_detail(self, connection_id: str, period: Period, now: int) -> Detail:
        """See `Statistics`."""
        question = ("detail", connection_id, period)
        return self._kept.get(question, KEEP_SECONDS, lambda: self._ask_detail(connection_id, period, now))

    def read_samples(self, connection_id: str, workspace_id: str, period: Period, now: int) -> dict[str, Sample]:
        """See `Statistics`."""
        question = ("samples", connection_id, workspace_id, period)
        return self._kept.get(
            question,
            KEEP_SAMPLES_SECONDS,
            lambda: self._ask_samples(connection_id, workspace_id, period.start(now)),
        )

    def read_workspace(self, workspace_id: str, period: Period, now: int) -> Workspace:
        """See `Statistics`; people and groups are up to `KEEP_WORKSPACE_SECONDS` old."""
        known = self._kept.get(("known", workspace_id), KEEP_WORKSPACE_SECONDS, lambda: self._ask_known(workspace_id))
        emails = self._kept.get(
            ("emails", workspace_id, period), KEEP_SECONDS, lambda: self._ask_emails(workspace_id, period.start(now))
        )
        return Workspace(*known, emails.get("sent", 0), emails.get("failed", 0))

    def _ask_overview(self, now: int) -> Overview:
        start, hour_start = Period.DAY.start(now), Period.HOUR.start(now)
        asked = [
            (
                self._start(_HOURS, table=table, start=to_datetime(start), hour_start=to_datetime(hour_start)),
                self._start(_LAST, table=table, start=to_datetime(now - MEMORY)),
            )
            for table, _ in _TABLES
        ]
        hours = [row for rows, _ in asked for row in rows.result()]
        last: dict[str, int] = {}
        for row in [row for _, rows in asked for row in rows.result()]:
            last[row["connection_id"]] = max(last.get(row["connection_id"], 0), to_micros(row["last_at"]))
        day: dict[str, list[tuple[int, bool, int]]] = {name: [] for name in last}
        recent: dict[str, list[int]] = {name: [0, 0] for name in last}
        for row in hours:
            name, count = row["connection_id"], row["messages"]
            day.setdefault(name, []).append((row["hour"], row["is_rejected"], count))
            if row["is_recent"]:
                sums = recent.setdefault(name, [0, 0])
                sums[0] += count
                sums[1] += count if row["is_rejected"] else 0
        return Overview(
            start,
            {name: fold_hours(facts, 24) for name, facts in day.items()},
            {name: RecentTraffic(last.get(name), *sums) for name, sums in recent.items()},
        )

    def _ask_detail(self, connection_id: str, period: Period, now: int) -> Detail:
        start = period.start(now)
        asked = [
            self._start(
                _FACTS.replace("{type}", kind),
                table=table,
                start=to_datetime(start),
                bucket_seconds=period.bucket_seconds,
                connection_id=connection_id,
            )
            for table, kind in _TABLES
        ]
        return Detail(start, [Fact(*row.values()) for rows in asked for row in rows.result()])

    def _ask_samples(self, connection_id: str, workspace_id: str, start: int) -> dict[str, Sample]:
        asked = self._start(
            _SAMPLES,
            start=to_datetime(start),
            connection_id=connection_id,
            workspace_id=workspace_id,
            max_bytes=MAX_SAMPLE_BYTES,
        )
        return {
            row["reason"]: Sample(
                row["step"], to_micros(row["rejected_at"]), row["detail"], row["length"], row["payload"]
            )
            for row in asked.result()
        }

    def _ask_known(self, workspace_id: str) -> tuple[int, int]:
        (row,) = self._start(_KNOWN, workspace_id=workspace_id).result()
        return row["people"], row["groups_known"]

    def _ask_emails(self, workspace_id: str, start: int) -> dict[str, int]:
        asked = self._start(_EMAILS, table="email_counts", start=to_datetime(start), workspace_id=workspace_id)
        return {row["outcome"]: row["events"] for row in asked.result()}

    def _start(self, sql: str, table: str = "", **parameters: Any) -> "Future[list[dict[str, Any]]]":
        """Ask; `table` is one of `_TABLES`, and the parameters are what came with the request."""
        text = sql.replace("{dataset}", self._dataset).replace("{table}", table)
        return self._asking.submit(self._query, text, table, parameters)

    def _query(self, sql: str, table: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.bigquery import DEFAULT_RETRY, QueryJobConfig, ScalarQueryParameter
        from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY
        from requests.exceptions import RequestException

        types = {str: "STRING", int: "INT64"}
        values = [
            ScalarQueryParameter(name, types.get(type(value), "TIMESTAMP"), value) for name, value in parameters.items()
        ]
        try:
            rows = self._client.query_and_wait(
                sql,
                job_config=QueryJobConfig(query_parameters=values),
                api_timeout=TIMEOUT_SECONDS,
                wait_timeout=TIMEOUT_SECONDS,
                retry=DEFAULT_RETRY.with_timeout(TIMEOUT_SECONDS),
                job_retry=DEFAULT_JOB_RETRY.with_timeout(TIMEOUT_SECONDS),
            )
            return [dict(row.items()) for row in rows]
        except NotFound as error:
            if table == "email_counts":  # a dataset from before the email pipeline counted
                return []
            raise StatisticsError(
                f"{self._dataset} lacks a table or view of the page: run scripts/create_tables"
            ) from error
        except (GoogleAPIError, GoogleAuthError, RequestException, TimeoutError) as error:
            raise StatisticsError(
                f"BigQuery does not answer for {self._dataset} ({type(error).__name__}): try again, "
                "or look at the network, BigQuery’s status and the account’s roles"
            ) from error
