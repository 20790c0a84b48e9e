"""The rules of contract section 6 for what comes in, and that anything at all may come in.

The examples of the providers themselves stand in test_email_providers.py. After a change that is meant, as for all
golden files: UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_parse_email_logs.py, then read the diff.
"""

import base64
import json
import os
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from schemas.email_logs import MAX_LOG_BYTES, EmailEvent, LogBlock, LogLine
from schemas.rejections import Reason, Rejected
from tests.factories import ABSENT, DAY, HOUR, NOW, SECOND, message
from tests.strategies import (
    BROKEN_TEXTS,
    ODD_EMAILS,
    ODD_TEXTS,
    ONE_OF_EACH_TYPE,
    arbitrary_payloads,
    json_values,
    odd_times,
)
from transforms.coders import StructCoder
from transforms.logic.email_logs.parse_email_logs import ParsedLogs, parse_email_logs
from transforms.logic.parse_call import normalise_email
from transforms.logic.read_timestamps import MIN_MICROS, format_timestamp
from transforms.logic.read_wire import MAX_NESTING

GOLDEN = Path(__file__).parents[1] / "golden"
BLOCKS = StructCoder(LogBlock)

many = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
HUMAN = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/120.0 Safari/537.36"

# What a payload that is no line of a log at all may be rejected for, and each golden reject.
REASONS = {
    Reason.TOO_LARGE,
    Reason.BAD_REQUEST,
    Reason.EMPTY_BATCH,
    Reason.UNKNOWN_PROVIDER,
    Reason.UNKNOWN_EVENT,
    Reason.EVENT_NOT_REPORTED,
    Reason.RECIPIENT_NOT_VALID,
    Reason.TIMESTAMP_NOT_VALID,
    Reason.ID_NOT_STRING,
}


def own(**fields: object) -> dict[str, Any]:
    """A line of our own log, valid unless `fields` say otherwise."""
    return given_fields(
        {"log_id": "l1", "event": "opened", "at": "2026-01-01T00:00:00Z", "email": "ann@example.com"}, fields
    )


def sendgrid(**fields: object) -> dict[str, Any]:
    seconds = NOW // SECOND
    return given_fields(
        {"event": "open", "email": "ann@example.com", "timestamp": seconds, "sg_event_id": "s1"}, fields
    )


def mailgun(**fields: object) -> dict[str, Any]:
    event = {"event": "opened", "recipient": "ann@example.com", "timestamp": NOW / SECOND, "id": "m1"}
    return {"signature": {"token": "t1"}, "event-data": given_fields(event, fields)}


def postmark(**fields: object) -> dict[str, Any]:
    event = {"RecordType": "Open", "Recipient": "ann@example.com", "ReceivedAt": "2026-01-01T00:00:00Z"}
    return given_fields({**event, "MessageID": "p1"}, fields)


def postmark_bounce(**fields: object) -> dict[str, Any]:
    event = {"RecordType": "Bounce", "Type": "HardBounce", "ID": 7, "Email": "ann@example.com"}
    return given_fields({**event, "BouncedAt": "2026-01-01T00:00:00Z"}, fields)


def ses(**fields: object) -> dict[str, Any]:
    event = {"eventType": "Open", "open": {"timestamp": "2026-01-01T00:00:00Z"}}
    return given_fields({**event, "mail": {"messageId": "a1", "destination": ["ann@example.com"]}}, fields)


def ses_bounce(*emails: object, kind: object = "Permanent", **fields: object) -> dict[str, Any]:
    recipients = [{"emailAddress": email} for email in emails]
    return ses(eventType="Bounce", bounce={"bounceType": kind, "bouncedRecipients": recipients, **fields})


def ses_complaint(email: str, **fields: object) -> dict[str, Any]:
    return ses(eventType="Complaint", complaint={"complainedRecipients": [{"emailAddress": email}], **fields})


def sns(event: object, **fields: object) -> dict[str, Any]:
    text = event if isinstance(event, str) else json.dumps(event)
    envelope = {"Type": "Notification", "MessageId": "n1", "Timestamp": "2026-01-01T01:00:00Z", "TopicArn": "arn"}
    return given_fields({**envelope, "Message": text}, fields)


def given_fields(defaults: Mapping[str, object], fields: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in {**defaults, **fields}.items() if value is not ABSENT}


EVENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "log": own,
    "sendgrid": sendgrid,
    "mailgun": mailgun,
    "postmark": postmark,
    "amazon_ses": ses,
    "amazon_ses by sns": lambda: sns(ses()),
}


def with_sender(provider: str, **fields: object) -> dict[str, Any]:
    """An event of the provider that carries these fields of ours along."""
    if provider == "log":
        return own(**fields)
    if provider == "sendgrid":
        return sendgrid(**fields)
    if provider == "mailgun":
        return mailgun(**{"user-variables": fields})
    if provider == "postmark":
        return postmark(Metadata=fields)
    return ses(mail={"destination": ["ann@example.com"], "tags": {name: [value] for name, value in fields.items()}})


PROVIDERS = ("log", "sendgrid", "mailgun", "postmark", "amazon_ses")


def parse(payload: object, published_at: int | None = None, **attributes: str) -> ParsedLogs:
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return parse_email_logs([message(encoded, published_at, attributes)], NOW, "default-workspace")


def line_of(payload: object, published_at: int | None = None, **attributes: str) -> LogLine:
    parsed = parse(payload, published_at, **attributes)
    assert [str(each.verdict) for each in parsed.rejected] == []
    (line,) = parsed.lines
    return line


def reject(payload: object) -> Rejected:
    parsed = parse(payload)
    assert parsed.lines == []
    (rejected,) = parsed.rejected
    return rejected.verdict


# Our own line


def test_a_line_has_all_that_it_says() -> None:
    fields = {
        "workspace_id": "w7",
        "person_id": "p1",
        "user_id": "u1",
        "email_id": "e1",
        "campaign_id": "c1",
        "campaign_run_id": "r1",
        "campaign_name": "Welcome",
        "email_subject": "Hello",
        "email_link_url": "https://example.com/",
        "user_agent": HUMAN,
        "ip": "192.0.2.1",
        "account_id": "a1",
        "account_name": "Acme",
    }

    line = line_of(own(event="clicked", email=" Ann@Example.COM ", at="2025-12-31T23:00:00.5+01:00", **fields))

    assert line == LogLine(
        log_id="log:l1",
        event="clicked",
        at=NOW - 2 * HOUR + SECOND // 2,
        arrived_at=NOW,
        email="ann@example.com",
        is_machine=False,
        **fields,
    )


@pytest.mark.parametrize("name", list(EmailEvent))
def test_each_event_of_ours_is_read(name: EmailEvent) -> None:
    assert line_of(own(event=name)).event == name


@pytest.mark.parametrize("name", ["Opened", "open", "", "sent", 5, True, [], {}])
def test_another_event_is_unknown(name: object) -> None:
    assert reject(own(event=name)).reason == Reason.UNKNOWN_EVENT


def test_without_an_id_a_line_is_known_by_its_content() -> None:
    one, again = own(log_id=ABSENT, ip="1"), dict(reversed(own(log_id=ABSENT, ip="1").items()))

    assert line_of(one).log_id == line_of(again).log_id
    assert line_of(one).log_id.startswith("log:")
    assert line_of(one).log_id != line_of(own(log_id=ABSENT, ip="2")).log_id
    assert line_of(one, published_at=NOW + HOUR).log_id == line_of(one).log_id


@pytest.mark.parametrize("field", ["log_id", "at"])
def test_a_line_may_lack_its_id_or_its_time(field: str) -> None:
    assert line_of(own(**{field: ABSENT})).event == "opened"
    assert line_of(own(**{field: None})).event == "opened"


@pytest.mark.parametrize("name", list(EmailEvent))
def test_a_line_that_lacks_both_is_known_by_its_event(name: EmailEvent) -> None:
    assert line_of(own(event=name, log_id=ABSENT, at=ABSENT)).log_id.startswith("log:")
    assert reject(own(event="other", log_id=ABSENT, at=ABSENT)).reason == Reason.UNKNOWN_PROVIDER


def test_a_line_with_an_id_is_ours_even_without_an_event() -> None:
    for name in (ABSENT, None):
        verdict = reject(own(event=name, at=ABSENT))

        assert (verdict.reason, verdict.detail) == (Reason.UNKNOWN_EVENT, "event is missing")


def test_a_click_may_lack_its_link() -> None:
    assert line_of(own(event="clicked")).email_link_url is None


def test_a_page_that_was_viewed_has_an_address() -> None:
    assert line_of(own(event="page_viewed", email_link_url="https://x.y/")).email_link_url == "https://x.y/"


@pytest.mark.parametrize(
    "field", ["campaign_name", "email_subject", "email_link_url", "user_agent", "ip", "account_name"]
)
@pytest.mark.parametrize(
    ("value", "expected"), [(True, None), ([], None), ({}, None), ("", None), (None, None), (7, "7")]
)
def test_what_only_describes_never_costs_the_event(field: str, value: object, expected: str | None) -> None:
    assert getattr(line_of(own(**{field: value})), field) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"event": "opened", "machine_open": True, "user_agent": HUMAN}, True),
        ({"event": "opened", "machine_open": False, "user_agent": CRAWLER}, False),
        ({"event": "opened", "bot_click": True}, False),
        ({"event": "opened", "machine_open": None, "user_agent": CRAWLER}, True),
        ({"event": "opened", "machine_open": "yes", "user_agent": CRAWLER}, True),
        ({"event": "opened", "machine_open": "True", "user_agent": HUMAN}, True),
        ({"event": "opened", "machine_open": 0, "user_agent": CRAWLER}, False),
        ({"event": "opened", "user_agent": "Mozilla/5.0"}, True),
        ({"event": "opened", "user_agent": HUMAN}, False),
        ({"event": "clicked", "bot_click": True, "user_agent": HUMAN}, True),
        ({"event": "clicked", "bot_click": False, "user_agent": CRAWLER}, False),
        ({"event": "clicked", "machine_open": True}, False),
        ({"event": "clicked", "user_agent": CRAWLER}, True),
        ({"event": "delivered", "machine_open": True, "bot_click": True, "user_agent": CRAWLER}, False),
    ],
)
def test_the_sender_knows_best_what_a_machine_did(fields: dict[str, Any], expected: bool) -> None:
    assert line_of(own(**fields)).is_machine is expected


# Ids


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_carries_the_senders_fields(provider: str) -> None:
    fields = {
        "person_id": "p1",
        "user_id": "u1",
        "email_id": "e1",
        "campaign_id": "c1",
        "campaign_run_id": "r1",
        "campaign_name": "Welcome",
        "email_subject": "Hello",
        "account_id": "a1",
        "account_name": "Acme",
    }

    line = line_of(with_sender(provider, **fields))

    assert {name: getattr(line, name) for name in fields} == fields


ID_FIELDS = ("person_id", "user_id", "email_id", "campaign_id", "campaign_run_id", "account_id")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("field", ID_FIELDS)
def test_an_id_is_text_or_a_number(provider: str, field: str) -> None:
    for number, text in ((5, "5"), (5.0, "5"), (1.5, "1.5"), (2**64, str(2**64))):
        assert getattr(line_of(with_sender(provider, **{field: number})), field) == text
    for value in (True, False, [["x"]], {"a": 1}):
        verdict = reject(with_sender(provider, **{field: value}))
        assert (verdict.reason, field in verdict.detail) == (Reason.ID_NOT_STRING, True)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("field", ID_FIELDS)
def test_null_is_no_id_and_empty_text_is_no_person(provider: str, field: str) -> None:
    without = getattr(line_of(with_sender(provider)), field)

    assert getattr(line_of(with_sender(provider, **{field: None})), field) == without
    if field in ("person_id", "user_id"):
        assert reject(with_sender(provider, **{field: ""})).reason == Reason.ID_NOT_STRING
    else:
        assert getattr(line_of(with_sender(provider, **{field: ""})), field) == without


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("value", ["null", "0", "-1", "Anonymous", "[object Object]", 0])
def test_a_blocked_id_is_nobodys(provider: str, value: object) -> None:
    line = line_of(with_sender(provider, person_id=value, user_id=value, campaign_id=value))

    assert (line.person_id, line.user_id, line.campaign_id) == (None, None, str(value))


@pytest.mark.parametrize("field", ["log_id", "workspace_id"])
@pytest.mark.parametrize("value", [True, [], {}])
def test_the_ids_of_a_line_are_ids(field: str, value: object) -> None:
    assert reject(own(**{field: value})).reason == Reason.ID_NOT_STRING


def test_an_id_that_is_a_number_is_text() -> None:
    assert line_of(own(log_id=157963456373623802)).log_id == "log:157963456373623802"
    assert line_of(own(workspace_id=5)).workspace_id == "5"


@pytest.mark.parametrize("provider", ["log", "sendgrid"])
def test_a_long_id_is_digested(provider: str) -> None:
    def log_id(event_id: str) -> str:
        return line_of(own(log_id=event_id) if provider == "log" else sendgrid(sg_event_id=event_id)).log_id

    assert log_id("x" * 200) == f"{provider}:{'x' * 200}"
    assert len(log_id("x" * 201)) < 50
    assert log_id("x" * 201) == log_id("x" * 201) != log_id("x" * 202)


# Workspaces, recipients and times


def test_the_attribute_counts_more_than_the_line() -> None:
    """The collector sets it from the key that the sender has."""
    assert line_of(own(workspace_id="w1"), workspace_id="w2").workspace_id == "w2"
    assert line_of(own(workspace_id="w1")).workspace_id == "w1"
    assert line_of(own(workspace_id="w1"), workspace_id="").workspace_id == "w1"
    assert line_of(own()).workspace_id == "default-workspace"
    assert line_of(own(workspace_id="")).workspace_id == "default-workspace"
    assert line_of(own(), workspace_id="w2").workspace_id == "w2"


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name != "log"])
def test_a_provider_knows_no_workspace(provider: str) -> None:
    assert line_of(with_sender(provider, workspace_id="w1")).workspace_id == "default-workspace"
    assert line_of(with_sender(provider, workspace_id="w1"), workspace_id="w2").workspace_id == "w2"


def addressed(provider: str, email: object) -> dict[str, Any]:
    return {
        "log": lambda: own(email=email),
        "sendgrid": lambda: sendgrid(email=email),
        "mailgun": lambda: mailgun(recipient=email),
        "postmark": lambda: postmark(Recipient=email),
        "amazon_ses": lambda: ses(mail={"destination": [email]}),
    }[provider]()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_recipient_is_lower_cased_and_trimmed(provider: str) -> None:
    assert line_of(addressed(provider, " Ann@Example.COM\n")).email == "ann@example.com"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("email", [ABSENT, None, "", "ann", "a b@c", 5, True, [], {}])
def test_a_line_needs_a_recipient(provider: str, email: object) -> None:
    payload = addressed(provider, email if email is not ABSENT or provider != "amazon_ses" else None)

    verdict = reject(payload)

    assert verdict.reason == Reason.RECIPIENT_NOT_VALID
    assert verdict.detail.split()[0] in ("email", "recipient", "Recipient", "mail.destination")


def timed(provider: str, time_value: object) -> dict[str, Any]:
    return {
        "log": lambda: own(at=time_value),
        "sendgrid": lambda: sendgrid(timestamp=time_value),
        "mailgun": lambda: mailgun(timestamp=time_value),
        "postmark": lambda: postmark(ReceivedAt=time_value),
        "amazon_ses": lambda: ses(open=given_fields({}, {"timestamp": time_value})),
    }[provider]()


def written(provider: str, micros: int) -> object:
    return micros / SECOND if provider in ("sendgrid", "mailgun") else format_timestamp(micros)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("missing", [ABSENT, None])
def test_an_event_without_a_time_happened_when_it_arrived(provider: str, missing: object) -> None:
    assert line_of(timed(provider, missing)).at == NOW
    assert line_of(timed(provider, missing), published_at=NOW - DAY).at == NOW - DAY
    assert line_of(timed(provider, missing), published_at=NOW - DAY).arrived_at == NOW - DAY


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_time_in_the_far_future_is_that_of_the_arrival(provider: str) -> None:
    assert line_of(timed(provider, written(provider, NOW + DAY))).at == NOW + DAY
    assert line_of(timed(provider, written(provider, NOW + DAY + SECOND))).at == NOW
    assert line_of(timed(provider, written(provider, NOW + DAY + SECOND)), published_at=NOW + SECOND).at > NOW + DAY


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("value", ["", "yesterday", "2026-13-01", True, [], {}, "12026-01-01T00:00:00Z", "1e3"])
def test_a_time_that_cannot_be_read_is_rejected(provider: str, value: object) -> None:
    assert reject(timed(provider, value)).reason == Reason.TIMESTAMP_NOT_VALID


@pytest.mark.parametrize("provider", ["log", "postmark", "amazon_ses"])
@pytest.mark.parametrize("value", [1_767_225_600, 0, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-00:01"])
def test_a_moment_is_iso_8601_and_fits_bigquery(provider: str, value: object) -> None:
    assert reject(timed(provider, value)).reason == Reason.TIMESTAMP_NOT_VALID


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun"])
@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (1_767_225_599, NOW - SECOND),
        ("1767225599", NOW - SECOND),
        (1_767_225_599.5, NOW - SECOND // 2),
        ("1767225599.5", NOW - SECOND // 2),
        (1_767_225_599_000, NOW - SECOND),
        ("1767225599123", NOW - SECOND + 123_000),
        (100_000_000_000, 100_000_000 * SECOND),
        (0, 0),
        (-1, -SECOND),
        (MIN_MICROS // SECOND, MIN_MICROS),
    ],
)
def test_a_moment_is_a_number_of_seconds_or_milliseconds(provider: str, value: object, micros: int) -> None:
    assert line_of(timed(provider, value)).at == micros


@pytest.mark.parametrize("provider", ["sendgrid", "mailgun"])
@pytest.mark.parametrize(
    "value", [MIN_MICROS // SECOND - 1, 253_402_300_800_000, 10**40, -(10**40), 1e308, "9" * 18, "٣"]
)
def test_a_number_that_is_no_moment_is_rejected(provider: str, value: object) -> None:
    assert reject(timed(provider, value)).reason == Reason.TIMESTAMP_NOT_VALID


def test_from_the_year_5138_on_seconds_are_milliseconds() -> None:
    assert line_of(sendgrid(timestamp=99_999_999_999)).at == NOW  # too far in the future
    assert line_of(sendgrid(timestamp=100_000_000_000)).at == 100_000_000 * SECOND


# Whose event it is


@pytest.mark.parametrize("field", ["sg_event_id", "sg_message_id", "smtp-id"])
def test_a_custom_argument_does_not_make_an_event_of_sendgrid_ours(field: str) -> None:
    line = line_of(sendgrid(**{"sg_event_id": ABSENT, field: "x", "log_id": "l1", "at": "2026-01-01"}))

    assert line.log_id.startswith("sendgrid:")


@pytest.mark.parametrize("mark", ["RecordType", "event-data", "eventType", "notificationType"])
def test_what_marks_another_provider_counts_more_than_our_names_and_sendgrids(mark: str) -> None:
    for payload in (own(**{mark: "x"}), sendgrid(**{mark: "x"})):
        assert reject(payload).reason in (Reason.UNKNOWN_EVENT, Reason.BAD_REQUEST)
    assert line_of(own(**{mark: None})).log_id == "log:l1"
    assert line_of(sendgrid(**{mark: None})).log_id == "sendgrid:s1"


def test_a_name_is_the_same_with_escapes() -> None:
    payload = json.dumps(sendgrid(event="delivered", log_id="l1")).replace("sg_event_id", r"sg\u005fevent_id").encode()

    assert line_of(payload).log_id == "sendgrid:s1"


@pytest.mark.parametrize(
    ("payload", "provider"),
    [
        (sendgrid(sg_event_id=ABSENT), "sendgrid"),
        (sendgrid(sg_event_id=ABSENT, timestamp=ABSENT), "sendgrid"),
        (sendgrid(sg_event_id=None, timestamp=None, event="Group_Unsubscribe"), "sendgrid"),
        (sendgrid(sg_event_id="", event="delivered"), "sendgrid"),
        (sendgrid(sg_event_id=ABSENT, event="delivered"), "sendgrid"),
        (own(event="delivered", log_id=ABSENT, at=ABSENT), "log"),
        (own(timestamp=5, recipient="x@y", RecordType=None, sg_event_id=None, **{"event-data": None}), "log"),
        (mailgun()["event-data"], "mailgun"),
        ({"event": "delivered", "recipient": "a@b.c"}, "mailgun"),
        ({"Event": 1, **postmark(event="opened", log_id="l1", sg_event_id="s1")}, "postmark"),
        (ses(event="opened", log_id="l1"), "amazon_ses"),
        (ses(eventType=None, notificationType="Open"), "amazon_ses"),
        (sns(ses(), TopicArn=ABSENT), "amazon_ses"),
    ],
)
def test_a_provider_is_told_by_its_fields(payload: dict[str, Any], provider: str) -> None:
    assert line_of(payload).log_id.split(":")[0] == provider


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"a": 1},
        {"email": "a@b.c", "at": "2026-01-01"},
        {"event": None, "at": "2026-01-01"},
        {"event": "sent", "email": "a@b.c"},
        {"event": 5, "email": "a@b.c"},
        {"Type": "Notification"},
        sns({"a": 1}),
        {"sg_event_id": None, "RecordType": None},
    ],
)
def test_what_no_provider_writes_is_of_an_unknown_one(payload: dict[str, Any]) -> None:
    assert reject(payload).reason == Reason.UNKNOWN_PROVIDER


@pytest.mark.parametrize(
    "payload",
    [
        sendgrid(event="opened"),
        sendgrid(event=ABSENT),
        sendgrid(event=5),
        mailgun(event="open"),
        mailgun(event=None),
        postmark(RecordType="Opened"),
        postmark(RecordType=5),
        postmark_bounce(Type="Rubber"),
        postmark_bounce(Type=None),
        postmark(RecordType="SubscriptionChange", SuppressSending=True, SuppressionReason="Whim"),
        ses(eventType="open"),
        ses(eventType=5),
        ses_bounce("a@b.c", kind="Soft"),
        ses_bounce("a@b.c", kind=["Permanent"]),
        sns(ses(), Type="Telegram"),
        sns(ses(), Type=["Notification"]),
    ],
)
def test_an_event_that_its_provider_does_not_have_is_unknown(payload: dict[str, Any]) -> None:
    assert reject(payload).reason == Reason.UNKNOWN_EVENT


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        *((sendgrid(event=name), name) for name in ("processed", "deferred", "dropped", "group_resubscribe")),
        *((mailgun(event=name), name) for name in ("accepted", "rejected", "stored", "dropped")),
        (mailgun(event="failed", severity="temporary"), "failed"),
        (mailgun(event="failed"), "failed"),
        (mailgun(event="failed", severity="permanent", reason="suppress-bounce"), "never sent"),
        *(
            (postmark_bounce(Type=name), name)
            for name in ("Transient", "DnsError", "AutoResponder", "ManuallyDeactivated")
        ),
        (postmark(RecordType="Inbound"), "Inbound"),
        (postmark(RecordType="SubscriptionChange", SuppressSending=False), "SuppressSending"),
        (postmark(RecordType="SubscriptionChange", SuppressionReason="HardBounce"), "SuppressSending"),
        (
            postmark(
                RecordType="SubscriptionChange",
                SuppressSending=True,
                SuppressionReason="ManualSuppression",
                Origin="Customer",
            ),
            "Origin",
        ),
        *((ses(eventType=name), name) for name in ("Send", "Reject", "DeliveryDelay", "Rendering Failure")),
        (ses_bounce("a@b.c", kind="Transient"), "Transient"),
        *(
            (ses_bounce("a@b.c", bounceSubType=name), "never sent")
            for name in ("OnAccountSuppressionList", "Suppressed")
        ),
        (ses(eventType="Complaint", complaint={"complaintFeedbackType": "not-spam"}), "not-spam"),
        (ses_complaint("a@b.c", complaintSubType="OnAccountSuppressionList"), "never sent"),
        (
            ses(eventType="Subscription", subscription={"newTopicPreferences": {"unsubscribeAll": False}}),
            "Subscription",
        ),
        (sns("", Type="SubscriptionConfirmation"), "to be confirmed at the provider"),
        (sns("", Type="UnsubscribeConfirmation"), "to be confirmed at the provider"),
        (sns("Successfully validated SNS topic for Amazon SES event publishing."), "test"),
    ],
)
def test_an_event_that_is_none_of_ours_is_not_reported(payload: dict[str, Any], named: str) -> None:
    verdict = reject(payload)

    assert verdict.reason == Reason.EVENT_NOT_REPORTED
    assert named in verdict.detail


@pytest.mark.parametrize("name", [None, "", "General", "NoEmail", 5, ["Suppressed"], {}])
def test_a_bounce_and_a_complaint_of_any_other_kind_are_told(name: object) -> None:
    assert line_of(ses_bounce("a@b.c", bounceSubType=name)).event == "bounced"
    assert line_of(ses_complaint("a@b.c", complaintSubType=name)).event == "reported_as_spam"


# SendGrid


@pytest.mark.parametrize("name", ["OPEN", "Open", "open"])
def test_sendgrids_events_are_read_in_any_case(name: str) -> None:
    assert line_of(sendgrid(event=name)).event == "opened"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sg_machine_open": True}, True),
        ({"sg_machine_open": False}, False),
        ({"sg_machine_open": False, "useragent": CRAWLER}, True),
        ({"sg_machine_open": True, "event": "delivered"}, False),
        ({"sg_machine_open": True, "event": "click"}, False),
        ({"sg_machine_open": "true"}, True),
        ({"sg_machine_open": 1}, True),
        ({"sg_machine_open": "0"}, False),
        ({"sg_machine_open": "perhaps"}, False),
        ({"sg_machine_open": 2}, False),
        ({"event": "click", "useragent": CRAWLER}, True),
    ],
)
def test_sendgrid_knows_some_machines(fields: dict[str, Any], expected: bool) -> None:
    assert line_of(sendgrid(**fields)).is_machine is expected


@pytest.mark.parametrize("field", ["unique_args", "custom_args"])
def test_arguments_may_stand_in_an_object(field: str) -> None:
    assert line_of(sendgrid(**{field: {"campaign_id": "c1", "user_id": "u1"}})).user_id == "u1"
    assert line_of(sendgrid(**{field: {"campaign_id": "c1"}}, campaign_id="c2")).campaign_id == "c2"
    assert line_of(sendgrid(**{field: "campaign_id"})).campaign_id is None


@pytest.mark.parametrize(
    ("fields", "email_id"),
    [
        ({"email_id": "e1", "sg_message_id": "abc.filter1.2"}, "e1"),
        ({"sg_message_id": "abc.filter1.2", "smtp-id": "<x@y>"}, "abc"),
        ({"sg_message_id": "abc"}, "abc"),
        ({"sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0"}, "14c5d75ce93.dfd.64b469"),
        ({"sg_message_id": "abc.recvd-7c4f-1-205738d1"}, "abc"),
        ({"sg_message_id": ".filter1", "smtp-id": "<x@y>"}, "<x@y>"),
        ({"smtp-id": "<x@y>"}, "<x@y>"),
        ({"smtp-id": ""}, None),
        ({"sg_message_id": 5, "smtp-id": True}, "5"),
        ({}, None),
    ],
)
def test_an_email_of_sendgrid_has_the_id_of_its_message(fields: dict[str, Any], email_id: str | None) -> None:
    assert line_of(sendgrid(**fields)).email_id == email_id


def test_only_a_click_has_a_link() -> None:
    assert line_of(sendgrid(event="group_unsubscribe", url="https://x.y/")).email_link_url is None
    assert line_of(sendgrid(event="click", url="https://x.y/")).email_link_url == "https://x.y/"
    assert line_of(mailgun(event="opened", url="https://x.y/")).email_link_url is None
    assert line_of(postmark(OriginalLink="https://x.y/")).email_link_url is None
    assert line_of(postmark(RecordType="Click", OriginalLink="https://x.y/")).email_link_url == "https://x.y/"


# Mailgun


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"event": "failed", "severity": "permanent", "reason": "bounce"}, "bounced"),
        ({"event": "failed", "severity": "permanent", "reason": "old"}, "bounced"),
        ({"event": "bounced"}, "bounced"),
        ({"event": "complained"}, "reported_as_spam"),
        ({"event": "Unsubscribed"}, "unsubscribed"),
    ],
)
def test_an_event_of_mailgun_is_one_of_ours(fields: dict[str, Any], expected: str) -> None:
    assert line_of(mailgun(**fields)).event == expected


@pytest.mark.parametrize(
    ("bot", "expected"),
    [("apple", True), ("generic", True), (True, True), ("", False), ("None", False), ("false", False), (False, False)],
)
def test_mailgun_knows_some_machines(bot: object, expected: bool) -> None:
    assert line_of(mailgun(**{"client-info": {"bot": bot}})).is_machine is expected
    assert line_of(mailgun(**{"client-info": {"bot": bot}, "event": "clicked"})).is_machine is expected
    assert line_of(mailgun(**{"client-info": {"bot": bot}, "event": "delivered"})).is_machine is False


@pytest.mark.parametrize("variables", [{"user_id": "u1"}, '{"user_id": "u1"}'])
def test_mailguns_variables_may_be_text(variables: object) -> None:
    assert line_of(mailgun(**{"user-variables": variables})).user_id == "u1"


@pytest.mark.parametrize("variables", [[], "", "{", "[" * 1000, '{"user_id": "\\ud800"}', 5, '{"user_id": 1e999}'])
def test_variables_that_are_none_are_absent(variables: object) -> None:
    assert line_of(mailgun(**{"user-variables": variables})).user_id is None


def test_old_webhooks_have_variables_beside_or_in_a_header() -> None:
    headers = [["Subject", "Hi"], ["X-Mailgun-Variables", '{"user_id": "u1", "campaign_id": "c1"}'], ["odd"], 5]
    legacy = {"event": "opened", "recipient": "a@b.c", "token": "t1", "campaign_id": "c2"}

    line = line_of({**legacy, "message-headers": json.dumps(headers), "Message-Id": "<x@y>"})

    assert (line.user_id, line.campaign_id, line.email_id, line.log_id) == ("u1", "c2", "<x@y>", "mailgun:t1")
    assert line_of({**legacy, "message-headers": "{"}).campaign_id == "c2"


def test_a_subject_and_an_id_come_from_mailguns_headers() -> None:
    line = line_of(mailgun(message={"headers": {"message-id": "x@y", "subject": "Hi"}}))

    assert (line.email_id, line.email_subject) == ("x@y", "Hi")


def test_mailguns_ids_are_unique_within_a_day() -> None:
    assert line_of(mailgun()).log_id == f"mailgun:m1:{NOW}"
    assert line_of(mailgun(timestamp=NOW / SECOND - 1)).log_id != line_of(mailgun()).log_id
    assert line_of(mailgun(timestamp=ABSENT)).log_id == "mailgun:m1"
    assert line_of(mailgun(id=ABSENT)).log_id == "mailgun:t1"


def test_a_webhook_that_is_signed_anew_is_a_repeat() -> None:
    event = mailgun()["event-data"]
    nameless = mailgun(id=ABSENT)["event-data"]

    assert line_of({"event-data": event, "signature": {"token": "t2"}}).log_id == line_of(mailgun()).log_id
    assert line_of(event).log_id == line_of(mailgun()).log_id
    assert line_of({"event-data": nameless, "signature": 5}).log_id == line_of(nameless).log_id
    assert line_of(nameless).log_id != line_of({**nameless, "ip": "1"}).log_id


# Postmark


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (postmark_bounce(), "bounced"),
        (postmark_bounce(Type="SoftBounce"), "bounced"),
        (postmark_bounce(Type="SpamNotification"), "bounced"),
        (postmark_bounce(Type="SpamComplaint"), "reported_as_spam"),
        (postmark_bounce(Type="Unsubscribe"), "unsubscribed"),
        (postmark_bounce(RecordType="SpamComplaint"), "reported_as_spam"),
        *(
            (
                postmark(
                    RecordType="SubscriptionChange", SuppressSending=True, SuppressionReason=reason, Origin=origin
                ),
                name,
            )
            for reason, origin, name in (
                ("ManualSuppression", "Recipient", "unsubscribed"),
                ("ManualSuppression", None, "unsubscribed"),
                ("HardBounce", "Recipient", "bounced"),
                ("SpamComplaint", "Customer", "reported_as_spam"),
            )
        ),
    ],
)
def test_an_event_of_postmark_is_one_of_ours(payload: dict[str, Any], expected: str) -> None:
    assert line_of(payload).event == expected


def test_postmarks_ids_are_those_of_one_kind_of_record() -> None:
    assert line_of(postmark_bounce()).log_id == "postmark:Bounce:7"
    assert line_of(postmark_bounce(RecordType="SpamComplaint")).log_id == "postmark:SpamComplaint:7"
    assert line_of(postmark()).log_id == line_of(postmark()).log_id
    assert line_of(postmark()).log_id != line_of(postmark(MessageID="p2")).log_id


def test_postmark_says_where_and_by_what() -> None:
    line = line_of(postmark(UserAgent=CRAWLER, Geo={"IP": "8.8.8.8"}, Subject="Hi"))

    assert (line.user_agent, line.ip, line.email_subject, line.email_id, line.is_machine) == (
        CRAWLER,
        "8.8.8.8",
        "Hi",
        "p1",
        True,
    )


# Amazon SES


def test_each_recipient_of_a_notification_has_a_line() -> None:
    parsed = parse(ses_bounce("Ann <Ann@Example.com>", "bob@example.com", "ann@example.com"))

    assert [line.email for line in parsed.lines] == ["ann@example.com", "bob@example.com"]
    assert len({line.log_id for line in parsed.lines}) == 1
    assert parsed.rejected == []


def test_a_recipient_that_cannot_be_read_does_not_take_the_others_along() -> None:
    parsed = parse(ses_bounce("ann@example.com", "ann", "bob@example.com"))

    assert [line.email for line in parsed.lines] == ["ann@example.com", "bob@example.com"]
    assert [each.verdict.reason for each in parsed.rejected] == [Reason.RECIPIENT_NOT_VALID]


@pytest.mark.parametrize("name", ["Open", "Click", "Subscription"])
def test_ses_does_not_say_which_of_several_recipients_it_was(name: str) -> None:
    mail = {"destination": ["ann@example.com", "bob@example.com"]}
    subscription = {"newTopicPreferences": {"unsubscribeAll": True}}

    verdict = reject(ses(eventType=name, mail=mail, subscription=subscription))

    assert verdict.reason == Reason.RECIPIENT_NOT_VALID
    assert "does not say which" in verdict.detail


@pytest.mark.parametrize("recipients", [[], None, "a@b.c", {}, 5])
def test_a_notification_without_recipients_is_rejected(recipients: object) -> None:
    for payload in (
        ses(mail={"destination": recipients}),
        ses(eventType="Delivery", delivery={"recipients": recipients}),
        ses(eventType="Bounce", bounce={"bounceType": "Undetermined", "bouncedRecipients": recipients}),
        ses(eventType="Complaint", complaint={"complainedRecipients": recipients}),
    ):
        assert reject(payload).reason == Reason.RECIPIENT_NOT_VALID


@pytest.mark.parametrize(
    ("new", "old", "is_unsubscribe"),
    [
        ({"unsubscribeAll": True}, {}, True),
        ({"topicSubscriptionStatus": [{"topicName": "t", "subscriptionStatus": "OptOut"}]}, {}, True),
        (
            {"topicSubscriptionStatus": [{"topicName": "t", "subscriptionStatus": "OptOut"}]},
            {"topicSubscriptionStatus": [{"topicName": "t", "subscriptionStatus": "OptOut"}]},
            False,
        ),
        ({"topicSubscriptionStatus": [{"topicName": "t", "subscriptionStatus": "OptIn"}]}, {}, False),
        ({"topicSubscriptionStatus": "t"}, {"unsubscribeAll": True}, False),
        (None, None, False),
    ],
)
def test_a_subscription_that_ends_is_an_unsubscribe(new: object, old: object, is_unsubscribe: bool) -> None:
    parsed = parse(ses(eventType="Subscription", subscription={"newTopicPreferences": new, "oldTopicPreferences": old}))

    assert [line.event for line in parsed.lines] == ["unsubscribed"] * is_unsubscribe


def test_ses_says_when_where_and_by_what() -> None:
    click = {
        "timestamp": "2025-12-31T23:00:00Z",
        "ipAddress": "192.0.2.1",
        "userAgent": CRAWLER,
        "link": "https://x.y/",
    }
    mail = {"destination": ["ann@example.com"], "messageId": "a1", "commonHeaders": {"subject": "Hi"}}

    line = line_of(ses(eventType="Click", click=click, mail=mail))

    assert (line.at, line.ip, line.user_agent, line.is_machine) == (NOW - HOUR, "192.0.2.1", CRAWLER, True)
    assert (line.email_link_url, line.email_subject, line.email_id) == ("https://x.y/", "Hi", "a1")


def test_the_time_of_an_event_of_ses_is_the_first_that_is_known() -> None:
    mail = {"destination": ["ann@example.com"], "timestamp": "2025-12-31T22:00:00Z"}

    assert line_of(sns(ses(mail=mail))).at == NOW
    assert line_of(sns(ses(open={}, mail=mail))).at == NOW + HOUR
    assert line_of(sns(ses(open={}, mail=mail), Timestamp="?")).at == NOW - 2 * HOUR
    assert line_of(ses(open={}, mail=mail)).at == NOW - 2 * HOUR
    assert line_of(ses(open=None)).at == NOW


def test_a_repeat_of_ses_is_known_by_the_id_of_sns() -> None:
    assert line_of(sns(ses())).log_id == "amazon_ses:n1"
    assert line_of(sns(ses(), Timestamp="2026-01-01T02:00:00Z")).log_id == line_of(sns(ses())).log_id
    assert line_of(ses()).log_id == line_of(sns(ses(), MessageId=ABSENT)).log_id
    assert line_of(ses()).log_id != line_of(ses(open={})).log_id


@pytest.mark.parametrize(
    "text",
    ["", "hello", "[]", "5", '{"eventType": "Open", "a": "\\ud800"}', "{" * 300, '{"a":' * 300 + "1" + "}" * 300],
)
def test_a_message_of_sns_that_is_no_object_is_a_bad_request(text: str) -> None:
    verdict = reject(sns(text))

    assert verdict.reason == Reason.BAD_REQUEST
    assert "Message" in verdict.detail or "nested" in verdict.detail


@pytest.mark.parametrize("field", [5, ["x"], {"eventType": "Open"}])
def test_a_message_of_sns_is_text(field: object) -> None:
    assert reject(sns("", Message=field)).reason == Reason.BAD_REQUEST


@pytest.mark.parametrize("value", ["x", 5, [], None])
def test_the_event_data_of_mailgun_is_an_object(value: object) -> None:
    assert reject({"event-data": value, "signature": {}}).reason == (
        Reason.UNKNOWN_PROVIDER if value is None else Reason.BAD_REQUEST
    )


# Bytes and batches


def test_events_of_all_providers_may_stand_in_one_batch() -> None:
    parsed = parse([make() for make in EVENTS.values()])

    assert [line.log_id.split(":")[0] for line in parsed.lines] == [name.split()[0] for name in EVENTS]
    assert parsed.rejected == []


@pytest.mark.parametrize("text", [b"[]", b" [ ] ", b"[\n]\r\n"])
def test_a_batch_without_events_is_rejected(text: bytes) -> None:
    assert reject(text).reason == Reason.EMPTY_BATCH


@pytest.mark.parametrize(
    "payload", [b"", b" ", b"{", b"nonsense", b"0", b"null", b'"text"', b"\xff", b"\xef\xbb\xbf{}", b"{}{}"]
)
def test_what_is_no_json_is_a_bad_request(payload: bytes) -> None:
    assert reject(payload).reason == Reason.BAD_REQUEST


BAD_EVENTS = (
    rb'{"event":"opened","email":"\ud800"}',
    rb'{"event":"\ud800\u0041","log_id":"]"}',
    b'{"event":"opened","email":"\xff","log_id":"l9"}',
    b'{"event":"opened","log_id":"l9","email":"a@b.c","x":"\xff"}',
    b'{"log_id":01}',
    b'{"event":nul}',
    b"{" * 300 + b"}" * 300,
    b'{"a":[],"b"}',
    b"5",
    b"null",
    b'"text, [}"',
    b"[]",
    b'["a,b"]',
    b"tru",
)


@pytest.mark.parametrize("bad", BAD_EVENTS)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_bad_event_does_not_spoil_its_neighbours(bad: bytes, position: int) -> None:
    good = [json.dumps(own(campaign_name=',]}"\\')).encode(), json.dumps(sendgrid()).encode()]
    events = [*good[:position], bad, *good[position:]]

    parsed = parse(b" [ " + b" ,\n".join(events) + b" ] ")

    assert [line.log_id for line in parsed.lines] == ["log:l1", "sendgrid:s1"]
    (rejected,) = parsed.rejected
    assert (rejected.payload, rejected.verdict.reason) == (bad, Reason.BAD_REQUEST)


@pytest.mark.parametrize(
    "payload",
    [
        b'[{"event":"opened"}',
        b'[{"event":"opened"},',
        b'[{"event":"opened"},]',
        b'[{"a":nul},,{}]',
        b'[{"event":"opened"}}',
        b'[{"event":"opened"}] x',
        b'[{"event":"opened"}],{}]',
        b"[nul][nul]",
        b'[{"event":"opened',
        b"[",
        b"[,]",
        b"[" * 5000,
        b"[]]",
    ],
)
def test_a_batch_that_cannot_be_split_is_rejected_whole(payload: bytes) -> None:
    (rejected,) = parse(payload).rejected

    assert (rejected.payload, rejected.verdict.reason) == (payload, Reason.BAD_REQUEST)


def test_an_event_is_rejected_with_its_own_bytes() -> None:
    bad = b'{ "event" : "sent", "log_id":"\\u00e9", "n": 1.0 }'

    (rejected,) = parse(b"[" + json.dumps(own()).encode() + b",  " + bad + b"  ]").rejected

    assert rejected.payload == bad
    assert type(rejected.payload) is bytes


@pytest.mark.parametrize("make", EVENTS.values(), ids=EVENTS)
def test_nesting_is_bounded(make: Callable[[], dict[str, Any]]) -> None:
    def nested(depth: int) -> bytes:
        return json.dumps(make())[:-1].encode() + b',"x":' + b"[" * depth + b"]" * depth + b"}"

    assert parse(nested(MAX_NESTING - 1)).rejected == []
    assert reject(nested(MAX_NESTING)).reason == Reason.BAD_REQUEST
    assert len(parse(b"[%s,%s]" % (nested(MAX_NESTING - 1), nested(MAX_NESTING))).lines) == 1


def test_objects_nest_too() -> None:
    text = json.dumps(own())[:-1].encode() + b',"x":' + b'{"a":' * MAX_NESTING + b"1" + b"}" * MAX_NESTING + b"}"

    assert reject(text).reason == Reason.BAD_REQUEST


def test_a_message_has_at_most_ten_megabytes() -> None:
    payload = json.dumps(own()).encode()
    largest = payload + b" " * (MAX_LOG_BYTES - len(payload))

    assert line_of(largest).log_id == "log:l1"
    assert reject(largest + b" ").reason == Reason.TOO_LARGE


def test_of_several_messages_each_has_its_own_attributes_and_arrival() -> None:
    messages = [
        message(json.dumps(own(log_id="l1")).encode(), 7, {"workspace_id": "w2", "connection_id": "c2"}),
        message(json.dumps(own(log_id="l2")).encode()),
        message(b"not JSON", 9, {"workspace_id": "w3"}),
    ]

    parsed = parse_email_logs(messages, NOW, "w1")

    assert [(one.workspace_id, one.connection_id, one.arrived_at) for one in parsed.lines] == [
        ("w2", "c2", 7),
        ("w1", None, NOW),
    ]
    assert [one.message for one in parsed.rejected] == [messages[2]]


def test_the_limit_of_bytes_is_a_setting() -> None:
    (rejected,) = parse_email_logs([message(own())], NOW, "w1", max_log_bytes=10).rejected

    assert rejected.verdict.reason == Reason.TOO_LARGE


@pytest.mark.parametrize("opening", [b"[", b'["', b'["\\"', b"[{", b'{"a":"', b'[{"event":"\\ud800"},{"a":"'])
def test_a_payload_without_an_end_is_rejected_in_no_time(opening: bytes) -> None:
    started = time.process_time()

    parse(opening + b'\\"' * 500_000)
    parse(opening + b"[{" * 200_000)

    assert time.process_time() - started < 2


# Anything at all

_TEXTS = st.sampled_from((*ODD_TEXTS, *BROKEN_TEXTS)) | json_values.map(json.dumps) | odd_times.map(json.dumps)
_NAMES = sorted(
    {"event", "email", "at", "timestamp", "log_id", "workspace_id", *ID_FIELDS, "campaign_name", "user_agent", "ip"}
    | {"sg_event_id", "sg_message_id", "smtp-id", "unique_args", "newsletter", "marketing_campaign_id", "useragent"}
    | {"sg_machine_open", "machine_open", "recipient", "token", "id", "severity", "reason", "event-data", "signature"}
    | {"user-variables", "message-headers", "message", "client-info", "url", "RecordType", "Type", "ID", "Metadata"}
    | {"Recipient", "Email", "ReceivedAt", "Geo", "SuppressSending", "SuppressionReason", "eventType", "mail", "open"}
    | {"notificationType", "bounce", "subscription", "Message", "MessageId", "Timestamp", "destination", "tags"}
    | {"bouncedRecipients", "newTopicPreferences", "headers", "user-agent", "bot", "link"}
)
_BASES: tuple[Callable[[], dict[str, Any]], ...] = (
    *EVENTS.values(),
    postmark_bounce,
    lambda: ses_bounce("ann@example.com", "Bob <bob@example.com>"),
    lambda: sns(ses_bounce("ann@example.com", "bob@example.com")),
    lambda: {
        "event": "clicked",
        "recipient": "a@b.c",
        "token": "t",
        "timestamp": "1767225600",
        "message-headers": "[]",
    },
    lambda: own(event="clicked", user_agent=CRAWLER, campaign_id="c1", machine_open=True),
    lambda: mailgun(**{"user-variables": '{"user_id":"u"}', "message": {"headers": {"message-id": "x"}}}),
)


class _Text(str):
    """JSON that stands for itself."""


def render(value: Any) -> str:
    if isinstance(value, _Text):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{render(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(render, value)) + "]"
    return json.dumps(value)


@st.composite
def near_valid_events(draw: st.DrawFn) -> bytes:
    """Events of which a field or two, at any depth, have become something else, or whose bytes were damaged."""
    payload = draw(st.sampled_from(_BASES))()
    for _ in range(draw(st.integers(0, 3))):
        inner = [payload, *(value for value in payload.values() if isinstance(value, dict) and value)]
        target = draw(st.sampled_from(inner))
        name = draw(st.sampled_from(sorted(target)) | st.sampled_from(_NAMES))
        if draw(st.booleans()) and "Message" in payload:
            payload["Message"] = draw(_TEXTS)
        target[name] = _Text(draw(_TEXTS | st.sampled_from(ODD_EMAILS).map(json.dumps)))
    encoded = render(payload).encode("utf-8", "surrogatepass")
    damage = draw(st.sampled_from(("none",) * 8 + ("cut", "byte")))
    at = draw(st.integers(0, len(encoded))) if damage != "none" else 0
    if damage == "cut":
        return encoded[:at]
    return encoded[:at] + draw(st.binary(min_size=1, max_size=2)) + encoded[at:] if damage == "byte" else encoded


@pytest.mark.parametrize("base", _BASES, ids=range(len(_BASES)))
def test_a_field_of_any_type_makes_lines_or_is_rejected(base: Callable[[], dict[str, Any]]) -> None:
    for path in paths_of(base()):
        for text in (*ONE_OF_EACH_TYPE, "[[1]]", '[{"a":[]}]', '{"a":{}}', '"1e999"', "1e999"):
            payload: Any = base()
            target = payload
            for name in path[:-1]:
                target = target[name]
            target[path[-1]] = _Text(text)

            judge(render(payload).encode())


def paths_of(value: object) -> Iterator[list[Any]]:
    """The way to each field and each element."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield [name]
        for path in paths_of(each):
            yield [name, *path]


@many
@given(arbitrary_payloads)
@example(b"0")
@example(b"")
@example(b"[[[[")
@example(b'[{"event":"opened","at":1e999}]')
@example(b'["\\ud800",{"event":1e999}]')
def test_arbitrary_bytes_are_lines_or_rejected(payload: bytes) -> None:
    record(judge(payload))


@many
@given(json_values.map(lambda value: json.dumps(value).encode()))
def test_any_json_is_lines_or_rejected(payload: bytes) -> None:
    record(judge(payload))


@many
@given(near_valid_events())
@example(rb'{"log_id":"\ud800","event":"opened","email":"a@b"}')
@example(rb'{"log_id":1e999,"event":"opened","email":"a@b","ip":"\ud800"}')
@example(b'{"log_id":1e999,"event":"opened","email":"a@b","user_id":-1e999,"x":NaN}')
@example(b'{"log_id":9223372036854775808,"event":"opened","email":"a@b","x":%s}' % (b"9" * 5000))
@example(b'{"event":"opened","email":"a@b","x":%s}' % (b"9" * 310))
@example(b'{"event":"opened","email":"a@b","x":18446744073709551616}')
@example(b'{"event":"opened","email":"a@b","at":"0001-01-01T00:00:00+14:00"}')
@example(b'{"event":"open","email":"a@b","sg_event_id":"s","timestamp":9223372036854775808}')
@example(b'{"event":"open","email":"a@b","sg_event_id":"s","timestamp":1e308,"marketing_campaign_id":1e300}')
@example(b'{"event":"opened","recipient":"a@b","user-variables":"{\\"user_id\\":1e999}"}')
@example(b'{"eventType":"Open","mail":{"destination":["a@b"],"tags":{"user_id":[],"person_id":[[]]}}}')
def test_a_near_valid_event_is_lines_that_travel_or_rejected(payload: bytes) -> None:
    record(judge(payload))


@many
@given(st.lists(near_valid_events() | arbitrary_payloads, min_size=1, max_size=4))
def test_an_event_is_the_same_alone_and_in_a_batch(events: list[bytes]) -> None:
    events = [payload for payload in events if is_element(payload)] or [b"5"]

    together, alone = judge(b"[" + b",".join(events) + b"]"), [judge(payload) for payload in events]

    assert together.lines == [line for parsed in alone for line in parsed.lines]
    assert [each.payload for each in together.rejected] == [
        payload.strip(b" \t\n\r") for payload, parsed in zip(events, alone, strict=True) for _ in parsed.rejected
    ]
    assert [each.verdict.reason for each in together.rejected] == [
        each.verdict.reason if not payload.lstrip().startswith(b"[") else Reason.BAD_REQUEST
        for payload, parsed in zip(events, alone, strict=True)
        for each in parsed.rejected
    ]


def is_element(payload: bytes) -> bool:
    """JSON that is no array; what is no JSON may be no element either."""
    try:
        payload.decode()
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return not payload.lstrip(b" \t\n\r").startswith(b"[")


@many
@given(near_valid_events())
def test_an_event_that_is_told_twice_is_known(payload: bytes) -> None:
    later = parse(payload, published_at=NOW + HOUR)

    assert [line.log_id for line in parse(payload, published_at=NOW).lines] == [line.log_id for line in later.lines]


@many
@given(near_valid_events())
def test_both_ways_to_read_an_event_agree(payload: bytes) -> None:
    """Fields that lead off the common path, with nothing in them, change nothing."""
    text = payload.rstrip(b" \t\n\r")
    if not text.startswith(b"{") or not text.endswith(b"}") or text == b"{}" or b"Type" in text or b"_args" in text:
        return
    common, by_field = parse(text), parse(text[:-1] + b',"Type":null,"unique_args":null}')

    assert [line for line in common.lines if has_own_id(line)] == [line for line in by_field.lines if has_own_id(line)]
    assert len(common.lines) == len(by_field.lines)
    assert [each.verdict.reason for each in common.rejected] == [each.verdict.reason for each in by_field.rejected]


def has_own_id(line: LogLine) -> bool:
    """Whether it is known by more than its content, of which the empty fields are a part."""
    return re.fullmatch("[0-9a-f]{32}", line.log_id.split(":", 1)[1]) is None


@many
@given(json_values, st.sampled_from(sorted(EVENTS)), st.sampled_from(_NAMES))
def test_a_detail_never_quotes_a_value(value: object, base: str, name: str) -> None:
    payload = EVENTS[base]()
    target = payload.get("event-data", payload)
    target[name] = ["s3cret", value]

    for odd in (["s3cret", value], "s3cret", {"s3cret": value}):
        target[name] = odd
        for rejected in parse(payload).rejected:
            assert "s3cret" not in rejected.verdict.detail


def judge(payload: bytes) -> ParsedLogs:
    """Whatever comes in comes out, and travels."""
    parsed = parse(payload)
    assert parsed.lines or parsed.rejected
    assert BLOCKS.decode(BLOCKS.encode(LogBlock(parsed.lines))) == LogBlock(parsed.lines)
    for line in parsed.lines:
        assert line.event in list(EmailEvent)
        assert line.email == normalise_email(line.email)
        assert MIN_MICROS <= line.at <= NOW + DAY
        assert 4 < len(line.log_id) <= 220
        assert "" not in msgspec.structs.astuple(line)
        assert not (line.is_machine and line.event not in ("opened", "clicked"))
    for rejected in parsed.rejected:
        assert rejected.verdict.reason in REASONS
        assert rejected.payload in payload
    return parsed


def record(parsed: ParsedLogs) -> None:
    """What hypothesis has found its way to: see its statistics."""
    for line in parsed.lines:
        event(f"line: {line.log_id.split(':')[0]} {line.event}")
    for rejected in parsed.rejected:
        event(f"rejected: {rejected.verdict.reason}")


@pytest.mark.parametrize("beginning", [b'["', b"{" * (MAX_NESTING + 1) + b'"', b'["\\"', b'[{},"\\'])
def test_a_string_that_never_ends_takes_no_memory(beginning: bytes) -> None:
    payload = beginning + b"a" * 1_000_000

    tracemalloc.start()
    try:
        assert reject(payload).reason == Reason.BAD_REQUEST
        assert tracemalloc.get_traced_memory()[1] < 10 * len(payload)
    finally:
        tracemalloc.stop()


# Golden files


def read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def compare(name: str, actual: list[dict[str, Any]]) -> None:
    """The file's lines are these; with UPDATE_GOLDEN they become these."""
    if os.environ.get("UPDATE_GOLDEN"):
        lines = [json.dumps(line, ensure_ascii=False) for line in actual]
        (GOLDEN / name).write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert read_lines(name) == actual


def parse_case(case: dict[str, Any]) -> ParsedLogs:
    payload = base64.b64decode(case["payload_base64"]) if "payload_base64" in case else case["payload"].encode()
    return parse_email_logs([message(payload)], NOW, "w1", case.get("max_log_bytes", MAX_LOG_BYTES))


def as_fields(line: LogLine) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(line).items() if value is not None}


def test_events_become_these_lines() -> None:
    cases = read_lines("email_logs.jsonl")

    parsed = [parse_case(case) for case in cases]

    assert [each.rejected for each in parsed] == [[]] * len(cases)
    lines = [[as_fields(line) for line in each.lines] for each in parsed]
    compare("email_logs.jsonl", [case | {"lines": each} for case, each in zip(cases, lines, strict=True)])


def test_rejects_are_rejected_for_the_reason_that_is_written_beside_them() -> None:
    cases = read_lines("email_log_rejects.jsonl")

    verdicts = [parse_case(case).rejected[-1].verdict for case in cases]

    compare(
        "email_log_rejects.jsonl",
        [
            case | {"reason": verdict.reason.value, "detail": verdict.detail}
            for case, verdict in zip(cases, verdicts, strict=True)
        ],
    )


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_each_reason_has_a_golden_reject(reason: Reason) -> None:
    assert reason in {case["reason"] for case in read_lines("email_log_rejects.jsonl")}


def test_each_event_and_each_provider_is_golden() -> None:
    lines = [line for case in read_lines("email_logs.jsonl") for line in case["lines"]]

    assert {line["event"] for line in lines} == set(EmailEvent)
    assert {line["log_id"].split(":")[0] for line in lines} == set(PROVIDERS)


def test_what_only_describes_the_reader_is_cut() -> None:
    line = line_of(own(user_agent="x" * 40_000, ip="1" * 40_000))

    assert (len(line.user_agent or ""), len(line.ip or "")) == (1_000, 1_000)


@pytest.mark.parametrize("payload", [b'{"event":"opened"}', b"[]", b"\xff", b"{"])
def test_a_verdict_holds_nothing_of_what_was_being_read(payload: bytes) -> None:
    """The frames of a traceback hold the verdict in turn: such cycles would keep whole blocks of messages."""
    verdict = reject(payload)

    assert (verdict.__traceback__, verdict.__context__) == (None, None)
