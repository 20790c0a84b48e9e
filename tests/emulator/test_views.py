import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeAlias

import pytest
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from schemas.tables import load_table
from scripts.create_tables import RETRY, create_tables
from tests.emulator.conftest import PROJECT

pytestmark = pytest.mark.slow

Row: TypeAlias = dict[str, Any]
Warehouse: TypeAlias = Callable[..., Callable[[str], list[Row]]]

_tests = count(1)

START = datetime(2026, 1, 1, tzinfo=UTC)


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


@pytest.fixture(scope="module")
def shared_dataset(running_bigquery: str) -> str:
    """One dataset for all tests: each has workspaces of its own, and the rows of the others must not disturb it."""
    dataset = f"{PROJECT}.views"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(BIGQUERY_EMULATOR_HOST, running_bigquery)
        create_tables(bigquery_client(PROJECT), dataset)
    return dataset


@pytest.fixture
def warehouse(client: bigquery.Client, shared_dataset: str) -> Warehouse:
    """Called with the tables' rows, inserts them and gives a function that reads a view of them."""
    prefix = f"test{next(_tests)}-"

    def load(**tables: list[Row]) -> Callable[[str], list[Row]]:
        for table, rows in tables.items():
            ours = [{**row, "workspace_id": prefix + row["workspace_id"]} for row in rows]
            assert client.insert_rows_json(f"{shared_dataset}.{table}", ours, retry=RETRY) == []

        def read(view: str) -> list[Row]:
            rows = client.query_and_wait(
                f"SELECT * FROM `{shared_dataset}.{view}` WHERE STARTS_WITH(workspace_id, '{prefix}')"
            )
            return [{**row, "workspace_id": row["workspace_id"].removeprefix(prefix)} for row in map(dict, rows)]

        return read

    return load


def identity(identifier: str, person: str, version: int = 1, kind: str | None = None, **columns: Any) -> Row:
    """`identifier` belongs to `person`; its type is told by its looks unless `kind` says."""
    kind = kind or ("email" if "@" in identifier else "anonymous_id" if identifier.startswith("a") else "user_id")
    return {
        "workspace_id": "w",
        "identifier_type": kind,
        "identifier": identifier,
        "person_id": person,
        "version": version,
        "updated_at": hour(0).isoformat(),
        **columns,
    }


def call(message_id: str, at: float, user_id: str | None = "u1", received: float | None = None, **columns: Any) -> Row:
    """What the tables of calls have in common: a call of `user_id` at hour `at`, received at hour `received`."""
    return {
        "workspace_id": "w",
        "message_id": message_id,
        "identifier_type": user_id and "user_id",
        "identifier": user_id,
        "user_id": user_id,
        "timestamp": hour(at).isoformat(),
        "received_at": hour(at if received is None else received).isoformat(),
        **columns,
    }


def traits_call(message_id: str, at: float, traits: Row, typed: Row | None = None, **columns: Any) -> Row:
    """An identify or group call with flat traits; the typed columns are those that fit, as the pipeline writes them."""
    updates = [{"name": name, "value": json.dumps(value)} for name, value in traits.items()]
    return call(message_id, at, traits=json.dumps(traits), trait_updates=updates, **{**(typed or {}), **columns})


def identify(message_id: str, at: float, traits: Row, typed: Row | None = None, **columns: Any) -> Row:
    return traits_call(message_id, at, traits, typed, **columns)


def group(message_id: str, at: float, traits: Row | None = None, typed: Row | None = None, **columns: Any) -> Row:
    return traits_call(message_id, at, traits or {}, typed, **{"group_id": "g", **columns})


def track(message_id: str, at: float, event: str = "order_completed", **columns: Any) -> Row:
    return call(message_id, at, **{"type": "track", "event": event, **columns})


def membership(message_id: str, at: float, entered: bool, **columns: Any) -> Row:
    return call(message_id, at, **{"audience_key": "vips", "entered": entered, **columns})


def only(rows: list[Row]) -> Row:
    assert len(rows) == 1
    return rows[0]


def by(key: str, rows: list[Row]) -> dict[Any, Row]:
    found = {row[key]: row for row in rows}
    assert len(found) == len(rows)
    return found


# all views


def test_workspaces_and_types_of_identifiers_never_mix(warehouse: Warehouse) -> None:
    both: list[Row] = [{}, {"workspace_id": "v"}]
    read = warehouse(
        identities=[
            identity("u1", "p1"),
            identity("u1", "p2", workspace_id="v"),
            # later, so that it would win if types were not told apart
            identity("u1", "p3", 2, "anonymous_id"),
        ],
        # the same message_ids in both
        identifies=[identify("m1", n, {"plan": n}, **columns) for n, columns in enumerate(both)],
        group_identifies=[group("m2", n, {"plan": n}, **columns) for n, columns in enumerate(both)],
        activities=[track("m3", n, **columns) for n, columns in enumerate(both)],
        audience_memberships=[membership("m4", n, True, **columns) for n, columns in enumerate(both)],
    )

    def members(view: str, *columns: str) -> list[tuple[Any, ...]]:
        return sorted(tuple(row[column] for column in ("workspace_id", *columns)) for row in read(view))

    assert by("person_id", read("persons")).keys() == {"p1", "p2", "p3"}
    assert {row["person_id"]: (row["traits"], row["last_identified_at"]) for row in read("persons")} == {
        "p1": ({"plan": 0}, hour(0)),
        "p2": ({"plan": 1}, hour(1)),
        "p3": ({}, None),
    }
    assert members("groups", "group_id", "first_seen_at", "last_seen_at") == [
        ("v", "g", hour(1), hour(1)),
        ("w", "g", hour(0), hour(0)),
    ]
    assert [row["traits"]["plan"] for row in sorted(read("groups"), key=lambda row: row["workspace_id"])] == [1, 0]
    assert members("group_memberships", "person_id", "first_seen_at") == [("v", "p2", hour(1)), ("w", "p1", hour(0))]
    assert members("person_activities", "person_id") == [("v", "p2"), ("w", "p1")]
    assert members("audiences", "person_id") == [("v", "p2"), ("w", "p1")]


# current_identities


def test_the_highest_version_of_an_identifier_wins_whatever_came_last(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "new", 2), identity("u1", "old", 1), identity("u1", "other", 1, "anonymous_id")]
    )

    rows = read("current_identities")

    assert sorted((row["identifier_type"], row["person_id"], row["version"]) for row in rows) == [
        ("anonymous_id", "other", 1),
        ("user_id", "new", 2),
    ]


def test_equal_versions_are_told_apart_the_same_way_each_time(warehouse: Warehouse) -> None:
    rows = [identity("u1", person, 1) for person in ("p2", "p1", "p3")]
    read = warehouse(identities=[*rows, *({**row, "workspace_id": "v"} for row in reversed(rows))])

    assert [row["person_id"] for row in read("current_identities")] == ["p1", "p1"]


# persons


def test_a_trait_is_the_latest_by_event_time_not_by_arrival(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p")],
        identifies=[
            identify("m1", 2, {"title": "CTO"}, {"title": "CTO"}, received=2),
            identify("m2", 1, {"title": "Dev"}, {"title": "Dev"}, received=9),
        ],
    )

    person = only(read("persons"))

    assert person["title"] == "CTO"
    assert person["traits"] == {"title": "CTO"}
    assert (person["first_identified_at"], person["last_identified_at"]) == (hour(1), hour(2))


def test_equal_times_are_decided_by_arrival_then_by_message_id(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p")],
        identifies=[
            identify("m9", 1, {"title": "first", "plan": "first"}, received=2),
            identify("m2", 1, {"title": "last", "plan": "middle"}, received=3),
            identify("m1", 1, {"title": "middle"}, received=3),
            identify("m3", 1, {"plan": "last"}, received=3),
        ],
    )

    assert only(read("persons"))["traits"] == {"title": "last", "plan": "last"}


def test_null_clears_a_trait_and_an_absent_one_keeps_it(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p")],
        identifies=[
            identify("m1", 1, {"title": "CTO", "phone": "1", "plan": "pro"}, {"title": "CTO", "phone": "1"}),
            identify("m2", 2, {"title": None, "plan": None, "empty": ""}),
        ],
    )

    person = only(read("persons"))

    assert (person["title"], person["phone"]) == (None, "1")
    assert person["traits"] == {"phone": "1", "empty": ""}


def test_a_cleared_trait_can_come_back(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p")],
        identifies=[identify("m2", 3, {"age": 37}, {"age": 37}), identify("m1", 2, {"age": None})],
    )

    assert only(read("persons"))["age"] == 37


def fold(warehouse: Warehouse, view: str, *calls: Row) -> Row:
    """The traits of the one person or group who sent these calls, an hour from one to the next."""
    keys = {"identities": [identity("u1", "p"), identity("u2", "p")]} if view == "persons" else {}
    table, make = ("identifies", identify) if view == "persons" else ("group_identifies", group)
    rows = [make(f"m{hours}", hours, traits) for hours, traits in enumerate(calls)]
    rows[-1] |= {"identifier": "u2"}  # a person's calls, whoever of the person's identifiers sent them
    traits: Row = only(warehouse(**keys, **{table: rows})(view))["traits"]
    return traits


FOLDS = pytest.mark.parametrize("view", ["persons", "groups"])
NESTED = {"prefs_color": "red", "prefs_size_x": 1, "prefs_size_y": 2, "preference": 3, "plan": "pro"}


@FOLDS
def test_null_for_a_whole_object_clears_what_was_nested_in_it(warehouse: Warehouse, view: str) -> None:
    assert fold(warehouse, view, NESTED, {"prefs": None}) == {"preference": 3, "plan": "pro"}


@FOLDS
def test_null_for_an_inner_object_clears_what_was_nested_in_that(warehouse: Warehouse, view: str) -> None:
    assert fold(warehouse, view, NESTED, {"prefs_size": None}) == {"prefs_color": "red", "preference": 3, "plan": "pro"}


@FOLDS
def test_a_cleared_object_can_come_back_in_parts(warehouse: Warehouse, view: str) -> None:
    calls: tuple[Row, ...] = NESTED, {"prefs": {}}, {"prefs": None}, {"prefs_color": "blue"}

    assert fold(warehouse, view, *calls) == {"prefs_color": "blue", "preference": 3, "plan": "pro"}


@FOLDS
def test_null_for_a_trait_with_a_value_of_its_own_leaves_those_that_are_called_after_it(
    warehouse: Warehouse, view: str
) -> None:
    calls = {"phone": "1"}, {"phone_verified": True, "phone": "2"}, {"phone": None}

    assert fold(warehouse, view, *calls) == {"phone_verified": True}


@FOLDS
def test_null_beside_traits_that_are_called_after_it_leaves_them(warehouse: Warehouse, view: str) -> None:
    assert fold(warehouse, view, {"phone": None, "phone_verified": False}) == {"phone_verified": False}


@FOLDS
def test_null_for_an_object_clears_nothing_of_anybody_else(warehouse: Warehouse, view: str) -> None:
    """Nor does it in another workspace."""
    keys = {"identities": [identity("u1", "p"), identity("u2", "q"), identity("u1", "p", workspace_id="v")]}
    callers: list[Row] = [{"user_id": "u1"}, {"user_id": "u2"}, {"user_id": "u1", "workspace_id": "v"}]
    if view == "groups":
        callers = [caller | {"group_id": group_id} for caller, group_id in zip(callers, "pqp", strict=True)]
    table, who = ("identifies", "person_id") if view == "persons" else ("group_identifies", "group_id")
    rows = [traits_call(f"m{number}", 1, {"prefs_color": "red"}, **caller) for number, caller in enumerate(callers)]
    read = warehouse(**keys, **{table: [*rows, traits_call("m9", 2, {"prefs": None}, **callers[0])]})

    assert {(row["workspace_id"], row[who]): row["traits"] for row in read(view)} == {
        ("w", "p"): {},
        ("w", "q"): {"prefs_color": "red"},
        ("v", "p"): {"prefs_color": "red"},
    }


def test_a_value_that_does_not_fit_its_column_is_null_there_and_kept_in_the_json(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p")],
        identifies=[
            identify("m1", 1, {"age": 36, "title": "CTO"}, {"age": 36, "title": "CTO"}),
            identify("m2", 2, {"age": "young", "title": ["a", {"b": 1}]}),
        ],
    )

    person = only(read("persons"))

    assert (person["age"], person["title"]) == (None, None)
    assert person["traits"] == {"age": "young", "title": ["a", {"b": 1}]}


def test_traits_keep_every_json_value_and_any_name(warehouse: Warehouse) -> None:
    traits = {
        "text": 'a "quoted", {braced} and \\ slashed line\n',
        "имя": "Ünïcode 🎉",
        'a "name"': 1,
        "null_text": "null",
        "truth": True,
        "falsehood": False,
        "zero": 0,
        "float": 1.5,
        "list": [None, 1, "x"],
        "object": {},
    }
    read = warehouse(identities=[identity("u1", "p")], identifies=[identify("m1", 1, traits)])

    assert only(read("persons"))["traits"] == traits


def test_a_message_written_twice_counts_once_as_its_first_copy(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p")],
        identifies=[
            # The copy arrives after m2, which happened at the same time and arrived in between.
            identify("m1", 1, {"title": "older"}, {"title": "older"}, received=2),
            identify("m2", 1, {"title": "newer"}, {"title": "newer"}, received=3),
            identify("m1", 1, {"title": "older"}, {"title": "older"}, received=800),
        ],
    )

    person = only(read("persons"))

    assert person["title"] == "newer"
    assert person["traits"] == {"title": "newer"}


def test_merged_persons_are_one_row_with_the_traits_of_both(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[
            identity("ada@x.example", "p1"),
            identity("u1", "p1"),
            identity("bea@x.example", "p2"),
            identity("u2", "p2"),
            identity("a1", "p2"),
            identity("bea@x.example", "p1", 2),
            identity("u2", "p1", 2),
            identity("a1", "p1", 2),
            identity("a2", "p1", 2),
        ],
        identifies=[
            identify("m1", 1, {"plan": "free", "title": "CTO"}, {"title": "CTO"}, person_id="p1"),
            identify("m2", 2, {"plan": "pro"}, user_id="u2", person_id="p2"),
        ],
    )

    person = only(read("persons"))

    assert person["person_id"] == "p1"
    assert person["traits"] == {"plan": "pro", "title": "CTO"}
    assert person["emails"] == ["ada@x.example", "bea@x.example"]
    assert person["user_ids"] == ["u1", "u2"]
    assert person["anonymous_id_count"] == 2


def test_a_person_who_never_identified_has_a_row(warehouse: Warehouse) -> None:
    read = warehouse(identities=[identity("ada@x.example", "p")], identifies=[identify("m1", 1, {"plan": "pro"})])

    person = only(read("persons"))

    assert person["person_id"] == "p"
    assert (person["emails"], person["user_ids"], person["anonymous_id_count"]) == (["ada@x.example"], [], 0)
    assert (person["traits"], person["first_identified_at"], person["email"]) == ({}, None, None)


@pytest.mark.parametrize(
    ("view", "table", "keys"),
    [("persons", "identifies", {"identities": [identity("u1", "p")]}), ("groups", "group_identifies", {})],
)
def test_every_reserved_trait_is_a_column_of_the_tables_type(
    warehouse: Warehouse, view: str, table: str, keys: dict[str, list[Row]]
) -> None:
    samples = {"STRING": "text", "INTEGER": 36, "TIMESTAMP": hour(5).isoformat()}
    reserved = [field for field in load_table(table).fields if field.description.startswith("Reserved trait ")]
    typed = {field.name: samples[field.type] for field in reserved}
    columns = {} if view == "persons" else {"group_id": "g"}
    read = warehouse(**keys, **{table: [traits_call("m1", 1, typed, typed, **columns)]})

    row = only(read(view))

    expected = {"STRING": "text", "INTEGER": 36, "TIMESTAMP": hour(5)}
    assert {field.name: row[field.name] for field in reserved} == {
        field.name: expected[field.type] for field in reserved
    }


# person_activities


def test_an_activity_has_todays_person_and_the_one_once_written(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p1", 1), identity("u1", "p2", 2)],
        activities=[
            track("m1", 1, person_id="p1", properties='{"total": 5}'),
            track("m2", 2, user_id="u9", person_id=None),
            track("m3", 3, user_id=None),
            # not the user_id u1
            track("m4", 4, identifier_type="anonymous_id"),
        ],
    )

    rows = by("message_id", read("person_activities"))

    assert {key: (row["person_id"], row["written_person_id"]) for key, row in rows.items()} == {
        "m1": ("p2", "p1"),
        "m2": (None, None),
        "m3": (None, None),
        "m4": (None, None),
    }
    assert rows["m1"]["properties"] == {"total": 5}
    assert list(rows["m1"]) == [*(field.name for field in load_table("activities").fields), "written_person_id"]


def test_of_an_activity_written_twice_the_first_received_stays(warehouse: Warehouse) -> None:
    read = warehouse(
        activities=[
            track("m1", 1, "second", received=900),
            track("m1", 1, "first", received=2),
            track("m1", 1, "elsewhere", received=3, workspace_id="v"),
        ]
    )

    assert sorted((row["workspace_id"], row["event"]) for row in read("person_activities")) == [
        ("v", "elsewhere"),
        ("w", "first"),
    ]


# groups


def test_a_group_has_the_latest_of_each_trait_whoever_sent_it(warehouse: Warehouse) -> None:
    read = warehouse(
        group_identifies=[
            group("m1", 1, {"name": "Acme", "plan": "free", "vip": True}, {"name": "Acme", "plan": "free"}),
            group("m2", 4, {"plan": None, "employees": "many"}, user_id="u2"),
            group("m3", 3, {"employees": 5}, {"employees": 5}, received=9, user_id=None),
            group("m3", 3, {"employees": 5}, {"employees": 5}, received=900, user_id=None),
            group("m4", 2, group_id="other"),
        ]
    )

    rows = by("group_id", read("groups"))

    assert set(rows) == {"g", "other"}
    acme = rows["g"]
    assert (acme["name"], acme["plan"], acme["employees"]) == ("Acme", None, None)
    assert acme["traits"] == {"name": "Acme", "vip": True, "employees": "many"}
    assert (acme["first_seen_at"], acme["last_seen_at"]) == (hour(1), hour(4))
    assert (rows["other"]["traits"], rows["other"]["name"]) == ({}, None)


# group_memberships


def test_a_membership_has_one_user_id_the_one_used_last(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p"), identity("u2", "p"), identity("a1", "p")],
        group_identifies=[
            group("m1", 2, user_id="u2", received=2),
            group("m2", 1, user_id="u1", received=9),
            group("m3", 3, user_id=None, identifier_type="anonymous_id", identifier="a1"),
            group("m4", 0, user_id="u1", group_id="other"),
        ],
    )

    rows = by("group_id", read("group_memberships"))

    assert set(rows) == {"g", "other"}
    assert rows["g"] == {
        "workspace_id": "w",
        "person_id": "p",
        "group_id": "g",
        "user_id": "u2",
        "first_seen_at": hour(1),
        "last_seen_at": hour(3),
    }
    assert rows["other"]["user_id"] == "u1"


def test_a_membership_has_only_a_user_id_that_is_the_persons(warehouse: Warehouse) -> None:
    """A blocked one, or one that a limit refused, is sent with an email for which the call then counts."""
    sent: Row = {"identifier_type": "email", "identifier": "ada@x.example"}
    read = warehouse(
        identities=[
            identity("ada@x.example", "p"),
            identity("u1", "p"),
            identity("u2", "q"),
            identity("null", "p", kind="anonymous_id"),
        ],
        group_identifies=[
            group("m1", 1, user_id="u1"),
            group("m2", 2, user_id="null", **sent),
            group("m3", 3, user_id="u2", **sent),
            group("m4", 4, user_id="null", group_id="other", **sent),
        ],
    )

    rows = by("group_id", read("group_memberships"))

    assert {group_id: row["user_id"] for group_id, row in rows.items()} == {"g": "u1", "other": None}
    assert (rows["g"]["person_id"], rows["g"]["last_seen_at"]) == ("p", hour(3))


def test_only_known_persons_are_members_and_merged_ones_once(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p1"), identity("u2", "p2"), identity("u2", "p1", 2)],
        group_identifies=[group("m1", 1), group("m2", 2, user_id="u2"), group("m3", 3, user_id="stranger")],
    )

    assert [(row["person_id"], row["user_id"]) for row in read("group_memberships")] == [("p1", "u2")]


def test_a_repeated_group_call_does_not_win_a_tie(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p"), identity("u2", "p")],
        group_identifies=[
            group("m1", 1, {"plan": "older"}, {"plan": "older"}, user_id="u1", received=1),
            group("m2", 1, {"plan": "newer"}, {"plan": "newer"}, user_id="u2", received=2),
            group("m1", 1, {"plan": "older"}, {"plan": "older"}, user_id="u1", received=900),
        ],
    )

    assert only(read("group_memberships"))["user_id"] == "u2"
    assert only(read("groups"))["plan"] == "newer"
    assert only(read("groups"))["traits"] == {"plan": "newer"}


# audiences


def test_who_left_an_audience_is_no_member_and_who_came_back_is(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p1"), identity("u2", "p2")],
        audience_memberships=[
            membership("m1", 1, True),
            membership("m2", 2, False),
            membership("m3", 1, False, user_id="u2"),
            membership("m4", 2, True, user_id="u2", computation_id="aud_1"),
            membership("m5", 1, True, audience_key="other"),
        ],
    )

    rows = by("audience_key", read("audiences"))

    assert set(rows) == {"vips", "other"}
    assert (rows["vips"]["person_id"], rows["vips"]["last_entered_at"]) == ("p2", hour(2))
    assert rows["vips"]["computation_id"] == "aud_1"
    assert rows["other"]["person_id"] == "p1"


def test_an_exit_that_arrives_before_its_entry_still_ends_the_membership(warehouse: Warehouse) -> None:
    read = warehouse(
        audience_memberships=[
            membership("m2", 2, False, received=2),
            membership("m1", 1, True, received=9),
            membership("m1", 1, True, received=900),
        ]
    )

    assert read("audiences") == []


def test_a_member_is_a_person_or_else_an_identifier(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p"), identity("u2", "p"), identity("u3", "q")],
        audience_memberships=[
            membership("m1", 1, True),
            membership("m2", 2, True, user_id="u2"),
            membership("m3", 1, True, user_id="stranger"),
            membership("m4", 1, True, user_id="another"),
            membership("m5", 1, True, user_id=None),
            membership("m6", 1, True, user_id="u3"),
        ],
    )

    assert sorted((row["person_id"] or "", row["identifier"]) for row in read("audiences")) == [
        ("", "another"),
        ("", "stranger"),
        ("p", "u2"),
        ("q", "u3"),
    ]


def test_a_merged_person_who_left_by_one_identifier_has_left(warehouse: Warehouse) -> None:
    read = warehouse(
        identities=[identity("u1", "p"), identity("u2", "p")],
        audience_memberships=[membership("m1", 1, True), membership("m2", 2, False, user_id="u2")],
    )

    assert read("audiences") == []
