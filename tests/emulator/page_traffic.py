"""Traffic of a week, for the page to show: rows as the pipelines write them."""

import base64
from collections.abc import Sequence
from typing import Any

from google.cloud import bigquery

from scripts.create_tables import create_tables
from services.page.fold_traffic import Period
from services.page.say_times import say_iso
from tests.factories import DAY, HOUR, MINUTE

NASTY = "<script>alert(1)</script>'; DROP TABLE counts; --"


def counted(
    at: int,
    connection_id: str | None,
    kind: str,
    outcome: str,
    count: int,
    reason: str | None = None,
    workspace_id: str = "acme",
) -> dict[str, Any]:
    """A row of `counts`, or of `email_counts` once `emails` has turned it into one."""
    return {
        "window_start": say_iso(at - at % MINUTE),
        "workspace_id": workspace_id,
        "connection_id": connection_id,
        "type": kind,
        "outcome": outcome,
        "reason": reason,
        "count": count,
    }


def rejected(at: int, connection_id: str | None, reason: str, payload: bytes, **fields: Any) -> dict[str, Any]:
    """A row of `dead_letters`."""
    row = {
        "workspace_id": "acme",
        "connection_id": connection_id,
        "rejected_at": say_iso(at),
        "step": "ParseCalls",
        "reason": reason,
        "detail": "what is wrong",
        "payload": base64.b64encode(payload).decode(),
        "pipeline_version": "1",
    }
    return row | fields


def week(now: int) -> list[dict[str, Any]]:
    """Rows of `counts` up to `now`: of the connections c1 and backend, of one that is nasty, and of none."""
    rows = []
    for minutes in [*range(0, 60, 3), *range(60, 1440, 45), *range(1440, 7 * 1440, 300)]:
        at = now - minutes * MINUTE
        rows += [
            counted(at, "c1", "track", "written", 7),
            counted(at, "c1", "page", "written", 3),
            counted(at, "c1", "track", "duplicate", 1),
            counted(at, "backend", "track", "written", 2),
            counted(at, "backend", "identify", "rejected", 1, "identify_without_email"),
            counted(at, None, "screen", "suppressed", 1),
            counted(at, NASTY, NASTY, "rejected", 1, NASTY),
        ]
    for period in Period:
        rows += [counted(period.start(now) - before, "c1", "page", "written", 5) for before in (0, MINUTE)]
    # BigQuery refused one of them later.
    rows += [
        counted(now, "c1", "track", "written", -1),
        counted(now, "c1", "track", "rejected", 1, "refused_by_bigquery"),
    ]
    return [*rows, counted(now - 8 * DAY, "c1", "track", "written", 1_000_000)]


def emails(now: int) -> list[dict[str, Any]]:
    """Rows of `email_counts`, of the connection mail."""
    at = now - 2 * HOUR
    rows = [
        counted(at, "mail", "Email Delivered", "sent", 40),
        counted(at, "mail", "Email Opened", "sent", 10),
        counted(at, "mail", "Email Opened", "failed", 2, "refused_by_segment"),
        counted(at, "mail", "deferred", "rejected", 90, "event_not_reported"),
        counted(at, "mail", "opened", "duplicate", 3),
    ]
    return [{"event" if name == "type" else name: value for name, value in row.items()} for row in rows]


def insert(client: bigquery.Client, table: str, rows: Sequence[dict[str, Any]]) -> None:
    assert client.insert_rows_json(table, rows) == []


def fill(client: bigquery.Client, dataset: str, now: int) -> None:
    """All of it."""
    create_tables(client, dataset)
    insert(client, f"{dataset}.counts", week(now))
    insert(client, f"{dataset}.email_counts", emails(now))
    payload = b'{"type": "identify", "userId": "u1", "traits": {"phone": "+49 170 1234567"}}'
    insert(client, f"{dataset}.dead_letters", [rejected(now, "backend", "identify_without_email", payload)])
