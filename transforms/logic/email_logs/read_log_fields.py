"""What the readers of all providers share: ids, recipients, times, and the line that is made of them."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from schemas.email_logs import LogLine
from schemas.identity_rules import DEFAULT_RULES
from schemas.rejections import Reason, Rejected
from transforms.logic.decode_json import decode_object
from transforms.logic.email_logs.recognise_provider import Provider
from transforms.logic.parse_call import normalise_email
from transforms.logic.read_timestamps import MAX_FUTURE_MICROS, MAX_MICROS, MIN_MICROS, read_timestamp
from transforms.logic.read_wire import check_nesting, describe, read_id

# Ids of providers have some 20 to 60 characters. Each line's id is kept for as long as repeats are looked for.
MAX_EVENT_ID_CHARACTERS = 200

# From here on a number counts milliseconds: as seconds it would be the year 5138, as milliseconds it is 1973.
MIN_MILLISECONDS = 100_000_000_000

# Browsers send some hundred. What only describes the reader must not make a call larger than Segment takes.
MAX_AGENT_CHARACTERS = 1_000

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)] | None
"""A field that needs no second look; anything else is read by `read_sender_fields` and its like."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_SECONDS = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_NEVER_EMPTY = frozenset({"person_id", "user_id"})


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """What is known of an event before it is read: how its message got here."""

    workspace_id: str
    is_workspace_stated: bool
    """Whether the message's attribute says so. It then counts more than the line: the collector sets it from the key
    that the sender has proved to own."""
    arrived_at: int
    connection_id: str | None = None


class SenderFields(msgspec.Struct, gc=False):
    """What the sender of the email says of it, by names of our own that every provider can carry along."""

    person_id: Text = None
    user_id: Text = None
    email_id: Text = None
    campaign_id: Text = None
    campaign_run_id: Text = None
    campaign_name: Text = None
    email_subject: Text = None
    account_id: Text = None
    account_name: Text = None


_Fields = TypeVar("_Fields", bound=SenderFields)

SENDER_IDS = ("person_id", "user_id", "email_id", "campaign_id", "campaign_run_id", "account_id")
SENDER_NAMES = ("campaign_name", "email_subject", "account_name")


def read_sender_fields(values: Mapping[str, Any], fields: _Fields) -> _Fields:
    """Set the `SenderFields` that stand among a provider's custom arguments, metadata or tags.

    Ids must be ids, else counting persons would count something else. A name or a subject only describes: what cannot
    be read counts as absent, because the event is worth more.
    """
    for name in SENDER_IDS:
        setattr(fields, name, read_event_id(values.get(name), name))
    for name in SENDER_NAMES:
        setattr(fields, name, read_text(values.get(name)))
    return fields


def read_event_id(value: object, field: str) -> str | None:
    """An id: null means absent, a number is text. Empty text is no person and no user, but an absent campaign."""
    if value is None or (value == "" and field not in _NEVER_EMPTY):
        return None
    identifier = read_id(value)
    if identifier is None:
        raise Rejected(Reason.ID_NOT_STRING, f"{field} is {describe(value, 'missing')}")
    return identifier


def read_text(value: object) -> str | None:
    """Text, or a number as text; None for anything else, which counts as absent."""
    return read_id(value)


def read_flag(value: object) -> bool | None:
    """A boolean, also as its text or as 1 or 0; anything else is None: nobody has said so."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return bool(value) if value in (0, 1) and isinstance(value, int) else None


def read_object(value: object) -> Mapping[str, Any]:
    """An object; anything else has no fields."""
    return value if isinstance(value, dict) else {}


def read_event_name(value: object, field: str) -> str:
    """What happened, in the provider's words."""
    if not isinstance(value, str) or not value:
        raise Rejected(Reason.UNKNOWN_EVENT, f"{field} is {describe(value, 'missing')}")
    return value


def read_recipient(value: object, field: str) -> str:
    """The recipient's email, as identities are compared."""
    email = normalise_email(value)
    if email is None:
        what = "no email address" if isinstance(value, str) and value else describe(value, "missing")
        raise Rejected(Reason.RECIPIENT_NOT_VALID, f"{field} is {what}")
    return email


def read_iso_time(value: object, field: str) -> int | None:
    """ISO 8601 to microseconds since 1970; null means absent."""
    if value is None:
        return None
    micros = read_timestamp(value)
    if micros is None:
        what = (
            "no ISO 8601 time from the years 1 to 9999"
            if isinstance(value, str) and value
            else describe(value, "missing")
        )
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, f"{field} is {what}")
    return micros


def read_epoch_time(value: object, field: str) -> int | None:
    """Seconds or milliseconds since 1970, a number or its text, to microseconds; null means absent."""
    if value is None:
        return None
    number = value
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        number = float(value) if "." in value else int(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, f"{field} is {describe(value, 'missing')}, and no time since 1970")
    scale = 1_000 if number >= MIN_MILLISECONDS else 1_000_000
    micros = round(number * scale) if abs(number) <= MAX_MICROS else MAX_MICROS + 1
    if not MIN_MICROS <= micros <= MAX_MICROS:
        raise Rejected(Reason.TIMESTAMP_NOT_VALID, f"{field} lies outside the years 1 to 9999")
    return micros


def make_log_id(provider: Provider, event_id: str) -> str:
    """What a repeat is known by: the provider and the id that it gave the event, or its digest if that is long."""
    if len(event_id) > MAX_EVENT_ID_CHARACTERS:
        event_id = _digest(event_id.encode())
    return provider + ":" + event_id


def digest_content(content: Mapping[str, Any]) -> str:
    """An event id for an event that has none, the same for the same content in any order."""
    return _digest(msgspec.json.encode(content, order="deterministic"))


def make_line(
    arrival: Arrival,
    event: str,
    log_id: str,
    at: int | None,
    email: str,
    sender: SenderFields,
    link: str | None,
    user_agent: str | None,
    ip: str | None,
    is_machine: bool,
) -> LogLine:
    """The line of an event that is valid. A time that is absent or lies too far in the future is that of the arrival.

    Ids that are blocked, because clients send them when they know nobody, count as absent.
    """
    arrived_at = arrival.arrived_at
    if at is None or at > arrived_at + MAX_FUTURE_MICROS:
        at = arrived_at
    person_id, user_id = sender.person_id, sender.user_id
    return LogLine(
        arrival.workspace_id,
        log_id,
        event,
        at,
        arrived_at,
        email,
        None if person_id is None or DEFAULT_RULES.is_blocked(person_id) else person_id,
        None if user_id is None or DEFAULT_RULES.is_blocked(user_id) else user_id,
        sender.email_id,
        sender.campaign_id,
        sender.campaign_run_id,
        sender.campaign_name,
        sender.email_subject,
        link,
        user_agent if user_agent is None else user_agent[:MAX_AGENT_CHARACTERS],
        ip if ip is None else ip[:MAX_AGENT_CHARACTERS],
        is_machine,
        sender.account_id,
        sender.account_name,
        arrival.connection_id,
    )


def decode_fields(payload: bytes, name: str) -> dict[str, Any]:
    """The fields of a JSON object in UTF-8. Raises `Rejected` for anything else, and calls it by this name."""
    check_nesting(payload)
    try:
        text = payload.decode()
        _FIELDS.decode(text)
    except UnicodeDecodeError:
        raise Rejected(Reason.BAD_REQUEST, f"{name} is not UTF-8") from None
    except msgspec.ValidationError:
        raise Rejected(Reason.BAD_REQUEST, f"{name} is JSON, but not an object") from None
    except msgspec.DecodeError as error:
        what = str(error).removeprefix("JSON is malformed: ")
        raise Rejected(Reason.BAD_REQUEST, f"{name} is not JSON: {what}") from None
    return decode_object(text)


def read_nested(value: object) -> object:
    """JSON in a text, as form fields have it; what is no such text stays as it is."""
    if not isinstance(value, str):
        return value
    payload = value.encode()
    try:
        check_nesting(payload)
        return _ANY.decode(payload)
    except (Rejected, msgspec.DecodeError):
        return None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
