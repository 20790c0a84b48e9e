"""The whole program, as a user runs it: files or Pub/Sub in; BigQuery, Parquet and dead letters out."""

import glob
import gzip
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import google.cloud.pubsub_v1 as pubsub_v1
import pyarrow.parquet as pq
import pytest
from apache_beam.io.localfilesystem import LocalFileSystem
from google.cloud import bigquery

from pipelines.read import BLOCK_BYTES
from pipelines.segment_to_bigquery import run
from schemas.tables import CALLS_TABLES, VIEWS, arrow_schema, bigquery_schema, load_table
from scripts.create_tables import create_tables
from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import PATIENCE_SECONDS, Topic, ask, counts, line, start_program, wait_until


def padded_line(message_id: str, length: int) -> bytes:
    """A call of exactly so many bytes."""
    bare = line(message_id, properties={"pad": ""})
    return line(message_id, properties={"pad": "x" * (length - len(bare))})


def write_files(folder: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (folder / f"{name}.jsonl").write_bytes(content)


class Folder:
    """An --output_dir, asked through DuckDB."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def select(self, columns: str, table: str) -> list[tuple[Any, ...]]:
        files = f"{glob.escape(str(self.path / table))}/*.parquet"
        return sorted(duckdb.execute(f"SELECT {columns} FROM read_parquet(?)", [files]).fetchall())

    def ids(self, table: str = "activities") -> list[str]:
        return [message_id for (message_id,) in self.select("message_id", table)]

    def counts(self) -> dict[tuple[str, str | None], int]:
        ended: Counter[tuple[str, str | None]] = Counter()
        for outcome, reason, count in self.select("outcome, reason, count", "counts"):
            ended[outcome, reason] += count
        return dict(ended)


def to_parquet(pattern: Path, output_dir: Path, *flags: str) -> Folder:
    assert run(["--input_files", str(pattern), "--output_dir", str(output_dir), *flags]) == 0
    return Folder(output_dir)


def stop(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What a run that cannot go on says, which must be one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(argv)
    said = capsys.readouterr().err.splitlines()

    assert ended.value.code not in (0, None)
    assert len(said) == 1, said
    return said[0]


# files to Parquet


def test_every_line_of_every_kind_of_file_is_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "my calls"
    folder.mkdir()
    write_files(
        folder,
        windows=b"\xef\xbb\xbf" + line("bom") + b"\r\n\r\n" + line("crlf") + b"\r\n{\r\n",
        only_bom=b"\xef\xbb\xbf\r\n",
        empty=b"",
        blank=b"\n \n\t\r\n\n",
        no_end=line("first") + b"\n" + line("last"),
        not_utf8=line("good") + b'\n{"type":"track","userId":"\xff\xfe","event":"E"}\n',
    )
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + line("gz") + b"\n" + line("gz-last")))
    (folder / "two_parts.jsonl.gz").write_bytes(gzip.compress(line("part-1") + b"\n") + gzip.compress(line("part-2")))

    out = to_parquet(folder / "*.jsonl*", tmp_path / "out [1]" / "my tables")

    ids = ["bom", "crlf", "first", "good", "gz", "gz-last", "last", "part-1", "part-2"]
    assert out.ids() == ids
    assert out.counts() == {("written", None): len(ids), ("rejected", "bad_request"): 2}
    assert out.select("payload, source", "dead_letters") == [
        (b"{", str(folder / "windows.jsonl")),
        (b'{"type":"track","userId":"\xff\xfe","event":"E"}', str(folder / "not_utf8.jsonl")),
    ]


def test_lines_on_and_across_the_ends_of_ranges_are_read_once(tmp_path: Path) -> None:
    contents = b""
    for block, beyond in enumerate((0, -1, 1)):
        end = (block + 1) * BLOCK_BYTES + beyond
        number = 0
        while end - len(contents) > 40_000:
            contents += padded_line(f"{block}-{number:03}", 20_000) + b"\n"
            number += 1
        half = (end - len(contents)) // 2
        contents += padded_line(f"{block}-{number:03}", half - 1) + b"\n"
        contents += padded_line(f"{block}-end", end - len(contents) - 1) + b"\n"
        assert len(contents) == end
    contents += line("after the last end")
    write_files(tmp_path, calls=contents)

    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "out")

    assert out.ids() == sorted(json.loads(sent_line)["messageId"] for sent_line in contents.splitlines())
    assert out.counts() == {("written", None): len(contents.splitlines())}


def test_a_line_of_ten_megabytes_is_a_dead_letter_with_all_its_bytes(tmp_path: Path) -> None:
    huge = padded_line("huge", 10_000_000)
    write_files(tmp_path, calls=line("before") + b"\n" + huge + b"\n" + line("after"))

    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "out")

    assert out.ids() == ["after", "before"]
    parts = sorted(out.select("part, payload, reason", "dead_letters"))
    assert b"".join(payload for _, payload, _ in parts) == huge
    assert {reason for _, _, reason in parts} == {"too_large"}
    assert out.counts() == {("written", None): 2, ("rejected", "too_large"): 1}


def test_every_table_has_files_of_its_schema_and_nothing_is_left_over(tmp_path: Path) -> None:
    write_files(tmp_path, calls=b"\n".join([line("m1"), line("m1"), line("m2", "identify"), b"{"]))

    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "out")

    assert not (out.path / "erasures").exists()
    for table in CALLS_TABLES:
        files = list((out.path / table).iterdir())
        assert [file.suffix for file in files] == [".parquet"] * len(files), table
        assert not [file.name for file in files if file.name.startswith(".")]
        assert pq.read_table(out.path / table).schema.equals(arrow_schema(load_table(table)), check_metadata=True)
    assert sum(out.counts().values()) == 4
    assert out.counts()["duplicate", None] == 1


def test_a_second_run_into_the_folder_is_refused_whatever_the_folder_is_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, calls=line("m1"))
    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "out [2] [/red]")

    said = stop(capsys, "--input_files", str(tmp_path / "calls.jsonl"), "--output_dir", str(out.path))

    assert "earlier run" in said
    assert out.ids() == ["m1"]


def test_the_summary_names_the_folder_as_it_is_and_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, calls=line("m1"))

    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "[red]out[/blue]")

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == f"Parquet: {out.path}"


def test_two_workspaces_share_nothing(tmp_path: Path) -> None:
    """Of two files with the same ids, read for two workspaces, each has its own people."""
    write_files(tmp_path, calls=line("m1", "identify"))

    one = to_parquet(tmp_path / "calls.jsonl", tmp_path / "one", "--workspace_id", "w 1'\"")
    other = to_parquet(tmp_path / "calls.jsonl", tmp_path / "other", "--workspace_id", "w2")

    assert one.select("workspace_id", "identifies") == [("w 1'\"",)]
    assert one.select("person_id", "identifies") != other.select("person_id", "identifies")


# what ends a run with one line


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(b"no gzip at all\n", id="no gzip"),
        pytest.param(gzip.compress(line("m1") * 100)[:-30], id="cut"),
        pytest.param(gzip.compress(line("m1"))[:10] + b"\xff" * 40, id="damaged"),
    ],
)
def test_a_corrupt_gz_ends_the_run_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, contents: bytes
) -> None:
    path = tmp_path / "calls.jsonl.gz"
    path.write_bytes(contents)

    said = stop(capsys, "--input_files", str(path), "--output_dir", str(tmp_path / "out"))

    assert f"{path} cannot be read: " in said
    assert not caplog.records


def test_a_file_that_vanishes_ends_the_run_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, calls=line("m1"))
    open_file = LocalFileSystem.open

    def vanish(self: LocalFileSystem, path: str, *arguments: Any, **named: Any) -> Any:
        Path(path).unlink(missing_ok=True)
        return open_file(self, path, *arguments, **named)

    monkeypatch.setattr(LocalFileSystem, "open", vanish)

    said = stop(capsys, "--input_files", str(tmp_path / "*.jsonl"), "--output_dir", str(tmp_path / "out"))

    assert f"{tmp_path / 'calls.jsonl'} cannot be read: " in said


def test_a_folder_in_place_of_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = stop(capsys, "--input_files", str(tmp_path), "--output_dir", str(tmp_path / "out"))

    assert f"is a folder; name its files, e.g. {tmp_path}/*.jsonl" in said


def test_input_that_is_nearly_all_garbage_stops_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = [line(f"m{number}") if number % 100 == 0 else b"garbage" for number in range(2000)]
    write_files(tmp_path, calls=b"\n".join(lines))

    # a limit that no other test has: the process remembers what it has read under each
    argv = ["--input_files", str(tmp_path / "calls.jsonl"), "--output_dir", str(tmp_path / "out")]
    said = stop(capsys, *argv, "--max_rejected_percent", "98.9")

    assert "1,980 of the last 2,000 messages were rejected" in said
    assert "--max_rejected_percent" in said
    assert not caplog.records
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_garbage_that_is_expected_does_not_stop_the_run(tmp_path: Path) -> None:
    write_files(tmp_path, calls=b"garbage\n" * 2000 + line("m1"))

    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "out", "--max_rejected_percent", "100")

    assert out.counts() == {("rejected", "bad_request"): 2000, ("written", None): 1}


def test_a_bug_of_ours_keeps_its_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, calls=line("m1"))
    monkeypatch.setattr("transforms.parse_calls.parse_call", lambda *arguments: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run(["--input_files", str(tmp_path / "calls.jsonl"), "--output_dir", str(tmp_path / "out")])


def test_ctrl_c_inside_a_step_ends_the_run_quietly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Beam makes a RuntimeError of it."""
    write_files(tmp_path, calls=line("m1"))

    def press(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transforms.parse_calls.parse_call", press)

    assert run(["--input_files", str(tmp_path / "calls.jsonl"), "--output_dir", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == ""
    assert not caplog.records


# files to BigQuery

ONE_OF_EACH = (
    line("m1", "identify"),
    line("m2", "group"),
    line("m3", "track"),
    line("m4", "page"),
    line("m5", "screen"),
    line("m6", "alias"),
    line("m7", "delete", userId="somebody else"),
)


@pytest.mark.slow
def test_files_to_bigquery(client: bigquery.Client, dataset: str, tmp_path: Path) -> None:
    create_tables(client, dataset)
    write_files(tmp_path, calls=b"\n".join([*ONE_OF_EACH, line("m3", "track"), b"{"]))

    status = run(["--input_files", str(tmp_path / "calls.jsonl"), "--output_dataset", dataset])

    assert status == 0
    assert counts(client, dataset) == {
        ("written", None): 7,
        ("duplicate", None): 1,
        ("rejected", "bad_request"): 1,
    }
    assert ask(client, dataset, "SELECT message_id FROM `{d}.activities` ORDER BY 1") == [("m3",), ("m4",), ("m5",)]
    for table, message_id in (
        ("identifies", "m1"),
        ("group_identifies", "m2"),
        ("aliases", "m6"),
        ("erasure_requests", "m7"),
    ):
        assert ask(client, dataset, f"SELECT message_id FROM `{{d}}.{table}`") == [(message_id,)], table
    assert ask(client, dataset, "SELECT payload, reason FROM `{d}.dead_letters`") == [(b"{", "bad_request")]
    for view in VIEWS:
        ask(client, dataset, f"SELECT * FROM `{{d}}.{view}`")
    persons = ask(client, dataset, "SELECT person_id FROM `{d}.persons`")
    assert len(persons) == 1
    activities = ask(client, dataset, "SELECT DISTINCT person_id FROM `{d}.person_activities`")
    assert activities == persons


@pytest.mark.slow
def test_a_row_that_bigquery_refuses_is_a_dead_letter_and_its_call_is_not_written(
    client: bigquery.Client, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_tables(client, dataset)
    table = load_table("group_identifies")
    client.delete_table(f"{dataset}.group_identifies")
    # somebody's own table: it takes numbers only
    fields = [field | {"type": "INTEGER"} if field["name"] == "group_id" else field for field in bigquery_schema(table)]
    client.create_table(bigquery.Table(f"{dataset}.group_identifies", schema=fields))
    good, bad = line("m8", "group", groupId="7"), line("m9", "group", groupId="seven", traits={"näme": "Acme"})
    write_files(tmp_path, calls=b"\n".join([good, bad, line("m1"), b"{"]))

    status = run(["--input_files", str(tmp_path / "calls.jsonl"), "--output_dataset", dataset])

    assert status == 0
    assert ask(client, dataset, "SELECT message_id FROM `{d}.group_identifies`") == [("m8",)]
    letters = "SELECT payload, step, detail, message_id, type, workspace_id FROM `{d}.dead_letters` WHERE reason = "
    ((payload, step, detail, *about),) = ask(client, dataset, letters + "'refused_by_bigquery'")
    row = json.loads(payload)
    assert row["group_id"] == "seven"
    assert json.loads(row["traits"]) == {"näme": "Acme"}
    assert set(row) <= set(table.columns)
    assert "group_identifies: " in detail
    assert len(detail) > len("group_identifies: ")
    assert step.startswith("Write")
    assert about == ["m9", "group", "default"]
    assert counts(client, dataset) == {
        ("written", None): 2,
        ("rejected", "refused_by_bigquery"): 1,
        ("rejected", "bad_request"): 1,
    }
    assert ask(client, dataset, "SELECT SUM(count) FROM `{d}.counts` WHERE type = 'group'") == [(2,)]
    assert "refused_by_bigquery" in capsys.readouterr().err


@pytest.mark.slow
def test_files_that_hold_an_erasure_request_write_nothing_of_that_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = {"traits": {"email": "ann@example.com"}}
    write_files(
        tmp_path,
        calls=b"\n".join(
            [
                line("m1", userId=None, anonymousId="a1"),
                line("m2", "identify", anonymousId="a1"),
                line("m3", userId="u3", anonymousId="a3", timestamp="2026-01-01T00:00:00Z"),
                line("m4", "delete", anonymousId="a3"),
                line("m5", userId="u5", context=context),
                line("m6", "identify", userId="u6", traits={"email": "bob@example.com"}),
            ]
        ),
    )

    out = to_parquet(tmp_path / "calls.jsonl", tmp_path / "out")

    assert out.ids() == ["m3"]
    assert out.ids("identifies") == ["m6"]
    assert out.ids("erasure_requests") == ["m4"]
    assert out.counts() == {("written", None): 3, ("suppressed", None): 3}
    assert [identifier for (identifier,) in out.select("identifier", "identities")] == ["bob@example.com", "u6"]
    assert "6 messages" in (summary := capsys.readouterr().err)
    assert "suppressed" in summary


# Pub/Sub to BigQuery


@pytest.mark.slow
def test_pubsub_to_bigquery(client: bigquery.Client, dataset: str, pubsub: RunningPubsub) -> None:
    create_tables(client, dataset)
    calls, letters = Topic("calls"), Topic("letters")
    origin = {"workspace_id": "w 😀'", "connection_id": "c1", "received_at": "2026-01-02T03:04:05Z"}
    flags = ["--input_subscription", calls.subscription, "--output_dataset", dataset, "--window_seconds", "1"]

    def accounted() -> int:
        return sum(counts(client, dataset).values())

    with start_program(*flags, "--dead_letter_topic", letters.topic, "--max_rejected_percent", "100") as program:
        calls.publish(line("m1", "identify", receivedAt="2020-01-01T00:00:00Z"), **origin)
        calls.publish(b"\xff not a call", **origin)
        calls.publish(b"", only="attributes")
        calls.publish(line("m2"))
        wait_until(program, lambda: accounted() == 4)
        calls.publish(line("m1", "identify", receivedAt="2020-01-01T00:00:00Z"), **origin)
        wait_until(program, lambda: accounted() == 5)

        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)

    assert program.returncode == 130
    assert (out, err) == ("", f"Reading {calls.subscription}; Ctrl-C stops.\n")
    assert counts(client, dataset) == {
        ("written", None): 2,
        ("duplicate", None): 1,
        ("rejected", "bad_request"): 2,
    }
    identified = "SELECT workspace_id, connection_id, CAST(received_at AS STRING) FROM `{d}.identifies`"
    assert ask(client, dataset, identified) == [("w 😀'", "c1", "2026-01-02 03:04:05+00")]
    assert ask(client, dataset, "SELECT workspace_id, connection_id FROM `{d}.activities`") == [("default", None)]
    published = dict(letters.pull())
    assert set(published) == {b"\xff not a call", b""}
    attributes = published[b"\xff not a call"]
    assert attributes.items() >= origin.items()
    assert attributes["dead_letter_reason"] == "bad_request"
    assert attributes["dead_letter_step"] == "ParseCalls"
    stored = ask(client, dataset, "SELECT payload, JSON_VALUE(attributes, '$.connection_id') FROM `{d}.dead_letters`")
    assert sorted(stored, key=str) == [(b"", None), (b"\xff not a call", "c1")]


@pytest.mark.slow
def test_a_stream_of_garbage_ends_with_one_line(pubsub: RunningPubsub, tmp_path: Path) -> None:
    calls = Topic("garbage")
    with pubsub_v1.PublisherClient() as publisher:
        for future in [publisher.publish(calls.topic, b"garbage") for _ in range(2000)]:
            future.result(timeout=10)

    with start_program("--input_subscription", calls.subscription, "--output_dir", str(tmp_path / "out")) as program:
        _, err = program.communicate(timeout=PATIENCE_SECONDS)

    assert program.returncode == 1
    assert len(err.splitlines()) == 2, err
    assert "messages were rejected" in err
