"""What an event says happened, for counting: also of an event that makes no line."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from schemas.email_logs import EmailEvent
from schemas.rejections import Rejected
from transforms.logic.email_logs import amazon_ses, mailgun, postmark, sendgrid
from transforms.logic.email_logs.read_log_fields import decode_fields
from transforms.logic.email_logs.recognise_provider import Provider, recognise_provider

# A provider's word -> ours, or the same word if none of ours says it: a closed set, whatever is sent.
_WORDS: Mapping[Provider, Mapping[str, str]] = MappingProxyType(
    {
        Provider.OWN_LOG: {event.value: event.value for event in EmailEvent},
        Provider.SENDGRID: {**sendgrid.EVENTS, **{word: word for word in sendgrid.NOT_REPORTED}},
        Provider.MAILGUN: {**mailgun.EVENTS, **{word: word for word in (*mailgun.NOT_REPORTED, "failed")}},
        Provider.POSTMARK: {
            **{word: event for word, (event, *_) in postmark.RECORD_TYPES.items()},
            **{word: word for word in postmark.NOT_REPORTED},
        },
        Provider.AMAZON_SES: {
            **{word: event for word, (event, _) in amazon_ses.EVENTS.items()},
            **{word: word for word in (*amazon_ses.NOT_REPORTED, *amazon_ses.SNS_CONFIRMATIONS)},
        },
    }
)


def name_event(payload: bytes) -> str | None:
    """Our word for the event, else the provider's if it is one that we know; None for anything else."""
    try:
        fields = decode_fields(payload, "the event")
        provider = recognise_provider(fields)
        word = None if provider is None else _find_word(provider, fields)
    except Rejected:
        return None
    return None if provider is None or not isinstance(word, str) else _WORDS[provider].get(word)


def _find_word(provider: Provider, fields: Mapping[str, Any]) -> object:
    """The provider's word, as it was sent. Raises `Rejected` where there is nothing to look into."""
    if provider == Provider.POSTMARK:
        return fields.get("RecordType")
    if provider == Provider.AMAZON_SES:
        kind = fields.get("Type")
        if isinstance(kind, str) and kind in amazon_ses.SNS_CONFIRMATIONS:
            return kind
        event, _ = amazon_ses.unwrap_event(fields)
        return event.get("eventType") or event.get("notificationType")
    if provider == Provider.MAILGUN:
        fields, _ = mailgun.unwrap_event(fields)
    word = fields.get("event")
    return word.lower() if isinstance(word, str) and provider != Provider.OWN_LOG else word
