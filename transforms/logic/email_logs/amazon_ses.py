"""Events of Amazon SES: https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html.

As an event destination publishes them (`eventType`) and as an identity's feedback (`notificationType`), each alone or
in the envelope of SNS: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from schemas.email_logs import EmailEvent, LogLine
from schemas.rejections import Reason, Rejected
from transforms.logic.email_logs.judge_user_agents import is_machine
from transforms.logic.email_logs.read_log_fields import (
    Arrival,
    SenderFields,
    decode_fields,
    digest_content,
    make_line,
    make_log_id,
    read_event_name,
    read_iso_time,
    read_object,
    read_recipient,
    read_sender_fields,
    read_text,
)
from transforms.logic.email_logs.recognise_provider import Provider
from transforms.logic.read_timestamps import read_timestamp
from transforms.logic.read_wire import describe

# The event -> ours, and the object that holds its particulars.
EVENTS = MappingProxyType(
    {
        "Delivery": (EmailEvent.DELIVERED.value, "delivery"),
        "Bounce": (EmailEvent.BOUNCED.value, "bounce"),
        "Complaint": (EmailEvent.REPORTED_AS_SPAM.value, "complaint"),
        "Open": (EmailEvent.OPENED.value, "open"),
        "Click": (EmailEvent.CLICKED.value, "click"),
        "Subscription": (EmailEvent.UNSUBSCRIBED.value, "subscription"),
    }
)
# On its way, never sent, an incoming email, or SES's word that the topic works.
NOT_REPORTED = frozenset(
    {
        "Send",
        "Reject",
        "DeliveryDelay",
        "Rendering Failure",
        "RenderingFailure",
        "Received",
        "AmazonSnsSubscriptionSucceeded",
    }
)
BOUNCE_TYPES = frozenset({"Permanent", "Undetermined"})

# SES did not send at all, because the address stands on a list: the account's own, or that of all of SES.
# https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
UNSENT_BOUNCES = ("OnAccountSuppressionList", "Suppressed")
UNSENT_COMPLAINT = "OnAccountSuppressionList"

SNS_CONFIRMATIONS = frozenset({"SubscriptionConfirmation", "UnsubscribeConfirmation"})
# What SES publishes, as text, when an event destination is set up.
SNS_TOPIC_TEST = "Successfully validated SNS topic"

_NAMED_ADDRESS = re.compile(r"[^<>]*<([^<>]+)>\s*")


class _Envelope(NamedTuple):
    message_id: str | None
    sent_at: int | None


def read_amazon_ses_event(fields: Mapping[str, Any], arrival: Arrival) -> Iterator[LogLine]:
    """A line for each recipient that the event concerns. Raises `Rejected` and names the field that makes none.

    SES gives no ids: SNS has one for each message, which a redelivery repeats.
    """
    fields, envelope = unwrap_event(fields)
    name_field = "eventType" if fields.get("eventType") is not None else "notificationType"
    name = read_event_name(fields.get(name_field), name_field)
    if name in NOT_REPORTED:
        raise Rejected(Reason.EVENT_NOT_REPORTED, f"Amazon SES's {name}")
    if name not in EVENTS:
        raise Rejected(Reason.UNKNOWN_EVENT, f"{name_field} is none of Amazon SES's")
    what, detail_field = EVENTS[name]
    detail, mail = read_object(fields.get(detail_field)), read_object(fields.get("mail"))
    _require_reported(name, detail)
    tags = {name: _first(values) for name, values in read_object(mail.get("tags")).items()}
    sender = read_sender_fields(tags, SenderFields())
    sender.email_id = sender.email_id or read_text(mail.get("messageId"))
    sender.email_subject = sender.email_subject or read_text(read_object(mail.get("commonHeaders")).get("subject"))
    at = read_iso_time(detail.get("timestamp"), f"{detail_field}.timestamp")
    if at is None:
        at = read_timestamp(mail.get("timestamp")) if envelope.sent_at is None else envelope.sent_at
    user_agent = read_text(detail.get("userAgent"))
    log_id = make_log_id(Provider.AMAZON_SES, envelope.message_id or digest_content(fields))
    done = set()
    verdict = None
    for recipient_field, recipient in _find_recipients(name, detail, mail):
        try:
            email = read_recipient(_without_name(recipient), recipient_field)
        except Rejected as unreadable:
            verdict = unreadable
            continue
        if email in done:
            continue
        done.add(email)
        yield make_line(
            arrival,
            what,
            log_id,
            at,
            email,
            sender,
            read_text(detail.get("link")) if what == EmailEvent.CLICKED else None,
            user_agent,
            read_text(detail.get("ipAddress")),
            is_machine(what, user_agent),
        )
    if verdict is not None:
        raise verdict


def unwrap_event(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], _Envelope]:
    """The event, and what the envelope of SNS says of it."""
    if fields.get("eventType") is not None or fields.get("notificationType") is not None:
        return fields, _Envelope(None, None)
    kind, text = read_event_name(fields.get("Type"), "Type"), fields.get("Message")
    if kind in SNS_CONFIRMATIONS:
        raise Rejected(Reason.EVENT_NOT_REPORTED, f"SNS's {kind}: to be confirmed at the provider, by its SubscribeURL")
    if kind != "Notification":
        raise Rejected(Reason.UNKNOWN_EVENT, "Type is none of SNS's")
    if not isinstance(text, str):
        raise Rejected(Reason.BAD_REQUEST, f"Message is {describe(text, 'missing')}")
    if text.startswith(SNS_TOPIC_TEST):
        raise Rejected(Reason.EVENT_NOT_REPORTED, "Amazon SES's test of an SNS topic")
    event = decode_fields(text.encode(), "Message")
    if event.get("eventType") is None and event.get("notificationType") is None:
        raise Rejected(Reason.UNKNOWN_PROVIDER, "Message is no event of Amazon SES")
    return event, _Envelope(read_text(fields.get("MessageId")), read_timestamp(fields.get("Timestamp")))


def _require_reported(name: str, detail: Mapping[str, Any]) -> None:
    """Reject an event that is not what its name says."""
    if name == "Bounce":
        kind = read_event_name(detail.get("bounceType"), "bounce.bounceType")
        if kind == "Transient":
            raise Rejected(Reason.EVENT_NOT_REPORTED, "Amazon SES's Bounce of the type Transient")
        if kind not in BOUNCE_TYPES:
            raise Rejected(Reason.UNKNOWN_EVENT, "bounce.bounceType is none of Amazon SES's")
        if detail.get("bounceSubType") in UNSENT_BOUNCES:
            raise Rejected(Reason.EVENT_NOT_REPORTED, "Amazon SES's Bounce of an email that was never sent")
    if name == "Complaint":
        if detail.get("complaintSubType") == UNSENT_COMPLAINT:
            raise Rejected(Reason.EVENT_NOT_REPORTED, "Amazon SES's Complaint of an email that was never sent")
        if detail.get("complaintFeedbackType") == "not-spam":
            raise Rejected(Reason.EVENT_NOT_REPORTED, "Amazon SES's Complaint of the type not-spam")
    if name == "Subscription" and not _has_unsubscribed(detail):
        raise Rejected(Reason.EVENT_NOT_REPORTED, "Amazon SES's Subscription that ends none")


def _has_unsubscribed(subscription: Mapping[str, Any]) -> bool:
    """From everything, or from a topic that was not opted out of before."""
    new, old = (read_object(subscription.get(field)) for field in ("newTopicPreferences", "oldTopicPreferences"))
    return new.get("unsubscribeAll") is True or bool(_opted_out(new) - _opted_out(old))


def _opted_out(preferences: Mapping[str, Any]) -> set[str]:
    return {
        str(topic.get("topicName"))
        for topic in map(read_object, _as_list(preferences.get("topicSubscriptionStatus")))
        if topic.get("subscriptionStatus") == "OptOut"
    }


def _find_recipients(name: str, detail: Mapping[str, Any], mail: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Whom the event concerns, each with the field that says so."""
    if name in ("Bounce", "Complaint"):
        field = "bouncedRecipients" if name == "Bounce" else "complainedRecipients"
        recipients: list[object] = [read_object(each).get("emailAddress") for each in _as_list(detail.get(field))]
        field = f"{field}.emailAddress"
    elif name == "Delivery":
        field = "delivery.recipients"
        recipients = list(_as_list(detail.get("recipients")))
    else:
        field = "mail.destination"
        recipients = list(_as_list(mail.get("destination")))
        if len(recipients) > 1:
            raise Rejected(
                Reason.RECIPIENT_NOT_VALID,
                f"{field} has {len(recipients)} recipients, and Amazon SES does not say which of them it was",
            )
    if not recipients:
        raise Rejected(Reason.RECIPIENT_NOT_VALID, f"{field} is missing")
    for recipient in recipients:
        yield field, recipient


def _without_name(recipient: object) -> object:
    """`Ann <ann@example.com>` is ann@example.com."""
    named = _NAMED_ADDRESS.fullmatch(recipient) if isinstance(recipient, str) else None
    return named[1] if named else recipient


def _first(values: object) -> object:
    """A tag's value: SES has a list for each."""
    return (values[0] if values else None) if isinstance(values, list) else values


def _as_list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
