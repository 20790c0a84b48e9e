"""The file behind --identity_settings: limits, blocked values and priorities, read strictly.

Its format is docs/identity_settings.md, its defaults are schemas/identity_settings.toml.
"""

import difflib
import re
import tomllib
from typing import Any, NoReturn

from pipelines.check_pattern import find_fault
from pipelines.find_toml_lines import TomlPath, find_lines
from pipelines.first_line import first_line
from schemas.identities import IdentifierType
from schemas.identity_rules import DEFAULT_RULES, IdentityRules

_KEYS: tuple[TomlPath, ...] = (
    ("priority",),
    ("limits",),
    ("limits", "emails_per_user_id"),
    ("limits", "user_ids_per_email"),
    ("blocked",),
    ("blocked", "values"),
    ("blocked", "patterns"),
)
"""Every section and key that there is."""

_SECTIONS = frozenset(path[:-1] for path in _KEYS if len(path) > 1)

_TYPES = tuple(kind.value for kind in IdentifierType)


class IdentitySettingsError(ValueError):
    """A mistake in the file, in one line: which file, which line of it, what is wrong and how to mend it."""


def read_identity_settings(path: str | None) -> IdentityRules:
    """The rules of a file on any file system that Beam knows, or ours. Raises `IdentitySettingsError`."""
    if path is None:
        return DEFAULT_RULES
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            data: bytes = file.read()
    except Exception as error:  # each file system has its own
        raise IdentitySettingsError(f"{path} cannot be read: {first_line(error)}") from None
    return parse_identity_settings(data, path)


def parse_identity_settings(data: bytes, name: str) -> IdentityRules:
    """The rules of a file's bytes; `name` is what errors call the file. Raises `IdentitySettingsError`."""
    file = _SettingsFile(data, name)
    return IdentityRules(
        emails_per_user_id=file.read_limit(("limits", "emails_per_user_id"), DEFAULT_RULES.emails_per_user_id),
        user_ids_per_email=file.read_limit(("limits", "user_ids_per_email"), DEFAULT_RULES.user_ids_per_email),
        blocked_values=file.read_values(("blocked", "values"), DEFAULT_RULES.blocked_values),
        blocked_patterns=file.read_patterns(("blocked", "patterns"), DEFAULT_RULES.blocked_patterns),
        priority=file.read_priority(("priority",), DEFAULT_RULES.priority),
    )


class _SettingsFile:
    """The decoded file, which knows where everything stands. Every method raises `IdentitySettingsError`."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        try:
            # A byte order mark: saved by a Windows editor, which also ends lines with \r\n.
            self._text = data.decode("utf-8-sig").replace("\r\n", "\n")
            self._values = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            self._refuse_line(1 + data[: error.start].count(b"\n"), "is not UTF-8; save the file as UTF-8")
        except tomllib.TOMLDecodeError as error:
            self._refuse_syntax(str(error))
        self._check_keys((), self._values)

    def read_limit(self, path: TomlPath, default: int) -> int:
        """A whole number from 1."""
        limit = self._find(path, default)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            self._refuse(path, f"{path[-1]} is {_show(limit)}; it must be a whole number, at least 1")
        return limit

    def read_values(self, path: TomlPath, default: tuple[str, ...]) -> tuple[str, ...]:
        """Texts, none of them empty."""
        values = self._read_texts(path, default)
        for index, value in enumerate(values):
            if not value:
                self._refuse((*path, index), f"{path[-1]} holds an empty text, which no identifier is; remove it")
        return values

    def read_patterns(self, path: TomlPath, default: tuple[str, ...]) -> tuple[str, ...]:
        """Regular expressions that are fit for use."""
        patterns = self._read_texts(path, default)
        for index, pattern in enumerate(patterns):
            fault = find_fault(pattern)
            if fault is not None:
                self._refuse((*path, index), f"the pattern {_show(pattern)} {fault}")
        return patterns

    def read_priority(self, path: TomlPath, default: tuple[str, ...]) -> tuple[str, ...]:
        """Every identifier type once."""
        priority = self._read_texts(path, default)
        for index, kind in enumerate(priority):
            if kind not in _TYPES:
                self._refuse((*path, index), f"{_PRIORITY}, not {_show(kind)}{_suggest(kind, _TYPES)}")
        if sorted(priority) != sorted(_TYPES):
            self._refuse(path, _PRIORITY)
        return priority

    def _read_texts(self, path: TomlPath, default: tuple[str, ...]) -> tuple[str, ...]:
        texts = self._find(path, default)
        if not isinstance(texts, list | tuple):
            self._refuse(path, f"{path[-1]} is {_show(texts)}; it must be a list of texts, in [ ]")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                self._refuse((*path, index), f"{path[-1]} holds {_show(text)}; write it as a text, in quotes")
        return tuple(texts)

    def _find(self, path: TomlPath, default: Any) -> Any:
        value: Any = self._values
        for key in path:
            if key not in value:
                return default
            value = value[key]
        return value

    def _check_keys(self, path: TomlPath, table: dict[str, Any]) -> None:
        for key, value in table.items():
            here = (*path, key)
            if here not in _KEYS:
                self._refuse_key(here)
            if here not in _SECTIONS:
                continue
            if not isinstance(value, dict):
                self._refuse(here, f"{key} is {_show(value)}; it must be a section, [{key}]")
            self._check_keys(here, value)

    def _refuse_key(self, path: TomlPath) -> NoReturn:
        key = str(path[-1])
        for known in _KEYS:
            if known[-1] == key:
                place = f"under [{known[0]}]" if len(known) > 1 else "at the top, above the first section"
                self._refuse(path, f"{key} does not belong here but {place}")
        siblings = [str(known[-1]) for known in _KEYS if known[:-1] == path[:-1]]
        self._refuse(path, f"unknown key {key}, there are {', '.join(siblings)}{_suggest(key, siblings)}")

    def _refuse(self, path: TomlPath, what: str) -> NoReturn:
        """Refuse what stands at `path`, or in the innermost thing around it that has a line of its own."""
        lines = find_lines(self._text)
        while path and path not in lines:
            path = path[:-1]
        self._refuse_line(lines.get(path, 1), what)

    def _refuse_syntax(self, error: str) -> NoReturn:
        """Tomllib ends its messages with `(at line 3, column 5)` or `(at end of document)`."""
        what, _, where = error.rpartition(" (at ")
        at = re.search(r"line (\d+)", where)
        line = int(at[1]) if at else max(1, self._text.rstrip().count("\n") + 1)
        self._refuse_line(line, f"is no TOML: {what[:1].lower()}{what[1:]}; texts stand in quotes, lists in [ ]")

    def _refuse_line(self, line: int, what: str) -> NoReturn:
        raise IdentitySettingsError(f"{self._name}, line {line}: {what}") from None


_PRIORITY = f"priority must name {', '.join(_TYPES)}, each once, strongest first"


def _suggest(name: str, known: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _show(value: object) -> str:
    """A value in a message, as TOML would have it and not too long."""
    if isinstance(value, bool):
        return str(value).lower()
    shown = f'"{value}"' if isinstance(value, str) else repr(value)
    return shown if len(shown) <= 60 and shown.isprintable() else repr(shown)[1:58] + "..."
