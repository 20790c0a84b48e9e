"""What dead letters are sent again with, as the de-duplication sees it."""

from datetime import UTC, datetime
from typing import Any

from scripts.replay_dead_letters import replay_attributes
from tests.factories import line_of, parse
from transforms.logic.drop_repeats import message_key

PAYLOAD = line_of("identify", traits={"email": "ann@example.com"})


def letter(step: str, **fields: Any) -> dict[str, Any]:
    of_message = {"payload": PAYLOAD, "message_id": "m1", "workspace_id": "w1", "connection_id": "c1"}
    return {"step": step, "rejected_at": datetime(2026, 1, 1, tzinfo=UTC), "attributes": {}} | of_message | fields


def known_by(attributes: dict[str, str]) -> bytes:
    """What de-duplication knows the message by that is sent with these attributes."""
    return message_key(parse(PAYLOAD, attributes=attributes))


FIRST_DELIVERY = known_by({"workspace_id": "w1"})


def replayed(step: str, **fields: Any) -> bytes:
    return known_by(replay_attributes(letter(step, **fields)))


def test_a_message_that_was_never_remembered_is_the_message_itself() -> None:
    late = datetime(2026, 1, 2, tzinfo=UTC)

    assert replayed("ParseCalls") == replayed("ParseCalls", rejected_at=late) == FIRST_DELIVERY


def test_a_message_that_is_remembered_is_another_delivery_once() -> None:
    late = datetime(2026, 1, 2, tzinfo=UTC)
    again = replayed("ResolveIdentities")

    assert again != FIRST_DELIVERY
    assert replayed("ResolveIdentities", rejected_at=late, connection_id="c2", payload=PAYLOAD + b" ") == again
    assert replayed("ResolveIdentities", attributes='{"source": "web"}') == again


def test_each_message_has_a_delivery_of_its_own() -> None:
    attributes = [
        replay_attributes(letter("ResolveIdentities", **fields))["replay"]
        for fields in (
            {},
            {"message_id": "m2"},
            {"workspace_id": "w2"},
            {"message_id": None},
            {"message_id": None, "payload": b"{}"},
        )
    ]

    assert len(set(attributes)) == len(attributes)


def test_a_replay_that_is_rejected_again_is_one_more_delivery() -> None:
    first = replay_attributes(letter("ResolveIdentities"))
    second = replay_attributes(letter("ResolveIdentities", attributes=first))

    assert len({FIRST_DELIVERY, known_by(first), known_by(second)}) == 3
    assert replay_attributes(letter("ResolveIdentities", attributes=first)) == second
    assert replay_attributes(letter("ParseCalls", attributes=first)) == first  # it did not come so far
