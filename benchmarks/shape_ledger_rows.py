"""The rows of identities, dead letters and counts as the docs' baseline writes them: dicts."""

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, TypeAlias

from benchmarks.shape_call_rows import WORKSPACE, Row
from benchmarks.shape_columns import FACT_TABLES
from schemas.rejections import Reason

Counted: TypeAlias = tuple[int, str, str, str | None]
"""The minute of the arrival in microseconds since 1970, the call's type, the outcome and the reason."""

_MICROS_A_MINUTE = 60_000_000

_DETAILS = {
    Reason.BAD_REQUEST: "the line is no JSON object",
    Reason.UNKNOWN_TYPE: "the type is none of Segment's",
    Reason.ID_NOT_STRING: "an id is empty",
    Reason.NO_USER_ANON_ID: "there is no id",
    Reason.TIMESTAMP_NOT_VALID: "the timestamp is no ISO 8601 time",
    Reason.EVENT_NOT_DEFINED: "the event is missing",
    Reason.GROUP_ID_REQUIRED: "the groupId is missing",
    Reason.PREVIOUS_ID_REQUIRED: "the previousId is missing",
    Reason.IDENTIFY_WITHOUT_EMAIL: "there is no email, and the userId is nobody's",
}


def shape_identities(resolved: tuple[str, dict[str, Any]]) -> Iterator[Row]:
    """The rows of a workspace's persons; see `DescribePersons`."""
    workspace_id, persons = resolved
    for node, person_id in persons["person_ids"].items():
        yield {
            "workspace_id": workspace_id,
            "identifier_type": node[0],
            "identifier": node[1],
            "person_id": person_id,
            "version": persons["version"],
            "updated_at": persons["version"],
            "person_since": persons["since"][person_id],
            "linked_at": persons["linked_at"].get(node),
        }


def shape_merges(resolved: tuple[str, dict[str, Any]]) -> Iterator[Row]:
    """The rows of a workspace's persons who turned out to be others."""
    workspace_id, persons = resolved
    for merge in persons["merges"]:
        yield {
            **merge,
            "workspace_id": workspace_id,
            "reason": "merged",
            "identifier_type": "email",
            "recorded_at": persons["version"],
        }


def shape_dead_letter(rejected: tuple[str, str], source: str | None = None) -> Row:
    """The row of a rejection: the reason and the line."""
    reason, line = rejected
    payload = line.encode()
    call = _peek(line)
    return {
        "workspace_id": WORKSPACE,
        "rejected_at": time.time_ns() // 1000,
        "step": "ResolveIdentities" if reason == Reason.IDENTIFY_WITHOUT_EMAIL else "ParseCalls",
        "reason": reason,
        "detail": _DETAILS[Reason(reason)],
        "type": call.get("type") if call.get("type") in FACT_TABLES else None,
        "message_id": call.get("messageId"),
        "payload": payload,
        "payload_sha256": sha256(payload).hexdigest(),
        "part": 1,
        "parts": 1,
        "attributes": json.dumps({}),
        "source": source,
        "pipeline_version": "by the docs",
    }


def count_arrival(arrived_at: int, call_type: str, outcome: str, reason: str | None = None) -> tuple[Counted, int]:
    """What a message counts for."""
    return (arrived_at - arrived_at % _MICROS_A_MINUTE, call_type, outcome, reason), 1


def count_dead_letter(row: Row) -> tuple[Counted, int]:
    """What a rejected one counts for."""
    return count_arrival(row["rejected_at"], row["type"] or "unknown", "rejected", row["reason"])


def shape_count(counted: tuple[Counted, int]) -> Row:
    """The row of a count."""
    (window_start, call_type, outcome, reason), count = counted
    return {
        "window_start": window_start,
        "workspace_id": WORKSPACE,
        "type": call_type,
        "outcome": outcome,
        "reason": reason,
        "count": count,
    }


def _peek(line: str) -> dict[str, Any]:
    try:
        call = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return call if isinstance(call, dict) else {}
