"""Who knocks at the collector in the demo: an application with Segment's library, Segment, and an email provider."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from segment.analytics.client import Client

TIMEOUT_SECONDS = 15

# Fields of a call -> what Segment's library calls them.
_ARGUMENTS = {
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "groupId": "group_id",
    "previousId": "previous_id",
    "event": "event",
    "name": "name",
    "category": "category",
    "properties": "properties",
    "traits": "traits",
    "context": "context",
    "messageId": "message_id",
}


class Application:
    """Sends calls through segment-analytics-python, and what that library would never send by plain HTTP."""

    def __init__(self, collector: str, key: str) -> None:
        self._collector = collector
        self._key = key

    def send(self, payloads: Sequence[bytes]) -> list[bytes]:
        """All of it, as fast as it goes; gives what no door lets in: what is no JSON. Raises RuntimeError."""
        failures: list[str] = []
        client = Client(
            self._key,
            host=self._collector,
            gzip=True,
            max_queue_size=len(payloads) + 1,
            on_error=lambda error, batch: failures.append(f"{type(error).__name__} for {len(batch)} calls"),
        )
        odd, unreadable = [], []
        for payload in payloads:
            try:
                call = json.loads(payload)
            except ValueError:
                unreadable.append(payload)
                continue
            # Segment's servers add receivedAt to what its library sends; what has none was never in the library.
            if isinstance(call, dict) and "receivedAt" in call:
                _send_call(client, call)
            else:
                odd.append(payload)
        client.shutdown()
        if odd:
            body = b'{"batch": [' + b", ".join(odd) + b"]}"
            answer = requests.post(
                f"{self._collector}/v1/batch", data=body, auth=(self._key, ""), timeout=TIMEOUT_SECONDS
            )
            if not answer.ok:
                failures.append(f"HTTP {answer.status_code} for {len(odd)} odd calls")
        if failures:
            raise RuntimeError(f"the collector did not take all: {', '.join(failures)}")
        return unreadable


def _send_call(client: Client, call: dict[str, Any]) -> None:
    arguments = {argument: call[field] for field, argument in _ARGUMENTS.items() if call.get(field) is not None}
    is_queued, _ = getattr(client, call["type"])(**arguments, timestamp=datetime.fromisoformat(call["timestamp"]))
    assert is_queued


class Segment:
    """Delivers events to a webhook as Segment does: signed, and again until they are taken."""

    def __init__(self, collector: str, key: str, secret: str) -> None:
        self._url = f"{collector}/hooks/segment"
        self._key = key
        self._secret = secret
        self._sessions = threading.local()

    def deliver(self, body: bytes) -> bool:
        """Whether the webhook took it."""
        signature = hmac.new(self._secret.encode(), body, hashlib.sha1).hexdigest()
        headers = {"X-Signature": signature, "Content-Type": "application/json"}
        try:
            answer = self._session().post(
                self._url, data=body, headers=headers, auth=(self._key, ""), timeout=TIMEOUT_SECONDS
            )
        except requests.RequestException:
            return False
        return answer.ok

    def _session(self) -> requests.Session:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
        session: requests.Session = self._sessions.session
        return session


class SendGrid:
    """Posts events with SendGrid's signature, which its public key proves: no API key is needed."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def verification_key(self) -> str:
        """As SendGrid shows it in the settings of its webhook."""
        public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(public).decode()

    def post(self, collector: str, connection_id: str, bodies: Sequence[bytes]) -> None:
        """All of them. Raises requests.RequestException."""
        with requests.Session() as session:
            for body in bodies:
                timestamp = str(int(time.time()))
                signature = self._key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
                headers = {
                    "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
                    "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
                }
                url = f"{collector}/hooks/sendgrid?connection={connection_id}"
                session.post(url, data=body, headers=headers, timeout=TIMEOUT_SECONDS).raise_for_status()


@dataclass(frozen=True)
class Door:
    """The collector, and who knocks at it."""

    url: str
    application: Application
    segment: Segment
    sendgrid: SendGrid
    connection_ids: dict[str, str]
    """By the name of who knocks: application, segment, sendgrid."""
    publish: Callable[[str, Sequence[bytes]], None]
    """Around the collector: to the topic `segment-calls` or `email-logs`."""

    def send_calls(self, payloads: Sequence[bytes]) -> None:
        """Through Segment's library; what is no JSON gets in only around the collector, as by mistake."""
        self.publish("segment-calls", self.application.send(payloads))

    def send_logs(self, messages: Sequence[bytes]) -> None:
        """SendGrid's arrays to its webhook; lines of our own log have no webhook, and go to the topic."""
        posted = [message for message in messages if message.startswith(b"[")]
        self.sendgrid.post(self.url, self.connection_ids["sendgrid"], posted)
        self.publish("email-logs", [message for message in messages if not message.startswith(b"[")])
