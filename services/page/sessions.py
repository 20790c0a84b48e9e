"""Who has logged in: a signed cookie, and what a form must bring along. The key is made of the admin token."""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from typing import NamedTuple

from itsdangerous import BadSignature, TimestampSigner

MIN_TOKEN_CHARACTERS = 16
SESSION_SECONDS = 12 * 3600
"""From the login on, whatever is done meanwhile."""

MAX_FAILURES = 5
FAILURE_SECONDS = 10.0
"""So many wrong tokens may be tried at once, and one more each time so many seconds have passed: in this process, by
whoever tries. A token of 16 random characters is not found that way."""


class Session(NamedTuple):
    """A login."""

    session_id: str
    form_token: str
    """What each form carries, so that no other site can fill it in."""


class Sessions:
    """The sessions of one admin token: another token ends them all, and so does a restart for those logged out.

    `clock` counts microseconds since 1970.
    """

    def __init__(self, token: str, clock: Callable[[], int]) -> None:
        self._token = _digest(token)
        self._key = hmac.new(token.encode(), b"sessions of the Connections page", hashlib.sha256).digest()
        self._signer = _Signer(self._key, clock)
        self._ended: set[str] = set()

    def is_token(self, text: str) -> bool:
        """Whether the text is the admin token, in constant time."""
        return hmac.compare_digest(_digest(text), self._token)

    def start(self) -> str:
        """A new session's cookie."""
        return self._signer.sign(secrets.token_hex(16)).decode()

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None if it is forged, too old or has ended."""
        try:
            session_id = self._signer.unsign(cookie, max_age=SESSION_SECONDS).decode()
        except (BadSignature, UnicodeError):
            return None
        if session_id in self._ended:
            return None
        return Session(session_id, hmac.new(self._key, f"form {session_id}".encode(), hashlib.sha256).hexdigest())

    def end(self, session: Session) -> None:
        """Log out: the cookie opens nothing from now on, as long as this process runs."""
        self._ended.add(session.session_id)


class _Signer(TimestampSigner):
    def __init__(self, key: bytes, clock: Callable[[], int]) -> None:
        super().__init__(key, salt="session", digest_method=hashlib.sha256)
        self._clock = clock

    def get_timestamp(self) -> int:
        return self._clock() // 1_000_000


class Attempts:
    """How often a wrong token may still be tried; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left = float(MAX_FAILURES)
        self._counted_at = clock()

    def take(self) -> float:
        """Use one; gives 0, or in how many seconds there will be one again."""
        with self._lock:
            now = self._clock()
            self._left = min(MAX_FAILURES, self._left + (now - self._counted_at) / FAILURE_SECONDS)
            self._counted_at = now
            if self._left < 1:
                return (1 - self._left) * FAILURE_SECONDS
            self._left -= 1
            return 0.0

    def give_back(self) -> None:
        """What was used for the right token."""
        with self._lock:
            self._left = min(MAX_FAILURES, self._left + 1)


def _digest(text: str) -> bytes:
    # Equal lengths, whatever is typed; a form may hold what is no text.
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
