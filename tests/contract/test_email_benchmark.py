"""The comparison of email logs keeps its promises: same numbers, same bytes; the truth is one; the engines agree."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare_emails, email_plain_loop, measure_email_state
from benchmarks.compare_email_calls import check_email_outputs
from benchmarks.generate_email_logs import Skew, Truth, generate_email_logs
from benchmarks.report_costs import BY_THE_DOCS, PIPELINE, PLAIN_LOOP

LINES = 4_000


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    path = tmp_path_factory.mktemp("workload") / "log.jsonl"
    return path, generate_email_logs(path, LINES, seed=7)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Those that have a time; not what was cut off."""
    whole = [json.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    return [event for event in whole if isinstance(event.get("timestamp"), int)]


def test_same_seed_gives_same_lines(workload: tuple[Path, Truth], tmp_path: Path) -> None:
    path, truth = workload

    again = generate_email_logs(tmp_path / "again.jsonl", LINES, seed=7)
    generate_email_logs(tmp_path / "other.jsonl", LINES, seed=8)

    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()
    assert again == truth
    assert (tmp_path / "other.jsonl").read_bytes() != path.read_bytes()


def test_truth_adds_up(workload: tuple[Path, Truth]) -> None:
    path, truth = workload

    assert truth.lines == len(path.read_bytes().splitlines()) == LINES
    assert truth.lines == sum(truth.events.values()) + truth.duplicates + sum(truth.rejected.values())
    assert truth.calls["Email Opened"] == truth.events["open"] > truth.calls["Email Unique Opens"]


def test_workload_stresses_what_it_says(tmp_path: Path) -> None:
    truth = generate_email_logs(tmp_path / "log.jsonl", 20_000, seed=7)
    times = [event["timestamp"] for event in read_events(tmp_path / "log.jsonl")]

    assert truth.duplicates == pytest.approx(0.05 * truth.lines, rel=0.2)
    assert sum(truth.rejected.values()) == pytest.approx(0.01 * truth.lines, rel=0.2)
    assert len(truth.calls) == 10
    assert 0.05 * truth.lines < truth.by_machine < 0.2 * truth.lines
    assert sum(later < earlier for earlier, later in pairwise(times)) > 0.2 * truth.lines
    assert (tmp_path / "log.jsonl").stat().st_size / truth.lines == pytest.approx(430, rel=0.1)


@pytest.mark.slow
def test_skew_gathers_lines(tmp_path: Path) -> None:
    recipient = generate_email_logs(tmp_path / "log.jsonl", 20_000, seed=7, skew=Skew.RECIPIENT)
    campaign = generate_email_logs(tmp_path / "log.jsonl", 20_000, seed=7, skew=Skew.CAMPAIGN)
    emails = {event.get("email_id", "eml_000_0") for event in read_events(tmp_path / "log.jsonl")}
    unreported = generate_email_logs(tmp_path / "log.jsonl", 20_000, seed=7, skew=Skew.UNREPORTED)

    assert recipient.lines_of_the_busiest == pytest.approx(0.3 * recipient.lines, rel=0.05)
    assert emails == {"eml_000_0"}
    assert campaign.recipients > 10 * recipient.recipients
    assert unreported.rejected["event_not_reported"] >= 0.5 * unreported.lines


def test_differences_are_found(workload: tuple[Path, Truth], tmp_path: Path) -> None:
    path, truth = workload
    outputs = {name: tmp_path / name for name in ("right", "wrong")}
    for output in outputs.values():
        assert email_plain_loop.main([str(path), str(output)]) == 0
    calls = outputs["wrong"] / "segment_calls" / "part.jsonl"
    calls.write_bytes(calls.read_bytes().replace(b'"is_unique_open":true', b'"is_unique_open":false', 1))

    assert check_email_outputs({"right": outputs["right"]}, truth) == []
    (difference,) = check_email_outputs(outputs, truth)
    assert difference.startswith("wrong and right, calls: 1 differ, as\n")
    assert '"is_unique_open":false' in difference


def test_call_that_is_lost_or_repeated_is_found(workload: tuple[Path, Truth], tmp_path: Path) -> None:
    path, truth = workload
    assert email_plain_loop.main([str(path), str(tmp_path / "out")]) == 0
    calls = tmp_path / "out" / "segment_calls" / "part.jsonl"
    lines = calls.read_bytes().splitlines(keepends=True)

    calls.write_bytes(b"".join(lines[1:]))
    assert "the truth: 1 differ" in "".join(check_email_outputs({"loop": tmp_path / "out"}, truth))

    calls.write_bytes(b"".join([*lines[1:], lines[1]]))
    assert "messageIds written again: 1, not 0" in "".join(check_email_outputs({"loop": tmp_path / "out"}, truth))


def test_who_reads_no_updates_is_found(tmp_path: Path) -> None:
    log, updates = tmp_path / "log.jsonl", tmp_path / "updates.jsonl"
    truth = generate_email_logs(log, LINES, seed=7, updates=updates)
    told = [json.loads(line) for line in updates.read_bytes().splitlines()]
    assert email_plain_loop.main([str(log), str(tmp_path / "read"), "--updates", str(updates)]) == 0
    assert email_plain_loop.main([str(log), str(tmp_path / "not")]) == 0

    assert check_email_outputs({"read": tmp_path / "read"}, truth) == []
    assert "calls identify" in "".join(check_email_outputs({"not": tmp_path / "not"}, truth))
    assert any(update["person_id"] is None for update in told)
    assert len({(update["email"], update["user_id"]) for update in told}) < len(told)
    assert told != sorted(told, key=lambda update: update["version"])


@pytest.mark.slow
def test_engines_agree_on_who_is_who(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_emails.main(["--lines", str(LINES), "--rounds", "1", "--identities", "--markdown"]) == 0

    assert f"| {LINES:,} lines, with identity updates, " in capsys.readouterr().out


@pytest.mark.slow
def test_state_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure_email_state.main(["--lines", "1000", "--block", "50", "--markdown"]) == 0

    assert "| AddressBook |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("skew", list(Skew))
def test_engines_agree(skew: Skew, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--lines",
        str(LINES),
        "--rounds",
        "1",
        "--skew",
        skew,
        "--markdown",
        "--json",
        str(tmp_path / "costs.json"),
    ]

    assert compare_emails.main(flags) == 0

    (size,) = json.loads((tmp_path / "costs.json").read_bytes())["sizes"]
    assert list(size["engines"]) == [PIPELINE, BY_THE_DOCS, PLAIN_LOOP]
    assert all(engine["peak_rss_mb"] > 0 < engine["cpu_s"] for engine in size["engines"].values())
    assert f"| {PIPELINE} |" in capsys.readouterr().out
