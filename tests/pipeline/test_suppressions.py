"""People who were erased stay away: whoever asked for it, in any mode, across windows, restarts and shards."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.testing.test_stream import TestStream

from pipelines import read_suppressions
from pipelines.read_suppressions import AddSuppressions
from schemas.calls import CallBlock
from tests.factories import line_of
from tests.pipeline.stories import STREAMING, Told, arrive, read_lines, tell
from transforms.dedupe_calls import SHARDS
from transforms.logic.suppress_calls import hash_identifier

pytestmark = [pytest.mark.usefixtures("state"), pytest.mark.slow]

TEN_MINUTES = replace(STREAMING, dedupe_horizon_seconds=600)
TO_BIGQUERY = replace(STREAMING, output_dataset="my-project.segment")
WORKSPACE = STREAMING.workspace_id


def suppress(identifier_type: str, identifier: str, **sent: Any) -> dict[str, Any]:
    """The message of scripts/erase."""
    identifier_hash = hash_identifier(WORKSPACE, identifier_type, identifier)
    return {"type": "suppress", "identifierHash": identifier_hash, "erasureId": "e1", "userId": None} | sent


def outcomes(told: Told) -> dict[str, int]:
    return {outcome: count for (outcome, _), count in told.counts.items()}


def stream(*waves: list[Any], settings: Any = STREAMING) -> Told:
    """Waves of arrivals, each behind the watermark of the one before."""
    story: TestStream = TestStream().advance_watermark_to(0)
    for number, wave in enumerate(waves):
        story = story.add_elements(wave).advance_watermark_to(100 * number + 99)
    story.advance_watermark_to_infinity()  # adds to the story itself
    return tell(story, settings)


def test_a_delete_call_suppresses_what_comes_later_in_every_shard() -> None:
    later = [arrive(201, messageId=f"later-{number}") for number in range(100)]
    others = [arrive(202, messageId=f"other-{number}", userId="u2") for number in range(100)]

    told = stream([arrive(1, messageId="before")], [arrive(101, type="delete", messageId="gone")], [*later, *others])

    assert told.ids() == sorted(["before", *(f"other-{number}" for number in range(100))])
    assert told.ids("erasure_requests") == ["gone"]
    assert outcomes(told) == {"written": 102, "suppressed": 100}
    assert told.dead_letters == []


@pytest.mark.parametrize(
    "sent",
    [
        {"userId": "u1"},
        {"userId": "u9", "anonymousId": "a1"},
        {"userId": "u9", "context": {"traits": {"email": "ANN@x.io "}}},
        {"userId": "Ann@x.io"},
        {"type": "identify", "userId": "u9", "traits": {"email": "ann@X.io"}},
        {"type": "alias", "userId": "u9", "previousId": "u1"},
        {"type": "alias", "userId": "u9", "previousId": "a1"},
        {"type": "identify", "userId": "u1", "traits": {}},
    ],
)
def test_a_call_with_any_suppressed_identifier_is_suppressed(sent: dict[str, Any]) -> None:
    identifiers = (("user_id", "u1"), ("anonymous_id", "a1"), ("email", "ann@x.io"))
    erase = [arrive(1, **suppress(*each, messageId=each[1])) for each in identifiers]

    told = stream(erase, [arrive(101, **sent), arrive(102, userId="u2", anonymousId="a2")])

    assert outcomes(told) == {"written": 4, "suppressed": 1}


def test_a_delete_call_spares_who_shares_its_device() -> None:
    erase = arrive(1, type="delete", anonymousId="shared")

    told = stream([erase], [arrive(101), arrive(102, userId="u2", anonymousId="shared")])

    assert outcomes(told) == {"written": 2, "suppressed": 1}


def test_a_blocked_identifier_of_a_delete_call_suppresses_nobody() -> None:
    told = stream([arrive(1, type="delete", userId="null", anonymousId="a1")], [arrive(101, userId="null")])

    assert outcomes(told) == {"written": 2}


def test_a_workspace_suppresses_nothing_in_another() -> None:
    ours, theirs = arrive(101), arrive(102)
    theirs.value.attributes = {"workspace_id": "other"}
    forged = arrive(1, **suppress("user_id", "u2"))
    forged.value.attributes = {"workspace_id": "other"}

    told = stream([arrive(1, type="delete"), forged], [ours, theirs, arrive(103, userId="u2")])

    assert outcomes(told) == {"written": 4, "suppressed": 1}
    assert {row["workspace_id"] for row in told.table("activities")} == {"other", WORKSPACE}


def test_delete_and_suppress_are_never_suppressed() -> None:
    told = stream(
        [arrive(1, type="delete", messageId="d1")],
        [arrive(101, type="delete", messageId="d2"), arrive(102, **suppress("user_id", "u1", messageId="s1"))],
    )

    assert told.ids("erasure_requests") == ["d1", "d2"]
    assert told.ids("suppressions") == ["s1"]
    assert outcomes(told) == {"written": 3}


def test_a_repeat_is_a_duplicate_whether_or_not_it_is_suppressed() -> None:
    told = stream(
        [arrive(1, messageId="m1")],
        [arrive(101, type="delete", messageId="d1"), arrive(102, type="delete", messageId="d1")],
        [arrive(201, messageId="m1"), arrive(202, messageId="m2"), arrive(203, messageId="m2")],
    )

    assert outcomes(told) == {"written": 2, "duplicate": 3, "suppressed": 1}


def test_what_a_delete_call_suppresses_is_not_forgotten_with_the_messages() -> None:
    """Long after the horizon, when the timer has emptied the other memory, in shards with and without messages."""
    before = [arrive(1, messageId=f"m{number}", userId="u2") for number in range(3)]
    story = (
        TestStream()
        .advance_watermark_to(0)
        .add_elements([*before, arrive(2, type="delete", messageId="d1")])
        .advance_watermark_to(5000)
        .add_elements([arrive(5001, messageId=f"m{number}") for number in range(100)])
        .advance_watermark_to(10_000)
        .add_elements([arrive(10_001, messageId=f"n{number}") for number in range(100)])
        .advance_watermark_to_infinity()
    )

    assert outcomes(tell(story, TEN_MINUTES)) == {"written": 4, "suppressed": 200}


def test_a_suppress_message_suppresses_what_comes_later() -> None:
    told = stream(
        [
            arrive(1, messageId="m1"),
            arrive(2, **suppress("email", "ann@x.io", messageId="s1", timestamp="1970-01-01T00:00:01Z")),
        ],
        [arrive(101, type="identify", traits={"email": "Ann@x.io"}), arrive(102)],
    )

    (row,) = told.table("suppressions")
    assert row == {
        "workspace_id": WORKSPACE,
        "message_id": "s1",
        "identifier_hash": hash_identifier(WORKSPACE, "email", "ann@x.io"),
        "erasure_id": "e1",
        "timestamp": 1_000_000,
        "received_at": 2_000_000,
    }
    assert outcomes(told) == {"written": 3, "suppressed": 1}


# Bounded


def test_in_files_a_suppress_message_holds_wherever_it_stands() -> None:
    calls = [line_of("track", messageId=f"m{number}", userId=f"u{number % 2}") for number in range(100)]
    message = line_of("suppress", **suppress("user_id", "u1", messageId="s1"))

    for lines in ([message, *calls], [*calls, message]):
        told = read_lines([*lines, calls[0], calls[1]])

        assert told.ids() == sorted(f"m{number}" for number in range(0, 100, 2))
        assert told.counts == {("written", ""): 51, ("suppressed", ""): 50, ("duplicate", ""): 2}


def test_in_files_a_suppressed_call_tells_nothing_of_who_is_who() -> None:
    message = line_of("suppress", **suppress("email", "ann@example.com", messageId="s1"))

    told = read_lines(
        [line_of("identify"), message, line_of("identify", messageId="m2", userId="u2", traits={"email": "b@x.io"})]
    )

    assert {row["identifier"] for row in told.table("identities")} == {"u2", "b@x.io"}
    assert told.counts == {("written", ""): 2, ("suppressed", ""): 1}


# What earlier runs have suppressed


class _Bigquery:
    """The table `suppressions`: workspace and hash."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []
        self.asked: list[str] = []

    def query_and_wait(self, sql: str) -> Iterator[tuple[str, str]]:
        self.asked.append(sql)
        return iter(self.rows)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def bigquery(monkeypatch: pytest.MonkeyPatch) -> _Bigquery:
    client = _Bigquery()
    monkeypatch.setattr(read_suppressions, "bigquery_client", lambda project: client)
    return client


def test_a_new_job_knows_what_earlier_ones_have_suppressed(bigquery: _Bigquery) -> None:
    bigquery.rows = [(WORKSPACE, hash_identifier(WORKSPACE, "user_id", "u1")), ("other", "0" * 64)]
    first = [arrive(1, messageId=f"m{number}") for number in range(100)]

    told = stream([*first, arrive(2, userId="u2")], [arrive(101), arrive(102, userId="u3")], settings=TO_BIGQUERY)

    assert outcomes(told) == {"suppressed": 101, "written": 2}
    assert bigquery.asked == ["SELECT DISTINCT workspace_id, identifier_hash FROM `my-project.segment.suppressions`"]


def test_a_run_over_files_knows_it_too(bigquery: _Bigquery) -> None:
    bigquery.rows = [(WORKSPACE, hash_identifier(WORKSPACE, "user_id", "u1"))]

    told = read_lines([line_of("track"), line_of("track", messageId="m2", userId="u2")], TO_BIGQUERY)

    assert told.ids() == ["m2"]
    assert outcomes(told) == {"suppressed": 1, "written": 1}


def test_an_empty_table_changes_nothing(bigquery: _Bigquery) -> None:
    assert outcomes(stream([arrive(1)], settings=TO_BIGQUERY)) == {"written": 1}
    assert outcomes(read_lines([line_of("track")], TO_BIGQUERY)) == {"written": 1}


@pytest.mark.parametrize("rows", [4, 5, 6])
def test_a_large_table_is_read_in_blocks(bigquery: _Bigquery, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(read_suppressions, "BLOCK_KEYS", 5)
    bigquery.rows = [(WORKSPACE, hash_identifier(WORKSPACE, "user_id", f"u{number}")) for number in range(rows)]
    calls = [line_of("track", messageId=f"m{number}", userId=f"u{number}") for number in range(8)]

    told = read_lines(calls, TO_BIGQUERY)

    assert told.ids() == [f"m{number}" for number in range(rows, 8)]


def test_calls_wait_until_the_table_is_read() -> None:
    """Local runners read it first in any case; a large job would not."""
    pipeline = beam.Pipeline()
    calls = pipeline | beam.Create([CallBlock([])])
    calls.is_bounded = False
    _ = calls | AddSuppressions("my-project.segment")
    transforms = pipeline.to_runner_api().components.transforms.values()
    (payload,) = (each.spec.payload for each in transforms if each.unique_name.endswith("AwaitSuppressions"))

    assert len(beam_runner_api_pb2.ParDoPayload.FromString(payload).side_inputs) == 1


def test_without_a_dataset_nobody_is_asked(bigquery: _Bigquery) -> None:
    stream([arrive(1)])

    assert bigquery.asked == []


def test_there_are_several_shards() -> None:
    """Else the tests above prove less than they say."""
    assert SHARDS > 1
