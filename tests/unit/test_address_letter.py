"""A dead letter as a Pub/Sub message: whatever arrived must be fit to be published again."""

from apache_beam.io.gcp.pubsub import PubsubMessage

from pipelines.write_dead_letters import MAX_ATTRIBUTES, address_letter
from schemas.rejections import DeadLetter, Reason, Rejected
from tests.factories import dead_letter


def letter(payload: bytes = b"{", attributes: dict[str, str] | None = None) -> DeadLetter:
    return dead_letter(payload, Rejected(Reason.BAD_REQUEST, "no JSON"), attributes=attributes or {})


def test_the_bytes_and_the_attributes_stay_and_the_reason_is_added() -> None:
    data, attributes = address_letter(letter(b"\xff{", {"connection_id": "c1", "mine": "1"}))

    assert data == b"\xff{"
    assert attributes == {
        "connection_id": "c1",
        "mine": "1",
        "workspace_id": "w1",
        "dead_letter_step": "ParseCalls",
        "dead_letter_reason": "bad_request",
        "dead_letter_detail": "no JSON",
    }


def test_a_message_with_as_many_attributes_as_pubsub_takes_can_be_published() -> None:
    sent = {f"k{number:02}": "v" * 1024 for number in range(98)} | {"received_at": "2026-01-01", "connection_id": "c1"}

    data, attributes = address_letter(letter(attributes=sent))

    assert PubsubMessage(data, attributes)._to_proto_str(for_publish=True)
    assert len(attributes) == MAX_ATTRIBUTES
    assert attributes["dead_letter_reason"] == "bad_request"
    assert (attributes["received_at"], attributes["connection_id"]) == ("2026-01-01", "c1")


def test_attributes_that_only_pubsub_may_set_are_left_out() -> None:
    _, attributes = address_letter(letter(attributes={"googclient_schemaencoding": "JSON"}))

    assert not [name for name in attributes if name.startswith("goog")]


def test_a_detail_is_cut_between_characters() -> None:
    verdict = Rejected(Reason.BAD_REQUEST, "x" + "é" * 1000)

    _, attributes = address_letter(dead_letter(b"{", verdict))

    assert attributes["dead_letter_detail"] == "x" + "é" * 511


def test_a_payload_over_the_limit_is_cut_and_says_so() -> None:
    sent = {f"{number:0256}": "v" * 1024 for number in range(99)}

    data, attributes = address_letter(letter(b"x" * 11_000_000, sent))

    assert PubsubMessage(data, attributes)._to_proto_str(for_publish=True)
    assert data == b"x" * len(data)
    assert attributes["dead_letter_payload_bytes"] == "11000000"
