"""Events of SendGrid's Event Webhook: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event."""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from schemas.email_logs import EmailEvent, LogLine
from schemas.rejections import Reason, Rejected
from transforms.logic.email_logs.judge_user_agents import is_machine
from transforms.logic.email_logs.read_log_fields import (
    MIN_MILLISECONDS,
    Arrival,
    SenderFields,
    Text,
    digest_content,
    make_line,
    make_log_id,
    read_epoch_time,
    read_event_name,
    read_flag,
    read_object,
    read_recipient,
    read_sender_fields,
    read_text,
)
from transforms.logic.email_logs.recognise_provider import Provider
from transforms.logic.parse_call import normalise_email

# A bounce of the type `blocked` is one too: the recipient's server refused the email.
EVENTS = MappingProxyType(
    {
        "delivered": EmailEvent.DELIVERED.value,
        "open": EmailEvent.OPENED.value,
        "click": EmailEvent.CLICKED.value,
        "bounce": EmailEvent.BOUNCED.value,
        "spamreport": EmailEvent.REPORTED_AS_SPAM.value,
        "unsubscribe": EmailEvent.UNSUBSCRIBED.value,
        "group_unsubscribe": EmailEvent.UNSUBSCRIBED.value,
    }
)
# On its way, never sent, or subscribed again; and what befell the account instead of an email.
NOT_REPORTED = frozenset({"processed", "deferred", "dropped", "group_resubscribe", "account_status_change"})

_find_event = dict(EVENTS).get  # a proxy takes twice as long
_OPENED, _CLICKED = EmailEvent.OPENED.value, EmailEvent.CLICKED.value
_PROVIDER = Provider.SENDGRID
_MAX_SECONDS = MIN_MILLISECONDS - 1

# How the part of sg_message_id begins that tells which servers worked on it.
# https://docs.sendgrid.com/for-developers/tracking-events/event#json-objects
_SERVERS = re.compile(r"\.(?:st)?(?:filter|recvd)")


class _SendGridEvent(SenderFields, gc=False):
    """Custom arguments stand at the top level, among SendGrid's own fields.

    In the order in which SendGrid writes them: the decoder looks for each from the one before on.
    """

    email: str | None = None
    timestamp: int | None = None
    smtp_id: str | None = msgspec.field(default=None, name="smtp-id")
    event: str = ""
    sg_event_id: Text = None
    sg_message_id: Text = None
    useragent: Text = None
    ip: Text = None
    url: Text = None
    sg_machine_open: bool | None = None
    singlesend_id: Text = None
    singlesend_name: Text = None
    marketing_campaign_id: str | int | None = None
    marketing_campaign_name: Text = None


class _CommonEvent(_SendGridEvent, gc=False):
    """An event without any field that leads elsewhere or deeper."""

    record_type: None = msgspec.field(default=None, name="RecordType")
    event_data: None = msgspec.field(default=None, name="event-data")
    event_type: None = msgspec.field(default=None, name="eventType")
    notification_type: None = msgspec.field(default=None, name="notificationType")
    unique_args: None = None
    custom_args: None = None
    newsletter: None = None


_EVENT = msgspec.json.Decoder(_CommonEvent)


def read_common_sendgrid_event(payload: bytes, arrival: Arrival) -> LogLine | None:
    """The line of a payload in UTF-8 in which every field is as it should be; None: look at them one by one.

    Raises `Rejected` for what SendGrid tells of an email on its way: of all events as many as are reported.
    """
    try:
        event = _EVENT.decode(payload)
    except ValueError:  # every error of the decoder is one
        return None
    if event.sg_event_id is None:
        return None
    what, seconds, email = _find_event(event.event), event.timestamp, normalise_email(event.email)
    if what is None:
        _check_reported(event.event)
        return None
    if email is None or seconds is None or not 0 <= seconds <= _MAX_SECONDS:
        return None
    return _shape_event(event, what, arrival, make_log_id(_PROVIDER, event.sg_event_id), email, seconds * 1_000_000)


def read_sendgrid_event(fields: Mapping[str, Any], arrival: Arrival) -> Iterator[LogLine]:
    """The line that one event makes. Raises `Rejected` and names the field that makes none.

    Events that are older than custom arguments at the top level have them in `unique_args`.
    """
    name = read_event_name(fields.get("event"), "event").lower()
    _check_reported(name)
    if name not in EVENTS:
        raise Rejected(Reason.UNKNOWN_EVENT, "event is none of SendGrid's")
    arguments = {**read_object(fields.get("unique_args")), **read_object(fields.get("custom_args")), **fields}
    event = _SendGridEvent(
        event=name,
        sg_message_id=read_text(fields.get("sg_message_id")),
        smtp_id=read_text(fields.get("smtp-id")),
        url=read_text(fields.get("url")),
        useragent=read_text(fields.get("useragent")),
        ip=read_text(fields.get("ip")),
        sg_machine_open=read_flag(fields.get("sg_machine_open")),
        singlesend_id=read_text(fields.get("singlesend_id")),
        singlesend_name=read_text(fields.get("singlesend_name")),
        marketing_campaign_id=read_text(fields.get("marketing_campaign_id"))
        or read_text(read_object(fields.get("newsletter")).get("newsletter_id")),
        marketing_campaign_name=read_text(fields.get("marketing_campaign_name")),
    )
    read_sender_fields(arguments, event)
    email = read_recipient(fields.get("email"), "email")
    at = read_epoch_time(fields.get("timestamp"), "timestamp")
    event_id = read_text(fields.get("sg_event_id")) or digest_content(fields)
    yield _shape_event(event, EVENTS[name], arrival, make_log_id(_PROVIDER, event_id), email, at)


def _check_reported(name: str) -> None:
    if name in NOT_REPORTED:
        raise Rejected(Reason.EVENT_NOT_REPORTED, f"SendGrid's {name}")


def _shape_event(
    event: _SendGridEvent, what: str, arrival: Arrival, log_id: str, email: str, at: int | None
) -> LogLine:
    if event.email_id is None:
        event.email_id = _message_id(event.sg_message_id or "") or event.smtp_id or None
    if event.campaign_id is None:
        campaign_id = event.singlesend_id or event.marketing_campaign_id
        event.campaign_id = None if campaign_id is None else str(campaign_id) or None
    if event.campaign_name is None:
        event.campaign_name = event.singlesend_name or event.marketing_campaign_name
    return make_line(
        arrival,
        what,
        log_id,
        at,
        email,
        event,
        event.url if what == _CLICKED else None,
        event.useragent,
        event.ip,
        (what == _OPENED and event.sg_machine_open is True) or is_machine(what, event.useragent),
    )


def _message_id(sg_message_id: str) -> str:
    """The id of the message, without the servers that it went through: `14c5d75ce93.dfd.64b469.filter0001.16648...`."""
    cut = _SERVERS.search(sg_message_id)
    return sg_message_id[: cut.start()] if cut else sg_message_id
