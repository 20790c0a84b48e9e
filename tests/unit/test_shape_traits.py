import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import NOW
from tests.strategies import json_values
from transforms.logic.shape_traits import MAX_NAME_CHARACTERS, ShapedTraits, flatten_traits, shape_traits, trait_columns

PERSON = trait_columns("identifies")
GROUP = trait_columns("group_identifies")

names = st.text(max_size=4) | st.sampled_from(("name", "firstName", "first_name", "address", "company", "age", "first"))
traits = st.dictionaries(names, json_values | st.dictionaries(names, json_values, max_size=3), max_size=4)


def shape(**sent: Any) -> ShapedTraits:
    return shape_traits(sent, PERSON)


def columns_of(shaped: ShapedTraits) -> dict[str, object]:
    return {column: value for column, value in zip(PERSON, shaped.values, strict=True) if value is not None}


def updates_of(shaped: ShapedTraits) -> dict[str, Any]:
    return {update["name"]: json.loads(update["value"]) for update in shaped.updates}


# Flattening


def test_names_become_snake_case_and_objects_are_joined() -> None:
    flat = flatten_traits({"firstName": "Ann", "address": {"postalCode": 1, "geo": {"LAT": 2}}})

    assert flat == {"first_name": "Ann", "address_postal_code": 1, "address_geo_lat": 2}


def test_arrays_and_empty_objects_stay_whole() -> None:
    assert flatten_traits({"a": [{"B": 1}], "c": {}, "d": []}) == {"a": [{"B": 1}], "c": {}, "d": []}


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ({"firstName": "camel", "first_name": "snake"}, "snake"),
        ({"first_name": "snake", "firstName": "camel"}, "camel"),
        ({"first": {"name": "inner"}, "firstName": "camel"}, "camel"),
        ({"firstName": "camel", "first": {"name": "inner"}}, "inner"),
        ({"firstName": "camel", "first_name": None}, None),
    ],
)
def test_of_two_names_for_one_column_the_last_one_sent_wins(sent: dict[str, Any], value: object) -> None:
    assert flatten_traits(sent) == {"first_name": value}


def test_a_name_without_ascii_keeps_its_own_spelling() -> None:
    flat = flatten_traits({"名前": 1, "": 2, "***": 3, "x": {"年齢": 4}, "名": {"y": 5}})

    assert flat == {"名前": 1, "": 2, "***": 3, "x_年齢": 4, "名_y": 5}


@settings(max_examples=150)
@given(traits)
def test_no_value_is_lost_unless_another_takes_its_name(sent: dict[str, Any]) -> None:
    def leaves(value: object) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) and value else 1

    flat = flatten_traits(sent)

    assert len(flat) <= sum(map(leaves, sent.values()))
    assert not any(isinstance(value, dict) and value for value in flat.values())


def test_names_are_not_repeated_without_bounds() -> None:
    """A call of 32 KB may nest 290 characters deep, and again, and hold thousands of leaves."""
    leaves = {str(number): 0 for number in range(1500)}
    nested: dict[str, Any] = leaves
    for _ in range(50):
        nested = {"n" * 290: nested}
    once = {"n" * MAX_NAME_CHARACTERS: leaves}

    (whole,) = flatten_traits(nested).items()
    assert whole == ("n" * 290 + "_" + "n" * 290, nested["n" * 290]["n" * 290])
    assert set(flatten_traits(once)) == {"n" * MAX_NAME_CHARACTERS + f"_{number}" for number in range(1500)}


# Updates


def test_null_clears_and_absent_keeps() -> None:
    shaped = shape(firstName=None, lastName="Lee")

    assert updates_of(shaped) == {"first_name": None, "last_name": "Lee"}
    assert columns_of(shaped) == {"last_name": "Lee"}
    assert shaped.misfits == 0


def test_an_empty_string_does_not_clear() -> None:
    shaped = shape(firstName="")

    assert updates_of(shaped) == {"first_name": ""}
    assert columns_of(shaped) == {"first_name": ""}


def test_null_for_a_reserved_object_clears_each_of_its_parts() -> None:
    assert updates_of(shape(company=None)) == dict.fromkeys(
        ("company", "company_id", "company_name", "company_industry", "company_employee_count", "company_plan")
    )
    assert set(updates_of(shape_traits({"address": None}, GROUP))) == {"address"} | {
        f"address_{part}" for part in ("city", "country", "postal_code", "state", "street")
    }


def test_a_part_that_is_sent_beside_the_null_stays() -> None:
    updates = updates_of(shape(address=None, address_city="Rome"))

    assert updates["address_city"] == "Rome"
    assert updates["address_street"] is None


@pytest.mark.parametrize("name", ["first", "last", "created", "addr", "company_employee", "context_traits"])
def test_null_for_an_own_trait_clears_nothing_that_only_begins_so(name: str) -> None:
    assert updates_of(shape(**{name: None})) == {name: None}


def test_no_traits_update_nothing() -> None:
    assert shape() == ([], (None,) * len(PERSON), 0)


@settings(max_examples=150)
@given(traits)
def test_each_update_is_a_name_once_and_json(sent: dict[str, Any]) -> None:
    shaped = shape_traits(sent, PERSON)

    assert len(updates_of(shaped)) == len(shaped.updates)
    for name, value in flatten_traits(sent).items():
        assert updates_of(shaped)[name] == value


# Columns


def test_the_columns_are_the_reserved_traits_of_the_table() -> None:
    assert {"email", "first_name", "address_city", "company_id", "created_at"} <= PERSON.keys()
    assert {"employees", "plan", "address_city"} <= GROUP.keys()
    assert not {"traits", "trait_updates", "context_traits_email", "user_id"} & (PERSON.keys() | GROUP.keys())


@pytest.mark.parametrize(
    ("trait", "value", "column"),
    [
        ("name", "Ann", "Ann"),
        ("name", "", ""),
        ("name", 5, "5"),
        ("name", 1.5, "1.5"),
        ("name", 10**30, str(10**30)),
        ("age", 42, 42),
        ("age", 42.0, 42),
        ("age", "42", 42),
        ("age", "-42", -42),
        ("age", 2**63 - 1, 2**63 - 1),
        ("age", -(2**63), -(2**63)),
        ("age", str(2**63 - 1), 2**63 - 1),
        ("birthday", "2026-01-01", NOW),
        ("createdAt", "2026-01-01T05:30:00+05:30", NOW),
    ],
)
def test_a_value_that_fits_stands_in_its_column(trait: str, value: object, column: object) -> None:
    shaped = shape(**{trait: value})

    assert list(columns_of(shaped).values()) == [column]
    assert shaped.misfits == 0


NO_TEXTS: list[object] = [True, [], ["Ann"], {}]
NO_INTEGERS: list[object] = [True, "", "old", "4.5", 4.5, "--4", "٤٢", " 4", 2**63, -(2**63) - 1, 1e300, [], "9" * 20]
NO_TIMES: list[object] = [True, "", "soon", 0, 1.5, "0001-01-01T00:00:00+14:00", [], {}]


@pytest.mark.parametrize(
    ("trait", "value"),
    [
        *[("name", value) for value in NO_TEXTS],
        *[("age", value) for value in NO_INTEGERS],
        *[("birthday", value) for value in NO_TIMES],
    ],
)
def test_a_value_that_does_not_fit_is_counted_and_kept_in_the_update(trait: str, value: object) -> None:
    shaped = shape(**{trait: value})

    assert columns_of(shaped) == {}
    assert shaped.misfits == 1
    assert updates_of(shaped) == {trait: value}


def test_misfits_are_counted_one_by_one() -> None:
    assert shape(age="old", name=["Ann"], plan={"a": 1}, title=None, email="a@x").misfits == 2
