"""Which webhooks were taken already: so that a repetition is not published twice, and a replay not at all."""

import hashlib
from collections import OrderedDict
from enum import StrEnum

from services.signatures.verdicts import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, to_bytes

KEEP_SECONDS = MAX_AGE_SECONDS + MAX_AHEAD_SECONDS
"""As long as a signature can pass: it may be signed ahead of this clock, and lives from then on."""

MAX_SIGNATURES = 200_000
"""Some 60 MB (measured: 300 bytes each, Python 3.11): more than two a second, day and night."""

# 128 bits: to find a second body for a digest takes 2**128 trials, and gains that it is not published.
_DIGEST_BYTES = 16
_SECOND = 1_000_000


class Sight(StrEnum):
    """Whether a webhook was taken before."""

    NEW = "new"
    REPEATED = "repeated"
    """The same again: the sender did not hear the answer. To be answered as before, and not published."""
    REPLAYED = "replayed"
    """Another body under the same signature. To be refused."""


class SeenSignatures:
    """Digests of the webhooks taken in the last `keep_seconds`, `max_entries` at most; the oldest go first.

    It is the memory of one process. A replay passes in another process, after a restart, after `max_entries` others,
    and in the moment before the first one is remembered: that is for the messageIds and log_ids further down.
    """

    def __init__(self, max_entries: int = MAX_SIGNATURES, keep_seconds: int = KEEP_SECONDS) -> None:
        self._max_entries = max_entries
        self._keep = keep_seconds * _SECOND
        self._taken: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._taken)

    def judge(self, connection_id: str, signature: str, body: bytes, now: int) -> Sight:
        """Whether it was taken before; `now` is in microseconds since 1970.

        `signature` is what the check gave: the token, the message id, or what stands for the signature.
        """
        taken = self._taken.get(_digest_name(connection_id, signature))
        if taken is None or now - taken[1] > self._keep:
            return Sight.NEW
        return Sight.REPEATED if taken[0] == _digest(body) else Sight.REPLAYED

    def remember(self, connection_id: str, signature: str, body: bytes, now: int) -> None:
        """Keep what was taken, once it is published: what was refused or lost must be able to come again."""
        name = _digest_name(connection_id, signature)
        self._taken[name] = (_digest(body), now)
        self._taken.move_to_end(name)
        while self._taken and (len(self._taken) > self._max_entries or self._has_old(now)):
            self._taken.popitem(last=False)

    def _has_old(self, now: int) -> bool:
        _, taken_at = next(iter(self._taken.values()))
        return now - taken_at > self._keep


def _digest_name(connection_id: str, signature: str) -> bytes:
    # No id of a connection has a NUL in it, so that no two pairs make the same text.
    return _digest(to_bytes(f"{connection_id}\0{signature}"))


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
