"""What is remembered of opens and clicks: digests, each with the time when it was noted."""

import struct
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from schemas.email_logs import LogLine

_RECORD = struct.Struct("<16sq")
_ENCODER = msgspec.msgpack.Encoder()
_EMPTY = blake2b(digest_size=16)  # a copy takes two thirds of the time that a new one does

Parts: TypeAlias = tuple[str | bytes | None, ...]
MakeFact: TypeAlias = Callable[[Parts], bytes]
"""How a fact is made of what tells it from others."""


def digest(parts: Parts) -> bytes:
    """16 bytes: what is remembered must be short, and all of one length."""
    hashed = _EMPTY.copy()
    hashed.update(_ENCODER.encode(parts))
    return hashed.digest()


in_full: MakeFact = _ENCODER.encode
"""All of it, in a third of the time: for facts that are forgotten before they are written down."""


class Facts:
    """A set of facts that knows when each came, and what has come since it was last written down."""

    def __init__(self) -> None:
        self._noted: dict[bytes, int] = {}
        self._new: list[tuple[bytes, int]] = []

    def __len__(self) -> int:
        return len(self._noted)

    def __contains__(self, fact: bytes) -> bool:
        return fact in self._noted

    def note(self, fact: bytes, at: int) -> bool:
        """Remember it from `at` (microseconds) on; whether it is new."""
        if fact in self._noted:
            return False
        self._noted[fact] = at
        self._new.append((fact, at))
        return True

    @property
    def oldest(self) -> int:
        """When the first of them came. Raises ValueError if there is none."""
        return min(self._noted.values())

    def take_new(self) -> bytes:
        """What `replay` must be told to know what has come since the last time. Facts must be digests."""
        new, self._new = self._new, []
        return b"".join(_RECORD.pack(fact, at) for fact, at in new)

    def replay(self, record: bytes) -> None:
        """Know what a record holds."""
        for fact, at in _RECORD.iter_unpack(record):
            self._noted.setdefault(fact, at)

    def forget_before(self, micros: int) -> None:
        """Forget what was noted before; `take_new` then gives all of the rest."""
        self._noted = {fact: at for fact, at in self._noted.items() if at >= micros}
        self._new = list(self._noted.items())


def repeat_fact(line: LogLine) -> bytes:
    """What a log line and its repeats have in common."""
    return digest((line.workspace_id, line.log_id, line.email))


def open_fact(line: LogLine, make: MakeFact = digest) -> bytes:
    """An email of a campaign run was opened, by whomever."""
    return make(("open", line.campaign_run_id, line.email_id))


def click_fact(line: LogLine, make: MakeFact = digest) -> bytes:
    """A link in an email of a campaign run was clicked, by whomever."""
    return make(("click", line.campaign_run_id, line.email_id, line.email_link_url))


def reward_fact(line: LogLine, make: MakeFact = digest) -> bytes:
    """An email of a campaign run was opened and clicked, by whomever."""
    return make(("open and click", line.campaign_run_id, line.email_id))


def group_fact(line: LogLine, make: MakeFact = digest) -> bytes:
    """Somebody belongs to an account."""
    return make(("group", line.account_id))


def identified_fact(user_id: str, make: MakeFact = digest) -> bytes:
    """Somebody was identified by a user_id."""
    return make(("identify", user_id))


def of_person(workspace_id: str, person_id: str, fact: bytes, make: MakeFact = digest) -> bytes:
    """The fact about this person."""
    return make(("person", workspace_id, person_id, fact))


def of_address(workspace_id: str, email: str, fact: bytes) -> bytes:
    """The fact about this address."""
    return digest(("address", workspace_id, email, fact))


IDENTIFIED = digest(("identified",))
"""Somebody was identified, by whichever user_id."""
