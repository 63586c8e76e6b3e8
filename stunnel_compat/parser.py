"""The grammar of stunnel.conf: lines become settings, settings stand in sections.

A line is ``name = value``, ``[section]``, empty or a comment, and nothing else: no
continuation, no quotes, no comment after a value. What stands before the first section is
global, or the default of every section. ``include = DIRECTORY`` reads every file in it, in
name order, as if it stood there.

Nothing here knows an option. Reading goes on behind a mistake, which takes the place of its
line, so that ``--check`` can show them all; only a file that cannot be read at all raises.
The oddities are stunnel's own (``options_file`` and ``file_getline`` in its source): CR is
nothing wherever it stands, a NUL ends the line, and the blanks are C's.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from _udp2tls.config import ConfigError

BLANKS = " \t\n\v\f\r"  # isspace() of the C locale: a no-break space is none
LINE_LIMIT = 16 * 1024 - 1  # bytes, CONFLINELEN
INCLUDE_DEPTH = 32  # stunnel has no limit and crashes
INCLUDE_FILES = 1000

_COMMENT = re.compile(r"[ \t\v\f]*[#;]")
_PLACEHOLDER = re.compile(r"\$\{|\$\(|\{\{|<[^<>]+>|@\w+@|%\w+%|\$[A-Za-z_]")


@dataclass(frozen=True)
class Setting:
    """One ``name = value``. ``text`` is its line as shown, ``name_at`` and ``at`` where name and value begin in it."""

    name: str
    value: str
    file: str
    line: int
    text: str
    name_at: int
    at: int

    @property
    def key(self) -> str:
        """The name as stunnel compares it."""
        return lower(self.name)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def bad_name(self, problem: str, remedy: str) -> ConfigError:
        """Return the error for an option that cannot stand here."""
        span = (self.name_at, self.name_at + max(1, len(self.name)))
        return ConfigError(problem, text=self.text, span=span, where=self.where, remedy=remedy)

    def bad_value(self, problem: str, remedy: str = "", part: tuple[int, int] | None = None) -> ConfigError:
        """Return the error for a wrong value; what people mostly do wrong goes into the remedy.

        ``part`` is what to underline of the value, all of it when None.
        """
        start, end = part or (0, len(self.value))
        span = (self.at + start, self.at + max(end, start + 1))
        comment = _COMMENT.search(self.value)
        if comment:
            before, after = self.value[: comment.start()], self.value[comment.start() :].strip(BLANKS)
            span = (self.at + comment.start(), self.at + len(self.value))
            remedy = (
                f'stunnel knows no comments after a value: "{shown(after)}" became part of it.\n'
                f"  Put the comment on a line of its own, and write: {self.name} = {shown(before)}"
            )
        elif _PLACEHOLDER.search(self.value):
            remedy = f"this looks like a template's placeholder that nobody filled in; {remedy}"
        elif "\xa0" in self.value:
            remedy = f"there is a no-break space in it, which stunnel does not take for a blank; {remedy}"
        elif self.value[:1] in ("'", '"', "“", "”", "„"):
            remedy = f"stunnel knows no quotes, they become part of the value; {remedy}"
        return ConfigError(problem, text=self.text, span=span, where=self.where, remedy=remedy.removesuffix("; "))

    @property
    def suspicion(self) -> str:
        """Say what looks wrong about a value that stunnel would take as it is, or nothing."""
        comment = _COMMENT.search(self.value)
        if comment and comment.end() - comment.start() > 1:
            return f'stunnel knows no comments after a value: "{shown(self.value[comment.start() :])}" is part of it'
        if _PLACEHOLDER.search(self.value):
            return "this looks like a template's placeholder that nobody filled in"
        if self.value[:1] in ("'", '"'):
            return "stunnel knows no quotes: they are part of the value"
        return ""


Line = Setting | ConfigError


@dataclass
class Section:
    """What stands under one ``[name]``, or before the first: settings, and mistakes in place of lines."""

    name: str
    file: str
    line: int
    text: str
    lines: list[Line] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def mistake(self, problem: str, remedy: str) -> ConfigError:
        """Return an error about the section as a whole, in stunnel's words."""
        at = len(self.text) - len(self.text.lstrip(BLANKS + "\ufeff"))
        span = (at, len(self.text.rstrip(BLANKS)))
        return ConfigError(
            f"Service [{shown(self.name)}]: {problem}", text=self.text, span=span, where=self.where, remedy=remedy
        )


@dataclass
class File:
    """A parsed stunnel.conf, its includes in place."""

    path: str
    defaults: Section
    sections: list[Section] = field(default_factory=list)


def lower(text: str) -> str:
    """Fold the case as C does: of ASCII letters alone."""
    return text.translate(_LOWER)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def shown(text: str) -> str:
    """Return text that can be printed anywhere: bytes that are no UTF-8 become U+FFFD, one for one."""
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" or (char < " " and char != "\t") else char for char in text)


def read(path: str) -> File:
    """Read a file and what it includes; raise ConfigError when the file itself cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: {getattr(error, 'strerror', None) or error}", remedy="name a stunnel.conf that can be read"
        ) from error
    return parse(data, path)


def parse(data: bytes, path: str) -> File:
    """Read the bytes of a file; ``path`` is its name in errors."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path}: the file is UTF-16", remedy="save it as UTF-8; stunnel reads nothing else either")
    reader = _Reader(path)
    reader.file(data, path, (os.path.realpath(path),))
    return reader.result


class _Reader:
    """Puts lines into the section that is open; an included file goes on with it and may open others."""

    def __init__(self, path: str) -> None:
        self.result = File(path, Section("", path, 1, ""))
        self.section = self.result.defaults
        self.included = 0

    def file(self, data: bytes, path: str, stack: tuple[str, ...]) -> None:
        lines = data.replace(b"\r", b"").split(b"\n")
        for number, raw in enumerate(lines, 1):
            raw, *_ = raw.split(b"\0", 1)
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            self.line(raw, path, number, stack)

    def line(self, raw: bytes, path: str, number: int, stack: tuple[str, ...]) -> None:
        rest = raw[LINE_LIMIT:].strip(BLANKS.encode())
        whole = raw.decode("utf-8", "surrogateescape")
        text = shown(whole)
        if rest and rest[:1] not in (b"#", b";"):
            problem = f"the line has {len(raw)} bytes; stunnel cuts at {LINE_LIMIT} and takes the rest for another line"
            where = f"{path}:{number}"
            self.section.lines.append(ConfigError(problem, text=text[:60] + "...", where=where, remedy="shorten it"))
            return
        content = whole.strip(BLANKS)
        if not content or content[0] in "#;":
            return
        if content[0] == "[" and content[-1] == "]":
            self.section = Section(content[1:-1], path, number, text)
            self.result.sections.append(self.section)
            return
        before, equals, value = whole.partition("=")
        name = before.strip(BLANKS)
        name_at = len(before) - len(before.lstrip(BLANKS))
        if not equals:
            self.section.lines.append(_no_equals(text, name, name_at, f"{path}:{number}"))
            return
        at = len(before) + 1 + len(value) - len(value.lstrip(BLANKS))
        setting = Setting(name, value.strip(BLANKS), path, number, text, name_at, at)
        if setting.key == "include":
            self.include(setting, stack)
        else:
            self.section.lines.append(setting)

    def include(self, setting: Setting, stack: tuple[str, ...]) -> None:
        """Read every regular file of the directory."""
        remedy = "name a directory; every file in it is read, in the order of the names"
        try:
            names = sorted(os.listdir(setting.value or "\0"), key=os.fsencode)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no directory is named"
            self.section.lines.append(setting.bad_value(f"Failed to include directory: {reason}", remedy))
            return
        for name in names:
            path = os.path.join(setting.value, name)
            if not os.path.isfile(path):
                continue
            real = os.path.realpath(path)
            self.included += 1
            if real in stack or len(stack) > INCLUDE_DEPTH or self.included > INCLUDE_FILES:
                problem = f"Failed to include a file: {shown(path)} is being read already, or there are too many"
                self.section.lines.append(setting.bad_value(problem, remedy))
                return
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except OSError as error:
                problem = f"Failed to include a file: {shown(path)}: {error.strerror}"
                self.section.lines.append(setting.bad_value(problem, remedy))
                continue
            self.file(data, path, (*stack, real))


def _no_equals(text: str, name: str, at: int, where: str) -> ConfigError:
    remedy = "write NAME = VALUE, or [NAME] to begin a section; comments begin with ; or #"
    span = (at, at + max(1, len(name)))
    if name.startswith("["):
        comment = _COMMENT.search(name)
        closed, _, _ = name.partition("]")
        remedy = f"a section is written {shown(closed)}] and nothing else"
        if comment:
            remedy = f"stunnel knows no comments behind a section's name; write {shown(closed)}] alone"
            span = (at + comment.start(), at + len(name))
    return ConfigError("No '=' found", text=text, span=span, where=where, remedy=remedy)
