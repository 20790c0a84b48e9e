"""Whose an email address is, and what moves along when it becomes another person's."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from schemas.email_histories import KnownUser, MovedHistory, PersonBlock
from schemas.email_logs import EmailEvent, LineHead, LogBlock, LogLine
from schemas.identities import IdentifierType, Node
from schemas.identity_updates import IdentityUpdate
from transforms.logic.email_facts import Facts, click_fact, of_address, open_fact, repeat_fact, reward_fact
from transforms.logic.name_persons import person_id_of_email
from transforms.logic.read_timestamps import read_timestamp

Address: TypeAlias = tuple[str, str]
"""workspace_id and email."""

# What is longer is not kept in memory: an address of a sender's making may be as long as a message.
MAX_REMEMBERED_CHARACTERS = 400

# An enum's member is looked up anew each time; these are asked for each line.
_EMAIL, _USER_ID = IdentifierType.EMAIL.value, IdentifierType.USER_ID.value
_OPENED = EmailEvent.OPENED.value
_ENGAGEMENTS = frozenset({_OPENED, EmailEvent.CLICKED.value})


def update_node(update: IdentityUpdate) -> Node:
    """The identifier that an update is about."""
    if update.user_id is not None:
        return update.workspace_id, _USER_ID, update.user_id
    return update.workspace_id, _EMAIL, update.email or ""


def line_node(line: LogLine) -> Node:
    """The identifier by which a line's person is looked up."""
    return line.workspace_id, _EMAIL, line.email


def own_person(line: LineHead) -> str:
    """The person as far as the line tells: its person_id, else the one that a person of this email alone has."""
    if line.person_id:
        return line.person_id
    is_short = len(line.workspace_id) + len(line.email) <= MAX_REMEMBERED_CHARACTERS
    return (remembered_person if is_short else person_id_of_email)(line.workspace_id, line.email)


remembered_person = lru_cache(maxsize=65_536)(person_id_of_email)  # an address comes again and again


def settle_updates(updates: Iterable[IdentityUpdate]) -> tuple[dict[Address, str], list[KnownUser]]:
    """Whose everything is in the end: the person of each address, and the users of each person since they are known."""
    latest: dict[Node, IdentityUpdate] = {}
    since: dict[Node, int] = {}
    for update in updates:
        node = update_node(update)
        known = latest.get(node)
        if known is None or _version_order(update) > _version_order(known):
            latest[node] = update
        since[node] = min(since.get(node, _known_at(update)), _known_at(update))
    persons: dict[Address, str] = {}
    users = []
    for node, update in latest.items():
        if update.person_id is None:
            continue
        if update.email is not None:
            persons[update.workspace_id, update.email] = update.person_id
        elif update.user_id is not None:
            users.append(KnownUser(update.workspace_id, update.person_id, update.user_id, update.version, since[node]))
    return persons, users


def _version_order(update: "IdentityUpdate | _KnownIdentifier") -> tuple[int, str]:
    """Two runs over files may give one version to different persons: then the greater id holds, in whichever order."""
    return update.version, update.person_id or ""


class FoundInFiles(NamedTuple):
    """Lines of files, which stay as they are encoded: MessagePack of a `LogLine`."""

    lines: list[msgspec.Raw]
    """Each once."""
    person_ids: list[str]
    """Of each of them."""
    repeats: list[msgspec.Raw]


def find_in_files(sealed: Sequence[msgspec.Raw], persons: Mapping[Address, str]) -> FoundInFiles:
    """All lines of some addresses to their persons; `persons`: what updates say.

    Where they say nothing the person is `own_person`, and the line stays as it is.
    """
    heads = list(map(_HEAD_DECODER.decode, sealed))
    rows = _find_first_copies(heads, sealed)
    lines, person_ids = [sealed[row] for row in rows], [own_person(heads[row]) for row in rows]
    if persons:  # what they say wins over the line, which may be older
        for place, row in enumerate(rows):
            person_id = persons.get((heads[row].workspace_id, heads[row].email), person_ids[place])
            if person_id != person_ids[place]:
                lines[place], person_ids[place] = _give_person(lines[place], person_id), person_id
    repeats = set(range(len(sealed))).difference(rows) if len(rows) < len(sealed) else ()
    return FoundInFiles(lines, person_ids, [sealed[row] for row in sorted(repeats)])


def _give_person(sealed: msgspec.Raw, person_id: str) -> msgspec.Raw:
    line = _LINE_DECODER.decode(sealed)
    line.person_id = person_id
    return msgspec.Raw(_ENCODER.encode(line))


def _find_first_copies(heads: Sequence[LineHead], sealed: Sequence[msgspec.Raw]) -> Collection[int]:
    """The rows of the lines that are kept: of those that repeat each other the first."""
    kept: dict[tuple[str, str, str], int] = {}
    for row, head in enumerate(heads):
        key = head.workspace_id, head.log_id, head.email
        same = kept.setdefault(key, row)
        if same != row:
            kept[key] = min(same, row, key=lambda one: _copy_order(heads[one], sealed[one]))
    return kept.values()


def _copy_order(head: LineHead, sealed: msgspec.Raw) -> tuple[int, bytes, int]:
    """The first copy of a line is kept. What copies of one time say may differ, and must not depend on the files."""
    said = _LINE_DECODER.decode(sealed)
    said.arrived_at = 0
    return head.at, _ENCODER.encode(said), head.arrived_at


def _happening_order(line: LogLine) -> tuple[int, str, str, int]:
    return line.at, line.log_id, line.email, line.arrived_at


class FoundRecipients(NamedTuple):
    """What a block of lines and updates comes to."""

    block: PersonBlock
    repeats: list[LogLine]
    """Lines that have come before."""


class _KnownIdentifier(msgspec.Struct, array_like=True, gc=False):
    """What updates have said of an identifier."""

    workspace_id: str
    identifier_type: str
    identifier: str
    person_id: str | None
    version: int
    since: int
    former: list[str]


class _History(msgspec.Struct, array_like=True):
    """What is remembered of an address."""

    workspace_id: str
    email: str
    persons: list[str] = []
    """Under whose ids calls were sent."""
    facts: list[bytes] = []
    awaiting: list[LogLine] = []
    touched_at: int = 0
    """When the last line came that added something, in microseconds since 1970."""
    identified: list[str] = []
    """Those of the persons whose lines said who they are: calls were sent under a user_id, too."""


class _Record(msgspec.Struct, array_like=True):
    seen: bytes = b""
    known: list[_KnownIdentifier] = []
    histories: list[_History] = []
    """What has come to them."""


_NO_HISTORY = _History("", "")

_ENCODER = msgspec.msgpack.Encoder()
_HEAD_DECODER = msgspec.msgpack.Decoder(LineHead)
_LINE_DECODER = msgspec.msgpack.Decoder(LogLine)
_DECODER = msgspec.msgpack.Decoder(_Record)


class AddressBook:
    """Remembers, for the identifiers of one shard, whose they are, which lines have come, and what happened at each.

    What happened is kept so that it can move along when an address becomes another person's: 16 bytes an email opened
    and 16 a link clicked, and the whole line of a first click while its email has no open.
    """

    def __init__(self) -> None:
        self._seen = Facts()
        self._known: dict[Node, _KnownIdentifier] = {}
        self._histories: dict[Address, _History] = {}
        """Without what awaits an open: that stands below."""
        self._awaiting: dict[Address, dict[bytes, LogLine]] = {}
        """The open that is missing -> the first click. A list would be searched for each further click."""
        self._has: set[bytes] = set()
        """The facts of all histories, as `of_address` makes them."""

    @property
    def lines_remembered(self) -> int:
        """How many lines a repeat of which would be recognised."""
        return len(self._seen)

    def find(self, block: LogBlock) -> tuple[FoundRecipients, bytes]:
        """What the block means for persons; and the log record of what is new, empty if nothing is."""
        record = _Record()
        found = PersonBlock([])
        for update in sorted(block.updates, key=_version_order):
            self._learn(update, found, record)
        new: dict[Address, _History] = {}
        repeats = []
        for line in sorted(block.lines, key=_happening_order):
            if not self._seen.note(repeat_fact(line), line.arrived_at):
                repeats.append(line)
                continue
            known = self._known.get(line_node(line))
            line.person_id = (known.person_id if known else None) or own_person(line)
            found.lines.append(line)
            self._remember(line, new)
        record.seen = self._seen.take_new()
        record.histories = list(new.values())
        is_new = record.seen or record.known or record.histories
        return FoundRecipients(found, repeats), _ENCODER.encode(record) if is_new else b""

    def replay(self, log: Iterable[bytes]) -> None:
        """Remember what a log holds."""
        for encoded in log:
            record = _DECODER.decode(encoded)
            self._seen.replay(record.seen)
            for known in record.known:
                self._known[known.workspace_id, known.identifier_type, known.identifier] = known
            for new in record.histories:
                self._extend(new)

    def forget_before(self, lines_before: int, histories_before: int | None) -> bytes:
        """Forget lines that came before, and histories to which nothing was added since; a log record of the rest.

        Both in microseconds since 1970; None forgets no history.
        """
        self._seen.forget_before(lines_before)
        histories = [replace(each, awaiting=self._list_awaiting(each)) for each in self._histories.values()]
        if histories_before is not None:
            histories = [each for each in histories if each.touched_at >= histories_before]
            self._histories, self._awaiting, self._has = {}, {}, set()
            for history in histories:
                self._extend(history)
        return _ENCODER.encode(_Record(self._seen.take_new(), list(self._known.values()), histories))

    def _learn(self, update: IdentityUpdate, found: PersonBlock, record: _Record) -> None:
        node = update_node(update)
        before = self._known.get(node)
        since = _known_at(update)
        if before is None:
            known = _KnownIdentifier(*node, update.person_id, update.version, since, [])
        elif _version_order(update) > _version_order(before):
            former = before.former
            if before.person_id is not None and before.person_id != update.person_id:
                former = [*(one for one in former if one != before.person_id), before.person_id]
            since = min(since, before.since)
            known = _KnownIdentifier(*node, update.person_id, update.version, since, former)
        elif update.user_id is not None and since < before.since:  # an older one still says since when it is known
            known = replace(before, since=since)
        else:
            return
        self._known[node] = known
        record.known.append(known)
        if update.user_id is not None:
            self._tell_user(known, before, found)
        else:
            self._move(known, found)

    def _tell_user(self, known: _KnownIdentifier, before: _KnownIdentifier | None, found: PersonBlock) -> None:
        about = (known.identifier, known.version, known.since)
        if before is not None and before.person_id is not None and before.person_id != known.person_id:
            holder = known.person_id or ""
            found.users.append(KnownUser(known.workspace_id, before.person_id, *about, is_theirs=False, holder=holder))
        if known.person_id is not None:
            former = [one for one in known.former if one != known.person_id]
            found.users.append(KnownUser(known.workspace_id, known.person_id, *about, former=former))

    def _move(self, known: _KnownIdentifier, found: PersonBlock) -> None:
        history = self._histories.get((known.workspace_id, known.identifier))
        if history is None or known.person_id is None:
            return
        others = [one for one in history.persons if one != known.person_id]
        if others:
            found.histories.append(
                MovedHistory(
                    known.workspace_id,
                    known.person_id,
                    [one for one in others if one not in history.identified],
                    history.email,
                    list(history.facts),
                    self._list_awaiting(history),
                    history.touched_at,
                )
            )

    def _remember(self, line: LogLine, new: dict[Address, _History]) -> None:
        """Note what the line adds to the history of its address, also in what is to be written down."""
        address = line.workspace_id, line.email
        person_id = line.person_id or ""
        history = self._histories.get(address, _NO_HISTORY)
        is_new = person_id not in history.persons
        identifies = line.user_id is not None and person_id not in history.identified
        is_engaged = not line.is_machine and line.event in _ENGAGEMENTS
        facts, awaiting = self._find_new_facts(line) if is_engaged else ([], [])
        if is_new or identifies or facts:  # most lines add nothing
            persons, identified = [person_id] if is_new else [], [person_id] if identifies else []
            addition = _History(*address, persons, facts, awaiting, line.arrived_at, identified)
            self._extend(addition)
            written = new.setdefault(address, _History(*address))
            _add(written, addition)
            written.awaiting += awaiting

    def _find_new_facts(self, line: LogLine) -> tuple[list[bytes], list[LogLine]]:
        """What an open or a click of a human adds: facts, and itself if it is a click that waits for an open."""
        opened = open_fact(line)
        fact = opened if line.event == _OPENED else click_fact(line)
        if self._knows(line, fact):
            return [], []
        is_awaited = opened in self._awaiting.get((line.workspace_id, line.email), ())
        has_click = is_awaited or fact is not opened
        has_open = fact is opened or self._knows(line, opened)
        if has_click and has_open:
            rewarded = reward_fact(line)
            return ([fact] if self._knows(line, rewarded) else [fact, rewarded]), []
        return [fact], ([] if has_open or is_awaited else [line])

    def _knows(self, line: LogLine, fact: bytes) -> bool:
        return of_address(line.workspace_id, line.email, fact) in self._has

    def _extend(self, addition: _History) -> None:
        address = addition.workspace_id, addition.email
        history = self._histories.setdefault(address, _History(*address))
        _add(history, addition)
        self._has.update(of_address(*address, fact) for fact in addition.facts)
        awaiting = self._awaiting.get(address)
        if awaiting is not None:
            for fact in addition.facts:
                awaiting.pop(fact, None)
            if not awaiting:
                del self._awaiting[address]
        for click in addition.awaiting:
            opened = open_fact(click)
            if of_address(*address, opened) not in self._has:
                self._awaiting.setdefault(address, {}).setdefault(opened, click)

    def _list_awaiting(self, history: _History) -> list[LogLine]:
        return list(self._awaiting.get((history.workspace_id, history.email), {}).values())


def _add(history: _History, addition: _History) -> None:
    """All but what awaits an open."""
    history.persons += addition.persons
    history.facts += addition.facts
    history.identified += addition.identified
    history.touched_at = max(history.touched_at, addition.touched_at)


def _known_at(update: IdentityUpdate) -> int:
    at = read_timestamp(update.at)
    return update.version if at is None else at
