"""How a run of email_logs_to_segment ended, from its counters."""

from schemas.email_calls import EmailCallKind
from transforms.logic.snake_case import snake_case


def read_outcomes(counters: dict[str, int]) -> dict[str, int]:
    """Outcome (rejected ones with their reason) -> events of the log, from the counters of a run."""
    duplicates = counters.get("find_recipients/duplicates", 0)
    ended = {"told": counters.get("parse_email_logs/lines", 0) - duplicates, "duplicate": duplicates}
    for key, count in sorted(counters.items()):
        step, name = key.split("/", 1)
        if step == "parse_email_logs" and name.startswith("rejected_") and count:
            ended[f"rejected: {name.removeprefix('rejected_')}"] = count
    return ended


def describe_calls(counters: dict[str, int]) -> list[str]:
    """The calls that were made, a line a kind, and what became of those that were sent to Segment."""
    lines = []
    for kind in EmailCallKind:
        count = counters.get(f"make_calls/{snake_case(kind.value)}", 0)
        if count:
            lines.append(f"{kind.value}: {count:,}")
    refused = {key: count for key, count in counters.items() if key.startswith("parse_identity_updates/rejected_")}
    facts = {
        "make_calls/rejected_too_large": "calls too large for Segment (dead letters)",
        "parse_identity_updates/updates": "identity updates read",
        "send_calls/delivered": "delivered to Segment",
        "send_calls/refused": "refused by Segment (dead letters)",
    }
    lines += [f"{text}: {counters[key]:,}" for key, text in facts.items() if counters.get(key)]
    for key, count in sorted(refused.items()):
        if count:
            lines.append(f"identity updates rejected, {key.partition('rejected_')[2]}: {count:,}")
    return lines
