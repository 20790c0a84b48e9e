"""The page from outside: who gets what, and what it says."""

import asyncio
import base64
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from schemas.connections import ConnectionKind
from services.connection_store import ConnectionStore
from services.manage_connections import RefusedConnectionError, create_connection, revoke_keys
from services.page.fold_traffic import Fact, Traffic
from services.page.guard import CSP
from services.page.hold_keys import HOLD_SECONDS
from services.page.judge_status import RecentTraffic
from services.page.read_form import MAX_FORM_BYTES
from services.page.read_statistics import Sample
from services.page.sessions import MAX_FAILURES, SESSION_SECONDS
from services.secret_store import WRITE_KEY_SECRET, signing_secret_name
from tests.factories import HOUR, NOW, SECOND
from tests.unit.page_parts import TOKEN, PageForTests

PATHS = [
    "/",
    "/connections/new",
    "/connections/c1",
    "/connections/c1/key",
    "/connections/c1/revoke",
    "/unknown",
    "/source",
]
POSTS = ["/connections/new", "/connections/c1/rotate", "/connections/c1/revoke", "/source", "/logout"]
NASTY = "<script>alert(1)</script>'; DROP TABLE counts; --"


@pytest.fixture
def page(tmp_path: Path) -> PageForTests:
    return PageForTests(tmp_path / "secrets")


@pytest.fixture
def inside(page: PageForTests) -> PageForTests:
    """Logged in, with a connection c1 whose key nobody has."""
    add(page.store)
    assert page.log_in() == 303
    return page


def add(store: ConnectionStore, connection_id: str = "c1", name: str = "Web shop", **settings: str) -> None:
    kind = ConnectionKind(settings.get("kind", "segment"))
    create_connection(store, name, "acme", kind, NOW - HOUR, connection_id=connection_id)


def day(messages: int, rejected: int = 0) -> Traffic:
    return Traffic([0] * 23 + [messages], messages, rejected)


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_without_a_session_every_page_leads_to_the_login(page: PageForTests, path: str) -> None:
    answer = page.browser.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    assert answer.text == ""


@pytest.mark.parametrize("path", [*POSTS, "/nothing"])
def test_without_a_session_no_form_is_taken(page: PageForTests, path: str) -> None:
    assert page.browser.post(path, data={"form_token": "x"}).status_code == 401
    assert page.browser.ask("DELETE", path).status_code == 401


def test_health_needs_no_session(page: PageForTests) -> None:
    assert page.browser.get("/health").text == "alive"


@pytest.mark.parametrize("path", [*PATHS, "/login", "/health", "/nothing", "/static/page.css", "/static/../app.py"])
def test_every_answer_says_what_browsers_may_do(inside: PageForTests, path: str) -> None:
    headers = inside.browser.get(path).headers

    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-cache" if path == "/static/page.css" else "no-store")


@pytest.mark.parametrize("path", PATHS)
def test_no_page_has_a_script_or_a_style_within(inside: PageForTests, path: str) -> None:
    text = inside.browser.get(path).text

    assert re.findall(r"<style|style=|<script(?! src=\"/static/)|\son\w+=|javascript:", text) == []


def test_the_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(page: PageForTests) -> None:
    cookie = page.browser.post("/login", data={"token": TOKEN}).headers["set-cookie"]

    assert {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"} <= set(cookie.lower().split("; "))
    assert "secure" not in cookie.lower()


def test_by_https_the_cookie_is_for_this_host_and_https_only(tmp_path: Path) -> None:
    page = PageForTests(tmp_path, is_https=True)
    answer = page.browser.post("/login", data={"token": TOKEN})

    assert answer.headers["set-cookie"].startswith("__Host-connections-session=")
    assert "secure" in answer.headers["set-cookie"].lower().split("; ")
    assert "max-age" in answer.headers["strict-transport-security"]
    assert page.browser.get("/").status_code == 200


def test_a_session_ends_after_twelve_hours_whatever_was_done(inside: PageForTests) -> None:
    for _ in range(12):
        inside.now += HOUR
        assert inside.browser.get("/").status_code == 200
    inside.now += SECOND

    assert inside.browser.get("/").status_code == 303


def test_a_wrong_token_opens_nothing(page: PageForTests) -> None:
    answer = page.browser.post("/login", data={"token": "a token of the guests"})

    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "That is not the admin token." in answer.text


def test_after_a_few_wrong_tokens_one_has_to_wait(page: PageForTests) -> None:
    assert [page.log_in(f"wrong {number}") for number in range(MAX_FAILURES)] == [401] * MAX_FAILURES
    answer = page.browser.post("/login", data={"token": TOKEN})
    assert answer.status_code == 429
    page.now += int(answer.headers["retry-after"]) * SECOND

    assert page.log_in() == 303


def test_the_right_token_can_be_used_as_often_as_one_likes(page: PageForTests) -> None:
    assert [page.log_in() for _ in range(2 * MAX_FAILURES)] == [303] * 2 * MAX_FAILURES


def test_a_login_leads_to_what_was_asked_for(inside: PageForTests) -> None:
    inside.browser.cookies.clear()
    there = inside.browser.get("/connections/c1?period=day").headers["location"]
    form = inside.browser.get(there).text
    assert 'name="next" value="/connections/c1?period=day"' in form

    answer = inside.browser.post("/login", data={"token": TOKEN, "next": "/connections/c1?period=day"})
    assert answer.headers["location"] == "/connections/c1?period=day"
    answer = inside.browser.post("/login", data={"token": TOKEN, "next": "//evil.example"})
    assert answer.headers["location"] == "/"


def test_after_logging_out_the_cookie_opens_nothing(inside: PageForTests) -> None:
    cookie = inside.browser.cookies["connections-session"]
    inside.browser.post("/logout", data={"form_token": inside.read_form_token()})

    assert inside.browser.get("/", headers={"cookie": f"connections-session={cookie}"}).status_code == 303


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("token", [{}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": "é"}])
def test_a_form_without_the_sessions_token_changes_nothing(
    inside: PageForTests, path: str, token: dict[str, str]
) -> None:
    before = len(inside.store.changes)
    answer = inside.browser.post(path, data={"name": "x", "kind": "segment", "keep": "0", "write_key": "k", **token})

    assert answer.status_code == 403
    assert len(inside.store.changes) == before
    assert inside.secrets.read(WRITE_KEY_SECRET) is None
    assert inside.browser.get("/").status_code == 200


@pytest.mark.parametrize("path", [*POSTS, "/login"])
def test_a_form_of_another_site_changes_nothing(inside: PageForTests, path: str) -> None:
    form = {"form_token": inside.read_form_token(), "keep": "0", "write_key": "k", "token": TOKEN}

    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert inside.browser.post(path, data=form, headers=headers).status_code == 403


@pytest.mark.parametrize("path", ["/login", "/source"])
def test_a_large_form_is_refused(inside: PageForTests, path: str) -> None:
    assert inside.browser.post(path, data={"token": "x" * MAX_FORM_BYTES}).status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"\xff", b"token=%ed%a0%80", b"--x\r\n"],
    ids=["no text", "half an emoji", "multipart"],
)
def test_what_is_no_form_of_ours_is_refused_and_no_bug(page: PageForTests, body: bytes) -> None:
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x; charset=undefined"):
        answer = page.browser.post("/login", content=body, headers={"Content-Type": kind})

        assert answer.status_code in (400, 401)
        assert answer.headers["content-security-policy"] == CSP


def test_who_leaves_in_the_middle_of_a_form_is_no_bug(page: PageForTests, caplog: pytest.LogCaptureFixture) -> None:
    answered: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def keep(message: Any) -> None:
        answered.append(message)

    scope = {"type": "http", "method": "POST", "scheme": "http", "path": "/login", "query_string": b"", "headers": []}

    async def leave() -> None:
        await page.browser.app(scope, receive, keep)

    asyncio.run(leave())

    assert answered[0]["status"] == 400
    assert caplog.records == []


def test_an_empty_page_tells_how_to_make_the_first_connection(page: PageForTests) -> None:
    page.log_in()

    assert "No connection yet" in page.browser.get("/").text


def test_rows_of_the_list_add_up_to_its_last_line(inside: PageForTests) -> None:
    inside.statistics.day = {"c1": day(1200, 30), "": day(34), "gone": day(5, 5)}
    text = inside.browser.get("/").text

    assert re.findall(r"<b>([\d,]+)</b>", text) == ["1,200", "34", "5"]
    assert "1,239" in text
    assert "No connection named" in text
    assert text.index("Web shop") < text.index("No connection named") < text.index(">gone<")


def test_many_unknown_ids_are_one_row_and_still_add_up(inside: PageForTests) -> None:
    inside.statistics.day = {f"unknown{number}": day(100 + number) for number in range(30)}
    text = inside.browser.get("/").text

    assert "10 more" in text
    assert f"{sum(range(100, 110)):,}" in text
    assert f"{sum(range(100, 130)):,}" in text


def test_nothing_in_the_counts_is_taken_for_markup(inside: PageForTests) -> None:
    add(inside.store, "c2", NASTY)
    inside.statistics.day = {NASTY: day(3)}
    inside.statistics.recent = {NASTY: RecentTraffic(NOW, 3, 3)}
    inside.statistics.facts = [Fact(0, NASTY, "rejected", NASTY, 3), Fact(0, "track", NASTY, "", 1)]
    inside.statistics.samples = {NASTY: Sample(NASTY, NOW, NASTY, 9, f'{{"{NASTY}": 1}}'.encode())}
    (link,) = re.findall(r'href="(/unknown\?[^"]+)"', inside.browser.get("/").text)

    for path in ("/", "/connections/c2", "/connections/c2/revoke", link, f"/unknown?connection_id={NASTY}"):
        text = inside.browser.get(path).text
        assert "<script>alert" not in text, path
        assert "&lt;script&gt;alert(1)" in text, path


def test_a_page_says_how_the_messages_of_a_period_ended(inside: PageForTests) -> None:
    inside.statistics.recent = {"c1": RecentTraffic(NOW, 1000, 370)}
    inside.statistics.facts = [
        Fact(0, "track", "written", "", 600),
        Fact(1, "page", "duplicate", "", 20),
        Fact(2, "track", "suppressed", "", 10),
        Fact(3, "identify", "rejected", "identify_without_email", 370),
    ]
    payload = b'{"type": "identify", "userId": "u1", "traits": {"email": "ann@example.com"}}'
    inside.statistics.samples = {"identify_without_email": Sample("ParseCalls", NOW, "no email", len(payload), payload)}
    text = inside.browser.get("/connections/c1").text
    numbers = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", text))

    assert "Rejecting: 37 % of the last hour’s calls" in text
    assert {name: numbers[name] for name in ("Calls in all", "Accepted", "Duplicates", "Rejected", "Suppressed")} == {
        "Calls in all": "1,000",
        "Accepted": "600",
        "Duplicates": "20",
        "Rejected": "370",
        "Suppressed": "10",
    }
    assert (numbers["People known"], numbers["Groups known"]) == ("12", "3")
    assert "send the email as a trait" in text
    assert "&#34;traits&#34;: {" in text
    assert "ann@example.com" not in text
    assert "‹email›" in text


def test_a_long_sample_is_not_shown(inside: PageForTests) -> None:
    inside.statistics.facts = [Fact(0, "track", "rejected", "too_large", 1)]
    inside.statistics.samples = {"too_large": Sample("ParseCalls", NOW, "", 5_000_000, None)}

    assert "‹5,000,000 bytes, too many to show›" in inside.browser.get("/connections/c1").text


@pytest.mark.parametrize(("period", "unit"), [("hour", "one minute"), ("day", "15 minutes"), ("week", "2 hours")])
def test_a_bar_says_what_it_stands_for(inside: PageForTests, period: str, unit: str) -> None:
    inside.statistics.facts = [Fact(0, "track", "written", "", 1)]

    assert f"A bar is {unit}" in inside.browser.get(f"/connections/c1?period={period}").text


@pytest.mark.parametrize("path", ["/connections/nobody", "/connections/nobody/revoke", "/connections/nobody/key", "/x"])
def test_what_is_not_there_is_404(inside: PageForTests, path: str) -> None:
    assert inside.browser.get(path).status_code == 404


@pytest.mark.parametrize("period", ["", "year", "'"])
def test_a_period_that_is_none_is_the_last_hour(inside: PageForTests, period: str) -> None:
    assert 'period=hour" aria-current="page"' in inside.browser.get(f"/connections/c1?period={period}").text


def make_verification_key() -> str:
    """A public key as SendGrid shows it."""
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return base64.b64encode(public_key.public_bytes(*form)).decode()


def new(page: PageForTests, **fields: str) -> str:
    """What comes of the form for a connection: where it leads, or the page."""
    form = {"name": "Shop", "workspace_id": "acme", "kind": "segment", "calls_per_second": "50", **fields}
    answer = page.browser.post("/connections/new", data={"form_token": page.read_form_token(), **form})
    return answer.headers.get("location") or answer.text


def test_a_new_connection_shows_its_key_once(inside: PageForTests) -> None:
    there = new(inside)
    connection = inside.store.load()[there.split("/")[2]]
    first, second = inside.browser.get(there), inside.browser.get(there)
    (key,) = set(re.findall(r"sw_[0-9a-f]{12}_[\w-]{43}", first.text))

    assert (connection.name, connection.workspace_id, connection.calls_per_second) == ("Shop", "acme", 50)
    assert connection.keys[0].key_id in key
    assert (first.status_code, second.status_code) == (200, 410)
    assert key not in second.text
    assert all(word in first.text for word in ("analytics.write_key", "writeKey", "apiHost", "curl", "/hooks/segment"))
    assert len(inside.store.load()) == 2


def test_a_look_from_afar_does_not_take_the_key(inside: PageForTests) -> None:
    there = new(inside)
    inside.browser.ask("HEAD", there)
    elsewhere = there.replace(there.split("/")[2], "c1")
    assert inside.browser.get(there).status_code == 200

    there = new(inside)
    elsewhere = f"/connections/c1/key?{there.partition('?')[2]}"
    assert inside.browser.get(elsewhere).status_code == 410


def test_a_key_that_nobody_looked_at_is_forgotten(inside: PageForTests) -> None:
    there = new(inside)
    inside.now += int(HOLD_SECONDS + 1) * SECOND

    assert inside.browser.get(there).status_code == 410


def test_what_signatures_are_checked_with_is_kept_by_kind(inside: PageForTests) -> None:
    key = make_verification_key()
    topic = "arn:aws:sns:eu-west-1:123456789012:email-events"
    all_fields = {"verification_key": key, "topic_arn": topic, "signing_secret": "s3cret"}
    made = {}
    for kind in ("segment", "sendgrid", "mailgun", "postmark", "amazon_ses"):
        there = new(inside, kind=kind, **all_fields)
        made[kind] = inside.store.load()[there.split("/")[2]]
        assert "s3cret" not in inside.browser.get(there).text

    assert [kind for kind, each in made.items() if each.verification_key == key] == ["sendgrid"]
    assert [kind for kind, each in made.items() if each.topic_arn == topic] == ["amazon_ses"]
    assert [kind for kind, each in made.items() if each.secret_kept_at] == ["segment", "mailgun"]
    secrets = {kind: inside.secrets.read(signing_secret_name(each.connection_id)) for kind, each in made.items()}
    assert [kind for kind, secret in secrets.items() if secret == "s3cret"] == ["segment", "mailgun"]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 81},
        {"kind": "carrier pigeon"},
        {"workspace_id": ""},
        {"calls_per_second": "0"},
        {"calls_per_second": "many"},
        {"calls_per_second": "²"},
        {"kind": "sendgrid", "verification_key": "no key"},
        {"kind": "amazon_ses", "topic_arn": "no topic"},
        {"signing_secret": "a\x00b"},
    ],
)
def test_what_cannot_be_a_connection_is_said_and_not_made(inside: PageForTests, fields: dict[str, str]) -> None:
    text = new(inside, **fields)

    assert 'role="alert"' in text
    assert len(inside.store.load()) == 1
    if "name" not in fields:
        assert 'value="Shop"' in text


def test_the_address_of_the_form_is_no_connections_id(inside: PageForTests) -> None:
    with pytest.raises(RefusedConnectionError):
        add(inside.store, "new")


def test_a_rotation_makes_a_key_and_ends_the_others_as_chosen(inside: PageForTests) -> None:
    form = {"form_token": inside.read_form_token(), "keep": "3600"}
    there = inside.browser.post("/connections/c1/rotate", data=form).headers["location"]
    old, new_key = inside.store.load()["c1"].keys

    assert new_key.key_id in inside.browser.get(there).text
    assert (old.expires_at, new_key.expires_at) == (NOW + HOUR, None)
    assert inside.browser.post("/connections/c1/rotate", data={**form, "keep": "1"}).status_code == 400
    assert inside.browser.post("/connections/c9/rotate", data=form).status_code == 400


def test_a_key_is_revoked_after_a_question(inside: PageForTests) -> None:
    (key,) = inside.store.load()["c1"].keys
    question = inside.browser.get(f"/connections/c1/revoke?key={key.key_id}").text
    assert key.key_id in question
    assert "It is the last valid key" in question
    assert inside.store.load()["c1"].keys[0].is_valid(NOW)

    form = {"form_token": inside.read_form_token(), "key": key.key_id}
    assert inside.browser.post("/connections/c1/revoke", data=form).status_code == 303
    assert not inside.store.load()["c1"].keys[0].is_valid(NOW)
    assert "Revoked: no key opens the door" in inside.browser.get("/connections/c1").text
    assert "Nothing to revoke" in inside.browser.get("/connections/c1/revoke").text


def test_a_key_that_is_none_revokes_nothing(inside: PageForTests) -> None:
    form = {"form_token": inside.read_form_token(), "key": "0123456789ab"}

    assert inside.browser.post("/connections/c1/revoke", data=form).status_code == 400
    assert inside.store.load()["c1"].keys[0].is_valid(NOW)


def test_revoked_connections_stand_below_the_others(inside: PageForTests) -> None:
    add(inside.store, "c2", "Younger")
    revoke_keys(inside.store, "c1", NOW)
    text = inside.browser.get("/").text

    assert text.index("Younger") < text.index("Web shop")


def test_the_write_key_goes_in_and_does_not_come_out(inside: PageForTests) -> None:
    assert "No write key is kept yet" in inside.browser.get("/source").text
    form = {"form_token": inside.read_form_token(), "write_key": " wk-123 "}
    there = inside.browser.post("/source", data=form).headers["location"]
    text = inside.browser.get(there).text

    assert inside.secrets.read(WRITE_KEY_SECRET) == "wk-123"
    assert "The key is kept." in text
    assert "wk-123" not in text


@pytest.mark.parametrize("key", ["", "two words", "é", "a\nb", "x" * 201])
def test_what_is_no_write_key_is_not_kept(inside: PageForTests, key: str) -> None:
    answer = inside.browser.post("/source", data={"form_token": inside.read_form_token(), "write_key": key})

    assert answer.status_code == 400
    assert inside.secrets.read(WRITE_KEY_SECRET) is None


def test_the_source_page_names_the_secret_for_the_pipeline(tmp_path: Path) -> None:
    page = PageForTests(tmp_path, secrets_at="projects/p")
    page.log_in()

    assert "--segment_write_key_secret projects/p/secrets/segment-write-key" in page.browser.get("/source").text


@pytest.mark.parametrize("path", ["/", "/connections/c1", "/unknown"])
def test_without_bigquery_the_page_says_so_and_what_to_do(inside: PageForTests, path: str) -> None:
    inside.statistics.is_away = True
    answer = inside.browser.get(path)

    assert answer.status_code == 503
    assert "BigQuery does not answer for p.d (ServiceUnavailable): try again." in answer.text
    assert "Traceback" not in answer.text

    inside.statistics.is_away, inside.store.is_away = False, True
    answer = inside.browser.get(path)
    assert answer.status_code == 503
    assert "do something." in answer.text


def test_a_mistake_of_ours_shows_nothing_of_itself(inside: PageForTests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside.store, "load", lambda: 1 // 0)
    answer = inside.browser.get("/")

    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert answer.headers["content-security-policy"] == CSP
