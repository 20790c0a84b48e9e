"""SendGrid's events to measure with, and the truth about them: `python -m benchmarks.generate_email_logs --help`.

The same numbers give the same bytes, on any machine. What it stresses: events out of order, events delivered again soon
and late, lines that must be rejected, opens by machines, clicks by scanners, clicks before any open. Half of the
recipients are customers: their emails carry our ids as custom arguments, and for two in five of them a user_id. The
emails of the others carry only what SendGrid knows itself.
"""

import argparse
import heapq
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import msgspec

from benchmarks.generate_identity_updates import WhoIsWho, generate_identity_updates, person_name, user_name
from benchmarks.read_email_events import APPLE_PREFETCH, SCANNER, Event, find_person, is_machine
from schemas.rejections import Reason

Fields: TypeAlias = dict[str, Any]

_START = 1_772_409_600  # 2026-03-02, in seconds since 1970
_SHARE_FAULTY = 0.01
_SHARE_REPEATED = 0.05
_LINES_A_RECIPIENT = 20
_LINES_A_MESSAGE = 1.9
_SHARE_OF_THE_BUSIEST = 0.3
_SHARE_UNREPORTED = 0.5
_CAMPAIGNS = 50
# Opens and clicks come in this much out of order.
_FARTHEST_LINES = 5_000
_FARTHEST_REPEAT_LINES = 20_000
_MOST_LATE_SECONDS = 90_000

_HOSTS = ("harbour.example", "mailbox.test", "north.example", "orchard.test")
_BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0",
)
# Gmail loads images through it at the moment that a human opens the email.
_IMAGE_PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"

_FAULTS: dict[str, Reason] = {
    "truncated": Reason.BAD_REQUEST,
    "no object": Reason.BAD_REQUEST,
    "unknown event": Reason.UNKNOWN_EVENT,
    "not reported": Reason.EVENT_NOT_REPORTED,
    "no recipient": Reason.RECIPIENT_NOT_VALID,
    "no time": Reason.TIMESTAMP_NOT_VALID,
}


class Skew(StrEnum):
    """Where the lines gather."""

    NONE = "none"
    CAMPAIGN = "campaign"
    """One email of one run of one campaign to everybody."""
    RECIPIENT = "recipient"
    """One recipient has 30 % of all lines."""
    UNREPORTED = "unreported"
    """Half of all lines tell of emails on their way, as providers do that are asked for every event."""


class Truth(msgspec.Struct):
    """What a perfect pipeline finds in the lines."""

    lines: int
    events: dict[str, int]
    """SendGrid's name -> unique valid lines."""
    duplicates: int
    rejected: dict[str, int]
    """Reason -> lines."""
    calls: dict[str, int]
    """Name of the event, or type of the call -> calls."""
    by_machine: int
    """Of those calls, how many tell of a program."""
    recipients: int
    lines_of_the_busiest: int


def email_of(recipient: int) -> str:
    """The address of the recipient with this number."""
    return f"reader{recipient}@{_HOSTS[recipient % len(_HOSTS)]}"


class EmailWorkload:
    """The lines, one after the other; the truth about them is whole when the last one is out."""

    def __init__(self, lines: int, seed: int, skew: Skew = Skew.NONE, updates: Path | None = None) -> None:
        """`updates`: where to write identity updates about the recipients."""
        self._random = Random(seed)
        self._lines = lines
        self._skew = skew
        each = _LINES_A_MESSAGE if skew == Skew.CAMPAIGN else _LINES_A_RECIPIENT
        self._recipients = max(10, int(lines / each))
        self._messages = 0
        self._planned: list[tuple[int, int, Fields]] = []
        self._planned_so_far = 0
        known = WhoIsWho()
        if updates is not None:
            end = _START + int(lines / _LINES_A_MESSAGE) + _MOST_LATE_SECONDS
            known = generate_identity_updates(updates, self._recipients, email_of, _START, end, seed)
        self._told = _Told(known)
        self._rejected: Counter[str] = Counter()

    def lines(self) -> Iterator[bytes]:
        """Every line, without its end."""
        encode = msgspec.json.Encoder().encode
        number = 0
        while number < self._lines:
            if self._skew == Skew.UNREPORTED and self._random.random() < _SHARE_UNREPORTED:
                yield self._invent_faulty("not reported")
                number += 1
            elif self._planned and self._planned[0][0] <= number:
                event = heapq.heappop(self._planned)[2]
                self._told.tell(event)
                yield encode(event)
                number += 1
            elif self._random.random() < _SHARE_FAULTY * _LINES_A_MESSAGE:
                yield self._invent_faulty(self._random.choice(tuple(_FAULTS)))
                number += 1
            else:
                self._plan_message(number)

    def truth(self) -> Truth:
        """The truth about the lines so far."""
        told, lines_of = self._told, self._told.lines_of
        return Truth(
            lines=lines_of.total() + self._rejected.total(),
            events=dict(sorted(told.events.items())),
            duplicates=lines_of.total() - told.events.total(),
            rejected=dict(sorted(self._rejected.items())),
            calls=dict(sorted(told.count_calls().items())),
            by_machine=told.by_machine,
            recipients=len(lines_of),
            lines_of_the_busiest=max(lines_of.values(), default=0),
        )

    def _plan_message(self, number: int) -> None:
        """One email and all that becomes of it, each event at some line from this one on."""
        message = self._invent_message()
        for event in self._invent_events():
            happened = message["timestamp"] + event.pop("after")
            planned = {**message, **event, "sg_event_id": f"{self._random.getrandbits(88):022x}", "timestamp": happened}
            is_late = happened > message["timestamp"] + 1
            self._plan(number + (self._random.randrange(1, _FARTHEST_LINES) if is_late else 0), planned)
            if self._random.random() < _SHARE_REPEATED / (1 - _SHARE_REPEATED):
                reach = self._random.choices((40, _FARTHEST_REPEAT_LINES, self._lines), (60, 30, 10))[0]
                self._plan(number + self._random.randrange(1, reach + 1), planned)

    def _plan(self, due: int, event: Fields) -> None:
        if due < self._lines:
            self._planned_so_far += 1
            heapq.heappush(self._planned, (due, self._planned_so_far, event))

    def _invent_message(self) -> Fields:
        self._messages += 1
        number = self._messages
        recipient = self._random.randrange(1, self._recipients)
        campaign = number * 97 % _CAMPAIGNS
        run = f"run_{campaign:03d}_{number // _FARTHEST_REPEAT_LINES}"
        if self._skew == Skew.CAMPAIGN:
            recipient, campaign, run = number % self._recipients, 0, "run_000_0"
        elif self._skew == Skew.RECIPIENT and self._random.random() < _SHARE_OF_THE_BUSIEST:
            recipient = 0
        message = {
            "email": email_of(recipient),
            "timestamp": _START + number,
            "smtp-id": f"<{self._random.getrandbits(64):016x}@ismtpd>",
            "sg_message_id": f"msg{number:010d}.recvd-7c4f-1-{self._random.getrandbits(32):08x}",
            "category": ["newsletter", "v2"],
        }
        if recipient % 2:
            return {**message, "singlesend_id": f"single_{campaign:03d}", "singlesend_name": f"Letter {campaign}"}
        message |= {
            "campaign_id": f"cmp_{campaign:03d}",
            "campaign_run_id": run,
            "email_id": f"eml_{campaign:03d}_{number % 2 if self._skew != Skew.CAMPAIGN else 0}",
            "person_id": person_name(recipient),
        }
        return message | ({"user_id": user_name(recipient)} if recipient % 10 in (0, 4) else {})

    def _invent_events(self) -> Iterator[Fields]:
        chance = self._random.random
        if chance() < 0.03:
            yield {"event": "bounce", "after": 1, "reason": "550 5.1.1 user unknown", "status": "5.1.1"}
            return
        yield {"event": "delivered", "after": 1, "response": "250 2.0.0 OK 1772409600 gsmtp"}
        if chance() < 0.02:
            yield self._invent_click(SCANNER)
        has_opened = chance() < 0.35
        for _ in range(1 + int(chance() ** 3 * 6) if has_opened else 0):
            yield self._invent_open()
        for _ in range(1 + int(chance() ** 3 * 4) if chance() < (0.2 if has_opened else 0.01) else 0):
            yield self._invent_click(self._random.choice(_BROWSERS))
        if chance() < 0.002:
            yield {"event": "spamreport", "after": 4_000}
        if chance() < 0.004:
            yield {"event": "unsubscribe", "after": 5_000}

    def _invent_open(self) -> Fields:
        kind = self._random.random()
        agent = APPLE_PREFETCH if kind < 0.1 else self._random.choice((*_BROWSERS, _IMAGE_PROXY))
        return self._invent_access("open", agent) | {"sg_machine_open": kind < 0.3}

    def _invent_click(self, agent: str) -> Fields:
        url = f"https://shop.example/p/{self._random.randrange(500)}?utm_campaign=c"
        return self._invent_access("click", agent) | {"url": url}

    def _invent_access(self, event: str, agent: str) -> Fields:
        ip = f"10.{self._random.randrange(256)}.{self._random.randrange(256)}.{self._random.randrange(256)}"
        return {"event": event, "after": 30 + self._random.randrange(_MOST_LATE_SECONDS), "useragent": agent, "ip": ip}

    def _invent_faulty(self, kind: str) -> bytes:
        self._rejected[_FAULTS[kind].value] += 1
        event_id = f"{self._random.getrandbits(88):022x}"
        event = {**self._invent_message(), "event": "delivered", "sg_event_id": event_id}
        if kind == "no object":
            return b'"delivered"'
        if kind == "truncated":
            return msgspec.json.encode(event)[: self._random.randrange(10, 60)].rstrip()
        return msgspec.json.encode(_SPOIL[kind](event))


_SPOIL: dict[str, Callable[[Fields], Fields]] = {
    "unknown event": lambda event: event | {"event": "teleported"},
    "not reported": lambda event: event | {"event": "deferred"},
    "no recipient": lambda event: {name: value for name, value in event.items() if name != "email"},
    "no time": lambda event: event | {"timestamp": "yesterday"},
}


class _Told:
    """What the lines that are out add up to. Sets and counts: no first of anything depends on the order of the log."""

    def __init__(self, known: WhoIsWho) -> None:
        self.events: Counter[str] = Counter()
        self.lines_of: Counter[str] = Counter()
        self.by_machine = 0
        self._known = known
        self._seen: set[str] = set()
        self._users: set[tuple[str, str]] = set()
        self._opened: set[tuple[str | None, ...]] = set()
        self._clicked: set[tuple[str | None, ...]] = set()

    def tell(self, fields: Fields) -> None:
        self.lines_of[fields["email"]] += 1
        if fields["sg_event_id"] in self._seen:
            return
        self._seen.add(fields["sg_event_id"])
        event = msgspec.convert(fields, Event)
        self.events[event.event] += 1
        person_id = find_person(event, self._known.persons)
        user_id = event.user_id or self._known.users.get(person_id)
        if user_id is not None:
            self._users.add((person_id, user_id))
        if is_machine(event):
            self.by_machine += 1
        elif event.event == "open":
            self._opened.add((person_id, event.campaign_run_id, event.find_email_id()))
        elif event.event == "click":
            self._clicked.add((person_id, event.campaign_run_id, event.find_email_id(), event.url))

    def count_calls(self) -> Counter[str]:
        names = {
            "delivered": "Email Delivered",
            "open": "Email Opened",
            "click": "Link Clicked",
            "bounce": "Email Bounced",
            "spamreport": "Email Reported as Spam",
            "unsubscribe": "Email Unsubscribed",
        }
        calls = Counter({names[event]: count for event, count in self.events.items()})
        calls["Email Unique Opens"] = len(self._opened)
        calls["Unique Link Click"] = len(self._clicked)
        calls["Unique Link Click per Unique Open"] = len(self._opened & {click[:3] for click in self._clicked})
        calls["identify"] = len(self._users)
        return +calls


def generate_email_logs(
    path: Path, lines: int, seed: int, skew: Skew = Skew.NONE, updates: Path | None = None
) -> Truth:
    """Write so many lines to `path`, and identity updates to `updates`; the truth about them."""
    workload = EmailWorkload(lines, seed, skew, updates)
    with path.open("wb") as file:
        for line in workload.lines():
            file.write(line)
            file.write(b"\n")
    return workload.truth()


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generate_email_logs",
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m benchmarks.generate_email_logs log.jsonl --lines 20000 --truth truth.json",
    )
    parser.add_argument("path", type=Path, metavar="LOG.jsonl", help="the file to write")
    parser.add_argument("--lines", type=int, default=20_000, help="lines, all told. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="another number, another file. Default: %(default)s")
    parser.add_argument(
        "--skew",
        type=Skew,
        choices=list(Skew),
        default=Skew.NONE,
        help="campaign: one email to everybody; recipient: one has 30 %% of all lines; unreported: half of them are "
        "of no use to us. Default: %(default)s",
    )
    parser.add_argument("--updates", type=Path, metavar="UPDATES.jsonl", help="where identity updates go")
    parser.add_argument("--truth", type=Path, metavar="TRUTH.json", help="where the truth goes")
    arguments = parser.parse_args(argv)
    truth = generate_email_logs(arguments.path, arguments.lines, arguments.seed, arguments.skew, arguments.updates)
    if arguments.truth is not None:
        arguments.truth.write_bytes(msgspec.json.format(msgspec.json.encode(truth), indent=1))
    print(f"{truth.lines:,} lines: {sum(truth.events.values()):,} events, {truth.duplicates:,} duplicates, ", end="")
    print(f"{sum(truth.rejected.values()):,} to reject; {sum(truth.calls.values()):,} calls")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
