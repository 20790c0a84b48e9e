"""Packing, and a server that does what servers do: each test says what reaches it, in which order and how often."""

import gzip
import json
import logging
import pickle
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.cloud import secretmanager
from hypothesis import example, given
from hypothesis import strategies as st
from segment.analytics import consumer
from segment.analytics import request as sdk

from pipelines import segment_api
from pipelines.segment_api import (
    MAX_REQUEST_BYTES,
    MAX_REQUEST_CALLS,
    Packer,
    SegmentApi,
    Sent,
    is_refusal,
    join_calls,
    quote_answer,
    read_retry_after,
)
from pipelines.segment_endpoint import SegmentUnreachableError, batch_url
from pipelines.usage import UsageError
from pipelines.write_key import SEGMENT_WRITE_KEY, NoWriteKeyError, WriteKeySource
from schemas.calls import MAX_CALL_BYTES
from schemas.outgoing_calls import OutgoingCall
from tests.factories import outgoing
from tests.misbehaving_segment import (
    BAD_REQUEST,
    HANG_UP,
    LOST_ANSWER,
    OK,
    RESET_AFTER_BODY,
    RESET_BEFORE_BODY,
    WRITE_KEY,
    Answer,
    MisbehavingSegment,
    too_many,
)

NOW = 1_700_000_000.0


class Time:
    """A clock that only sleeping moves, and a request by `attempt_seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits: list[float] = []
        self.attempt_seconds = 0.0
        self.requests = self.retries = 0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> float:
        return NOW + self.seconds

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def count_request(self) -> None:
        self.requests += 1
        self.seconds += self.attempt_seconds

    def count_retry(self) -> None:
        self.retries += 1


@pytest.fixture
def time_() -> Time:
    return Time()


@pytest.fixture
def segment() -> Iterator[MisbehavingSegment]:
    with MisbehavingSegment() as server:
        yield server
    assert server.faults == []


@pytest.fixture
def api(segment: MisbehavingSegment, time_: Time) -> Iterator[SegmentApi]:
    api = connect(segment, time_)
    yield api
    api.close()


def connect(segment: MisbehavingSegment, time_: Time, **arguments: Any) -> SegmentApi:
    return SegmentApi(
        segment.url,
        WRITE_KEY,
        on_request=time_.count_request,
        on_retry=time_.count_retry,
        clock=time_.clock,
        now=time_.now,
        sleep=time_.sleep,
        **arguments,
    )


def call(number: int, **properties: Any) -> OutgoingCall:
    body = {
        "type": "track",
        "messageId": f"m{number}",
        "event": "Opened",
        "properties": {"number": number, **properties},
    }
    return outgoing(json.dumps(body).encode(), f"m{number}")


def calls(count: int) -> list[OutgoingCall]:
    return [call(number) for number in range(count)]


def ids(some: list[OutgoingCall]) -> list[str]:
    return [one.made_of.line.log_id for one in some]


def is_number(*numbers: int) -> Callable[[dict[str, Any]], bool]:
    return lambda received: received["properties"]["number"] in numbers


def of_size(size: int) -> OutgoingCall:
    return outgoing(b"x" * size)


def pack(some: list[OutgoingCall]) -> list[list[OutgoingCall]]:
    packer = Packer()
    requests = [full for one in some if (full := packer.add(one))]
    return [*requests, last] if (last := packer.take()) else requests


# ---- packing


FRAME_BYTES = len(b'{"batch":[]}')


def test_a_request_holds_exactly_the_bytes_that_segment_allows() -> None:
    rest = MAX_REQUEST_BYTES - FRAME_BYTES - 15 * (MAX_CALL_BYTES + 1)
    full = [of_size(MAX_CALL_BYTES)] * 15

    (one,) = pack([*full, of_size(rest)])
    two = pack([*full, of_size(rest + 1)])

    assert len(join_calls(one)) == MAX_REQUEST_BYTES
    assert [len(request) for request in two] == [15, 1]


def test_a_request_holds_exactly_the_calls_that_segment_allows() -> None:
    assert [len(request) for request in pack([of_size(2)] * MAX_REQUEST_CALLS)] == [MAX_REQUEST_CALLS]
    assert [len(request) for request in pack([of_size(2)] * (MAX_REQUEST_CALLS + 1))] == [MAX_REQUEST_CALLS, 1]


def test_what_was_taken_is_gone() -> None:
    packer = Packer()
    packer.add(of_size(MAX_CALL_BYTES))

    assert len(packer.take()) == 1
    assert packer.take() == []
    assert pack([]) == []


def test_the_body_is_the_calls_as_they_are() -> None:
    spaced = outgoing(b'{ "messageId":"m1" , "a":1.0}')

    assert join_calls([spaced, call(2)]) == b'{"batch":[{ "messageId":"m1" , "a":1.0},' + call(2).payload + b"]}"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 300), st.integers(1, 3_000)),
            st.tuples(st.integers(MAX_CALL_BYTES - 3_000, MAX_CALL_BYTES), st.integers(1, 20)),
        ),
        max_size=6,
    )
)
@example([(2, MAX_REQUEST_CALLS)])
@example([(MAX_CALL_BYTES, 16), (199, 1_000)])
def test_requests_are_the_calls_in_order_within_the_limits_and_full(runs: list[tuple[int, int]]) -> None:
    some = [
        outgoing(b"x" * size, f"{run}-{number}") for run, (size, count) in enumerate(runs) for number in range(count)
    ]

    requests = pack(some)

    assert ids([one for request in requests for one in request]) == ids(some)
    assert all(requests)
    sizes = [FRAME_BYTES + sum(len(one.payload) + 1 for one in request) - 1 for request in requests]
    assert all(size <= MAX_REQUEST_BYTES for size in sizes)
    assert all(len(request) <= MAX_REQUEST_CALLS for request in requests)
    for request, size, following in zip(requests, sizes, requests[1:], strict=False):
        has_room = size + 1 + len(following[0].payload) <= MAX_REQUEST_BYTES
        assert len(request) == MAX_REQUEST_CALLS or not has_room


def test_the_limits_are_no_looser_than_those_of_segments_own_library() -> None:
    assert MAX_CALL_BYTES == consumer.MAX_MSG_SIZE
    assert consumer.BATCH_SIZE_LIMIT < MAX_REQUEST_BYTES <= 500_000
    assert segment_api.MAX_RETRY_AFTER_SECONDS == sdk.MAX_RETRY_AFTER_SECONDS


# ---- where to


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("https://api.segment.io", "https://api.segment.io/v1/batch"),
        ("https://api.segment.io/", "https://api.segment.io/v1/batch"),
        ("https://api.segment.io/v1/batch", "https://api.segment.io/v1/batch"),
        ("https://api.segment.io/v1/batch/", "https://api.segment.io/v1/batch"),
        ("https://events.eu1.segmentapis.com/v1/", "https://events.eu1.segmentapis.com/v1/batch"),
        ("http://localhost:8080/segment", "http://localhost:8080/segment/v1/batch"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/batch"),
        ("http://[::1]:8080", "http://[::1]:8080/v1/batch"),
        ("https://My_Proxy-1.example.", "https://My_Proxy-1.example./v1/batch"),
        (f"https://{'a' * 63}.xn--bcher-kva.example:443", f"https://{'a' * 63}.xn--bcher-kva.example:443/v1/batch"),
    ],
)
def test_the_endpoint_may_be_written_in_several_ways(endpoint: str, url: str) -> None:
    assert batch_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "api.segment.io",
        "ftp://api.segment.io",
        "https://",
        "https://key:@api.segment.io",
        "https://a.b?c=1",
        "https://a.b#c",
        "https://[a",
        "https://a.b:70000",
        "https://a.b:0",
        "https://exa mple",
        "https://.",
        "https://.a",
        "https://a..b",
        "https://*.a",
        "https://a\\b",
        "https://a%41",
        "https://ü.example",
        f"https://{'a' * 64}.b",
        "https://[::1",
        "https://[v1.a]",
        "https://[a::b::c]",
    ],
)
def test_what_is_no_endpoint_is_refused_without_repeating_it(endpoint: str) -> None:
    with pytest.raises(ValueError, match="Segment's endpoint is a URL") as caught:
        batch_url(endpoint)

    assert "key" not in str(caught.value)


# ---- a request as it should be


def test_calls_arrive_as_segments_own_library_would_send_them(segment: MisbehavingSegment, api: SegmentApi) -> None:
    (sent,) = api.send(calls(3))
    sdk.post(WRITE_KEY, segment.url, gzip=True, batch=[json.loads(one.payload) for one in calls(3)])

    ours, theirs = segment.received
    assert sent == Sent(calls(3), None)
    assert ours.calls == theirs.calls
    assert segment.accepted_ids == ["m0", "m1", "m2"] * 2
    assert ours.headers["user-agent"] == "segment-warehouse"
    # What else their body says: the key, which stands in a header anyway, and the time, by which Segment would correct
    # the timestamps.
    assert sorted(segment.faults) == ["field sentAt", "field writeKey"]
    segment.faults.clear()


def test_requests_share_a_connection(segment: MisbehavingSegment, api: SegmentApi, time_: Time) -> None:
    for number in range(5):
        list(api.send([call(number)]))

    assert (segment.connections, time_.requests, time_.retries) == (1, 5, 0)


def test_no_calls_are_no_request(segment: MisbehavingSegment, api: SegmentApi) -> None:
    assert list(api.send([])) == []
    assert segment.received == []


# ---- what passes is tried again

UNANSWERED = {
    "408": Answer(408),
    "425": Answer(425),
    "429": too_many(),
    "500": Answer(500),
    "502": Answer(502, body=b"<html>"),
    "503": Answer(503),
    "599": Answer(599),
    "redirect": Answer(302, (("Location", "/elsewhere"),)),
    "redirect to no URL": Answer(302, (("Location", "http://[bad"),)),
    "redirect that is not UTF-8": Answer(302, (("Location", "http://x/\udcff"),)),
    "two lengths": Answer(200, (("Content-Length", "1,2"),), accepts=False),
    "not modified": Answer(304, body=b""),
    "hang up": HANG_UP,
    "reset after the body": RESET_AFTER_BODY,
    "cut answer": Answer(accepts=False, cut_bytes=5),
    "cut refusal": Answer(400, cut_bytes=5),
    "broken encoding": Answer(headers=(("Content-Encoding", "gzip"),), accepts=False),
    "long answer": Answer(body=b" " * (64 * 1024 + 1), accepts=False),
}


@pytest.mark.parametrize("answer", UNANSWERED.values(), ids=list(UNANSWERED))
def test_a_request_without_an_answer_is_repeated_as_it_was(
    answer: Answer, segment: MisbehavingSegment, api: SegmentApi, time_: Time
) -> None:
    segment.script = iter([answer, answer])

    first, second = list(api.send(calls(3))), list(api.send([call(3)]))

    assert (first, second) == ([Sent(calls(3), None)], [Sent([call(3)], None)])
    assert segment.batches == [["m0", "m1", "m2"]] * 3 + [["m3"]]
    assert segment.accepted_ids == ["m0", "m1", "m2", "m3"]
    assert (time_.requests, time_.retries, len(time_.waits)) == (4, 2, 2)


def test_a_connection_that_breaks_before_the_body_is_read_loses_nothing(
    segment: MisbehavingSegment, api: SegmentApi, time_: Time
) -> None:
    segment.script = iter([RESET_BEFORE_BODY])

    assert list(api.send(calls(2))) == [Sent(calls(2), None)]
    assert segment.accepted_ids == ["m0", "m1"]
    assert time_.retries == 1


def test_an_answer_that_is_lost_delivers_twice_under_the_same_ids(segment: MisbehavingSegment, api: SegmentApi) -> None:
    segment.script = iter([LOST_ANSWER])

    assert list(api.send(calls(2))) == [Sent(calls(2), None)]
    assert segment.accepted_ids == ["m0", "m1", "m0", "m1"]
    assert all(len(some) == 1 for some in segment.ids_by_event().values())


@pytest.mark.parametrize("answer", [Answer(), Answer(400)], ids=["delivered", "refused"])
@pytest.mark.parametrize("drips_headers", [False, True], ids=["body", "headers"])
def test_an_answer_that_drips_is_not_waited_for(
    answer: Answer, drips_headers: bool, segment: MisbehavingSegment, time_: Time
) -> None:
    drip = Answer(
        answer.status, body=b" " * 1_000, drip_seconds=0.01, drip_headers=drips_headers, accepts=False
    )  # 10 s in all, no gap as long as the time for an answer
    segment.script = iter([drip])
    started = time.monotonic()

    assert list(connect(segment, time_, answer_seconds=0.05).send([call(1)])) == [Sent([call(1)], None)]

    assert time.monotonic() - started < 5
    assert time_.retries >= 1  # and more where a busy machine takes its time for the good answer
    assert segment.batches == [["m1"]] * (1 + time_.retries)


def test_a_server_that_says_nothing_is_not_waited_for(segment: MisbehavingSegment, time_: Time) -> None:
    segment.pause_seconds = 0.2
    with pytest.raises(SegmentUnreachableError, match="ReadTimeout"):
        list(connect(segment, time_, answer_seconds=0.02, give_up_seconds=0).send([call(1)]))


def test_an_answer_in_time_leaves_the_connection_as_it_was(segment: MisbehavingSegment, time_: Time) -> None:
    slow = Answer(body=b"  ", drip_seconds=0.02)
    segment.script = iter([slow, slow])
    api = connect(segment, time_, answer_seconds=5)

    for number in range(3):
        assert list(api.send([call(number)])) == [Sent([call(number)], None)]

    assert (segment.connections, time_.retries) == (1, 0)


# ---- how long it waits


def test_waits_double_from_half_a_second_to_a_minute_and_differ(
    segment: MisbehavingSegment, api: SegmentApi, time_: Time
) -> None:
    segment.script = iter([Answer(503)] * 12)

    list(api.send([call(1)]))

    longest = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]
    assert all(most / 2 <= wait <= most for wait, most in zip(time_.waits, longest, strict=True))
    assert len({wait / most for wait, most in zip(time_.waits, longest, strict=True)}) > 6


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"retry-after": "2.5"}, 2.5),
        ({"Retry-After": formatdate(NOW + 90, usegmt=True)}, 90),
        ({"Retry-After": "Tue, 14 Nov 2023 22:14:50 -0000"}, 90),
        ({"Retry-After": formatdate(NOW - 90, usegmt=True)}, 0),
        ({"Retry-After": "86400"}, 300),
        ({"Retry-After": "9" * 400}, 300),
        ({"Retry-After": "inf"}, 300),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 300),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "nan"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": ""}, 0),
        ({"Retry-After": "Tue, 99 Nov 2023 22:14:50 GMT"}, 0),
        ({}, 0),
        ({"X-RateLimit-Reset": "40"}, 40),
        ({"X-RateLimit-Reset": str(NOW + 40)}, 40),
        ({"X-RateLimit-Reset": "40", "Retry-After": "20"}, 20),
        ({"X-RateLimit-Reset": "40", "Retry-After": "soon"}, 40),
    ],
)
def test_the_servers_wish_is_read(headers: dict[str, str], seconds: float) -> None:
    assert read_retry_after(requests_headers(headers), NOW) == pytest.approx(seconds)


def requests_headers(headers: dict[str, str]) -> Any:
    from requests.structures import CaseInsensitiveDict

    return CaseInsensitiveDict(headers)


@pytest.mark.parametrize(
    "text",
    ["0", "7", "86400", "-5", "soon", pytest.param(formatdate(time.time() + 3_000, usegmt=True), id="a date to come")],
)
def test_the_servers_wish_is_read_as_segments_own_library_does(text: str) -> None:
    theirs = sdk.parse_retry_after(SimpleNamespace(headers={"Retry-After": text})) or 0

    assert read_retry_after({"Retry-After": text}, time.time()) == theirs


@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
def test_the_server_is_given_the_time_that_it_wants(
    name: str, segment: MisbehavingSegment, api: SegmentApi, time_: Time
) -> None:
    segment.script = iter([too_many((name, "100")), Answer(503, ((name, "100"),)), Answer(503, ((name, "0"),))])

    list(api.send([call(1)]))

    assert time_.waits[:2] == [100, 100]
    assert 2 <= time_.waits[2] <= 4


def test_a_date_is_compared_with_now(segment: MisbehavingSegment, api: SegmentApi, time_: Time) -> None:
    segment.script = iter([too_many(("Retry-After", formatdate(NOW + 90, usegmt=True)))])

    list(api.send([call(1)]))

    assert time_.waits == [90]


def test_a_storm_of_429_is_waited_out_in_order(segment: MisbehavingSegment, api: SegmentApi, time_: Time) -> None:
    segment.script = iter([too_many(("Retry-After", "5"))] * 20 + [OK] + [too_many()] * 3)

    sent = [one for number in range(3) for one in api.send([call(number)])]

    assert ids([one for some in sent for one in some.calls]) == segment.accepted_ids == ["m0", "m1", "m2"]
    assert time_.retries == 23


def test_long_waits_are_warned_of_without_the_calls(
    segment: MisbehavingSegment, api: SegmentApi, caplog: pytest.LogCaptureFixture
) -> None:
    segment.script = iter([Answer(429, (("Retry-After", "10"),), b"m1"), Answer(429, (("Retry-After", "11"),), b"m1")])

    list(api.send([call(1)]))

    assert [record.getMessage() for record in caplog.records] == ["Segment: HTTP 429; trying again in 11 s"]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("attempt_seconds", [0, 30])
def test_it_gives_up_after_a_quarter_of_an_hour(
    attempt_seconds: int, segment: MisbehavingSegment, api: SegmentApi, time_: Time
) -> None:
    segment.always, time_.attempt_seconds = Answer(503), attempt_seconds

    with pytest.raises(SegmentUnreachableError) as caught:
        list(api.send(calls(2)))

    assert 840 - attempt_seconds < time_.seconds <= 900 + attempt_seconds
    assert str(caught.value) == (
        f"Segment took no request at {segment.url}/v1/batch for {time_.seconds:.0f} s, {time_.requests} attempts, "
        "the last ended with HTTP 503"
    )
    assert caught.value.__cause__ is None
    assert segment.accepted == []


def test_patience_is_for_one_request(segment: MisbehavingSegment, time_: Time) -> None:
    """A server that answers every second attempt is slow, not gone."""
    segment.script = iter([too_many(("Retry-After", "50")), OK] * 5)
    api = connect(segment, time_, give_up_seconds=60)

    for number in range(5):
        list(api.send([call(number)]))

    assert time_.seconds == 250
    assert len(segment.accepted) == 5


def test_a_wait_that_would_end_too_late_is_not_begun(segment: MisbehavingSegment, time_: Time) -> None:
    segment.script = iter([too_many(("Retry-After", "61"))])

    with pytest.raises(SegmentUnreachableError):
        list(connect(segment, time_, give_up_seconds=60).send([call(1)]))

    assert time_.waits == []


def test_nobody_at_home_is_unreachable(time_: Time) -> None:
    with MisbehavingSegment() as segment:
        pass
    with pytest.raises(SegmentUnreachableError, match="ConnectionError"):
        list(connect(segment, time_).send([call(1)]))


# ---- what is refused


def test_a_refused_request_is_halved_until_the_bad_call_is_found(
    segment: MisbehavingSegment, api: SegmentApi, time_: Time
) -> None:
    segment.refuses = is_number(700)

    sent = list(api.send(calls(1_000)))

    assert ids([one for some in sent for one in some.calls]) == ids(calls(1_000))
    assert [some for some in sent if some.refusal] == [
        Sent([call(700)], 'HTTP 400: {"success": false, "message": "malformed call"}')
    ]
    assert segment.accepted_ids == [f"m{number}" for number in range(1_000) if number != 700]
    assert time_.requests <= 2 * 10 + 1  # log2 of 1,000 is 10
    assert time_.retries == 0


@pytest.mark.parametrize("bad", [(0,), (6,), (0, 6), (2, 3, 4), tuple(range(7))], ids=str)
def test_good_calls_arrive_in_their_order_and_bad_ones_come_back(
    bad: tuple[int, ...], segment: MisbehavingSegment, api: SegmentApi
) -> None:
    segment.refuses = is_number(*bad)

    sent = list(api.send(calls(7)))

    assert ids([one for some in sent for one in some.calls]) == ids(calls(7))
    assert ids([one for some in sent if some.refusal for one in some.calls]) == [f"m{number}" for number in bad]
    assert segment.accepted_ids == [f"m{number}" for number in range(7) if number not in bad]


@pytest.mark.parametrize(
    "refusal",
    [
        Answer(413, body=b"too large"),
        Answer(422),
        Answer(402),
        Answer(200, body=b'{"success": false}', accepts=False),
        Answer(200, body=b'{"error": "one call is no call"}', accepts=False),
        Answer(202, body=b'{"errors": ["one"]}', accepts=False),
    ],
    ids=lambda answer: f"{answer.status} {answer.body.decode()}",
)
def test_every_refusal_is_halved(refusal: Answer, segment: MisbehavingSegment, api: SegmentApi) -> None:
    segment.refuses, segment.refusal = is_number(2), refusal

    refused = [some for some in api.send(calls(4)) if some.refusal is not None]

    assert refused == [Sent([call(2)], f"HTTP {refusal.status}: {refusal.body.decode()}")]
    assert segment.accepted_ids == ["m0", "m1", "m3"]


def test_what_a_gateway_finds_too_large_goes_in_parts(segment: MisbehavingSegment, api: SegmentApi) -> None:
    segment.script = iter([Answer(413), OK, Answer(413)])

    assert all(some.refusal is None for some in api.send(calls(8)))
    assert [len(batch) for batch in segment.batches] == [8, 4, 4, 2, 2]
    assert segment.accepted_ids == ids(calls(8))


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410])
def test_a_refusal_of_the_key_or_the_address_is_not_halved(
    status: int, segment: MisbehavingSegment, api: SegmentApi
) -> None:
    segment.script = iter([Answer(status, body=b"no\n\n  such key")])

    assert list(api.send(calls(100))) == [Sent(calls(100), f"HTTP {status}: no such key")]
    assert len(segment.received) == 1


def test_halves_are_retried_as_well(segment: MisbehavingSegment, api: SegmentApi) -> None:
    segment.script = iter([BAD_REQUEST, Answer(503), RESET_AFTER_BODY])
    segment.refuses = is_number(0)

    sent = list(api.send(calls(4)))

    assert segment.accepted_ids == ["m1", "m2", "m3"]
    assert ids([one for some in sent if some.refusal for one in some.calls]) == ["m0"]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        (b"", False),
        (b"OK", False),
        (b"\xff\xfe", False),
        (b"[" * 100_000, False),
        (b"{}", False),
        (b"[false]", False),
        (b"false", False),
        (b'{"success": true}', False),
        (b'{"success": null, "error": null, "errors": []}', False),
        (b'{"error": ""}', False),
        (b'{"success": false}', True),
        (b'{"success": true, "error": {"code": "x"}}', True),
        (b'{"errors": ["x"]}', True),
    ],
)
def test_an_answer_of_200_is_believed_unless_it_says_otherwise(answer: bytes, refused: bool) -> None:
    assert is_refusal(HTTPStatus.OK, answer) is refused
    assert is_refusal(HTTPStatus.BAD_REQUEST, answer)


def test_segments_words_are_kept_without_the_values_of_the_call() -> None:
    bad = call(1, name="Jane Doe", age=47, score=1.5, tags=["vip", {"city": "Ulm"}], plan="", beta=True, flag=None)
    answer = (
        b'{"message":  "property name \\"Jane Doe\\" (vip, 47, 1.5, Ulm) of someone@else.org is invalid, '
        b"Jane Doesn't matter, beta True is None\"}"
    )

    assert quote_answer(answer, [bad]) == (
        '{"message": "property name \\"…\\" (…, …, …, …) of … is invalid, Jane Doesn\'t matter, beta True is None"}'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("a=1&token=SECRET", rb"a=1\u0026token=SECRET"),
        ("Zo\u00eb M\u00fcller", rb"Zo\u00EB M\u00fcller"),
        ('said "x"', rb"said \"x\""),
        ("a/b", rb"a\/b"),
        ("one\ntwo  three", rb"one\ntwo  three"),
        ("one\ntwo", b"one\ntwo"),
        ("C:\\new", rb"C:\\new"),
        ("C:\\new", rb"C:\new"),
        ("C:\\new", rb"C:\u005Cnew"),
        ("\\\\host\\\u00fc", rb"\\\\\\\\host\\\\\\\u00fc"),
        ("host\\ two", rb"host\\\n\ntwo"),
        ("host\\\U0001f600", rb"host\\\ud83d\ude00"),
        ("name", rb"C:\name"),
        ("Jane", rb"line\nJane"),
        ("ann@x.io", rb"ann\u0040x.io"),
        ("\U0001f600", rb"\ud83d\uDE00"),
        ('"&"', rb"{\\\"a\\\": \\\"\\\\\\\"\\\\u0026\\\\\\\"\\\"}"),
        ("\n", rb"\n"),
    ],
)
def test_values_are_hidden_however_json_writes_them(value: str, written: bytes) -> None:
    words = quote_answer(b"bad: " + written + b".", [call(1, name=value)])

    assert value.strip() == "" or " ".join(value.split()) not in words
    for part in (b"SECRET", b"Zo", b"said", b"two", b"new", b"name", b"Jane", b"ann", b"&", b"u0026", b"ud83d"):
        assert part.decode() not in words


def test_a_value_with_an_email_in_it_is_hidden_as_a_whole() -> None:
    assert quote_answer(b"bad: Ann Lee <ann@x.io>.", [call(1, name="Ann Lee <ann@x.io>")]) == "bad: …."


def test_half_of_an_escaped_emoji_hides_nothing_else() -> None:
    assert quote_answer(rb"cut \ud83d, \u00fcber Jane", [call(1, name="Jane")]) == r"cut \ud83d, \u00fcber …"


@pytest.mark.parametrize("answer", [rb"\\\u0026 Jane 7 " * 3_000, b"\\" * 64_000, b"Jane 7 &\\" * 7_000])
def test_hiding_values_takes_no_time(answer: bytes) -> None:
    many = [call(number, name=f"Jane {number}", city=f"Ulm {number}", sign="&") for number in range(2_500)]

    started = time.process_time()
    words = quote_answer(answer, many)

    assert "Jane" not in words
    assert time.process_time() - started < 5


@pytest.mark.parametrize("value", ["\\" * 40 + "y", "\\ \\ \\ y", '\\"\\"\\"\\y'])
def test_hiding_backslashes_takes_no_time(value: str) -> None:
    written = json.dumps(json.dumps(value)).encode()
    answer = written + b" and " + (b"\\" * 60 + b"x ") * 500 + b'\\ "' * 500

    started = time.process_time()
    words = quote_answer(answer, [call(1, name=value)])

    assert words.startswith('"\\"\u2026\\"" and')
    assert time.process_time() - started < 1


@pytest.mark.parametrize("character", ["&", "\\", "\u00fc"])
def test_an_escape_is_a_space_or_a_character_and_never_both(character: str) -> None:
    value = f"{character} " * 12 + "y"
    answer = value.encode() + b" and " + rf"\u{ord(character):04x}".encode() * 60 + b"x"

    started = time.process_time()
    words = quote_answer(answer, [call(1, name=value)])

    assert words.startswith("\u2026 and \\u")
    assert time.process_time() - started < 1


def test_a_longer_value_is_hidden_before_one_that_is_a_part_of_it() -> None:
    assert quote_answer(b"Jane Doe and Jane", [call(1, first="Jane", full="Jane Doe")]) == "… and …"


def test_the_values_of_every_call_of_a_request_are_hidden() -> None:
    assert quote_answer(b"bad: Jane, Joe", [call(1, name="Jane"), call(2, name="Joe")]) == "bad: …, …"


def test_segments_words_are_cut_and_can_always_be_written() -> None:
    words = quote_answer(b"\xed\xa0\x80" + b"long " * 20_000, [call(1)])

    assert len(words) == 200
    assert words.encode()
    started = time.process_time()
    quote_answer(b"x" * 64 * 1024, [call(1)])
    assert time.process_time() - started < 1


def test_words_about_what_is_no_json_are_left_out() -> None:
    unread = outgoing(b'{"email": "jane')

    assert quote_answer(b'unexpected end of "jane', [unread]) == "its words are left out, because a call is not JSON"


# ---- the key


def test_the_key_stays_where_it_is(segment: MisbehavingSegment, time_: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    segment.script = iter([Answer(429, (("Retry-After", "60"),)), RESET_AFTER_BODY, Answer(401), Answer(503)])
    api = connect(segment, time_, give_up_seconds=100)

    (refused,) = api.send([call(1)])
    with pytest.raises(SegmentUnreachableError) as caught:
        list(connect(segment, time_, give_up_seconds=0).send([call(1)]))
    with pytest.raises(TypeError, match="write key and stays") as unpickled:
        pickle.dumps(api)

    for text in (repr(api), str(refused), caplog.text, repr(caught.value), repr(unpickled.value)):
        assert WRITE_KEY not in text
        assert "Basic" not in text


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEGMENT_WRITE_KEY, f" {WRITE_KEY}\n")
    source = WriteKeySource()

    source.check()
    assert source.read() == WRITE_KEY
    assert WRITE_KEY.encode() not in pickle.dumps(source)
    assert WRITE_KEY not in repr(source)


@pytest.mark.parametrize("value", [None, "", " \n", "key\nkey", "schlüssel", "key\x01"])
def test_without_a_key_in_the_environment_it_says_what_to_do(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(SEGMENT_WRITE_KEY, raising=False)
    if value is not None:
        monkeypatch.setenv(SEGMENT_WRITE_KEY, value)

    with pytest.raises(RuntimeError, match=SEGMENT_WRITE_KEY) as at_the_worker:
        WriteKeySource().read()
    with pytest.raises(UsageError, match=SEGMENT_WRITE_KEY) as at_the_launch:
        WriteKeySource().check()

    assert str(at_the_worker.value) == str(at_the_launch.value)
    assert "\n" not in str(at_the_worker.value)
    assert "key\n" not in repr(at_the_launch.value)
    assert "schlüssel" not in repr(at_the_launch.value)


def test_a_missing_key_names_the_flag_for_workers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SEGMENT_WRITE_KEY, raising=False)

    with pytest.raises(NoWriteKeyError, match=r"do not have the launcher's environment.*--segment_write_key_secret"):
        WriteKeySource().read()


class SecretManager:
    """Google's client, as far as it is used."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.names: list[str] = []
        self.is_closed = False

    def __enter__(self) -> "SecretManager":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True

    def connect(self) -> "SecretManager":
        if isinstance(self.answer, GoogleAuthError):
            raise self.answer
        return self

    def access_secret_version(self, *, name: str) -> secretmanager.AccessSecretVersionResponse:
        self.names.append(name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return secretmanager.AccessSecretVersionResponse(payload={"data": self.answer})


def use_secret(monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception) -> SecretManager:
    manager = SecretManager(answer)
    monkeypatch.setattr(secretmanager, "SecretManagerServiceClient", manager.connect)
    monkeypatch.setenv(SEGMENT_WRITE_KEY, "another key")
    return manager


@pytest.mark.parametrize(
    ("secret", "name"),
    [
        ("projects/p-1/secrets/s_1", "projects/p-1/secrets/s_1/versions/latest"),
        ("projects/p-1/secrets/s_1/versions/3", "projects/p-1/secrets/s_1/versions/3"),
        ("projects/example.com:p/secrets/s/versions/my-alias", "projects/example.com:p/secrets/s/versions/my-alias"),
    ],
)
def test_the_key_comes_from_a_secret(secret: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = use_secret(monkeypatch, WRITE_KEY.encode() + b"\n")

    assert WriteKeySource(secret).read() == WRITE_KEY
    assert manager.names == [name]
    assert manager.is_closed
    WriteKeySource(secret).check()


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "s",
        "projects/p/secrets/",
        "projects/p/secrets/s/versions/",
        "projects/p/secrets/s/x/1",
        "a/projects/p/secrets/s",
    ],
)
def test_what_names_no_secret_is_refused(secret: str) -> None:
    with pytest.raises(UsageError, match="projects/PROJECT/secrets/NAME"):
        WriteKeySource(secret)


@pytest.mark.parametrize(
    "answer",
    [
        exceptions.NotFound("a\nb"),
        exceptions.ServiceUnavailable("a"),
        exceptions.RetryError("a", cause=None),
        DefaultCredentialsError("a"),
        b"",
        b"\xff\xfe",
    ],
    ids=repr,
)
def test_a_secret_that_is_no_key_says_so(answer: bytes | Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    use_secret(monkeypatch, answer)
    source = WriteKeySource("projects/p/secrets/s")

    with pytest.raises(NoWriteKeyError, match=r"projects/p/secrets/s") as caught:
        source.read()
    with pytest.raises(UsageError, match=r"projects/p/secrets/s"):
        source.check()

    assert "\n" not in str(caught.value)


def test_a_secret_that_only_workers_may_read_passes_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    use_secret(monkeypatch, exceptions.PermissionDenied("no"))
    source = WriteKeySource("projects/p/secrets/s")

    source.check()
    with pytest.raises(NoWriteKeyError, match=r"PermissionDenied.*secretAccessor"):
        source.read()


def test_bodies_are_compressed_and_decode_to_themselves(segment: MisbehavingSegment, api: SegmentApi) -> None:
    many = calls(2_000)

    list(api.send(many))

    (received,) = segment.received
    assert received.body_bytes == len(join_calls(many))
    assert int(received.headers["content-length"]) < received.body_bytes / 4
    assert gzip.decompress(gzip.compress(join_calls(many))) == join_calls(many)
