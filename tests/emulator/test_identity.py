"""Identity in and out: persons and identities from BigQuery, updates to Pub/Sub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import google.cloud.pubsub_v1 as pubsub_v1
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.testing.test_stream import TestStream
from google.cloud import bigquery

from pipelines.cached_options import CachedOptions
from pipelines.read_known import ReadKnownIdentities
from pipelines.read_persons import ReadWarehousePersons
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from pipelines.segment_to_bigquery import run
from pipelines.write_identity_updates import PublishIdentityUpdates
from schemas.identities import KnownIdentity, PriorBlock, WarehousePerson
from schemas.rows import TableRows
from scripts.create_tables import RETRY, create_tables
from scripts.start_pubsub import RunningPubsub, start_pubsub
from tests.emulator.conftest import PROJECT
from tests.emulator.programs import start_program, wait_until
from tests.unit.test_shape_identity_update import identity

pytestmark = pytest.mark.slow

RUNNERS = pytest.mark.parametrize("streaming", [False, True], ids=["bounded", "streaming"])
SECOND = 1_000_000
NEW_YEAR = 1_767_225_600 * SECOND

# A DoFn is pickled, a list of the test is not.
_READ: list[Any] = []


class _GatherFn(beam.DoFn):
    def process(self, element: Any) -> None:
        _READ.append(element)


def read(source: Any, streaming: bool) -> list[Any]:
    """What a source gives in one of the two local runners."""
    _READ.clear()
    options = CachedOptions(streaming=streaming, runner=STREAMING_RUNNER if streaming else FNAPI_RUNNER)
    with _TestPipeline(options=options) as pipeline:
        outputs = pipeline | source
        for number, output in enumerate(outputs if isinstance(outputs, tuple) else [outputs]):
            _ = output | f"Gather{number}" >> beam.ParDo(_GatherFn())
    return list(_READ)


def sql(client: bigquery.Client, dataset: str, *statements: str) -> None:
    for statement in statements:
        client.query_and_wait(statement.replace("{d}", dataset))


# in


@RUNNERS
def test_what_earlier_jobs_have_published_is_read(client: bigquery.Client, dataset: str, streaming: bool) -> None:
    create_tables(client, dataset)
    rows = [
        ("email", "ann@x.io", "p1", 1, "2026-01-01T00:00:00.000001Z", None),
        ("user_id", "u1", "p0", 1, None, None),
        ("user_id", "u1", "p1", 2, "2026-01-01T00:00:00Z", None),
        ("anonymous_id", "a1", "p1", 3, None, "2026-01-01T00:00:01Z"),
        ("user_id", "gone", "p1", 1, None, None),
        ("user_id", "gone", None, 2, None, None),
    ]
    names = ("identifier_type", "identifier", "person_id", "version", "person_since", "linked_at")
    inserted = [dict(zip(names, row, strict=True)) for row in rows]
    about = {"workspace_id": "w 😀'", "updated_at": "2026-01-01T00:00:00Z"}
    assert client.insert_rows_json(f"{dataset}.identities", [about | row for row in inserted], retry=RETRY) == []

    blocks: list[PriorBlock] = read(ReadKnownIdentities(dataset), streaming)

    known = sorted(
        (each for block in blocks for each in block.known), key=lambda each: (each.identifier_type, each.identifier)
    )
    assert known == [
        KnownIdentity("w 😀'", "anonymous_id", "a1", "p1", None, NEW_YEAR + SECOND, 3),
        KnownIdentity("w 😀'", "email", "ann@x.io", "p1", NEW_YEAR + 1, None, 1),
        KnownIdentity("w 😀'", "user_id", "gone", None, None, None, 2),
        KnownIdentity("w 😀'", "user_id", "u1", "p1", NEW_YEAR, None, 2),
    ]
    assert all(block.read_at > NEW_YEAR for block in blocks)
    assert [block.warehouse for block in blocks] == [[]]


def test_known_identities_come_in_blocks(
    client: bigquery.Client, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.read_known.BLOCK_IDENTITIES", 2)
    create_tables(client, dataset)
    about = {"workspace_id": "w", "updated_at": "2026-01-01T00:00:00Z", "identifier_type": "email", "version": 1}
    rows = [about | {"identifier": f"{number}@x", "person_id": "p"} for number in range(5)]
    assert client.insert_rows_json(f"{dataset}.identities", rows, retry=RETRY) == []

    blocks: list[PriorBlock] = read(ReadKnownIdentities(dataset), streaming=False)

    assert sorted(len(block.known) for block in blocks) == [1, 2, 2]
    assert {each.identifier for block in blocks for each in block.known} == {f"{number}@x" for number in range(5)}


@RUNNERS
def test_persons_are_read_from_a_table_and_from_a_view(client: bigquery.Client, dataset: str, streaming: bool) -> None:
    create_tables(client, dataset)
    sql(
        client,
        dataset,
        "CREATE TABLE `{d}.crm` (PERSON_ID INT64, Email STRING, name STRING)",
        "INSERT INTO `{d}.crm` VALUES (7, ' Ann@x.io', 'A'), (8, NULL, 'B'), (9, 'c@x.io', 'C'), (10, 'c@x.io', 'D')",
        "CREATE VIEW `{d}.crm_view` AS SELECT CAST(person_id AS NUMERIC) AS person_id, email, 'w2' AS workspace_id "
        "FROM `{d}.crm`",
    )

    for table, workspace_id in ((f"{dataset}.crm", "w1"), (f"{dataset}.crm_view", "w2")):
        found = read(ReadWarehousePersons(table, "w1"), streaming)

        persons = [person for block in found if isinstance(block, PriorBlock) for person in block.warehouse]
        merges = [row for rows in found if isinstance(rows, TableRows) for row in rows.rows]
        assert persons == [WarehousePerson(workspace_id, "ann@x.io", "7")]
        assert sorted(row[1] for row in merges) == ["10", "9"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("{d}.nowhere", "does not exist at the emulator"),
        ("{d}.counts", "has no column person_id; its columns are: window_start"),
        ("{d}.identities", "has no column email; its columns are: workspace_id, "),
    ],
)
def test_a_table_without_the_columns_is_refused(
    client: bigquery.Client,
    dataset: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: str,
    says: str,
) -> None:
    create_tables(client, dataset)
    (tmp_path / "calls.jsonl").write_text('{"type":"track","userId":"u1","event":"Seen","messageId":"m1"}\n')
    name = table.replace("{d}", dataset)
    argv = ["--input_files", str(tmp_path / "calls.jsonl"), "--output_dir", str(tmp_path / "out")]

    with pytest.raises(SystemExit) as ended:
        run([*argv, "--person_source", "warehouse", "--warehouse_persons", name])

    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert says in line
    assert name in line


def test_a_dataset_whose_view_is_older_is_refused(
    client: bigquery.Client, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_tables(client, dataset)
    client.delete_table(f"{dataset}.current_identities")
    sql(client, dataset, "CREATE VIEW `{d}.current_identities` AS SELECT * EXCEPT (linked_at) FROM `{d}.identities`")
    (tmp_path / "calls.jsonl").write_text('{"type":"track","userId":"u1","event":"Seen","messageId":"m1"}\n')

    with pytest.raises(SystemExit) as ended:
        run(["--input_files", str(tmp_path / "calls.jsonl"), "--output_dataset", dataset])

    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert f"{dataset}.current_identities lacks the column linked_at: run scripts/create_tables" in line


# out


class Topic:
    """A topic and its subscription."""

    def __init__(self, name: str) -> None:
        self.topic = f"projects/{PROJECT}/topics/{name}"
        self.subscription = f"projects/{PROJECT}/subscriptions/{name}"
        with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
            publisher.create_topic(name=self.topic)
            subscriber.create_subscription(name=self.subscription, topic=self.topic)

    def pull(self) -> list[tuple[dict[str, Any], dict[str, str]]]:
        with pubsub_v1.SubscriberClient() as subscriber:
            pulled = subscriber.pull(subscription=self.subscription, max_messages=100, timeout=10)
            return [(json.loads(got.message.data), dict(got.message.attributes)) for got in pulled.received_messages]


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:
    with start_pubsub(prefer_google=False) as running:
        assert isinstance(running, RunningPubsub)
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", running.host)
        yield Topic("identity-updates")


@RUNNERS
def test_updates_are_published(updates: Topic, streaming: bool) -> None:
    rows = [
        TableRows("identities", [identity("email", "ann@x.io"), identity("anonymous_id", "a1")]),
        TableRows("identity_merges", [(None,)]),
        TableRows("identities", [identity("user_id", "u1", person_id=None, workspace_id="w 😀'")]),
    ]
    source: Any = beam.Create(rows)
    if streaming:
        source = TestStream().add_elements(rows[:2]).add_elements(rows[2:]).advance_watermark_to_infinity()
    options = CachedOptions(streaming=streaming, runner=STREAMING_RUNNER if streaming else FNAPI_RUNNER)
    with _TestPipeline(options=options) as pipeline:
        _ = pipeline | source | PublishIdentityUpdates(updates.topic)

    published = sorted(updates.pull(), key=lambda message: bool(message[0]["user_id"]))

    at = {"at": "2026-01-01T00:00:00.000000Z", "version": NEW_YEAR}
    assert [update for update, _ in published] == [
        {"workspace_id": "w1", "person_id": "p1", "user_id": None, "email": "ann@x.io", **at},
        {"workspace_id": "w 😀'", "person_id": None, "user_id": "u1", "email": None, **at},
    ]
    assert [attributes for _, attributes in published] == [
        {"workspace_id": "w1", "version": str(NEW_YEAR)},
        {"workspace_id": "w 😀'", "version": str(NEW_YEAR)},
    ]


# in and out


def write_calls(folder: Path, *calls: dict[str, Any]) -> str:
    path = folder / "calls.jsonl"
    times = {"timestamp": "2026-01-01T00:00:00Z", "receivedAt": "2026-01-01T00:00:00Z"}
    path.write_text("".join(json.dumps(times | call) + "\n" for call in calls))
    return str(path)


IDENTIFY = {"type": "identify", "userId": "u1", "messageId": "m1", "traits": {"email": "ann@x.io", "name": "Ann"}}


def test_the_persons_of_a_warehouse_are_the_persons_of_calls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = write_calls(tmp_path, IDENTIFY, {"type": "track", "userId": "u1", "messageId": "m2", "event": "Seen"})
    (tmp_path / "p.csv").write_text("person_id,email\n7,Ann@x.io\n8,bob@x.io\n9,bob@x.io\n,nobody\n")
    out = tmp_path / "out"

    persons = ["--person_source", "warehouse", "--warehouse_persons", str(tmp_path / "p.csv")]
    assert run(["--input_files", calls, "--output_dir", str(out), *persons]) == 0

    (identified,) = pq.read_table(out / "identifies").to_pylist()
    assert (identified["person_id"], identified["traits"], identified["name"]) == ("7", "{}", None)
    assert [row["person_id"] for row in pq.read_table(out / "activities").to_pylist()] == ["7"]
    conflicts = pq.read_table(out / "identity_merges").to_pylist()
    assert sorted((row["reason"], row["from_person_id"]) for row in conflicts) == [
        ("warehouse_conflict", "8"),
        ("warehouse_conflict", "9"),
    ]
    told = [json.loads(line) for file in out.glob("identity_updates/*") for line in file.read_text().splitlines()]
    assert {(update["person_id"], update["user_id"], update["email"]) for update in told} == {
        ("7", "u1", None),
        ("7", None, "ann@x.io"),
    }
    said = capsys.readouterr().err
    assert "emails to which the warehouse gives several persons, of which none is used" in said
    assert "(warehouse_conflict in identity_merges): 1\n" in said
    assert "rows of the warehouse without a usable email or person_id, skipped: 1\n" in said
    assert "bob" not in said


def test_updates_of_files_are_published(updates: Topic, tmp_path: Path) -> None:
    out = ["--output_dir", str(tmp_path / "out"), "--identity_topic", updates.topic]

    assert run(["--input_files", write_calls(tmp_path, IDENTIFY), *out]) == 0

    published = updates.pull()
    assert sorted(update["user_id"] or update["email"] for update, _ in published) == ["ann@x.io", "u1"]
    assert {attributes["workspace_id"] for _, attributes in published} == {"default"}


def test_a_run_without_persons_leaves_an_empty_file(tmp_path: Path) -> None:
    track = {"type": "track", "anonymousId": "a1", "messageId": "m2", "event": "Seen"}

    assert run(["--input_files", write_calls(tmp_path, track), "--output_dir", str(tmp_path / "out")]) == 0

    assert [file.read_bytes() for file in (tmp_path / "out" / "identity_updates").iterdir()] == [b""]


def test_a_second_run_knows_the_persons_of_the_first(
    client: bigquery.Client, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_tables(client, dataset)
    track = {"type": "track", "userId": "u1", "messageId": "m2", "event": "Seen"}

    assert run(["--input_files", write_calls(tmp_path, IDENTIFY), "--output_dataset", dataset]) == 0
    assert run(["--input_files", write_calls(tmp_path, track), "--output_dataset", dataset]) == 0

    (person,) = client.query_and_wait(f"SELECT person_id FROM `{dataset}.persons`")
    (seen,) = client.query_and_wait(f"SELECT person_id FROM `{dataset}.activities`")
    assert seen["person_id"] == person["person_id"]
    assert "identities known from earlier jobs: 2\n" in capsys.readouterr().err


def test_a_stream_knows_the_persons_of_a_warehouse_and_tells_of_them(updates: Topic, tmp_path: Path) -> None:
    calls = Topic("calls")
    (tmp_path / "p.jsonl").write_text('{"person_id":7,"email":"ann@x.io"}\n')
    told: list[dict[str, Any]] = []

    def is_told() -> bool:
        told.extend(update for update, _ in updates.pull())
        files = tmp_path.glob("out/identity_updates/*.jsonl")
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return all("u1" in {update["user_id"] for update in updates_of} for updates_of in (told, lines))

    flags = ["--input_subscription", calls.subscription, "--output_dir", str(tmp_path / "out"), "--window_seconds", "1"]
    persons = ["--person_source", "warehouse", "--warehouse_persons", str(tmp_path / "p.jsonl")]
    with start_program(*flags, *persons, "--identity_topic", updates.topic) as program:
        with pubsub_v1.PublisherClient() as publisher:
            publisher.publish(calls.topic, json.dumps(IDENTIFY).encode()).result(timeout=10)
        wait_until(program, is_told)

    assert {update["person_id"] for update in told} == {"7"}
