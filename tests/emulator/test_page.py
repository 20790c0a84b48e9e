"""The page on a BigQuery: its questions are understood, and the numbers add up."""

import re
from pathlib import Path

import pytest
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from schemas.connections import ConnectionKind
from scripts.create_tables import create_tables
from services.connection_store import ConnectionStore
from services.manage_connections import create_connection
from services.page import read_statistics
from services.page.app import build_page
from services.page.fold_traffic import Period, add_up, count_reasons
from services.page.read_statistics import MAX_SAMPLE_BYTES, BigqueryStatistics, StatisticsError
from services.page.say_times import say_iso
from services.secret_store import FolderStore
from tests.emulator.conftest import PROJECT
from tests.emulator.page_traffic import NASTY, counted, emails, fill, insert, rejected, week
from tests.factories import DAY, HOUR, MINUTE, NOW
from tests.unit.page_parts import TOKEN, Browser, build_parts

pytestmark = pytest.mark.slow

NOON = NOW + 12 * HOUR + 7 * MINUTE


def sum_of(rows: list[dict[str, object]], since: int, **wanted: object) -> int:
    return sum(
        int(str(row["count"]))
        for row in rows
        if str(row["window_start"]) >= say_iso(since) and all(row[name] == value for name, value in wanted.items())
    )


@pytest.fixture
def statistics(client: bigquery.Client, dataset: str) -> BigqueryStatistics:
    fill(client, dataset, NOON)
    return BigqueryStatistics(client, dataset)


@pytest.mark.parametrize("period", Period)
def test_each_number_of_a_period_is_what_was_counted(statistics: BigqueryStatistics, period: Period) -> None:
    rows, since = week(NOON), period.start(NOON)
    for connection_id in ("c1", "backend", NASTY, None):
        facts = statistics.read_detail(connection_id or "", period, NOON).facts
        totals = add_up(facts)

        assert totals.all == sum_of(rows, since, connection_id=connection_id)
        assert totals.accepted == sum_of(rows, since, connection_id=connection_id, outcome="written")
        assert totals.rejected == sum_of(rows, since, connection_id=connection_id, outcome="rejected")
        assert totals.duplicates == sum_of(rows, since, connection_id=connection_id, outcome="duplicate")
        assert all(0 <= fact.bucket < period.buckets for fact in facts)


def test_the_list_adds_up_to_all_that_came_in(statistics: BigqueryStatistics) -> None:
    overview = statistics.read_overview(NOON)
    everything = sum(traffic.messages for traffic in overview.day.values())

    assert everything == sum_of([*week(NOON), *emails(NOON)], Period.DAY.start(NOON))
    for connection_id, traffic in overview.day.items():
        assert traffic.messages == add_up(statistics.read_detail(connection_id, Period.DAY, NOON).facts).all
        assert sum(traffic.hours) == traffic.messages


def test_the_last_hour_and_the_newest_message_are_told(statistics: BigqueryStatistics) -> None:
    recent = statistics.read_overview(NOON).recent

    assert recent["backend"].last_at == NOON
    assert (recent["backend"].hour_messages, recent["backend"].hour_rejected) == (60, 20)
    assert (recent["mail"].last_at, recent["mail"].hour_messages) == (NOON - 2 * HOUR, 0)


def test_the_week_has_no_more_than_a_week(statistics: BigqueryStatistics) -> None:
    assert add_up(statistics.read_detail("c1", Period.WEEK, NOON).facts).all < 1_000_000


def test_what_is_not_reported_is_no_rejection(statistics: BigqueryStatistics) -> None:
    totals = add_up(statistics.read_detail("mail", Period.DAY, NOON).facts)

    assert (totals.accepted, totals.failed, totals.unreported, totals.rejected) == (50, 2, 90, 0)
    assert statistics.read_overview(NOON).day["mail"].rejected == 2


def test_a_dataset_that_does_not_count_emails_is_shown(client: bigquery.Client, dataset: str) -> None:
    create_tables(client, dataset)
    client.delete_table(f"{dataset}.email_counts", not_found_ok=True)
    insert(client, f"{dataset}.counts", [counted(NOON, "c1", "track", "written", 3)])
    statistics = BigqueryStatistics(client, dataset)

    assert statistics.read_overview(NOON).day["c1"].messages == 3
    assert add_up(statistics.read_detail("c1", Period.HOUR, NOON).facts).all == 3
    assert statistics.read_workspace("acme", Period.HOUR, NOON) == (0, 0, 0, 0)


def test_a_workspace_knows_its_own_people_groups_and_emails(statistics: BigqueryStatistics, dataset: str) -> None:
    client = statistics._client
    at = "2026-01-01T00:00:00Z"
    people = [
        ("acme", "a@x.com", "p1"),
        ("acme", "b@x.com", "p1"),
        ("acme", "c@x.com", "p2"),
        ("other", "d@x", "p3"),
    ]
    identities = [
        {"workspace_id": workspace, "identifier_type": "email", "identifier": email, "person_id": person}
        | {"version": 1, "updated_at": at, "person_since": at, "linked_at": at}
        for workspace, email, person in people
    ]
    insert(client, f"{dataset}.identities", identities)
    groups = [{"workspace_id": "acme", "message_id": number, "group_id": group} for number, group in ("1a", "2a", "3b")]
    insert(client, f"{dataset}.group_identifies", [group | {"timestamp": at, "received_at": at} for group in groups])
    insert(client, f"{dataset}.email_counts", [emails(NOON)[0] | {"workspace_id": "other"}])

    assert statistics.read_workspace("acme", Period.DAY, NOON) == (2, 2, 50, 2)
    assert statistics.read_workspace("'; DROP TABLE counts; --", Period.DAY, NOON) == (0, 0, 0, 0)


def test_the_newest_rejected_message_of_each_reason_is_the_sample(statistics: BigqueryStatistics, dataset: str) -> None:
    client = statistics._client
    large = b"x" * (MAX_SAMPLE_BYTES + 1)
    letters = [
        rejected(NOON - 2 * MINUTE, "c1", "bad_request", b"old"),
        rejected(NOON - MINUTE, "c1", "bad_request", b"new", part=1, parts=2),
        rejected(NOON, "c1", "bad_request", b"second part", part=2, parts=2),
        rejected(NOON - MINUTE, "c1", "too_large", large),
        rejected(NOON - MINUTE, "c1", "refused_by_bigquery", b"{}", detail="activities: no such field: Ann Smith"),
        rejected(NOON - 2 * DAY, "c1", "unknown_type", b"before"),
        rejected(NOON, "c1", "empty_batch", b"of another workspace", workspace_id="other"),
        rejected(NOON, None, NASTY, b"none"),
    ]
    insert(client, f"{dataset}.dead_letters", letters)
    samples = statistics.read_samples("c1", "acme", Period.DAY, NOON)

    assert {reason: sample.payload for reason, sample in samples.items()} == {
        "bad_request": b"new",
        "too_large": None,
        "refused_by_bigquery": b"{}",
    }
    assert samples["too_large"].length == len(large)
    assert samples["bad_request"].rejected_at == NOON - MINUTE
    assert samples["refused_by_bigquery"].detail == "activities"
    assert statistics.read_samples("", "", Period.DAY, NOON).keys() == {NASTY}


def test_answers_are_kept_for_ten_seconds(client: bigquery.Client, dataset: str) -> None:
    create_tables(client, dataset)
    now = 0.0
    statistics = BigqueryStatistics(client, dataset, clock=lambda: now)
    assert statistics.read_detail("c1", Period.HOUR, NOON).facts == []
    insert(client, f"{dataset}.counts", [counted(NOON, "c1", "track", "written", 3)])

    now = 9.9
    assert statistics.read_detail("c1", Period.HOUR, NOON).facts == []
    now = 10.0
    assert add_up(statistics.read_detail("c1", Period.HOUR, NOON).facts).all == 3


def test_a_bigquery_that_is_down_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, "http://127.0.0.1:1")
    monkeypatch.setattr(read_statistics, "TIMEOUT_SECONDS", 0.5)
    client = bigquery_client(PROJECT)

    with pytest.raises(StatisticsError, match="BigQuery does not answer") as caught:
        BigqueryStatistics(client, dataset).read_overview(NOON)
    assert len(str(caught.value).splitlines()) == 1
    client.close()


def test_pages_of_real_numbers(statistics: BigqueryStatistics, dataset: str, tmp_path: Path) -> None:
    client = statistics._client
    store = ConnectionStore(client, dataset)
    create_connection(store, "Backend", "acme", ConnectionKind.SEGMENT, NOW, connection_id="backend")
    parts = build_parts(lambda: NOON, store, statistics, FolderStore(tmp_path))
    browser = Browser(build_page(parts), "http://page.example")
    browser.post("/login", data={"token": TOKEN})
    page = browser.get("/connections/backend?period=day").text
    facts = statistics.read_detail("backend", Period.DAY, NOON).facts
    numbers = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))

    assert "Rejecting: 33 % of the last hour’s calls" in page
    assert numbers["Calls in all"] == f"{add_up(facts).all:,}"
    assert count_reasons(facts) == [("identify_without_email", add_up(facts).rejected)]
    assert "‹text, 15 characters›" in page
    assert "1234567" not in page
    assert "&lt;script&gt;" in browser.get("/").text
