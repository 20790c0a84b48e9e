"""Every example of a provider's webhook that we have ends as the event that it stands for, or as a named rejection.

The cases of django-anymail come with the event that it makes of them; where ours differs on purpose, that is said here.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.email_logs import LogLine
from schemas.rejections import Reason
from tests.factories import NOW, message
from transforms.logic.email_logs.parse_email_logs import ParsedLogs, parse_email_logs

EXAMPLES = Path(__file__).parents[1] / "golden" / "email_providers"

# What anymail calls them -> what we do.
EVENTS = {
    "delivered": "delivered",
    "opened": "opened",
    "clicked": "clicked",
    "bounced": "bounced",
    "complained": "reported_as_spam",
    "unsubscribed": "unsubscribed",
}
NOT_REPORTED = {"queued", "sent", "deferred", "rejected", "failed", "subscribed"}

# Examples that are cut down to what one of anymail's tests is about: they have no recipient.
WITHOUT_RECIPIENT = {
    "MailgunLegacyTestCase.test_metadata_message_headers",
    "MailgunLegacyTestCase.test_metadata_post_fields",
    "MailgunLegacyTestCase.test_tags",
    "MailgunLegacyTestCase.test_x_tags",
    "PostmarkDeliveryTestCase.test_bounce_unsubscribe_variant",
}

# Anymail takes the time of SNS for the event's. SES says itself when it happened, and SNS when it was told.
SES_TIMES = {
    "AmazonSESNotificationsTests.test_bounce_event": "2016-01-27T14:59:44.101",
    "AmazonSESNotificationsTests.test_delivery_event": "2016-01-27T14:59:38.237",
    "AmazonSESNotificationsTests.test_open_event": "2017-08-09T22:00:19.652",
    "AmazonSESNotificationsTests.test_click_event": "2017-08-09T23:51:25.570",
}

# Anymail looks at the last recipient of a notification; a line each is what a log is.
SES_RECIPIENTS = {
    "AmazonSESNotificationsTests.test_multiple_bounce_event": ["jane@example.com", "richard@example.com"],
}

# Anymail's event id is the token of Mailgun's signature. A webhook that is tried again may be signed anew, so that ours
# is Mailgun's id of the event, with its time: it is unique within a day only. The token counts where there is no id.
MAILGUN_IDS = {
    "MailgunTestCase.test_delivered_event": "hTWCTD81RtiDN-...:1534108637153125",
    "MailgunTestCase.test_complained_event": "ncV2XwymRUKbPek_MIM-Gw:1377214260049634",
    "MailgunTestCase.test_unsubscribed_event": "W3X4JOhFT-OZidZGKKr9iA:1377213791421473",
}


class Example(NamedTuple):
    name: str
    provider: str
    payload: dict[str, Any]
    expected: dict[str, Any]


def read(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def examples() -> Iterator[Example]:
    for provider in ("sendgrid", "mailgun", "postmark", "amazon_ses"):
        for case in read(f"anymail_{provider}_cases.json")["cases"]:
            raw = case["raw"]
            for payload in raw.get("raw_events") or [raw.get("raw_sns_message") or raw["raw_event"]]:
                yield Example(case["test"], provider, payload, case["expected_normalized"])


ALL = list(examples())


def parse(payload: object) -> ParsedLogs:
    return parse_email_logs([message(json.dumps(payload).encode())], NOW, "w1")


def lines_of(example: Example) -> list[LogLine]:
    return parse(example.payload).lines


def micros(value: dict[str, Any]) -> int:
    year, month, day, hour, minute, second = value["__datetime__"]
    zone = timezone(timedelta(hours=-4)) if "fixed" in value["kw"]["tzinfo"] else UTC
    fraction = int(value["kw"].get("microsecond", 0))
    moment = datetime(year, month, day, hour, minute, second, fraction, zone)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def ids(examples: list[Example]) -> list[str]:
    return [example.name for example in examples]


REJECTED = [
    example
    for example in ALL
    if example.expected.get("event_type") in NOT_REPORTED or example.name in WITHOUT_RECIPIENT
]
ACCEPTED = [example for example in ALL if example not in REJECTED]


def test_there_are_as_many_examples_as_their_source_has() -> None:
    assert len({example.name for example in ALL}) == 48
    assert len(ACCEPTED) > 20


@pytest.mark.parametrize("example", REJECTED, ids=ids(REJECTED))
def test_what_is_no_event_of_ours_is_rejected_by_name(example: Example) -> None:
    parsed = parse(example.payload)

    (rejected,) = parsed.rejected
    assert parsed.lines == []
    assert json.loads(rejected.payload) == example.payload
    assert rejected.verdict.reason == (
        Reason.RECIPIENT_NOT_VALID if example.name in WITHOUT_RECIPIENT else Reason.EVENT_NOT_REPORTED
    )


@pytest.mark.parametrize("example", ACCEPTED, ids=ids(ACCEPTED))
def test_an_event_is_what_it_stands_for(example: Example) -> None:
    lines, expected = lines_of(example), example.expected

    assert {line.log_id.split(":")[0] for line in lines} == {example.provider}
    if "event_type" in expected:
        assert {line.event for line in lines} == {EVENTS[expected["event_type"]]}
    if "recipient" in expected:
        assert [line.email for line in lines] == SES_RECIPIENTS.get(example.name, [expected["recipient"]])
    for line in lines:
        assert line.email_link_url == expected.get("click_url", example.payload.get("url"))
    if "user_agent" in expected:
        assert {line.user_agent for line in lines} == {expected["user_agent"]}
    assert not any(line.is_machine for line in lines)


@pytest.mark.parametrize("example", ACCEPTED, ids=ids(ACCEPTED))
def test_an_event_happened_when_its_provider_says(example: Example) -> None:
    if example.name in SES_TIMES:
        moment = datetime.fromisoformat(SES_TIMES[example.name]).replace(tzinfo=UTC)
        expected = round(moment.timestamp() * 1_000_000)
    elif "timestamp" in example.expected:
        expected = micros(example.expected["timestamp"])
    elif example.provider == "amazon_ses":
        expected = micros({"__datetime__": [2018, 3, 26, 17, 58, 59], "kw": {"microsecond": "675000", "tzinfo": "utc"}})
    else:
        stated = example.payload.get("event-data", example.payload).get("timestamp")
        expected = NOW if stated is None else round(float(stated) * 1_000_000)

    # Postmark has seven decimals: anymail cuts the last one off, we round.
    assert {line.at for line in lines_of(example)} <= {expected, expected + 1}


@pytest.mark.parametrize("example", ACCEPTED, ids=ids(ACCEPTED))
def test_a_repeat_is_known_by_the_id_of_its_provider(example: Example) -> None:
    known = MAILGUN_IDS.get(example.name, example.expected.get("event_id"))
    if known is None:
        return
    if example.provider == "postmark":
        known = f"{example.payload['RecordType']}:{known}"

    for line in lines_of(example):
        assert line.log_id == f"{example.provider}:{known}"


@pytest.mark.parametrize("example", ACCEPTED, ids=ids(ACCEPTED))
def test_an_email_is_known_by_its_message_id(example: Example) -> None:
    expected = example.expected.get("message_id")
    if expected is None:
        return
    if example.provider == "sendgrid":  # anymail sends an id of its own along
        expected = example.payload["sg_message_id"].split(".")[0]
    if example.provider == "mailgun" and "event-data" in example.payload:  # anymail adds the angle brackets
        expected = expected.strip("<>")

    assert {line.email_id for line in lines_of(example)} == {expected}


def test_the_customers_user_id_comes_from_mailguns_variables() -> None:
    (example,) = (example for example in ALL if example.name == "MailgunTestCase.test_opened_event")

    assert [line.user_id for line in lines_of(example)] == [example.expected["metadata"]["user_id"]]


@pytest.mark.parametrize("example", ALL, ids=ids(ALL))
def test_in_a_batch_an_event_is_what_it_is_alone(example: Example) -> None:
    alone, among_others = parse(example.payload), parse([{"event": "?"}, example.payload, 5])

    assert among_others.lines == alone.lines
    assert [str(each.verdict) for each in among_others.rejected[1:-1]] == [str(each.verdict) for each in alone.rejected]


@pytest.mark.parametrize("example", ACCEPTED, ids=ids(ACCEPTED))
def test_an_example_without_its_envelope_is_the_same_event(example: Example) -> None:
    """Mailgun's Events API gives the bare event, and SES reaches other sinks than SNS."""
    payload = example.payload
    bare = payload.get("event-data") or (json.loads(payload["Message"]) if "Message" in payload else payload)

    lines, from_bare = lines_of(example), parse(bare).lines

    assert [(line.event, line.email, line.email_id) for line in from_bare] == [
        (line.event, line.email, line.email_id) for line in lines
    ]


# SendGrid's own documentation

DOCUMENTED = read("sendgrid_event_webhook_examples.json")["examples"]
SENDGRID_EVENTS = {
    "delivered": "delivered",
    "open": "opened",
    "click": "clicked",
    "bounce": "bounced",
    "spamreport": "reported_as_spam",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
}


@pytest.mark.parametrize("batch", DOCUMENTED, ids=range(len(DOCUMENTED)))
def test_each_event_of_sendgrids_documentation_comes_out_once(batch: Any) -> None:
    events = batch if isinstance(batch, list) else [batch]

    together, alone = parse(batch), [parse(event) for event in events]

    assert together.lines == [line for parsed in alone for line in parsed.lines]
    assert [str(each.verdict) for each in together.rejected] == [
        str(each.verdict) for parsed in alone for each in parsed.rejected
    ]
    for event, parsed in zip(events, alone, strict=True):
        name = event.get("event", "").lower()
        if name in SENDGRID_EVENTS:
            (line,) = parsed.lines
            assert (line.event, line.email) == (SENDGRID_EVENTS[name], event["email"])
            seconds = event["timestamp"] / (1000 if event["timestamp"] > 1e11 else 1)
            assert line.at == round(seconds * 1_000_000)
            assert line.email_link_url == (event.get("url") if name == "click" else None)
        else:
            (rejected,) = parsed.rejected
            assert rejected.verdict.reason == (Reason.EVENT_NOT_REPORTED if name else Reason.UNKNOWN_PROVIDER)


@pytest.mark.parametrize(
    ("fields", "campaign"),
    [
        ({"singlesend_id": "s1", "singlesend_name": "Single"}, ("s1", "Single")),
        ({"marketing_campaign_id": 23314, "marketing_campaign_name": "ab"}, ("23314", "ab")),
        ({"newsletter": {"newsletter_id": "1943530"}}, ("1943530", None)),
        ({"campaign_id": "c1", "campaign_name": "Ours", "singlesend_id": "s1", "singlesend_name": "S"}, ("c1", "Ours")),
    ],
)
def test_a_campaign_of_sendgrid_is_one_of_ours(fields: dict[str, Any], campaign: tuple[str, str | None]) -> None:
    event = {"event": "open", "email": "a@b.c", "timestamp": 1, "sg_event_id": "i1", **fields}

    (line,) = parse(event).lines

    assert (line.campaign_id, line.campaign_name) == campaign
