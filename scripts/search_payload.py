"""Does a rejected message hold an identifier? Exactly, whatever the message is: JSON, cut JSON or no JSON at all."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from schemas.identities import IdentifierType
from transforms.logic.read_wire import read_id

_ID_FIELDS = frozenset({"userid", "anonymousid", "previousid", "identifier", "refusedidentifier"})
"""Fields in which a number is an identifier, in any spelling: elsewhere 5 is a quantity, and of somebody else."""

# The text between two quotes, or from the last quote of a message that was cut.
_STRING = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)', re.DOTALL)
_NAMED_ADDRESS = re.compile(r"[^<>]*<([^<>]+)>\s*")
_NUMBER = re.compile(r'"(\w+)"\s*:\s*(-?\d[\d.eE+-]*)')

_Object: TypeAlias = tuple[tuple[str, Any], ...]
"""A JSON object with all of its members: of two with one name, both count."""


class PayloadSearch:
    """Looks for identifiers of one person.

    An email is found as a JSON string, in any case, alone or as `Ann <ann@example.com>`, which email logs may have; and
    in what is no JSON anywhere, but not within a longer email. Any other identifier is found as a JSON string; as a
    number only where a number names the caller.
    """

    def __init__(self, identifiers: Iterable[tuple[str, str]]) -> None:
        self._emails: set[str] = set()
        self._others: set[str] = set()
        for identifier_type, identifier in identifiers:
            if identifier_type == IdentifierType.EMAIL:
                self._emails.add(identifier.strip().lower())
            else:
                self._others.add(identifier)
        emails = "|".join(map(re.escape, sorted(self._emails))) or "(?!)"
        self._anywhere = re.compile(rf"(?<![\w.%+-])(?:{emails})(?!\.?[\w-])", re.IGNORECASE)

    @property
    def needles(self) -> list[str]:
        """Texts, in lower case, one of which is in every message that holds an identifier without an escape."""
        return sorted(self._emails | {other.lower() for other in self._others})

    def is_held(self, payload: bytes, attributes: Mapping[str, Any]) -> bool:
        """Whether the message holds one of them, or one of its attributes is one."""
        if any(self._is_sought(value) for value in attributes.values()):
            return True
        try:
            return self._is_in_value(_decode(payload))
        except (ValueError, RecursionError):
            return self._is_in_text(payload.decode(errors="replace"))

    def _is_in_value(self, value: Any) -> bool:
        found = [(value, False)]
        while found:
            one, names_caller = found.pop()
            if isinstance(one, tuple):
                found += [(member, names_caller or _is_id_field(name)) for name, member in one]
            elif isinstance(one, list):
                found += [(element, names_caller) for element in one]
            elif isinstance(one, str):
                if self._is_sought(one):
                    return True
                if one[:1] in ("{", "["):  # JSON as text: so a row that BigQuery refused holds its JSON columns
                    found += _decode_nested(one)
            elif names_caller and read_id(one) in self._others:
                return True
        return False

    def _is_in_text(self, text: str) -> bool:
        if self._anywhere.search(text):
            return True
        if any(self._is_sought(_unescape(string)) for string in _STRING.findall(text)):
            return True
        return any(
            _is_id_field(name) and _read_number(digits) in self._others for name, digits in _NUMBER.findall(text)
        )

    def _is_sought(self, value: object) -> bool:
        if not isinstance(value, str):
            return False
        named = _NAMED_ADDRESS.fullmatch(value)
        return value in self._others or (named[1] if named else value).strip().lower() in self._emails


def _decode(text: str | bytes) -> Any:
    return json.loads(text, object_pairs_hook=tuple)


def _decode_nested(text: str) -> list[tuple[Any, bool]]:
    try:
        return [(_decode(text), False)]
    except (ValueError, RecursionError):
        return []


def _is_id_field(name: str) -> bool:
    return re.sub(r"[^a-z]", "", name.lower()) in _ID_FIELDS


def _unescape(string: str) -> str:
    try:
        return str(json.loads(f'"{string}"'))
    except ValueError:
        return string


def _read_number(digits: str) -> str | None:
    try:
        return read_id(json.loads(digits))
    except ValueError:
        return None
