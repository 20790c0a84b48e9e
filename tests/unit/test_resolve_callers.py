from tests.factories import NOW, call, identify, parse, sent
from transforms.logic.resolve_callers import resolve_callers


def nobody(identifier_type: str | None, identifier: str | None) -> None:
    return None


def known(identifier_type: str | None, identifier: str | None) -> str | None:
    return f"person of {identifier_type} {identifier}"


def test_a_call_gets_the_person_of_its_strongest_identifier() -> None:
    (resolved,) = resolve_callers([call(user_id="u1", email="a@x", anonymous_id="a1")], known).calls

    assert (resolved.identifier_type, resolved.identifier) == ("user_id", "u1")
    assert resolved.person_id == "person of user_id u1"


def test_a_call_of_nobody_known_is_written_all_the_same() -> None:
    (resolved,) = resolve_callers([call(user_id="null", anonymous_id="a1")], nobody).calls

    assert (resolved.identifier_type, resolved.identifier, resolved.person_id) == ("anonymous_id", "a1", None)


def test_a_call_whose_identifiers_are_all_blocked_has_none() -> None:
    (resolved,) = resolve_callers([call(user_id="null", anonymous_id="0")], nobody).calls

    assert (resolved.identifier_type, resolved.identifier) == (None, None)


def test_an_identify_without_an_email_is_rejected() -> None:
    resolved = resolve_callers([identify(email=None)], nobody)

    assert resolved.calls == []
    assert [letter.reason for letter in resolved.dead_letters] == ["identify_without_email"]


def test_an_identify_without_an_email_of_a_known_caller_is_not() -> None:
    """Engage sends such calls."""
    resolved = resolve_callers([identify(email=None)], known)

    assert (len(resolved.calls), resolved.dead_letters) == (1, [])


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
