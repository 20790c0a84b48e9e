"""What a reason means and what to do about it, in short; docs/dead_letters.md says it at length."""

from typing import NamedTuple

from schemas.rejections import Reason


class Advice(NamedTuple):
    """In words, without mark-up."""

    meaning: str
    action: str


_ADVICE = {
    Reason.BAD_REQUEST: Advice(
        "The message cannot be read: it is no JSON object, or has text or numbers that no program can carry.",
        "look at the payload; find out who sent it",
    ),
    Reason.TOO_LARGE: Advice(
        "The message has more bytes than are taken: by default 32 KiB for a call.",
        "send less; or raise the flag if your calls are that large",
    ),
    Reason.UNKNOWN_TYPE: Advice(
        "The type is none of track, page, screen, identify, group, alias and delete.",
        "fix the sender",
    ),
    Reason.NO_USER_ANON_ID: Advice(
        "The call says of nobody: it has neither a userId nor an anonymousId.",
        "send an anonymousId",
    ),
    Reason.ID_NOT_STRING: Advice(
        "An id is an empty text, true or false, a list or an object.",
        "leave the field out or send null",
    ),
    Reason.MESSAGE_ID_NOT_VALID: Advice(
        "The messageId is empty, no text, or longer than 100 characters.",
        "send a UUID",
    ),
    Reason.TIMESTAMP_NOT_VALID: Advice(
        "The timestamp is no ISO 8601 time; of a provider’s event: not in the provider’s format.",
        "send ISO 8601",
    ),
    Reason.EVENT_NOT_DEFINED: Advice("A track call without the name of its event.", "fix the sender"),
    Reason.EVENT_NOT_STRING: Advice("The name of the event is no text.", "fix the sender"),
    Reason.NAME_NOT_STRING: Advice("The name of a page or screen is empty or no text.", "leave name out"),
    Reason.CATEGORY_NOT_STRING: Advice("The category of a page or screen is empty or no text.", "leave category out"),
    Reason.PROPERTIES_NOT_OBJECT: Advice(
        "The properties are no object; often they were encoded as JSON twice.", "send an object"
    ),
    Reason.TRAITS_NOT_OBJECT: Advice(
        "The traits are no object; often they were encoded as JSON twice.", "send an object"
    ),
    Reason.CONTEXT_NOT_OBJECT: Advice(
        "The context is no object; often it was encoded as JSON twice.", "send an object"
    ),
    Reason.GROUP_ID_REQUIRED: Advice("A group call without a groupId.", "do not send the call"),
    Reason.PREVIOUS_ID_REQUIRED: Advice("An alias call without a previousId.", "fix the sender"),
    Reason.IDENTIFY_WITHOUT_EMAIL: Advice(
        "An identify call without an email, whose userId belongs to nobody yet.",
        "send the email as a trait. In a stream the person must be known by the end of the call's window: "
        "see docs/architecture.md",
    ),
    Reason.REFUSED_BY_BIGQUERY: Advice(
        "The call was valid, and BigQuery would not take one of its rows.",
        "read detail; for old calls use files and --bigquery_method FILE_LOADS; for a column run "
        "scripts/create_tables; else treat it as a bug of ours",
    ),
    Reason.EMPTY_BATCH: Advice("A webhook without events.", "nothing, if it is rare"),
    Reason.UNKNOWN_PROVIDER: Advice(
        "The message looks like that of no email provider, nor like our own log line.",
        "look at the payload; find out who sent it",
    ),
    Reason.UNKNOWN_EVENT: Advice(
        "The provider is known, and the event is none of its events.",
        "fix the sender; if it is one of the nine events, it is a bug of ours: replay after the fix",
    ),
    Reason.EVENT_NOT_REPORTED: Advice(
        "An event that the provider does send and that Segment is not told of, such as processed or deferred.",
        "switch it off at the provider. Not counted by --max_rejected_percent. An SNS confirmation: confirm it",
    ),
    Reason.RECIPIENT_NOT_VALID: Advice(
        "The recipient is missing, is no email address, or is one of several.",
        "send one email a recipient",
    ),
    Reason.IDENTITY_UPDATE_NOT_VALID: Advice(
        "An identity update that is not of the shape of one.",
        "look at the payload; find out who sent it",
    ),
    Reason.REFUSED_BY_SEGMENT: Advice(
        "Segment answered that it does not want the call.",
        "mend the key or the endpoint, then send them again; a single call: treat it as a bug of ours",
    ),
}

_UNKNOWN = Advice("This page does not know the reason.", "bring the page up to date; see docs/dead_letters.md")


def advise(reason: str) -> Advice:
    """What to say of a reason, also of one that is newer than this page."""
    return _ADVICE[Reason(reason)] if reason in _ADVICE else _UNKNOWN
