"""What the calls of a workload can tell of its true persons, whoever resolves them: the measure of the resolvers.

Derived from the raw calls and the truth alone, person by person. What two calls say of two persons is never followed,
so whoever joins more than one true person, or leaves apart what is here together, differs.

- Two named identifiers (emails and user_ids) of one true person hang together if a valid call carries both, or an alias
  replaces one by the other, or a chain of such calls leads from one to the other: they are one fragment of the person.
- A device (anonymous_id) belongs to whom it was seen with first: of all valid calls that carry it with a named
  identifier, of whichever true person, the one with the earliest timestamp, and there the user_id before the email. It
  is no step of a chain, since several people may sit in front of it.
- Evidence suffices for a pair of identifiers if both are of one fragment, and the fragment holds an email: without one
  it is nobody's by the rules.

So evidence is what the rules admit as such, and the figures where it suffices say whether they are followed. What the
rules themselves cost is in the figures over all pairs, and the causes say where.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from benchmarks.check_calls import find_fault, read_micros
from benchmarks.name_persons import Node
from benchmarks.shape_columns import caller_email

Persons: TypeAlias = Mapping[Node, int]
"""Identifier -> the number of the true person."""

_EMAIL, _USER_ID, _DEVICE = "email", "user_id", "anonymous_id"


class Said(NamedTuple):
    """The identifiers of one call."""

    timestamp: int
    named: tuple[Node, ...]
    """The user_id first."""
    devices: tuple[Node, ...]


class Evidence:
    """Of each true person the fragments that calls make known."""

    def __init__(self, persons: Persons, sayings: Iterable[Said]) -> None:
        self._persons = persons
        self._first: dict[Node, tuple[int, int, Node]] = {}
        self._neighbours: dict[Node, set[Node]] = defaultdict(set)
        self._companions: dict[Node, set[Node]] = defaultdict(set)
        for said in sayings:
            self._hear(said)
        self._fragments = self._connect({})
        self._over_devices = self._connect(self._companions)
        self._with_email = {fragment for node, fragment in self._fragments.items() if node[0] == _EMAIL}
        self.known_persons = {person for node, person in persons.items() if node[0] == _EMAIL}
        """Those who have said an email."""

    def owner(self, device: Node) -> Node | None:
        """The named identifier that a device was seen with first, None if with none."""
        first = self._first.get(device)
        return None if first is None else first[2]

    def place(self, node: Node) -> int | None:
        """The true person to whom the evidence gives an identifier: another's, if a device was seen with them first."""
        anchor = self._anchor(node)
        return None if anchor is None else self._persons.get(anchor)

    def suffices(self, one: Node, other: Node) -> bool:
        """Whether it shows that the two are one person's."""
        return self.are_together(one, other) and self._fragments[self._own(one)] in self._with_email

    def are_together(self, one: Node, other: Node) -> bool:
        """Whether they are of one fragment, with or without an email."""
        ours, theirs = self._fragments.get(self._own(one)), self._fragments.get(self._own(other))
        return ours is not None and ours == theirs

    def meet_over_devices(self, one: Node, other: Node) -> bool:
        """Whether they would be of one fragment if devices were steps of a chain."""
        ours, theirs = self._over_devices.get(self._own(one)), self._over_devices.get(self._own(other))
        return ours is not None and ours == theirs

    def _anchor(self, node: Node) -> Node | None:
        return self.owner(node) if node[0] == _DEVICE else node

    def _own(self, node: Node) -> Node:
        """What stands for an identifier in its fragment; itself, which is in none, if that is another person's."""
        anchor = self._anchor(node)
        return anchor if anchor is not None and self._persons.get(anchor) == self._persons.get(node) else node

    def _hear(self, said: Said) -> None:
        for one in said.named:
            self._neighbours[one].update(said.named)
        for device in said.devices:
            for strength, node in enumerate(said.named):
                first = said.timestamp, strength, node
                self._first[device] = min(first, self._first.get(device, first))
                self._companions[node].add(device)
                self._companions[device].add(node)

    def _connect(self, more: Mapping[Node, set[Node]]) -> dict[Node, Node]:
        """Named identifier, and what `more` leads to -> the first one of its fragment."""
        fragments: dict[Node, Node] = {}
        for start in self._neighbours:
            if start in fragments or start not in self._persons:
                continue
            fragments[start] = start
            waiting = [start]
            while waiting:
                node = waiting.pop()
                for other in self._neighbours.get(node, set()) | more.get(node, set()):
                    if other not in fragments and self._persons.get(other) == self._persons[node]:
                        fragments[other] = start
                        waiting.append(other)
        return fragments


def find_evidence(calls: Path, persons: Persons) -> tuple[Evidence, Evidence]:
    """What the valid calls of a file tell, and what they would tell together with the rejected ones."""
    user_ids = {node[1] for node in persons if node[0] == _USER_ID}
    valid: list[Said] = []
    rejected: list[Said] = []
    for call in _read_objects(calls):
        is_valid = find_fault(call) is None
        if is_valid or _has_shape(call):
            (valid if is_valid else rejected).append(_read_said(call, user_ids, is_valid))
    return Evidence(persons, valid), Evidence(persons, valid + rejected)


def _read_objects(calls: Path) -> Iterator[dict[str, Any]]:
    with calls.open("rb") as lines:
        for line in lines:
            try:
                call = json.loads(line)
            except ValueError:
                continue
            if isinstance(call, dict):
                yield call


def _has_shape(call: Mapping[str, Any]) -> bool:
    """Whether a rejected call can be read for its identifiers."""
    return all(isinstance(call.get(field, {}), dict) for field in ("context", "traits"))


def _read_said(call: Mapping[str, Any], user_ids: set[str], is_valid: bool) -> Said:
    email = caller_email(str(call.get("type")), call.get("context", {}), call.get("traits", {}))
    named = [(kind, value) for kind, value in ((_USER_ID, call.get("userId")), (_EMAIL, email)) if value]
    devices = [(_DEVICE, call["anonymousId"])] if call.get("anonymousId") else []
    previous = call.get("previousId") if call.get("type") == "alias" else None
    if previous is not None and previous in user_ids:
        named.append((_USER_ID, previous))
    elif previous is not None:
        devices.append((_DEVICE, previous))
    # Without a time that can be read a rejected call comes after all others.
    return Said(read_micros(call["timestamp"]) if is_valid else 2**62, tuple(named), tuple(devices))
