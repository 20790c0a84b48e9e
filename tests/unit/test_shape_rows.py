import base64
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.calls import CallType
from schemas.identity_rules import DEFAULT_RULES
from schemas.outcomes import OutcomeKey
from schemas.rejections import DeadLetter, Reason
from schemas.rows import make_row, row_values
from schemas.tables import load_table
from scripts.replay_dead_letters import join_parts
from tests.factories import NOW, call, identify, parse, sent
from transforms.logic.identify_callers import set_callers
from transforms.logic.resolve_callers import resolve_callers
from transforms.logic.shape_rows import (
    FACT_COLUMNS,
    FACT_TABLES,
    shape_call,
    shape_count,
    shape_dead_letter,
)

ENGAGE = json.loads((Path(__file__).parents[1] / "golden/engage_payload_shapes.json").read_text())
AUDIENCE = {"computation_class": "audience", "computation_key": "vip"}


def membership_of(payload: dict[str, Any]) -> dict[str, Any] | None:
    calls = [parse(payload)]
    set_callers(calls, DEFAULT_RULES)
    (resolved,) = resolve_callers(calls, lambda call: "p1").calls
    membership = shape_call(resolved).membership
    return None if membership is None else row_values("audience_memberships", membership)


def engage_membership(call_type: str, body: dict[str, Any], **personas: object) -> dict[str, Any] | None:
    field = "properties" if call_type in ("track", "page", "screen") else "traits"
    return membership_of(sent(call_type, **{field: body}, context={"personas": {**AUDIENCE, **personas}}))


# Facts


@pytest.mark.parametrize("table", sorted(set(FACT_TABLES.values())))
def test_the_columns_of_a_fact_are_those_of_its_table(table: str) -> None:
    assert FACT_COLUMNS[table] == load_table(table).columns


@pytest.mark.parametrize("call_type", list(CallType))
def test_a_call_has_one_row_in_the_table_of_its_type(call_type: CallType) -> None:
    shaped = shape_call(parse(sent(call_type)))

    assert shaped.table == FACT_TABLES[call_type]
    assert len(shaped.row) == len(FACT_COLUMNS[shaped.table])


@pytest.mark.parametrize("call_type", list(CallType))
def test_each_field_stands_in_the_column_of_its_name(call_type: CallType) -> None:
    texts = ("connection_id", "user_id", "anonymous_id", "previous_id", "group_id", "name", "category")
    times = ("timestamp", "received_at", "future_timestamp", "original_timestamp", "sent_at")
    about: dict[str, Any] = {field: f"the {field}" for field in (*texts, "person_id", "identifier_type", "identifier")}
    about |= {field: micros for micros, field in enumerate(times)}
    one = call("the message_id", call_type, event="The Event", context='{"a":1}', body='{"name":"the name"}', **about)

    shaped = shape_call(one)
    row = row_values(shaped.table, shaped.row)

    for column, value in {**about, "message_id": "the message_id", "workspace_id": "w1", "context": '{"a":1}'}.items():
        assert row.get(column, value) == value
        assert (column in row) == (column in load_table(shaped.table).columns)


def test_an_event_has_a_name_for_people_and_one_for_queries() -> None:
    row = row_values("activities", shape_call(call(event="Order Completed")).row)

    assert (row["event_text"], row["event"]) == ("Order Completed", "order_completed")


def test_an_event_without_ascii_keeps_its_own_spelling() -> None:
    assert row_values("activities", shape_call(call(event="購入")).row)["event"] == "購入"


def test_misfits_of_traits_and_context_add_up() -> None:
    one = identify(email="a@x", age="old", name=[])
    one.context = '{"ip":5}'

    assert shape_call(one).misfits == 3


def test_a_deeply_nested_trait_is_shaped() -> None:
    nested = json.loads('{"a":' * 150 + "1" + "}" * 150)

    row = row_values("identifies", shape_call(identify(**nested)).row)

    assert row["trait_updates"] == [{"name": "_".join("a" * 150), "value": "1"}]


# Audiences


def test_engage_says_as_an_identify_who_entered_an_audience() -> None:
    membership = membership_of(ENGAGE["audience_identify"])

    assert membership is not None
    assert (membership["audience_key"], membership["entered"]) == ("first_time_shopper", True)
    assert (membership["computation_id"], membership["space_id"]) == ("aud_###", "spa_###")
    assert (membership["person_id"], membership["user_id"]) == ("p1", "u123")


def test_engage_says_as_a_track_who_entered_an_audience() -> None:
    membership = membership_of(ENGAGE["audience_track"])

    assert membership is not None
    assert (membership["audience_key"], membership["entered"]) == ("first_time_shopper", True)


@pytest.mark.parametrize("shape", ["audience_identify", "audience_track"])
def test_false_is_an_exit(shape: str) -> None:
    payload = json.loads(json.dumps(ENGAGE[shape]).replace("true", "false"))

    membership = membership_of(payload)

    assert membership is not None
    assert membership["entered"] is False


@pytest.mark.parametrize("shape", ["trait_identify", "trait_track"])
def test_a_computed_trait_is_no_membership(shape: str) -> None:
    assert membership_of(ENGAGE[shape]) is None


def test_the_key_of_an_audience_is_kept_as_sent() -> None:
    membership = engage_membership("identify", {"Order Completed Last 30days": True})

    assert membership is not None
    assert membership["audience_key"] == "Order Completed Last 30days"


def test_the_computation_key_tells_the_audience_from_other_flags() -> None:
    membership = engage_membership("identify", {"subscribed": False, "vip": True, "email": "a@x"})

    assert membership is not None
    assert (membership["audience_key"], membership["entered"]) == ("vip", True)


@pytest.mark.parametrize(
    ("call_type", "body", "personas"),
    [
        ("identify", {}, {}),
        ("identify", {"vip": None}, {}),
        ("identify", {"vip": "true"}, {}),
        ("identify", {"a": True, "b": True}, {}),
        ("track", {"audience_key": "vip"}, {}),
        ("track", {"audience_key": 5, "a": True, "b": False}, {}),
        ("page", {"vip": True}, {}),
        ("group", {"vip": True}, {}),
        ("identify", {"vip": True}, {"computation_class": "journey_step"}),
        ("identify", {"vip": True}, {"computation_class": None}),
        ("identify", {"vip": True}, {"computation_class": []}),
    ],
)
def test_what_names_no_audience_is_no_membership(
    call_type: str, body: dict[str, Any], personas: dict[str, Any]
) -> None:
    assert engage_membership(call_type, body, **personas) is None


@pytest.mark.parametrize("personas", [None, 5, [], "audience", {}])
def test_odd_personas_are_no_membership(personas: object) -> None:
    assert membership_of(sent("identify", traits={"vip": True}, context={"personas": personas})) is None


def test_odd_ids_of_an_audience_are_null() -> None:
    membership = engage_membership("identify", {"vip": True}, computation_id=5, space_id=[])

    assert membership is not None
    assert not {"computation_id", "space_id"} & membership.keys()


# Other rows


def test_a_dead_letter_keeps_all_of_the_message() -> None:
    letter = DeadLetter(
        *(b"\xff", "Step", Reason.BAD_REQUEST.value, "detail", NOW, "w1", "c1", "track", "m1"),
        *({"b": "é", "a": "1"}, "file.jsonl"),
    )

    (row,) = shape_dead_letter(letter, "1.0")

    assert row_values("dead_letters", row) == {
        "workspace_id": "w1",
        "connection_id": "c1",
        "rejected_at": NOW,
        "step": "Step",
        "reason": "bad_request",
        "detail": "detail",
        "type": "track",
        "message_id": "m1",
        "payload": b"\xff",
        "payload_sha256": "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89",
        "part": 1,
        "parts": 1,
        "attributes": '{"a":"1","b":"é"}',
        "source": "file.jsonl",
        "pipeline_version": "1.0",
    }


def test_a_message_too_large_for_a_row_stands_in_several() -> None:
    payload = bytes(range(256)) * 40_000
    letter = DeadLetter(payload, "Step", Reason.TOO_LARGE.value, "detail", NOW, "w1")

    rows = [row_values("dead_letters", row) for row in shape_dead_letter(letter, "1.0")]

    assert [(row["part"], row["parts"]) for row in rows] == [(1, 2), (2, 2)]
    assert b"".join(row["payload"] for row in rows) == payload
    assert all(len(base64.b64encode(row["payload"])) < 9 * 2**20 for row in rows)
    assert [letter["payload"] for letter in join_parts(rows)] == [payload]


def test_a_count_says_none_with_null() -> None:
    row = row_values("counts", shape_count(OutcomeKey(NOW, "w1", "", "track", "written", ""), 3))

    assert row == {
        "window_start": NOW,
        "workspace_id": "w1",
        "type": "track",
        "outcome": "written",
        "count": 3,
    }


def test_a_row_with_a_column_that_the_table_lacks_is_a_bug() -> None:
    with pytest.raises(KeyError, match="counts has no column typ"):
        make_row("counts", {"typ": 1})
