"""Email calls as JSON, with the names that Segment's page of the source gives them.

https://segment.com/docs/connections/sources/catalog/cloud-apps/inflection/
"""

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import msgspec
from uuid_utils import UUID, uuid5

from schemas.calls import MAX_CALL_BYTES
from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_logs import EmailEvent
from schemas.outgoing_calls import OutgoingBlock, OutgoingCall
from transforms.logic.outgoing_blocks import join_block, split_block
from transforms.logic.read_timestamps import to_moment

# Namespace of the messageIds. Never change it: what was sent would be sent again under other ids.
_MESSAGE_IDS = UUID("b1f6c8e2-5d1f-5c7f-a3c5-f0a4d2c96e37")

_ENCODER = msgspec.json.Encoder()

# Encoded at once; at their usual 550 bytes so few are smaller together than one may be, and none has to be measured.
CALLS_AT_ONCE = 40

# An enum's member is looked up anew each time; these are asked for each call.
_PAGE, _GROUP, _IDENTIFY = EmailCallKind.PAGE.value, EmailCallKind.GROUP.value, EmailCallKind.IDENTIFY.value
_UNIQUE_CLICK = EmailCallKind.UNIQUE_LINK_CLICK.value
_DERIVED = frozenset(
    {
        EmailCallKind.EMAIL_UNIQUE_OPENS.value,
        EmailCallKind.UNIQUE_LINK_CLICK_PER_UNIQUE_OPEN.value,
        _UNIQUE_CLICK,
        _IDENTIFY,
        _GROUP,
    }
)
_OPENED = EmailEvent.OPENED.value


class _Properties(msgspec.Struct, gc=False):
    """The ten, in the page's order: all of them in every event, null where there is nothing to say."""

    event: str
    userId: str  # noqa: N815 - the page's name
    email_id: str | None
    campaign_id: str | None
    campaign_run_id: str | None
    campaign_name: str | None
    email_subject: str | None
    email_link_url: str | None
    is_unique_open: bool
    is_unique_click: bool


class _EmailTrait(msgspec.Struct, gc=False):
    email: str


class _Context(msgspec.Struct, omit_defaults=True, gc=False):
    """Who and what asked for the email or the page. Whatever is not one of the ten properties stands here."""

    ip: str | None = None
    userAgent: str | None = None  # noqa: N815 - Segment's name
    traits: _EmailTrait | None = None
    """The email is a trait only while the person has no userId: said of a userId, too, every event would tie the two
    together again, also after somebody has found that they don't belong together."""
    machine_open: bool = False
    bot_click: bool = False
    implied_open: bool = False
    page: dict[str, str] | None = None


class _Call(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    type: str
    message_id: str
    timestamp: datetime
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    group_id: str | None = None
    properties: _Properties | dict[str, str] | None = None
    traits: _EmailTrait | dict[str, str] | None = None
    context: _Context | None = None


def make_calls(calls: list[EmailCall]) -> tuple[OutgoingBlock, list[OutgoingCall]]:
    """The calls as they are sent, and those that are larger than Segment takes."""
    kept: list[EmailCall] = []
    texts: list[bytes] = []
    too_large: list[OutgoingCall] = []
    for start in range(0, len(calls), CALLS_AT_ONCE):
        some = calls[start : start + CALLS_AT_ONCE]
        lines = _ENCODER.encode_lines(list(map(_shape_call, some)))
        if len(lines) > MAX_CALL_BYTES:
            made = split_block(OutgoingBlock(some, lines))
            large = [call for call in made if len(call.payload) > MAX_CALL_BYTES]
            if large:
                sent = join_block(call for call in made if len(call.payload) <= MAX_CALL_BYTES)
                some, lines = sent.calls, sent.lines
                too_large += large
        kept += some
        texts.append(lines)
    return OutgoingBlock(kept, b"".join(texts)), too_large


def _shape_call(call: EmailCall) -> _Call:
    return _MAKE.get(call.kind, _make_track)(call)


def derive_message_id(call: EmailCall) -> str:
    """A UUIDv5 of what there is only one of, so that whoever is sent the call twice can tell.

    What is derived goes by the person, the campaign run, the email and the link; what a log line says, by the line.
    """
    line, kind = call.line, call.kind
    name: tuple[str | None, ...]
    if kind not in _DERIVED:
        name = kind, line.workspace_id, line.log_id, line.email
    elif kind == _UNIQUE_CLICK:
        name = kind, line.workspace_id, line.person_id, line.campaign_run_id, line.email_id, line.email_link_url
    elif kind == _IDENTIFY:
        name = kind, line.workspace_id, line.person_id, call.user_id
    elif kind == _GROUP:
        name = kind, line.workspace_id, line.person_id, line.account_id
    else:
        name = kind, line.workspace_id, line.person_id, line.campaign_run_id, line.email_id
    return str(uuid5(_MESSAGE_IDS, _ENCODER.encode(name).decode()))


def _make_track(call: EmailCall) -> _Call:
    line, user_id = call.line, call.user_id
    properties = _Properties(
        line.event,
        line.email,
        line.email_id,
        line.campaign_id,
        line.campaign_run_id,
        line.campaign_name,
        line.email_subject,
        line.email_link_url,
        call.is_unique_open,
        call.is_unique_click,
    )
    context = _make_context(call)
    if line.is_machine or call.is_implied_open:
        context = context or _Context()
        is_open = line.event == _OPENED
        context.machine_open, context.bot_click = line.is_machine and is_open, line.is_machine and not is_open
        context.implied_open = call.is_implied_open
    # Without `_make_head`: nearly all calls are made here, and a star takes twice as long.
    anonymous_id = line.person_id if user_id is None else None
    message_id, at = derive_message_id(call), to_moment(call.at)
    return _Call("track", message_id, at, user_id, anonymous_id, call.kind, None, properties, None, context)


def _make_page(call: EmailCall) -> _Call:
    """https://segment.com/docs/connections/spec/page/#properties."""
    line = call.line
    url = _split_url(line.email_link_url)
    properties = url | _present(
        email_id=line.email_id,
        campaign_id=line.campaign_id,
        campaign_run_id=line.campaign_run_id,
        campaign_name=line.campaign_name,
    )
    context = _make_context(call)
    if url:
        context = context or _Context()
        context.page = url
    return _Call("page", *_make_head(call), properties=properties, context=context)


def _make_group(call: EmailCall) -> _Call:
    line = call.line
    traits = _present(name=line.account_name)
    return _Call("group", *_make_head(call), group_id=line.account_id, traits=traits, context=_make_context(call))


def _make_identify(call: EmailCall) -> _Call:
    line, trait = call.line, _EmailTrait(call.line.email)
    return _Call("identify", derive_message_id(call), to_moment(call.at), call.user_id, line.person_id, traits=trait)


def _make_head(call: EmailCall) -> tuple[str, datetime, str | None, str | None]:
    """message_id, timestamp, user_id and anonymous_id; but an identify has both of the ids."""
    user_id = call.user_id
    return derive_message_id(call), to_moment(call.at), user_id, call.line.person_id if user_id is None else None


_MAKE: dict[str, Callable[[EmailCall], _Call]] = {
    _PAGE: _make_page,
    _GROUP: _make_group,
    _IDENTIFY: _make_identify,
}


def _make_context(call: EmailCall) -> _Context | None:
    """What every call says of the one who asked; None if there is nothing to say."""
    line = call.line
    if call.user_id is None:
        return _Context(line.ip, line.user_agent, _EmailTrait(line.email))
    if line.ip is None and line.user_agent is None:
        return None
    return _Context(line.ip, line.user_agent)


def _split_url(url: str | None) -> dict[str, str]:
    if url is None:
        return {}
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no IPv6 address, for one
        return {"url": url}
    search = f"?{parts.query}" if parts.query else None
    return _present(url=url, path=parts.path or None, search=search)


def _present(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
