"""The door as senders meet it: the whole application, without a network, with a Pub/Sub that only remembers."""

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.types import ASGIApp

from schemas.calls import MAX_CALL_BYTES
from schemas.connections import Connection, ConnectionKind
from services.answers import RefusedError
from services.collector import build_collector
from services.connection_store import StoreError
from services.door import Door
from services.keys import make_key
from services.known_connections import KnownConnections
from services.limits import MAX_BATCH_BYTES, MAX_STRANGER_BYTES, MAX_WEBHOOK_BYTES, MESSAGE_BYTES
from services.publish_messages import Publisher
from services.read_body import PendingBytes
from services.secret_store import SecretStoreError
from services.signatures.amazon_sns import AmazonUnavailableError
from services.signatures.remember_signatures import SeenSignatures
from services.take_webhooks import TakeWebhooks
from tests.factories import NOW, SECOND, line_of

ORIGIN = {"Origin": "https://shop.example"}
TOPIC_ARN = "arn:aws:sns:us-east-1:123456789012:mail"
CERTIFICATE_URL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem"
SUBSCRIBE_URL = "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
ECDSA = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ANN = "ann@example.com"


class FakePubsub:
    """Remembers what it is given; refuses as long as it is down."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, dict[str, str]]] = []
        self.is_down = False
        self.error: Exception | None = None
        self.look: Callable[[], object] = lambda: None

    async def publish(self, payloads: Sequence[bytes], attributes: Mapping[str, str]) -> None:
        self.look()
        if self.error is not None:
            raise self.error
        if self.is_down:
            raise RefusedError(503, "unavailable", "Pub/Sub does not take it now; come back", 2)
        self.messages += [(payload, dict(attributes)) for payload in payloads]

    def payloads(self) -> list[bytes]:
        return [payload for payload, _ in self.messages]


class World:
    """A collector, its connections, its clocks, and what is beyond it."""

    def __init__(self) -> None:
        self.now, self.seconds = NOW, 0.0
        self.kept: dict[str, Connection] = {}
        self.secrets: dict[str, str] = {}
        self.calls, self.logs = FakePubsub(), FakePubsub()
        self.fetched: list[str] = []
        self.is_amazon_up = True
        self.certificate = make_certificate()
        self.known = KnownConnections(lambda: dict(self.kept), self.read_secret)
        self.pending = PendingBytes(64_000_000)
        self.door = Door(self.known, lambda: self.now, lambda: self.seconds, self.pending)
        calls, logs = cast(Publisher, self.calls), cast(Publisher, self.logs)
        hooks = TakeWebhooks(self.door, calls, logs, SeenSignatures(), self.fetch, self.fetch)
        self.app: ASGIApp = build_collector(self.door, calls, hooks)

    def add(self, kind: str = "segment", *, is_secret_kept: bool = False, **fields: Any) -> str:
        """A connection of this kind and name; gives its key."""
        text, key = make_key(NOW)
        self.kept[kind] = Connection(
            **{
                "connection_id": kind,
                "workspace_id": "acme",
                "kind": ConnectionKind(kind),
                "name": kind,
                "created_at": NOW,
                "calls_per_second": 1000,
                "secret_kept_at": NOW if is_secret_kept else None,
                "keys": (key,),
                **fields,
            }
        )
        self.known.refresh()
        return text

    def expire(self, connection_id: str, expires_at: int) -> None:
        connection = self.kept[connection_id]
        keys = tuple(msgspec.structs.replace(key, expires_at=expires_at) for key in connection.keys)
        self.kept[connection_id] = msgspec.structs.replace(connection, keys=keys)
        self.known.refresh()

    def read_secret(self, name: str) -> str | None:
        if name not in self.secrets:
            raise SecretStoreError("the secret store is down")
        return self.secrets[name]

    async def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        if not self.is_amazon_up:
            raise AmazonUnavailableError("down")
        return self.certificate

    def send(self, path: str, body: bytes | AsyncIterator[bytes] = b"{}", **about: Any) -> httpx.Response:
        """A POST; `key` is the user name of Basic authentication."""
        return asyncio.run(self.ask("POST", path, content=body, **about))

    async def ask(self, method: str, path: str, key: str | None = None, **about: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        auth = None if key is None else (key, "")
        async with httpx.AsyncClient(transport=transport, base_url="http://door", auth=auth) as client:
            return await client.request(method, path, **about)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def key(world: World) -> str:
    return world.add()


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["success"] is False
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (status in (429, 503))


# Calls


@pytest.mark.parametrize(
    ("path", "call_type"),
    [
        *((name, name) for name in ("identify", "track", "page", "screen", "group", "alias")),
        *zip("itpsga", ("identify", "track", "page", "screen", "group", "alias"), strict=True),
    ],
)
def test_a_call_is_published_as_of_its_paths_type(world: World, key: str, path: str, call_type: str) -> None:
    answer = world.send(f"/v1/{path}", line_of("track", type="other"), key=key)

    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert answer.headers["content-type"] == "application/json"
    ((payload, attributes),) = world.calls.messages
    assert json.loads(payload)["type"] == call_type
    assert attributes == {
        "workspace_id": "acme",
        "connection_id": "segment",
        "received_at": json.loads(payload)["receivedAt"],
    }
    assert attributes["received_at"] == "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize("path", ["batch", "import", "b"])
def test_each_call_of_a_batch_is_a_message(world: World, key: str, path: str) -> None:
    batch = b'{"batch":[' + line_of(messageId="m1") + b"," + line_of(messageId="m2") + b"]}"

    assert world.send(f"/v1/{path}", batch, key=key).status_code == 200
    assert [json.loads(payload)["messageId"] for payload in world.calls.payloads()] == ["m1", "m2"]


@pytest.mark.parametrize("path", ["t", "b"])
def test_a_beacon_has_its_key_in_the_body(world: World, key: str, path: str) -> None:
    call = json.loads(line_of())
    body = {"writeKey": key, **({"batch": [{**call, "writeKey": key}]} if path == "b" else call)}

    answer = world.send(f"/v1/{path}", json.dumps(body).encode(), headers={"Content-Type": "text/plain", **ORIGIN})

    assert answer.status_code == 200
    assert key not in world.calls.payloads()[0].decode()


def test_markup_sql_and_odd_numbers_go_through_byte_for_byte(world: World, key: str) -> None:
    odd = '"event":"<script>alert(1)</script>\'; DROP TABLE `calls`; --\\u0000é","properties":{"a":1.50,"b":1e400}'

    world.send("/v1/batch", f'{{"batch":[{{{odd}}}]}}'.encode(), key=key)

    assert odd in world.calls.payloads()[0].decode()


def test_gzip_is_unpacked(world: World, key: str) -> None:
    answer = world.send("/v1/track", gzip.compress(line_of()), key=key, headers={"Content-Encoding": "GZIP"})

    assert answer.status_code == 200
    assert json.loads(world.calls.payloads()[0])["event"] == "Order Completed"


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_it_lives_as_long_as_the_server(world: World) -> None:
    lived: list[str] = []

    @asynccontextmanager
    async def live(app: Starlette) -> AsyncIterator[None]:
        lived.append("begun")
        yield
        lived.append("over")

    calls = cast(Publisher, world.calls)
    app = build_collector(world.door, calls, cast(TakeWebhooks, lambda request: None), live)

    async def run() -> None:
        said = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(said)

        async def send(message: Any) -> None:
            lived.append(message["type"])

        await app({"type": "lifespan", "app": app, "state": {}}, receive, send)

    asyncio.run(run())

    assert lived == ["begun", "lifespan.startup.complete", "over", "lifespan.shutdown.complete"]


# Refusals


@pytest.mark.parametrize(
    ("path", "body"),
    [("track", b""), ("track", b"[]"), ("batch", b'{"batch":[}'), ("batch", b'{"batch":[]}'), ("batch", b"null")],
)
def test_what_is_no_call_is_refused(world: World, key: str, path: str, body: bytes) -> None:
    answer = world.send(f"/v1/{path}", body, key=key)

    assert_refused(answer, 400, "empty_batch" if body == b'{"batch":[]}' else "bad_request")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic /w=="},
        {"Authorization": "Bearer x"},
        {"Authorization": "Basic " + base64.b64encode(b"sw_0123456789ab_" + b"x" * 43 + b":").decode()},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch", "/hooks/segment"])
def test_without_a_valid_key_nothing_is_taken(world: World, key: str, path: str, headers: dict[str, str]) -> None:
    answer = world.send(path, b'{"batch":[{}]}', headers=headers)

    assert_refused(answer, 401, "no_valid_key")
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert world.calls.messages == []


def test_a_key_with_another_secret_or_in_the_password_opens_nothing(world: World, key: str) -> None:
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")

    assert_refused(world.send("/v1/track", key=wrong), 401, "no_valid_key")
    assert_refused(world.send("/v1/track", json.dumps({"writeKey": wrong}).encode()), 401, "no_valid_key")
    assert_refused(world.send("/v1/track", rb'{"writeKey":"\ud800"}'), 401, "no_valid_key")
    assert_refused(asyncio.run(world.ask("POST", "/v1/track", headers=basic(f"x:{key}"))), 401, "no_valid_key")
    with_key = json.dumps({"writeKey": key}).encode()
    assert_refused(world.send("/v1/track", with_key, headers={"Authorization": "Basic !"}), 401, "no_valid_key")
    assert world.send("/v1/track", key=key).status_code == 200


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_a_key_opens_until_it_expires(world: World, key: str) -> None:
    world.expire("segment", NOW + 1)

    assert world.send("/v1/track", key=key).status_code == 200
    world.now = NOW + 1
    assert_refused(world.send("/v1/track", key=key), 401, "no_valid_key")


def test_a_key_of_another_kind_is_told_so(world: World) -> None:
    sendgrid = world.add("sendgrid")

    assert_refused(world.send("/v1/track", key=sendgrid), 403, "other_kind")
    assert_refused(world.send("/hooks/postmark", key=sendgrid), 403, "other_kind")


@pytest.mark.parametrize(
    "path", ["/", "/v1/", "/v1/delete", "/v1/track/", "/hooks/ses/", "/hooks/nobody", "/v2/track", "/v1/a/b"]
)
def test_other_paths_lead_nowhere(world: World, key: str, path: str) -> None:
    assert_refused(world.send(path, key=key), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/track"), ("PUT", "/hooks/ses"), ("POST", "/health")])
def test_other_methods_are_told_what_is_allowed(world: World, method: str, path: str) -> None:
    answer = asyncio.run(world.ask(method, path))

    assert_refused(answer, 405, "method_not_allowed")
    assert ("POST" in answer.headers["allow"]) == (path != "/health")


def test_a_body_that_stops_coming_is_not_waited_for(world: World, key: str) -> None:
    async def send() -> list[dict[str, Any]]:
        answered: list[dict[str, Any]] = []
        received = iter([{"type": "http.request", "body": b"{", "more_body": True}])

        async def receive() -> Any:
            for message in received:
                return message
            raise TimeoutError  # as asyncio.timeout makes it

        async def keep(message: Any) -> None:
            answered.append(message)

        headers = [(b"authorization", basic(f"{key}:")["Authorization"].encode())]
        scope = {"type": "http", "method": "POST", "path": "/v1/track", "headers": headers, "query_string": b""}
        await world.app(scope, receive, keep)
        return answered

    start, body = asyncio.run(send())

    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["code"] == "too_slow"
    assert world.pending.held == 0


@pytest.mark.parametrize(
    ("path", "most"), [("/v1/track", MAX_CALL_BYTES), ("/v1/batch", MAX_BATCH_BYTES), ("/hooks/segment", 9_000_000)]
)
def test_a_body_may_be_as_large_as_this(world: World, key: str, path: str, most: int) -> None:
    assert most != 9_000_000 or most == MAX_WEBHOOK_BYTES
    call = b'{"batch":[{}],"pad":"' + b"x" * (most - len(b'{"batch":[{}],"pad":""}')) + b'"}'
    packed = {"Content-Encoding": "gzip"}

    assert world.send(path, call, key=key).status_code == 200
    assert world.send(path, chunks(call[:9], call[9:]), key=key).status_code == 200
    assert world.send(path, gzip.compress(call), key=key, headers=packed).status_code == 200
    assert_refused(world.send(path, call + b" ", key=key), 413, "too_large")
    assert_refused(world.send(path, chunks(call, b" "), key=key), 413, "too_large")
    assert_refused(world.send(path, gzip.compress(call + b" "), key=key, headers=packed), 413, "too_large")
    assert_refused(world.send(path, b"", key=key, headers={"Content-Length": "9" * 5000}), 413, "too_large")
    assert world.pending.held == 0


def test_a_bomb_of_gzip_is_not_unpacked(world: World, key: str) -> None:
    bomb = gzip.compress(bytes(100_000_000), 9)
    members = gzip.compress(b'{"batch":[{}]}') + gzip.compress(b"") * 10_000
    packed = {"Content-Encoding": "gzip"}

    tracemalloc.start()
    assert_refused(world.send("/v1/batch", bomb, key=key, headers=packed), 413, "too_large")
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert_refused(world.send("/v1/batch", members, key=key, headers=packed), 400, "bad_request")
    assert_refused(world.send("/v1/batch", gzip.compress(b"{}")[:-1], key=key, headers=packed), 400, "bad_request")
    assert_refused(world.send("/v1/batch", b"{}", key=key, headers=packed), 400, "bad_request")


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", ""])
def test_other_packings_are_refused(world: World, key: str, encoding: str) -> None:
    assert_refused(world.send("/v1/track", key=key, headers={"Content-Encoding": encoding}), 415, "unknown_encoding")


def test_too_many_calls_are_told_when_to_come_back(world: World) -> None:
    key = world.add(calls_per_second=2)
    batch = b'{"batch":[{},{},{},{}]}'

    assert world.send("/v1/batch", batch, key=key).status_code == 200
    answer = world.send("/v1/batch", batch, key=key)
    assert_refused(answer, 429, "too_fast")
    assert answer.headers["retry-after"] == answer.headers["x-ratelimit-reset"] == "2"
    assert len(world.calls.messages) == 4
    world.seconds += 2
    assert world.send("/v1/batch", batch, key=key).status_code == 200


def test_what_is_refused_is_told_with_its_connection(world: World, key: str, caplog: pytest.LogCaptureFixture) -> None:
    mail = world.add("mailgun")
    world.send("/v1/batch", b"{}", key=key)
    world.send("/v1/track", key=mail)
    world.send("/hooks/sendgrid", key=mail)
    world.send("/v1/track", key="sw_nobody")

    world.door.refusals.tell()

    told = caplog.records[-1].message
    for what in ("1 empty_batch of segment", "2 other_kind of mailgun", "1 no_valid_key"):
        assert what in told


def test_who_is_too_fast_is_told_before_the_body_is_read(world: World) -> None:
    key = world.add(calls_per_second=1)
    world.send("/v1/track", key=key)

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    assert_refused(world.send("/v1/track", unread(), key=key), 429, "too_fast")


def test_until_keys_are_known_senders_have_to_wait(world: World) -> None:
    assert asyncio.run(world.ask("GET", "/ready")).status_code == 503
    assert_refused(world.send("/v1/track", key="any"), 503, "starting")
    world.add()
    assert asyncio.run(world.ask("GET", "/ready")).status_code == 200
    assert asyncio.run(world.ask("GET", "/health")).status_code == 200


def test_while_pubsub_is_down_nothing_is_taken(world: World, key: str) -> None:
    world.calls.is_down = True
    assert_refused(world.send("/v1/track", key=key), 503, "unavailable")

    world.calls.is_down = False
    assert world.send("/v1/track", key=key).status_code == 200
    assert len(world.calls.messages) == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b" " * 5000, {}),
        (gzip.compress(b" " * 5000), {"Content-Encoding": "gzip"}),
        (b'{"batch":[' + b"{}," * 9 + b"{}]}", {}),
    ],
    ids=["body", "unpacked", "messages"],
)
def test_what_has_no_room_is_sent_away(world: World, key: str, body: bytes, headers: dict[str, str]) -> None:
    world.door.pending = world.pending = PendingBytes(4000)

    assert_refused(world.send("/v1/batch", body, key=key, headers=headers), 503, "overloaded")
    assert world.pending.held == 0
    assert world.send("/v1/track", key=key).status_code == 200


@pytest.mark.parametrize("path", ["/v1/batch", "/hooks/segment?connection=segment"])
def test_who_has_no_key_does_not_crowd_out_who_has(world: World, key: str, path: str) -> None:
    call = json.dumps({"writeKey": key}).encode()

    with world.door.strangers.open_room() as held:
        held.take(MAX_STRANGER_BYTES)
        assert_refused(world.send(path, b'{"batch":[{}]}'), 503, "overloaded")
        assert world.send(path, b'{"batch":[{}]}', key=key).status_code == 200
        assert_refused(world.send("/v1/track", call), 503, "overloaded")
    assert world.send("/v1/track", call).status_code == 200
    assert world.pending.held == world.door.strangers.held == 0


def test_who_has_shown_a_key_in_the_body_is_no_stranger_any_more(world: World, key: str) -> None:
    held: list[tuple[int, bool]] = []
    world.calls.look = lambda: held.append((world.door.strangers.held, world.pending.held > 0))

    assert world.send("/v1/track", json.dumps({"writeKey": key}).encode()).status_code == 200
    hook = Hook(world, "segment")
    assert hook.send(hook.sign("one")).status_code == 200
    assert held == [(0, True), (0, True)]
    assert world.pending.held == world.door.strangers.held == 0


@pytest.mark.parametrize("path", ["/v1/track", "/v1/batch", "/hooks/segment"])
def test_room_is_held_until_pubsub_has_taken_it(world: World, key: str, path: str) -> None:
    body, held = b'{"batch":[{}]}', []
    world.calls.look = lambda: held.append(world.pending.held)

    assert world.send(path, body, key=key).status_code == 200
    assert held[0] > 2 * len(body) + MESSAGE_BYTES - 1
    assert world.pending.held == 0


def test_who_announces_a_body_takes_no_room_for_it(world: World, key: str) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        assert world.pending.held == 1
        yield b"}"

    answer = world.send("/v1/track", slow(), key=key, headers={"Content-Length": "2"})

    assert answer.status_code == 200


# Browsers


def test_a_page_of_any_origin_may_send(world: World, key: str) -> None:
    names = "authorization,content-type,x-retry-count"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": names}

    answer = asyncio.run(world.ask("OPTIONS", "/v1/batch", headers={**ORIGIN, **asked}))

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == names
    assert answer.headers["access-control-max-age"] == "86400"
    assert world.send("/v1/track", key=key, headers=ORIGIN).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 429, 500, 503])
def test_a_page_can_read_what_is_wrong(world: World, status: int, caplog: pytest.LogCaptureFixture) -> None:
    key, other = world.add(calls_per_second=1), world.add("postmark")
    if status == 429:
        world.send("/v1/track", key=key)
    if status >= 500:
        world.calls.error = RuntimeError(ANN) if status == 500 else RefusedError(503, "unavailable", "", 2)
    encoding = {"Content-Encoding": "br"} if status == 415 else {}

    answer = asyncio.run(
        world.ask(
            "GET" if status == 405 else "POST",
            "/v1/nothing" if status == 404 else "/v1/track",
            {401: "wrong", 403: other}.get(status, key),
            content=b"" if status == 400 else b"x" * 33_000 if status == 413 else b"{}",
            headers={**ORIGIN, **encoding},
        )
    )

    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == "Retry-After, X-RateLimit-Reset"
    assert answer.json()["success"] is False
    assert ANN not in answer.text
    assert len(caplog.records) == (status == 500)


# Webhooks


def make_certificate(name: str = "sns.amazonaws.com") -> bytes:
    about = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.fromtimestamp(NOW / 1e6, UTC)
    builder = x509.CertificateBuilder(about, about, RSA.public_key(), 1)
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    valid = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return valid.add_extension(names, critical=False).sign(RSA, SHA256()).public_bytes(Encoding.PEM)


Signed = tuple[bytes, dict[str, str]]
"""A body and its headers."""


def sign_segment(text: str) -> Signed:
    body = line_of(event=text)
    return body, {"X-Signature": hmac.new(b"secret", body, hashlib.sha1).hexdigest()}


def sign_sendgrid(text: str) -> Signed:
    body = json.dumps([{"email": ANN, "event": text}]).encode()
    timestamp = str(NOW // SECOND)
    signature = base64.b64encode(ECDSA.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    prefix = "X-Twilio-Email-Event-Webhook-"
    return body, {f"{prefix}Signature": signature, f"{prefix}Timestamp": timestamp}


def sign_mailgun(text: str) -> Signed:
    timestamp, token = str(NOW // SECOND), "t" * 50
    signature = hmac.new(b"secret", (timestamp + token).encode(), hashlib.sha256).hexdigest()
    signed = {"timestamp": timestamp, "token": token, "signature": signature}
    return json.dumps({"signature": signed, "event-data": {"event": text}}).encode(), {}


def sign_sns(text: str, kind: str = "Notification", topic_arn: str = TOPIC_ARN) -> Signed:
    fields = {"Message": text, "MessageId": "m-1"}
    if kind != "Notification":
        fields |= {"SubscribeURL": SUBSCRIBE_URL}
    fields |= {"Timestamp": "2026-01-01T00:00:00.000Z"}
    if kind != "Notification":
        fields |= {"Token": "t"}
    fields |= {"TopicArn": topic_arn, "Type": kind}
    signed = "".join(f"{name}\n{value}\n" for name, value in fields.items()).encode()
    signature = base64.b64encode(RSA.sign(signed, PKCS1v15(), SHA256())).decode()
    sent = {**fields, "SignatureVersion": "2", "Signature": signature, "SigningCertURL": CERTIFICATE_URL}
    return json.dumps(sent).encode(), {"x-amz-sns-message-type": kind}


SENDERS: dict[str, tuple[str, dict[str, Any], Callable[[str], Signed]]] = {
    "segment": ("segment", {"is_secret_kept": True}, sign_segment),
    "sendgrid": (
        "sendgrid",
        {
            "verification_key": base64.b64encode(
                ECDSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).decode()
        },
        sign_sendgrid,
    ),
    "mailgun": ("mailgun", {"is_secret_kept": True}, sign_mailgun),
    "ses": ("amazon_ses", {"topic_arn": TOPIC_ARN}, sign_sns),
}
every_signer = pytest.mark.parametrize("sender", SENDERS)


class Hook:
    """A sender whose webhooks are signed."""

    def __init__(self, world: World, sender: str) -> None:
        self.world = world
        self.kind, fields, self.sign = SENDERS[sender]
        world.secrets[f"signing-secret-{self.kind}"] = "secret"
        self.key = world.add(self.kind, **fields)
        self.path = f"/hooks/{sender}?connection={self.kind}"
        self.topic = world.calls if sender == "segment" else world.logs

    def send(self, signed: Signed, **about: Any) -> httpx.Response:
        body, headers = signed
        return self.world.send(self.path, body, headers=headers, **about)


@every_signer
@pytest.mark.parametrize("has_key", [True, False])
def test_a_signed_webhook_is_published_once(world: World, sender: str, has_key: bool) -> None:
    hook = Hook(world, sender)
    signed = hook.sign("<b>'; DROP TABLE logs; --")
    about = {"key": hook.key} if has_key else {}

    assert [hook.send(signed, **about).status_code for _ in range(3)] == [200, 200, 200]
    ((payload, attributes),) = hook.topic.messages
    assert (payload == signed[0]) == (sender != "ses")
    assert "<b>'; DROP TABLE logs; --" in payload.decode()
    assert attributes == {
        "workspace_id": "acme",
        "connection_id": hook.kind,
        "received_at": "2026-01-01T00:00:00.000Z",
    }


@every_signer
@pytest.mark.parametrize("has_key", [True, False])
def test_a_forged_webhook_is_refused_even_with_the_key(world: World, sender: str, has_key: bool) -> None:
    hook = Hook(world, sender)
    body, headers = hook.sign("one")
    about = {"key": hook.key} if has_key else {}
    forged = body.replace(b"one", b"two").replace(b'"token": "t', b'"token": "u')

    assert_refused(hook.send((forged, headers), **about), 403, "bad_signature")
    assert_refused(hook.send((body[:-1], headers), **about), 403 if sender != "segment" else 400, ANY)
    if sender != "mailgun":
        assert_refused(hook.send((b"{}", {}), **about), 403, "bad_signature")
    assert hook.topic.messages == []


class _Any:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


ANY = cast(str, _Any())


def test_a_token_that_comes_with_another_body_is_a_replay(world: World) -> None:
    hook = Hook(world, "mailgun")

    assert hook.send(hook.sign("opened")).status_code == 200
    assert_refused(hook.send(hook.sign("clicked")), 403, "replayed")
    assert len(world.logs.messages) == 1


@every_signer
def test_an_old_webhook_is_refused_where_its_time_is_signed(world: World, sender: str) -> None:
    hook = Hook(world, sender)
    signed = hook.sign("one")
    world.now += 25 * 3600 * SECOND

    answer = hook.send(signed)

    assert answer.status_code == (200 if sender == "segment" else 403)


@every_signer
def test_what_pubsub_did_not_take_is_new_when_it_comes_again(world: World, sender: str) -> None:
    hook = Hook(world, sender)
    signed = hook.sign("one")

    hook.topic.is_down = True
    assert_refused(hook.send(signed), 503, "unavailable")
    hook.topic.is_down = False
    assert hook.send(signed).status_code == 200
    assert len(hook.topic.messages) == 1


@every_signer
def test_a_revoked_connection_takes_nothing_however_well_signed(world: World, sender: str) -> None:
    hook = Hook(world, sender)
    world.expire(hook.kind, NOW)

    assert_refused(hook.send(hook.sign("one")), 401, "no_valid_key")
    assert_refused(hook.send(hook.sign("one"), key=hook.key), 401, "no_valid_key")


@pytest.mark.parametrize(("name", "status"), [("nobody", 401), ("", 401), ("postmark", 403), ("x" * 9999, 401)])
def test_an_unknown_or_another_connection_takes_nothing(world: World, name: str, status: int) -> None:
    hook = Hook(world, "sendgrid")
    world.add("postmark")
    body, headers = hook.sign("one")

    answer = world.send(f"/hooks/sendgrid?connection={name}", body, headers=headers)

    assert_refused(answer, status, "no_valid_key" if status == 401 else "other_kind")


def test_a_sender_without_signatures_needs_the_key(world: World) -> None:
    key = world.add("postmark")
    body = b'{"RecordType": "Open",  "Recipient": "ann@example.com"}'

    assert_refused(world.send("/hooks/postmark?connection=postmark", body), 401, "no_valid_key")
    assert world.send("/hooks/postmark?connection=postmark", body, key=key).status_code == 200
    assert world.send("/hooks/postmark", body, key=key).status_code == 200
    assert world.logs.payloads() == [body, body]


@pytest.mark.parametrize("sender", ["segment", "mailgun"])
def test_while_the_secret_cannot_be_read_webhooks_have_to_wait(
    world: World, sender: str, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook(world, sender)
    signed = hook.sign("one")
    del world.secrets[f"signing-secret-{hook.kind}"]
    world.kept[hook.kind] = msgspec.structs.replace(world.kept[hook.kind], connection_id="new", secret_kept_at=NOW + 1)
    world.kept["new"] = world.kept.pop(hook.kind)
    world.known.refresh()
    hook.path = f"/hooks/{sender}?connection=new"

    assert_refused(hook.send(signed), 503, "cannot_check")
    assert_refused(hook.send(signed, key=hook.key), 503, "cannot_check")
    assert [record.getMessage() for record in caplog.records] == ["the secret store is down"]
    world.secrets["signing-secret-new"] = "secret"
    world.known.refresh()
    assert hook.send(signed).status_code == 200


def test_a_batch_of_segment_is_proved_by_its_first_event_only_with_the_key(world: World) -> None:
    hook = Hook(world, "segment")
    first, headers = hook.sign("one")
    batch = b"[" + first + b"," + line_of(event="two") + b"]", headers

    assert_refused(hook.send(batch), 401, "no_valid_key")
    assert hook.send(batch, key=hook.key).status_code == 200
    assert len(world.calls.messages) == 2
    assert hook.send((b"[" + first + b"]", headers)).status_code == 200


ERASING = [
    line_of("delete", userId="victim"),
    line_of("suppress", identifierHash="0" * 64),
    line_of("suppress", identifierHash="0" * 64).replace(b'"suppress"', b'"s\\u0075ppress"'),
    b'{"type":"track","type":"delete","userId":"victim"}',
]
NO_NAME = b'{"type":"delete","userId":"victim","\\ud800":1}'
"""Which the decoder of calls does not take, and a more lenient one might."""


@pytest.mark.parametrize("erasing", [*ERASING, NO_NAME])
def test_a_key_which_may_stand_in_a_page_erases_nobody(world: World, key: str, erasing: bytes) -> None:
    batch = b'{"batch":[' + line_of("track") + b"," + erasing + b"]}"

    assert_refused(world.send("/v1/batch", batch, key=key), 403, "erasure_not_taken")
    for webhook in (erasing, b"[" + erasing + b"]"):
        answer = world.send("/hooks/segment", webhook, key=key)
        assert_refused(answer, *((400, "bad_request") if erasing is NO_NAME else (403, "erasure_not_taken")))
    assert world.calls.messages == []


@pytest.mark.parametrize("erasing", ERASING)
def test_a_signature_of_segment_erases_but_suppresses_nobody(world: World, erasing: bytes) -> None:
    hook = Hook(world, "segment")
    signed = erasing, {"X-Signature": hmac.new(b"secret", erasing, hashlib.sha1).hexdigest()}

    if b"delete" in erasing:
        assert hook.send(signed).status_code == 200
    else:
        assert_refused(hook.send(signed), 403, "erasure_not_taken")
    assert len(world.calls.messages) == (b"delete" in erasing)


def test_a_webhook_of_too_many_calls_is_refused_unsplit(world: World) -> None:
    hook = Hook(world, "segment")

    assert_refused(hook.send((b"[" + b"0," * 4_000_000 + b"0]", {})), 400, "bad_request")
    assert_refused(hook.send((b"[" + b"{}," * 2_000_000 + b"{}]", {})), 413, "too_large")


def test_a_subscription_is_confirmed_exactly_once(world: World) -> None:
    hook = Hook(world, "ses")
    signed = sign_sns("You have chosen to subscribe", "SubscriptionConfirmation")

    world.is_amazon_up = False
    assert_refused(hook.send(signed), 503, "cannot_check")
    world.is_amazon_up = True
    world.fetched.clear()
    assert [hook.send(signed).status_code for _ in range(3)] == [200, 200, 200]
    assert world.fetched.count(SUBSCRIBE_URL) == 1
    assert world.logs.messages == []


def test_a_notification_of_another_topic_is_refused_and_raw_ones_need_the_key(world: World) -> None:
    hook = Hook(world, "ses")

    assert_refused(hook.send(sign_sns("x", topic_arn=TOPIC_ARN + "2")), 403, "bad_signature")
    key = world.add("amazon_ses")
    assert_refused(hook.send((b'{"eventType":"Open"}', {})), 401, "no_valid_key")
    assert_refused(hook.send(sign_sns("x")), 401, "no_valid_key")
    assert hook.send((b'{"eventType":"Open"}', {}), key=key).status_code == 200


# The log, and what is known of connections


def test_neither_keys_nor_persons_stand_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="services")
    key = world.add()
    bodies: Iterable[bytes] = (line_of(userId=ANN), b'{"email":"ann@example.com"', b"\xff" + ANN.encode())
    for body in bodies:
        for path in ("track", "batch"):
            world.send(f"/v1/{path}?key={key}", body, key=key)
            world.send(f"/v1/{path}", body, key=key[:-1])
    for sender in SENDERS:
        hook = Hook(world, sender)
        body, headers = hook.sign(ANN)
        hook.send((body, headers), key=hook.key)
        hook.send((body + b" ", headers))

    said = caplog.text
    assert key not in said
    assert key.rpartition("_")[2] not in said
    assert "ann@" not in said
    assert "secret" not in said


def test_a_secret_that_is_missing_or_empty_is_told_and_lets_nobody_sign(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook(world, "segment")
    body = line_of()
    unsigned = body, {"X-Signature": hmac.new(b"", body, hashlib.sha1).hexdigest()}
    world.known = world.door.connections = KnownConnections(lambda: dict(world.kept), lambda name: "")
    world.known.refresh()

    assert_refused(hook.send(unsigned, key=hook.key), 503, "cannot_check")
    assert "no signing secret of segment" in caplog.text


def test_a_revoked_key_does_not_wait_for_the_secret_store(world: World) -> None:
    key = world.add("mailgun", is_secret_kept=False)
    found: list[object] = []

    def read_secret(name: str) -> str:
        found.append(world.known.find(key, NOW))
        return "secret"

    world.known._read_secret = read_secret
    world.kept["mailgun"] = msgspec.structs.replace(world.kept["mailgun"], keys=(), secret_kept_at=NOW)
    world.known.refresh()

    assert found == [None]


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("error", [StoreError("BigQuery is down"), ValueError("a row nobody foresaw")])
def test_connections_are_read_again_whatever_happens(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    key = world.add()
    answers = iter([error, error, {}])
    slept: list[float] = []

    def load() -> dict[str, Connection]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return cast(dict[str, Connection], answer)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) in (2, 3):
            assert world.known.find(key, NOW) is not None
        if len(slept) == 4:
            raise _EnoughError

    world.known._load = load
    with pytest.raises(_EnoughError):
        world.known.keep_fresh(7, sleep)

    assert slept == [7, 7, 7, 7]
    assert world.known.find(key, NOW) is None
    assert len(caplog.records) == 2
    assert "Going on with the 1 connections known" in caplog.text
