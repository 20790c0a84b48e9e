"""Shapes that people's identifiers take, of any size, ordinary ones and the worst, with their true persons."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from benchmarks.name_persons import Node
from schemas.identities import Link, LinkBlock

LINKS_A_BLOCK = 1_000

_SEED = 7
_SECOND = 1_000_000
_SHARE_SHARING = 0.1
_MOST_USERS_OF_AN_EMAIL = 4  # and one more who may come: below the limit, so every link counts


@dataclass(frozen=True)
class Graph:
    """One shape of one size."""

    links: list[Link]
    """As calls bring them, a second apart."""
    persons: dict[Node, int]
    """Identifier -> the number of its true person."""

    def blocks(self) -> list[LinkBlock]:
        """The links as they travel."""
        starts = range(0, len(self.links), LINKS_A_BLOCK)
        return [LinkBlock(self.links[start : start + LINKS_A_BLOCK], 2**50) for start in starts]

    def is_resolved_by(self, resolved: dict[Node, str]) -> bool:
        """Whether the persons are the true ones, each identifier in its own and none in another."""
        pairs = {(person, resolved.get(node)) for node, person in self.persons.items()}
        found, true = {name for _, name in pairs}, {person for person, _ in pairs}
        return None not in found and len(pairs) == len(found) == len(true)


class _Said(NamedTuple):
    user_id: str | None
    email: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None


def invent_chain(size: int) -> Graph:
    """A user_id that was renamed again and again, the aliases in any order, and an email at one end: one person."""
    said = [_Said(f"user-{number + 1}", previous_id=f"user-{number}") for number in range(size - 1)]
    said.append(_Said("user-0", "reader@mailbox.test"))
    persons = {("user_id", f"user-{number}"): 0 for number in range(size)}
    return _make_graph(said, {**persons, ("email", "reader@mailbox.test"): 0})


def invent_email_chain(size: int) -> Graph:
    """Every user_id has two emails, and every email two user_ids: one person, after about as many merges as emails."""
    half = size // 2
    said = [_Said(f"user-{number}", f"reader.{number}@mailbox.test") for number in range(half)]
    said += [_Said(f"user-{number}", f"reader.{number + 1}@mailbox.test") for number in range(half - 1)]
    return _make_graph(said, dict.fromkeys(_nodes(said), 0))


def invent_hub(size: int) -> Graph:
    """One user_id on ever new devices: a kiosk, a test login, a browser that forgets."""
    said = [_Said("user-0", anonymous_id=f"device-{number}") for number in range(size)]
    said.append(_Said("user-0", "reader@mailbox.test"))
    return _make_graph(said, dict.fromkeys(_nodes(said), 0))


def invent_ordinary(size: int) -> Graph:
    """People with two user_ids, two emails and three devices: seven identifiers each."""
    said: list[_Said] = []
    persons: dict[Node, int] = {}
    for person in range(max(1, size // 7)):
        users = [f"user-{person}-{number}" for number in range(2)]
        emails = [f"reader.{person}.{number}@mailbox.test" for number in range(2)]
        devices = [f"device-{person}-{number}" for number in range(3)]
        own = [
            _Said(users[0], emails[0], devices[0]),
            _Said(users[0], emails[1], devices[1]),
            _Said(users[1], emails[1], devices[2]),
            _Said(users[1], None, devices[0]),
        ]
        said += own
        persons |= dict.fromkeys(_nodes(own), person)
    return _make_graph(said, persons)


def invent_tangle(size: int) -> Graph:
    """A user_id and an email each, and one user in ten shows somebody else's email as well, anybody's."""
    random, half = Random(_SEED), size // 2
    emails = [f"reader.{number}@mailbox.test" for number in range(half)]
    said = [_Said(f"user-{number}", email) for number, email in enumerate(emails)]
    users = [1] * half
    for number in range(half):
        other = random.randrange(half)
        if random.random() < _SHARE_SHARING and users[other] < _MOST_USERS_OF_AN_EMAIL and other != number:
            users[other] += 1
            said.append(_Said(f"user-{number}", emails[other]))
    return _make_graph(said, _spread(said))


SHAPES: dict[str, Callable[[int], Graph]] = {
    "ordinary people": invent_ordinary,
    "tangle": invent_tangle,
    "hub": invent_hub,
    "chain of aliases": invent_chain,
    "chain of emails": invent_email_chain,
}


def _make_graph(said: list[_Said], persons: dict[Node, int]) -> Graph:
    Random(_SEED).shuffle(said)
    return Graph([Link(*each, number * _SECOND, f"m{number}") for number, each in enumerate(said)], persons)


def _nodes(said: Iterable[_Said]) -> list[Node]:
    fields = ("user_id", "email", "anonymous_id")
    return [(field, value) for each in said for field, value in zip(fields, each, strict=False) if value is not None]


def _spread(said: Iterable[_Said]) -> dict[Node, int]:
    """The persons of user_ids and emails, found by walking from one to the next."""
    neighbours: dict[Node, list[Node]] = defaultdict(list)
    for each in said:
        one, other = _nodes([each])
        neighbours[one].append(other)
        neighbours[other].append(one)
    persons: dict[Node, int] = {}
    for person, start in enumerate(neighbours):
        waiting = [] if start in persons else [start]
        while waiting:
            node = waiting.pop()
            if node not in persons:
                persons[node] = person
                waiting += neighbours[node]
    return persons
