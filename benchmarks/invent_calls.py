"""One call at a time: what a person says next, and ten ways to say it wrongly."""

from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias

import msgspec

from benchmarks.invent_people import Person
from schemas.rejections import Reason

Call: TypeAlias = dict[str, Any]

_EVENTS = (
    "Book Borrowed", "Book Returned", "Catalogue Searched", "Hold Placed", "Hold Cancelled", "Renewal Requested",
    "Reading List Shared", "Audiobook Played", "Fine Paid", "Membership Renewed",
)  # fmt: skip
_SECTIONS = ("Welcome", "Catalogue", "Opening Hours", "My Loans", "Events", "New Arrivals", "Help")
_SUBJECTS = ("history", "poetry", "travel", "science", "crime", "cooking", "music")
_CAMPAIGNS: tuple[dict[str, str] | None, ...] = (
    None,
    None,
    {"name": "summer_reading", "source": "monthly_letter", "medium": "email", "content": "banner"},
    {"name": "join_us", "source": "search", "medium": "cpc", "term": "library near me", "content": "text-4"},
)
_AUDIENCES = ("keen_readers", "overdue_30_days", "new_members", "audiobook_fans")
_TIERS = ("basic", "family", "student", "patron")
_encode = msgspec.json.Encoder().encode


def invent_page(random: Random, person: Person, device: str) -> Call:
    """A page view: the base of every other call."""
    section = random.choice(_SECTIONS)
    page = {
        "path": f"/{section.lower().replace(' ', '-')}",
        "referrer": "https://search.example/results",
        "search": f"?from={random.randrange(10_000)}",
        "title": f"{section} | Riverside Libraries",
        "url": f"https://libraries.example/{section.lower().replace(' ', '-')}",
    }
    context = {**person.context, "page": page}
    campaign = random.choice(_CAMPAIGNS)
    if campaign is not None:
        context["campaign"] = campaign
    return {
        "messageId": f"ajs-next-{random.getrandbits(128):032x}",
        "type": "page",
        "anonymousId": device,
        "userId": person.user_id if device in person.logged_in else None,
        "name": section,
        "category": "Public",
        "properties": {**page, "loaded_in_ms": random.randrange(4000), "shelf": random.randrange(400)},
        "context": context,
        "integrations": {"All": True},
        "channel": "client",
    }


def invent_screen(random: Random, person: Person, device: str) -> Call:
    """The same in the mobile app."""
    return invent_page(random, person, device) | {"type": "screen"}


def invent_track(random: Random, person: Person, device: str) -> Call:
    """Something done; now and then by a server that knows the email only."""
    call = invent_page(random, person, device)
    del call["name"], call["category"]
    call["type"], call["event"] = "track", random.choice(_EVENTS)
    call["properties"] = {
        "isbn": f"978{random.randrange(10**10):010}",
        "title": f"Collected Works, volume {random.randrange(90)}",
        "subjects": random.sample(_SUBJECTS, random.randrange(4)),
        "fee": round(random.random() * 9, 2),
        "copies_left": random.randrange(12),
        "branch": person.group_id,
        "renewed": random.random() < 0.3,
        "note": None,
    }
    if person.emails and random.random() < 0.04:
        call["context"]["traits"] = {"email": _write_email(random, person)}
    return call


def invent_identify(random: Random, person: Person, device: str) -> Call:
    """A person who logs in says their user_id and one of their emails."""
    call = invent_page(random, person, device)
    del call["name"], call["category"], call["properties"]
    call["type"], call["userId"] = "identify", person.user_id
    call["traits"] = {
        "email": _write_email(random, person),
        "name": f"Reader {person.number}",
        "createdAt": f"20{10 + person.number % 15}-0{1 + person.number % 9}-17T08:30:00.000Z",
        "tier": random.choice(_TIERS),
        "loans": random.randrange(60),
        "company": {"id": person.group_id, "name": f"Friends of {person.group_id}"},
        "address": {"city": "Riverside", "country": "PT", "postalCode": f"{person.number % 10_000:04}-001"},
    }
    return call


def invent_group(random: Random, person: Person, device: str) -> Call:
    """The library that a person belongs to."""
    call = invent_page(random, person, device)
    del call["name"], call["category"], call["properties"]
    call["type"], call["groupId"] = "group", person.group_id
    call["traits"] = {
        "name": f"Friends of {person.group_id}",
        "industry": "Culture",
        "employees": random.randrange(3, 300),
        "plan": random.choice(_TIERS),
        "website": f"https://{person.group_id}.example",
    }
    return call


def invent_alias(random: Random, person: Person, device: str) -> Call:
    """A device's anonymousId becomes a user_id; or an account moves, and its old user_id becomes the new one."""
    call = invent_page(random, person, device)
    del call["name"], call["category"], call["properties"], call["anonymousId"]
    moved = person.next_user_id is not None and bool(person.logged_in)
    call["type"] = "alias"
    call["previousId"] = person.user_id if moved else device
    call["userId"] = person.next_user_id if moved else person.user_id
    return call


def invent_audience(random: Random, person: Person, device: str) -> Call:
    """Engage says that a known person entered or left an audience: an identify without an email, or a track."""
    call = invent_page(random, person, device)
    del call["name"], call["category"], call["properties"], call["anonymousId"]
    audience, entered = random.choice(_AUDIENCES), random.random() < 0.6
    call["userId"] = person.user_id
    call["context"] = {
        "library": {"name": "unknown", "version": "unknown"},
        "personas": {
            "computation_class": "audience",
            "computation_id": f"aud_{_AUDIENCES.index(audience)}",
            "computation_key": audience,
            "namespace": "spa_riverside",
            "space_id": "spa_riverside",
        },
    }
    if random.random() < 0.5:
        call["type"], call["traits"] = "identify", {audience: entered}
    else:
        call["type"], call["event"] = "track", "Audience Entered" if entered else "Audience Exited"
        call["properties"] = {"audience_key": audience, audience: entered}
    return call


def _write_email(random: Random, person: Person) -> str:
    """One of their emails, now and then with capitals or a space behind it."""
    email = random.choice(person.emails)
    chance = random.random()
    return email.title() if chance < 0.03 else f"{email} " if chance < 0.04 else email


def _no_identity(call: Call) -> object:
    return call | {"userId": None, "anonymousId": None}


def _no_email(call: Call) -> object:
    stranger = {"type": "identify", "userId": f"stranger-{call['messageId']}", "traits": {"tier": "basic"}}
    return {name: value for name, value in call.items() if name != "anonymousId"} | stranger


FAULTS: dict[str, tuple[Reason, Callable[[Call], object]]] = {
    "cut_off": (Reason.BAD_REQUEST, lambda call: call),  # cut when it is written
    "not_an_object": (Reason.BAD_REQUEST, lambda call: [call]),
    "unknown_type": (Reason.UNKNOWN_TYPE, lambda call: call | {"type": "pageview"}),
    "no_identity": (Reason.NO_USER_ANON_ID, _no_identity),
    "empty_user_id": (Reason.ID_NOT_STRING, lambda call: call | {"userId": ""}),
    "no_event": (Reason.EVENT_NOT_DEFINED, lambda call: call | {"type": "track"}),
    "no_group_id": (Reason.GROUP_ID_REQUIRED, lambda call: call | {"type": "group"}),
    "no_previous_id": (Reason.PREVIOUS_ID_REQUIRED, lambda call: call | {"type": "alias", "userId": "acct-new"}),
    "bad_timestamp": (Reason.TIMESTAMP_NOT_VALID, lambda call: call | {"timestamp": "yesterday at noon"}),
    "no_email": (Reason.IDENTIFY_WITHOUT_EMAIL, _no_email),
}
"""Kind of fault -> why it is rejected, and how it is made from a page call."""


def write_faulty(random: Random, page: Call, kind: str) -> bytes:
    """The line of a call that must be rejected."""
    line = _encode(FAULTS[kind][1](page))
    return line[: random.randrange(20, 400)] if kind == "cut_off" else line
