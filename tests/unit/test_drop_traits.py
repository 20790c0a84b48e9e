"""Persons of the customer's warehouse: an identify maps its userId and writes no traits."""

import json
from typing import Any

import pytest
from hypothesis import given

from schemas.calls import CallType, SegmentCall
from schemas.rejections import Rejected
from schemas.rows import row_values
from tests.factories import call, identify, message
from tests.strategies import Fields, render, well_typed_calls
from transforms.logic.drop_traits import drop_traits
from transforms.logic.parse_call import parse_call
from transforms.logic.shape_rows import shape_call, shape_call_without_traits
from transforms.logic.shape_traits import trait_columns


def context(call: SegmentCall) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(call.context)
    return decoded


def test_an_identify_has_a_row_and_no_traits() -> None:
    shaped = shape_call_without_traits(identify("u1", "ann@example.com", name="Ann", age=7, plan={"tier": 1}))
    row = row_values(shaped.table, shaped.row)

    assert shaped.table == "identifies"
    assert (row["user_id"], row["traits"], row["trait_updates"]) == ("u1", "{}", [])
    assert not row.keys() & trait_columns("identifies").keys()
    assert "Ann" not in str(shaped.row)


@pytest.mark.parametrize("call_type", ["track", "page", "screen", "identify", "group", "alias"])
@pytest.mark.parametrize("name", ['"traits"', r'"tr\u0061its"'])
def test_no_call_writes_its_persons_traits_from_the_context(call_type: str, name: str) -> None:
    sent = f'{{{name}: {{"email": "ann@example.com", "age": 7}}, "ip": "1.2.3.4", "n": 1.50}}'

    shaped = shape_call_without_traits(call("m1", call_type, context=sent, group_id="g1", previous_id="p"))
    row = row_values(shaped.table, shaped.row)

    assert json.loads(row["context"]) == {"ip": "1.2.3.4", "n": 1.5}
    assert "1.50" in row["context"]
    assert "context_traits_email" not in row
    if call_type != "alias":
        assert row["context_ip"] == "1.2.3.4"


def test_the_traits_of_a_group_are_the_groups() -> None:
    shaped = shape_call_without_traits(call("m1", "group", group_id="g1", body='{"name":"Acme"}'))
    row = row_values(shaped.table, shaped.row)

    assert row["traits"] == '{"name":"Acme"}'
    assert row["name"] == "Acme"


def test_an_audience_is_no_trait() -> None:
    personas = '{"personas":{"computation_class":"audience","computation_key":"vips"},"traits":{"a":1}}'
    sent = call("m1", "identify", body='{"vips":true,"email":"ann@example.com"}', context=personas)

    shaped = shape_call_without_traits(sent)

    assert shaped.membership == shape_call(sent).membership
    assert shaped.membership is not None


def test_what_has_no_traits_stays_as_it_was_sent() -> None:
    sent = call(context='{ "ip" : "1.2.3.4", "page":{"title":"traits"}}', body='{"traits":1}')

    assert drop_traits(sent) == sent
    assert shape_call_without_traits(sent) == shape_call(sent)


def test_the_call_itself_is_not_changed() -> None:
    sent = identify("u1", "ann@example.com")
    before = sent.body

    drop_traits(sent)

    assert sent.body == before


@given(well_typed_calls())
def test_any_call_keeps_all_but_the_traits(fields: Fields) -> None:
    try:
        sent = parse_call(message(render(fields)), 0, "w1")
    except Rejected:
        return
    dropped = drop_traits(sent)

    assert context(dropped) == {name: value for name, value in context(sent).items() if name != "traits"}
    assert dropped.body == ("{}" if sent.type == CallType.IDENTIFY else sent.body)
    shaped = shape_call_without_traits(sent)
    assert shaped.membership == shape_call(sent).membership
    assert shaped.table == shape_call(sent).table
