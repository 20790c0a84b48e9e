import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count, product
from random import Random
from typing import Any, TypeAlias

import pytest
from google.cloud import bigquery

from pipelines.clients import BIGQUERY_EMULATOR_HOST, bigquery_client
from scripts.create_tables import RETRY, create_tables
from tests.emulator.conftest import PROJECT

pytestmark = pytest.mark.slow

Row: TypeAlias = dict[str, Any]
Read: TypeAlias = Callable[[str], list[Row]]
Warehouse: TypeAlias = Callable[..., Read]

_tests = count(1)

START = datetime(2026, 1, 1, tzinfo=UTC)

DELIVERED = "email_delivered"
OPENED = "email_opened"
UNIQUE_OPEN = "email_unique_opens"
BOUNCED = "email_bounced"
SPAM = "email_reported_as_spam"
CLICKED = "link_clicked"
UNIQUE_CLICK = "unique_link_click"
CLICK_PER_OPEN = "unique_link_click_per_unique_open"
UNSUBSCRIBED = "email_unsubscribed"
EVENTS = (DELIVERED, OPENED, UNIQUE_OPEN, BOUNCED, SPAM, CLICKED, UNIQUE_CLICK, CLICK_PER_OPEN, UNSUBSCRIBED)

_Identifier: TypeAlias = tuple[str, str | None, str | None]


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


@pytest.fixture(scope="module")
def shared_dataset(running_bigquery: str) -> str:
    """One dataset for all tests: each has workspaces of its own, and the rows of the others must not disturb it."""
    dataset = f"{PROJECT}.email_views"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(BIGQUERY_EMULATOR_HOST, running_bigquery)
        create_tables(bigquery_client(PROJECT), dataset)
    return dataset


@pytest.fixture
def warehouse(client: bigquery.Client, shared_dataset: str) -> Warehouse:
    """Called with the rows of `activities` and `identities`, gives a function that reads a view of them."""
    prefix = f"test{next(_tests)}-"

    def load(activities: Iterable[Row], identities: Iterable[Row] = ()) -> Read:
        for table, rows in (("activities", activities), ("identities", identities)):
            ours = [{**row, "workspace_id": prefix + row["workspace_id"]} for row in rows]
            if ours:
                assert client.insert_rows_json(f"{shared_dataset}.{table}", ours, retry=RETRY) == []

        def read(view: str) -> list[Row]:
            rows = client.query_and_wait(
                f"SELECT * FROM `{shared_dataset}.{view}` WHERE STARTS_WITH(workspace_id, '{prefix}')"
            )
            return [{**row, "workspace_id": row["workspace_id"].removeprefix(prefix)} for row in map(dict, rows)]

        return read

    return load


def identity(identifier: str, person: str | None, version: int = 1, **columns: Any) -> Row:
    """`identifier` belongs to `person`; its type is told by its looks."""
    kind = "email" if "@" in identifier else "user_id" if identifier.startswith("u") else "anonymous_id"
    return {
        "workspace_id": "w",
        "identifier_type": kind,
        "identifier": identifier,
        "person_id": person,
        "version": version,
        "updated_at": hour(0).isoformat(),
        **columns,
    }


def sent(message_id: str, event: str, /, at: float = 1, received: float | None = None, **differing: Any) -> Row:
    """A row of `activities`: an email event of the run r1, told to user u1 or to whom `user_id`, `anonymous_id` name.

    `differing` holds properties, and of the row `workspace_id`, `type`, `user_id`, `anonymous_id` and `context`.
    """
    user, visitor = differing.pop("user_id", None), differing.pop("anonymous_id", None)
    user = user if user or visitor else "u1"
    row = {
        "workspace_id": differing.pop("workspace_id", "w"),
        "message_id": message_id,
        "type": differing.pop("type", "track"),
        "event": event,
        "identifier_type": "user_id" if user else "anonymous_id",
        "identifier": user or visitor,
        "user_id": user,
        "anonymous_id": visitor,
        "timestamp": hour(at).isoformat(),
        "received_at": hour(at if received is None else received).isoformat(),
        "context": json.dumps(differing.pop("context", {})),
    }
    properties = {
        "userId": f"{user or visitor}@x.example",
        "email_id": "e1",
        "campaign_id": "c1",
        "campaign_run_id": "r1",
        "campaign_name": "Spring",
        **differing,
    }
    return {**row, "properties": json.dumps(properties)}


def only(rows: list[Row]) -> Row:
    assert len(rows) == 1
    return rows[0]


def by(key: str, rows: list[Row]) -> dict[Any, Row]:
    found = {row[key]: row for row in rows}
    assert len(found) == len(rows)
    return found


def columns(rows: Iterable[Row], *names: str) -> set[tuple[Any, ...]]:
    return {tuple(row[name] for name in names) for row in rows}


# email_activities


def test_an_email_event_has_its_properties_as_columns(warehouse: Warehouse) -> None:
    properties = {
        "event": "clicked",
        "userId": " Ada@X.example ",
        "email_id": "e7",
        "campaign_id": "c7",
        "campaign_run_id": "r7",
        "campaign_name": 'The "Spring" 🎉',
        "email_subject": "Привет",
        "email_link_url": "https://x.example/?a=1&b=2#c",
        "is_unique_open": False,
        "is_unique_click": True,
    }
    context = {"bot_click": True, "machine_open": True, "implied_open": True}
    click = sent("m1", CLICKED, 2, 3, user_id="u1", anonymous_id="a1", context=context, **properties)
    read = warehouse(
        [{**click, "context_user_agent": "Mozilla/5.0", "context_ip": "192.0.2.1"}], [identity("u1", "p1")]
    )

    assert only(read("email_activities")) == {
        "workspace_id": "w",
        "message_id": "m1",
        "event": "link_clicked",
        "email_event": "clicked",
        "timestamp": hour(2),
        "received_at": hour(3),
        "person_id": "p1",
        "user_id": "u1",
        "anonymous_id": "a1",
        "email": "ada@x.example",
        "email_id": "e7",
        "campaign_id": "c7",
        "campaign_run_id": "r7",
        "campaign_name": 'The "Spring" 🎉',
        "email_subject": "Привет",
        "email_link_url": "https://x.example/?a=1&b=2#c",
        "is_unique_open": False,
        "is_unique_click": True,
        "is_machine_open": True,
        "is_bot_click": True,
        "is_implied_open": True,
        "user_agent": "Mozilla/5.0",
        "ip": "192.0.2.1",
    }


def test_what_was_not_sent_is_null_or_false(warehouse: Warehouse) -> None:
    properties = [None, "null", "{}", "[]", '"text"', '{"event": null, "userId": null, "is_unique_open": null}']
    contexts = [None, "null", "{}", "[]", '{"machine_open": null}']
    read = warehouse(
        {**sent(f"m{number}", OPENED), "properties": property_text, "context": context}
        for number, (property_text, context) in enumerate(product(properties, contexts))
    )

    rows = read("email_activities")

    told = {"workspace_id", "message_id", "event", "timestamp", "received_at", "user_id"}
    flags = ("is_machine_open", "is_bot_click", "is_implied_open")
    assert len(rows) == len(properties) * len(contexts)
    assert columns(rows, *flags) == {(False, False, False)}
    assert {name for row in rows for name, value in row.items() if value is not None} == {*told, *flags}


def test_only_a_boolean_is_read_as_a_boolean(warehouse: Warehouse) -> None:
    values = [True, False, "true", "false", 1, 0, 1.5, "", [True], {"a": True}, None]
    read = warehouse(
        [
            sent(
                f"m{number}",
                OPENED,
                is_unique_open=value,
                is_unique_click=value,
                context={"machine_open": value, "bot_click": value, "implied_open": value},
            )
            for number, value in enumerate(values)
        ]
    )

    rows = by("message_id", read("email_activities"))

    for number, value in enumerate(values):
        row, is_boolean = rows[f"m{number}"], isinstance(value, bool)
        assert row["is_unique_open"] is (value if is_boolean else None), value
        assert row["is_unique_click"] is (value if is_boolean else None), value
        assert row["is_machine_open"] is (value is True), value
        assert row["is_bot_click"] is (value is True), value
        assert row["is_implied_open"] is (value is True), value


def test_a_property_that_is_no_text_is_text_or_null(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            sent("m1", OPENED, campaign_id=17, email_id=True, userId=["ada@x.example"]),
            sent("m2", OPENED, campaign_id={"a": 1}, userId="  "),
        ]
    )

    assert columns(read("email_activities"), "message_id", "campaign_id", "email_id", "email") == {
        ("m1", "17", "true", None),
        ("m2", None, "e1", None),
    }


def test_the_nine_kinds_of_track_calls_are_email_events_and_nothing_else(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            *(sent(f"m{number}", event) for number, event in enumerate(EVENTS)),
            sent("m10", "order_completed"),
            sent("m11", OPENED, type="page"),
        ]
    )

    assert columns(read("email_activities"), "message_id", "event") == {
        (f"m{number}", event) for number, event in enumerate(EVENTS)
    }


def test_of_an_event_written_twice_the_first_received_stays_for_ever(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            sent("m1", DELIVERED, 1, received=9000, email_subject="later"),
            sent("m1", DELIVERED, 3, received=2, email_subject="later, and happened later"),
            sent("m1", DELIVERED, 1, received=2, email_subject="first"),
            sent("m1", DELIVERED, 1, received=3, email_subject="elsewhere", workspace_id="v"),
        ]
    )

    assert columns(read("email_activities"), "workspace_id", "email_subject") == {("w", "first"), ("v", "elsewhere")}
    assert columns(read("email_engagement"), "workspace_id", "delivered") == {("w", 1), ("v", 1)}


def test_the_person_is_todays_by_the_caller_else_by_the_email(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            sent("m1", OPENED, userId="bea@x.example"),
            # Without a user_id a person is called by their person_id, here that of one who has since been merged.
            sent("m2", OPENED, anonymous_id="p-old", userId=" Ada@X.example"),
            sent("m3", OPENED, anonymous_id="p-old", userId="stranger@x.example"),
            sent("m4", OPENED, user_id="u2", userId="ada@x.example", workspace_id="v"),
            # Not the user_id u1.
            {**sent("m5", OPENED, anonymous_id="u1"), "identifier_type": "anonymous_id"},
            # Not the email u2.
            sent("m6", OPENED, anonymous_id="a2", userId="u2"),
            # All identifiers are blocked.
            {**sent("m7", OPENED, userId="ada@x.example"), "identifier_type": None, "identifier": None},
            # The user_id is blocked.
            {
                **sent("m8", OPENED, user_id="undefined", anonymous_id="a8"),
                "identifier_type": "anonymous_id",
                "identifier": "a8",
            },
        ],
        [
            identity("u1", "p-old", 1),
            identity("u1", "p1", 2),
            identity("u2", "p4"),
            identity("a8", "p8"),
            identity("bea@x.example", "p2"),
            identity("ada@x.example", "p-old", 1),
            identity("ada@x.example", "p3", 2),
        ],
    )

    assert columns(read("email_activities"), "message_id", "person_id") == {
        ("m1", "p1"),
        ("m2", "p3"),
        ("m3", None),
        ("m4", None),
        ("m5", None),
        ("m6", None),
        ("m7", "p3"),
        ("m8", "p8"),
    }


# email_engagement


def test_a_campaign_run_is_counted(warehouse: Warehouse) -> None:
    counts = {
        DELIVERED: 8,
        OPENED: 7,
        UNIQUE_OPEN: 4,
        CLICKED: 6,
        UNIQUE_CLICK: 3,
        CLICK_PER_OPEN: 1,
        BOUNCED: 2,
        SPAM: 1,
        UNSUBSCRIBED: 5,
        "order_completed": 2,
    }
    flags = {OPENED: {"machine_open": True}, CLICKED: {"bot_click": True}}
    read = warehouse(
        sent(
            f"{event}{number}", event, number, user_id=f"u{number}", context=flags.get(event, {}) if number < 2 else {}
        )
        for event, times in counts.items()
        for number in range(times)
    )

    assert only(read("email_engagement")) == {
        "workspace_id": "w",
        "campaign_run_id": "r1",
        "campaign_id": "c1",
        "campaign_name": "Spring",
        "first_event_at": hour(0),
        "last_event_at": hour(7),
        "recipients": 8,
        "delivered": 8,
        "opens": 7,
        "human_opens": 5,
        "machine_opens": 2,
        "unique_opens": 4,
        "clicks": 6,
        "human_clicks": 4,
        "bot_clicks": 2,
        "unique_clicks": 3,
        "unique_clickers": 3,
        "unique_clicks_per_unique_open": 1,
        "bounced": 2,
        "reported_as_spam": 1,
        "unsubscribed": 5,
        "open_rate": 0.5,
        "click_rate": 0.375,
        "click_to_open_rate": 0.25,
        "bounce_rate": 0.2,
        "spam_rate": 0.125,
        "unsubscribe_rate": 0.625,
    }


def test_rates_without_deliveries_or_opens_are_null(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            sent("m1", BOUNCED),
            sent("m2", UNIQUE_CLICK, campaign_run_id="r2"),
            sent("m3", UNSUBSCRIBED),
            sent("m4", SPAM),
        ]
    )

    runs = by("campaign_run_id", read("email_engagement"))

    rates = ("open_rate", "click_rate", "click_to_open_rate", "bounce_rate", "spam_rate", "unsubscribe_rate")
    assert [runs["r1"][rate] for rate in rates] == [None, None, None, 1.0, None, None]
    assert [runs["r2"][rate] for rate in rates] == [None] * 6


def test_uniques_are_people_and_a_click_rate_is_no_rate_of_links(warehouse: Warehouse) -> None:
    links = ["x", "y", None, ""]
    read = warehouse(
        [
            sent("m1", DELIVERED),
            *(sent(f"m2{number}", UNIQUE_CLICK, email_link_url=link) for number, link in enumerate(links)),
            sent("m3", DELIVERED, email_id="e2"),
            sent("m4", UNIQUE_CLICK, email_id="e2", email_link_url="x"),
            sent("m5", UNIQUE_CLICK, user_id="u2", email_link_url="x"),
            sent("m6", DELIVERED, user_id="u2"),
            sent("m7", DELIVERED, user_id="u3"),
        ]
    )

    run = only(read("email_engagement"))

    assert (run["unique_clicks"], run["unique_clickers"], run["delivered"], run["recipients"]) == (6, 3, 4, 3)
    assert run["click_rate"] == 0.75


def test_a_human_counts_once_under_all_their_names(warehouse: Warehouse) -> None:
    names: list[Row] = [
        # Two persons, who turned out to be one.
        {"user_id": "u1", "userId": "ada@x.example"},
        {"user_id": "u2", "userId": "bea@x.example"},
        # The same human before the user_id was known, called by the person_id of that time.
        {"anonymous_id": "p1", "userId": "Ada@x.example"},
        {"anonymous_id": "p2", "userId": "bea@x.example"},
        {"user_id": "u1", "userId": "third@x.example"},
        # Nobody knows who this is, but it is one address.
        {"user_id": "u8", "userId": "cleo@x.example"},
        {"anonymous_id": "a8", "userId": " CLEO@X.example"},
        # Two without an address.
        {"user_id": "u9", "userId": None},
        {"anonymous_id": "a9", "userId": None},
    ]
    read = warehouse(
        [sent(f"{event}{number}", event, **each) for event in EVENTS for number, each in enumerate(names)],
        [
            identity("u1", "p1"),
            identity("ada@x.example", "p1"),
            identity("u2", "p2"),
            identity("bea@x.example", "p2"),
            identity("u2", "p1", 2),
            identity("bea@x.example", "p1", 2),
        ],
    )

    run = only(read("email_engagement"))

    uniques = ("recipients", "unique_opens", "unique_clicks", "unique_clickers", "unique_clicks_per_unique_open")
    assert {name: run[name] for name in uniques} == dict.fromkeys(uniques, 4)
    assert only(read("email_links"))["unique_clicks"] == 4
    assert (run["delivered"], run["opens"], run["clicks"]) == (9, 9, 9)


def test_runs_and_workspaces_are_counted_apart_and_mail_of_no_run_by_campaign(warehouse: Warehouse) -> None:
    receipt: Row = {"campaign_run_id": None, "campaign_id": "receipts", "campaign_name": "Receipts"}
    read = warehouse(
        [
            sent("m1", UNIQUE_OPEN),
            sent("m2", UNIQUE_OPEN, campaign_run_id="r2"),
            sent("m3", UNIQUE_OPEN, workspace_id="v"),
            sent("m4", UNIQUE_OPEN, **receipt),
            sent("m5", UNIQUE_OPEN, **receipt, user_id="u2"),
            sent("m6", UNIQUE_OPEN, **{**receipt, "campaign_id": "reminders"}),
            sent("m7", UNIQUE_OPEN, campaign_run_id=None, campaign_id=None, campaign_name=None),
            sent("m8", UNIQUE_OPEN, campaign_id="c2"),
        ]
    )

    names = ("workspace_id", "campaign_run_id", "campaign_id", "campaign_name", "unique_opens")
    rows = read("email_engagement")
    assert len(rows) == 6
    assert columns(rows, *names) == {
        ("v", "r1", "c1", "Spring", 1),
        ("w", "r1", "c2", "Spring", 1),
        ("w", "r2", "c1", "Spring", 1),
        ("w", None, "receipts", "Receipts", 2),
        ("w", None, "reminders", "Receipts", 1),
        ("w", None, None, None, 1),
    }


def test_a_renamed_campaign_is_one_row_with_its_latest_name(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            sent("m1", DELIVERED, 2.00001, campaign_name="Autumn", user_id="u2"),
            sent("m2", DELIVERED, 2, received=9, campaign_name="Winter", campaign_id="c2"),
            sent("m3", OPENED, 3, campaign_name=None, campaign_id=None),
            sent("m4", CLICKED, 1),
        ]
    )

    run, link = only(read("email_engagement")), only(read("email_links"))

    assert (run["campaign_id"], run["campaign_name"], run["delivered"], run["opens"]) == ("c1", "Autumn", 2, 1)
    assert (link["campaign_id"], link["campaign_name"]) == ("c1", "Autumn")


# email_links


def test_a_link_is_counted(warehouse: Warehouse) -> None:
    bot = {"bot_click": True}
    read = warehouse(
        [
            sent("m1", CLICKED, 2, email_link_url="x"),
            sent("m2", CLICKED, 5, email_link_url="x"),
            sent("m3", CLICKED, 1, email_link_url="x", context=bot),
            sent("m4", UNIQUE_CLICK, 2, email_link_url="x"),
            sent("m5", UNIQUE_CLICK, 3, email_link_url="x", user_id="u2"),
            sent("m6", CLICKED, 3, email_link_url="x", user_id="u2"),
            sent("m7", UNIQUE_CLICK, 2, email_link_url="y", user_id="u2"),
            sent("m8", UNIQUE_CLICK, 2, email_link_url="y", user_id="u3"),
            sent("m9", UNIQUE_CLICK, 2, email_link_url="z", user_id="u3", email_id="e2"),
            sent("m10", CLICK_PER_OPEN, 8, email_link_url="x"),
            sent("m11", UNSUBSCRIBED, 9, email_link_url="x", campaign_id="c2", campaign_name="Autumn"),
        ]
    )

    rows = by("email_link_url", read("email_links"))

    assert rows["x"] == {
        "workspace_id": "w",
        "campaign_run_id": "r1",
        "campaign_id": "c2",
        "campaign_name": "Autumn",
        "email_id": "e1",
        "email_link_url": "x",
        "clicks": 4,
        "human_clicks": 3,
        "bot_clicks": 1,
        "unique_clicks": 2,
        "unique_click_share": 0.5,
        "first_clicked_at": hour(1),
        "last_clicked_at": hour(5),
    }
    assert columns(rows.values(), "email_id", "email_link_url", "unique_click_share") == {
        ("e1", "x", 0.5),
        ("e1", "y", 0.5),
        ("e2", "z", 1.0),
    }


def test_only_what_was_clicked_is_a_link_and_one_that_is_not_known_a_link_too(warehouse: Warehouse) -> None:
    read = warehouse(
        [
            sent("m1", DELIVERED, email_link_url="x"),
            sent("m2", DELIVERED),
            sent("m3", CLICKED, email_link_url="y", context={"bot_click": True}),
            sent("m4", CLICKED, email_link_url=None, campaign_run_id="r2"),
            sent("m5", CLICKED, email_link_url="", campaign_run_id="r2"),
        ]
    )

    rows = read("email_links")

    assert len(rows) == 3
    assert columns(rows, "campaign_run_id", "email_link_url", "clicks", "unique_clicks", "unique_click_share") == {
        ("r1", "y", 1, 0, None),
        ("r2", None, 1, 0, None),
        ("r2", "", 1, 0, None),
    }


def test_links_are_told_apart_by_workspace_run_campaign_and_email(warehouse: Warehouse) -> None:
    differing: list[Row] = [
        {},
        {"workspace_id": "v"},
        {"campaign_run_id": "r2"},
        {"email_id": "e2"},
        {"email_id": None},
        {"campaign_run_id": None},
        {"campaign_run_id": None, "campaign_id": "c2", "campaign_name": "Autumn"},
    ]
    read = warehouse(sent(f"m{number}", UNIQUE_CLICK, **each) for number, each in enumerate(differing))

    rows = read("email_links")

    assert len(rows) == len(differing)
    assert columns(rows, "workspace_id", "campaign_run_id", "email_id", "campaign_id", "campaign_name") == {
        ("w", "r1", "e1", "c1", "Spring"),
        ("v", "r1", "e1", "c1", "Spring"),
        ("w", "r2", "e1", "c1", "Spring"),
        ("w", "r1", "e2", "c1", "Spring"),
        ("w", "r1", None, "c1", "Spring"),
        ("w", None, "e1", "c1", "Spring"),
        ("w", None, "e1", "c2", "Autumn"),
    }
    assert columns(rows, "unique_clicks", "unique_click_share") == {(1, 1.0)}


# all three, against a slow reading of the same rows


@pytest.mark.parametrize("seed", range(3))
def test_the_views_agree_with_an_oracle(warehouse: Warehouse, seed: int) -> None:
    activities, identities = _draw(Random(seed))
    read = warehouse(activities, identities)
    events = _events(activities, identities)

    assert _sorted(read("email_activities")) == _sorted(events)
    runs, links = read("email_engagement"), read("email_links")
    assert _sorted(runs) == _sorted(map(_run, _group(events, _run_key)))
    assert _sorted(links) == _sorted(_links(events))
    assert sum(link["unique_clicks"] for link in links) == sum(run["unique_clicks"] for run in runs) > 0
    assert sum(link["clicks"] for link in links) == sum(run["clicks"] for run in runs) > 0


def _draw(random: Random) -> tuple[list[Row], list[Row]]:
    """Rows of two workspaces: repeats, late ones, merged persons, strangers, values of every type."""
    odd: list[Any] = [None, True, False, "true", "false", 1, 0, "", [], {}]
    people = [f"{name}@x.example" for name in ("ada", "bea", "cleo", "dora", "emil")]
    identities = [
        identity(identifier, person, version, workspace_id=workspace)
        for workspace in ("w", "v")
        for number, email in enumerate(people[:4])
        for identifier in (email, f"u{number}", f"a{number}")
        if random.random() < 0.8
        for version, person in enumerate([f"p{number}", random.choice([*(f"p{n}" for n in range(number + 1)), None])])
        if version == 0 or random.random() < 0.5
    ]
    activities = []
    for number in range(300):
        who = random.randrange(6)
        email = random.choice([*people, None])
        if email and random.random() < 0.8:
            email = people[min(who, 4)]
        run = random.choice(["r1", "r1", "r2", None])
        caller: Row = random.choice([{"user_id": f"u{who}"}, {"anonymous_id": f"a{who}"}, {"anonymous_id": f"p{who}"}])
        row = sent(
            f"m{number}",
            random.choice([*EVENTS, UNIQUE_CLICK, UNIQUE_CLICK, CLICKED, CLICKED, UNIQUE_OPEN, "order_completed"]),
            random.randrange(48) / 4,
            **caller,
            workspace_id=random.choice("wwv"),
            type=random.choice(["track"] * 15 + ["page"]),
            context={flag: random.choice(odd) for flag in ("machine_open", "bot_click", "implied_open")},
            event=random.choice(["opened", None, 5]),
            userId=random.choice([email, email, email and f" {email.title()} "]),
            email_id=random.choice(["e1", "e1", "e2", None]),
            email_subject=random.choice(["Hello", None]),
            email_link_url=random.choice(["x", "x", "y", "", None]),
            campaign_id=random.choice(["c1", "c2", 3, None]),
            campaign_run_id=run,
            campaign_name=random.choice(["Spring", "Summer", "Åpril", None]),
            is_unique_open=random.choice(odd),
            is_unique_click=random.choice(odd),
        )
        row["received_at"] = hour(random.randrange(1000)).isoformat()
        row["context_user_agent"] = random.choice(["Mozilla/5.0", None])
        row["context_ip"] = random.choice(["192.0.2.1", None])
        if random.random() < 0.05:
            row["properties"] = random.choice([None, "null", "[]"])
        if random.random() < 0.05:
            row["context"] = random.choice([None, "null", "[]"])
        activities.append(row)
        if random.random() < 0.2:
            repeated = {**random.choice(activities), "received_at": hour(1001 + number).isoformat()}
            repeated["properties"] = random.choice([repeated["properties"], "{}"])
            activities.append(repeated)
    random.shuffle(activities)
    return activities, identities


def _events(activities: list[Row], identities: list[Row]) -> list[Row]:
    today: dict[_Identifier, str | None] = {}
    for row in sorted(identities, key=lambda row: row["version"]):
        today[row["workspace_id"], row["identifier_type"], row["identifier"]] = row["person_id"]
    first: dict[tuple[str, str], Row] = {}
    for row in sorted(activities, key=lambda row: datetime.fromisoformat(row["received_at"]), reverse=True):
        if row["type"] == "track" and row["event"] in EVENTS:
            first[row["workspace_id"], row["message_id"]] = row
    return [_event(row, today) for row in first.values()]


def _event(row: Row, today: dict[_Identifier, str | None]) -> Row:
    properties, context = (_json_object(row[name]) for name in ("properties", "context"))
    email = (_text(properties, "userId") or "").strip().lower() or None
    by_caller = today.get((row["workspace_id"], row["identifier_type"], row["identifier"]))
    by_email = today.get((row["workspace_id"], "email", email))
    texts = ("email_id", "campaign_id", "campaign_run_id", "campaign_name", "email_subject", "email_link_url")
    uniques = ("is_unique_open", "is_unique_click")
    return {
        **{name: row[name] for name in ("workspace_id", "message_id", "event", "user_id", "anonymous_id")},
        "timestamp": datetime.fromisoformat(row["timestamp"]),
        "received_at": datetime.fromisoformat(row["received_at"]),
        "email_event": _text(properties, "event"),
        "person_id": by_caller or by_email,
        "email": email,
        **{name: _text(properties, name) for name in texts},
        **{name: value if isinstance(value := properties.get(name), bool) else None for name in uniques},
        **{f"is_{name}": context.get(name) is True for name in ("machine_open", "bot_click", "implied_open")},
        "user_agent": row["context_user_agent"],
        "ip": row["context_ip"],
    }


def _json_object(text: str | None) -> Row:
    value = json.loads(text or "null")
    return value if isinstance(value, dict) else {}


def _text(properties: Row, name: str) -> str | None:
    value = properties.get(name)
    return value if isinstance(value, str) else None if value is None else json.dumps(value)


def _group(events: Iterable[Row], key: Callable[[Row], tuple[Any, ...]]) -> list[list[Row]]:
    groups = defaultdict(list)
    for event in events:
        groups[key(event)].append(event)
    return list(groups.values())


def _run_key(event: Row) -> tuple[Any, ...]:
    run = event["campaign_run_id"]
    return (
        (event["workspace_id"], run, None) if run is not None else (event["workspace_id"], None, event["campaign_id"])
    )


def _link_key(event: Row) -> tuple[Any, ...]:
    return event["email_id"], event["email_link_url"]


def _human(event: Row) -> str:
    names = (event["person_id"], event["email"], event["user_id"], event["anonymous_id"])
    return next(str(name) for name in names if name is not None)


def _latest(events: list[Row], name: str) -> str | None:
    named = [(event["timestamp"], event[name]) for event in events if event[name] is not None]
    return str(max(named)[1]) if named else None


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _run(events: list[Row]) -> Row:
    kinds: dict[str, list[Row]] = {name: [event for event in events if event["event"] == name] for name in EVENTS}
    machine_opens = sum(event["is_machine_open"] for event in kinds[OPENED])
    bot_clicks = sum(event["is_bot_click"] for event in kinds[CLICKED])
    readers = {name: len({(_human(event), event["email_id"]) for event in kinds[name]}) for name in EVENTS}
    delivered = len(kinds[DELIVERED])
    return {
        "workspace_id": events[0]["workspace_id"],
        "campaign_run_id": events[0]["campaign_run_id"],
        "campaign_id": _latest(events, "campaign_id"),
        "campaign_name": _latest(events, "campaign_name"),
        "first_event_at": min(event["timestamp"] for event in events),
        "last_event_at": max(event["timestamp"] for event in events),
        "recipients": len({_human(event) for event in kinds[DELIVERED]}),
        "delivered": delivered,
        "opens": len(kinds[OPENED]),
        "human_opens": len(kinds[OPENED]) - machine_opens,
        "machine_opens": machine_opens,
        "unique_opens": readers[UNIQUE_OPEN],
        "clicks": len(kinds[CLICKED]),
        "human_clicks": len(kinds[CLICKED]) - bot_clicks,
        "bot_clicks": bot_clicks,
        "unique_clicks": len({(_human(event), *_link_key(event)) for event in kinds[UNIQUE_CLICK]}),
        "unique_clickers": readers[UNIQUE_CLICK],
        "unique_clicks_per_unique_open": readers[CLICK_PER_OPEN],
        "bounced": len(kinds[BOUNCED]),
        "reported_as_spam": len(kinds[SPAM]),
        "unsubscribed": len(kinds[UNSUBSCRIBED]),
        "open_rate": _rate(readers[UNIQUE_OPEN], delivered),
        "click_rate": _rate(readers[UNIQUE_CLICK], delivered),
        "click_to_open_rate": _rate(readers[CLICK_PER_OPEN], readers[UNIQUE_OPEN]),
        "bounce_rate": _rate(len(kinds[BOUNCED]), delivered + len(kinds[BOUNCED])),
        "spam_rate": _rate(len(kinds[SPAM]), delivered),
        "unsubscribe_rate": _rate(len(kinds[UNSUBSCRIBED]), delivered),
    }


def _links(events: list[Row]) -> Iterable[Row]:
    for run in _group(events, _run_key):
        uniques = {(_human(event), *_link_key(event)) for event in run if event["event"] == UNIQUE_CLICK}
        for clicks in _group((event for event in run if event["event"] in {CLICKED, UNIQUE_CLICK}), _link_key):
            email, link = _link_key(clicks[0])
            people = {unique for unique in uniques if unique[1:] == (email, link)}
            bots = sum(event["event"] == CLICKED and event["is_bot_click"] for event in clicks)
            total = sum(event["event"] == CLICKED for event in clicks)
            yield {
                "workspace_id": run[0]["workspace_id"],
                "campaign_run_id": run[0]["campaign_run_id"],
                "campaign_id": _latest(run, "campaign_id"),
                "campaign_name": _latest(run, "campaign_name"),
                "email_id": email,
                "email_link_url": link,
                "clicks": total,
                "human_clicks": total - bots,
                "bot_clicks": bots,
                "unique_clicks": len(people),
                "unique_click_share": _rate(len(people), sum(unique[1] == email for unique in uniques)),
                "first_clicked_at": min(event["timestamp"] for event in clicks),
                "last_clicked_at": max(event["timestamp"] for event in clicks),
            }


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(({name: row[name] for name in sorted(row)} for row in rows), key=repr)
