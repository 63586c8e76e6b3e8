"""The tables of dnscrypt-proxy that say which servers there are, as a TOML file has them.

Owns their names, types and defaults, which are dnscrypt-proxy's: server_names and what is
required of servers that are not named, [static], [sources], [anonymized_dns]. Whether a name
is known, and what a stamp means, is asked in ``catalog`` and ``routes``, since lists change
while files stay. So every text keeps its place in the file. Here no list is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from _udp2tls.config import ConfigError
from _udp2tls.sources import Source, SourceError
from _udp2tls.toml_document import Document, Place, suggest

# Properties of a stamp by the key that requires them, and what dnscrypt-proxy requires.
REQUIREMENTS = {"require_dnssec": "dnssec", "require_nolog": "no_logs", "require_nofilter": "no_filter"}
_DEFAULTS = {"require_dnssec": False, "require_nolog": True, "require_nofilter": True}

_STATIC = ("stamp",)
_SOURCE = ("urls", "url", "cache_file", "minisign_key", "refresh_delay", "prefix")
_ANONYMIZED = ("routes", "direct_cert_fallback")
_ROUTE = ("server_name", "via")

# What dnscrypt-proxy has in these tables, and why it says nothing here.
_IGNORED = {
    "format": "there is one format of lists",
    "skip_incompatible": "a server with a route is never asked without a relay",
}
_NO_HTTPS = "DNS over HTTPS is not supported in this version"

# These keep a file with a mistake in it from making thousands of upstreams of a list.
MOST_NAMES, MOST_VIA, MOST_ROUTES, MOST_SOURCES, MOST_DISABLED = 64, 32, 256, 32, 4096


@dataclass(frozen=True)
class Said:
    """A text, and where the file says it."""

    text: str
    place: Place

    def error(self, problem: str, remedy: str = "") -> ConfigError:
        return self.place.error(problem, remedy)


@dataclass(frozen=True)
class Route:
    """Through which relays a server is asked; ``server`` is a name, or * for all that have no route of their own."""

    server: Said
    via: tuple[Said, ...]


@dataclass(frozen=True)
class Wanted:
    """What a file says; without ``server_names`` it is all servers that have what is required."""

    path: str = ""  # of the file
    server_names: tuple[Said, ...] = ()
    disabled: frozenset[str] = frozenset()
    require: tuple[str, ...] = ()  # keys of REQUIREMENTS
    families: frozenset[int] = frozenset({4})
    dnscrypt: bool = True
    static: Mapping[str, Said] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    routes: Mapping[str, Route] = field(default_factory=dict)  # by the name in lower case
    notes: tuple[str, ...] = ()
    # Where it is said that a server with a route may be asked for its certificate directly; None: it may not.
    direct_certificates: Place | None = None


class _Reader:
    """Takes values of one type each out of a document; raises ConfigError for every other."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.notes: list[str] = []

    def value(self, path: tuple[str | int, ...], kind: type, what: str, default: Any) -> Any:
        table: Any = self.document.data
        for key in path[:-1]:
            table = table[key]
        if isinstance(table, dict) and path[-1] not in table:
            return default
        found = table[path[-1]]
        if type(found) is not kind:
            raise self.document.error(f"{path[-1]} must be {what}, and is {_kind(found)}", *path)
        return found

    def text(self, *path: str | int) -> Said | None:
        found = self.value(path, str, "a text", None)
        return None if found is None else Said(found, self.document.value_place(*path))

    def needed(self, *path: str | int) -> Said:
        found = self.text(*path)
        if found is None or not found.text:
            raise self.document.error(f"{path[-2]} has no {path[-1]}", *path, remedy=f'add: {path[-1]} = "..."')
        return found

    def texts(self, *path: str | int, most: int) -> tuple[Said, ...] | None:
        found = self.value(path, list, "a list of texts", None)
        if found is None:
            return None
        if len(found) > most:
            raise self.document.error(f"{path[-1]} has {len(found)} entries, and {most} are the most", *path)
        for number, one in enumerate(found):
            if not isinstance(one, str):
                raise self.document.error(f"an entry of {path[-1]} must be a text, and is {_kind(one)}", *path, number)
        return tuple(Said(one, self.document.value_place(*path, at)) for at, one in enumerate(found))

    def flag(self, key: str, default: bool, *table: str | int) -> bool:
        return bool(self.value((*table, key), bool, "true or false", default))

    def tables(self, *path: str | int, known: Iterable[str]) -> list[str]:
        """Return the names of the tables in a table, whose keys are known."""
        names = list(self.value(path, dict, "a table", {}))
        for name in names:
            self.table(*path, name, known=known)
        return names

    def table(self, *path: str | int, known: Iterable[str]) -> None:
        """Complain of unknown keys in a table."""
        for key in self.value(path, dict, "a table", {}):
            if key in _IGNORED:
                self.notes.append(f"{self.document.place(*path, key).where}: {key} is ignored: {_IGNORED[key]}")
            elif key not in known:
                remedy = suggest(key, known, f"known are: {', '.join(known)}")
                raise self.document.error(f"unknown name {key!r}", *path, key, remedy=remedy)


def _kind(value: object) -> str:
    kinds = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return kinds.get(type(value), "a date or a time")


def read(document: Document) -> Wanted:
    """Read the tables; raise ConfigError."""
    reader = _Reader(document)
    families = frozenset(
        version for version, default in ((4, True), (6, False)) if reader.flag(f"ipv{version}_servers", default)
    )
    if not families:
        raise document.error("neither ipv4_servers nor ipv6_servers leaves no servers", "ipv4_servers")
    for key in ("doh_servers", "odoh_servers"):
        if reader.flag(key, False):
            reader.notes.append(f"{document.place(key).where}: {key} is ignored: {_NO_HTTPS}")
    disabled = reader.texts("disabled_server_names", most=MOST_DISABLED) or ()
    return Wanted(
        document.path,
        reader.texts("server_names", most=MOST_NAMES) or (),
        frozenset(one.text.casefold() for one in disabled),
        tuple(key for key, default in _DEFAULTS.items() if reader.flag(key, default)),
        families, reader.flag("dnscrypt_servers", True),
        _statics(reader), _sources(reader), _routes(reader), tuple(reader.notes), _direct(reader),
    )  # fmt: skip


def _statics(reader: _Reader) -> dict[str, Said]:
    found: dict[str, Said] = {}
    for name in reader.tables("static", known=_STATIC):
        stamp = reader.needed("static", name, "stamp")
        if not name.isprintable():
            raise reader.document.error("this is not fit for a name", "static", name)
        found[name] = stamp
    return found


def _sources(reader: _Reader) -> tuple[Source, ...]:
    names = reader.tables("sources", known=_SOURCE)
    if len(names) > MOST_SOURCES:
        raise reader.document.error(f"{len(names)} sources, and {MOST_SOURCES} are the most", "sources")
    made = tuple(_source(reader, name) for name in names)
    files: dict[str, str] = {}
    for one in made:
        other = files.setdefault(os.path.normcase(os.path.abspath(one.cache_file)), one.name)
        if other != one.name:
            problem = f"source {other} has the same file; each would store its own list there"
            raise reader.document.error(problem, "sources", one.name, "cache_file")
    return made


def _source(reader: _Reader, name: str) -> Source:
    at, document = ("sources", name), reader.document
    if not name.isprintable():
        raise document.error("this is not fit for a name", *at)
    file, key = reader.needed(*at, "cache_file"), reader.needed(*at, "minisign_key")
    one = reader.text(*at, "url")
    urls = reader.texts(*at, "urls", most=MOST_VIA) or ((one,) if one else ())
    prefix = reader.text(*at, "prefix")
    delay = reader.value((*at, "refresh_delay"), int, "a number of hours", 0)
    # Relative to the file that says it, as with dnscrypt-proxy: a service is not started just anywhere.
    path = os.path.join(os.path.dirname(document.path), file.text)
    try:
        return Source(
            name, cache_file=path, minisign_key=key.text, urls=[one.text for one in urls],
            refresh_delay=max(0, min(delay, 1 << 16)), prefix=prefix.text if prefix else "",
        )  # fmt: skip
    except SourceError as error:
        said = str(error)
        found: list[Said] = [one for one in urls if repr(one.text) in said]
        found += [given for what, given in (("cache_file", file), ("minisign_key", key)) if f" {what}" in said]
        place = found[0].place if found else document.place(*at)
        remedy = "copy it from where the list is published" if place == key.place else ""
        raise place.error(said, remedy) from None


def _direct(reader: _Reader) -> Place | None:
    at = "anonymized_dns", "direct_cert_fallback"
    if not reader.value(at[:1], dict, "a table", {}) or not reader.flag(at[1], False, at[0]):
        return None
    return reader.document.place(*at)


def _routes(reader: _Reader) -> dict[str, Route]:
    top = "anonymized_dns"
    reader.table(top, known=_ANONYMIZED)
    if not reader.value((top,), dict, "a table", {}):
        return {}
    count = len(reader.value((top, "routes"), list, "a list of { server_name = ..., via = [...] }", []))
    if count > MOST_ROUTES:
        raise reader.document.error(f"{count} routes, and {MOST_ROUTES} are the most", top, "routes")
    found: dict[str, Route] = {}
    for number in range(count):
        at = (top, "routes", number)
        reader.value(at, dict, "{ server_name = ..., via = [...] }", {})
        reader.table(*at, known=_ROUTE)
        server = reader.text(*at, "server_name")
        via = reader.texts(*at, "via", most=MOST_VIA)
        if server is None or not via:
            # Without relays a server would be asked directly.
            problem = f"the route has no {'server_name' if server is None else 'via'}"
            remedy = "write { server_name = NAME or '*', via = [RELAY, ...] }"
            raise reader.document.error(problem, *at, *(("via",) if server else ()), remedy=remedy)
        if server.text.casefold() in found:
            raise server.error("a second route for the same server", "name all its relays in one, the preferred first")
        found[server.text.casefold()] = Route(server, via)
    return found
