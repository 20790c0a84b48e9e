"""Contract section 6, slow and obvious: which calls a log gives rise to.

No digests, no blocks of bytes, nothing of `transforms`: sorts, loops, and dicts of tuples.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from schemas.email_logs import LogLine
from schemas.identity_updates import IdentityUpdate
from tests.unit.identity_oracle import person_id_of

Whose: TypeAlias = tuple[str, str]
"""A workspace, and a person or an email in it."""

Email: TypeAlias = tuple[str | None, str | None]
"""A campaign run and an email of it."""

Happened: TypeAlias = tuple[str | None, ...]
"""open, click or reward; the run and the email; of a click the link."""

MESSAGE_NAMESPACE = uuid.UUID("b1f6c8e2-5d1f-5c7f-a3c5-f0a4d2c96e37")
LINE_CALLS = {
    "delivered": "Email Delivered",
    "opened": "Email Opened",
    "clicked": "Link Clicked",
    "bounced": "Email Bounced",
    "reported_as_spam": "Email Reported as Spam",
    "unsubscribed": "Email Unsubscribed",
    "page_viewed": "page",
}


class Said(NamedTuple):
    """A call, whom it is about, and the shard of persons that makes it."""

    shard: int
    workspace_id: str
    person_id: str
    call: dict[str, Any]


class User(NamedTuple):
    """A user_id at a person."""

    version: int
    holder: str
    """Whose it is."""
    since: int
    is_theirs: bool

    @property
    def order(self) -> tuple[int, str]:
        return self.version, self.holder


class News(NamedTuple):
    """Of a user_id at a person, and whose it was before."""

    person: Whose
    user_id: str
    user: User
    former: list[str]


class Move(NamedTuple):
    """An address is another person's."""

    address: Whose
    person: Whose


@dataclass
class Person:
    email: str | None = None
    user_id: str | None = None
    known_at: int = 0
    users: dict[str, User] = field(default_factory=dict)
    former: list[str] = field(default_factory=list)
    happened: dict[Happened, int] = field(default_factory=dict)
    """When it was noted."""
    waiting: dict[Email, LogLine] = field(default_factory=dict)
    """The first click of an email without an open."""


@dataclass
class Address:
    persons: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    """Those of the persons of whom a line told the user_id."""
    happened: set[Happened] = field(default_factory=set)
    waiting: dict[Email, LogLine] = field(default_factory=dict)
    touched_at: int = 0


def all_on_one_shard(workspace_id: str, person_id: str) -> int:
    return 0


class EmailOracle:
    """What is known, and what that makes of lines and updates: everything that one job is told."""

    def __init__(self, implied: bool = False, shard_of: Callable[[str, str], int] = all_on_one_shard) -> None:
        self.implied = implied
        self.shard_of = shard_of
        self.seen: dict[tuple[str, str, str], int] = {}
        self.updates: dict[tuple[str, str | None, str | None], list[IdentityUpdate]] = {}
        """Of each identifier those that held."""
        self.since: dict[tuple[str, str | None, str | None], int] = {}
        self.people: dict[Whose, Person] = {}
        self.addresses: dict[Whose, Address] = {}
        self.identified: set[tuple[int, str, str, str | None]] = set()
        """Which shard knows that a person was identified, and as whom."""
        self.grouped: set[tuple[str, str, str]] = set()
        self.said: list[Said] = []

    # What is told

    def read(self, lines: Iterable[LogLine], updates: Iterable[IdentityUpdate]) -> list[Said]:
        """All lines of files and all updates, at once."""
        by_node: dict[tuple[str, str | None, str | None], list[IdentityUpdate]] = {}
        for update in updates:
            by_node.setdefault(node_of(update), []).append(update)
        latest = {node: max(each, key=order_of) for node, each in by_node.items()}
        first: dict[tuple[str, str, str], LogLine] = {}
        for line in sorted(lines, key=lambda one: (one.at, one.arrived_at)):
            first.setdefault((line.workspace_id, line.log_id, line.email), line)
        found = []
        for line in first.values():
            told = latest.get((line.workspace_id, None, line.email))
            person_id = told.person_id if told is not None else None
            found.append((line, person_id or own_person(line)))
        news = [
            News(
                (update.workspace_id, update.person_id),
                update.user_id,
                User(update.version, update.person_id, min(known_since(one) for one in by_node[node]), True),
                [],
            )
            for node, update in latest.items()
            if update.user_id is not None and update.person_id is not None
        ]
        return self._live(found, news, [])

    def hear(self, lines: Iterable[LogLine], updates: Iterable[IdentityUpdate]) -> list[Said]:
        """One block of a stream."""
        news: list[News] = []
        moves: list[Move] = []
        for update in sorted(updates, key=order_of):
            self._learn(update, news, moves)
        taken = [(move, self._copy_of(move)) for move in moves]
        found = []
        for line in sorted(lines, key=lambda one: (one.at, one.log_id, one.email, one.arrived_at)):
            if (line.workspace_id, line.log_id, line.email) in self.seen:
                continue
            self.seen[line.workspace_id, line.log_id, line.email] = line.arrived_at
            heard = self.updates.get((line.workspace_id, None, line.email), [])
            person_id = (heard[-1].person_id if heard else None) or own_person(line)
            found.append((line, person_id))
            self._keep(line, person_id)
        return self._live(found, news, taken)

    def forget_lines_before(self, micros: int) -> None:
        self.seen = {line: at for line, at in self.seen.items() if at >= micros}

    def forget_addresses_before(self, micros: int) -> None:
        self.addresses = {whose: each for whose, each in self.addresses.items() if each.touched_at >= micros}

    def forget_persons_before(self, micros: int) -> None:
        for person in self.people.values():
            person.happened = {what: at for what, at in person.happened.items() if at >= micros}
            person.waiting = {email: line for email, line in person.waiting.items() if line.arrived_at >= micros}

    # Whose things are

    def _learn(self, update: IdentityUpdate, news: list[News], moves: list[Move]) -> None:
        node = node_of(update)
        heard = self.updates.setdefault(node, [])
        is_earlier = known_since(update) < self.since.get(node, known_since(update))
        since = self.since[node] = min(known_since(update), self.since.get(node, known_since(update)))
        before = heard[-1].person_id if heard else None
        former = [one.person_id for one in heard if one.person_id is not None]
        if heard and order_of(update) <= order_of(heard[-1]):
            if update.user_id is None or not is_earlier:
                return
            update = heard[-1]  # holds still, since earlier
        else:
            heard.append(update)
        workspace_id, today = update.workspace_id, update.person_id
        if update.user_id is not None:
            user = User(update.version, today or "", since, True)
            if before is not None and before != today:
                news.append(News((workspace_id, before), update.user_id, user._replace(is_theirs=False), []))
            if today is not None:
                others = [one for one in former if one != today]
                news.append(News((workspace_id, today), update.user_id, user, others))
        elif today is not None:
            address = self.addresses.get((workspace_id, update.email or ""))
            if address is not None and any(one != today for one in address.persons):
                moves.append(Move((workspace_id, update.email or ""), (workspace_id, today)))

    def _copy_of(self, move: Move) -> Address:
        address = self.addresses[move.address]
        former = [one for one in address.persons if one != move.person[1] and one not in address.named]
        return Address(former, set(), set(address.happened), dict(address.waiting), address.touched_at)

    def _keep(self, line: LogLine, person_id: str) -> None:
        """What moves along with the address."""
        address = self.addresses.setdefault((line.workspace_id, line.email), Address())
        is_news = False
        if person_id not in address.persons:
            address.persons.append(person_id)
            is_news = True
        if line.user_id is not None and person_id not in address.named:
            address.named.add(person_id)
            is_news = True
        what, email = what_happened(line), email_of(line)
        if what is not None and what not in address.happened:
            address.happened.add(what)
            is_news = True
            if what[0] == "click" and ("open", *email) not in address.happened:
                address.waiting.setdefault(email, line)
            elif what[0] == "click" or address.waiting.pop(email, None) is not None:
                address.happened.add(("reward", *email))
        if is_news:
            address.touched_at = max(address.touched_at, line.arrived_at)

    # What is lived

    def _live(
        self, lines: Sequence[tuple[LogLine, str]], news: Sequence[News], moves: Sequence[tuple[Move, Address]]
    ) -> list[Said]:
        self.said = []
        for person, _, _, former in news:
            for each in former:
                self.identified.add((self.shard_of(*person), person[0], each, None))
        for move, address in moves:
            self._take_over(move, address)
        events: list[tuple[int, int, str, str, News | tuple[LogLine, str]]] = []
        events += [(each.user.since, 0, each.user_id, "", each) for each in news]
        events += [(each[0].at, 1, each[0].log_id, each[0].email, each) for each in lines]
        for *_, event in sorted(events, key=lambda one: one[:4]):
            if isinstance(event, News):
                self._learn_user(event)
            else:
                self._tell(*event)
        for move, address in moves:
            self._identify_emailed(move.person, address.touched_at)
        return self.said

    def _take_over(self, move: Move, address: Address) -> None:
        person_id = move.person[1]
        person = self.people.setdefault(move.person, Person())
        person.former += [one for one in address.persons if one not in person.former]
        person.email = person.email or move.address[1]
        for what in address.happened:
            person.happened.setdefault(what, address.touched_at)
        for email, click in address.waiting.items():
            if self.implied:
                person.happened.setdefault(("open", *email), address.touched_at)
                person.happened.setdefault(("reward", *email), address.touched_at)
            else:
                person.waiting.setdefault(email, click)
        for email, click in sorted(person.waiting.items(), key=lambda one: (one[1].at, one[1].log_id, one[1].email)):
            if ("open", *email) in person.happened:
                del person.waiting[email]
                user_id = click.user_id or person.user_id
                if user_id is not None:
                    self._identify(move.person, user_id, click.email, click.at)
                self._reward(click, person_id, user_id, click.at, address.touched_at)

    def _tell(self, line: LogLine, person_id: str) -> None:
        whose = line.workspace_id, person_id
        person = self.people.setdefault(whose, Person())
        if person.user_id is None and line.user_id is not None:
            person.user_id, person.known_at = line.user_id, line.at
        user_id = line.user_id or person.user_id
        person.email = person.email or line.email
        if user_id is not None:
            self._identify(whose, user_id, line.email, line.at)
        if line.account_id is not None and (*whose, line.account_id) not in self.grouped:
            self.grouped.add((*whose, line.account_id))
            self._say("group", line, person_id, user_id, line.at)
        what, email = what_happened(line), email_of(line)
        if what is None:
            self._say(LINE_CALLS[line.event], line, person_id, user_id, line.at)
            return
        is_unique = note(person, what, line.arrived_at)
        if what[0] == "open":
            self._say("Email Opened", line, person_id, user_id, line.at, is_unique_open=is_unique)
            if is_unique:
                self._say("Email Unique Opens", line, person_id, user_id, line.at, is_unique_open=True)
            click = person.waiting.pop(email, None)
            if click is not None:
                self._reward(click, person_id, user_id, max(line.at, click.at), line.arrived_at)
            return
        if self.implied and note(person, ("open", *email), line.arrived_at):
            self._say("Email Unique Opens", line, person_id, user_id, line.at, is_unique_open=True, is_implied=True)
        self._say("Link Clicked", line, person_id, user_id, line.at, is_unique_click=is_unique)
        if is_unique:
            self._say("Unique Link Click", line, person_id, user_id, line.at, is_unique_click=True)
        if ("open", *email) in person.happened:
            self._reward(line, person_id, user_id, line.at, line.arrived_at)
        else:
            person.waiting.setdefault(email, line)

    def _reward(self, click: LogLine, person_id: str, user_id: str | None, at: int, noted_at: int) -> None:
        if note(self.people[click.workspace_id, person_id], ("reward", *email_of(click)), noted_at):
            kind = "Unique Link Click per Unique Open"
            self._say(kind, click, person_id, user_id, at, is_unique_open=True, is_unique_click=True)

    def _learn_user(self, news: News) -> None:
        person = self.people.setdefault(news.person, Person())
        before = person.users.get(news.user_id, news.user)
        user = max(before, news.user, key=lambda one: one.order)._replace(since=min(before.since, news.user.since))
        if person.users.get(news.user_id) == user:
            return
        person.users[news.user_id] = user
        if not user.is_theirs and person.user_id == news.user_id:
            person.user_id = None
        theirs = sorted((user.since, user_id) for user_id, user in person.users.items() if user.is_theirs)
        if person.user_id is None and theirs:
            person.known_at, person.user_id = theirs[0]
        if person.user_id == news.user_id:
            person.known_at = min(person.known_at, user.since)
        self._identify_emailed(news.person, news.user.since)

    def _identify_emailed(self, whose: Whose, at: int) -> None:
        person = self.people[whose]
        if person.user_id is not None and person.email is not None:
            self._identify(whose, person.user_id, person.email, at)

    def _identify(self, whose: Whose, user_id: str, email: str, at: int) -> None:
        person, shard, (workspace_id, person_id) = self.people[whose], self.shard_of(*whose), whose
        if user_id == person.user_id:
            at = min(at, person.known_at)
        if (shard, workspace_id, person_id, user_id) not in self.identified:
            self._say_identify(whose, shard, person_id, user_id, email, at)
        if user_id == person.user_id:
            for former in person.former:
                if not any(known[:3] == (shard, workspace_id, former) for known in self.identified):
                    self._say_identify(whose, shard, former, user_id, email, at)

    # What is said

    def _say_identify(self, whose: Whose, shard: int, person_id: str, user_id: str, email: str, at: int) -> None:
        self.identified.add((shard, whose[0], person_id, user_id))
        call = {
            "type": "identify",
            "messageId": message_id("identify", whose[0], person_id, user_id),
            "timestamp": written(at),
            "userId": user_id,
            "anonymousId": person_id,
            "traits": {"email": email},
        }
        self.said.append(Said(shard, whose[0], person_id, call))

    def _say(self, kind: str, line: LogLine, person_id: str, user_id: str | None, at: int, **flags: bool) -> None:
        call = render(kind, line, person_id, user_id, at, **flags)
        self.said.append(Said(self.shard_of(line.workspace_id, person_id), line.workspace_id, person_id, call))


def note(person: Person, what: Happened, at: int) -> bool:
    if what in person.happened:
        return False
    person.happened[what] = at
    return True


def node_of(update: IdentityUpdate) -> tuple[str, str | None, str | None]:
    return update.workspace_id, update.user_id, update.email


def order_of(update: IdentityUpdate) -> tuple[int, str]:
    return update.version, update.person_id or ""


def known_since(update: IdentityUpdate) -> int:
    try:
        since = datetime.fromisoformat(update.at) - datetime(1970, 1, 1, tzinfo=UTC)
    except ValueError:
        return update.version
    return since // timedelta(microseconds=1)


def own_person(line: LogLine) -> str:
    return line.person_id or person_id_of(line.email, line.workspace_id)


def email_of(line: LogLine) -> Email:
    return line.campaign_run_id, line.email_id


def what_happened(line: LogLine) -> Happened | None:
    """What a human did of which there is a first."""
    if line.is_machine:
        return None
    if line.event == "opened":
        return "open", *email_of(line)
    return ("click", *email_of(line), line.email_link_url) if line.event == "clicked" else None


def message_id(kind: str, *names: str | None) -> str:
    return str(uuid.uuid5(MESSAGE_NAMESPACE, json.dumps([kind, *names], separators=(",", ":"), ensure_ascii=False)))


def written(micros: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def without_none(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def render(
    kind: str,
    line: LogLine,
    person_id: str,
    user_id: str | None,
    at: int,
    is_unique_open: bool = False,
    is_unique_click: bool = False,
    is_implied: bool = False,
) -> dict[str, Any]:
    """A call of a line, as JSON. Fields that are absent are not in it."""
    workspace_id, run, email_id, link = line.workspace_id, line.campaign_run_id, line.email_id, line.email_link_url
    names: dict[str, Sequence[str | None]] = {
        "Email Unique Opens": (person_id, run, email_id),
        "Unique Link Click per Unique Open": (person_id, run, email_id),
        "Unique Link Click": (person_id, run, email_id, link),
        "group": (person_id, line.account_id),
    }
    context: dict[str, Any] = dict(without_none(ip=line.ip, userAgent=line.user_agent))
    call: dict[str, Any] = {
        "type": kind if kind in ("page", "group") else "track",
        "messageId": message_id(kind, workspace_id, *names.get(kind, (line.log_id, line.email))),
        "timestamp": written(at),
    }
    if user_id is None:
        call["anonymousId"] = person_id
        context["traits"] = {"email": line.email}
    else:
        call["userId"] = user_id
    about = {"email_id": email_id, "campaign_id": line.campaign_id, "campaign_run_id": run}
    about["campaign_name"] = line.campaign_name
    if kind == "group":
        call |= {"groupId": line.account_id, "traits": without_none(name=line.account_name)}
    elif kind == "page":
        page = page_of(link)
        call["properties"] = page | without_none(**about)
        if page:
            context["page"] = page
    else:
        call["event"] = kind
        call["properties"] = {
            "event": line.event,
            "userId": line.email,
            **about,
            "email_subject": line.email_subject,
            "email_link_url": link,
            "is_unique_open": is_unique_open,
            "is_unique_click": is_unique_click,
        }
        if line.is_machine:
            context["machine_open" if line.event == "opened" else "bot_click"] = True
        if is_implied:
            context["implied_open"] = True
    return call | ({"context": context} if context else {})


def page_of(url: str | None) -> dict[str, str]:
    if url is None:
        return {}
    parts = urlsplit(url)
    return without_none(url=url, path=parts.path or None, search="?" + parts.query if parts.query else None)
