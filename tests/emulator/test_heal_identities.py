"""Identities are mended from the calls in BigQuery: united where the table lacks a link, parted where rules changed."""

from pathlib import Path

import pytest
from google.cloud import bigquery

from pipelines.segment_to_bigquery import run
from scripts.create_tables import create_tables
from scripts.heal_identities import main
from tests.emulator.programs import ask, line

pytestmark = pytest.mark.slow


def identify(message_id: str, user_id: str, email: str, **sent: object) -> bytes:
    return line(message_id, "identify", userId=user_id, traits={"email": email}, **sent)


def write(dataset: str, folder: Path, *lines: bytes) -> None:
    path = folder / "calls.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert run(["--input_files", str(path), "--output_dataset", dataset]) == 0


def persons(client: bigquery.Client, dataset: str) -> dict[str, str]:
    return dict(ask(client, dataset, "SELECT identifier, person_id FROM `{d}.current_identities`"))


def test_what_the_table_lost_comes_back_from_the_calls(client: bigquery.Client, dataset: str, tmp_path: Path) -> None:
    create_tables(client, dataset)
    write(
        dataset,
        tmp_path,
        identify("m1", "u1", "ann@example.com", anonymousId="a1", timestamp="2026-01-01T00:00:00Z"),
        line("m2", "alias", userId="u1", previousId="u0", timestamp="2026-01-02T00:00:00Z"),
        identify("m3", "u0", "bob@example.com", timestamp="2026-01-03T00:00:00Z"),
        line("m4", userId="u2", context={"traits": {"email": "bob@example.com"}}),
        line("m5", "group", userId="eve@example.com", groupId="g1"),
    )
    before = persons(client, dataset)
    versions = "SELECT MAX(version) FROM `{d}.identities`"
    ((newest,),) = ask(client, dataset, versions)
    client.query_and_wait(
        f"DELETE FROM `{dataset}.identities` WHERE identifier IN ('u0', 'a1', 'u2', 'eve@example.com')"
    )
    client.query_and_wait(
        f"INSERT INTO `{dataset}.identities` (workspace_id, identifier_type, identifier, person_id, version,"
        f" updated_at, person_since) VALUES ('default', 'email', 'bob@example.com', 'p9', {newest + 1},"
        " CURRENT_TIMESTAMP(), CURRENT_TIMESTAMP())"
    )

    assert main(["--dataset", dataset, "--dry_run"]) == 0
    assert persons(client, dataset) != before
    assert main(["--dataset", dataset]) == 0
    assert persons(client, dataset) == before

    rows = ask(client, dataset, "SELECT COUNT(*) FROM `{d}.identities`")
    assert main(["--dataset", dataset]) == 0
    assert main(["--dataset", dataset, "--rebuild"]) == 0
    assert ask(client, dataset, "SELECT COUNT(*) FROM `{d}.identities`") == rows


def test_a_wrong_merge_is_undone_by_blocking_what_caused_it(
    client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    create_tables(client, dataset)
    write(
        dataset,
        tmp_path,
        identify("m1", "u1", "ann@example.com", timestamp="2026-01-01T00:00:00Z"),
        identify("m2", "u2", "bob@example.com", timestamp="2026-01-02T00:00:00Z"),
        identify("m3", "u1", "shared@example.com", timestamp="2026-01-03T00:00:00Z"),
        identify("m4", "u2", "shared@example.com", timestamp="2026-01-04T00:00:00Z"),
    )
    merged = persons(client, dataset)
    assert len(set(merged.values())) == 1
    rules = tmp_path / "identity.toml"
    rules.write_text('[blocked]\nvalues = ["shared@example.com"]\n')

    assert main(["--dataset", dataset, "--identity_settings", str(rules)]) == 0
    assert persons(client, dataset) == merged  # without --rebuild persons are only united

    assert main(["--dataset", dataset, "--identity_settings", str(rules), "--rebuild"]) == 0
    parted = persons(client, dataset)
    assert parted["u1"] == parted["ann@example.com"] == merged["ann@example.com"]
    assert parted["u2"] == parted["bob@example.com"] != parted["u1"]
    assert "shared@example.com" not in parted


def test_a_rebuild_parts_what_no_call_ties_to_a_person_any_more(
    client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    """Also what only calls carry that link nothing, or nothing but what is blocked now."""
    create_tables(client, dataset)
    write(
        dataset,
        tmp_path,
        identify("m1", "guest", "ann@example.com", timestamp="2026-01-01T00:00:00Z"),
        line("m2", userId="guest", anonymousId="tablet", timestamp="2026-01-01T01:00:00Z"),
        line("m3", "alias", userId="guest", previousId="visitor", timestamp="2026-01-01T02:00:00Z"),
        identify("m4", "u1", "bob@example.com", timestamp="2026-01-01T00:00:00Z"),
        line("m5", userId="u1", anonymousId="borrowed", timestamp="2026-01-01T01:00:00Z"),
        line("m6", "page", userId=None, anonymousId="borrowed", timestamp="2026-01-01T02:00:00Z"),
        line("m7", userId="u1", anonymousId="archived", timestamp="2026-01-01T01:00:00Z"),
    )
    before = persons(client, dataset)
    client.query_and_wait(f"DELETE FROM `{dataset}.activities` WHERE message_id IN ('m5', 'm7')")
    rules = tmp_path / "identity.toml"
    rules.write_text('[blocked]\nvalues = ["guest"]\n')
    rebuild = ["--dataset", dataset, "--identity_settings", str(rules), "--rebuild"]

    assert main(rebuild) == 0

    gone = {"guest", "tablet", "visitor", "borrowed"}
    assert persons(client, dataset) == {
        identifier: person_id for identifier, person_id in before.items() if identifier not in gone
    }
    assert "archived" in before  # no call carries it: its calls may just be gone
    rows = ask(client, dataset, "SELECT COUNT(*) FROM `{d}.identities`")
    assert main(rebuild) == 0
    assert ask(client, dataset, "SELECT COUNT(*) FROM `{d}.identities`") == rows


def test_who_is_nobodys_is_somebodys_again_by_calls_of_any_age(
    client: bigquery.Client, dataset: str, tmp_path: Path
) -> None:
    """The rebuild's rows are as new as the rebuild, the run's as the calls that it reads."""
    create_tables(client, dataset)
    write(dataset, tmp_path, identify("m1", "staff-1", "info@example.com", receivedAt="2026-01-01T00:00:00Z"))
    rules = tmp_path / "identity.toml"
    rules.write_text('[blocked]\nvalues = ["info@example.com"]\n')
    assert main(["--dataset", dataset, "--identity_settings", str(rules), "--rebuild"]) == 0
    assert persons(client, dataset) == {}

    write(dataset, tmp_path, identify("m2", "staff-1", "ann@example.com", receivedAt="2026-01-02T00:00:00Z"))

    found = persons(client, dataset)
    assert found.keys() == {"staff-1", "ann@example.com"}
    assert found["staff-1"] == found["ann@example.com"]


def test_a_workspace_without_any_link_is_rebuilt(client: bigquery.Client, dataset: str, tmp_path: Path) -> None:
    create_tables(client, dataset)
    write(dataset, tmp_path, identify("m1", "guest", "ann@example.com"))
    rules = tmp_path / "identity.toml"
    rules.write_text('[blocked]\nvalues = ["guest", "ann@example.com"]\n')

    assert main(["--dataset", dataset, "--identity_settings", str(rules), "--rebuild"]) == 0
    assert persons(client, dataset) == {}


def test_a_mistake_is_one_line(
    client: bigquery.Client, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_tables(client, dataset)

    assert main(["--dataset", "nonsense"]) == 2
    assert main(["--dataset", dataset, "--identity_settings", str(tmp_path / "none.toml")]) == 2

    assert [said.split(":")[0] for said in capsys.readouterr().err.splitlines()] == ["heal_identities"] * 2
