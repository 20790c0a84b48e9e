"""The signature of what Amazon SNS sends: RSA over some of the JSON's fields, by a certificate that SNS serves.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html

The other fields, and the header `x-amz-sns-message-type`, are signed by nobody: nothing here reads them, and what is
to be published is `SnsMessage.signed_body`, without them. Published as it came, a notification could bring a forged
event of SES beside its signed `Message`.

That the certificate is Amazon's is proved by where it comes from: by HTTPS from SNS's own host, and to its name. Its
chain is not followed.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from services.signatures.verdicts import BadTopicArnError, ForgedError, check_age, is_same, read_base64

FetchAmazon = Callable[[str], Awaitable[bytes]]
"""Gives what is at a URL, the body of a 200; follows no redirect, and reads `MAX_ANSWER_BYTES` at most.

Raises `AmazonUnavailableError`, whatever the reason.
"""

MAX_ANSWER_BYTES = 64 * 1024
"""A certificate has some 2,000."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# A region has a number at its end and no digit before: `sns.s3.amazonaws.com` and `sns.s3-us-west-2.amazonaws.com` are
# not SNS but a bucket that somebody has named "sns"
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html#VirtualHostingBackwardsCompatibility).
_HOST = r"https://sns\.[a-z]{2,4}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}\.amazonaws\.com(?:\.cn)?"
# No query: SNS answers to queries with much that a stranger can have put there.
_CERTIFICATE_URL = re.compile(_HOST + r"/[A-Za-z0-9_-]{1,200}\.pem")
_SUBSCRIBE_URL = re.compile(_HOST + r"/\?[!-~]{1,2000}")
# sns.amazonaws.com, sns-cn-north-1.amazonaws.com.cn, sns-signing.me-south-1.amazonaws.com and the like:
# https://github.com/aws/aws-sdk-java-v2, services-custom/sns-message-manager/, SnsHostProvider.java
_CERTIFICATE_NAME = re.compile(r"sns(?:[.-][a-z0-9.-]+)?\.amazonaws\.com(?:\.cn)?")
# FIFO topics, whose names end in .fifo, do not send to HTTP endpoints.
# https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html
_TOPIC_ARN = re.compile(r"arn:aws[a-z-]{0,20}:sns:[a-z0-9-]{1,40}:[0-9]{12}:[A-Za-z0-9_-]{1,256}")

# All that `cryptography` raises for a certificate that is none, or says what it cannot read.
_UNREADABLE = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_HASHES = {"1": SHA1(), "2": SHA256()}

# Where a value could hold a line end, the fields could be cut differently out of one signed text: only Message, which
# comes first, may.
_Line = Annotated[str, msgspec.Meta(pattern=r"\A[^\r\n]*\Z")]


class AmazonUnavailableError(Exception):
    """What Amazon is asked for cannot be had now, which tells nothing of the message: it is to be sent again later."""


class SnsType(StrEnum):
    """What SNS sends to an endpoint."""

    NOTIFICATION = "Notification"
    SUBSCRIPTION_CONFIRMATION = "SubscriptionConfirmation"
    UNSUBSCRIBE_CONFIRMATION = "UnsubscribeConfirmation"


class SnsMessage(NamedTuple):
    """A message that SNS has signed."""

    type: SnsType
    message_id: str
    """Under which it is to be remembered, with `signed_body`: a repetition has the same."""
    subscribe_url: str | None
    """To be fetched once to confirm a subscription; None in all other messages."""
    signed_body: bytes
    """The JSON again, with the signed fields alone: to be published."""


class _Envelope(msgspec.Struct):
    type: SnsType = msgspec.field(name="Type")
    message_id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9A-Za-z-]{1,100}\Z")] = msgspec.field(name="MessageId")
    topic_arn: _Line = msgspec.field(name="TopicArn")
    message: str = msgspec.field(name="Message")
    timestamp: Annotated[
        str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z\Z")
    ] = msgspec.field(name="Timestamp")
    signature_version: str = msgspec.field(name="SignatureVersion")
    signature: str = msgspec.field(name="Signature")
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: _Line | None = msgspec.field(name="Subject", default=None)
    token: _Line | None = msgspec.field(name="Token", default=None)
    subscribe_url: _Line | None = msgspec.field(name="SubscribeURL", default=None)


_ENVELOPE = msgspec.json.Decoder(_Envelope)


async def check_sns_message(topic_arn: str | None, body: bytes, now: int, fetch_certificate: FetchAmazon) -> SnsMessage:
    """Whether SNS has signed the message for the topic; `now` is in microseconds since 1970.

    No topic: any will do, and the signature proves only that it comes from SNS, where anybody can have a topic.
    The certificate is fetched last, when all else fits; let `RememberedCertificates` do that. Raises `ForgedError`, and
    lets `AmazonUnavailableError` through.
    """
    envelope = _read_envelope(body)
    if topic_arn is not None and not is_same(envelope.topic_arn, topic_arn):
        raise ForgedError("its TopicArn is not the connection's")
    check_age(_read_time(envelope.timestamp), now)
    algorithm = _HASHES.get(envelope.signature_version)
    if algorithm is None:
        raise ForgedError("its SignatureVersion is neither 1 nor 2")
    if not _CERTIFICATE_URL.fullmatch(envelope.signing_cert_url):
        raise ForgedError("its SigningCertURL is not Amazon SNS's")
    subscribe_url = find_subscribe_url(envelope.type, envelope.subscribe_url)
    signature = read_base64(envelope.signature)
    fields = _pick_signed(envelope)
    certificate = read_certificate(await fetch_certificate(envelope.signing_cert_url))
    key = _read_key(certificate, now)
    text = "".join(f"{name}\n{value}\n" for name, value in fields.items())
    try:
        key.verify(signature, text.encode(), PKCS1v15(), algorithm)
    except InvalidSignature:
        raise ForgedError("its signature does not fit its fields and Amazon's certificate") from None
    return SnsMessage(envelope.type, envelope.message_id, subscribe_url, msgspec.json.encode(fields))


def find_subscribe_url(kind: SnsType, url: str | None) -> str | None:
    """What to fetch to confirm a subscription: only on SNS's own host; None if there is nothing to confirm.

    The SubscribeURL of an UnsubscribeConfirmation would take the unsubscribing back. Raises `ForgedError`.
    """
    if kind is not SnsType.SUBSCRIPTION_CONFIRMATION:
        return None
    if url is None or not _SUBSCRIBE_URL.fullmatch(url):
        raise ForgedError("its SubscribeURL is not Amazon SNS's")
    return url


def check_topic_arn(text: str) -> str:
    """The ARN without the spaces around it. Raises `BadTopicArnError`."""
    arn = text.strip()
    if not _TOPIC_ARN.fullmatch(arn):
        raise BadTopicArnError(
            "that is no ARN of a standard Amazon SNS topic, like arn:aws:sns:us-east-1:123456789012:my-topic"
        )
    return arn


def read_certificate(pem: bytes) -> x509.Certificate:
    """What was fetched, as a certificate. Raises `AmazonUnavailableError`: SNS has served something else."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except _UNREADABLE:
        raise AmazonUnavailableError("what Amazon SNS served is no certificate") from None


def _read_envelope(body: bytes) -> _Envelope:
    try:
        return _ENVELOPE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ForgedError("it is no message of Amazon SNS: raw message delivery has to be off") from None


def _read_time(text: str) -> int:
    """In microseconds since 1970."""
    try:
        return _to_micros(datetime.fromisoformat(text))
    except ValueError:
        raise ForgedError("its Timestamp is no time") from None


def _to_micros(time: datetime) -> int:
    """Since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def _pick_signed(envelope: _Envelope) -> dict[str, str]:
    """The fields that are signed, in the order in which they are: by name."""
    if envelope.type is SnsType.NOTIFICATION:
        subject = {} if envelope.subject is None else {"Subject": envelope.subject}
        return {
            "Message": envelope.message,
            "MessageId": envelope.message_id,
            **subject,
            "Timestamp": envelope.timestamp,
            "TopicArn": envelope.topic_arn,
            "Type": envelope.type,
        }
    if envelope.token is None or envelope.subscribe_url is None:
        raise ForgedError("it has no Token, or no SubscribeURL")
    return {
        "Message": envelope.message,
        "MessageId": envelope.message_id,
        "SubscribeURL": envelope.subscribe_url,
        "Timestamp": envelope.timestamp,
        "Token": envelope.token,
        "TopicArn": envelope.topic_arn,
        "Type": envelope.type,
    }


def _read_key(certificate: x509.Certificate, now: int) -> RSAPublicKey:
    """The key of a certificate that is SNS's, and valid at `now`. Raises `ForgedError`."""
    try:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = certificate.public_key()
    except (x509.ExtensionNotFound, *_UNREADABLE):
        raise ForgedError("the certificate that signs it names nobody, or has no key") from None
    if not _to_micros(begins) <= now <= _to_micros(ends):
        raise ForgedError("the certificate that signs it is not valid now")
    hosts = names.get_values_for_type(x509.DNSName)
    if not hosts or not all(_CERTIFICATE_NAME.fullmatch(host) for host in hosts):
        raise ForgedError("the certificate that signs it is not Amazon SNS's")
    if not isinstance(key, RSAPublicKey):
        raise ForgedError("the certificate that signs it has no RSA key")
    return key
