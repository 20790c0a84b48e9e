"""Whose calls are dropped after an erasure, and nobody else's."""

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.calls import CallType, SegmentCall
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from tests.factories import call
from transforms.logic.suppress_calls import (
    KEY_BYTES,
    SuppressedIdentifiers,
    find_carried,
    hash_identifier,
    suppressed_keys,
    suppression_key,
)

many = settings(max_examples=300)

IDS = ("u1", "U1", "a1", "ann@x.io", " Ann@X.io", "bo@x.io", "null")
EMAILS = ("ann@x.io", "bo@x.io")
TYPES = ("user_id", "anonymous_id", "email")

identifiers = st.tuples(st.sampled_from(("w1", "w2")), st.sampled_from(TYPES), st.sampled_from(IDS))
calls = st.lists(
    st.builds(
        lambda workspace_id, call_type, user_id, anonymous_id, email, previous_id, context_email: call(
            "m1",
            call_type,
            workspace_id=workspace_id,
            user_id=user_id,
            anonymous_id=anonymous_id,
            email=email,
            previous_id=previous_id,
            context_email=context_email,
        ),
        st.sampled_from(("w1", "w2")),
        st.sampled_from(("track", "identify", "alias", "delete", "suppress")),
        st.none() | st.sampled_from(IDS),
        st.none() | st.sampled_from(IDS),
        st.none() | st.sampled_from(EMAILS),
        st.none() | st.sampled_from(IDS),
        st.none() | st.sampled_from(EMAILS),
    ),
    max_size=8,
)


def suppress(*suppressed: tuple[str, str, str]) -> SuppressedIdentifiers:
    """What knows these identifiers: workspace, type and value."""
    known = SuppressedIdentifiers()
    known.learn(suppression_key(workspace_id, hash_identifier(workspace_id, *one)) for workspace_id, *one in suppressed)
    return known


def is_dropped(one: SegmentCall, *suppressed: tuple[str, str, str]) -> bool:
    kept, dropped = suppress(*suppressed).drop_carriers([one])

    assert kept + dropped == [one]
    return bool(dropped)


def carries(one: SegmentCall, identifier_type: str, identifier: str) -> bool:
    """Said without the code: whether the call carries the identifier anywhere."""
    same: dict[str, Callable[[Any], bool]] = {
        "user_id": lambda _: identifier in (one.user_id, one.previous_id),
        "anonymous_id": lambda _: identifier in (one.anonymous_id, one.previous_id),
        "email": lambda email: (
            email
            in (one.email, *(str(other).strip().lower() for other in (one.user_id, one.anonymous_id, one.previous_id)))
            or email == one.context_email
        ),
    }
    return same[identifier_type](identifier.strip().lower())


@many
@given(calls, st.lists(identifiers, max_size=3))
def test_exactly_the_calls_that_carry_a_suppressed_identifier_are_dropped(
    arrived: list[SegmentCall], suppressed: list[tuple[str, str, str]]
) -> None:
    suppressed = [one for one in suppressed if one[1] != "email" or "@" in one[2]]  # what is no email is none
    kept, dropped = suppress(*suppressed).drop_carriers(arrived)

    def expected(one: SegmentCall) -> bool:
        return one.type not in ("delete", "suppress") and any(
            one.workspace_id == workspace_id and carries(one, *identifier) for workspace_id, *identifier in suppressed
        )

    assert dropped == [one for one in arrived if expected(one)]
    assert kept == [one for one in arrived if not expected(one)]


@pytest.mark.parametrize(
    ("identifier_type", "identifier", "fields"),
    [
        ("user_id", "u7", {"user_id": "u7"}),
        ("anonymous_id", "a7", {"anonymous_id": "a7"}),
        ("email", "ann@x.io", {"email": "ann@x.io"}),
        ("email", "ann@x.io", {"user_id": " Ann@X.io", "email": "other@x.io"}),
        ("email", "ann@x.io", {"email": "other@x.io", "context_email": "ann@x.io"}),
        ("user_id", "u7", {"previous_id": "u7"}),
        ("anonymous_id", "a7", {"previous_id": "a7"}),
        ("email", "ann@x.io", {"previous_id": "ann@x.io"}),
        ("email", "ann@x.io", {"anonymous_id": "Ann@x.io"}),
    ],
)
def test_a_call_is_dropped_wherever_the_identifier_stands(
    identifier_type: str, identifier: str, fields: dict[str, Any]
) -> None:
    assert is_dropped(call(**fields), ("w1", identifier_type, identifier))
    assert not is_dropped(call(**fields), ("w2", identifier_type, identifier))
    assert not is_dropped(call(**fields), ("w1", identifier_type, identifier + "8"))


def test_a_user_id_is_no_anonymous_id() -> None:
    assert not is_dropped(call(user_id="x", anonymous_id="y"), ("w1", "anonymous_id", "x"), ("w1", "user_id", "y"))


@pytest.mark.parametrize("call_type", ["delete", "suppress"])
def test_what_asks_for_an_erasure_is_never_dropped(call_type: str) -> None:
    assert not is_dropped(call(call_type=call_type, user_id="u7"), ("w1", "user_id", "u7"))


def test_the_hash_is_that_of_the_documentation() -> None:
    assert hash_identifier("w1", "user_id", "U1") == sha256(b"w1\nuser_id\nU1").hexdigest()
    assert hash_identifier("w1", "email", " Ann@X.io\n") == sha256(b"w1\nemail\nann@x.io").hexdigest()


@many
@given(st.sets(identifiers, min_size=2))
def test_different_identifiers_have_different_hashes(some: set[tuple[str, str, str]]) -> None:
    def normalised(one: tuple[str, str, str]) -> tuple[str, str, str]:
        return (*one[:2], one[2].strip().lower() if one[1] == "email" else one[2])

    assert len({hash_identifier(*one) for one in some}) == len(set(map(normalised, some)))


def test_a_hash_of_another_workspace_suppresses_nothing_here() -> None:
    """Whoever may send messages for w2 knows how to hash an identifier of w1."""
    known = SuppressedIdentifiers()
    known.learn([suppression_key("w2", hash_identifier("w1", "user_id", "u1"))])

    assert known.drop_carriers([call(user_id="u1")])[1] == []


# What a message suppresses


def keys(*of: tuple[str, str]) -> set[bytes]:
    return {suppression_key("w1", hash_identifier("w1", *one)) for one in of}


def test_a_delete_call_suppresses_whom_it_counts_for() -> None:
    one = call(call_type="delete", user_id="u1", anonymous_id="a1", email="ann@x.io")

    assert set(suppressed_keys(one, DEFAULT_RULES)) == keys(("user_id", "u1"))


def test_a_delete_call_does_not_suppress_what_identifies_nobody() -> None:
    one = call(call_type="delete", user_id="NULL", anonymous_id="a1")

    assert set(suppressed_keys(one, DEFAULT_RULES)) == keys(("anonymous_id", "a1"))
    assert suppressed_keys(one, IdentityRules(blocked_values=("null", "a1"))) == []


def test_a_suppress_message_suppresses_its_hash() -> None:
    one = call(call_type=CallType.SUPPRESS, user_id=None, identifier_hash=hash_identifier("w1", "user_id", "u1"))

    assert set(suppressed_keys(one, DEFAULT_RULES)) == keys(("user_id", "u1"))


# What is remembered


def test_the_log_rebuilds_what_was_learned() -> None:
    known = SuppressedIdentifiers()
    logs = [known.learn(keys(("user_id", f"u{start}"), ("user_id", f"u{start + 1}"))) for start in (1, 2, 3)]
    rebuilt = SuppressedIdentifiers()
    rebuilt.replay(logs)

    arrived = [call(user_id=f"u{number}") for number in range(6)]

    assert rebuilt.drop_carriers(arrived) == known.drop_carriers(arrived)
    assert [one.user_id for one in rebuilt.drop_carriers(arrived)[1]] == ["u1", "u2", "u3", "u4"]


def test_what_is_known_is_not_logged_again() -> None:
    known = SuppressedIdentifiers()

    assert len(known.learn(keys(("user_id", "u1"), ("user_id", "u2")))) == 2 * KEY_BYTES
    assert len(known.learn(keys(("user_id", "u1"), ("user_id", "u3")))) == KEY_BYTES
    assert known.learn([]) == b""


def test_nothing_is_hashed_while_nothing_is_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(one: SegmentCall) -> Iterable[tuple[str, str]]:
        raise AssertionError

    monkeypatch.setattr("transforms.logic.suppress_calls.find_carried", refuse)
    arrived = [call(), call(user_id="u2")]

    assert SuppressedIdentifiers().drop_carriers(arrived) == (arrived, [])


def test_a_call_without_identifiers_carries_none() -> None:
    assert list(find_carried(call(user_id=None))) == []
