import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.tables import load_table
from tests.strategies import json_values
from transforms.logic.read_context import CONTEXT_COLUMNS, ContextColumns, read_context
from transforms.logic.snake_case import snake_case

FULL: dict[str, Any] = {
    "ip": "::1",
    "userAgent": "Mozilla",
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "page": {"path": "/p", "referrer": "r", "search": "?s", "title": "t", "url": "u"},
    "campaign": {"name": "n", "source": "s", "medium": "m", "term": "t", "content": "c"},
    "library": {"name": "n", "version": "v"},
    "app": {"name": "an", "version": "av", "build": "b"},
    "device": {"id": "i", "manufacturer": "dm", "model": "o", "name": "dn", "type": "dt"},
    "os": {"name": "on", "version": "ov"},
    "traits": {"email": "Ann@Example.com "},
}


PATHS = {
    # Segment's rule for the names of columns: context, path, snake_case.
    "_".join(["context", *map(snake_case, path)]): path
    for name, part in FULL.items()
    for path in ([(name, inner) for inner in part] if isinstance(part, dict) else [(name,)])
}


def pick(context: object, path: tuple[str, ...]) -> object:
    for name in path:
        context = context.get(name) if isinstance(context, dict) else None
    return context


def columns_of(context: object) -> dict[str, str]:
    values = read_context(json.dumps(context)).values
    return {column: value for column, value in zip(CONTEXT_COLUMNS, values, strict=True) if value is not None}


parts = st.one_of(json_values, st.dictionaries(st.sampled_from(("path", "name", "email", "id")), json_values))


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from((*FULL, "x")), parts), st.dictionaries(st.sampled_from(tuple(FULL)), parts))
@example({"page": None}, {})
@example({"ip": 5}, {})
@example({"page": {"path": ["/"]}}, {})
def test_every_text_is_in_its_column_and_every_other_value_is_a_misfit(
    odd: dict[str, Any], over: dict[str, Any]
) -> None:
    context = {**FULL, **over} | odd if over else odd
    sent = {column: pick(context, path) for column, path in PATHS.items()}

    misfits = read_context(json.dumps(context)).misfits

    assert columns_of(context) == {column: value for column, value in sent.items() if isinstance(value, str)}
    assert misfits == sum(value is not None and not isinstance(value, str) for value in sent.values())


def test_a_full_context_fills_every_column() -> None:
    assert tuple(PATHS) == CONTEXT_COLUMNS
    assert columns_of(FULL) == {column: pick(FULL, path) for column, path in PATHS.items()}


def test_an_empty_context_fills_none() -> None:
    assert read_context("{}") == ContextColumns((None,) * len(CONTEXT_COLUMNS), 0, False)


@pytest.mark.parametrize("table", ["activities", "identifies", "group_identifies"])
def test_the_columns_are_those_of_the_tables(table: str) -> None:
    columns = load_table(table).columns

    assert columns[-len(CONTEXT_COLUMNS) :] == CONTEXT_COLUMNS


def test_one_odd_value_does_not_cost_the_others() -> None:
    context = {"ip": 5, "locale": "de-DE", "page": {"path": "/", "title": 7}, "app": "none", "big": [10**400]}

    assert columns_of(context) == {"context_locale": "de-DE", "context_page_path": "/"}
    assert read_context(json.dumps(context)).misfits == 2


def test_a_number_that_no_double_holds_does_no_harm() -> None:
    values = read_context('{"ip":1e999,"locale":"de-DE"}').values

    assert "de-DE" in values
