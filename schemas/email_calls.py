"""The calls that email logs give rise to, before they are written out as JSON."""

from enum import StrEnum

import msgspec

from schemas.email_logs import LogLine


class EmailCallKind(StrEnum):
    """The nine events by the names that Segment's page of the source gives them, and the three other calls.

    https://segment.com/docs/connections/sources/catalog/cloud-apps/inflection/#events
    """

    EMAIL_DELIVERED = "Email Delivered"
    EMAIL_OPENED = "Email Opened"
    EMAIL_UNIQUE_OPENS = "Email Unique Opens"
    EMAIL_BOUNCED = "Email Bounced"
    EMAIL_REPORTED_AS_SPAM = "Email Reported as Spam"
    LINK_CLICKED = "Link Clicked"
    UNIQUE_LINK_CLICK = "Unique Link Click"
    UNIQUE_LINK_CLICK_PER_UNIQUE_OPEN = "Unique Link Click per Unique Open"
    EMAIL_UNSUBSCRIBED = "Email Unsubscribed"
    PAGE = "page"
    GROUP = "group"
    IDENTIFY = "identify"


class EmailCall(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """One call to be made."""

    kind: str
    """An `EmailCallKind`."""
    line: LogLine
    """What it is about, with today's person. Of an identify only the workspace, the person and the email count."""
    user_id: str | None
    """The customer's id for the person, where it is known."""
    at: int
    """The call's timestamp, in microseconds since 1970."""
    is_unique_open: bool = False
    is_unique_click: bool = False
    is_implied_open: bool = False


class EmailCallBlock(msgspec.Struct, array_like=True, gc=False):
    """Some calls that travel as one element, in the order in which they are to be sent."""

    calls: list[EmailCall]
