"""What counts as what, by which words."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_logs import LogLine
from schemas.email_outcomes import OUTCOME_OF_STEP, EmailOutcome, EmailOutcomeKey, email_outcome_key
from schemas.messages import Message
from schemas.rejections import DeadLetter
from tests.factories import MINUTE, NOW, json_of
from tests.unit.email_histories import line
from transforms.logic.count_email_outcomes import count_delivered, count_email_letter, count_repeats, name_call
from transforms.logic.email_logs.name_event import name_event
from transforms.logic.email_logs.parse_email_logs import parse_email_logs

GOLDEN = Path(__file__).parent.parent / "golden"


def delivered(kind: str = "Email Opened", workspace_id: str = "w1", connection_id: str | None = "c1") -> EmailCall:
    return EmailCall(kind, line(workspace_id=workspace_id, connection_id=connection_id), None, NOW)


def letter(payload: bytes, step: str = "ParseEmailLogs", reason: str = "unknown_event") -> DeadLetter:
    return DeadLetter(payload, step, reason, "", NOW + 1, "w1", "c1")


def sendgrid(event: object, **fields: object) -> bytes:
    return json.dumps({"event": event, "sg_event_id": "s1", **fields}).encode()


def test_delivered_calls_are_counted_by_workspace_connection_and_event_in_the_minute_of_the_delivery() -> None:
    calls = [delivered(), delivered(), delivered("identify", connection_id=None), delivered(workspace_id="w2")]

    assert count_delivered(calls, EmailOutcome.SENT, NOW + MINUTE - 1) == {
        EmailOutcomeKey(NOW, "w1", "c1", "Email Opened", "sent", ""): 2,
        EmailOutcomeKey(NOW, "w1", "", "identify", "sent", ""): 1,
        EmailOutcomeKey(NOW, "w2", "c1", "Email Opened", "sent", ""): 1,
    }


def test_no_call_counts_nothing() -> None:
    assert count_delivered([], EmailOutcome.SENT, NOW) == {}


def test_repeats_are_counted_in_the_minute_of_their_arrival_by_the_words_of_the_log() -> None:
    lines = [
        line(event="clicked", connection_id="c1"),
        line(event="clicked", connection_id="c1", arrived_at=NOW + MINUTE - 1, at=1),
        line(event="clicked", connection_id="c1", arrived_at=NOW + MINUTE),
        line(event="opened"),
    ]

    assert count_repeats(lines) == {
        EmailOutcomeKey(NOW, "w1", "c1", "clicked", "duplicate", ""): 2,
        EmailOutcomeKey(NOW + MINUTE, "w1", "c1", "clicked", "duplicate", ""): 1,
        EmailOutcomeKey(NOW, "w1", "", "opened", "duplicate", ""): 1,
    }


def test_an_event_that_is_none_is_rejected() -> None:
    key = count_email_letter(letter(sendgrid("processed"), reason="event_not_reported"))

    assert key == EmailOutcomeKey(NOW, "w1", "c1", "processed", "rejected", "event_not_reported")


def test_an_identity_update_that_is_none_is_rejected() -> None:
    key = count_email_letter(letter(b"{", "ParseIdentityUpdates", "bad_request"))

    assert key == EmailOutcomeKey(NOW, "w1", "c1", "identity_update", "rejected", "bad_request")


@pytest.mark.parametrize(("step", "reason"), [("SendCalls", "refused_by_segment"), ("MakeCalls", "too_large")])
def test_a_call_that_reaches_nobody_has_failed(step: str, reason: str) -> None:
    call = b'{"type":"track","event":"Email Opened"}'

    assert count_email_letter(letter(call, step, reason)) == EmailOutcomeKey(
        NOW, "w1", "c1", "Email Opened", "failed", reason
    )


def test_a_message_that_is_too_large_is_not_read_for_its_event() -> None:
    assert count_email_letter(letter(sendgrid("open"), reason="too_large")).event == "unknown"


def test_a_letter_of_another_pipeline_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        count_email_letter(letter(b"{", "ParseCalls"))


def test_every_step_that_makes_dead_letters_has_an_outcome() -> None:
    assert set(OUTCOME_OF_STEP) == {"ParseEmailLogs", "ParseIdentityUpdates", "MakeCalls", "SendCalls"}


def test_a_window_starts_at_its_minute_before_1970_too() -> None:
    assert email_outcome_key(-1, "w", None, None, EmailOutcome.SENT).window_start == -MINUTE


@pytest.mark.parametrize("kind", EmailCallKind)
def test_a_call_is_known_by_its_kind_also_when_it_comes_back(kind: EmailCallKind) -> None:
    assert name_call(json_of(EmailCall(kind.value, line(account_id="a1"), "u1", NOW))) == kind.value


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"type":1}', b'{"type":"track","event":"Signed Up"}', b"\xff"])
def test_what_is_no_call_of_ours_has_no_name(payload: bytes) -> None:
    assert name_call(payload) is None


def golden(name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def payload_of(case: dict[str, Any]) -> bytes:
    return base64.b64decode(case["payload_base64"]) if "payload_base64" in case else case["payload"].encode()


def test_every_golden_line_is_named_as_its_event() -> None:
    """A repeat counts by the word of the line, a rejected event by that of the payload: the words are the same.

    Mailgun's `failed` is a bounce only if it is permanent, and keeps its word.
    """
    for case in golden("email_logs.jsonl"):
        payload = payload_of(case)
        events = json.loads(payload) if payload.lstrip().startswith(b"[") else [json.loads(payload)]
        if len(events) == len(case["lines"]):
            named = [name_event(json.dumps(event).encode()) for event in events]
            named = ["bounced" if name == "failed" else name for name in named]
            assert named == [one["event"] for one in case["lines"]], case["about"]


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"event": "opened", "log_id": "l1", "email": "nobody"}, "opened"),
        ({"event": "Opened", "log_id": "l1"}, None),
        ({"event": "deferred", "sg_event_id": "s1"}, "deferred"),
        ({"event": "SpamReport", "sg_event_id": "s1"}, "reported_as_spam"),
        ({"event-data": {"event": "failed", "severity": "temporary"}}, "failed"),
        ({"event-data": {"event": "accepted"}}, "accepted"),
        ({"event-data": "accepted"}, None),
        ({"RecordType": "Bounce", "Type": "Transient"}, "bounced"),
        ({"RecordType": "Inbound"}, "Inbound"),
        ({"eventType": "DeliveryDelay"}, "DeliveryDelay"),
        ({"notificationType": "Complaint"}, "reported_as_spam"),
        ({"Type": "SubscriptionConfirmation", "TopicArn": "arn"}, "SubscriptionConfirmation"),
        ({"Type": "Notification", "Message": '{"eventType":"Bounce"}'}, "bounced"),
        ({"Type": "Notification", "Message": "Successfully validated SNS topic"}, None),
        ({"Type": ["Notification"], "Message": "x"}, None),
        ({"event": "ann@example.com opened it", "sg_event_id": "s1"}, None),
        ({"event": 7, "sg_event_id": "s1"}, None),
        ({"hello": "world"}, None),
    ],
)
def test_an_event_is_named_by_a_word_that_we_know_or_not_at_all(event: dict[str, Any], name: str | None) -> None:
    assert name_event(json.dumps(event).encode()) == name


@pytest.mark.parametrize("broken", [b'"x":"caf\xe9"', b'"caf\xe9":1', rb'"x":"\ud800"', rb'"\ud800":1'])
def test_an_event_that_is_no_text_has_no_name(broken: bytes) -> None:
    assert name_event(b'{"event":"opened","log_id":"l1",' + broken + b"}") is None


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["event", "event-data", "RecordType", "eventType", "notificationType", "Type", "Message"]
                )
                | st.sampled_from(["sg_event_id", "log_id", "TopicArn", "recipient"]),
                inner,
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
@example(b'{"Type": {}, "TopicArn": 1}')
@example(b"[" * 100_000)
def test_whatever_is_rejected_can_be_counted(payload: bytes) -> None:
    for step in OUTCOME_OF_STEP:
        key = count_email_letter(letter(payload, step))
        assert msgspec.json.decode(msgspec.json.encode(key), type=EmailOutcomeKey) == key


def test_every_golden_line_carries_the_connection_of_its_message() -> None:
    """Whoever the provider is, and also where the line names its own workspace."""
    for case in golden("email_logs.jsonl"):
        for connection_id in ("c1", None):
            attributes = {"connection_id": connection_id or ""}
            parsed = parse_email_logs([Message(payload_of(case), attributes, NOW)], NOW, "w1")
            assert {one.connection_id for one in parsed.lines} == {connection_id}, case["about"]


def test_a_line_without_a_connection_reads_as_before() -> None:
    """State of before has lines without the field."""
    fields = msgspec.to_builtins(line(account_id="a1"))
    old = msgspec.msgpack.encode(fields[:-1])

    assert msgspec.msgpack.decode(old, type=LogLine) == line(account_id="a1")
    assert LogLine.__struct_fields__[-1] == "connection_id"
