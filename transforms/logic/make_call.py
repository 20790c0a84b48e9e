"""Email calls as JSON, with the names that Segment's page of the source gives them.

https://segment.com/docs/connections/sources/catalog/cloud-apps/inflection/
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from typing import Any
from urllib.parse import urlsplit

import msgspec

from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_logs import EmailEvent
from schemas.outgoing_calls import OutgoingCall

# Namespace of the messageIds. Never change it: what was sent would be sent again under other ids.
_NAMESPACE = bytes.fromhex("b1f6c8e25d1f5c7fa3c5f0a4d2c96e37")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENCODER = msgspec.json.Encoder()


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


class _Call(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    type: str
    message_id: str
    timestamp: datetime
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    group_id: str | None = None
    properties: _Properties | dict[str, Any] | None = None
    traits: dict[str, str] | None = None
    context: dict[str, Any] = {}


def make_call(call: EmailCall) -> OutgoingCall:
    """The call as it is sent."""
    message_id = derive_message_id(call)
    made = _Call(_TYPES.get(call.kind, "track"), message_id, _EPOCH + timedelta(microseconds=call.at))
    if call.user_id is not None:
        made.user_id = call.user_id
    if call.user_id is None or call.kind == EmailCallKind.IDENTIFY:
        made.anonymous_id = call.line.person_id
    _FILL.get(call.kind, _fill_track)(made, call)
    return OutgoingCall(call.line.workspace_id, message_id, _ENCODER.encode(made))


def derive_message_id(call: EmailCall) -> str:
    """A UUIDv5 of what there is only one of, so that whoever is sent the call twice can tell.

    What is derived goes by the person, the campaign run, the email and the link; what a log line says, by the line.
    """
    line = call.line
    name: tuple[str | None, ...] = (line.log_id, line.email)
    if call.kind == EmailCallKind.UNIQUE_LINK_CLICK:
        name = (line.person_id, line.campaign_run_id, line.email_id, line.email_link_url)
    elif call.kind in (EmailCallKind.EMAIL_UNIQUE_OPENS, EmailCallKind.UNIQUE_LINK_CLICK_PER_UNIQUE_OPEN):
        name = (line.person_id, line.campaign_run_id, line.email_id)
    elif call.kind == EmailCallKind.IDENTIFY:
        name = (line.person_id, call.user_id)
    elif call.kind == EmailCallKind.GROUP:
        name = (line.person_id, line.account_id)
    digest = sha1(
        _NAMESPACE + _ENCODER.encode((call.kind, line.workspace_id, *name)), usedforsecurity=False
    ).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def _fill_track(made: _Call, call: EmailCall) -> None:
    line = call.line
    made.event = call.kind
    made.properties = _Properties(
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
    made.context = _make_context(call)
    if line.is_machine:
        made.context["machine_open" if line.event == EmailEvent.OPENED else "bot_click"] = True
    if call.is_implied_open:
        made.context["implied_open"] = True


def _fill_page(made: _Call, call: EmailCall) -> None:
    """https://segment.com/docs/connections/spec/page/#properties."""
    line = call.line
    url = _split_url(line.email_link_url)
    made.properties = url | _present(
        email_id=line.email_id,
        campaign_id=line.campaign_id,
        campaign_run_id=line.campaign_run_id,
        campaign_name=line.campaign_name,
    )
    made.context = _make_context(call)
    if url:
        made.context["page"] = url


def _fill_group(made: _Call, call: EmailCall) -> None:
    made.group_id = call.line.account_id
    made.traits = _present(name=call.line.account_name)
    made.context = _make_context(call)


def _fill_identify(made: _Call, call: EmailCall) -> None:
    made.traits = {"email": call.line.email}


_FILL: dict[str, Callable[[_Call, EmailCall], None]] = {
    EmailCallKind.PAGE.value: _fill_page,
    EmailCallKind.GROUP.value: _fill_group,
    EmailCallKind.IDENTIFY.value: _fill_identify,
}
_TYPES = {kind: kind for kind in _FILL}


def _make_context(call: EmailCall) -> dict[str, Any]:
    """Who and what asked for the email or the page.

    The email is a trait only while the person has no userId: said of a userId, too, every event would tie the two
    together again, also after somebody has found that they don't belong together.
    """
    line = call.line
    context: dict[str, Any] = _present(ip=line.ip, userAgent=line.user_agent)
    if call.user_id is None:
        context["traits"] = {"email": line.email}
    return context


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
