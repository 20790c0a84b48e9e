"""Webhooks: of Segment, whose bodies are calls, and of email providers, whose bodies are logs and go on as they came.

A webhook comes with the API key (Basic authentication, which providers take in the URL: `https://KEY:@host/hooks/...`),
or names its connection, `?connection=ID`, and proves it by a signature. What a connection can check, it always checks.
"""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from schemas.calls import CallType
from schemas.connections import Connection, ConnectionKind
from services.answers import RefusedError, say_taken
from services.door import Door
from services.limits import MAX_WEBHOOK_BYTES, RETRY_SECONDS
from services.publish_messages import Publisher
from services.read_body import check_head, read_body
from services.read_head import read_head
from services.signatures.amazon_sns import AmazonUnavailableError, FetchAmazon, check_sns_message
from services.signatures.mailgun import check_mailgun_signature
from services.signatures.remember_signatures import SeenSignatures, Sight
from services.signatures.segment import Coverage, check_segment_signature
from services.signatures.sendgrid import SIGNATURE_HEADER, TIMESTAMP_HEADER, check_sendgrid_signature
from services.signatures.verdicts import BadVerificationKeyError, ForgedError
from services.split_calls import refuse_erasure, split_webhook
from services.tell_refusals import Naming

SENDERS = {
    "segment": ConnectionKind.SEGMENT,
    "sendgrid": ConnectionKind.SENDGRID,
    "mailgun": ConnectionKind.MAILGUN,
    "postmark": ConnectionKind.POSTMARK,
    "ses": ConnectionKind.AMAZON_SES,
}
"""The last part of the path -> the kind of the connection."""

# What tells a message of Amazon SNS from one that it delivers raw, without a signature:
# https://docs.aws.amazon.com/sns/latest/dg/sns-large-payload-raw-message-delivery.html
_SNS_HEADER = "x-amz-sns-message-type"


@dataclass(frozen=True)
class _Proof:
    """What a signature says of a body."""

    name: str | None
    """Under which the webhook is remembered; None: it may well come again with other events."""
    is_whole: bool
    """Whether it covers all of the body; else it takes the API key as well."""
    body: bytes
    """What of it is to be published, and remembered."""
    subscribe_url: str | None = None
    """What confirms a subscription of Amazon SNS when it is fetched."""


@dataclass
class TakeWebhooks:
    """The endpoint of `/hooks/{sender}`."""

    door: Door
    calls: Publisher
    logs: Publisher
    seen: SeenSignatures
    fetch_certificate: FetchAmazon
    """Amazon's certificates, remembered."""
    fetch: FetchAmazon
    """What Amazon has at a URL."""

    async def __call__(self, request: Request) -> Response:
        """Answer one webhook. Raises `RefusedError`."""
        sender = request.path_params["sender"]
        if sender not in SENDERS:
            raise RefusedError(404, "not_found", f"Webhooks are taken at /hooks/ of {', '.join(SENDERS)}")
        head = read_head(request.scope["headers"])
        check_head(head, MAX_WEBHOOK_BYTES)
        key = head.key
        connection = self._find_connection(request, key, SENDERS[sender])
        with Naming(connection), self.door.open_room(key) as room:
            self.door.admit_calls(connection, 0)
            body = await read_body(head, request.receive, MAX_WEBHOOK_BYTES, room)
            # Before the signature is looked at, which means splitting it as well: whoever sends too many calls need
            # not be who they say they are.
            calls = split_webhook(body) if connection.kind is ConnectionKind.SEGMENT else []
            proof = await self._prove(connection, request, body)
            if key is None and (proof is None or not proof.is_whole):
                raise RefusedError(401, "no_valid_key", "Nothing proves who sends this: put the API key into the URL")
            room.admit()
            room.take_messages(len(calls), sum(map(len, calls)))
            return await self._take(connection, proof, calls, body if proof is None else proof.body)

    def _find_connection(self, request: Request, key: str | None, kind: ConnectionKind) -> Connection:
        connection: Connection | None
        if key is not None or "connection" not in request.query_params:
            connection = self.door.admit_key(key)
        else:
            connection = self.door.admit_named(request.query_params["connection"])
        with Naming(connection):
            if connection.kind is not kind:
                raise RefusedError(403, "other_kind", "The connection is one for another sender")
        return connection

    async def _prove(self, connection: Connection, request: Request, body: bytes) -> _Proof | None:
        """What the signature proves; None if the connection has nothing to check one with. Raises `RefusedError`."""
        now = self.door.wall_clock()
        try:
            match connection.kind:
                case ConnectionKind.SEGMENT if connection.secret_kept_at is not None:
                    header = request.headers.get("x-signature", "")
                    coverage = check_segment_signature(self._find_secret(connection), header, body)
                    is_whole = coverage is Coverage.WHOLE
                    return _Proof(header if is_whole else None, is_whole, body)
                case ConnectionKind.MAILGUN if connection.secret_kept_at is not None:
                    token = check_mailgun_signature(self._find_secret(connection), body, now)
                    return _Proof(token, True, body)
                case ConnectionKind.SENDGRID if connection.verification_key is not None:
                    signature = request.headers.get(SIGNATURE_HEADER, "")
                    timestamp = request.headers.get(TIMESTAMP_HEADER, "")
                    signed = check_sendgrid_signature(connection.verification_key, signature, timestamp, body, now)
                    return _Proof(signed, True, body)
                case ConnectionKind.AMAZON_SES if connection.topic_arn or _SNS_HEADER in request.headers:
                    message = await check_sns_message(connection.topic_arn, body, now, self.fetch_certificate)
                    # Without a topic to expect, it may be anybody's: everybody can have SNS sign something.
                    is_whole = connection.topic_arn is not None
                    return _Proof(message.message_id, is_whole, message.signed_body, message.subscribe_url)
        except ForgedError as forged:
            raise RefusedError(403, "bad_signature", f"The webhook is refused: {forged}") from None
        except (BadVerificationKeyError, AmazonUnavailableError):
            raise RefusedError(503, "cannot_check", "The signature cannot be checked now", RETRY_SECONDS) from None
        return None

    def _find_secret(self, connection: Connection) -> str:
        secret = self.door.connections.find_secret(connection)
        if secret is None:
            raise RefusedError(503, "cannot_check", "The signature cannot be checked now", RETRY_SECONDS)
        return secret

    async def _take(self, connection: Connection, proof: _Proof | None, calls: list[bytes], body: bytes) -> Response:
        name = proof.name if proof is not None else None
        if name is not None:
            sight = self.seen.judge(connection.connection_id, name, body, self.door.wall_clock())
            if sight is Sight.REPLAYED:
                raise RefusedError(403, "replayed", "The webhook is refused: its signature came with another body")
            if sight is Sight.REPEATED:
                return say_taken()
        if connection.kind is ConnectionKind.SEGMENT:
            for call in calls:
                refuse_erasure(call, CallType.DELETE if proof is not None and proof.is_whole else None)
            self.door.admit_calls(connection, len(calls))
            await self.calls.publish(calls, self.door.attributes(connection, self.door.tell_time()))
        else:
            self.door.admit_calls(connection, 1)
            if proof is not None and proof.subscribe_url is not None:
                await self._confirm(proof.subscribe_url)
            else:
                await self.logs.publish([body], self.door.attributes(connection, self.door.tell_time()))
        if name is not None:
            self.seen.remember(connection.connection_id, name, body, self.door.wall_clock())
        return say_taken()

    async def _confirm(self, subscribe_url: str) -> None:
        try:
            await self.fetch(subscribe_url)
        except AmazonUnavailableError:
            raise RefusedError(503, "not_confirmed", "Amazon SNS cannot be reached now", RETRY_SECONDS) from None
