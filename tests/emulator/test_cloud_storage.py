"""Both pipelines with files in a bucket, in and out."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import google.cloud.storage as storage
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems

from pipelines.clients import go_without_credentials
from pipelines.read import BLOCK_BYTES, read_lines, split_file
from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic, line, run_program, start_program, wait_until

pytestmark = pytest.mark.slow


def download(bucket: Any, folder: Path) -> None:
    """What is shown in the bucket, into the folder; what is hidden may be gone by then."""
    for blob in bucket.list_blobs(prefix="out/"):
        path = folder / blob.name
        if path.name.startswith("."):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        blob.download_to_filename(path)


def count_rows(folder: Path, table: str) -> int:
    return sum(pq.read_table(file).num_rows for file in folder.glob(f"out/{table}/part-*.parquet"))


def read_jsonl(folder: Path, name: str) -> list[dict[str, Any]]:
    files = folder.glob(f"out/{name}/part-*.jsonl")
    return [json.loads(each) for file in files for each in file.read_bytes().splitlines()]


def test_calls_come_from_a_bucket_and_tables_go_there(bucket: Any, tmp_path: Path) -> None:
    people = range(300)
    calls = [line(f"i{n}", "identify", userId=f"u{n}", traits={"email": f"u{n}@example.com"}) for n in people]
    calls += [line(f"t{n}", userId=f"u{n % 300}") for n in range(900)] + [b"{"]
    bucket.blob("in/a.jsonl").upload_from_string(b"\n".join(calls[:600]))
    bucket.blob("in/b.jsonl.gz").upload_from_string(gzip.compress(b"\n".join(calls[600:])))
    bucket.blob("settings.toml").upload_from_string(b'[blocked]\nvalues = ["u7"]\n')
    bucket.blob("crm.csv").upload_from_string(b"person_id,email\n77,u8@example.com\n")
    flags = ["--input_files", "gs://ours/in/*", "--output_dir", "gs://ours/out"]
    flags += ["--identity_settings", "gs://ours/settings.toml", "--max_rejected_percent", "100"]

    run_program(*flags, "--person_source", "warehouse", "--warehouse_persons", "gs://ours/crm.csv")

    download(bucket, tmp_path)
    assert count_rows(tmp_path, "identifies") + count_rows(tmp_path, "activities") == 1200
    assert count_rows(tmp_path, "dead_letters") == 1
    identities = pq.read_table(tmp_path / "out" / "identities").to_pylist()
    persons = {row["identifier"]: row["person_id"] for row in identities}
    assert persons["u8@example.com"] == "77"
    assert "u7" not in persons
    assert "holds the files of an earlier run" in run_program(*flags, exit_code=2)


def test_email_logs_come_from_a_bucket_and_calls_go_there(bucket: Any, tmp_path: Path) -> None:
    log = [
        {"event": "open", "email": f"u{n}@example.com", "timestamp": 1_790_000_000 + n, "sg_event_id": f"e{n}"}
        for n in range(500)
    ]
    bucket.blob("in/log.jsonl").upload_from_string("\n".join(map(json.dumps, [*log, *log[:9], {}])))
    flags = ["--input_files", "gs://ours/in/log.jsonl", "--output_dir", "gs://ours/out"]

    run_program(*flags, module="pipelines.email_logs_to_segment")

    download(bucket, tmp_path)
    calls = read_jsonl(tmp_path, "segment_calls")
    assert [call["event"] for call in calls].count("Email Unique Opens") == 500
    assert len(calls) == 1000
    assert [letter["reason"] for letter in read_jsonl(tmp_path, "dead_letters")] == ["unknown_provider"]
    flags = ["--files", "gs://ours/out/dead_letters/*.jsonl", "--step", "ParseEmailLogs", "--dry_run"]
    flags += ["--topic", "projects/my-project/topics/email-logs"]
    assert "1 unknown_provider" in run_program(*flags, module="scripts.replay_dead_letters")


def test_a_stream_writes_to_a_bucket(bucket: Any, pubsub: RunningPubsub, tmp_path: Path) -> None:
    calls = Topic("calls")
    calls.publish_all(line(f"t{n}", userId=f"u{n}") for n in range(100))
    flags = ["--input_subscription", calls.subscription, "--output_dir", "gs://ours/out", "--window_seconds", "1"]

    def are_shown() -> bool:
        download(bucket, tmp_path)
        return count_rows(tmp_path, "activities") == 100

    with start_program(*flags) as program:
        wait_until(program, are_shown)


@pytest.mark.parametrize(
    ("files", "folder", "says"),
    [
        ("gs://ours/nothing/*", "gs://ours/out", "--input_files: no file matches 'gs://ours/nothing/*'"),
        ("gs://theirs/in/*", "gs://ours/out", "--input_files: cannot look for 'gs://theirs/in/*': 404 GET http"),
        ("gs://ours/in/a", "gs://theirs/out", "--output_dir: cannot look into 'gs://theirs/out': 404 GET http"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(bucket: Any, files: str, folder: str, says: str) -> None:
    bucket.blob("in/a").upload_from_string(b"")

    (said,) = run_program("--input_files", files, "--output_dir", folder, exit_code=2).splitlines()

    assert re.match(rf"segment_to_bigquery: {re.escape(says)}", said)


def test_a_file_is_fetched_once_and_cut_into_blocks(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b"%07d%s" % (number, b"." * (number % 1000)) for number in range(80_000)]
    whole = b"\n".join(lines)
    bucket.blob("in/large.jsonl").upload_from_string(whole)
    go_without_credentials(["gs://ours"])
    (file,) = FileSystems.match(["gs://ours/in/large.jsonl"])[0].metadata_list
    fetched = []
    fetch = storage.Blob.download_as_bytes

    def note(blob: Any, *args: Any, **kwargs: Any) -> bytes:
        part: bytes = fetch(blob, *args, **kwargs)
        fetched.append(len(part))
        return part

    monkeypatch.setattr(storage.Blob, "download_as_bytes", note)

    blocks = [block for file_range in split_file(file) for block in read_lines(*file_range)]

    assert [line for block in blocks for line in block if line] == lines
    assert sum(fetched) < 1.01 * len(whole)
    assert len(fetched) <= 4  # the last one to find that nothing comes behind the last line
    assert max(len(b"\n".join(block)) for block in blocks) < 1.1 * BLOCK_BYTES
