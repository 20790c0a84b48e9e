"""Mailgun's webhooks: https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure.

Three shapes: the event in an envelope with its signature, the event alone (as the Events API gives it), and the flat
form fields of the webhooks of before 2018.
"""

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
    read_epoch_time,
    read_event_name,
    read_nested,
    read_object,
    read_recipient,
    read_sender_fields,
    read_text,
)
from transforms.logic.email_logs.recognise_provider import Provider
from transforms.logic.read_wire import describe

EVENTS = MappingProxyType(
    {
        "delivered": EmailEvent.DELIVERED.value,
        "opened": EmailEvent.OPENED.value,
        "clicked": EmailEvent.CLICKED.value,
        "bounced": EmailEvent.BOUNCED.value,  # of old webhooks; today it is `failed`
        "complained": EmailEvent.REPORTED_AS_SPAM.value,
        "unsubscribed": EmailEvent.UNSUBSCRIBED.value,
    }
)
# On its way, never sent, or of incoming mail and mailing lists.
NOT_REPORTED = frozenset(
    {
        "accepted",
        "rejected",
        "dropped",
        "stored",
        "list_member_uploaded",
        "list_member_upload_error",
        "list_uploaded",
    }
)

# A permanent failure for one of these reasons says that Mailgun did not send, because of what an earlier event said:
# https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-types.
SUPPRESSED = "suppress-"

_NO_BOT = frozenset({"", "none", "false"})


def read_mailgun_event(fields: Mapping[str, Any], arrival: Arrival) -> Iterator[LogLine]:
    """The line that one event makes. Raises `Rejected` and names the field that makes none.

    Mailgun's ids are unique within a day, so that the time belongs to the log_id. They count before the token of the
    signature, because a webhook that is sent again may be signed anew.
    """
    event, token = unwrap_event(fields)
    what = _judge_event(event)
    headers = read_object(read_object(event.get("message")).get("headers"))
    client = read_object(event.get("client-info"))
    sender = read_sender_fields(_read_variables(event), SenderFields())
    sender.email_id = sender.email_id or read_text(headers.get("message-id")) or read_text(event.get("Message-Id"))
    sender.email_subject = sender.email_subject or read_text(headers.get("subject"))
    user_agent = read_text(client.get("user-agent")) or read_text(event.get("user-agent"))
    email = read_recipient(event.get("recipient"), "recipient")
    at = read_epoch_time(event.get("timestamp"), "timestamp")
    event_id = read_text(event.get("id"))
    if event_id is not None and at is not None:
        event_id = f"{event_id}:{at}"
    yield make_line(
        arrival,
        what,
        make_log_id(Provider.MAILGUN, event_id or token or digest_content(event)),
        at,
        email,
        sender,
        read_text(event.get("url")) if what == EmailEvent.CLICKED else None,
        user_agent,
        read_text(event.get("ip")),
        _is_bot(what, client.get("bot")) or is_machine(what, user_agent),
    )


def unwrap_event(fields: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """The event, and the token that Mailgun made for its delivery."""
    event = fields.get("event-data")
    if event is None:
        return fields, read_text(fields.get("token"))
    if not isinstance(event, dict):
        raise Rejected(Reason.BAD_REQUEST, f"event-data is {describe(event, 'missing')}, not an object")
    return event, read_text(read_object(fields.get("signature")).get("token"))


def _judge_event(event: Mapping[str, Any]) -> str:
    """The `EmailEvent` that Mailgun's stands for."""
    name = read_event_name(event.get("event"), "event").lower()
    if name == "failed":
        reason = event.get("reason")
        if event.get("severity") != "permanent":
            raise Rejected(Reason.EVENT_NOT_REPORTED, "Mailgun's failed, unless severity is permanent")
        if isinstance(reason, str) and reason.startswith(SUPPRESSED):
            raise Rejected(Reason.EVENT_NOT_REPORTED, "Mailgun's failed, with the reason that it was never sent")
        return EmailEvent.BOUNCED.value
    if name in NOT_REPORTED:
        raise Rejected(Reason.EVENT_NOT_REPORTED, f"Mailgun's {name}")
    if name not in EVENTS:
        raise Rejected(Reason.UNKNOWN_EVENT, "event is none of Mailgun's")
    return EVENTS[name]


def _is_bot(event: str, bot: object) -> bool:
    """Whether Mailgun says so: `apple`, `gmail` or `generic` in client-info; empty for a human."""
    is_engagement = event in (EmailEvent.OPENED, EmailEvent.CLICKED)
    return is_engagement and (bot is True or (isinstance(bot, str) and bot.strip().lower() not in _NO_BOT))


def _read_variables(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the sender attached: user-variables, and where old webhooks have them: at the top level or in a header."""
    variables = event.get("user-variables")
    if variables is not None:
        return read_object(read_nested(variables))
    headers = read_nested(event.get("message-headers"))
    named = dict(header for header in headers if _is_header(header)) if isinstance(headers, list) else {}
    return {**read_object(read_nested(named.get("X-Mailgun-Variables"))), **event}


def _is_header(header: object) -> bool:
    return isinstance(header, list) and len(header) == 2 and isinstance(header[0], str)
