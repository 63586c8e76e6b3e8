"""Resolver lists: a Markdown file of the DNSCrypt project becomes names and stamps.

Owns the format and nothing else: a list may come from anywhere, so whether it is to be
believed (``minisign``) and what a stamp means (``stamps``) are asked elsewhere. Entries are
those that dnscrypt-proxy finds in the same text, with the same names and stamps, within the
limits below; where it refuses a whole list for one bad entry, that entry is left out here and
noted. It must never give a stamp to an entry other than the one whose heading stands above it.

    ## name
    any text, a description          but not lines that begin with //
    sdns://...                       one or several: the same server in other ways
"""

from __future__ import annotations

from dataclasses import dataclass

# Lists are signed, but also by strangers, and are read with the memory of a small router:
# these keep a list without end, or one of a million tiny entries, from using all of it.
# The largest list there is has 400,000 bytes and 816 entries.
MAX_SIZE = 4 << 20
MAX_ENTRIES = 20_000

# A name goes to the log, to the terminal and into configuration files; a stamp into a parser.
MAX_NAME = 128
MAX_STAMP = 4096
MAX_STAMPS = 64
MAX_DESCRIPTION = 4096

# A list in which everything is wrong must not fill the log.
MAX_NOTES = 10


class ListError(ValueError):
    """A text that is no resolver list: one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One server or relay; any of its stamps will do, in no order, and none has been parsed."""

    name: str
    description: str
    stamps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list holds, in its order, each name once; ``notes``: what was left out, a sentence each."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def parse(data: bytes, prefix: str = "") -> Listing:
    """Read a list, with ``prefix`` before every name; raise ListError if nothing in it is an entry."""
    if len(data) > MAX_SIZE:
        raise ListError(f"the list has {len(data)} bytes, and {MAX_SIZE} are the most")
    # At any place, as dnscrypt-proxy does: a heading in a comment ("// ## name") or a deeper
    # one ("### name") begins an entry too. Otherwise the stamps below it went to the one before.
    parts = data.decode("utf-8", "replace").split("## ", MAX_ENTRIES + 1)[1:]
    if len(parts) > MAX_ENTRIES:
        raise ListError(f"the list has more than {MAX_ENTRIES} entries")
    entries: dict[str, Entry] = {}
    notes: list[str] = []
    for number, part in enumerate(parts, 1):
        entry, note = _entry(part, prefix)
        if entry is None:
            notes.append(f"entry {number}: {note}")
            continue
        if entry.name in entries:  # in dnscrypt-proxy too the last one counts, in the place of the first
            notes.append(f"entry {number}: {entry.name!r} again, the last one counts")
        entries[entry.name] = entry
    if not entries:
        raise ListError("the list has no entries" + (f"; {notes[0]}" if notes else ""))
    if len(notes) > MAX_NOTES:
        notes[MAX_NOTES - 1 :] = [f"{len(notes) - MAX_NOTES + 1} more entries with mistakes"]
    return Listing(tuple(entries.values()), tuple(notes))


def _entry(part: str, prefix: str) -> tuple[Entry | None, str]:
    """Read what follows one ``## ``: an entry, or why it is none."""
    heading, *lines = part.strip().split("\n")
    name = prefix + heading.strip()
    if not heading.strip():
        return None, "no name"
    if len(name) > MAX_NAME or not name.isprintable():  # a terminal would obey it, or show another name
        return None, f"{name[:MAX_NAME]!r} is not fit for a name"
    stamps: dict[str, None] = {}
    description: list[str] = []
    for line in map(str.strip, lines):
        if line.startswith("sdns:") and line != "sdns:":
            stamps[line] = None
        elif line and not line.startswith("//"):
            description.append(line if line.isprintable() else _printable(line))
    if not stamps:
        return None, f"{name!r} has no stamp"
    if len(stamps) > MAX_STAMPS or max(map(len, stamps)) > MAX_STAMP:
        return None, f"{name!r} has too many stamps, or too long a one"
    return Entry(name, "\n".join(description)[:MAX_DESCRIPTION], tuple(stamps)), ""


def _printable(line: str) -> str:
    return "".join(character if character.isprintable() else " " for character in line)
