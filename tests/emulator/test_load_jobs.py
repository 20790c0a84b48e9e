"""BigQuery's load jobs (FILE_LOADS), which read from a bucket what Beam put there."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from schemas.tables import CALLS_TABLES
from scripts.bigquery_emulator import start_bigquery
from scripts.create_tables import create_tables
from scripts.simulate_calls import simulate_calls
from tests.emulator.conftest import PROJECT
from tests.emulator.programs import BESIDE_A_THREAD, line, run_program

pytestmark = pytest.mark.slow

LOADS = ["--bigquery_method", "FILE_LOADS", "--temp_location", "gs://ours/tmp"]

AT = "2026-11-01T00:00:00Z"
STRANGE = [
    line("big", userId="u1", timestamp=AT, properties={"n": 2**63, "m": -(2**64), "f": 1e300}),
    line(
        "deep", userId="u1", timestamp=AT, properties={"a": {"b": [{"c": None}, [], {}]}, "": "", "text": "a\n\u2028\t"}
    ),
    line("surrogates", userId="u1", timestamp=AT, properties={"a": "pair"}).replace(b"pair", rb"\ud83d\ude00"),
    line("surrogate", userId="u1", timestamp=AT, properties={"a": "half"}).replace(b"half", rb"\ud83d"),
    line("alias", "alias", userId="u1", previousId="device", timestamp=AT),
    line("delete", "delete", userId="u2", timestamp=AT),
    line("suppress", "suppress", identifierType="user_id", identifierHash="0" * 64, timestamp=AT),
    b"\xff\xfe",
    b'{"type":"track"}',
]


def read_table(client: bigquery.Client, table: str) -> list[dict[str, Any]]:
    """Its rows in an order, without what is another run's anyhow."""
    rows = [dict(row) for row in client.query_and_wait(f"SELECT * FROM `{table}`")]
    for row in rows:
        if table.endswith("dead_letters"):
            del row["payload"]  # of bytes in a load job the emulator keeps their base64; their digest is there, too
        for name in ("rejected_at", "window_start", "received_at", "updated_at", "version"):
            row.pop(name, None)
    return sorted(rows, key=repr)


def test_load_jobs_write_what_streaming_inserts_write(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = simulate_calls(400, 7, datetime.now(UTC)).payloads
    bucket.blob("in/calls.jsonl").upload_from_string(b"\n".join([*simulated, *STRANGE]))
    flags = ["--input_files", "gs://ours/in/*", "--max_rejected_percent", "100"]
    with start_bigquery() as host:
        monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, host)
        client = bigquery_client(PROJECT)
        for name in ("streamed", "loaded"):
            create_tables(client, f"{PROJECT}.{name}")

        run_program(*flags, "--output_dataset", f"{PROJECT}.streamed")
        assert "WARNING" not in run_program(*flags, *LOADS, "--output_dataset", f"{PROJECT}.loaded")

        streamed, loaded = (
            {table: read_table(client, f"{PROJECT}.{name}.{table}") for table in CALLS_TABLES}
            for name in ("streamed", "loaded")
        )
        client.close()
    assert loaded == streamed
    assert {table for table, rows in loaded.items() if not rows} == {"identity_merges"}


def test_workers_that_are_no_forks_meet_the_emulators_too(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        bucket.blob(f"in/{name}.jsonl").upload_from_string(line(name))
    flags = ["--input_files", "gs://ours/in/*", "--direct_num_workers=2", "--output_dataset", f"{PROJECT}.loaded"]
    with start_bigquery() as host:
        monkeypatch.setenv(BIGQUERY_EMULATOR_HOST, host)
        client = bigquery_client(PROJECT)
        create_tables(client, f"{PROJECT}.loaded")

        done = subprocess.run(
            [sys.executable, "-c", BESIDE_A_THREAD, *flags, *LOADS],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            timeout=120,
        )

        assert done.returncode == 0, done.stderr
        assert len(read_table(client, f"{PROJECT}.loaded.activities")) == 2
        client.close()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "--bigquery_method FILE_LOADS needs --temp_location gs://BUCKET/FOLDER"),
        (["--temp_location", "/tmp"], "--bigquery_method FILE_LOADS needs --temp_location gs://BUCKET/FOLDER"),
        (["--temp_location", "gs://theirs/tmp"], "--temp_location: 'gs://theirs/tmp' cannot be written to: 404 "),
    ],
)
def test_load_jobs_without_a_bucket_are_refused_in_one_line(bucket: Any, flags: list[str], says: str) -> None:
    bucket.blob("in/calls.jsonl").upload_from_string(line("m1"))
    loads = ["--input_files", "gs://ours/in/*", "--output_dataset", "p-123456.d", "--bigquery_method", "FILE_LOADS"]

    (said,) = run_program(*loads, *flags, exit_code=2).splitlines()

    assert said.startswith(f"segment_to_bigquery: {says}")
