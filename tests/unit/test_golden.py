"""What is rejected and what is written, whole, in files that a reviewer reads.

After a change that is meant: UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_golden.py, then read the diff.
"""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.calls import MAX_CALL_BYTES, CallType
from schemas.identity_rules import DEFAULT_RULES
from schemas.rejections import DeadLetter, Reason, Rejected
from schemas.rows import row_values
from schemas.tables import TABLES
from tests.factories import NOW, as_json, dead_letter, message
from transforms.logic.identify_callers import find_links, set_callers
from transforms.logic.parse_call import parse_call
from transforms.logic.resolve_callers import ResolvedCallers, resolve_callers
from transforms.logic.resolve_links import resolve_links
from transforms.logic.shape_rows import FACT_TABLES, shape_call, shape_dead_letter

GOLDEN = Path(__file__).parents[1] / "golden"

# What others say of what we made: BigQuery of a row, Segment of a call.
NOT_A_PAYLOADS_FAULT = {Reason.REFUSED_BY_BIGQUERY, Reason.REFUSED_BY_SEGMENT}
REJECTS = ("rejects.jsonl", "email_log_rejects.jsonl", "identity_update_rejects.jsonl")


def read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def compare(name: str, actual: list[dict[str, Any]]) -> None:
    """The file's lines are these; with UPDATE_GOLDEN they become these."""
    if os.environ.get("UPDATE_GOLDEN"):
        lines = [json.dumps(line, ensure_ascii=False) for line in actual]
        (GOLDEN / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert read_lines(name) == actual


def payload_of(case: dict[str, Any]) -> bytes:
    """`payload` is text as it is on the wire; bytes that are no text stand in `payload_base64`."""
    return base64.b64decode(case["payload_base64"]) if "payload_base64" in case else case["payload"].encode()


def resolve(case: dict[str, Any]) -> ResolvedCallers:
    call = parse_call(message(payload_of(case)), NOW, "w1", case.get("max_call_bytes", MAX_CALL_BYTES))
    persons = {
        workspace_id: resolve_links(workspace_id, [block], DEFAULT_RULES).persons
        for workspace_id, block in find_links([call], DEFAULT_RULES).items()
    }
    set_callers([call], DEFAULT_RULES)
    return resolve_callers(
        [call], lambda one: persons["w1"].find(one.identifier_type, one.identifier) if persons else None
    )


def bury(case: dict[str, Any]) -> DeadLetter:
    try:
        return resolve(case).dead_letters[0]
    except Rejected as verdict:
        return dead_letter(payload_of(case), verdict)


def test_rejects_are_rejected_for_the_reason_that_is_written_beside_them() -> None:
    cases = read_lines("rejects.jsonl")

    judged = [(letter.reason, letter.detail) for letter in map(bury, cases)]

    compare(
        "rejects.jsonl",
        [case | {"reason": reason, "detail": detail} for case, (reason, detail) in zip(cases, judged, strict=True)],
    )


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in NOT_A_PAYLOADS_FAULT])
def test_each_reason_has_a_golden_reject(reason: Reason) -> None:
    assert reason in {case["reason"] for name in REJECTS for case in read_lines(name)}


def test_dead_letters_are_written_so() -> None:
    letters = map(bury, read_lines("rejects.jsonl"))

    compare(
        "dead_letters.jsonl",
        [as_json(row_values("dead_letters", row)) for one in letters for row in shape_dead_letter(one, "1.0")],
    )


def shape_golden_calls() -> Iterator[dict[str, Any]]:
    for case in read_lines("calls.jsonl"):
        (call,) = resolve(case).calls
        shaped = shape_call(call)
        yield {"table": shaped.table, "misfits": shaped.misfits, "row": row_values(shaped.table, shaped.row)}
        if shaped.membership is not None:
            table = "audience_memberships"
            yield {"table": table, "row": row_values(table, shaped.membership)}


def test_rows_are_written_so() -> None:
    compare("rows.jsonl", list(shape_golden_calls()))


def test_each_type_of_call_and_each_table_of_calls_is_golden() -> None:
    types = {json.loads(case["payload"])["type"] for case in read_lines("calls.jsonl")}
    tables = {line["table"] for line in read_lines("rows.jsonl")}

    assert types == set(CallType)
    assert tables == {*FACT_TABLES.values(), "audience_memberships"}
    assert tables < set(TABLES)
