"""The job of email_logs_to_segment as one loop of plain Python: without Beam, a second worker, a retry or a stream.

Read, sort by time, and one pass with sets of what has been seen. It finds firsts in its own way and is the oracle.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from benchmarks.read_email_events import REPORTED, Event, find_fault, find_person, is_machine
from benchmarks.read_identity_updates import Known, KnownUser, Update
from benchmarks.shape_email_calls import (
    REWARD,
    UNIQUE_CLICK,
    UNIQUE_OPEN,
    Call,
    shape_first,
    shape_identify,
    shape_report,
)
from schemas.rejections import Reason

Email: TypeAlias = tuple[str, str | None, str]
"""person_id, campaign_run_id and email_id."""

_decode_event = msgspec.json.Decoder(Event).decode
_decode_update = msgspec.json.Decoder(Update).decode
_decode_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Firsts:
    """What has happened so far; events come in the order in which they happened."""

    def __init__(self, known: Known) -> None:
        self._persons = known.persons
        self._news = sorted(((user.since, user.user_id, person_id) for person_id, user in known.users.items()))[::-1]
        """Of user_ids that are not known yet, the next one last."""
        self._since = {person_id: user.since for person_id, user in known.users.items()}
        self._users: dict[str, str] = {}
        self._emailed: dict[str, str] = {}
        """person_id -> the first address, while a user_id may become known."""
        self._opened: set[Email] = set()
        self._clicked: set[tuple[Email, str | None]] = set()
        self._rewarded: set[Email] = set()
        self._waiting: dict[Email, Event] = {}
        """The first click of an email that was not opened yet."""
        self._identified: set[str] = set()

    def tell(self, event: Event) -> Iterator[Call]:
        """The calls that an event gives rise to."""
        yield from self.learn_until(event.timestamp)
        person_id = find_person(event, self._persons)
        event.user_id = event.user_id or self._users.get(person_id)
        if event.user_id is not None and person_id not in self._identified:
            self._users[person_id] = event.user_id
            known_at = self._since.get(person_id, event.timestamp)
            yield self._identify(event.user_id, person_id, event.email, min(event.timestamp, known_at))
        if person_id in self._since:
            self._emailed.setdefault(person_id, event.email)
        if is_machine(event) or event.event not in ("open", "click"):
            yield shape_report(event, person_id)
            return
        email = person_id, event.campaign_run_id, event.find_email_id()
        yield from (self._open if event.event == "open" else self._click)(event, email)

    def learn_until(self, seconds: float) -> Iterator[Call]:
        """The identifies of those who were emailed before their user_id became known, until then."""
        while self._news and self._news[-1][0] <= seconds:
            since, user_id, person_id = self._news.pop()
            self._users.setdefault(person_id, user_id)
            if person_id in self._emailed and person_id not in self._identified:
                yield self._identify(user_id, person_id, self._emailed[person_id], since)

    def _identify(self, user_id: str, person_id: str, email: str, at: int) -> Call:
        self._identified.add(person_id)
        return shape_identify(user_id, person_id, email, at)

    def _open(self, event: Event, email: Email) -> Iterator[Call]:
        is_first = email not in self._opened
        yield shape_report(event, email[0], is_first=is_first)
        if is_first:
            self._opened.add(email)
            yield shape_first(UNIQUE_OPEN, event, email[0], event.timestamp)
            if email in self._waiting:
                click = msgspec.structs.replace(self._waiting.pop(email), user_id=event.user_id)
                yield from self._reward(click, email, event.timestamp)

    def _click(self, event: Event, email: Email) -> Iterator[Call]:
        is_first = (email, event.url) not in self._clicked
        yield shape_report(event, email[0], is_first=is_first)
        if is_first:
            self._clicked.add((email, event.url))
            yield shape_first(UNIQUE_CLICK, event, email[0], event.timestamp)
        if email in self._opened:
            yield from self._reward(event, email, event.timestamp)
        else:
            self._waiting.setdefault(email, event)

    def _reward(self, click: Event, email: Email, at: int) -> Iterator[Call]:
        if email not in self._rewarded:
            self._rewarded.add(email)
            yield shape_first(REWARD, click, email[0], at)


def read_event(line: bytes) -> Event | Reason:
    """An event, or why it is none."""
    try:
        event = _decode_event(line)
    except msgspec.ValidationError:
        return find_fault(_decode_any(line)) or Reason.BAD_REQUEST
    except msgspec.DecodeError:
        return Reason.BAD_REQUEST
    return event if event.event in REPORTED else find_fault(_decode_any(line)) or event


def read_updates(updates: Path | None) -> Known:
    """Of each identifier the highest version, and since when there is one."""
    if updates is None:
        return Known()
    latest: dict[tuple[str | None, str | None], Update] = {}
    since: dict[str | None, int] = {}
    for update in map(_decode_update, updates.read_bytes().splitlines()):
        identifier = update.user_id, update.email
        latest[identifier] = max(latest.get(identifier, update), update, key=lambda one: one.version)
        since[update.user_id] = min(since.get(update.user_id, update.read_seconds()), update.read_seconds())
    held = [(*identifier, update.person_id) for identifier, update in latest.items() if update.person_id is not None]
    return Known(
        {email: person_id for _, email, person_id in held if email is not None},
        {person_id: KnownUser(user_id, since[user_id]) for user_id, _, person_id in held if user_id is not None},
    )


def tell_log(log: Path, updates: Path | None, output: Path) -> None:
    """The whole job."""
    events: dict[str, Event] = {}
    for folder in ("segment_calls", "dead_letters"):
        (output / folder).mkdir(parents=True)
    with log.open("rb") as lines, (output / "dead_letters" / "part.jsonl").open("wb") as letters:
        for line in lines:
            event = read_event(line)
            if isinstance(event, Event):
                events.setdefault(event.sg_event_id, event)
            else:
                letters.write(_encode({"reason": event, "payload": line.rstrip(b"\n").decode()}) + b"\n")
    firsts = Firsts(read_updates(updates))
    with (output / "segment_calls" / "part.jsonl").open("wb") as calls:
        for event in sorted(events.values(), key=lambda event: (event.timestamp, event.sg_event_id)):
            for call in firsts.tell(event):
                calls.write(_encode(call) + b"\n")
        for call in firsts.learn_until(math.inf):
            calls.write(_encode(call) + b"\n")


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.email_plain_loop", description=__doc__)
    parser.add_argument("log", type=Path, metavar="LOG.jsonl", help="what benchmarks.generate_email_logs has written")
    parser.add_argument("output", type=Path, metavar="DIR", help="where segment_calls and dead_letters go")
    parser.add_argument("--updates", type=Path, metavar="UPDATES.jsonl", help="who is who, by identity updates")
    arguments = parser.parse_args(argv)
    tell_log(arguments.log, arguments.updates, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
