"""The customer's persons, read from every kind of file, in both runners; tables are read in tests/emulator."""

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing.test_pipeline import TestPipeline as _TestPipeline
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from pipelines.cached_options import CachedOptions
from pipelines.read import UnreadableFileError
from pipelines.read_persons import SHARDS, ReadWarehousePersons, shard_persons
from pipelines.runners import FNAPI_RUNNER, STREAMING_RUNNER
from pipelines.write_parquet import WriteParquet
from schemas.identities import PriorBlock, WarehousePerson
from schemas.identity_rules import IdentityRules
from schemas.rows import row_values

RUNNERS = pytest.mark.parametrize("streaming", [False, True], ids=["bounded", "streaming"])

# A DoFn is pickled, a list of the test is not.
_READ: dict[str, list[tuple[Any, Timestamp]]] = {}


class _GatherFn(beam.DoFn):
    def __init__(self, name: str) -> None:
        self._name = name

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        _READ[self._name].append((element, timestamp))


class Read:
    """What came out of reading a source."""

    def __init__(self, source: str, streaming: bool = False, **rules: Any) -> None:
        _READ.update({"prior": [], "merges": []})
        options = CachedOptions(streaming=streaming, runner=STREAMING_RUNNER if streaming else FNAPI_RUNNER)
        pipeline = _TestPipeline(options=options)
        settled = pipeline | ReadWarehousePersons(source, "w1", IdentityRules(**rules))
        _ = settled.prior | "GatherPrior" >> beam.ParDo(_GatherFn("prior"))
        _ = settled.merges | "GatherMerges" >> beam.ParDo(_GatherFn("merges"))
        result = pipeline.run()
        result.wait_until_finish()
        self.counters = {
            counter.key.metric.name: counter.result
            for counter in result.metrics().query(MetricsFilter())["counters"]
            if counter.key.metric.namespace == "read_persons"
        }
        self.blocks: list[PriorBlock] = [block for block, _ in _READ["prior"]]
        self.persons = sorted(
            (person.workspace_id, person.email, person.person_id) for block in self.blocks for person in block.warehouse
        )
        self.merges = [row_values(rows.table, tuple(row)) for rows, _ in _READ["merges"] for row in rows.rows]
        self.times = {name: {time for _, time in read} for name, read in _READ.items()}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    """The rows as a file of the kind that its name says."""
    path = folder / name
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".csv"):
        names = list(rows[0])
        text = [",".join('"' + str(row.get(key) or "") + '"' for key in names) for row in rows]
        path.write_text("\r\n".join([",".join(names), *text]), encoding="utf-8-sig", newline="")
    else:
        path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + lines) if name.endswith(".gz") else lines)
    return str(path)


@pytest.mark.slow
@RUNNERS
@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.jsonl.gz", "p.parquet"])
def test_every_kind_of_file_says_the_same(tmp_path: Path, name: str, streaming: bool) -> None:
    source = write(
        tmp_path,
        name,
        [
            {"email": "Ann@example.com ", "other": 1, "person_id": "p1", "workspace_id": None},
            {"email": "bob@example.com", "other": 2, "person_id": "p2", "workspace_id": "w2"},
            {"email": "", "other": 3, "person_id": "p3", "workspace_id": None},
            {"email": "ann@example.com", "other": 4, "person_id": "p1", "workspace_id": "w1"},
            {"email": "cy@example.com", "other": 5, "person_id": None, "workspace_id": None},
        ],
    )

    read = Read(source, streaming)

    assert read.persons == [("w1", "ann@example.com", "p1"), ("w2", "bob@example.com", "p2")]
    assert read.merges == []
    assert read.counters["skipped_rows"] == 2
    assert read.counters["emails_with_a_person"] == 2


@RUNNERS
def test_a_conflict_is_reported_and_nobody_is_used(tmp_path: Path, streaming: bool) -> None:
    rows = [("ann@x.io", 1), ("ANN@x.io", 2), ("bob@x.io", 1), ("ann@x.io", 1)]
    # in two files: the conflict is between them
    for number, part in enumerate((rows[:1], rows[1:])):
        write(tmp_path, f"p{number}.jsonl", [{"email": email, "person_id": person_id} for email, person_id in part])

    read = Read(str(tmp_path / "*.jsonl"), streaming)

    assert read.persons == [("w1", "bob@x.io", "1")]
    assert sorted(row["from_person_id"] for row in read.merges) == ["1", "2"]
    assert {row["identifier"] for row in read.merges} == {"ann@x.io"}
    assert read.counters["conflicting_emails"] == 1
    # persons come before all time, a conflict when it was found
    assert read.times["prior"] == {MIN_TIMESTAMP}
    assert {time.micros for time in read.times["merges"]} == {row["timestamp"] for row in read.merges}
    assert all(block.read_at > 1_700_000_000_000_000 for block in read.blocks)


def test_what_is_blocked_is_nobodys(tmp_path: Path) -> None:
    source = write(tmp_path, "p.jsonl", [{"email": "a@x", "person_id": "guest"}, {"email": "b@x", "person_id": "null"}])

    assert Read(source, blocked_values=("Guest",)).persons == [("w1", "b@x", "null")]


def test_skipped_rows_are_warned_of_once_without_what_they_hold(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write(tmp_path, "p.jsonl", [{"email": f"secret{number}", "person_id": "p"} for number in range(20_001)])

    with caplog.at_level(logging.WARNING, logger="pipelines.read_persons"):
        read = Read(source)

    ours = [record.getMessage() for record in caplog.records if record.name == "pipelines.read_persons"]
    assert len(ours) == 1
    assert source in ours[0]
    assert "secret" not in ours[0]
    assert read.counters["skipped_rows"] == 20_001


def test_lines_that_are_no_json_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(
        b'{"email":"a@x","person_id":1}\n{\n\n[1]\n"x"\n{"email":"b@x","person_id":"\xff"}\n'
        b'{"email":"c@x","person_id":"\\ud800"}\n'
        + b'{"email":'
        + b"[" * 100_000
        + b'\n{"email":"d@x","person_id":2.0}'
    )

    read = Read(str(path))

    assert read.persons == [("w1", "a@x", "1"), ("w1", "d@x", "2")]
    assert read.counters["skipped_rows"] == 6


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("p.csv", b"id,email\n1,a@x\n", "it has no column person_id"),
        ("p.csv", b'person_id,email\n1,"a@x\n', "unexpected end of data"),
        ("p.csv", b"person_id,email\n1,\xff\n", "can't decode"),
        ("p.jsonl.gz", b"no gzip", "Not a gzipped file"),
        ("p.jsonl.gz", gzip.compress(b'{"email":"a@x","person_id":1}\n' * 1000)[:-10], "ended before"),
        ("p.parquet", b"PAR1 and no more PAR1", "arquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, contents: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(contents)

    with pytest.raises(UnreadableFileError, match=f"{name} cannot be read: .*{says}"):
        Read(str(tmp_path / name))


def test_persons_are_spread_and_an_email_has_one_shard() -> None:
    persons = [WarehousePerson("w1", f"{number}@x", "p") for number in range(6_400)]
    again = [WarehousePerson("w2", person.email, "q") for person in persons]

    shards = shard_persons(persons + again)

    assert set(shards) == set(range(SHARDS))
    assert max(len(block.warehouse) for block in shards.values()) < 400
    for block in shards.values():
        emails = [person.email for person in block.warehouse]
        assert {emails.count(email) for email in emails} == {2}


def test_many_persons_come_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.read_persons.BLOCK_PERSONS", 10)
    source = write(tmp_path, "p.jsonl", [{"email": f"{n}@x", "person_id": n + 1} for n in range(2_000)])

    read = Read(source)

    assert len(read.persons) == 2_000
    assert max(len(block.warehouse) for block in read.blocks) == 10


def test_conflicts_in_a_stream_can_be_written(tmp_path: Path) -> None:
    """The rows have a time that a window can hold."""
    source = write(tmp_path, "p.jsonl", [{"email": "a@x", "person_id": n} for n in (1, 2)])
    options = CachedOptions(streaming=True, runner=STREAMING_RUNNER)

    with _TestPipeline(options=options) as pipeline:
        merges = (pipeline | ReadWarehousePersons(source, "w1")).merges
        merges.is_bounded = False  # as it is together with what calls bring
        _ = {"Merges": merges} | WriteParquet(str(tmp_path / "out"), 10)

    rows = [row for file in tmp_path.glob("out/*/*.parquet") for row in pq.read_table(file).to_pylist()]
    assert [row["from_person_id"] for row in rows] == ["1", "2"]
