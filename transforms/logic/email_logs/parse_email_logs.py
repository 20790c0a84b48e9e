"""From the bytes of messages to the lines of a log, and to the reasons why some of their events are none.

Total: for any bytes, every event comes out once, as a line (as several, if it has several recipients) or rejected, and
every line survives its coder.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.email_logs import MAX_LOG_BYTES, LogLine
from schemas.messages import Message
from schemas.rejections import Reason, Rejected
from transforms.logic.email_logs.amazon_ses import read_amazon_ses_event
from transforms.logic.email_logs.mailgun import read_mailgun_event
from transforms.logic.email_logs.own_log import read_common_own_line, read_own_line
from transforms.logic.email_logs.postmark import read_postmark_event
from transforms.logic.email_logs.read_log_fields import Arrival, decode_fields
from transforms.logic.email_logs.recognise_provider import Provider, recognise_provider
from transforms.logic.email_logs.sendgrid import read_common_sendgrid_event, read_sendgrid_event
from transforms.logic.read_wire import check_nesting

_READERS: Mapping[Provider, Callable[[Mapping[str, Any], Arrival], Iterator[LogLine]]] = {
    Provider.OWN_LOG: read_own_line,
    Provider.SENDGRID: read_sendgrid_event,
    Provider.MAILGUN: read_mailgun_event,
    Provider.POSTMARK: read_postmark_event,
    Provider.AMAZON_SES: read_amazon_ses_event,
}
_EVENTS = msgspec.json.Decoder(list[msgspec.Raw])
_WHITESPACE = b" \t\n\r"

# A string that never ends takes all the rest with it. Nothing is given back: to remember where that might begin takes
# a hundred times the memory of the string.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},]', re.DOTALL)


class RejectedLog(NamedTuple):
    """An event that is no line, and why."""

    payload: bytes
    """The event as it was sent, without its neighbours: what is published again after a fix."""
    verdict: Rejected
    message: Message
    """What it came in."""


class ParsedLogs(NamedTuple):
    """What messages hold."""

    lines: list[LogLine]
    rejected: list[RejectedLog]


def parse_email_logs(
    messages: Iterable[Message], read_at: int, default_workspace_id: str, max_log_bytes: int = MAX_LOG_BYTES
) -> ParsedLogs:
    """Read messages: each an event, or a JSON array of events, of any provider or several.

    `read_at` (microseconds since 1970) is the arrival of a line of a file. The workspace is the attribute's, else the
    line's own, else the default.
    """
    lines: list[LogLine] = []
    rejected: list[RejectedLog] = []
    of_a_file = Arrival(default_workspace_id, False, read_at)
    for message in messages:
        payload = message.payload
        arrival = of_a_file
        if message.attributes or message.published_at is not None:
            arrival = _read_arrival(message, read_at, default_workspace_id)
        events: Sequence[bytes] = (payload,)
        if not payload.startswith(b"{") or len(payload) > max_log_bytes:
            try:
                events = _split_message(payload, max_log_bytes)
            except Rejected as verdict:
                rejected.append(_reject(payload, verdict, message))
                continue
        for event in events:
            try:
                line = _read_common_event(event, arrival)
                if line is not None:
                    lines.append(line)
                    continue
                for line in _read_event(event, arrival):
                    lines.append(line)
            except Rejected as verdict:
                rejected.append(_reject(event, verdict, message))
    return ParsedLogs(lines, rejected)


def _read_arrival(message: Message, read_at: int, default_workspace_id: str) -> Arrival:
    stated = message.attributes.get("workspace_id")
    arrived_at = read_at if message.published_at is None else message.published_at
    connection_id = message.attributes.get("connection_id") or None
    return Arrival(stated or default_workspace_id, bool(stated), arrived_at, connection_id)


def _split_message(payload: bytes, max_log_bytes: int) -> Sequence[bytes]:
    """The events of a message."""
    if len(payload) > max_log_bytes:
        raise Rejected(Reason.TOO_LARGE, f"{len(payload):,} bytes; a message may have {max_log_bytes:,}")
    if not payload.lstrip(_WHITESPACE).startswith(b"["):
        return (payload,)
    return _split_batch(payload)


def _reject(payload: bytes, verdict: Rejected, message: Message) -> RejectedLog:
    """A verdict without its traceback, which holds all that was being read, and whose frames would hold the verdict."""
    return RejectedLog(payload, Rejected(verdict.reason, verdict.detail), message)


def _read_common_event(payload: bytes, arrival: Arrival) -> LogLine | None:
    """The line of an event in which all is as it should be. Raises `Rejected` for what nobody could read."""
    # Most events are flat but for one array, and finding takes less time than counting.
    if payload.rfind(b"{") > 0 or payload.find(b"[") != payload.rfind(b"["):
        check_nesting(payload)
    if not payload.isascii():
        try:
            payload.decode()  # the decoder does not look into text that it skips
        except UnicodeDecodeError:
            raise Rejected(Reason.BAD_REQUEST, "the event is not UTF-8") from None
    # A guess, since both readers look for themselves. From the end, where SendGrid has them: it takes half of the time.
    is_sendgrid = payload.rfind(b'"sg_') >= 0
    return read_common_sendgrid_event(payload, arrival) if is_sendgrid else read_common_own_line(payload, arrival)


def _read_event(payload: bytes, arrival: Arrival) -> Iterator[LogLine]:
    """The lines of any event. Raises `Rejected`, at once or after some lines."""
    fields = decode_fields(payload, "the event")
    provider = recognise_provider(fields)
    if provider is None:
        raise Rejected(Reason.UNKNOWN_PROVIDER, "the fields are those of no provider, nor of our own log")
    return _READERS[provider](fields, arrival)


def _split_batch(payload: bytes) -> list[bytes]:
    """The elements of an array as they were sent, each malformed in itself or not."""
    try:
        events = [bytes(raw) for raw in _EVENTS.decode(payload)]
    except (msgspec.DecodeError, RecursionError):  # some element is malformed, or nests too deep
        events = _split_malformed(payload)
        if not all(events):
            raise Rejected(Reason.BAD_REQUEST, "the message is an array that is not JSON") from None
    if not events:
        raise Rejected(Reason.EMPTY_BATCH, "an array without events")
    return events


def _split_malformed(payload: bytes) -> list[bytes]:
    """The elements of an array that no decoder takes, by its brackets and commas; one is empty if that cannot be."""
    payload = payload.strip(_WHITESPACE)
    events = []
    depth, start = 0, 1
    for token in _TOKENS.finditer(payload):
        character = token[0][:1]
        if character in b"[{":
            depth += 1
        elif character in b"]}":
            depth -= 1
        if depth == 0 or (depth == 1 and character == b","):
            events.append(payload[start : token.start()].strip(_WHITESPACE))
            start = token.end()
            if depth == 0:
                break
    return events if start == len(payload) and payload.endswith(b"]") else [b""]
