"""Whose event an object is, told by the names of its fields: no provider says so itself."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from schemas.email_logs import EmailEvent


class Provider(StrEnum):
    """Who wrote the event; also the first part of its log_id."""

    OWN_LOG = "log"
    SENDGRID = "sendgrid"
    MAILGUN = "mailgun"
    POSTMARK = "postmark"
    AMAZON_SES = "amazon_ses"


# Fields that one provider alone has, in any event. A custom argument of SendGrid stands at the top level too, so that
# these count before the names that our own line shares with others.
_MARKS = (
    ("RecordType", Provider.POSTMARK),
    ("event-data", Provider.MAILGUN),
    ("eventType", Provider.AMAZON_SES),
    ("notificationType", Provider.AMAZON_SES),
    ("sg_event_id", Provider.SENDGRID),
    ("sg_message_id", Provider.SENDGRID),
    ("smtp-id", Provider.SENDGRID),
)
_OWN_ID = "log_id"
_OWN_MARKS = (_OWN_ID, "at")
_MAILGUN_MARKS = ("recipient", "message-headers", "X-Mailgun-Sid", "X-Mailgun-Tag", "Message-Id", "log-level", "token")
_OWN_EVENTS = frozenset(EmailEvent)
_SENDGRID_EVENTS = frozenset({"open", "click", "bounce", "spamreport", "unsubscribe", "group_unsubscribe"})
"""Words that no other provider uses."""


def recognise_provider(fields: Mapping[str, Any]) -> Provider | None:
    """The provider of an event, None if it has no provider's shape. Fields that are null count as absent."""
    for name, provider in _MARKS:
        if fields.get(name) is not None:
            return provider
    if fields.get("Type") is not None and (fields.get("Message") is not None or fields.get("TopicArn") is not None):
        return Provider.AMAZON_SES  # in the envelope of SNS
    event = fields.get("event")
    if event is None:
        return Provider.OWN_LOG if fields.get(_OWN_ID) is not None else None
    if any(fields.get(name) is not None for name in _OWN_MARKS):
        return Provider.OWN_LOG
    if any(fields.get(name) is not None for name in _MAILGUN_MARKS):
        return Provider.MAILGUN  # event-data without its envelope, or the flat form of old webhooks
    if fields.get("timestamp") is not None and fields.get("email") is not None:
        return Provider.SENDGRID  # an event of before 2014, when they got ids
    if not isinstance(event, str):
        return None
    if event in _OWN_EVENTS:
        return Provider.OWN_LOG
    # An email and another word are what half of all providers send: not ours, though it may be one of ours misspelt.
    return Provider.SENDGRID if event.lower() in _SENDGRID_EVENTS else None
