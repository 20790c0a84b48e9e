"""Identity updates for the recipients of benchmarks/generate_email_logs.py, and what they come to.

Of each ten recipients three turn out to be further addresses of the first, also where the sender still says otherwise;
the user_ids of three become known in the course of the log, that of one is taken away again, and one address has no
person any more. In any order, some told twice, and what was replaced is told as well.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeAlias

import msgspec

Fields: TypeAlias = dict[str, Any]

_SHARE_REPEATED = 0.05
_DAY_SECONDS = 86_400


class WhoIsWho(NamedTuple):
    """What holds in the end."""

    persons: Mapping[str, str] = {}
    """Email -> person_id."""
    users: Mapping[str, str] = {}
    """person_id -> user_id."""


class _Plan(NamedTuple):
    """What is told of a recipient."""

    email: tuple[str | None, ...] = ()
    """The persons of the address, the last one holds; None is nobody."""
    user: tuple[str | None, ...] = ()
    """The same of the user_id."""


def person_name(recipient: int) -> str:
    """The person_id that the sender knows a recipient by."""
    return f"person_{recipient:07d}"


def user_name(recipient: int) -> str:
    """The customer's own."""
    return f"user_{recipient:07d}"


def _plan(recipient: int) -> _Plan:
    own, first = person_name(recipient), person_name(recipient - recipient % 10)
    return (
        _Plan(user=(own,)),  # its lines say so, too
        _Plan(email=(first,)),  # only SendGrid's fields
        _Plan(email=(first,)),  # its lines name another person
        _Plan(email=(own, first)),
        _Plan(),
        _Plan(email=(own,), user=(first, own)),
        _Plan(user=(own, own)),  # known since the first
        _Plan(email=(first, None)),
        _Plan(user=(own, None)),
        _Plan(),
    )[recipient % 10]


def generate_identity_updates(
    path: Path, recipients: int, find_email: Callable[[int], str], since: int, until: int, seed: int
) -> WhoIsWho:
    """Write what is told of so many recipients, dated from `since` to `until` (seconds since 1970) and a day before."""
    random = Random(seed + 1)
    updates: list[Fields] = []
    persons, users = {}, {}
    for recipient in range(recipients):
        email, user_id = find_email(recipient), user_name(recipient)
        plan = _plan(recipient)
        updates += _date(random, since, until, plan.email, email=email)
        updates += _date(random, since, until, plan.user, user_id=user_id)
        if plan.email and plan.email[-1] is not None:
            persons[email] = plan.email[-1]
        if plan.user and plan.user[-1] is not None:
            users[plan.user[-1]] = user_id
    updates += random.sample(updates, int(_SHARE_REPEATED * len(updates)))
    random.shuffle(updates)
    with path.open("wb") as file:
        file.writelines(msgspec.json.encode(update) + b"\n" for update in updates)
    return WhoIsWho(persons, users)


def _date(
    random: Random, since: int, until: int, holders: tuple[str | None, ...], **identifier: str
) -> Iterator[Fields]:
    for at, person_id in zip(
        sorted(random.sample(range(since - _DAY_SECONDS, until), len(holders))), holders, strict=True
    ):
        told = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        update = {"workspace_id": "default", "person_id": person_id, "user_id": None, "email": None}
        yield {**update, **identifier, "at": told, "version": at * 1_000_000}
