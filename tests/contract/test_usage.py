"""Mistakes on the command line: one clear line and exit code 2, before any work starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.segment_to_bigquery import run
from pipelines.settings import Settings, fit_to_one_process, parse_settings
from schemas.identity_rules import DEFAULT_RULES, IdentityRules

SUBSCRIPTION = "projects/test-project/subscriptions/calls"
DATASET = "test-project.segment"
GOOD = ["--input_files", "x", "--output_dir", "out"]
WAREHOUSE = ["--person_source", "warehouse", "--warehouse_persons"]


@pytest.fixture
def calls(tmp_path: Path) -> str:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"type":"track","userId":"u1","event":"Seen","messageId":"m1"}\n')
    return str(path)


def refuse(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a run with these flags ends with."""
    with pytest.raises(SystemExit) as ended:
        run(argv)
    lines = capsys.readouterr().err.splitlines()

    assert ended.value.code == 2
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(("flags", "shards"), [([], 1), (["--identity_shards", "8"], 8)])
def test_a_local_run_has_one_shard_of_identifiers_unless_it_is_told_otherwise(flags: list[str], shards: int) -> None:
    settings, _ = parse_settings(["--input_files", "calls.jsonl", "--output_dir", "out", *flags])

    assert fit_to_one_process(settings).identity_shards == shards


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "exactly one input"),
        (["--output_dir", "out"], "exactly one input"),
        (["--input_files", "x", "--input_subscription", SUBSCRIPTION, "--output_dir", "out"], "exactly one input"),
        (["--input_files", "x"], "at least one output"),
        (["--input_subscription", "calls", "--output_dir", "out"], "projects/PROJECT/subscriptions/NAME"),
        (["--input_subscription", "projects/p/subscriptions/calls", "--output_dir", "out"], "'p' is no project id"),
        (["--input_files", "x", "--output_dataset", "segment"], "PROJECT.DATASET"),
        (["--input_files", "x", "--output_dir", "out", "--dead_letter_topic", "t"], "projects/PROJECT/topics/NAME"),
        (["--input_files", "x", "--output_dir", "out", "--dedupe_horizon_seconds", "0"], "--dedupe_horizon_seconds"),
        (["--input_files", "x", "--output_dir", "out", "--dedupe_horizon_seconds", "9999999"], "30 days"),
        (["--input_files", "x", "--output_dir", "out", "--dedupe_horizon_seconds", "soon"], "invalid int value"),
        (["--input_files", "x", "--output_dir", "out", "--dedup_horizon_seconds=3"], "did you mean --dedupe_horizon"),
        (["--input_file", "x", "--output_dir", "out"], "unknown flag --input_file; did you mean --input_files?"),
        (["--input_files", "x", "--outputdir=out"], "unknown flag --outputdir; did you mean --output_dir?"),
        (["--input_files", "a.jsonl", "b.jsonl", "--output_dir", "out"], "'b.jsonl' belongs to no flag"),
        (["--input_files", "x", "--output_dir", "out", "--runner", "Nope"], "Nope"),
        ([*GOOD, "--direct_num_workers=-3"], "--direct_num_workers is at least 1, or 0 for one a core"),
        (["--input_files", "x", "--output_dir", "out", "stray"], "stray"),
        (["--input_files", "x", "--output_dir", "out", "--workspace_id", ""], "--workspace_id is empty"),
        (["--input_files", "x", "--output_dir", "out", "--workspace_id", "a\udcff"], "--workspace_id is empty or has"),
        (["--input_files", "/nowhere/*.jsonl", "--output_dir", "out"], "no file matches"),
        (
            [*GOOD, "--identity_topic", "updates"],
            "--identity_topic 'updates' is not of the form projects/PROJECT/topics",
        ),
        ([*GOOD, "--person_source", "crm"], "invalid choice: 'crm' (choose from 'calls', 'warehouse')"),
        ([*GOOD, "--person_source", "warehouse"], "--person_source warehouse needs --warehouse_persons"),
        ([*GOOD, "--warehouse_persons", "p.csv"], "--warehouse_persons needs --person_source warehouse"),
        ([*GOOD, *WAREHOUSE, "p.xlsx"], "'p.xlsx' is neither a file that ends in .csv, .jsonl, .jsonl.gz or .parquet"),
        ([*GOOD, *WAREHOUSE, "my-project.crm"], "nor a table PROJECT.DATASET.TABLE"),
        ([*GOOD, *WAREHOUSE, "my-project.crm.a;b"], "nor a table PROJECT.DATASET.TABLE"),
        ([*GOOD, *WAREHOUSE, ""], "'' is neither a file"),
        (
            [*GOOD, "--identity_settings", "/nowhere/rules.toml"],
            "--identity_settings: /nowhere/rules.toml cannot be read",
        ),
        ([*GOOD, "--identity_settings", "/"], "--identity_settings: / cannot be read: "),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert says in refuse(capsys, *argv)


def test_an_output_folder_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str], calls: str) -> None:
    assert "cannot make" in refuse(capsys, "--input_files", calls, "--output_dir", f"{calls}/out")


def test_an_output_folder_with_an_earlier_run_is_refused(
    capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "activities").mkdir(parents=True)
    (out / "activities" / "part-1.parquet").touch()

    assert "earlier run" in refuse(capsys, "--input_files", calls, "--output_dir", str(out))


def test_a_pubsub_emulator_that_is_down_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")

    line = refuse(capsys, "--input_subscription", SUBSCRIPTION, "--output_dir", str(tmp_path / "out"))

    assert "127.0.0.1:1" in line


def test_a_bigquery_emulator_that_is_down_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, calls: str
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")

    assert "127.0.0.1:1" in refuse(capsys, "--input_files", calls, "--output_dataset", DATASET)


def test_a_mistake_in_the_identity_settings_is_named_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[limits]\n\nemail_per_user_id = 3\n")

    line = refuse(capsys, *GOOD, "--identity_settings", str(path))

    assert line == (
        f"segment_to_bigquery: --identity_settings: {path}, line 3: unknown key email_per_user_id, there are "
        "emails_per_user_id, user_ids_per_email; did you mean emails_per_user_id?  (--help shows every flag)"
    )


def test_the_identity_settings_become_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("[limits]\nemails_per_user_id = 3\n")

    settings, beam_flags = parse_settings([*GOOD, "--identity_settings", str(path)])

    assert settings == Settings(input_files="x", output_dir="out", identity_rules=IdentityRules(emails_per_user_id=3))
    assert beam_flags == []


def test_without_identity_settings_the_defaults_hold() -> None:
    assert parse_settings(GOOD)[0].identity_rules == DEFAULT_RULES


@pytest.mark.parametrize("source", ["persons.csv", "gs://bucket/*.jsonl.gz", "p.q.parquet", "my-project.crm.persons_1"])
def test_files_and_tables_of_persons_are_told_by_their_names(source: str) -> None:
    assert parse_settings([*GOOD, *WAREHOUSE, source])[0].warehouse_persons == source


@pytest.mark.parametrize(
    ("name", "contents", "says"),
    [
        ("p.csv", b"id;email\r\n", "has no column person_id; its columns are: id;email"),
        ("p.csv", b"", "has no column person_id; its columns are: none"),
        ("p.csv", b"\xef\xbb\xbfperson_id,mail", "has no column email; its columns are: person_id, mail"),
        ("p.csv", b"\xff", "cannot be read: "),
        ("p.jsonl", b'\n{"person_id": 1}\n', "has no column email"),
        ("p.jsonl", b"[]", "cannot be read: "),
        ("p.jsonl.gz", b"[]", "cannot be read: Not a gzipped file"),
        ("p.parquet", b"[]", "cannot be read: "),
    ],
)
def test_persons_without_their_columns_are_refused(
    capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path, name: str, contents: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(contents)
    good = ["--input_files", calls, "--output_dir", str(tmp_path / "out")]

    line = refuse(capsys, *good, *WAREHOUSE, str(tmp_path / name))

    assert f"--warehouse_persons: '{tmp_path / name}' {says}" in line


def test_persons_that_are_not_there_are_refused(capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path) -> None:
    good = ["--input_files", calls, "--output_dir", str(tmp_path / "out")]

    assert "--warehouse_persons: no file matches" in refuse(capsys, *good, *WAREHOUSE, str(tmp_path / "*.csv"))


def test_a_table_of_persons_is_looked_for(
    capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    good = ["--input_files", calls, "--output_dir", str(tmp_path / "out")]

    assert "--warehouse_persons: the emulator at http://127.0.0.1:1" in refuse(capsys, *good, *WAREHOUSE, "a-b-c.crm.p")


def test_an_identity_topic_is_looked_for(
    capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    good = ["--input_files", calls, "--output_dir", str(tmp_path / "out")]

    line = refuse(capsys, *good, "--identity_topic", "projects/test-project/topics/t")

    assert "--identity_topic: 'projects/test-project/topics/t': the emulator at 127.0.0.1:1" in line


def test_an_output_folder_with_identity_updates_is_refused(
    capsys: pytest.CaptureFixture[str], calls: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "identity_updates").mkdir(parents=True)
    (out / "identity_updates" / "part-1.jsonl").touch()

    assert "earlier run" in refuse(capsys, "--input_files", calls, "--output_dir", str(out))


@pytest.mark.slow
def test_a_mistake_ends_the_program_with_exit_code_2_and_no_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.segment_to_bigquery", "--input_files", "x"], capture_output=True, text=True
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith("segment_to_bigquery: give at least one output")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("pipeline", ["segment_to_bigquery", "email_logs_to_segment"])
@pytest.mark.parametrize(("flag", "status"), [("--help", 0), ("--output_dir", 2)])
def test_help_and_mistakes_do_not_wait_for_beam(pipeline: str, flag: str, status: int) -> None:
    """Its import takes two seconds."""
    command = [sys.executable, "-X", "importtime", "-m", f"pipelines.{pipeline}", flag]

    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ran.returncode == status
    assert "pipelines.usage" in ran.stderr
    assert "apache_beam" not in ran.stderr
