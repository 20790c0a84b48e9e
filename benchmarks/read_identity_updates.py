"""Identity updates as both baselines read them: the fields, without a look at what could be wrong with them."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec


class Update(msgspec.Struct, gc=False):
    """A line of a file of updates, as docs/identity_updates.md has it."""

    person_id: str | None
    user_id: str | None
    email: str | None
    at: datetime
    version: int

    def read_seconds(self) -> int:
        """When, since 1970."""
        return int(self.at.timestamp())


class KnownUser(NamedTuple):
    """What updates say of a person's user_id."""

    user_id: str
    since: int
    """Seconds since 1970."""


class Known(NamedTuple):
    """What updates come to."""

    persons: Mapping[str, str] = {}
    """Email -> person_id."""
    users: Mapping[str, KnownUser] = {}
    """By person_id."""
