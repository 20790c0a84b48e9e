"""Segment's HTTP tracking API: calls packed into requests, and requests posted until they are answered.

https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/
"""

import gzip
import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, NoReturn

import msgspec
import requests
import tenacity
import urllib3

from pipelines.hurry_answers import HurryingAdapter
from pipelines.segment_endpoint import SegmentUnreachableError, batch_url
from schemas.outgoing_calls import OutgoingCall

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#max-request-size: 500 KB a request,
# before compression, and 32 KB a call. 500,000 is right whichever kilobyte is meant.
MAX_REQUEST_BYTES = 500_000

# https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#batch: what is over it is answered
# with 200 and not accepted.
MAX_REQUEST_CALLS = 2_500

# There is no sentAt: Segment sets timestamp = receivedAt - (sentAt - originalTimestamp), to correct phones with wrong
# clocks, and the timestamps of our calls come from servers with right ones.
# https://segment.com/docs/connections/spec/common/#timestamps
_HEAD, _TAIL = b'{"batch":[', b"]}"

# "Later", "too early", "too many", besides every 5xx: the same request may succeed.
RETRY_STATUSES = frozenset({408, 425, 429})

# Of the key (401, 403) or the address (404, 405, 410), whatever the calls are: there is no good half to look for.
ALIKE_STATUSES = frozenset({401, 403, 404, 405, 410})

# Segment's own libraries wait so long at most between two attempts, and respect up to 5 minutes of Retry-After: a
# mistaken header must not stop a worker for a day.
# https://github.com/segmentio/analytics-python/blob/master/segment/analytics/request.py
MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 300.0

# Longer than a restart of a service or a rate limit's window takes. After it the runner is told: it shows the failure,
# and holds the calls as long as it takes.
GIVE_UP_SECONDS = 900.0

CONNECT_SECONDS = 10.0

# For the whole answer, from the end of the request. Segment's libraries wait 15 s for any part of it.
ANSWER_SECONDS = 30.0

# Segment answers with some dozen bytes. What is longer is not Segment's.
MAX_ANSWER_BYTES = 64 * 1024

MAX_WORDS = 200
"""How many characters of Segment's words a refusal holds."""

LONG_WAIT_SECONDS = 10.0
"""Waits that are longer are worth a warning."""

# An X-RateLimit-Reset above it is a moment, in seconds since 1970, and not the wait that Segment documents.
_MOMENTS = 1e9

# Level 6 of 9: a full request of email events shrinks to 12 %, in 4 ms; level 9 takes 11 ms and saves 3 % of that.
_GZIP_LEVEL = 6

_NAME = r"[^\s@\"'<>(){}\[\],;:]"
_EMAIL = re.compile(rf"(?<!{_NAME}){_NAME}+(?:@|\\u0040){_NAME}+")
_HIDDEN = "…"

# JSON's escapes; and how often words may be JSON that stands as text in JSON: each time doubles the backslashes.
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\/bfnrt]))")
_MAX_ESCAPED = 3
_MAX_BACKSLASHES = 2**_MAX_ESCAPED - 1
_BACKSLASHES_AND_NEXT = re.compile(r"(\\*)([^\\]?)", re.DOTALL)
# Only what is one: another character's escape that could be a space as well gives long words too many readings.
_SPACES = "|".join(f"{code:04x}" for code in range(0x3001) if chr(code).isspace())
_SPACE = rf"(?:[bfnrt]|u(?i:{_SPACES}))"
_BEGINNING = r"(?:(?<!\w)|(?<=\\[bfnrt])|(?<=\\u[0-9a-fA-F]{4}))"
_LOGGER = logging.getLogger(__name__)


class Sent(NamedTuple):
    """What became of some calls that were sent."""

    calls: Sequence[OutgoingCall]
    refusal: str | None
    """None: Segment has them. Else the status and Segment's words: sent again they would be refused again."""


class Packer:
    """Gathers calls, in their order, into requests that are as full as Segment allows."""

    def __init__(self) -> None:
        self._start()

    def add(self, call: OutgoingCall) -> list[OutgoingCall]:
        """Take one more call, of at most MAX_CALL_BYTES; gives the request that has no room for it, if it has none."""
        full: list[OutgoingCall] = []
        size = len(call.payload) + 1  # and a comma
        # The first call has no comma before it.
        if self._bytes + size - 1 > MAX_REQUEST_BYTES or len(self._calls) == MAX_REQUEST_CALLS:
            full = self.take()
        self._calls.append(call)
        self._bytes += size
        return full

    def take(self) -> list[OutgoingCall]:
        """What has been gathered and not been given yet."""
        calls = self._calls
        self._start()
        return calls

    def _start(self) -> None:
        self._calls: list[OutgoingCall] = []
        self._bytes = len(_HEAD) + len(_TAIL)


def join_calls(calls: Sequence[OutgoingCall]) -> bytes:
    """The body of a request: the calls' JSON as it is, undecoded."""
    return _HEAD + b",".join([call.payload for call in calls]) + _TAIL


class _Session(requests.Session):
    """Does not look where a redirect leads: requests would, even if it is not to follow it, and may fail over it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class SegmentApi:
    """A connection to Segment, for one thread. Keeps the write key to itself: it cannot be pickled."""

    def __init__(
        self,
        endpoint: str,
        write_key: str,
        *,
        user_agent: str = "segment-warehouse",
        give_up_seconds: float = GIVE_UP_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        on_request: Callable[[], None] = lambda: None,
        on_retry: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is sent yet.

        `on_request` is told of every attempt and `on_retry` of every further one. `clock` and `now` give seconds, the
        latter since 1970. Raises ValueError for an endpoint that is none.
        """
        self._url = batch_url(endpoint)
        self._timeouts = CONNECT_SECONDS, answer_seconds
        self._give_up_seconds = give_up_seconds
        self._on_request, self._on_retry = on_request, on_retry
        self._clock, self._now, self._sleep = clock, now, sleep
        self._backoff = tenacity.wait_exponential(multiplier=1, max=MAX_BACKOFF_SECONDS)
        self._session = _Session()
        self._session.auth = write_key, ""
        self._session.headers.update(
            {"User-Agent": user_agent, "Content-Type": "application/json", "Content-Encoding": "gzip"}
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HurryingAdapter())

    def send(self, calls: Sequence[OutgoingCall]) -> Iterator[Sent]:
        """Deliver the calls of one request; every call is in one of the results, in their order.

        A request that is refused is halved until the calls are found that it was refused for. While Segment cannot be
        reached it waits and tries again. Raises `SegmentUnreachableError`; what was not given by then, and perhaps the
        last request as well, is to be sent again: Segment knows a call by its messageId.
        https://segment.com/docs/guides/duplicate-data/
        """
        waiting = [calls] if calls else []
        while waiting:
            some = waiting.pop()
            status, answer = self._post(some)
            if not is_refusal(status, answer):
                yield Sent(some, None)
            elif len(some) == 1 or status in ALIKE_STATUSES:
                yield Sent(some, f"HTTP {status}: {quote_answer(answer, some)}")
            else:
                middle = len(some) // 2
                waiting += [some[middle:], some[:middle]]

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SegmentApi holds a write key and stays in its process")

    def _post(self, calls: Sequence[OutgoingCall]) -> tuple[int, bytes]:
        """Segment's answer: the status, 2xx or 4xx, and the body."""
        body = gzip.compress(join_calls(calls), _GZIP_LEVEL)
        started = self._clock()

        def is_over(state: tenacity.RetryCallState) -> bool:
            return self._clock() - started + state.upcoming_sleep > self._give_up_seconds

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_UnansweredError),
            wait=self._wait_seconds,
            stop=is_over,
            sleep=self._sleep,
            before_sleep=self._announce,
            reraise=True,
        )
        try:
            return attempts(self._attempt, body)
        except _UnansweredError as last:
            raise SegmentUnreachableError(
                f"Segment took no request at {self._url} for {self._clock() - started:.0f} s, "
                f"{attempts.statistics['attempt_number']} attempts, the last ended with {last}"
            ) from None

    def _attempt(self, body: bytes) -> tuple[int, bytes]:
        self._on_request()
        try:
            # A redirected POST becomes a GET, which would be answered with 200: none is followed.
            response = self._session.post(
                self._url, data=body, timeout=self._timeouts, allow_redirects=False, stream=True
            )
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.InvalidHeader) as error:
            raise _UnansweredError(type(error).__name__) from None
        with response:
            status = response.status_code
            if status in RETRY_STATUSES or not (200 <= status < 300 or 400 <= status < 500):
                raise _UnansweredError(f"HTTP {status}", read_retry_after(response.headers, self._now()))
            try:
                answer: bytes = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
            except urllib3.exceptions.HTTPError as error:
                raise _UnansweredError(f"HTTP {status}, then {type(error).__name__}") from None
            if len(answer) > MAX_ANSWER_BYTES:
                raise _UnansweredError(f"HTTP {status}, then more than {MAX_ANSWER_BYTES:,} bytes")
            return status, answer

    def _wait_seconds(self, state: tenacity.RetryCallState) -> float:
        """0.5 to 1 s, then twice as long each time; many workers do not come back at the same moment."""
        least = _find_error(state).retry_after_seconds
        return max(self._backoff(state) * random.uniform(0.5, 1), least)

    def _announce(self, state: tenacity.RetryCallState) -> None:
        self._on_retry()
        if state.upcoming_sleep > LONG_WAIT_SECONDS:
            _LOGGER.warning("Segment: %s; trying again in %.0f s", _find_error(state), state.upcoming_sleep)


def is_refusal(status: int, answer: bytes) -> bool:
    """Whether Segment's final answer, of status 2xx or 4xx, says that it does not want the request."""
    if status >= 400:
        return True
    try:
        said = msgspec.json.decode(answer)
    except (ValueError, RecursionError):  # every error of the decoder is a ValueError but one
        return False
    return isinstance(said, dict) and (said.get("success") is False or bool(said.get("error") or said.get("errors")))


def quote_answer(answer: bytes, calls: Sequence[OutgoingCall]) -> str:
    """Segment's words on one line, without values of the calls: they are read by people who may not see PII."""
    found: set[str] = set()
    for call in calls:
        try:
            found.update(_find_values(msgspec.json.decode(call.payload)))
        except (ValueError, RecursionError):
            return "its words are left out, because a call is not JSON"
    words = _join_lines(answer.decode(errors="replace"))
    readings = _read_escapes(words)
    values = {value for value in map(_join_lines, found) if value and any(value in each for each in readings)}
    for value in sorted(values, key=len, reverse=True):  # a part of a longer one would leave the rest of it
        words = re.sub(rf"{_BEGINNING}{_as_written(value)}(?!\w)", _HIDDEN, words)
    return _EMAIL.sub(_HIDDEN, words)[:MAX_WORDS]


def read_retry_after(headers: Any, now: float) -> float:
    """How many seconds the server wants us to wait, at most MAX_RETRY_AFTER_SECONDS; 0 if it does not say.

    `headers` are a mapping that ignores case, `now` is in seconds since 1970. Retry-After is a number of seconds or a
    date: https://www.rfc-editor.org/rfc/rfc9110#name-retry-after. Segment sends X-RateLimit-Reset as well:
    https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/#rate-limits
    """
    seconds = _read_seconds(headers.get("Retry-After"), now)
    if seconds is None:
        seconds = _read_seconds(headers.get("X-RateLimit-Reset"), now)
    return min(max(seconds or 0.0, 0.0), MAX_RETRY_AFTER_SECONDS)


def _read_seconds(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    with suppress(ValueError):
        seconds = float(text)
        if seconds == seconds:  # "nan" is a float
            return seconds - now if seconds > _MOMENTS else seconds
    with suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(text)
        # A date with the zone -0000 comes without one, and means UTC.
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
    return None


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _read_escapes(words: str) -> list[str]:
    """The words as they stand, and as what they may be with JSON's escapes."""
    readings = [words]
    for _ in range(_MAX_ESCAPED):
        unescaped = _ESCAPE.sub(_unescape, readings[-1])
        if unescaped == readings[-1]:
            break
        # What lies beyond 16 bits is two escapes.
        readings.append(_join_lines(unescaped.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")))
    return readings


def _unescape(escape: re.Match[str]) -> str:
    if escape[1] is not None:
        return chr(int(escape[1], 16))
    return " " if escape[2] in "bfnrt" else escape[2]


def _as_written(value: str) -> str:
    """A pattern of the value, with escapes or without."""
    pattern = ""
    for backslashes, character in _BACKSLASHES_AND_NEXT.findall(value):
        count = len(backslashes)
        if count:  # all at once, those of the next character with them: one by one there are too many ways
            pattern += rf"(?:\\|(?i:u005c)){{{count},{count * (_MAX_BACKSLASHES + 1)}}}+"
        if character:
            pattern += _character_as_written(character, rf"\\{{{0 if count else 1},{_MAX_BACKSLASHES}}}")
    return pattern


def _character_as_written(character: str, escaped: str) -> str:
    """`escaped`: a pattern of the backslashes of an escape."""
    if character.isspace():
        return rf"(?:\s|{escaped}{_SPACE})(?:\s|\\{{1,{_MAX_BACKSLASHES}}}{_SPACE})*+"
    if character.isascii() and character.isalnum():
        return character  # nobody escapes these
    units = character.encode("utf-16-be").hex()
    # The second half of what lies beyond 16 bits has its own backslashes in any case.
    first, *rest = (f"u{units[start : start + 4]}" for start in range(0, len(units), 4))
    escapes = first + "".join(rf"\\{{1,{_MAX_BACKSLASHES}}}{unit}" for unit in rest)
    return rf"(?:\\{{0,{_MAX_BACKSLASHES}}}{re.escape(character)}|{escaped}(?i:{escapes}))"


def _find_values(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _find_values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _find_values(inner)
    elif value and not isinstance(value, bool):
        yield str(value)


class _UnansweredError(Exception):
    """An attempt that says nothing about the calls."""

    def __init__(self, what: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(what)
        self.retry_after_seconds = retry_after_seconds


def _find_error(state: tenacity.RetryCallState) -> _UnansweredError:
    error = state.outcome and state.outcome.exception()
    assert isinstance(error, _UnansweredError)
    return error
