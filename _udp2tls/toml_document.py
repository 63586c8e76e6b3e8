"""A TOML file's data, and where in its text each part of it stands, which tomllib does not tell.

A path leads to a part: keys, and within lists numbers from 0. Owns the way from a path to its
place. The text is one that tomllib has accepted, so what it has checked is not checked again,
and a part that is not found here all the same has the place of what it is a part of: a
message may point beside the mistake, never somewhere else, and nothing fails for that.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from _udp2tls.config import ConfigError

Path = tuple[str | int, ...]
Span = tuple[int, int]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
# Up to two quotes may stand before the three that end a long string.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'", re.DOTALL
)  # fmt: skip
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OTHER = re.compile(r"[^,\]}\s#]+(?: [0-9]{2}:[^,\]}\s#]+)?")  # a time may stand after its date and a space

# As many names as a message suggests.
_NEAR = 3


class _Lost(Exception):
    """The text is not what it should be."""


@dataclass(frozen=True)
class Place:
    """A part of a file: "FILE:LINE", the line, and the part of it that is meant."""

    where: str
    text: str
    span: Span

    def error(self, problem: str, remedy: str = "") -> ConfigError:
        """Return the mistake that is made here."""
        return ConfigError(problem, text=self.text, span=self.span, where=self.where, remedy=remedy)


class _Scanner:
    """Goes through the text once; ``keys`` and ``values`` say where each begins and ends."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.keys: dict[Path, Span] = {}
        self.values: dict[Path, Span] = {}
        self._last: dict[Path, int] = {}  # of a list that [[headers]] make, its last number

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) and self.at < len(self.source):
            if self.source[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.source, self.at)
        if found is None:
            raise _Lost
        self.at = found.end()
        return True

    def _take(self, text: str) -> bool:
        """Go past ``text``, and the blanks before it, if it is next."""
        self._skip(_BLANK)
        taken = self.source.startswith(text, self.at)
        self.at += len(text) if taken else 0
        return taken

    def _must(self, text: str) -> None:
        if not self._take(text):
            raise _Lost

    def _header(self) -> Path:
        brackets = 2 if self.source.startswith("[[", self.at) else 1
        self.at += brackets
        path = self._key((), many=brackets == 2)
        self._must("]" * brackets)
        return path

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._must("=")
        self._value(path)

    def _key(self, path: Path, *, many: bool = False) -> Path:
        """Read a key, dotted or not, and return where it leads to; ``many``: to a new entry of a list."""
        while True:
            self._skip(_BLANK)
            began = self.at
            quoted = self.source.startswith(('"', "'"), began)
            self._skip(_STRING if quoted else _BARE)
            name = self.source[began : self.at]
            if quoted:
                name = tomllib.loads(f"key = {name}")["key"]
            path = (*path, name)
            self.keys.setdefault(path, (began + quoted, self.at - quoted))
            more = self._take(".")
            if many and not more:
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
                self.keys.setdefault(path, (began + quoted, self.at - quoted))
            if not more:
                return path

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        began, inside = self.at, 0
        first = self.source[began : began + 1]
        if first == "[":
            self.at += 1
            number = 0
            while not self._take("]"):
                self._value((*path, number))
                number += 1
                self._take(",")
        elif first == "{":
            self.at += 1
            while not self._take("}"):
                self._pair(path)
                self._take(",")
        elif first in ("'", '"'):
            self._skip(_STRING)
            inside = 3 if self.source.startswith(first * 3, began) and self.at - began >= 6 else 1
        else:
            self._skip(_OTHER)
        self.values[path] = began + inside, self.at - inside


class Document:
    """See the file's docstring. ``data`` is what tomllib makes of the text; raises ConfigError."""

    def __init__(self, source: str, path: str) -> None:
        self.path = path
        self._source = source
        self._lines = source.replace("\r\n", "\n").removesuffix("\n").split("\n")  # what TOML takes for a line
        self._starts = [0, *(found.end() for found in re.finditer("\n", source))]
        self._scanned: _Scanner | None = None
        try:
            self.data: dict[str, Any] = tomllib.loads(source)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+), column (\d+)", str(error))
            number, column = (int(found[1]), int(found[2])) if found else (len(self._lines), 1)
            text = self._lines[number - 1] if 0 < number <= len(self._lines) else ""
            problem = str(error).partition(" (at ")[0]
            raise ConfigError(problem, text=text, span=(column - 1, column), where=f"{path}:{number}") from None
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
            raise ConfigError(f"{path}: {error}") from None

    def place(self, *path: str | int) -> Place:
        """Return where a key stands, or an entry of a list."""
        scanned = self._scan()
        for end in range(len(path), 0, -1):
            span = scanned.keys.get(path[:end]) or scanned.values.get(path[:end])
            if span:
                return self._place(*span)
        return self._place(0, 1)

    def value_place(self, *path: str | int) -> Place:
        """Return where the value of a key stands, or an entry of a list."""
        span = self._scan().values.get(path)
        return self._place(*span) if span else self.place(*path)

    def error(self, problem: str, *path: str | int, remedy: str = "") -> ConfigError:
        """Return the mistake that is made at a key, or at an entry of a list."""
        return self.place(*path).error(problem, remedy)

    def _scan(self) -> _Scanner:
        if self._scanned is None:
            self._scanned = _Scanner(self._source)
            with suppress(_Lost, RecursionError):
                self._scanned.document()
        return self._scanned

    def _place(self, began: int, ended: int) -> Place:
        number = bisect_right(self._starts, began)
        column = began - self._starts[number - 1]
        text = self._lines[number - 1]
        end = max(column + 1, min(column + ended - began, len(text)))  # what goes on below is not shown
        return Place(f"{self.path}:{number}", text, (column, end))


def suggest(name: str, known: Iterable[str], more: str) -> str:
    """Return what may have been meant by an unknown name; ``more`` when nothing is like it."""
    names = list(known)
    by_fold = {one.casefold(): one for one in names}
    near = get_close_matches(name.casefold(), by_fold, _NEAR)
    return f"did you mean {' or '.join(by_fold[one] for one in near)}?" if near else more
