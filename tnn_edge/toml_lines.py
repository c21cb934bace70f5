"""In which line of a TOML file each key stands.

No parser that a device should carry tells that (`tomllib` and `tomlkit` have no positions). So a scanner walks a text
that `tomllib` has found valid, and needs to know no more than where keys are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BARE_KEY", "Place", "lines_of_keys"]

Place = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top."""

BARE_KEY = r"[A-Za-z0-9_-]+"
"""A key that needs no quotes."""


def lines_of_keys(text: str) -> dict[Place, int]:
    """The line of every key, table and array element of valid TOML; the first line is 1, and that of the top."""
    return _Scanner(text).scan()


_TOKEN = re.compile(
    r"""(?P<skip> [ \t\r]+ | \#[^\n]*)
    | \"{3} (?: \\. | [^\\] )*? \"{3,5} | '{3} .*? '{3,5} | "(?: \\. | [^"\\\n] )*" | '[^'\n]*'
    | [\n\[\]{},=.]
    | [^\s\[\]{},=.\#"']+""",
    re.VERBOSE | re.DOTALL,
)


class _Scanner:
    """Finds keys in valid TOML; values are skipped, whatever they are."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, int]] = []
        self._lines: dict[Place, int] = {(): 1}
        self._n_tables: dict[Place, int] = {}  # of each array of tables, so far
        self._at = 0
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "skip":
                self._tokens.append((match[0], line))
            line += match[0].count("\n")
        self._tokens.append(("\n", line))

    def scan(self) -> dict[Place, int]:
        table: Place = ()
        while self._at < len(self._tokens):
            if self._peek() == "\n":
                self._take()
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _peek(self) -> str:
        return self._tokens[self._at][0]

    def _take(self) -> tuple[str, int]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _header(self) -> Place:
        """`[a.b]` or `[[a.b]]`: the place of the table that begins."""
        _, line = self._take()
        is_array = self._peek() == "["
        if is_array:
            self._take()
        *parents, last = self._key()
        place: Place = ()
        for part in parents:
            place = (*place, part)
            self._lines.setdefault(place, line)
            if place in self._n_tables:
                place = (*place, self._n_tables[place] - 1)
        place = (*place, last)
        if is_array:
            self._lines.setdefault(place, line)
            self._n_tables[place] = self._n_tables.get(place, 0) + 1
            place = (*place, self._n_tables[place] - 1)
        self._lines[place] = line
        while self._peek() == "]":
            self._take()
        return place

    def _key(self) -> Iterator[str]:
        while True:
            token, _ = self._take()
            yield tomllib.loads(f"key = {token}")["key"] if token[0] in "\"'" else token
            if self._peek() != ".":
                return
            self._take()

    def _pair(self, place: Place) -> None:
        line = self._tokens[self._at][1]
        for part in self._key():
            place = (*place, part)
            self._lines.setdefault(place, line)
        self._take()  # the equals sign
        self._value(place)

    def _value(self, place: Place) -> None:
        first = self._peek()
        if first not in "[{":
            while self._peek() not in ("\n", ",", "]", "}"):
                self._take()
            return
        self._take()
        n = 0
        while (token := self._peek()) not in ("]", "}"):
            if token in ("\n", ","):
                self._take()
            elif first == "[":
                self._lines[(*place, n)] = self._tokens[self._at][1]
                self._value((*place, n))
                n += 1
            else:
                self._pair(place)
        self._take()
