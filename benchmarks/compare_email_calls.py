"""Did the engines make the same calls of a log, and the right ones? Read from the files that each has written."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.generate_email_logs import Truth

_EXAMPLES = 3
_decode = msgspec.json.Decoder().decode
_canonical = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True)
class EmailResult:
    """What one engine made of the log."""

    output: Path
    facts: Counter[str]
    """What the truth knows as a number, by what it is called there."""
    calls: dict[str, bytes]
    """messageId -> digest of the call, whatever the order of its fields."""
    rejected: Counter[tuple[str, str]]
    """Reason and payload of each dead letter."""


def check_email_outputs(outputs: Mapping[str, Path], truth: Truth) -> list[str]:
    """Where an engine differs from the truth or from the first engine; empty if all agree."""
    found: list[str] = []
    expected = expect_facts(truth)
    results = {name: read_email_result(output) for name, output in outputs.items()}
    reference = next(iter(results))
    for name, result in results.items():
        found += _compare(f"{name} and the truth", result.facts, expected)
        found += _compare(f"{name} and {reference}, dead letters", result.rejected, results[reference].rejected)
        found += _compare_calls(f"{name} and {reference}, calls", result, results[reference])
    return found


def expect_facts(truth: Truth) -> Counter[str]:
    """The truth, as an `EmailResult` has it."""
    facts = Counter({f"calls {name}": count for name, count in truth.calls.items()})
    facts.update({f"rejected {reason}": count for reason, count in truth.rejected.items()})
    return +(facts + Counter({"by machine": truth.by_machine}))


def read_email_result(output: Path) -> EmailResult:
    """What is in an engine's folder."""
    result = EmailResult(output, Counter(), {}, Counter())
    for call in _read_lines(output / "segment_calls"):
        result.facts[f"calls {call.get('event', call['type'])}"] += 1
        context = call.get("context", {})
        result.facts["by machine"] += "machine_open" in context or "bot_click" in context
        result.facts["messageIds written again"] += call["messageId"] in result.calls
        result.calls[call["messageId"]] = hashlib.blake2b(_canonical(call), digest_size=16).digest()
    for letter in _read_lines(output / "dead_letters"):
        result.facts[f"rejected {letter['reason']}"] += 1
        result.rejected[letter["reason"], letter["payload"]] += 1
    return EmailResult(output, +result.facts, result.calls, result.rejected)


def _read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.iterdir()):
        with path.open("rb") as lines:
            yield from map(_decode, lines)


def _compare(what: str, found: Counter[Any], expected: Counter[Any]) -> list[str]:
    differing = [key for key in {**expected, **found} if found[key] != expected[key]]
    if not differing:
        return []
    examples = ", ".join(f"{key}: {found[key]}, not {expected[key]}" for key in differing[:_EXAMPLES])
    return [f"{what}: {len(differing):,} differ, as {examples}"]


def _compare_calls(what: str, result: EmailResult, reference: EmailResult) -> list[str]:
    if result.calls == reference.calls:
        return []
    both = {**reference.calls, **result.calls}
    differing = [key for key in both if result.calls.get(key) != reference.calls.get(key)]
    examples = set(differing[:_EXAMPLES])
    said, expected = _find_calls(result.output, examples), _find_calls(reference.output, examples)
    told = [f"  {said.get(key, 'nothing')}\n  not {expected.get(key, 'nothing')}" for key in sorted(examples)]
    return ["\n".join([f"{what}: {len(differing):,} differ, as", *told])]


def _find_calls(output: Path, message_ids: set[str]) -> dict[str, str]:
    return {
        call["messageId"]: _canonical(call).decode()
        for call in _read_lines(output / "segment_calls")
        if call["messageId"] in message_ids
    }
