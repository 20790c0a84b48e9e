"""People are erased whole, others not at all, and the erased stay away: on the emulators, from call to table."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import google.auth
import pytest
from google.api_core.exceptions import BadRequest, InternalServerError
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from pipelines.segment_to_bigquery import run
from pipelines.write_bigquery import bigquery_rows
from schemas.rejections import DeadLetter
from schemas.tables import TABLES, VIEWS
from scripts import erase_person
from scripts.create_tables import create_tables
from scripts.erase import main
from scripts.start_pubsub import RunningPubsub, start_pubsub
from tests.emulator.conftest import PROJECT
from tests.emulator.programs import Topic, ask, counts, start_program, wait_until
from tests.factories import NOW, line_of
from transforms.logic.shape_rows import MAX_PAYLOAD_BYTES, shape_dead_letter
from transforms.logic.suppress_calls import hash_identifier

pytestmark = pytest.mark.slow

ANN = ("ann", "Ann")
"""Every identifier of Ann, and of nobody else, has one of these in it."""

ANNS_CALLS = (
    line_of("identify", messageId="1", userId="u-ann", anonymousId="a-ann", traits={"email": "Ann@x.io", "plan": "p"}),
    line_of("identify", messageId="2", userId="u-ann-2", anonymousId="a-ann-2", traits={"email": "ann.old@x.io"}),
    line_of("alias", messageId="3", userId="u-ann", previousId="u-ann-2"),
    line_of("track", messageId="4", userId="u-ann-2"),
    line_of("page", messageId="5", userId=None, anonymousId="a-ann-2"),
    line_of("screen", messageId="6", userId="null", context={"traits": {"email": "ANN.OLD@x.io "}}),
    line_of("group", messageId="7", userId="u-ann", groupId="acme"),
    line_of("group", messageId="8", userId="Ann@X.io", groupId="acme"),
    line_of(
        "track",
        messageId="9",
        userId="u-ann",
        event="Audience Entered",
        properties={"audience_key": "vip", "vip": True},
        context={"personas": {"computation_class": "audience"}},
    ),
    line_of("track", messageId="10", userId="ANN@x.io", context={"traits": {"email": "office@x.io"}}),
    line_of("track", messageId="11", userId="u-dan", context={"traits": {"email": "dan@x.io"}}, anonymousId="a-ann-2"),
    line_of(
        "identify",
        messageId="12",
        userId="u-eve",
        traits={"email": "eve@x.io"},
        context={"traits": {"email": "ann@x.io"}},
    ),
    line_of("alias", messageId="13", userId="u-fay", previousId="Ann@x.io", context={"traits": {"email": "fay@x.io"}}),
)
BOBS_CALLS = (
    line_of("identify", messageId="b1", userId="u-bob", anonymousId="a-bob", traits={"email": "bob@x.io"}),
    line_of("track", messageId="b2", userId="u-bob"),
    line_of("group", messageId="b3", userId="u-bob", groupId="acme"),
    line_of("alias", messageId="b4", userId="u-bob", previousId="a-bob"),
    line_of("page", messageId="b5", userId=None, anonymousId="a-nobody"),
    line_of(
        "track",
        messageId="b6",
        userId="u-bob",
        event="Audience Entered",
        properties={"audience_key": "vip", "vip": True},
        context={"personas": {"computation_class": "audience"}},
    ),
)
ANNS_LETTERS = (
    b'{"type":"Track","userId":"u-ann"}',
    b'{"type":"identify","userId":"u9","traits":{"email":" ANN@x.io"},"context":5}',
    b'{"type":"track","userId":{"id":"u-ann-2"}}',
    b'{"type":"track","userId":"u\\u002dann"}',
    b'{"anonymousId":"a-ann","ev',
    b"\xff ann@x.io",
)
BOBS_LETTERS = (b'{"type":"Track","userId":"u-bob"}', b'{"type":"Track","userId":"u-anna"}', b"{", b"", b"\xff")


def letter_rows(payload: bytes, workspace_id: str = "default", **fields: Any) -> list[dict[str, Any]]:
    letter = DeadLetter(payload, "ParseCalls", "bad_request", "no JSON", NOW, workspace_id, **fields)
    return list(bigquery_rows("dead_letters", shape_dead_letter(letter, "1"), "STREAMING_INSERTS"))


def feed(dataset: str, folder: Path, *lines: bytes, workspace_id: str = "default") -> None:
    """A job of its own reads these calls."""
    folder.mkdir(exist_ok=True)
    path = folder / "calls.jsonl"
    path.write_bytes(b"\n".join(lines))
    argv = ["--input_files", str(path), "--output_dataset", dataset, "--workspace_id", workspace_id]

    assert run([*argv, "--max_rejected_percent", "100"]) == 0


@pytest.fixture(scope="module")
def people_once(running_bigquery: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset in which Ann and Bob have rows in every table, and Ann's namesake has some in another workspace."""
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv(BIGQUERY_EMULATOR_HOST, running_bigquery)
        changed.setattr(google.auth, "default", google.auth.default)  # a local run changes it
        with closing(bigquery_client(PROJECT)) as client:
            write_people(client, f"{PROJECT}.people", tmp_path_factory.mktemp("people"))
    return f"{PROJECT}.people"


@pytest.fixture
def people(client: bigquery.Client, dataset: str, people_once: str) -> str:
    """A copy of that dataset: a job that writes it takes ten times as long."""
    create_tables(client, dataset)
    for table in TABLES:
        client.query_and_wait(f"INSERT INTO `{dataset}.{table}` SELECT * FROM `{people_once}.{table}`")
    return dataset


def write_people(client: bigquery.Client, dataset: str, folder: Path) -> None:
    create_tables(client, dataset)
    feed(dataset, folder, *ANNS_CALLS, *BOBS_CALLS)
    feed(dataset, folder, *BOBS_CALLS[:2], line_of("track", messageId="n1", userId="u1"), workspace_id="other")
    rows = [row for payload in (*ANNS_LETTERS, *BOBS_LETTERS) for row in letter_rows(payload)]
    rows += letter_rows(b"{}", attributes={"who": "u-ann"})
    at = "2026-01-01T00:00:00Z"
    merge = {"workspace_id": "default", "reason": "merged", "timestamp": at, "recorded_at": at}
    merges = [
        {**merge, "from_person_id": "p1", "into_person_id": "p2", "identifier_type": "email", "identifier": "b@x.io"},
        {**merge, "reason": "too_many_emails", "identifier_type": "user_id", "identifier": "u-ann"},
        {**merge, "reason": "too_many_user_ids", "identifier_type": "email", "identifier": "office@x.io"}
        | {"refused_type": "user_id", "refused_identifier": "u-ann-2"},
    ]
    # A link over a limit was refused: the call counts for Gus, and carries Ann's email all the same.
    gus: dict[str, Any] = {
        "workspace_id": "default",
        "message_id": "g1",
        "identifier_type": "user_id",
        "identifier": "u-gus",
    }
    gus |= {"user_id": "u-gus", "context_traits_email": " ANN@x.io", "trait_updates": []}
    gus |= dict.fromkeys(("timestamp", "received_at"), "2026-01-01T00:00:00Z")
    activity = {column: value for column, value in gus.items() if column != "trait_updates"} | {"type": "track"}
    for table, inserted in (
        ("dead_letters", rows),
        ("identity_merges", merges),
        ("activities", [activity]),
        ("group_identifies", [gus | {"group_id": "acme"}]),
    ):
        assert not client.insert_rows_json(f"{dataset}.{table}", inserted)


def dump(client: bigquery.Client, dataset: str, table: str) -> list[str]:
    """Every row of a table or view, as text, sorted."""
    return (
        sorted(str(tuple(row.values())) for row in client.list_rows(f"{dataset}.{table}"))
        if table in TABLES
        else [str(row) for row in ask(client, dataset, f"SELECT * FROM `{{d}}.{table}`")]
    )


def dump_all(client: bigquery.Client, dataset: str) -> dict[str, list[str]]:
    return {table: dump(client, dataset, table) for table in TABLES}


def mentions(rows: list[str], *words: str) -> list[str]:
    return [row for row in rows if any(word.lower() in row.lower() for word in words)]


ANNS_WORDS = ("u-ann'", "u-ann-2", "a-ann", "ann@x.io", "ann.old@x.io", 'u-ann"', "u\\\\u002dann")
"""What finds each of Ann's identifiers in a row's text, and none of Bob's."""


def test_a_person_vanishes_from_every_table_and_nobody_else_does(
    client: bigquery.Client, people: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dump_all(client, people)
    assert {table for table, rows in before.items() if mentions(rows, *ANNS_WORDS)} == {
        "activities",
        "identifies",
        "group_identifies",
        "aliases",
        "identities",
        "identity_merges",
        "audience_memberships",
        "dead_letters",
    }
    capsys.readouterr()

    assert main(["--dataset", people, "--email", " ANN@x.io"]) == 0

    said = capsys.readouterr().out
    after = dump_all(client, people)
    for table in set(TABLES) - {"suppressions", "erasures"}:
        assert mentions(after[table], *ANNS_WORDS) == [], table
        kept = [row for row in before[table] if not mentions([row], *ANNS_WORDS)]
        if table not in ("identities", "identity_merges"):
            assert after[table] == kept, table
    for view in VIEWS:
        assert mentions(dump(client, people, view), "ann@", "u-ann'", "a-ann", "u-ann-2") == [], view
    others = 6  # Bob, his namesake, and the four whose calls have carried an identifier of Ann's too
    assert len(ask(client, people, "SELECT person_id FROM `{d}.persons`")) == others
    ((erasure_id, identifiers, removed, by_table, requested_by, message_id),) = ask(
        client,
        people,
        "SELECT erasure_id, identifiers, rows_removed, rows_removed_by_table, requested_by, message_id "
        "FROM `{d}.erasures`",
    )
    by_table = json.loads(by_table) if isinstance(by_table, str) else by_table
    assert by_table == {
        table: len(rows) - len(after[table]) for table, rows in before.items() if len(after[table]) < len(rows)
    }
    assert removed == sum(by_table.values())
    assert (requested_by, message_id) == ("scripts/erase", None)
    for table in by_table:
        assert f"{by_table[table]:,} {table}\n" in said
    hashes = [row[0] for row in ask(client, people, "SELECT identifier_hash FROM `{d}.suppressions`")]
    assert len(hashes) == len(set(hashes)) == identifiers
    assert {
        hash_identifier("default", *one)
        for one in [
            ("email", "ann@x.io"),
            ("email", "ann.old@x.io"),
            ("user_id", "u-ann"),
            ("user_id", "u-ann-2"),
            ("anonymous_id", "a-ann"),
            ("anonymous_id", "a-ann-2"),
        ]
    } < set(hashes)
    assert not set(hashes) & set("".join(after["erasures"]).split("'"))
    assert mentions(after["suppressions"] + after["erasures"], *ANN) == []
    assert {row[0] for row in ask(client, people, "SELECT DISTINCT erasure_id FROM `{d}.suppressions`")} == {erasure_id}


@pytest.mark.parametrize(
    ("recorded_at", "bob_stays"), [("2020-01-01T00:00:00Z", True), ("2100-01-01T00:00:00Z", False)]
)
def test_who_was_merged_by_mistake_and_is_a_person_again_stays(
    client: bigquery.Client, people: str, recorded_at: str, bob_stays: bool
) -> None:
    """`heal_identities --rebuild` undoes a merge, and leaves the history: rows of today that are newer count more."""
    ((ann, bob),) = ask(
        client,
        people,
        "SELECT MAX(IF(identifier = 'ann@x.io', person_id, NULL)), MAX(IF(identifier = 'bob@x.io', person_id, NULL)) "
        "FROM `{d}.current_identities` WHERE workspace_id = 'default'",
    )
    assert ann
    assert bob not in (None, ann)
    merge = {"workspace_id": "default", "reason": "merged", "from_person_id": bob, "into_person_id": ann}
    merge |= {"identifier_type": "email", "identifier": "bob@x.io"}
    merge |= dict.fromkeys(("timestamp", "recorded_at"), recorded_at)
    assert not client.insert_rows_json(f"{people}.identity_merges", [merge])

    assert main(["--dataset", people, "--email", "ann@x.io"]) == 0

    today = "SELECT identifier FROM `{d}.current_identities` WHERE workspace_id = 'default'"
    identifiers = {row[0] for row in ask(client, people, today)}
    assert "ann@x.io" not in identifiers
    assert ("bob@x.io" in identifiers) == bob_stays


@pytest.mark.parametrize(("flag", "value"), [("--user_id", "u-ann-2"), ("--anonymous_id", "a-ann")])
def test_any_identifier_finds_the_whole_person(client: bigquery.Client, people: str, flag: str, value: str) -> None:
    assert main(["--dataset", people, flag, value]) == 0

    for table, rows in dump_all(client, people).items():
        assert mentions(rows, *ANNS_WORDS) == [], table


def test_another_workspace_keeps_its_own(client: bigquery.Client, people: str) -> None:
    before = dump_all(client, people)

    assert main(["--dataset", people, "--email", "bob@x.io", "--workspace_id", "other"]) == 0

    for table, rows in dump_all(client, people).items():
        if table not in ("suppressions", "erasures"):
            assert rows == [row for row in before[table] if "'other'" not in row or "u1" in row or table == "counts"]


def test_a_dry_run_counts_and_changes_nothing(
    client: bigquery.Client, people: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dump_all(client, people)
    assert main(["--dataset", people, "--email", "ann@x.io", "--dry_run"]) == 0
    counted = capsys.readouterr().out

    assert dump_all(client, people) == before
    assert main(["--dataset", people, "--email", "ann@x.io"]) == 0
    removed = capsys.readouterr().out

    assert counted.splitlines()[:-1] == removed.splitlines()[:-1]
    assert "A dry run" in counted


def test_who_is_erased_stays_away_from_new_jobs(client: bigquery.Client, people: str, tmp_path: Path) -> None:
    assert main(["--dataset", people, "--user_id", "u-ann"]) == 0

    feed(people, tmp_path, *ANNS_CALLS, *BOBS_CALLS, line_of("track", messageId="m9", userId="u9"))

    for table, rows in dump_all(client, people).items():
        assert mentions(rows, *ANNS_WORDS) == [], table
    assert counts(client, people)[("suppressed", None)] == len(ANNS_CALLS)
    assert ask(client, people, "SELECT COUNT(*) FROM `{d}.activities` WHERE user_id = 'u9'") == [(1,)]


def test_a_second_run_removes_nothing_and_suppresses_nobody_twice(client: bigquery.Client, people: str) -> None:
    assert main(["--dataset", people, "--email", "ann@x.io"]) == 0
    once = dump_all(client, people)
    assert main(["--dataset", people, "--email", "ann@x.io"]) == 0
    twice = dump_all(client, people)

    assert {table for table in TABLES if twice[table] != once[table]} == {"erasures"}
    removed = ask(client, people, "SELECT rows_removed FROM `{d}.erasures` ORDER BY 1")
    assert removed[0] == (0,)
    assert len(removed) == 2


# Delete calls

DELETES = (
    line_of("delete", messageId="d1", userId="u-ann", anonymousId="a-ann"),
    line_of("delete", messageId="d2", userId="u-ann-2"),
    line_of("delete", messageId="d3-u-unknown", userId="u-unknown"),
)


@pytest.fixture
def pending(client: bigquery.Client, people: str, tmp_path: Path) -> str:
    """Ann has asked twice, and somebody whom nobody knows."""
    feed(people, tmp_path, *DELETES)
    return people


def test_pending_carries_out_every_delete_call(
    client: bigquery.Client, pending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bobs = mentions(dump(client, pending, "activities"), "u-bob")

    assert main(["--dataset", pending, "--pending", "--workspace_id", "other"]) == 0
    assert len(dump(client, pending, "erasure_requests")) == 3
    assert main(["--dataset", pending, "--pending"]) == 0

    for table, rows in dump_all(client, pending).items():
        assert mentions(rows, *ANNS_WORDS, "u-unknown") == [], table
    assert dump(client, pending, "erasure_requests") == []
    assert mentions(dump(client, pending, "activities"), "u-bob") == bobs
    assert ask(client, pending, "SELECT requested_by, message_id FROM `{d}.erasures` ORDER BY 2 NULLS FIRST") == [
        ("delete_call", None),
        ("delete_call", "d1"),
        ("delete_call", "d2"),
    ]
    assert main(["--dataset", pending, "--pending"]) == 0
    assert "requests: 0" in capsys.readouterr().out


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int, error: Exception) -> Callable[[], int]:
    """Let the nth thing that an erasure asks of BigQuery fail; tells how many there were."""
    asked = [0]
    query, insert = erase_person.Eraser._query, erase_person.Eraser._insert

    def count(call: Any) -> Any:
        def counted(self: Any, *arguments: Any) -> Any:
            asked[0] += 1
            if asked[0] == step:
                raise error
            return call(self, *arguments)

        return counted

    monkeypatch.setattr(erase_person.Eraser, "_query", count(query))
    monkeypatch.setattr(erase_person.Eraser, "_insert", count(insert))
    return lambda: asked[0]


def test_a_run_that_fails_anywhere_is_finished_by_the_next(
    client: bigquery.Client, pending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = 1
    while True:
        with monkeypatch.context() as patch:
            asked = fail_at(patch, step, InternalServerError("the network is down"))
            status = main(["--dataset", pending, "--pending"])
        if asked() < step:
            break
        assert status == 2
        assert capsys.readouterr().err == "erase: 500 the network is down\n"
        step += 1

    assert step > 18  # each thing that one erasure asks
    assert status == 0
    for table, rows in dump_all(client, pending).items():
        assert mentions(rows, *ANNS_WORDS, "u-unknown") == [], table
    erasures = ask(client, pending, "SELECT erasure_id FROM `{d}.erasures`")
    assert len(erasures) == len(set(erasures)) == 3
    hashes = ask(client, pending, "SELECT identifier_hash FROM `{d}.suppressions`")
    assert len(hashes) == len(set(hashes))


def test_rows_in_the_streaming_buffer_leave_the_request_pending(
    client: bigquery.Client, pending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = erase_person.Eraser._query

    def refuse(self: Any, sql: str, parameters: dict[str, Any]) -> Any:
        if sql.startswith("DELETE FROM `{dataset}.identities`") and "u-ann" in parameters["user_ids"]:
            table = f"{pending}.identities"
            raise BadRequest(f"UPDATE or DELETE statement over table {table} would affect rows in the streaming buffer")
        return query(self, sql, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(erase_person.Eraser, "_query", refuse)

        assert main(["--dataset", pending, "--pending"]) == 1

    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 2  # both of Ann's; the third was carried out all the same
    assert "run the same command again" in said.err
    assert mentions([said.err, said.out], *ANNS_WORDS) == []
    assert len(dump(client, pending, "erasure_requests")) == 2
    assert main(["--dataset", pending, "--pending"]) == 0
    assert dump(client, pending, "erasure_requests") == []


def test_an_anonymous_id_of_a_shared_device_does_not_erase_who_used_it_first(
    client: bigquery.Client, people: str, tmp_path: Path
) -> None:
    feed(people, tmp_path, line_of("delete", messageId="d1", userId="u-bob", anonymousId="a-ann"))
    tables = ("activities", "identifies", "aliases", "identities")
    before = {table: dump(client, people, table) for table in tables}

    assert main(["--dataset", people, "--pending"]) == 0

    for table in tables:
        left = [row for row in before[table] if "bob" not in row or "'other'" in row]
        assert dump(client, people, table) == left, table


def test_a_delete_call_that_identifies_nobody_is_recorded_and_removes_nothing(
    client: bigquery.Client, people: str, tmp_path: Path
) -> None:
    feed(people, tmp_path, line_of("delete", messageId="d1", userId="null", anonymousId="0"))
    before = dump_all(client, people)

    assert main(["--dataset", people, "--pending"]) == 0

    after = dump_all(client, people)
    assert {table for table in TABLES if after[table] != before[table]} == {"erasure_requests", "erasures"}
    assert ask(client, people, "SELECT identifiers, rows_removed FROM `{d}.erasures`") == [(0, 1)]


# Dead letters


def test_a_dead_letter_in_parts_is_searched_whole(client: bigquery.Client, people: str) -> None:
    def letter(user_id: str, at: int) -> bytes:
        """The user_id stands across the end of the first part."""
        head = b'{"pad":"'
        pad = b"x" * (at - len(head) - len(b'","userId":"'))
        return head + pad + b'","userId":"' + user_id.encode() + b'"}'

    anns, bobs = letter("u-ann", MAX_PAYLOAD_BYTES - 2), letter("u-bob", MAX_PAYLOAD_BYTES - 2)
    for row in [row for payload in (anns, bobs) for row in letter_rows(payload)]:
        assert not client.insert_rows_json(f"{people}.dead_letters", [row])

    assert main(["--dataset", people, "--user_id", "u-ann"]) == 0

    left = ask(client, people, "SELECT part, payload FROM `{d}.dead_letters` WHERE parts > 1 ORDER BY part")
    assert b"".join(payload for _, payload in left) == bobs


# A running pipeline


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPubsub]:
    with start_pubsub(prefer_google=False) as running:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", running.host)
        yield running


def test_a_running_pipeline_hears_of_it(
    client: bigquery.Client, people: str, pubsub: RunningPubsub, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = Topic("calls")
    known = sum(counts(client, people).values())

    def accounted() -> int:
        return sum(counts(client, people).values()) - known

    flags = ["--input_subscription", calls.subscription, "--output_dataset", people, "--window_seconds", "1"]
    with start_program(*flags, "--max_rejected_percent", "100") as program:
        calls.publish(line_of("track", messageId="s1", userId="u-carl", anonymousId="a-carl"))
        wait_until(program, lambda: accounted() == 1)

        capsys.readouterr()
        assert main(["--dataset", people, "--email", "ann@x.io", "--topic", calls.topic]) == 0
        assert "Running jobs" not in capsys.readouterr().out
        ((suppressed,),) = ask(client, people, "SELECT identifiers FROM `{d}.erasures`")
        wait_until(program, lambda: accounted() == 1 + suppressed)
        calls.publish(line_of("track", messageId="s2", userId="u9", anonymousId="a-ann"))
        calls.publish(line_of("track", messageId="s3", userId="u-ann-2"))
        calls.publish(line_of("delete", messageId="s4", userId="u-carl", anonymousId="a-carl"))
        wait_until(program, lambda: accounted() == 4 + suppressed)
        calls.publish(line_of("track", messageId="s5", userId="u-carl"))
        calls.publish(line_of("track", messageId="s6", userId="u7"))
        wait_until(program, lambda: accounted() == 6 + suppressed)

    assert counts(client, people)[("suppressed", None)] == 3
    assert len(dump(client, people, "suppressions")) == suppressed
    assert mentions(dump(client, people, "activities"), *ANNS_WORDS, "u8") == []
    assert ask(client, people, "SELECT message_id FROM `{d}.activities` WHERE message_id LIKE 's%' ORDER BY 1") == [
        ("s1",),
        ("s6",),
    ]


def test_a_stream_that_starts_later_drops_even_its_first_calls(
    client: bigquery.Client, people: str, pubsub: RunningPubsub
) -> None:
    calls = Topic("calls")
    assert main(["--dataset", people, "--email", "ann@x.io"]) == 0
    known = sum(counts(client, people).values())
    for number in range(50):
        calls.publish(line_of("track", messageId=f"s{number}", userId="u-ann" if number % 2 else "u-bob"))

    flags = ["--input_subscription", calls.subscription, "--output_dataset", people, "--window_seconds", "1"]
    with start_program(*flags) as program:
        wait_until(program, lambda: sum(counts(client, people).values()) == known + 50)

    assert counts(client, people)[("suppressed", None)] == 25
    assert mentions(dump(client, people, "activities"), *ANNS_WORDS) == []


# The command line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--dataset", "segment", "--email", "a@x"], "is no PROJECT.DATASET"),
        (["--dataset", "p-1.d", "--email", "ann"], "--email: that is no email"),
        (["--dataset", "p-1.d", "--user_id", "NULL"], "--user_id: that value is blocked"),
        (["--dataset", "p-1.d", "--anonymous_id", ""], "--anonymous_id: that value is blocked"),
        (
            ["--dataset", "p-1.d", "--pending", "--topic", "calls"],
            "--topic 'calls' is not of the form projects/",
        ),
        (["--dataset", "p-1.d", "--pending", "--identity_settings", "/nowhere"], "/nowhere cannot be read"),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    assert main(argv) == 2

    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("erase: ")
    assert says in said


@pytest.mark.parametrize(
    ("flags", "where"),
    [
        (["--email", "nobody@x.io"], "workspace default"),
        (["--email", "nobody@x.io", "--workspace_id", "acme"], "workspace acme"),
        (["--pending"], "all workspaces"),
        (["--pending", "--workspace_id", "acme"], "workspace acme"),
    ],
)
def test_it_is_said_in_which_workspace_was_looked(
    client: bigquery.Client, dataset: str, capsys: pytest.CaptureFixture[str], flags: list[str], where: str
) -> None:
    create_tables(client, dataset)

    assert main(["--dataset", dataset, "--dry_run", *flags]) == 0

    assert f" of {where}; rows removed: 0;" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
def test_a_dataset_without_tables_is_one_line(
    client: bigquery.Client, dataset: str, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["--dataset", dataset, "--email", "ann@x.io", *flags]) == 2

    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_the_pipelines_settings_block_is_nobodys(
    client: bigquery.Client, people: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "rules.toml"
    settings.write_text('[blocked]\nvalues = ["u-bob"]\n')

    assert main(["--dataset", people, "--user_id", "u-bob", "--identity_settings", str(settings)]) == 2
    assert main(["--dataset", people, "--email", "bob@x.io", "--identity_settings", str(settings)]) == 0

    bobs = "SELECT message_id FROM `{d}.activities` WHERE user_id = 'u-bob' AND workspace_id = 'default' ORDER BY 1"
    assert ask(client, people, bobs) == [("b2",), ("b6",)]
