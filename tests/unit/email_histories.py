"""Random logs and news of who is who, and the steps of the email pipeline without Beam, by which they are heard."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
from hypothesis import strategies as st

from schemas.email_calls import EmailCall
from schemas.email_histories import PersonBlock
from schemas.email_logs import LogBlock, LogLine
from schemas.identity_updates import IdentityUpdate
from tests.factories import NOW, SECOND, json_of
from tests.unit.email_oracle import Said
from tests.unit.identity_histories import Choose, choosers
from tests.unit.identity_oracle import person_id_of
from transforms.logic.find_recipients import (
    Address,
    AddressBook,
    find_in_files,
    line_node,
    own_person,
    settle_updates,
    update_node,
)
from transforms.logic.make_call import derive_message_id
from transforms.logic.mark_first_events import PersonHistories

WORKSPACES = ("w1", "w1", "w1", "w2")
EMAILS = ("a@x", "b@x", "ü@x")
PERSONS = ("P1", "P2", "P3")
USERS = ("u1", "u2", "ü")

# Joined by whatever may stand between them, two of these would look like two others.
RUNS = ("r", "r", "r\ne", None, "")
EMAIL_IDS = ("e", "e", "e\ne", None)
LINKS = ("https://x/1?a=1", "https://x/2", None)

EVENTS = (*("opened", "clicked") * 4, "delivered", "bounced", "reported_as_spam", "unsubscribed", "page_viewed")


class Block(NamedTuple):
    """What arrives at once."""

    lines: list[LogLine]
    updates: list[IdentityUpdate]


def line(log_id: str = "l1", event: str = "opened", **fields: Any) -> LogLine:
    """What happened to a@x in an email of a run."""
    defaults = {"at": NOW, "arrived_at": NOW, "email": "a@x", "campaign_run_id": "r", "email_id": "e"}
    return LogLine(**{"workspace_id": "w1", "log_id": log_id, "event": event, **defaults, **fields})


def update(person_id: str | None, version: int = NOW, **identifier: Any) -> IdentityUpdate:
    """A user_id or an email is this person's since `version`."""
    fields = {"workspace_id": "w1", "user_id": None, "email": None, "at": written(version), **identifier}
    return IdentityUpdate(person_id=person_id, version=version, **fields)


def written(micros: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat()


def random_line(choose: Choose, log_id: str, persons: Sequence[str | None]) -> LogLine:
    event = choose(EVENTS)
    return line(
        log_id,
        event,
        workspace_id=choose(WORKSPACES),
        at=NOW + choose(range(8)) * SECOND,
        email=choose(EMAILS),
        person_id=choose(persons),
        user_id=choose((None, None, None, None, *USERS)),
        email_id=choose(EMAIL_IDS),
        campaign_run_id=choose(RUNS),
        email_link_url=choose(LINKS) if event in ("clicked", "page_viewed") else None,
        is_machine=event in ("opened", "clicked") and choose((False, False, False, True)),
        account_id=choose((None, None, None, "c1", "c2")),
    )


def random_update(choose: Choose) -> IdentityUpdate:
    """Any version of it may come, and more than once, also for different persons."""
    workspace_id, version = choose(WORKSPACES), NOW + choose(range(10)) * SECOND
    is_user = choose((True, False))
    identifier = choose(USERS) if is_user else choose(EMAILS)
    person_id = choose((*PERSONS, *PERSONS, person_id_of("a@x", workspace_id), None))
    return update(
        person_id, version, workspace_id=workspace_id, **({"user_id": identifier} if is_user else {"email": identifier})
    )


@st.composite
def logs(draw: st.DrawFn, most: int = 14, updates: int = 6) -> list[Block]:
    """Blocks in the order of their arrival; some lines come again in later ones."""
    choose = draw(choosers())
    persons = draw(st.sampled_from(((None,), (None, None, "P1", "P2"))))
    lines = [random_line(choose, f"l{number}", persons) for number in range(draw(st.integers(0, most)))]
    are_ids_shared: bool = draw(st.booleans())
    if lines and are_ids_shared:
        lines[-1].log_id = lines[0].log_id
        if draw(st.booleans()):
            lines[-1].workspace_id, lines[0].workspace_id = "w1", "w2"
        else:
            lines[-1].email, lines[0].email = "a@x", "b@x"
    news = [random_update(choose) for _ in range(draw(st.integers(0, updates)))]
    shuffled = random.Random(draw(st.integers(0, 2**32)))
    arrived: list[LogLine | IdentityUpdate] = [*lines, *news]
    arrived += [repeat(shuffled, arrived) for _ in range(draw(st.integers(0, 6))) if arrived]
    shuffled.shuffle(arrived)
    arrived = [
        msgspec.structs.replace(one, arrived_at=NOW + number * SECOND) if isinstance(one, LogLine) else one
        for number, one in enumerate(arrived)
    ]
    cuts = sorted(draw(st.lists(st.integers(0, len(arrived)), min_size=1, max_size=8)))
    return [split_kinds(arrived[start:end]) for start, end in pairwise([0, *cuts, len(arrived)])]


def repeat(shuffled: random.Random, arrived: Sequence[LogLine | IdentityUpdate]) -> LogLine | IdentityUpdate:
    """Again, perhaps with another idea of when it happened."""
    one = shuffled.choice(arrived)
    if isinstance(one, LogLine) and shuffled.random() < 0.3:
        return msgspec.structs.replace(one, at=NOW + shuffled.randrange(8) * SECOND)
    return one


def split_kinds(arrived: Iterable[LogLine | IdentityUpdate]) -> Block:
    block = Block([], [])
    for one in arrived:
        if isinstance(one, LogLine):
            block.lines.append(one)
        else:
            block.updates.append(one)
    return block


def as_said(shard: int, calls: Iterable[EmailCall]) -> Iterator[Said]:
    for call in calls:
        payload = json.loads(json_of(call))

        assert payload["messageId"] == derive_message_id(call)

        yield Said(shard, call.line.workspace_id, call.line.person_id or "", payload)


class Shards:
    """Where things are at home."""

    def __init__(self, homes: int, persons: int) -> None:
        self.homes = homes
        self.persons = persons

    def of_person(self, workspace_id: str, person_id: str) -> int:
        return crc32(f"{workspace_id}/{person_id}".encode()) % self.persons

    def of_node(self, node: tuple[str, ...]) -> int:
        return crc32("/".join(node).encode()) % self.homes

    def send_home(self, block: Block) -> dict[int, LogBlock]:
        homes: dict[int, LogBlock] = {}
        for one in block.lines:
            homes.setdefault(self.of_node(line_node(one)), LogBlock([], [])).lines.append(one)
        for news in block.updates:
            homes.setdefault(self.of_node(update_node(news)), LogBlock([], [])).updates.append(news)
        return homes

    def spread(self, block: PersonBlock) -> dict[int, PersonBlock]:
        """As it travels: nothing is shared with who sends it."""
        spread: dict[int, PersonBlock] = {}
        for one in block.lines:
            assert one.person_id is not None
            self._at(spread, one.workspace_id, one.person_id).lines.append(one)
        for user in block.users:
            self._at(spread, user.workspace_id, user.person_id).users.append(user)
        for history in block.histories:
            self._at(spread, history.workspace_id, history.person_id).histories.append(history)
        return {shard: travel(each) for shard, each in spread.items()}

    def _at(self, spread: dict[int, PersonBlock], workspace_id: str, person_id: str) -> PersonBlock:
        return spread.setdefault(self.of_person(workspace_id, person_id), PersonBlock([], [], []))


def travel(block: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(block), type=type(block))


def find_lines(lines: Iterable[LogLine], persons: Mapping[Address, str]) -> tuple[list[LogLine], list[LogLine]]:
    """What files make of the lines of some addresses: each once, with its person; and the repeats."""
    found = find_in_files([_seal(one) for one in lines], persons)
    kept = list(map(_unseal, found.lines))
    assert found.person_ids == [one.person_id for one in kept]
    return kept, list(map(_unseal, found.repeats))


def _seal(one: LogLine) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(msgspec.structs.replace(one, person_id=own_person(one))))


def _unseal(sealed: msgspec.Raw) -> LogLine:
    return msgspec.msgpack.decode(sealed, type=LogLine)


def read_files(blocks: Sequence[Block], shards: Shards, *, implied: bool = False) -> list[Said]:
    """What bounded input makes of blocks, in whichever order they come."""
    homes: dict[int, list[LogBlock]] = {}
    for block in blocks:
        for home, part in shards.send_home(block).items():
            homes.setdefault(home, []).append(travel(part))
    everything: dict[int, PersonBlock] = {}
    for parts in homes.values():
        persons, users = settle_updates(news for part in parts for news in part.updates)
        lines, _ = find_lines((one for part in parts for one in part.lines), persons)
        found = PersonBlock(lines, users)
        for shard, spread in shards.spread(found).items():
            gathered = everything.setdefault(shard, PersonBlock([], []))
            gathered.lines += spread.lines
            gathered.users += spread.users
    said: list[Said] = []
    for shard, gathered in everything.items():
        said += as_said(shard, PersonHistories(implied_open_on_click=implied).advance(gathered))
    return said


class EmailStream:
    """The two steps that remember, each with the log from which it can be rebuilt."""

    def __init__(self, shards: Shards, *, implied: bool = False) -> None:
        self.shards = shards
        self.implied = implied
        self.books = [AddressBook() for _ in range(shards.homes)]
        self.book_logs: list[list[bytes]] = [[] for _ in self.books]
        self.histories = [self.new_histories() for _ in range(shards.persons)]
        self.history_logs: list[list[bytes]] = [[] for _ in self.histories]

    def new_histories(self) -> PersonHistories:
        return PersonHistories(implied_open_on_click=self.implied)

    def find(self, home: int, block: LogBlock) -> dict[int, PersonBlock]:
        """What a block that has arrived at its home tells the shards of persons."""
        found, record = self.books[home].find(travel(block))
        if record:
            self.book_logs[home].append(record)
        return self.shards.spread(found.block)

    def advance(self, shard: int, block: PersonBlock) -> list[Said]:
        said = list(as_said(shard, self.histories[shard].advance(travel(block))))
        record = self.histories[shard].take_record()
        if record:
            self.history_logs[shard].append(record)
        return said

    def hear(self, home: int, block: LogBlock) -> list[Said]:
        """All that comes of it, before anything else happens."""
        said = []
        for shard, part in self.find(home, block).items():
            said += self.advance(shard, part)
        return said

    def rebuild(self) -> None:
        """Forget all that is not written down."""
        for home, log in enumerate(self.book_logs):
            self.books[home] = AddressBook()
            self.books[home].replay(log)
        for shard, log in enumerate(self.history_logs):
            self.histories[shard] = self.new_histories()
            self.histories[shard].replay(log)

    def forget_lines_before(self, micros: int) -> None:
        self.book_logs = [[book.forget_before(micros, None)] for book in self.books]

    def forget_addresses_before(self, micros: int) -> None:
        self.book_logs = [[book.forget_before(0, micros)] for book in self.books]

    def forget_persons_before(self, micros: int) -> None:
        self.history_logs = [[rest] if (rest := each.forget_before(micros)) else [] for each in self.histories]
