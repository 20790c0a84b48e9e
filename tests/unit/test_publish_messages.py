import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import grpc
import pytest
from google.api_core import exceptions
from google.auth.exceptions import TransportError
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

from services.answers import RefusedError
from services.publish_messages import MAX_BYTES, MAX_MESSAGES, MAX_REQUESTS, Publisher, open_channel

ABOUT = {"workspace_id": "acme"}


class FakeTransport:
    """A Pub/Sub in place of the channel: remembers requests, and answers as `answer` does."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.under_way = self.most_under_way = 0

    def unary_unary(self, method: str, **about: object) -> Callable[..., Awaitable[object]]:
        return self.publish

    async def publish(self, request: Any, timeout: float, **about: object) -> object:
        payloads = [message.data for message in request.messages]
        self.requests.append(payloads)
        self.under_way += 1
        self.most_under_way = max(self.under_way, self.most_under_way)
        try:
            async with asyncio.timeout(timeout):
                await self.answer(payloads)
        except TimeoutError:
            raise exceptions.DeadlineExceeded("too slow") from None
        finally:
            self.under_way -= 1
        return None

    async def answer(self, payloads: list[bytes]) -> None:
        await asyncio.sleep(0)

    def taken(self) -> list[bytes]:
        return [payload for request in self.requests for payload in request]


class Refusing(FakeTransport):
    """Refuses what is bad, and all that comes with it."""

    def __init__(self, error: Exception, bad: bytes | None = None) -> None:
        super().__init__()
        self.error, self.bad = error, bad

    async def answer(self, payloads: list[bytes]) -> None:
        await asyncio.sleep(0)
        if self.bad is None or self.bad in payloads:
            raise type(self.error)("no")  # a new one each time: it holds what it went through


class Slow(FakeTransport):
    async def answer(self, payloads: list[bytes]) -> None:
        await asyncio.sleep(0.15)


class Hanging(FakeTransport):
    async def answer(self, payloads: list[bytes]) -> None:
        await asyncio.sleep(3600)


def run(transport: FakeTransport, story: Callable[[Publisher], Awaitable[Any]], seconds: float = 0.2) -> Any:
    """What the story gives; nothing may be left over that asyncio complains of."""
    complaints: list[dict[str, Any]] = []

    async def tell() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        publisher = Publisher("projects/p/topics/t", seconds)
        publisher.open(cast(grpc.aio.Channel, transport))
        told = await story(publisher)
        await publisher.close()
        gc.collect()
        return told

    told = asyncio.run(tell())
    assert complaints == []
    return told


class Deaf(FakeTransport):
    """Answers what is quick, and nothing else before it is woken, whatever it is told of a timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = asyncio.Event()

    async def publish(self, request: Any, timeout: float, **about: object) -> object:
        await (asyncio.sleep(0.2) if request.messages[0].data == b"quick" else self.woken.wait())
        return None


async def gather(publisher: Publisher, requests: list[list[bytes]]) -> list[int]:
    """Each one's answer: 200 or what was refused, without the errors, which hold what they went through."""

    async def publish(payloads: list[bytes]) -> int:
        try:
            await publisher.publish(payloads, ABOUT)
        except RefusedError as refused:
            return refused.status if refused.retry_after_seconds else 500
        return 200

    return await asyncio.gather(*map(publish, requests))


def test_what_comes_at_once_goes_together() -> None:
    transport = FakeTransport()

    told = run(transport, lambda publisher: gather(publisher, [[b"%d" % number] for number in range(50)]))

    assert told == [200] * 50
    assert transport.requests == [[b"%d" % number for number in range(50)]]


def test_requests_are_no_larger_than_pubsub_takes_and_few_at_a_time() -> None:
    transport = FakeTransport()
    large = [[b"x" * 400_000] * 2 for _ in range(40)]

    run(transport, lambda publisher: gather(publisher, [[b"small"] * 2500, *large]), seconds=5)

    assert len(transport.taken()) == 2580
    assert all(len(request) <= MAX_MESSAGES for request in transport.requests)
    assert all(sum(map(len, request)) <= MAX_BYTES for request in transport.requests)
    assert transport.most_under_way <= MAX_REQUESTS


def test_a_message_that_is_never_taken_harms_no_other() -> None:
    transport = Refusing(exceptions.InvalidArgument("attribute too long"), bad=b"bad")

    told = run(transport, lambda publisher: gather(publisher, [[b"good"], [b"bad", b"with it"], [b"too"]]))

    assert told == [200, 503, 200]


@pytest.mark.parametrize(
    "error",
    [
        exceptions.NotFound("topic"),
        exceptions.PermissionDenied("role"),
        exceptions.ServiceUnavailable("down"),
        TransportError("no token"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_while_it_refuses_senders_get_503_and_the_log_one_line(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="services")

    async def story(publisher: Publisher) -> list[list[int]]:
        return [await gather(publisher, [[b"ann@example.com"] * 2500] * 9) for _ in range(3)]

    assert run(Refusing(error), story) == [[503] * 9] * 3
    assert len(caplog.records) == 1
    assert "projects/p/topics/t" in caplog.text
    assert "ann@" not in caplog.text


def test_a_pubsub_that_does_not_answer_is_not_waited_for() -> None:
    transport = Hanging()

    told = run(transport, lambda publisher: gather(publisher, [[b"x" * MAX_BYTES] for _ in range(9)]))

    assert told == [503] * 9
    assert len(transport.requests) == MAX_REQUESTS, "who has left is not published any more"


def test_a_turn_that_comes_too_late_is_not_waited_for() -> None:
    transport = Slow()

    told = run(transport, lambda publisher: gather(publisher, [[b"x"] * (MAX_REQUESTS + 1) * MAX_MESSAGES]))

    assert told == [503]


@pytest.mark.slow
def test_each_waits_for_its_own_time_whoever_came_before() -> None:
    transport = Deaf()

    async def publish_later(publisher: Publisher, seconds: float, payload: bytes) -> int:
        await asyncio.sleep(seconds)
        return (await gather(publisher, [[payload]]))[0]

    async def story(publisher: Publisher) -> list[int]:
        async with asyncio.timeout(30):
            first = [(0, b"slow"), (0.3, b"slow"), (0.5, b"quick")]
            told = await asyncio.gather(*(publish_later(publisher, seconds, payload) for seconds, payload in first))
            told.append(await publish_later(publisher, 0, b"slow"))
        transport.woken.set()
        return told

    assert run(transport, story, seconds=0.6) == [503, 503, 200, 503]


@pytest.mark.parametrize("place", [0, 1499])
def test_all_of_a_request_has_to_be_taken(place: int) -> None:
    payloads = [b"good"] * 1500
    payloads[place] = b"bad"

    assert run(Refusing(exceptions.NotFound("topic"), b"bad"), lambda publisher: gather(publisher, [payloads])) == [503]


def test_an_outage_is_told_again_and_so_is_another(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = Refusing(exceptions.NotFound("topic"))

    async def story(publisher: Publisher) -> list[int]:
        lines = []
        for error, seconds in ((transport.error, 10), (exceptions.PermissionDenied("role"), 10), (None, 10), (None, 0)):
            transport.error = error or transport.error
            monkeypatch.setattr("services.publish_messages._LOG_SECONDS", seconds)
            await gather(publisher, [[b"lost"]])
            lines.append(len(caplog.records))
        return lines

    assert run(transport, story) == [1, 2, 2, 3]


def test_what_is_under_way_is_waited_for_at_the_end() -> None:
    transport = Slow()

    async def story(publisher: Publisher) -> int:
        leaving = asyncio.create_task(publisher.publish([b"late"], ABOUT))
        while not transport.under_way:
            await asyncio.sleep(0)
        leaving.cancel()
        await publisher.close()
        return transport.under_way

    assert run(transport, story) == 0
    assert transport.taken() == [b"late"]


def test_who_leaves_takes_nobody_with_them() -> None:
    transport = FakeTransport()

    async def story(publisher: Publisher) -> list[object]:
        leaving = [asyncio.create_task(publisher.publish([b"leaving"] * 1500, ABOUT)) for _ in range(9)]
        staying = [asyncio.create_task(publisher.publish([b"%d" % number], ABOUT)) for number in range(9)]
        await asyncio.sleep(0)
        for task in leaving[:5]:
            task.cancel()
        await asyncio.sleep(0)
        for task in leaving[5:]:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        return await asyncio.gather(*staying)

    assert run(transport, story) == [None] * 9
    assert {b"%d" % number for number in range(9)} <= set(transport.taken())


def test_it_works_again_as_soon_as_pubsub_does() -> None:
    transport = Refusing(exceptions.NotFound("topic"))

    async def story(publisher: Publisher) -> list[int]:
        first = await gather(publisher, [[b"lost"]])
        transport.bad = b"none"
        return first + await gather(publisher, [[b"kept"]])

    assert run(transport, story) == [503, 200]


@pytest.mark.parametrize("emulator", ["127.0.0.1:9", None])
def test_after_an_outage_pubsub_is_looked_for_every_second(
    emulator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Mapping[str, object]] = []

    def spy(host: str = "127.0.0.1:9", options: Iterable[tuple[str, object]] = ()) -> grpc.aio.Channel:
        opened.append(dict(options))
        return insecure_channel(host)

    insecure_channel = grpc.aio.insecure_channel
    monkeypatch.setattr(grpc.aio, "insecure_channel", spy)
    monkeypatch.setattr(PublisherGrpcAsyncIOTransport, "create_channel", spy)
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    if emulator is not None:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator)

    async def story() -> None:
        async with open_channel():
            pass

    asyncio.run(story())

    assert [options["grpc.max_reconnect_backoff_ms"] for options in opened] == [1000]
