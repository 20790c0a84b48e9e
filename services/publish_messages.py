"""To Pub/Sub, many messages a request: whoever waits learns when Pub/Sub has taken all of theirs."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import grpc
from google.api_core import exceptions
from google.api_core.gapic_v1.method_async import wrap_method
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.api_core.retry_async import AsyncRetry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

from services.answers import RefusedError
from services.limits import PUBLISH_SECONDS, RETRY_SECONDS

# The limits of one request: https://cloud.google.com/pubsub/quotas#resource_limits. Its bytes are limited to 10 MB;
# attributes and framing are not counted here.
MAX_MESSAGES = 1000
MAX_BYTES = 5_000_000

# While so many requests are under way, messages gather for the next: the busier, the larger they get.
MAX_REQUESTS = 4

# After an outage gRPC waits for up to two minutes before it looks again, and refuses everything meanwhile:
# https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md
_EAGER = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]

# "Come back": https://cloud.google.com/pubsub/docs/reference/error-codes
_PASSING = if_exception_type(
    exceptions.ServiceUnavailable, exceptions.Aborted, exceptions.InternalServerError, exceptions.ResourceExhausted
)

# While it lasts, an outage is told again so often.
_LOG_SECONDS = 10.0

_REFUSALS = (exceptions.GoogleAPIError, GoogleAuthError)

_log = logging.getLogger(__name__)

# A raw protobuf message, without the typed wrappers, which cost many times more.
_Request = types.PublishRequest.pb()


class _Waiting(NamedTuple):
    """Some messages of one request, and who waits for them. They are copied no sooner than they are sent."""

    payloads: Sequence[bytes]
    attributes: Mapping[str, str]
    size: int
    taken: asyncio.Future[None]


@asynccontextmanager
async def open_channel() -> AsyncIterator[grpc.aio.Channel]:
    """To Google, with application default credentials; to the emulator where PUBSUB_EMULATOR_HOST names one.

    Raises google.auth.exceptions.DefaultCredentialsError.
    """
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        channel = grpc.aio.insecure_channel(emulator, _EAGER)
    else:
        channel = PublisherGrpcAsyncIOTransport.create_channel(options=_EAGER)
    try:
        yield channel
    finally:
        await channel.close()


class Publisher:
    """Publishes to one topic. It holds what waits; who may wait is decided at the door (`PendingBytes`)."""

    def __init__(self, topic: str, seconds: float = PUBLISH_SECONDS) -> None:
        self._topic = topic
        self._seconds = seconds
        self._metadata = [to_grpc_metadata((("topic", topic),))]
        self._waiting: deque[_Waiting] = deque()
        self._expected: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._logged: tuple[type[Exception], float] | None = None

    def open(self, channel: grpc.aio.Channel) -> None:
        """Publish through this. To be called in the event loop, before anything is published."""
        publish = channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish",
            request_serializer=_Request.SerializeToString,
            response_deserializer=types.PublishResponse.pb().FromString,
        )
        retry = AsyncRetry(predicate=_PASSING, initial=0.1, maximum=1.0, timeout=self._seconds)
        self._publish = wrap_method(publish, default_retry=retry, default_timeout=self._seconds)
        self._loop = asyncio.get_running_loop()

    async def publish(self, payloads: Sequence[bytes], attributes: Mapping[str, str]) -> None:
        """Return when Pub/Sub has taken all of them. Raises `RefusedError` (503) if it has not, at least not in time.

        Then some may have been taken all the same: whoever sends them again makes repeats, which the pipelines drop.
        """
        parts = [_Waiting(some, attributes, size, self._loop.create_future()) for some, size in _cut(payloads)]
        self._waiting.extend(parts)
        self._expect(parts)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._start)
        try:
            for part in parts:
                await part.taken
        except (TimeoutError, *_REFUSALS):
            raise RefusedError(503, "unavailable", "Pub/Sub does not take it now; come back", RETRY_SECONDS) from None
        finally:
            for part in parts:
                part.taken.cancel()  # of one that has failed, too: asyncio then does not complain that nobody looked

    def _expect(self, parts: list[_Waiting]) -> None:
        """Remember until when they may wait. One timer does for all: one a request would cost as much as publishing."""
        while self._expected and self._expected[0][1].done():
            self._expected.popleft()
        deadline = self._loop.time() + self._seconds
        self._expected.extend((deadline, part.taken) for part in parts)
        if self._timer is None:
            self._timer = self._loop.call_at(self._expected[0][0], self._give_up)

    def _give_up(self) -> None:
        """End the waits that are too long."""
        now = self._loop.time()
        while self._expected and (self._expected[0][1].done() or self._expected[0][0] <= now):
            _, taken = self._expected.popleft()
            if not taken.done():
                taken.set_exception(TimeoutError())
        self._timer = self._loop.call_at(self._expected[0][0], self._give_up) if self._expected else None

    async def close(self) -> None:
        """Wait for what is under way."""
        while self._requests:
            await asyncio.wait(self._requests)

    def _start(self) -> None:
        self._is_scheduled = False
        while self._waiting and len(self._requests) < MAX_REQUESTS:
            together: list[_Waiting] = []
            count = size = 0
            while self._waiting:
                part = self._waiting[0]
                if part.taken.done():  # whoever waited has left
                    self._waiting.popleft()
                    continue
                count, size = count + len(part.payloads), size + part.size
                if together and (count > MAX_MESSAGES or size > MAX_BYTES):
                    break
                together.append(self._waiting.popleft())
            if together:
                task = self._loop.create_task(self._send(together))
                self._requests.add(task)
                task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._start()

    async def _send(self, together: list[_Waiting]) -> None:
        request = _Request(topic=self._topic)
        for part in together:
            for payload in part.payloads:
                request.messages.add(data=payload, attributes=part.attributes)
        error: Exception | None = None
        try:
            await self._publish(request, metadata=self._metadata)
        except exceptions.InvalidArgument as refusal:
            if len(together) > 1:  # one has a message that is never taken: the others are not to share its fate
                for part in together:
                    await self._send([part])
                return
            error = refusal
        except _REFUSALS as refusal:
            error = refusal
        if error is not None:
            self._tell(error)
        for part in together:
            with suppress(asyncio.InvalidStateError):  # whoever waited has left meanwhile
                if error is None:
                    part.taken.set_result(None)
                else:
                    part.taken.set_exception(error)

    def _tell(self, error: Exception) -> None:
        """Say that Pub/Sub refuses, not for each request of an outage."""
        now = self._loop.time()
        if self._logged is None or self._logged[0] is not type(error) or now - self._logged[1] > _LOG_SECONDS:
            self._logged = type(error), now
            _log.error("Pub/Sub does not take messages to %s: %s. Senders get 503", self._topic, type(error).__name__)


def _cut(payloads: Sequence[bytes]) -> list[tuple[Sequence[bytes], int]]:
    """The payloads in parts that fit into one request each, with their bytes."""
    parts: list[tuple[Sequence[bytes], int]] = []
    some: list[bytes] = []
    size = 0
    for payload in payloads:
        if some and (len(some) == MAX_MESSAGES or size + len(payload) > MAX_BYTES):
            parts.append((some, size))
            some, size = [], 0
        some.append(payload)
        size += len(payload)
    parts.append((some, size))
    return parts
