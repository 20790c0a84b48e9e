"""Why a message is rejected, and what is kept of it."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a message is rejected: a closed set, one row in docs/dead_letters.md and one golden case each.

    Segment's own discard codes where it has one: https://segment.com/docs/connections/delivery-overview/.
    """

    BAD_REQUEST = "bad_request"
    TOO_LARGE = "too_large"
    UNKNOWN_TYPE = "unknown_type"
    NO_USER_ANON_ID = "no_user_anon_id"
    ID_NOT_STRING = "id_not_string"
    MESSAGE_ID_NOT_VALID = "message_id_not_valid"
    TIMESTAMP_NOT_VALID = "timestamp_not_valid"
    EVENT_NOT_DEFINED = "event_not_defined"
    EVENT_NOT_STRING = "event_not_string"
    NAME_NOT_STRING = "name_not_string"
    CATEGORY_NOT_STRING = "category_not_string"
    PROPERTIES_NOT_OBJECT = "properties_not_object"
    TRAITS_NOT_OBJECT = "traits_not_object"
    CONTEXT_NOT_OBJECT = "context_not_object"
    GROUP_ID_REQUIRED = "group_id_required"
    PREVIOUS_ID_REQUIRED = "previous_id_required"
    IDENTIFY_WITHOUT_EMAIL = "identify_without_email"
    REFUSED_BY_BIGQUERY = "refused_by_bigquery"
    # of email logs, identity updates and the calls that are made of them
    EMPTY_BATCH = "empty_batch"
    UNKNOWN_PROVIDER = "unknown_provider"
    UNKNOWN_EVENT = "unknown_event"
    EVENT_NOT_REPORTED = "event_not_reported"
    RECIPIENT_NOT_VALID = "recipient_not_valid"
    IDENTITY_UPDATE_NOT_VALID = "identity_update_not_valid"
    REFUSED_BY_SEGMENT = "refused_by_segment"


class Rejected(Exception):  # noqa: N818 - a verdict on the message, not an error of ours
    """The message can never become rows, however often it is tried again."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        """What is wrong, with names of fields but no values: details are read by people who may not see PII."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class DeadLetter(msgspec.Struct, array_like=True, omit_defaults=True):
    """A rejected message: its original bytes, the step, the reason and where it came from."""

    payload: bytes
    step: str
    reason: str
    """A `Reason`."""
    detail: str
    rejected_at: int
    """When the message arrived, in microseconds since 1970; for a call to Segment that is too large or refused, and for
    a row that BigQuery refused, when that was found."""
    workspace_id: str
    connection_id: str | None = None
    type: str | None = None
    """The call's type, where it could be read."""
    message_id: str | None = None
    attributes: Mapping[str, str] = {}
    source: str | None = None


class LetterBlock(msgspec.Struct, array_like=True, gc=False):
    """Some dead letters that travel as one element: providers are asked for all events, and half may be of no use."""

    letters: list[DeadLetter]
