"""On which line of a TOML file each key stands: tomllib does not say, and a mistake is mended on a line."""

import re
import tomllib
from collections.abc import Iterator
from typing import TypeAlias

TomlPath: TypeAlias = tuple[str | int, ...]
"""Keys from the outermost in; behind the key of an array the index of an element."""

# The text is known to be TOML, so a token need only be told from its neighbours: https://toml.io/en/v1.0.0.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+'
    r"|'''.*?'''+"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'|#[^\n]*|[\[\]{}=,\n]|[^\s\[\]{}=,#\"']+",
    re.DOTALL,
)


def find_lines(text: str) -> dict[TomlPath, int]:
    """The line, from 1, of every section, key and element of an array. Inline tables are not looked into.

    `text` must be valid TOML.
    """
    lines: dict[TomlPath, int] = {}
    section: TomlPath = ()
    key: list[str] = []
    tokens = _read_tokens(text)
    for line, token in tokens:
        if token == "=":
            path = section + _read_key("".join(key))
            lines[path] = line
            lines.update({(*path, index): at for index, at in enumerate(_read_value(tokens))})
            key = []
        elif token == "\n":
            if key:
                section = _read_key("".join(key).strip("[]"))
                lines.setdefault(section, line)
            key = []
        elif not token.startswith("#"):
            key.append(token)
    return lines


def _read_tokens(text: str) -> Iterator[tuple[int, str]]:
    """Each token with the line that it begins on, and the end of each line."""
    line = 1
    for match in _TOKEN.finditer(text + "\n"):
        yield line, match.group()
        line += match.group().count("\n")


def _read_key(text: str) -> TomlPath:
    path: list[str] = []
    value = tomllib.loads(f"{text}=0")
    while isinstance(value, dict):
        ((name, value),) = value.items()
        path.append(name)
    return tuple(path)


def _read_value(tokens: Iterator[tuple[int, str]]) -> list[int]:
    """Pass over a value up to the end of its line; the lines of its elements, if it is an array."""
    elements: list[int] = []
    open_brackets: list[str] = []
    is_next = False
    for line, token in tokens:
        if token == "\n":
            if not open_brackets:
                break
            continue
        if token.startswith("#"):
            continue
        if token in ("]", "}"):
            open_brackets.pop()
            continue
        if is_next and token != ",":
            elements.append(line)
            is_next = False
        if token in ("[", "{"):
            is_next = token == "[" and not open_brackets
            open_brackets.append(token)
        elif token == "," and open_brackets == ["["]:
            is_next = True
    return elements
