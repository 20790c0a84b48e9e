"""A file of Segment calls to measure with, and the truth about it: `python -m benchmarks.generate_calls --help`.

The same numbers give the same bytes, on any machine. What it stresses: messages delivered again soon and late, calls
that must be rejected, calls that happened days before they came, shared devices, people with several devices, emails
and user_ids, and Engage's audiences. If asked for, one user makes 30 % of the calls, or all people are of one group.
"""

import argparse
import heapq
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from pathlib import Path
from random import Random

import msgspec

from benchmarks.invent_calls import (
    FAULTS,
    Call,
    invent_alias,
    invent_audience,
    invent_group,
    invent_identify,
    invent_page,
    invent_screen,
    invent_track,
    write_faulty,
)
from benchmarks.invent_people import Person, find_device_owners, invent_people

_START = datetime(2026, 3, 2)
_MILLISECONDS_A_LINE = 37
# Well inside the 24 hours for which a messageId is remembered by default.
_FARTHEST_REPEAT_LINES = 20 * 3600 * 1000 // _MILLISECONDS_A_LINE

_SHARE_FAULTY = 0.01
_SHARE_REPEATED = 0.05
_SHARE_LATE = 0.03
_SHARE_OF_THE_BUSIEST = 0.3
_MIX = {
    invent_track: 58,
    invent_page: 20,
    invent_identify: 9,
    invent_group: 5,
    invent_screen: 3,
    invent_audience: 3,
    invent_alias: 2,
}
_KINDS = tuple(_MIX)
_WEIGHTS = tuple(accumulate(_MIX.values()))
_FAULT_KINDS = tuple(FAULTS)


class Skew(StrEnum):
    """Where the calls gather."""

    NONE = "none"
    USER = "user"
    """One user makes 30 % of all calls."""
    GROUP = "group"
    """Everybody belongs to one group."""


class Truth(msgspec.Struct):
    """What a perfect pipeline finds in the lines."""

    lines: int
    written: dict[str, int]
    """Type -> unique valid calls."""
    duplicates: int
    faults: dict[str, int]
    """Kind of fault -> lines; see `FAULTS`."""
    rejected: dict[str, int]
    """Reason -> lines."""
    audience_changes: int
    persons: dict[str, dict[str, int]]
    """Identifier type -> identifier -> the number of the person whose it is, for all that a valid call carries."""
    calls_of_the_busiest: int
    """Person, of the unique valid calls."""
    members_of_the_largest: int
    """Group, of the people with a valid group call."""


class Workload:
    """The lines, one after the other; the truth about them is whole when the last one is out."""

    def __init__(self, calls: int, seed: int, skew: Skew = Skew.NONE) -> None:
        self._random = Random(seed)
        self._calls = calls
        self._people = invent_people(self._random, calls)
        if skew == Skew.GROUP:
            for person in self._people:
                person.group_id = self._people[0].group_id
        self._busiest = next(person for person in self._people if person.user_id) if skew == Skew.USER else None
        self._owners = find_device_owners(self._people)
        self._repeats: list[tuple[int, int, Call]] = []
        self._written: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._duplicates = 0
        self._audience_changes = 0
        self._calls_of: Counter[int] = Counter()
        self._members: defaultdict[str, set[int]] = defaultdict(set)
        self._emails: dict[str, int] = {}
        self._user_ids: dict[str, int] = {}
        self._anonymous_ids: dict[str, int] = {}

    def lines(self) -> Iterator[bytes]:
        """Every line, without its end."""
        encode = msgspec.json.Encoder().encode
        for number in range(self._calls):
            if self._repeats and self._repeats[0][0] <= number:
                call = heapq.heappop(self._repeats)[2]
                self._duplicates += 1
                yield encode(self._deliver(call, number))
            elif self._random.random() < _SHARE_FAULTY:
                yield self._invent_faulty(number)
            else:
                call = self._invent(number)
                yield encode(self._deliver(call, number))
                self._plan_repeat(call, number)

    def truth(self) -> Truth:
        """The truth about the lines so far."""
        rejected: Counter[str] = Counter()
        for kind, count in self._faults.items():
            rejected[FAULTS[kind][0].value] += count
        return Truth(
            lines=self._written.total() + self._duplicates + self._faults.total(),
            written=dict(sorted(self._written.items())),
            duplicates=self._duplicates,
            faults=dict(sorted(self._faults.items())),
            rejected=dict(sorted(rejected.items())),
            audience_changes=self._audience_changes,
            persons={"email": self._emails, "user_id": self._user_ids, "anonymous_id": self._anonymous_ids},
            calls_of_the_busiest=max(self._calls_of.values(), default=0),
            members_of_the_largest=max(map(len, self._members.values()), default=0),
        )

    def _choose_person(self) -> tuple[Person, str]:
        if self._busiest is not None and self._random.random() < _SHARE_OF_THE_BUSIEST:
            return self._busiest, self._random.choice(self._busiest.devices)
        # the power makes the first people busier than the last
        person = self._people[int(len(self._people) * self._random.random() ** 1.3)]
        return person, self._random.choice(person.devices)

    def _invent(self, number: int) -> Call:
        person, device = self._choose_person()
        invent = self._random.choices(_KINDS, cum_weights=_WEIGHTS)[0]
        if person.user_id is None and invent in (invent_identify, invent_alias, invent_audience):
            invent = invent_track
        if invent is invent_audience and not person.logged_in:
            invent = invent_identify  # Engage knows only people who said who they are
        call = invent(self._random, person, device)
        call["timestamp"] = self._happened(number)
        if invent is invent_identify:
            person.logged_in.add(device)
        elif invent is invent_audience:
            self._audience_changes += 1
        elif call["type"] == "alias" and person.next_user_id == call["userId"]:
            person.user_id, person.next_user_id = person.next_user_id, None
        elif call["type"] == "group":
            self._members[call["groupId"]].add(person.number)
        self._written[call["type"]] += 1
        self._calls_of[person.number] += 1
        self._note_identifiers(call, person)
        return call

    def _invent_faulty(self, number: int) -> bytes:
        kind = self._random.choice(_FAULT_KINDS)
        self._faults[kind] += 1
        call = invent_page(self._random, *self._choose_person())
        call["timestamp"] = self._happened(number)
        return write_faulty(self._random, self._deliver(call, number), kind)

    def _happened(self, number: int) -> str:
        hour = 3_600_000
        late = self._random.random() < _SHARE_LATE
        ago = self._random.randrange(hour, 120 * hour) if late else self._random.randrange(80, 1600)
        return _format(number * _MILLISECONDS_A_LINE - ago)

    def _deliver(self, call: Call, number: int) -> Call:
        """The call with the times of this delivery; receivedAt grows with every line."""
        received = number * _MILLISECONDS_A_LINE
        call["sentAt"] = _format(received - self._random.randrange(20, 80))
        call["receivedAt"] = _format(received)
        return call

    def _plan_repeat(self, call: Call, number: int) -> None:
        """Some calls come again: most at once, some thousands of lines later, a few hours later."""
        if self._random.random() >= _SHARE_REPEATED:
            return
        farthest = min(max(2, self._calls - number), _FARTHEST_REPEAT_LINES)
        reach = self._random.choices((40, 20_000, farthest), (60, 30, 10))[0]
        due = number + self._random.randrange(1, reach)
        if due < self._calls:
            heapq.heappush(self._repeats, (due, number, call))

    def _note_identifiers(self, call: Call, person: Person) -> None:
        for user_id in (call["userId"], call.get("previousId")):
            if user_id is not None and user_id not in self._owners:
                self._user_ids[user_id] = person.number
        for device in (call.get("anonymousId"), call.get("previousId")):
            if device in self._owners:
                self._anonymous_ids[device] = self._owners[device]
        traits = call["context"].get("traits") or call.get("traits", {})
        if "email" in traits:
            self._emails[traits["email"].strip().lower()] = person.number


def generate_calls(path: Path, calls: int, seed: int, skew: Skew = Skew.NONE) -> Truth:
    """Write `calls` lines to `path`; the truth about them."""
    workload = Workload(calls, seed, skew)
    with path.open("wb") as file:
        for line in workload.lines():
            file.write(line)
            file.write(b"\n")
    return workload.truth()


def write_truth(path: Path, truth: Truth) -> None:
    """The truth as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(truth), indent=1))


def _format(milliseconds: int) -> str:
    return (_START + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds") + "Z"


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generate_calls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python -m benchmarks.generate_calls calls.jsonl --calls 20000 --truth truth.json",
    )
    parser.add_argument("path", type=Path, metavar="CALLS.jsonl", help="the file to write")
    parser.add_argument("--calls", type=int, default=20_000, help="lines, all told. Default: %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="another number, another file. Default: %(default)s")
    parser.add_argument(
        "--skew",
        type=Skew,
        choices=list(Skew),
        default=Skew.NONE,
        help="user: one makes 30 %% of all calls; group: everybody is in one. Default: %(default)s",
    )
    parser.add_argument("--truth", type=Path, metavar="TRUTH.json", help="where the truth goes")
    arguments = parser.parse_args(argv)
    truth = generate_calls(arguments.path, arguments.calls, arguments.seed, arguments.skew)
    if arguments.truth is not None:
        write_truth(arguments.truth, truth)
    print(f"{truth.lines:,} lines: {sum(truth.written.values()):,} calls, {truth.duplicates:,} duplicates, ", end="")
    print(f"{sum(truth.rejected.values()):,} to reject")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
