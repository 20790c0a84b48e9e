"""What Amazon SNS signs, by messages that it has signed, and by a certificate made here."""

import asyncio
import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.email_logs import EmailEvent
from schemas.messages import Message
from services.signatures.amazon_sns import (
    AmazonUnavailableError,
    SnsMessage,
    SnsType,
    check_sns_message,
    check_topic_arn,
    find_subscribe_url,
)
from services.signatures.verdicts import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, BadTopicArnError, ForgedError
from tests.unit.bit_flips import flips
from transforms.logic.email_logs.parse_email_logs import parse_email_logs

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


# Four messages that SNS has sent, and its certificate, as Amazon publishes them for the tests of its SDK:
# https://github.com/aws/aws-sdk-java-v2, services-custom/sns-message-manager/src/test/resources/
TOPIC = "arn:aws:sns:us-west-2:131990247566:dongie-standard-topic"
CERTIFICATE_URL = "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem"
CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIFxTCCBK2gAwIBAgIQBkyRNHAyygLkObkxH5ju+zANBgkqhkiG9w0BAQsFADA8
MQswCQYDVQQGEwJVUzEPMA0GA1UEChMGQW1hem9uMRwwGgYDVQQDExNBbWF6b24g
UlNBIDIwNDggTTAxMB4XDTI1MTExMDAwMDAwMFoXDTI2MTAxNDIzNTk1OVowHDEa
MBgGA1UEAxMRc25zLmFtYXpvbmF3cy5jb20wggEiMA0GCSqGSIb3DQEBAQUAA4IB
DwAwggEKAoIBAQChbVNQ+DEaT5WN+l+bg0iEeF666Z6LDFc1KJr4lNl0odcXQSsk
KsZYCMVdp4I/Ikk9zWyckRTMkmQGYimpD+bTsMCP5C/sJIU0E9Y2OXjjl5Videkq
qnRL9VdE5N41Rvks7S/5MpYcSmCsmaHfwcv82Gvx2zm9CrA5Xu7K2ZqhzRQPCRSP
mHTHQr4ED63ujE+qTpPgQZ0TvgmcrAc08Z75Z7Zzs17aTNc3YhAtQx9WowN8uiHk
kgc+ONNdtwKvWZNmnbmxMHYtYc291WCP1K1Nh4TV5XNyjIebzQKDrqTCN0ItAr1x
e6Bl3BYS3SG9XHAy0q3ekITzQsKypcuaK6dTAgMBAAGjggLhMIIC3TAfBgNVHSME
GDAWgBSBuA5jiokSGOX6OztQlZ/m5ZAThTAdBgNVHQ4EFgQUBQEUzzzuVJAKzAlR
d0Q//W6HvZUwHAYDVR0RBBUwE4IRc25zLmFtYXpvbmF3cy5jb20wEwYDVR0gBAww
CjAIBgZngQwBAgEwDgYDVR0PAQH/BAQDAgWgMBMGA1UdJQQMMAoGCCsGAQUFBwMB
MDsGA1UdHwQ0MDIwMKAuoCyGKmh0dHA6Ly9jcmwucjJtMDEuYW1hem9udHJ1c3Qu
Y29tL3IybTAxLmNybDB1BggrBgEFBQcBAQRpMGcwLQYIKwYBBQUHMAGGIWh0dHA6
Ly9vY3NwLnIybTAxLmFtYXpvbnRydXN0LmNvbTA2BggrBgEFBQcwAoYqaHR0cDov
L2NydC5yMm0wMS5hbWF6b250cnVzdC5jb20vcjJtMDEuY2VyMAwGA1UdEwEB/wQC
MAAwggF/BgorBgEEAdZ5AgQCBIIBbwSCAWsBaQB3ANdtfRDRp/V3wsfpX9cAv/mC
yTNaZeHQswFzF8DIxWl3AAABmnAb33MAAAQDAEgwRgIhANXAgMEZWU326cqxqwnf
ntD0XcBjRbmvVMOp3hZ8boPXAiEAkI3NTMXcdLCChHak1ipOae7K7r3spMGUMk6Q
cEUKqBEAdgDCMX5XRRmjRe5/ON6ykEHrx8IhWiK/f9W1rXaa2Q5SzQAAAZpwG9+u
AAAEAwBHMEUCIQD+Qyok8NYaFuQkccW+XIMmxHxj6Yka2wjtg6UN/tbU5wIgcp4z
8MyC/dUfeLRuHAt0owtVgEu7xXqrMBOYlbXrfC4AdgDLOPcViXyEoURfW8Hd+8lu
8ppZzUcKaQWFsMsUwxRY5wAAAZpwG9+yAAAEAwBHMEUCIQCmu1jQUG9A2br7OqwM
FvQXtBX10yIvvDa6a2Ov1Zgg6gIgKlqRvN6WhX0pSHAN2bKmjRwIUI3X9kjS/A/m
DYULaV4wDQYJKoZIhvcNAQELBQADggEBAIbTQWQhqrG6SzwLq79tKCpI0aL0xlD+
/jrGPxpwTlK7rtAArHiEVh/bsmwLYRlIxPBiU+NE/kqeT0lhJA6/e3X3KRmnpJ6u
Z70PJGYwmZbSRsFom0vGFBMncX0qYx1iD0dooPeAkkSnM5j81rBh+FepV3HfF+tA
9gaglWLsU7Z/A0fdn9D32UPreVHloOut5EyEinvXRUAWZco9CRloyEXJr7Mxq9MZ
vYOK+5wuSPHnPij+fGlQsPxEgoTnCmU03PqNS49kL13jjEnYYdijqL+4rfHtuZbc
4hlVoZfttwg8wD3m5brhQ+GkBBNYN8HFtdVy/BnFi+SPJqv6BgB3Y00=
-----END CERTIFICATE-----
"""
CERTIFICATE_BEGINS, CERTIFICATE_ENDS = micros("2025-11-10T00:00:00Z"), micros("2026-10-14T23:59:59Z")
SUBSCRIPTION = "b24e11a2-06bd-4e73-aa29-0ed2de3b41b5"
TOKENS = {
    "subscribe": "2336412f37fb687f5d51e6e2425929f52e8e353134fe72d55ef8b330217d82da14007cbccefffd35b695feb8f0294d01fd9644f41e1ddfad261519a2c0bac743ff375eeb64530147d2da57f3acc54739da14c8dbd48a9d58ce996eff0d498ea6b4b9f58720d8959b52b99b8de148081720d7da17434e376614a00c992e7823e4",  # noqa: E501
    "unsubscribe": "2336412f37fb687f5d51e6e2425929f52e8e353134fd0284eae5672847af082a982c7dd18215a1485e04e559716f8b42054594757f42dee2d63c46fd3a0fa59b4d688de03db956f8bf9f8cb3167587a28b74c5d325e6a7594d24a43ac534de2dfca614ca89cebd490342c721c30a76ea03def13673437a6a3e450642580119d0",  # noqa: E501
}


def subscribe_url(token: str) -> str:
    return f"https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}"


WITH_SUBJECT: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "26858270-545e-5848-82a2-e05566af3dcf",
    "TopicArn": TOPIC,
    "Subject": "My message subject",
    "Message": "Hello! This message has a subject.",
    "Timestamp": "2026-03-06T19:53:21.424Z",
    "SignatureVersion": "1",
    "Signature": "jvNSgHVOF9KUOKI3bmQZhURD0kDN6txhfjiyuvnV95Dw6b2SRa7nq3AhM8agP0KUCIrRgKHqUlN6K2XBA35Lzkx1eI5RT0oXIN00pvvzGxSz0ddnuSGmDJM7bd/b1vl2RlLjz+KvkhzEtspxLnxjLsGl2EpOmztt+um7owb4475sOLdGTx1QiFV/8HqB2J0DyjeWdRZvu7Xpsf1Yd2rgmijFoz8x89Vw8pIksjczr4q16pxdh/XKWjbN2uPoC+3EeYdljL8KUvLYH9ueHSs5E9qq2iLdze4+FtANnE73XRvvSGE0KI+FGOvz1igest6qon3g1/CVy4mq3n19TsCSmA==",  # noqa: E501
    "SigningCertURL": CERTIFICATE_URL,
    "UnsubscribeURL": f"https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={TOPIC}:{SUBSCRIPTION}",
}
VERSION_2: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "9d2c5580-b61d-550c-8583-37a582870907",
    "TopicArn": TOPIC,
    "Message": "This message uses signature version 2.",
    "Timestamp": "2026-03-06T20:00:26.893Z",
    "SignatureVersion": "2",
    "Signature": "kGNJ7FIM5DJxRv9bdoSJBty2WHpADFWrJ0ZQU/A2sALy6tBE5hqfUvPRlklTJ+PACFMguoFOO7W6ac/Bs4gR+JBRFhx4598X8/HWzrmaLrtB2f7nzViHbpzYN+u+OewXhxjj2lNsu0bLKv6fogkACytDIOhjZylbfJoPphDYAB7T3Ila7u+K3m2wLHH4k1cPYKyBf5FI/kAoQAVsY6qFHeb6CWfHsdM98I2gwyEvwJSzW0iyYBfqckmthQwH3Ex53jrhQlZylXFDYmstSJAdvbLeGqIUxKyk+O25wYgBjbbbeR+2qE2UCGEQrk1Bq018wmTxdHZmDhoBjJXiGmFkfg==",  # noqa: E501
    "SigningCertURL": CERTIFICATE_URL,
}
SUBSCRIBE: dict[str, Any] = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "f3f2fc87-c426-4c2f-9044-b55890c0939c",
    "Token": TOKENS["subscribe"],
    "TopicArn": TOPIC,
    "Message": f"You have chosen to subscribe to the topic {TOPIC}.\n"
    "To confirm the subscription, visit the SubscribeURL included in this message.",
    "SubscribeURL": subscribe_url(TOKENS["subscribe"]),
    "Timestamp": "2026-03-06T19:31:32.895Z",
    "SignatureVersion": "1",
    "Signature": "Ce2Ax8UbEq0RrVH7gsjP9WZ9bzif7dUkAY4OH99Pv7FSrvs8cK+uiH3a6ig54rXWUnZRUejk8K6KeK5Q80O9iJp8KbPRKdQ0PkJ3YASdabhfK0e7evC05YR2pFoS6nNaqNzT7HrR1d1Z9iLoFxluo2Dzb7kWVB7e9jp/y+ZBXRzRIaZgscM84kahBc6QgXOFJA1/PFA4cB5qaa6tBcUFtTE63o9vJ4wMmKk93W9MoszC+dNJeVFr8VHmt3toR+3JauBCZnGdgXgsDhni4PduSfWJJxEpuOK41iYf1hW+xFNFFsv46siTFiHdHiYDfI7/VlaY4spMgkq3EndRr7rHzQ==",  # noqa: E501
    "SigningCertURL": CERTIFICATE_URL,
}
UNSUBSCRIBE: dict[str, Any] = {
    "Type": "UnsubscribeConfirmation",
    "MessageId": "0b71e34e-42c3-486a-9e32-b1928ec994b5",
    "Token": TOKENS["unsubscribe"],
    "TopicArn": TOPIC,
    "Message": f"You have chosen to deactivate subscription {TOPIC}:{SUBSCRIPTION}.\n"
    "To cancel this operation and restore the subscription, visit the SubscribeURL included in this message.",
    "SubscribeURL": subscribe_url(TOKENS["unsubscribe"]),
    "Timestamp": "2026-03-06T20:02:25.038Z",
    "SignatureVersion": "2",
    "Signature": "RLW/cGWZAdY96iEcvXGmAZQ851DUyWehJIUMHT3Qa0/kX7Wu2QimI44TfE8d9hTqyYFreA6ln4AS67m225DuySpBeiUBtzB/ibiU7jdZmfSiT/I/RTEU3eD0lHHZIYW0M7HAlhHyaSXdcSAbtfnhMBMION93IVl6UOR4kWYdJaJ17/u3by3zlSRs8wCIpj06S6BzuzxrINZPJl+NKZYCVdMlrjuT4etX/UfZkC0Tjchpmu/CQcuimAgswlesm8cVue0WqNPXkOr8h7HmsiGVXPN1jjkYKf2/tVJyBxur/lSksMopER8wtAIsrqY1caAZSI8YJkIndg/b+7eCwkjTBA==",  # noqa: E501
    "SigningCertURL": CERTIFICATE_URL,
}
NOW = micros("2026-03-06T20:10:00Z")

Certificates = dict[str, bytes]


def check(
    message: dict[str, Any] | bytes,
    topic: str | None = TOPIC,
    now: int = NOW,
    certificates: Certificates | None = None,
) -> SnsMessage:
    served = {CERTIFICATE_URL: CERTIFICATE} if certificates is None else certificates

    async def fetch(url: str) -> bytes:
        if url not in served:
            raise AmazonUnavailableError(url)
        return served[url]

    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    pending = check_sns_message(topic, body, now, fetch)
    try:
        pending.send(None)  # nothing here waits: an event loop each would take the most time
    except StopIteration as done:
        result: SnsMessage = done.value
        return result
    raise AssertionError("it waits for something else than the certificate")


def is_forged(message: dict[str, Any] | bytes, **changed: Any) -> bool:
    try:
        check(message, **changed)
    except ForgedError:
        return True
    return False


# -- A certificate of our own, to sign what SNS never would.


@cache
def our_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def make_certificate(*hosts: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None = None) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key or our_key().public_key())
        .serial_number(1)
        .not_valid_before(EPOCH + timedelta(microseconds=CERTIFICATE_BEGINS))
        .not_valid_after(EPOCH + timedelta(microseconds=CERTIFICATE_ENDS))
    )
    if hosts:
        names = [x509.RFC822Name(host) if "@" in host else x509.DNSName(host) for host in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(our_key(), SHA256()).public_bytes(Encoding.PEM)


def sign(fields: dict[str, Any], version: str = "2") -> dict[str, Any]:
    """The fields, signed as Amazon documents it."""
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    if fields["Type"] == "Notification":
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    text = "".join(f"{name}\n{fields[name]}\n" for name in names if fields.get(name) is not None)
    signature = our_key().sign(text.encode(), PKCS1v15(), SHA256() if version == "2" else SHA1())
    return fields | {"SignatureVersion": version, "Signature": base64.b64encode(signature).decode()}


def check_ours(message: dict[str, Any], *hosts: str) -> SnsMessage:
    pem = make_certificate(*(hosts or ("sns.amazonaws.com",)))
    return check(message, certificates={message["SigningCertURL"]: pem})


def ours_is_forged(message: dict[str, Any], *hosts: str) -> bool:
    try:
        check_ours(message, *hosts)
    except ForgedError:
        return True
    return False


@pytest.mark.parametrize("message", [WITH_SUBJECT, VERSION_2, UNSUBSCRIBE], ids=lambda message: message["MessageId"])
def test_what_amazon_has_signed_is_proved(message: dict[str, Any]) -> None:
    proved = check(message)

    assert (proved.type, proved.message_id, proved.subscribe_url) == (message["Type"], message["MessageId"], None)


def test_a_subscription_comes_with_the_url_that_confirms_it() -> None:
    proved = check(SUBSCRIBE)

    assert (proved.type, proved.subscribe_url) == (SnsType.SUBSCRIPTION_CONFIRMATION, SUBSCRIBE["SubscribeURL"])


def test_any_topic_will_do_if_none_is_set() -> None:
    assert check(WITH_SUBJECT, topic=None).message_id == WITH_SUBJECT["MessageId"]


def test_a_message_of_another_topic_is_forged() -> None:
    assert is_forged(WITH_SUBJECT, topic=f"{TOPIC}2")
    assert is_forged(WITH_SUBJECT, topic="")


@pytest.mark.parametrize("message", [WITH_SUBJECT, VERSION_2, SUBSCRIBE, UNSUBSCRIBE], ids=lambda m: m["MessageId"])
def test_a_signed_field_cannot_be_changed_added_or_left_out(message: dict[str, Any]) -> None:
    signed = {"Type", "MessageId", "TopicArn", "Message", "Timestamp", "Subject", "SignatureVersion", "Signature"}
    if message["Type"] != "Notification":
        signed = signed - {"Subject"} | {"Token", "SubscribeURL"}
    other = SUBSCRIBE | {"Subject": "Sale", "SignatureVersion": "1" if message["SignatureVersion"] == "2" else "2"}
    if message is SUBSCRIBE:
        other = UNSUBSCRIBE
    for name in signed:
        if other.get(name) != message.get(name):
            assert is_forged(message | {name: other.get(name)}, topic=None), name
        if name in message:
            assert is_forged({field: message[field] for field in message if field != name}, topic=None), name


@pytest.mark.slow
@pytest.mark.parametrize("message", [WITH_SUBJECT, SUBSCRIBE], ids=lambda message: message["Type"])
def test_one_bit_is_enough_to_be_forged(message: dict[str, Any]) -> None:
    signed = {name: value for name, value in message.items() if name != "UnsubscribeURL"}
    for body in flips(json.dumps(signed).encode()):
        with pytest.raises((ForgedError, AmazonUnavailableError)) as raised:
            check(body, topic=None)
        if isinstance(raised.value, AmazonUnavailableError):
            assert CERTIFICATE_URL.encode() not in body  # another one, on Amazon's host still


def test_one_bit_of_the_certificate_changes_nothing_or_is_no_proof() -> None:
    proved = check(VERSION_2)
    for place, pem in enumerate(flips(CERTIFICATE)):
        if place % 7 == 0:
            with suppress(ForgedError, AmazonUnavailableError):
                assert check(VERSION_2, certificates={CERTIFICATE_URL: pem}) == proved


def test_what_is_not_signed_is_not_in_what_is_to_be_published() -> None:
    proved = check(WITH_SUBJECT | {"eventType": "Click", "RecordType": "Open", "MessageAttributes": {}})

    assert json.loads(proved.signed_body) == {
        name: WITH_SUBJECT[name] for name in ("Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp")
    }


def test_an_event_forged_beside_the_signed_one_does_not_reach_the_pipeline() -> None:
    mail = {"messageId": "m1", "destination": ["ann@example.com"], "timestamp": "2026-03-06T20:00:00Z"}
    opened = {"eventType": "Open", "mail": mail, "open": {"timestamp": "2026-03-06T20:00:00Z"}}
    complaint = {
        "complainedRecipients": [{"emailAddress": "ann@example.com"}],
        "timestamp": "2026-03-06T20:00:00Z",
    }
    message = sign(VERSION_2 | {"Message": json.dumps(opened)})
    forged = message | {"eventType": "Complaint", "mail": mail, "complaint": complaint}

    def events(body: bytes) -> list[str]:
        return [line.event for line in parse_email_logs([Message(body, {}, NOW)], NOW, "w").lines]

    assert events(json.dumps(forged).encode()) == [EmailEvent.REPORTED_AS_SPAM]  # were it published as it came
    assert events(check_ours(forged).signed_body) == [EmailEvent.OPENED]


def test_of_two_fields_of_one_name_the_one_that_was_checked_is_published() -> None:
    body = json.dumps(VERSION_2).encode()
    before = body.replace(b'{"Type"', b'{"Message": "forged", "Type"')
    behind = body.replace(b"}", b', "Message": "forged"}')

    assert check(before).signed_body == check(VERSION_2).signed_body
    assert is_forged(behind)


def test_the_signed_text_cannot_be_cut_into_other_fields() -> None:
    message = sign(VERSION_2 | {"Subject": "Sale"})
    assert not ours_is_forged(message)
    for forged in (
        {"Subject": None, "MessageId": f"{message['MessageId']}\nSubject\nSale"},
        {"Subject": None, "Message": f"{message['Message']}\nMessageId\n{message['MessageId']}", "MessageId": "x"},
    ):
        assert ours_is_forged(message | forged)
    assert ours_is_forged(sign(VERSION_2 | {"Subject": "Sale\nTimestamp\n2026-03-06T20:00:26.893Z"}))
    assert ours_is_forged(sign(VERSION_2 | {"MessageId": "a\nSubject\nb"}))


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_message_may_have_any_text(version: str) -> None:
    message = sign(VERSION_2 | {"Message": "Zürich\n\r\n\0\U0001f4e7 ", "Subject": "Zürich"}, version)

    assert json.loads(check_ours(message).signed_body)["Message"] == message["Message"]


def test_an_empty_subject_is_a_subject() -> None:
    assert not ours_is_forged(sign(VERSION_2 | {"Subject": ""}))


def test_a_subject_of_null_is_no_subject() -> None:
    assert check(VERSION_2 | {"Subject": None}) == check(VERSION_2)


@pytest.mark.parametrize("version", ["0", "3", "", "1.0", "１", 1, None])
def test_another_signature_version_is_forged(version: object) -> None:
    assert is_forged(VERSION_2 | {"SignatureVersion": version})


GOOD_HOSTS = [
    "sns.us-east-1.amazonaws.com",
    "sns.us-gov-west-1.amazonaws.com",
    "sns.ap-southeast-12.amazonaws.com",
    "sns.cn-north-1.amazonaws.com.cn",
]
BAD_ORIGINS = [
    "http://sns.us-west-2.amazonaws.com",
    "https://sns.us-west-2.amazonaws.com:8443",
    "https://sns.us-west-2.amazonaws.com:443",
    "https://sns.us-west-2.amazonaws.com.evil.example",
    "https://sns.us-west-2.amazonaws.com.cn.example",
    "https://sns.us-west-2.amazonaws.com@evil.example",
    "https://user@sns.us-west-2.amazonaws.com",
    "https://evil.example/sns.us-west-2.amazonaws.com",
    "https://evil.example#sns.us-west-2.amazonaws.com",
    "https://sns.us-west-2xamazonaws.com",
    "https://snsxus-west-2.amazonaws.com",
    "https://xsns.us-west-2.amazonaws.com",
    "https://sns.amazonaws.com",
    "https://sns.s3.amazonaws.com",  # the bucket "sns"
    "https://sns.s3-us-west-2.amazonaws.com",
    "https://sns.s3.us-west-2.amazonaws.com",
    "https://sns.us-west-2.elb.amazonaws.com",
    "https://sns.us-west-２.amazonaws.com",
    "https://sns.us-west-2.amazonaws.com\\",
    "HTTPS://sns.us-west-2.amazonaws.com",
    "//sns.us-west-2.amazonaws.com",
    "file://sns.us-west-2.amazonaws.com",
    " https://sns.us-west-2.amazonaws.com",
    "",
]


def fetched_from(url: object) -> bool:
    """Whether a message that names the URL leads to a fetch of it."""
    with pytest.raises((AmazonUnavailableError, ForgedError)) as raised:
        check(VERSION_2 | {"SigningCertURL": url}, certificates={})
    return isinstance(raised.value, AmazonUnavailableError)


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_certificates_are_fetched_from_each_region(host: str) -> None:
    assert fetched_from(f"https://{host}/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem")


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_no_certificate_is_fetched_from_elsewhere(origin: str) -> None:
    assert not fetched_from(f"{origin}/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/.pem",
        "/a.pem ",
        "/a.pem\n",
        "/a.PEM",
        "/a.pem?x",
        "/a.pem#x",
        "/?Action=GetTopicAttributes&a=.pem",
        "/#a.pem",
        "/a/../b.pem",
        "/%2e.pem",
        "/a\r\nHost: evil.example\r\n.pem",
        f"/{'a' * 1000}.pem",
        ".pem",
    ],
)
def test_only_a_certificate_is_fetched_from_amazon(path: str) -> None:
    assert not fetched_from(f"https://sns.us-west-2.amazonaws.com{path}")


@pytest.mark.parametrize("origin", BAD_ORIGINS)
def test_no_subscription_is_confirmed_elsewhere_even_if_it_is_signed(origin: str) -> None:
    assert ours_is_forged(sign(SUBSCRIBE | {"SubscribeURL": f"{origin}/?Action=ConfirmSubscription&Token=1"}))


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_subscriptions_are_confirmed_in_each_region(host: str) -> None:
    url = f"https://{host}/?Action=ConfirmSubscription&Token=1"

    assert check_ours(sign(SUBSCRIBE | {"SubscribeURL": url})).subscribe_url == url


@pytest.mark.parametrize("url", [None, "", "https://sns.us-west-2.amazonaws.com/? ", f"{subscribe_url('1')}\n"])
def test_a_url_that_confirms_nothing_is_forged(url: str | None) -> None:
    with pytest.raises(ForgedError):
        find_subscribe_url(SnsType.SUBSCRIPTION_CONFIRMATION, url)


def test_nothing_takes_an_unsubscribing_back() -> None:
    assert find_subscribe_url(SnsType.UNSUBSCRIBE_CONFIRMATION, subscribe_url("1")) is None


@pytest.mark.parametrize(
    ("now", "forged"),
    [
        (micros(VERSION_2["Timestamp"]) + MAX_AGE_SECONDS * SECOND, False),
        (micros(VERSION_2["Timestamp"]) + MAX_AGE_SECONDS * SECOND + 1, True),
        (micros(VERSION_2["Timestamp"]) - MAX_AHEAD_SECONDS * SECOND, False),
        (micros(VERSION_2["Timestamp"]) - MAX_AHEAD_SECONDS * SECOND - 1, True),
    ],
)
def test_a_signature_counts_for_a_day(now: int, forged: bool) -> None:
    assert is_forged(VERSION_2, now=now) is forged


@pytest.mark.parametrize(
    ("now", "forged"),
    [
        (CERTIFICATE_BEGINS, False),
        (CERTIFICATE_BEGINS - 1, True),
        (CERTIFICATE_ENDS, False),
        (CERTIFICATE_ENDS + 1, True),
    ],
)
def test_a_certificate_counts_between_its_dates(now: int, forged: bool) -> None:
    at = (EPOCH + timedelta(microseconds=now)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    message = sign(VERSION_2 | {"Timestamp": at})

    served = {CERTIFICATE_URL: make_certificate("sns.amazonaws.com")}
    assert is_forged(message, now=now, certificates=served) is forged


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "2026-03-06",
        "2026-02-30T20:00:00Z",
        "2026-03-06T20:00:26.893",
        "2026-03-06T20:00:26+00:00",
        "0000-01-01T00:00:00Z",
    ],
)
def test_a_timestamp_that_is_none_is_forged(timestamp: str) -> None:
    assert ours_is_forged(sign(VERSION_2 | {"Timestamp": timestamp}))


@pytest.mark.parametrize(
    "hosts",
    [
        ["sns.amazonaws.com"],
        ["sns-cn-north-1.amazonaws.com.cn"],
        ["sns-signing.me-south-1.amazonaws.com"],
    ],
)
def test_a_certificate_has_the_name_of_sns(hosts: list[str]) -> None:
    assert not ours_is_forged(sign(VERSION_2), *hosts)


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example"],
        ["sns.amazonaws.com", "evil.example"],
        ["sns.amazonaws.com.evil.example"],
        ["snsx.amazonaws.com"],
        ["*.amazonaws.com"],
        ["sns@amazonaws.com"],
    ],
)
def test_a_certificate_of_another_name_proves_nothing(hosts: list[str]) -> None:
    assert ours_is_forged(sign(VERSION_2), *hosts)


def test_a_certificate_without_a_name_or_without_an_rsa_key_proves_nothing() -> None:
    other = make_certificate("sns.amazonaws.com", key=ec.derive_private_key(7, ec.SECP256R1()).public_key())

    assert is_forged(sign(VERSION_2), certificates={CERTIFICATE_URL: make_certificate()})
    assert is_forged(sign(VERSION_2), certificates={CERTIFICATE_URL: other})
    assert is_forged(VERSION_2, certificates={CERTIFICATE_URL: make_certificate("sns.amazonaws.com")})


@given(st.binary())
@example(b"")
@example(b"<html>Service Unavailable</html>")
@example(CERTIFICATE.replace(b"MIIF", b"MIIG"))
@example(CERTIFICATE[:500])
def test_what_is_no_certificate_says_nothing_about_the_message(pem: bytes) -> None:
    with pytest.raises(AmazonUnavailableError):
        check(VERSION_2, certificates={CERTIFICATE_URL: pem})


def test_a_certificate_that_cannot_be_had_says_nothing_about_the_message() -> None:
    with pytest.raises(AmazonUnavailableError):
        check(VERSION_2, certificates={})


@pytest.mark.parametrize(
    "broken",
    [
        {"TopicArn": f"{TOPIC}2"},
        {"Timestamp": "2026-03-01T00:00:00Z"},
        {"Signature": "?"},
        {"SignatureVersion": "3"},
        {"Type": "Other"},
    ],
)
def test_nothing_is_fetched_for_what_is_forged_anyhow(broken: dict[str, str]) -> None:
    assert is_forged(VERSION_2 | broken, certificates={})


texts = st.text(st.characters()) | st.sampled_from(["Notification", "SubscriptionConfirmation", TOPIC, "1", "2"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(SUBSCRIBE)) | st.text(), inner),
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()), st.integers())
@example(b"null", 0)
@example(b"\xff", 0)
@example(b'{"a":"\xff"}', 0)
@example(b'{"Type":"\xff"}', 0)
@example(b"[" * 100_000, 0)
@example(b'{"a":' + b"[" * 100_000, 0)
@example(b'{"Message":"\\ud800"}', 0)
def test_any_body_gets_a_verdict(body: bytes, now: int) -> None:
    assert is_forged(body, topic=None, now=now)


@given(
    st.sampled_from([WITH_SUBJECT, VERSION_2, SUBSCRIBE, UNSUBSCRIBE]), st.sampled_from(list(SUBSCRIBE)), json_values
)
@example(VERSION_2, "Message", "\ud800")
@example(VERSION_2, "Signature", "\ud800")
@example(VERSION_2, "TopicArn", "\ud800")
@example(VERSION_2, "Timestamp", "9999-12-31T23:59:60Z")
def test_whatever_a_field_is_there_is_a_verdict(message: dict[str, Any], name: str, value: Any) -> None:
    with suppress(ForgedError):
        assert check(message | {name: value}, topic=None) == check(message)


def test_what_is_said_of_a_forged_one_gives_nothing_away() -> None:
    for forged in (b"{}", json.dumps(WITH_SUBJECT | {"Message": "ann@example.com\nx"}).encode()):
        with pytest.raises(ForgedError) as raised:
            check(forged)
        assert "\n" not in str(raised.value)
        assert "ann@example.com" not in str(raised.value)


@pytest.mark.parametrize("arn", [TOPIC, f" {TOPIC}\n", "arn:aws-cn:sns:cn-north-1:123456789012:a_B-1"])
def test_a_topic_arn_is_kept_without_the_spaces_around_it(arn: str) -> None:
    assert check_topic_arn(arn) == arn.strip()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my-topic",
        f"{TOPIC}.fifo",
        f"{TOPIC}:{SUBSCRIPTION}",
        "arn:aws:sqs:us-west-2:131990247566:queue",
        "arn:aws:sns:us-west-2:1319:topic",
        "arn:aws:sns:us-west-2:１３１９９０２４７５６６:topic",
        f"{TOPIC}\n{TOPIC}",
        f"arn:aws:sns:us-west-2:131990247566:{'a' * 257}",
        "\ud800",
    ],
)
def test_what_is_no_topic_arn_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadTopicArnError) as raised:
        check_topic_arn(text)
    assert "\n" not in str(raised.value)


def test_the_check_waits_for_nothing_but_the_certificate() -> None:
    """`check` above relies on it; here with an event loop."""

    async def fetch(url: str) -> bytes:
        await asyncio.sleep(0)
        return CERTIFICATE

    body = json.dumps(VERSION_2).encode()
    assert asyncio.run(check_sns_message(TOPIC, body, NOW, fetch)) == check(VERSION_2)
