"""How a run of segment_to_bigquery ended, from its counters."""

from transforms.logic.shape_rows import FACT_TABLES


def read_outcomes(counters: dict[str, int]) -> dict[str, int]:
    """Outcome (rejected ones with their reason) -> messages, from the counters of a run."""
    ended = {
        "written": counters.get("shape_rows/calls", 0),
        "duplicate": counters.get("dedupe_calls/duplicates", 0),
    }
    suppressed = sum(counters.get(f"{step}/suppressed", 0) for step in ("dedupe_calls", "resolve_identities"))
    if suppressed:
        ended["suppressed"] = suppressed
    refused = sum(counters.get(f"write_bigquery/refused_{table}", 0) for table in set(FACT_TABLES.values()))
    if refused:
        ended["written"] -= refused
        ended["rejected: refused_by_bigquery"] = refused
    for key, count in sorted(counters.items()):
        name = key.split("/")[1]
        if name.startswith("rejected_") and count:
            ended[f"rejected: {name.removeprefix('rejected_')}"] = count
    return ended


def describe_persons(counters: dict[str, int]) -> list[str]:
    """What was read of persons before the first call, a line a fact, from the counters of a run."""
    facts = {
        "read_persons/emails_with_a_person": "emails to which the warehouse gives a person",
        "read_persons/conflicting_emails": "emails to which the warehouse gives several persons, of which none is used "
        "(warehouse_conflict in identity_merges)",
        "read_persons/skipped_rows": "rows of the warehouse without a usable email or person_id, skipped",
        "read_known/identities": "identities known from earlier jobs",
    }
    return [f"{text}: {counters[key]:,}" for key, text in facts.items() if counters.get(key)]
