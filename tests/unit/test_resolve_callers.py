from schemas.calls import SegmentCall
from schemas.identity_rules import DEFAULT_RULES, IdentityRules
from tests.factories import NOW, call, identify, parse, sent
from transforms.logic.identify_callers import set_callers
from transforms.logic.resolve_callers import ResolvedCallers, resolve_callers, split_erased


def nobody(call: SegmentCall) -> None:
    return None


def known(call: SegmentCall) -> str | None:
    return f"person of {call.identifier_type} {call.identifier}"


def resolve_known(calls: list[SegmentCall], rules: IdentityRules = DEFAULT_RULES) -> ResolvedCallers:
    set_callers(calls, rules)
    return resolve_callers(calls, known)


def test_a_call_gets_the_person_of_its_strongest_identifier() -> None:
    (resolved,) = resolve_known([call(user_id="u1", email="a@x", anonymous_id="a1")]).calls

    assert (resolved.identifier_type, resolved.identifier) == ("user_id", "u1")
    assert resolved.person_id == "person of user_id u1"


def test_which_identifier_is_strongest_is_a_rule() -> None:
    rules = IdentityRules(priority=("email", "anonymous_id", "user_id"))

    (resolved,) = resolve_known([call(user_id="u1", email="a@x", anonymous_id="a1")], rules).calls

    assert resolved.person_id == "person of email a@x"


def test_a_call_of_nobody_known_is_written_all_the_same() -> None:
    one = call(user_id="null", anonymous_id="a1")
    set_callers([one], DEFAULT_RULES)

    (resolved,) = resolve_callers([one], nobody).calls

    assert (resolved.identifier_type, resolved.identifier, resolved.person_id) == ("anonymous_id", "a1", None)


def test_a_call_whose_identifiers_are_all_blocked_has_none() -> None:
    one = call(user_id="null", anonymous_id="0")
    set_callers([one], DEFAULT_RULES)

    (resolved,) = resolve_callers([one], nobody).calls

    assert (resolved.identifier_type, resolved.identifier) == (None, None)


def test_an_identify_without_an_email_is_rejected() -> None:
    resolved = resolve_callers([identify(email=None)], nobody)

    assert resolved.calls == []
    assert [letter.reason for letter in resolved.dead_letters] == ["identify_without_email"]


def test_an_identify_without_an_email_of_a_known_caller_is_not() -> None:
    """Engage sends such calls."""
    resolved = resolve_known([identify(email=None)])

    assert (len(resolved.calls), resolved.dead_letters) == (1, [])


def test_an_identify_without_an_email_of_a_known_visitor_is_rejected() -> None:
    """It is the userId that has to be known."""
    one = identify("null", None)
    one.anonymous_id = "a1"

    resolved = resolve_known([one])

    assert (resolved.calls, len(resolved.dead_letters)) == ([], 1)


def test_an_identify_with_an_email_needs_no_known_caller() -> None:
    assert resolve_callers([identify(email="a@x")], nobody).dead_letters == []


def test_only_identify_calls_need_an_email() -> None:
    calls = [parse(sent(call_type)) for call_type in ("track", "page", "screen", "group", "alias", "delete")]

    assert resolve_callers(calls, nobody).calls == calls


def test_the_dead_letter_says_whose_message_it_was_and_holds_its_bytes() -> None:
    payload = b'{"type":"identify", "messageId":"m7", "userId":"u1"}'
    one = parse(payload, published_at=NOW, attributes={"workspace_id": "w7", "connection_id": "c7"})

    (letter,) = resolve_callers([one], nobody).dead_letters

    assert letter.payload == payload
    assert (letter.step, letter.rejected_at, letter.type) == ("ResolveIdentities", NOW, "identify")
    assert (letter.workspace_id, letter.connection_id, letter.message_id) == ("w7", "c7", "m7")


def test_every_call_is_in_one_of_both() -> None:
    calls = [call(), identify(), identify(email="a@x")]

    resolved = resolve_callers(calls, nobody)

    assert (len(resolved.calls), len(resolved.dead_letters)) == (2, 1)


ERASED = {"w1": frozenset({("email", "a@x"), ("user_id", "u1"), ("anonymous_id", "old")})}


def test_calls_that_carry_anything_of_who_is_erased_are_taken_out() -> None:
    theirs = [
        call("m1", user_id="u2", email="a@x"),
        call("m2", user_id="u1"),
        call("m3", "alias", user_id="u2", previous_id="u1"),
        call("m4", "alias", user_id="u2", previous_id="old"),
        call("m7", user_id=" A@X "),
    ]
    others = [call("m5", user_id="u2", email="b@x", anonymous_id="u1"), call("m6", user_id="old")]

    split = split_erased([*theirs, *others], ERASED)

    assert (split.erased, split.kept) == (theirs, others)


def test_the_call_that_asks_for_the_erasure_stays() -> None:
    asking = call("m1", "delete", user_id="u1")

    assert split_erased([asking], ERASED).kept == [asking]


def test_who_is_erased_in_one_workspace_is_not_in_another() -> None:
    assert split_erased([call(user_id="u1", workspace_id="w2")], ERASED).erased == []
