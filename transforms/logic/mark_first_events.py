"""Which opens and clicks are a person's first, and when a person is to be identified."""

from collections import deque
from collections.abc import Callable, Iterable
from operator import attrgetter

import msgspec

from schemas.email_calls import EmailCall, EmailCallKind
from schemas.email_histories import KnownUser, MovedHistory, PersonBlock
from schemas.email_logs import EmailEvent, LogLine
from transforms.logic.email_facts import (
    IDENTIFIED,
    Facts,
    MakeFact,
    click_fact,
    digest,
    group_fact,
    identified_fact,
    of_person,
    open_fact,
    reward_fact,
)

_REPORTED_AS = {
    EmailEvent.DELIVERED.value: EmailCallKind.EMAIL_DELIVERED.value,
    EmailEvent.OPENED.value: EmailCallKind.EMAIL_OPENED.value,
    EmailEvent.CLICKED.value: EmailCallKind.LINK_CLICKED.value,
    EmailEvent.BOUNCED.value: EmailCallKind.EMAIL_BOUNCED.value,
    EmailEvent.REPORTED_AS_SPAM.value: EmailCallKind.EMAIL_REPORTED_AS_SPAM.value,
    EmailEvent.UNSUBSCRIBED.value: EmailCallKind.EMAIL_UNSUBSCRIBED.value,
    EmailEvent.PAGE_VIEWED.value: EmailCallKind.PAGE.value,
}


# An enum's member is looked up anew each time; these are asked for each line.
_OPENED = EmailEvent.OPENED.value
_ENGAGEMENTS = frozenset({_OPENED, EmailEvent.CLICKED.value})
_EMAIL_OPENED, _EMAIL_UNIQUE_OPENS = EmailCallKind.EMAIL_OPENED.value, EmailCallKind.EMAIL_UNIQUE_OPENS.value
_LINK_CLICKED, _UNIQUE_LINK_CLICK = EmailCallKind.LINK_CLICKED.value, EmailCallKind.UNIQUE_LINK_CLICK.value
_REWARD = EmailCallKind.UNIQUE_LINK_CLICK_PER_UNIQUE_OPEN.value
_GROUP, _IDENTIFY = EmailCallKind.GROUP.value, EmailCallKind.IDENTIFY.value


class _Person(msgspec.Struct, array_like=True):
    """What is remembered of a person beside their facts."""

    workspace_id: str
    person_id: str
    email: str | None = None
    """The address of the first call that was made of them; None while there was none."""
    user_id: str | None = None
    """What their calls carry."""
    known_at: int = 0
    """Since when user_id is known, in microseconds since 1970."""
    users: list[KnownUser] = []
    """Of each user_id the latest news."""
    former: list[str] = []
    """Other persons, now the same, under whose ids calls were sent."""


class _Record(msgspec.Struct, array_like=True):
    facts: bytes
    said: bytes
    awaiting: list[tuple[bytes, LogLine]]
    persons: list[_Person]
    """As they are now."""


_line_order = attrgetter("at", "log_id", "email")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Record)


class PersonHistories:
    """Remembers, for the persons of one shard, what was the first of its kind, and who was identified as whom.

    16 bytes each: an email of a run that was opened, one that was opened and clicked, a link that was clicked, an
    account, an identification. The whole line of the first click while its email has no open. A few texts a person.

    `make_fact`: `in_full` where nothing is remembered and no history moves, in a run over files.
    """

    def __init__(self, *, implied_open_on_click: bool, make_fact: MakeFact = digest) -> None:
        self._implied_open_on_click = implied_open_on_click
        self._make_fact = make_fact
        self._facts = Facts()
        self._said = Facts()
        """What is said of a person once for ever."""
        self._awaiting: dict[bytes, LogLine] = {}
        """The open that is missing -> the first click."""
        self._persons: dict[tuple[str, str], _Person] = {}
        self._new_awaiting: list[tuple[bytes, LogLine]] = []
        self._touched: dict[tuple[str, str], _Person] = {}
        self._identified: dict[tuple[str, str], str] = {}
        """Persons who have not changed since they were identified as this user: each of their lines asks again."""

    @property
    def facts_remembered(self) -> int:
        """How many opens, clicks and rewards: what can be forgotten."""
        return len(self._facts)

    @property
    def oldest_fact(self) -> int:
        """When the first of them was noted, in microseconds since 1970. Raises ValueError if there is none."""
        return self._facts.oldest

    def advance(self, block: PersonBlock) -> list[EmailCall]:
        """The calls to be made of a block, in the order in which things happened."""
        calls: list[EmailCall] = []
        for user in block.users:
            for former in user.former:
                self._say(user.workspace_id, former, IDENTIFIED)
        for history in block.histories:
            self._take_over(history, calls)
        users = deque(sorted(block.users, key=attrgetter("at", "user_id")))
        for line in sorted(block.lines, key=_line_order):
            while users and users[0].at <= line.at:  # a user_id first that is known from the same moment on
                self._learn_user(users.popleft(), calls)
            self._tell_line(line, calls)
        for user in users:
            self._learn_user(user, calls)
        for history in block.histories:
            person = self._person(history.workspace_id, history.person_id)
            self._identify_emailed(person, history.touched_at, calls)
        return calls

    def take_record(self) -> bytes:
        """A log record of what is new since the last one; empty if nothing is."""
        record = _Record(
            self._facts.take_new(), self._said.take_new(), self._new_awaiting, list(self._touched.values())
        )
        self._new_awaiting, self._touched = [], {}
        is_new = record.facts or record.said or record.awaiting or record.persons
        return _ENCODER.encode(record) if is_new else b""

    def replay(self, log: Iterable[bytes]) -> None:
        """Remember what a log holds."""
        for encoded in log:
            record = _DECODER.decode(encoded)
            self._facts.replay(record.facts)
            self._said.replay(record.said)
            for person in record.persons:
                self._persons[person.workspace_id, person.person_id] = person
            for opened, line in record.awaiting:
                self._awaiting.setdefault(opened, line)
        self._awaiting = {opened: line for opened, line in self._awaiting.items() if opened not in self._facts}

    def forget_before(self, micros: int) -> bytes:
        """Forget what was noted before; a log record of the rest."""
        self._facts.forget_before(micros)
        self._said.forget_before(0)  # nothing: it is only written down again
        self._awaiting = {opened: line for opened, line in self._awaiting.items() if line.arrived_at >= micros}
        self._new_awaiting, self._touched = list(self._awaiting.items()), dict(self._persons)
        return self.take_record()

    def _tell_line(self, line: LogLine, calls: list[EmailCall]) -> None:
        person = self._person(line.workspace_id, line.person_id or "")
        user_id = line.user_id or person.user_id
        if user_id is not None and person.user_id is None:
            self._choose(person, user_id, line.at)
        if person.email is None:
            person.email = line.email
            self._touch(person)
        if user_id is not None:
            self._identify(person, user_id, line.email, line.at, calls, line.connection_id)
        if line.account_id is not None and self._say(
            line.workspace_id, person.person_id, group_fact(line, self._make_fact)
        ):
            calls.append(EmailCall(_GROUP, line, user_id, line.at))
        if line.is_machine or line.event not in _ENGAGEMENTS:
            calls.append(EmailCall(_REPORTED_AS[line.event], line, user_id, line.at))
        elif line.event == _OPENED:
            self._tell_open(line, user_id, calls)
        else:
            self._tell_click(line, user_id, calls)

    def _tell_open(self, line: LogLine, user_id: str | None, calls: list[EmailCall]) -> None:
        opened = self._of_own(open_fact, line)
        is_first = self._facts.note(opened, line.arrived_at)
        calls.append(EmailCall(_EMAIL_OPENED, line, user_id, line.at, is_unique_open=is_first))
        if is_first:
            calls.append(EmailCall(_EMAIL_UNIQUE_OPENS, line, user_id, line.at, is_unique_open=True))
            click = self._awaiting.pop(opened, None)
            if click is not None:
                self._reward(click, user_id, max(line.at, click.at), line.arrived_at, calls)

    def _tell_click(self, line: LogLine, user_id: str | None, calls: list[EmailCall]) -> None:
        opened = self._of_own(open_fact, line)
        if self._implied_open_on_click and self._facts.note(opened, line.arrived_at):
            calls.append(
                EmailCall(_EMAIL_UNIQUE_OPENS, line, user_id, line.at, is_unique_open=True, is_implied_open=True)
            )
        is_first = self._facts.note(self._of_own(click_fact, line), line.arrived_at)
        calls.append(EmailCall(_LINK_CLICKED, line, user_id, line.at, is_unique_click=is_first))
        if is_first:
            calls.append(EmailCall(_UNIQUE_LINK_CLICK, line, user_id, line.at, is_unique_click=True))
        if opened in self._facts:
            self._reward(line, user_id, line.at, line.arrived_at, calls)
        else:
            self._await_open(opened, line)

    def _reward(self, click: LogLine, user_id: str | None, at: int, noted_at: int, calls: list[EmailCall]) -> None:
        if self._facts.note(self._of_own(reward_fact, click), noted_at):
            calls.append(EmailCall(_REWARD, click, user_id, at, is_unique_open=True, is_unique_click=True))

    def _await_open(self, opened: bytes, click: LogLine) -> None:
        if opened not in self._awaiting:
            self._awaiting[opened] = click
            self._new_awaiting.append((opened, click))

    def _say(self, workspace_id: str, person_id: str, fact: bytes) -> bool:
        """Whether it is still to be said of this person."""
        return self._said.note(of_person(workspace_id, person_id, fact, self._make_fact), 0)

    def _learn_user(self, news: KnownUser, calls: list[EmailCall]) -> None:
        person = self._person(news.workspace_id, news.person_id)
        before = next((one for one in person.users if one.user_id == news.user_id), None)
        latest = news
        if before is not None:
            is_old = _news_order(news) <= _news_order(before)
            if is_old and news.at >= before.at:
                return
            latest = msgspec.structs.replace(before if is_old else news, at=min(news.at, before.at))
        person.users = [*(one for one in person.users if one is not before), latest]
        self._touch(person)
        if not latest.is_theirs and person.user_id == news.user_id:
            person.user_id = None
        theirs = [one for one in person.users if one.is_theirs]
        if person.user_id is None and theirs:
            first = min(theirs, key=lambda one: (one.at, one.user_id))
            self._choose(person, first.user_id, first.at)
        if person.user_id == news.user_id:
            person.known_at = min(person.known_at, latest.at)
        self._identify_emailed(person, news.at, calls)

    def _choose(self, person: _Person, user_id: str, at: int) -> None:
        person.user_id, person.known_at = user_id, at
        self._touch(person)

    def _identify_emailed(self, person: _Person, at: int, calls: list[EmailCall]) -> None:
        if person.user_id is not None and person.email is not None:
            self._identify(person, person.user_id, person.email, at, calls)

    def _identify(
        self,
        person: _Person,
        user_id: str,
        email: str,
        at: int,
        calls: list[EmailCall],
        connection_id: str | None = None,
    ) -> None:
        """Once: this person by this user_id; by the person's own one also the persons that it was, unless known.

        `connection_id`: of the line that it takes to know, if it takes one.
        """
        workspace_id, person_id = person.workspace_id, person.person_id
        if self._identified.get((workspace_id, person_id)) == user_id:
            return
        self._identified[workspace_id, person_id] = user_id
        identified = identified_fact(user_id, self._make_fact)
        facts = [(person_id, identified)]
        if user_id == person.user_id:
            at = min(at, person.known_at)
            facts += [(former, IDENTIFIED) for former in person.former]
        for whom, fact in facts:
            if self._say(workspace_id, whom, fact):
                self._say(workspace_id, whom, IDENTIFIED)
                self._say(workspace_id, whom, identified)
                about = LogLine(workspace_id, "", "", at, at, email, person_id=whom, connection_id=connection_id)
                calls.append(EmailCall(_IDENTIFY, about, user_id, at))

    def _take_over(self, history: MovedHistory, calls: list[EmailCall]) -> None:
        """Live through what another person has lived who turns out to be this one."""
        workspace_id, person_id = history.workspace_id, history.person_id
        person = self._person(workspace_id, person_id)
        person.former = [*person.former, *(one for one in history.former if one not in person.former)]
        person.email = person.email or history.email
        self._touch(person)
        for fact in history.facts:
            self._facts.note(of_person(workspace_id, person_id, fact), history.touched_at)
        for click in history.awaiting:
            own = msgspec.structs.replace(click, person_id=person_id)
            opened = self._of_own(open_fact, own)
            if self._implied_open_on_click:  # it was an open, and has been rewarded
                self._facts.note(opened, history.touched_at)
                self._facts.note(self._of_own(reward_fact, own), history.touched_at)
            else:
                self._await_open(opened, own)
        opens = [
            of_person(workspace_id, person_id, fact) for fact in (*history.facts, *map(open_fact, history.awaiting))
        ]
        clicks = [self._awaiting.pop(opened) for opened in opens if opened in self._awaiting and opened in self._facts]
        for click in sorted(clicks, key=_line_order):  # the first of them identifies
            user_id = click.user_id or person.user_id
            if user_id is not None:
                self._identify(person, user_id, click.email, click.at, calls)
            self._reward(click, user_id, click.at, history.touched_at, calls)

    def _of_own(self, fact: Callable[[LogLine, MakeFact], bytes], line: LogLine) -> bytes:
        """The fact of the line about its person."""
        make = self._make_fact
        return of_person(line.workspace_id, line.person_id or "", fact(line, make), make)

    def _person(self, workspace_id: str, person_id: str) -> _Person:
        person = self._persons.get((workspace_id, person_id))
        if person is None:
            person = self._persons[workspace_id, person_id] = _Person(workspace_id, person_id)
        return person

    def _touch(self, person: _Person) -> None:
        self._touched[person.workspace_id, person.person_id] = person
        self._identified.pop((person.workspace_id, person.person_id), None)


def _news_order(news: KnownUser) -> tuple[int, str]:
    """As updates are ordered: by version, then by whose the user_id is."""
    return news.version, news.person_id if news.is_theirs else news.holder
