"""Who is who, from Pub/Sub to what an analyst reads in BigQuery: as a stream, and across jobs."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud import bigquery

from scripts.create_tables import create_tables
from scripts.start_pubsub import RunningPubsub
from tests.emulator.programs import Topic, ask, counts, line, start_program, wait_until

pytestmark = pytest.mark.slow


ACTIVITY = "SELECT message_id, person_id FROM `{d}.person_activities`"
PERSONS = "SELECT person_id FROM `{d}.persons`"


@pytest.fixture
def calls(pubsub: RunningPubsub) -> Topic:
    return Topic("calls")


@pytest.fixture
def known(client: bigquery.Client, dataset: str) -> Callable[[str], list[tuple[Any, ...]]]:
    create_tables(client, dataset)
    return lambda sql: ask(client, dataset, sql)


def identify(message_id: str, user_id: str, email: str, **sent: object) -> bytes:
    return line(message_id, "identify", userId=user_id, traits={"email": email}, **sent)


def flags(calls: Topic, dataset: str, *more: str) -> list[str]:
    return ["--input_subscription", calls.subscription, "--output_dataset", dataset, "--window_seconds", "1", *more]


def test_a_month_of_anonymous_activity_is_the_persons_once_the_identify_is_written(
    client: bigquery.Client, dataset: str, calls: Topic, known: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    visits = [f"2026-01-{day:02}T12:00:00Z" for day in range(1, 31)]

    with start_program(*flags(calls, dataset)) as program:
        for number, at in enumerate(visits):
            calls.publish(line(f"v{number}", "page", userId=None, anonymousId="visitor", timestamp=at))
        calls.publish(line("other", "page", userId=None, anonymousId="somebody else"))
        wait_until(program, lambda: len(known(ACTIVITY)) == len(visits) + 1)
        assert {person_id for _, person_id in known(ACTIVITY)} == {None}

        calls.publish(identify("signup", "u1", "ann@example.com", anonymousId="visitor"))
        wait_until(program, lambda: len(known("SELECT message_id FROM `{d}.identifies`")) == 1)
        wait_until(program, lambda: len(known(PERSONS)) == 1)

    ((person_id,),) = known(PERSONS)
    assert dict(known(ACTIVITY)) == {f"v{number}": person_id for number in range(len(visits))} | {"other": None}


def test_a_merge_is_explained_and_leaves_as_an_identity_update(
    client: bigquery.Client, dataset: str, calls: Topic, known: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    updates = Topic("identity-updates")
    merges = "SELECT from_person_id, into_person_id, identifier, message_id FROM `{d}.identity_merges`"

    with start_program(*flags(calls, dataset, "--identity_topic", updates.topic)) as program:
        calls.publish(identify("m1", "u1", "old@example.com", timestamp="2026-01-01T00:00:00Z"))
        calls.publish(identify("m2", "u2", "new@example.com", timestamp="2026-01-02T00:00:00Z"))
        wait_until(program, lambda: len(known(PERSONS)) == 2)
        before = dict(known("SELECT identifier, person_id FROM `{d}.current_identities`"))
        calls.publish(identify("m3", "u2", "old@example.com", timestamp="2026-01-03T00:00:00Z"))
        wait_until(program, lambda: len(known(PERSONS)) == 1)
        wait_until(program, lambda: len(known(merges)) == 1)
        wait_until(program, lambda: sum(counts(client, dataset).values()) == 3)

    old, new = before["old@example.com"], before["new@example.com"]
    assert known(PERSONS) == [(old,)]
    assert known(merges) == [(new, old, "new@example.com", "m3")]
    told = [json.loads(data) for data, _ in updates.pull()]
    assert sorted((update["user_id"] or update["email"], update["person_id"]) for update in told) == sorted(
        [
            ("u1", old),
            ("old@example.com", old),
            ("u2", new),
            ("new@example.com", new),
            ("u2", old),
            ("new@example.com", old),
        ]
    )


def test_a_new_job_goes_on_where_the_last_one_stopped(
    client: bigquery.Client, dataset: str, calls: Topic, known: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    with start_program(*flags(calls, dataset)) as program:
        calls.publish(identify("m1", "u1", "old@example.com", anonymousId="a1", timestamp="2026-01-01T00:00:00Z"))
        wait_until(program, lambda: len(known(PERSONS)) == 1)
        wait_until(program, lambda: sum(counts(client, dataset).values()) == 1)
    ((person_id,),) = known(PERSONS)

    with start_program(*flags(calls, dataset)) as program:
        calls.publish(line("m2", userId=None, anonymousId="a1"))
        calls.publish(identify("m3", "u1", "new@example.com", timestamp="2026-02-01T00:00:00Z"))
        calls.publish(line("m4", "identify", userId="u1", traits={"plan": "pro"}))
        wait_until(program, lambda: sum(counts(client, dataset).values()) == 4)
        wait_until(program, lambda: len(known("SELECT 1 FROM `{d}.current_identities`")) == 4)

    assert known(PERSONS) == [(person_id,)]
    assert dict(known(ACTIVITY)) == {"m2": person_id}
    assert counts(client, dataset) == {("written", None): 4}
    assert known("SELECT version FROM `{d}.identities` WHERE identifier = 'u1'") != []
    assert len(known("SELECT version FROM `{d}.identities` WHERE identifier = 'u1'")) == 1  # not published again
