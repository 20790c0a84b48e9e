"""Lines of our own log: the fields of contract section 6, and what the sender knows besides."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from schemas.email_logs import EmailEvent, LogLine
from schemas.rejections import Reason, Rejected
from transforms.logic.email_logs.judge_user_agents import is_machine
from transforms.logic.email_logs.read_log_fields import (
    Arrival,
    SenderFields,
    Text,
    digest_content,
    make_line,
    make_log_id,
    read_event_id,
    read_event_name,
    read_flag,
    read_iso_time,
    read_recipient,
    read_sender_fields,
    read_text,
)
from transforms.logic.email_logs.recognise_provider import Provider
from transforms.logic.parse_call import normalise_email
from transforms.logic.read_timestamps import to_micros

_EVENTS = frozenset(EmailEvent)
_OPENED, _CLICKED = EmailEvent.OPENED.value, EmailEvent.CLICKED.value
_PROVIDER = Provider.OWN_LOG


class _OwnLine(SenderFields, gc=False):
    event: str = ""
    log_id: Text = None
    at: datetime | None = None
    workspace_id: Text = None
    email: str | None = None
    email_link_url: Text = None
    user_agent: Text = None
    ip: Text = None
    machine_open: bool | None = None
    """opened: whether it was a machine, where the sender knows; the user agent is not asked then."""
    bot_click: bool | None = None
    """clicked: the same."""


class _CommonLine(_OwnLine, gc=False):
    """A line without any field by which `recognise_provider` takes it for another's."""

    record_type: None = msgspec.field(default=None, name="RecordType")
    event_data: None = msgspec.field(default=None, name="event-data")
    event_type: None = msgspec.field(default=None, name="eventType")
    notification_type: None = msgspec.field(default=None, name="notificationType")
    envelope: None = msgspec.field(default=None, name="Type")
    sg_event_id: None = None
    sg_message_id: None = None
    smtp_id: None = msgspec.field(default=None, name="smtp-id")


_LINE = msgspec.json.Decoder(_CommonLine)


def read_common_own_line(payload: bytes, arrival: Arrival) -> LogLine | None:
    """The line of a payload in UTF-8 in which every field is as it should be; None: look at them one by one."""
    try:
        line = _LINE.decode(payload)
    except ValueError:  # every error of the decoder is one
        return None
    if line.log_id is None or line.event not in _EVENTS:
        return None
    email, at = normalise_email(line.email), to_micros(line.at)
    if email is None or (at is None and line.at is not None):
        return None
    return _shape_own_line(line, arrival, make_log_id(_PROVIDER, line.log_id), email, at)


def read_own_line(fields: Mapping[str, Any], arrival: Arrival) -> Iterator[LogLine]:
    """The line that these fields make. Raises `Rejected` and names the field that makes none.

    A link, a user agent or a flag that cannot be read counts as absent, and a click without a link is a click.
    """
    event = read_event_name(fields.get("event"), "event")
    if event not in _EVENTS:
        raise Rejected(Reason.UNKNOWN_EVENT, f"event is none of {', '.join(EmailEvent)}")
    line = _OwnLine(
        event=event,
        workspace_id=read_event_id(fields.get("workspace_id"), "workspace_id"),
        email_link_url=read_text(fields.get("email_link_url")),
        user_agent=read_text(fields.get("user_agent")),
        ip=read_text(fields.get("ip")),
        machine_open=read_flag(fields.get("machine_open")),
        bot_click=read_flag(fields.get("bot_click")),
    )
    read_sender_fields(fields, line)
    email, at = read_recipient(fields.get("email"), "email"), read_iso_time(fields.get("at"), "at")
    log_id = read_event_id(fields.get("log_id"), "log_id") or digest_content(fields)
    yield _shape_own_line(line, arrival, make_log_id(_PROVIDER, log_id), email, at)


def _shape_own_line(line: _OwnLine, arrival: Arrival, log_id: str, email: str, at: int | None) -> LogLine:
    if line.workspace_id is not None and not arrival.is_workspace_stated:
        arrival = Arrival(line.workspace_id, False, arrival.arrived_at, arrival.connection_id)
    known = line.machine_open if line.event == _OPENED else line.bot_click if line.event == _CLICKED else None
    return make_line(
        arrival,
        line.event,
        log_id,
        at,
        email,
        line,
        line.email_link_url,
        line.user_agent,
        line.ip,
        is_machine(line.event, line.user_agent) if known is None else known,
    )
