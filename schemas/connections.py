"""A connection: who may send to the collector, with which keys, and how fast."""

from enum import StrEnum

import msgspec


class ConnectionKind(StrEnum):
    """What sends through the connection; a key of one kind does not open the door of another."""

    SEGMENT = "segment"
    """Segment's SDKs, its HTTP API and its webhooks: Segment calls."""
    SENDGRID = "sendgrid"
    MAILGUN = "mailgun"
    POSTMARK = "postmark"
    AMAZON_SES = "amazon_ses"

    @property
    def sends_calls(self) -> bool:
        """Whether calls come through it; else the logs of an email provider."""
        return self is ConnectionKind.SEGMENT


class ApiKey(msgspec.Struct, frozen=True):
    """What is kept of a key: it cannot be read back from this."""

    key_id: str
    """The public part, by which the key is found and named."""
    salt: bytes
    hash: bytes
    created_at: int
    """Microseconds since 1970."""
    expires_at: int | None = None
    """Microseconds since 1970, from when on it opens nothing; None: never."""
    is_over: bool = False
    """It was ended at once, and opens nothing however wrong a clock is."""

    def is_valid(self, now: int) -> bool:
        """Whether it opens the door at `now`, in microseconds since 1970."""
        return not self.is_over and (self.expires_at is None or now < self.expires_at)


class Connection(msgspec.Struct, frozen=True):
    """One sender and its settings, as the changes add up."""

    connection_id: str
    workspace_id: str
    kind: ConnectionKind
    name: str
    created_at: int
    """Microseconds since 1970."""
    calls_per_second: int
    """How many calls, or log messages, a key may send in a second, for long: a collector process counts by itself."""
    verification_key: str | None = None
    """SendGrid's public key, base64: what its signatures are checked with. No secret."""
    topic_arn: str | None = None
    """The Amazon SNS topic whose notifications count."""
    secret_kept_at: int | None = None
    """When the secret store was last given a secret that signatures are checked with, in microseconds since 1970: since
    then unsigned webhooks are refused. None: there is none."""
    keys: tuple[ApiKey, ...] = ()
    """Oldest first."""

    def is_revoked(self, now: int) -> bool:
        """Whether no key of it is valid."""
        return not any(key.is_valid(now) for key in self.keys)
