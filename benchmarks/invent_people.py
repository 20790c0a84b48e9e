"""The people of a workload: who they are, what they call from, and which devices they share."""

from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

# Calls a person makes on average; a few make many, most make few.
CALLS_A_PERSON = 20

_SHARE_KNOWN = 0.7
_SHARE_SECOND_EMAIL = 0.15
_SHARE_MIGRATED = 0.03
_SHARE_BORROWED_DEVICE = 0.01
_MAIL_HOSTS = ("harbour.example", "mailbox.test", "north.example", "orchard.test")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 15; SM-S928B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.6778.39 Mobile",
)
_PLACES = (
    ("en-GB", "Europe/London"),
    ("pt-PT", "Europe/Lisbon"),
    ("sv-SE", "Europe/Stockholm"),
    ("ko-KR", "Asia/Seoul"),
)


@dataclass(slots=True)
class Person:
    """One true person. The identity rules see only what the calls say of them."""

    number: int
    devices: list[str]
    """anonymousIds; the last one may be borrowed from a neighbour."""
    emails: list[str]
    """Empty for a visitor, who never says who they are."""
    user_id: str | None
    next_user_id: str | None
    """What an alias call will replace user_id with, for the few whose accounts were moved."""
    group_id: str
    context: dict[str, Any]
    """The part of `context` that stays the same."""
    logged_in: set[str] = field(default_factory=set)
    """The devices on which they have said who they are."""


def invent_people(random: Random, calls: int) -> list[Person]:
    """As many people as `calls` calls are worth."""
    count = max(10, calls // CALLS_A_PERSON)
    groups = max(5, count // 30)
    people: list[Person] = []
    for number in range(count):
        devices = [str(UUID(int=random.getrandbits(128))) for _ in range(random.choices((1, 2, 3), (60, 30, 10))[0])]
        if people and random.random() < _SHARE_BORROWED_DEVICE:
            devices.append(people[-1].devices[0])
        known = random.random() < _SHARE_KNOWN
        emails = [f"reader.{number}@{random.choice(_MAIL_HOSTS)}"] if known else []
        if known and random.random() < _SHARE_SECOND_EMAIL:
            emails.append(f"r{number}@private.example")
        migrated = known and random.random() < _SHARE_MIGRATED
        people.append(
            Person(
                number=number,
                devices=devices,
                emails=emails,
                user_id=f"acct-{number:07}" if known else None,
                next_user_id=f"member-{number:07}" if migrated else None,
                group_id=f"library-{random.randrange(groups):05}",
                context=_invent_context(random),
            )
        )
    return people


def find_device_owners(people: list[Person]) -> dict[str, int]:
    """Device -> the number of the person whose it is; who borrows it comes later."""
    owners: dict[str, int] = {}
    for person in people:
        for device in person.devices:
            owners.setdefault(device, person.number)
    return owners


def _invent_context(random: Random) -> dict[str, Any]:
    locale, timezone = random.choice(_PLACES)
    return {
        "library": {"name": "analytics.js", "version": "next-1.76.0"},
        "userAgent": random.choice(_AGENTS),
        "ip": f"192.0.2.{random.randrange(256)}",
        "locale": locale,
        "timezone": timezone,
        "screen": {"width": random.choice((390, 1280, 1920)), "height": random.choice((844, 800, 1080)), "density": 2},
        "network": {"wifi": random.random() < 0.8, "cellular": False},
    }
