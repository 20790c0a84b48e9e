"""Realistic Segment calls for the demo: people who visit, sign up, change, join groups; and what goes wrong with them.

A part is built with Segment's own library, segment-analytics-python; to all is added what Segment's servers add before
they hand a call on (receivedAt, originalTimestamp), since the pipeline reads what they send.
"""

import argparse
import json
import os
import random
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from segment.analytics.client import Client

from services.one_line_parser import OneLineParser

_EVENTS = ("Report Created", "Login Button Clicked", "Invite Sent", "Plan Upgraded", "Video Played")
_PAGES = ("Home", "Pricing", "Docs", "Blog", "Sign Up")
_PLANS = ("free", "pro", "team")
_AUDIENCE = "power_users"

_REJECTS: tuple[tuple[str, dict[str, Any] | bytes], ...] = (
    ("bad_request", b'{"type": "track", "userId": "u'),
    ("bad_request", b'["not", "an", "object"]'),
    ("unknown_type", {"type": "screenview", "userId": "u"}),
    ("no_user_anon_id", {"type": "track", "event": "Orphan"}),
    ("id_not_string", {"type": "track", "event": "X", "userId": ""}),
    ("event_not_defined", {"type": "track", "userId": "u"}),
    ("timestamp_not_valid", {"type": "page", "userId": "u", "timestamp": "last tuesday"}),
    ("group_id_required", {"type": "group", "userId": "u", "traits": {}}),
    ("traits_not_object", {"type": "identify", "userId": "u", "traits": "gold"}),
    ("identify_without_email", {"type": "identify", "userId": "nobody-knows", "traits": {"plan": "free"}}),
    ("too_large", {"type": "track", "userId": "u", "event": "Huge", "properties": {"text": "x" * 33_000}}),
)


@dataclass
class Simulated:
    """Messages in the order of publication, and how each must end."""

    payloads: list[bytes] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)
    """written, duplicate, and the reasons of rejects -> messages."""
    everyone: list[str] = field(default_factory=list)
    """The email of everybody, lower-cased."""
    user_ids: dict[str, str] = field(default_factory=dict)
    """The email, lower-cased, of each who signs up -> their user_id."""


def simulate_calls(count: int, seed: int, now: datetime) -> Simulated:
    """About `count` messages, received from an hour before `now` on."""
    chance = random.Random(seed)
    world = _World(chance, now)
    simulated = Simulated()
    while len(simulated.payloads) < count:
        for payload in world.next_visit():
            simulated.payloads.append(payload)
            simulated.expected["written"] += 1
        if chance.random() < 0.05:
            reason, reject = chance.choice(_REJECTS)
            if isinstance(reject, dict):
                reject = json.dumps(reject | {"messageId": str(uuid.UUID(int=chance.getrandbits(128)))}).encode()
            simulated.payloads.append(reject)
            simulated.expected[reason] += 1
    _deliver_twice(simulated, chance)
    simulated.everyone = [person.email.lower() for person in world.people]
    simulated.user_ids = world.user_ids
    return simulated


def _deliver_twice(simulated: Simulated, chance: random.Random) -> None:
    """Repeat one valid call in twenty, soon or much later."""
    for index in reversed(range(len(simulated.payloads))):
        payload = simulated.payloads[index]
        if b'"receivedAt"' in payload and chance.random() < 0.05:
            latest = min(index + 20, len(simulated.payloads)) if chance.random() < 0.5 else len(simulated.payloads)
            simulated.payloads.insert(chance.randint(index + 1, latest), payload)
            simulated.expected["duplicate"] += 1


class _World:
    """Some companies with people; each visit is a few calls of one of them."""

    def __init__(self, chance: random.Random, now: datetime) -> None:
        self._chance = chance
        self._received = now - timedelta(hours=1)
        self.people = [_Person(index, chance) for index in range(120)]
        self._library = Client("demo", send=False)
        self.user_ids: dict[str, str] = {}

    def next_visit(self) -> Iterator[bytes]:
        chance = self._chance
        person = chance.choice(self.people)
        if chance.random() < 0.2:
            person.change_device(chance)
        yield self._page(person)
        if not person.signed_up and chance.random() < 0.5:
            person.signed_up = True
            self.user_ids[person.email.lower()] = person.user_id
            yield self._identify(person)
            yield self._group(person)
        for _ in range(chance.randrange(4)):
            yield self._track(person)
        if person.signed_up and chance.random() < 0.1:
            person.in_audience = not person.in_audience
            yield self._audience(person)
        if person.signed_up and chance.random() < 0.05:
            yield self._identify(person)

    def _page(self, person: "_Person") -> bytes:
        name = self._chance.choice(_PAGES)
        properties = {"path": f"/{name.lower().replace(' ', '-')}", "title": f"{name} | Acme"}
        return self._send(*self._library.page(**person.ids(), name=name, properties=properties, context=_context()))

    def _track(self, person: "_Person") -> bytes:
        event = self._chance.choice(_EVENTS)
        properties = {"plan": self._chance.choice(_PLANS), "seats": self._chance.randrange(1, 50), "revenue": 12.5}
        return self._send(*self._library.track(**person.ids(), event=event, properties=properties, context=_context()))

    def _identify(self, person: "_Person") -> bytes:
        traits = {
            "email": person.email,
            "firstName": person.first_name,
            "lastName": "Miller",
            "plan": self._chance.choice(_PLANS),
            "company": {"name": person.company, "employee_count": 40},
            "createdAt": "2026-03-01T08:00:00Z",
        }
        sent = self._library.identify(
            user_id=person.user_id, anonymous_id=person.anonymous_id, traits=traits, context=_context()
        )
        return self._send(*sent)

    def _group(self, person: "_Person") -> bytes:
        traits = {"name": person.company, "industry": "Technology", "employees": 329, "plan": "enterprise"}
        return self._send(*self._library.group(user_id=person.user_id, group_id=person.group_id, traits=traits))

    def _audience(self, person: "_Person") -> bytes:
        """What Engage sends: no email, the membership as a trait, and the personas that say so."""
        call = {
            "type": "identify",
            "messageId": self._message_id(),
            "userId": person.user_id,
            "traits": {_AUDIENCE: person.in_audience},
            "context": {
                "personas": {"computation_class": "audience", "computation_key": _AUDIENCE, "space_id": "spa_1"}
            },
        }
        return self._send(True, call)

    def _message_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def _send(self, sent: bool, call: dict[str, Any]) -> bytes:
        """What Segment's servers make of a call; one in twenty comes days late from a device that was offline."""
        assert sent
        self._received += timedelta(milliseconds=self._chance.randrange(1, 2000))
        received = self._received
        late = timedelta(days=self._chance.randrange(1, 6)) if self._chance.random() < 0.05 else timedelta(seconds=1)
        call = call | {
            "messageId": self._message_id(),
            "timestamp": _iso(received - late),
            "originalTimestamp": _iso(received - late),
            "sentAt": _iso(received),
            "receivedAt": _iso(received),
        }
        return json.dumps(call).encode()


class _Person:
    def __init__(self, index: int, chance: random.Random) -> None:
        self.user_id = f"user-{index:03}"
        self.first_name = chance.choice(("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald"))
        company = index % 9
        self.email = f"{self.first_name}.{index}@Company{company}.example"
        self.company = f"Company {company}"
        self.group_id = f"group-{company}"
        self.signed_up = False
        self.in_audience = False
        self.anonymous_id = ""
        self.change_device(chance)

    def change_device(self, chance: random.Random) -> None:
        self.anonymous_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))

    def ids(self) -> dict[str, str]:
        """Anonymous until the person has signed up; then by userId as well, on every device."""
        ids = {"anonymous_id": self.anonymous_id}
        return ids | {"user_id": self.user_id} if self.signed_up else ids


def _context() -> dict[str, Any]:
    return {
        "ip": "203.0.113.7",
        "locale": "en-US",
        "page": {"path": "/", "url": "https://www.acme.example/", "title": "Acme"},
        "campaign": {"name": "spring", "source": "newsletter", "medium": "email"},
    }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def positive(text: str) -> int:
    """A number of a command line that is at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("is at least 1")
    return number


def main() -> None:
    """Print calls, one a line."""
    parser = OneLineParser(
        prog="python -m scripts.simulate_calls",
        allow_abbrev=False,
        description="Print simulated Segment calls, one a line.",
    )
    parser.add_argument("--calls", type=positive, default=1000, help="about how many. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other people. Default: %(default)s")
    options = parser.parse_args()
    try:
        for payload in simulate_calls(options.calls, options.seed, datetime.now(UTC)).payloads:
            sys.stdout.buffer.write(payload + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has enough; what is still buffered must not be tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
