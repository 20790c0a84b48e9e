"""Lines of email logs, and the blocks in which they travel. The providers' own shapes are read in transforms/logic."""

from enum import StrEnum

import msgspec

from schemas.identity_updates import IdentityUpdate

# Pub/Sub takes 10 MB a message (https://cloud.google.com/pubsub/quotas#resource_limits), and a provider's webhook is
# published as it came: SendGrid alone posts up to about 1 MB at a time. So only a line of a file can be larger.
MAX_LOG_BYTES = 10_000_000


class EmailEvent(StrEnum):
    """What a log line says happened; our own vocabulary, to which every provider's is mapped."""

    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"
    REPORTED_AS_SPAM = "reported_as_spam"
    UNSUBSCRIBED = "unsubscribed"
    PAGE_VIEWED = "page_viewed"


class LineHead(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    """What a line begins with: enough to tell repeats and persons, and can be read without the rest.

    Never add a field here: it would stand in the middle of `LogLine`, which streams remember. Append to that.
    """

    workspace_id: str
    log_id: str
    """What repeats of a recipient's event are known by: the provider and its event id, or a digest of the content."""
    event: str
    """An `EmailEvent`."""
    at: int
    """When it happened."""
    arrived_at: int
    """When the message reached us: Pub/Sub's publish time; for a file, when it was read."""
    email: str
    """The recipient, lower-cased and trimmed."""
    person_id: str | None = None
    """As the line gives it; FindRecipients sets today's person."""


class LogLine(LineHead, array_like=True, omit_defaults=True, gc=False):
    """One event of one recipient, valid and with its defaults filled in. Times are microseconds since 1970 in UTC.

    Order of the fields, those of the head first, is the wire format between workers: append, never insert.
    """

    user_id: str | None = None
    """The customer's id for the recipient, if the line gives one that is not blocked."""
    email_id: str | None = None
    """Which email; where the sender gave none, the provider's id of the message."""
    campaign_id: str | None = None
    campaign_run_id: str | None = None
    campaign_name: str | None = None
    email_subject: str | None = None
    email_link_url: str | None = None
    """clicked: the link; page_viewed: the page."""
    user_agent: str | None = None
    ip: str | None = None
    is_machine: bool = False
    """opened and clicked: by a program and not by a human."""
    account_id: str | None = None
    """The company that the recipient belongs to, where the sender knows it."""
    account_name: str | None = None
    connection_id: str | None = None
    """The connection that delivered it: the message's attribute."""


class LogBlock(msgspec.Struct, array_like=True, gc=False):
    """Some lines, and some news of who is who, that travel as one element: a shuffle costs per element."""

    lines: list[LogLine]
    updates: list[IdentityUpdate] = []


class SealedBlock(msgspec.Struct, array_like=True, gc=False):
    """A `LogBlock` whose lines are left as they are encoded."""

    lines: list[msgspec.Raw]
    updates: list[IdentityUpdate] = []
