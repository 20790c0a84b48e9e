"""Who gets in: cookies, tokens, and how often one may guess."""

import pytest
from starlette.datastructures import Headers

from services.page.guard import is_same_origin, local_path
from services.page.hold_keys import HOLD_SECONDS, MAX_HELD, HeldKey, HeldKeys
from services.page.sessions import FAILURE_SECONDS, MAX_FAILURES, SESSION_SECONDS, Attempts, Sessions
from tests.factories import NOW, SECOND

TOKEN = "a token of the tests"


class Clock:
    def __init__(self, now: float = 0) -> None:
        self.now = now

    def seconds(self) -> float:
        return self.now

    def micros(self) -> int:
        return NOW + int(self.now * SECOND)


def test_a_session_is_found_until_its_time_is_over() -> None:
    clock = Clock()
    sessions = Sessions(TOKEN, clock.micros)
    cookie = sessions.start()

    clock.now = SESSION_SECONDS
    assert sessions.find(cookie) is not None
    clock.now += 1
    assert sessions.find(cookie) is None


@pytest.mark.parametrize("forged", ["", ".", "a.b.c", "é", "\x00", "." * 500])
def test_what_was_not_signed_is_no_session(forged: str) -> None:
    assert Sessions(TOKEN, Clock().micros).find(forged) is None


def test_a_changed_cookie_is_no_session() -> None:
    sessions = Sessions(TOKEN, Clock().micros)
    cookie = sessions.start()

    for place in range(len(cookie) - 1):  # the last letter of base64 has bits that mean nothing
        changed = cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :]
        assert sessions.find(changed) is None or changed == cookie


def test_another_token_ends_all_sessions() -> None:
    cookie = Sessions(TOKEN, Clock().micros).start()

    assert Sessions(TOKEN, Clock().micros).find(cookie) is not None
    assert Sessions(TOKEN + "!", Clock().micros).find(cookie) is None


def test_a_session_that_was_ended_stays_so() -> None:
    sessions = Sessions(TOKEN, Clock().micros)
    mine, other = sessions.start(), sessions.start()
    session = sessions.find(mine)
    assert session is not None
    sessions.end(session)

    assert sessions.find(mine) is None
    assert sessions.find(other) is not None


def test_each_session_has_a_form_token_of_its_own() -> None:
    sessions = Sessions(TOKEN, Clock().micros)
    first, second = sessions.find(sessions.start()), sessions.find(sessions.start())
    assert first is not None
    assert second is not None

    assert first.form_token != second.form_token
    assert first.session_id not in first.form_token


@pytest.mark.parametrize("text", ["", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "\ud800"])
def test_only_the_token_is_the_token(text: str) -> None:
    sessions = Sessions(TOKEN, Clock().micros)

    assert sessions.is_token(TOKEN)
    assert not sessions.is_token(text)


def test_a_few_attempts_are_free_and_then_one_has_to_wait() -> None:
    clock = Clock()
    attempts = Attempts(clock.seconds)

    assert [attempts.take() for _ in range(MAX_FAILURES)] == [0] * MAX_FAILURES
    assert attempts.take() == pytest.approx(FAILURE_SECONDS)
    clock.now = FAILURE_SECONDS
    assert attempts.take() == 0
    assert attempts.take() > 0


def test_the_right_token_uses_no_attempt_up() -> None:
    attempts = Attempts(Clock().seconds)
    for _ in range(3 * MAX_FAILURES):
        assert attempts.take() == 0
        attempts.give_back()


def test_a_held_key_is_given_once_and_only_to_its_connection() -> None:
    held = HeldKeys(Clock().seconds)
    key = HeldKey("c1", "text")
    ticket = held.hold(key)

    assert held.take(ticket, "c1") == key
    assert held.take(ticket, "c1") is None
    assert held.take(held.hold(key), "c2") is None
    assert held.take("", "c1") is None


def test_a_held_key_is_forgotten() -> None:
    clock = Clock()
    held = HeldKeys(clock.seconds)
    old = held.hold(HeldKey("c1", "text"))
    clock.now = HOLD_SECONDS + 1
    assert held.take(old, "c1") is None

    first, *_, last = [held.hold(HeldKey("c1", "text")) for _ in range(MAX_HELD + 1)]
    assert held.take(first, "c1") is None
    assert held.take(last, "c1") is not None


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://page.example", "host": "page.example"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"origin": "http://page.example", "host": "page.example"}, True),
        ({"origin": "http://evil.example", "host": "page.example"}, False),
        ({"origin": "http://page.example.evil.example", "host": "page.example"}, False),
        ({"origin": "null", "host": "page.example"}, True),
        ({"origin": "http://[", "host": "page.example"}, False),
        ({"origin": "", "host": "page.example"}, False),
        ({"host": "page.example"}, True),
    ],
)
def test_forms_of_other_sites_are_told_by_what_browsers_say(headers: dict[str, str], same: bool) -> None:
    assert is_same_origin(Headers(headers)) is same


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/a\nb", "/\t/e"]
)
def test_a_login_leads_nowhere_else(path: str) -> None:
    assert local_path(path) == "/"


def test_a_login_leads_to_a_path_of_the_page() -> None:
    assert local_path("/connections/c1?period=day") == "/connections/c1?period=day"
