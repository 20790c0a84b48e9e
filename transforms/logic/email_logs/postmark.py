"""Postmark's webhooks: https://postmarkapp.com/developer/webhooks/webhooks-overview."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from schemas.email_logs import EmailEvent, LogLine
from schemas.rejections import Reason, Rejected
from transforms.logic.email_logs.judge_user_agents import is_machine
from transforms.logic.email_logs.read_log_fields import (
    Arrival,
    SenderFields,
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

# RecordType -> the event, the field of the recipient and that of the time.
RECORD_TYPES = MappingProxyType(
    {
        "Delivery": (EmailEvent.DELIVERED.value, "Recipient", "DeliveredAt"),
        "Open": (EmailEvent.OPENED.value, "Recipient", "ReceivedAt"),
        "Click": (EmailEvent.CLICKED.value, "Recipient", "ReceivedAt"),
        "Bounce": (EmailEvent.BOUNCED.value, "Email", "BouncedAt"),
        "SpamComplaint": (EmailEvent.REPORTED_AS_SPAM.value, "Email", "BouncedAt"),
        "SubscriptionChange": (EmailEvent.UNSUBSCRIBED.value, "Recipient", "ChangedAt"),
    }
)
NOT_REPORTED = frozenset({"Inbound"})

# https://postmarkapp.com/developer/api/bounce-api#bounce-types. A SpamNotification says that a filter or a block turned
# the email away; what a human reports as spam is a SpamComplaint.
BOUNCE_TYPES = MappingProxyType(
    {
        "HardBounce": EmailEvent.BOUNCED.value,
        "SoftBounce": EmailEvent.BOUNCED.value,
        "BadEmailAddress": EmailEvent.BOUNCED.value,
        "Blocked": EmailEvent.BOUNCED.value,
        "DMARCPolicy": EmailEvent.BOUNCED.value,
        "SpamNotification": EmailEvent.BOUNCED.value,
        "VirusNotification": EmailEvent.BOUNCED.value,
        "Unknown": EmailEvent.BOUNCED.value,
        "SpamComplaint": EmailEvent.REPORTED_AS_SPAM.value,
        "Unsubscribe": EmailEvent.UNSUBSCRIBED.value,
    }
)
# A delay that may pass, an answer of a program or a human, or an email that Postmark never sent.
BOUNCE_TYPES_NOT_REPORTED = frozenset(
    {
        "Transient",
        "DnsError",
        "AutoResponder",
        "AddressChange",
        "ChallengeVerification",
        "Subscribe",
        "OpenRelayTest",
        "ManuallyDeactivated",
        "Unconfirmed",
        "SMTPApiError",
        "InboundError",
        "TemplateRenderingFailed",
    }
)

# https://postmarkapp.com/developer/webhooks/subscription-change-webhook
SUPPRESSION_REASONS = MappingProxyType(
    {
        "ManualSuppression": EmailEvent.UNSUBSCRIBED.value,
        "HardBounce": EmailEvent.BOUNCED.value,
        "SpamComplaint": EmailEvent.REPORTED_AS_SPAM.value,
    }
)


def read_postmark_event(fields: Mapping[str, Any], arrival: Arrival) -> Iterator[LogLine]:
    """The line that one event makes. Raises `Rejected` and names the field that makes none.

    Only bounces and complaints have an id, each kind its own; the others are known by their content.
    """
    record_type = read_event_name(fields.get("RecordType"), "RecordType")
    if record_type in NOT_REPORTED:
        raise Rejected(Reason.EVENT_NOT_REPORTED, f"Postmark's {record_type}")
    if record_type not in RECORD_TYPES:
        raise Rejected(Reason.UNKNOWN_EVENT, "RecordType is none of Postmark's")
    what, recipient_field, time_field = RECORD_TYPES[record_type]
    if record_type == "Bounce":
        what = _judge_bounce(fields)
    elif record_type == "SubscriptionChange":
        what = _judge_subscription_change(fields)
    sender = read_sender_fields(read_object(fields.get("Metadata")), SenderFields())
    sender.email_id = sender.email_id or read_text(fields.get("MessageID"))
    sender.email_subject = sender.email_subject or read_text(fields.get("Subject"))
    email = read_recipient(fields.get(recipient_field), recipient_field)
    at = read_iso_time(fields.get(time_field), time_field)
    record_id = read_text(fields.get("ID"))
    user_agent = read_text(fields.get("UserAgent"))
    yield make_line(
        arrival,
        what,
        make_log_id(Provider.POSTMARK, f"{record_type}:{record_id}" if record_id else digest_content(fields)),
        at,
        email,
        sender,
        read_text(fields.get("OriginalLink")) if what == EmailEvent.CLICKED else None,
        user_agent,
        read_text(read_object(fields.get("Geo")).get("IP")),
        is_machine(what, user_agent),
    )


def _judge_bounce(fields: Mapping[str, Any]) -> str:
    bounce_type = read_event_name(fields.get("Type"), "Type")
    if bounce_type in BOUNCE_TYPES_NOT_REPORTED:
        raise Rejected(Reason.EVENT_NOT_REPORTED, f"Postmark's Bounce of the type {bounce_type}")
    if bounce_type not in BOUNCE_TYPES:
        raise Rejected(Reason.UNKNOWN_EVENT, "Type is none of Postmark's bounce types")
    return BOUNCE_TYPES[bounce_type]


def _judge_subscription_change(fields: Mapping[str, Any]) -> str:
    """An unsubscribe is the recipient's: a suppression that customer or staff set by hand is none."""
    if fields.get("SuppressSending") is not True:
        raise Rejected(Reason.EVENT_NOT_REPORTED, "Postmark's SubscriptionChange, unless SuppressSending is true")
    reason = read_event_name(fields.get("SuppressionReason"), "SuppressionReason")
    if reason not in SUPPRESSION_REASONS:
        raise Rejected(Reason.UNKNOWN_EVENT, "SuppressionReason is none of Postmark's")
    if reason == "ManualSuppression" and fields.get("Origin") in ("Customer", "Admin"):
        raise Rejected(Reason.EVENT_NOT_REPORTED, "Postmark's SubscriptionChange whose Origin is not the recipient")
    return SUPPRESSION_REASONS[reason]
