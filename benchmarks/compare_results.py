"""Did the engines do the same job, and the right one? Read from the Parquet files that each has written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.compare_cells import compare_cells
from benchmarks.generate_calls import Truth
from benchmarks.score_persons import Score, score_persons

_EXAMPLES = 3
_ONE_TYPE = {"identifies": "identify", "group_identifies": "group", "aliases": "alias"}


@dataclass(frozen=True)
class Result:
    """What one engine found."""

    facts: dict[str, int]
    """What the truth knows as a number, by what it is called there."""
    callers: dict[str, str | None]
    """messageId of each written call -> person_id."""
    identities: dict[tuple[str, str], str]
    """Identifier type and identifier -> person_id."""


def read_result(output: Path) -> Result:
    """The result in a folder of Parquet tables.

    An identifier that is a user_id is left out of the anonymous_ids: an alias call does not say which its previousId
    is, and whether the claim is noted beside the user_id changes no person.
    """
    facts: dict[str, int] = {}
    callers: dict[str, str | None] = {}
    for row in _read(output, "activities", "type", "message_id", "person_id"):
        _add(facts, f"written {row['type']}")
        callers[row["message_id"]] = row["person_id"]
    for table, call_type in _ONE_TYPE.items():
        for row in _read(output, table, "message_id", "person_id"):
            _add(facts, f"written {call_type}")
            callers[row["message_id"]] = row["person_id"]
    for row in _read(output, "dead_letters", "reason"):
        _add(facts, f"rejected {row['reason']}")
    for row in _read(output, "counts", "outcome", "count"):
        _add(facts, "lines", row["count"])
        if row["outcome"] == "duplicate":
            _add(facts, "duplicates", row["count"])
    _add(facts, "audience changes", len(_read(output, "audience_memberships", "message_id")))
    identities = _read_identities(output)
    return Result(
        facts, callers, {node: person for node, person in identities.items() if not _is_user(node, identities)}
    )


def _read_identities(output: Path) -> dict[tuple[str, str], str]:
    """Today's persons: of an identifier the row with the highest version counts, where rows have one."""
    rows = pq.read_table(output / "identities").to_pylist()
    rows.sort(key=lambda row: row.get("version", 0))
    today = {(row["identifier_type"], row["identifier"]): row["person_id"] for row in rows}
    return {node: person for node, person in today.items() if person is not None}


def expected_facts(truth: Truth) -> dict[str, int]:
    """The truth, as a `Result` has it."""
    facts = {f"written {call_type}": count for call_type, count in truth.written.items()}
    facts |= {f"rejected {reason}": count for reason, count in truth.rejected.items()}
    facts |= {"lines": truth.lines, "audience changes": truth.audience_changes}
    if truth.duplicates:
        facts["duplicates"] = truth.duplicates
    return facts


def find_differences(results: Mapping[str, Result], truth: Truth) -> list[str]:
    """Where an engine differs from the truth; empty if none does."""
    expected = expected_facts(truth)
    return [
        line
        for name, result in results.items()
        for line in compare_values(f"{name} and the truth", result.facts, expected)
    ]


def check_outputs(outputs: Mapping[str, Path], truth: Truth) -> tuple[list[str], dict[str, Score]]:
    """What is found in the folders, and how well each engine found the true persons.

    The differences from the truth, and in any cell from the first engine.
    """
    results = {name: read_result(output) for name, output in outputs.items()}
    true = {(kind, value): person for kind, persons in truth.persons.items() for value, person in persons.items()}
    scores = {name: score_persons(true, result.identities) for name, result in results.items()}
    differences = find_differences(results, truth)
    results.clear()  # the cells take their place in memory
    reference, *others = outputs
    for name in others:
        differences += compare_cells(name, outputs[name], reference, outputs[reference])
    return differences, scores


def compare_values(what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> list[str]:
    """One line if anything differs, with examples; else none."""
    differing = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
    if not differing:
        return []
    examples = ", ".join(f"{key}: {found.get(key)}, not {expected.get(key)}" for key in differing[:_EXAMPLES])
    return [f"{what}: {len(differing):,} differ, as {examples}"]


def _is_user(node: tuple[str, str], identities: Mapping[tuple[str, str], str]) -> bool:
    return node[0] == "anonymous_id" and ("user_id", node[1]) in identities


def _add(facts: dict[str, int], name: str, count: int = 1) -> None:
    facts[name] = facts.get(name, 0) + count


def _read(output: Path, table: str, *columns: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / table, columns=list(columns)).to_pylist()
    return rows
