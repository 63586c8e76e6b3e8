"""Which upstreams a file's tables come to: its names or requirements, the lists, and the routes.

Owns the choice. Servers that are named are asked in that order, each with all its stamps for
the versions of IP in use. Without names it is all of [static] and of the lists that have
what is required, at most ``UNNAMED`` of a list's; but where the file gives upstreams by URL
itself, those alone: lists that are there for their relays shall not add servers. Upstreams given
by URL come first.

The lists may change while the program runs: ``renewed`` chooses again from what the sources
have by then, and reads no file. What it raises leaves the old choice standing.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from _udp2tls import catalog, stamps, tables
from _udp2tls.catalog import STATIC, Catalog, Offer
from _udp2tls.config import Config, ConfigError, UpstreamSpec
from _udp2tls.routes import STANDARD, NoRelay, Routes, rank
from _udp2tls.sources import Source
from _udp2tls.tables import Said, Wanted
from _udp2tls.toml_document import Document, suggest

# So many servers of lists are used when none is named. All of a long list would be asked for
# certificates in turn on a bad day, and each is another who learns names that are asked for.
UNNAMED = 16

# So many ways lead to them, at most: with relays there are several to each. Windows has room for
# the connections of 45 upstreams.
WAYS = 32

# Stamps of one server that are used, at most.
STAMPS = 4


class NothingChosen(ConfigError):
    """There is no upstream, for lists are missing; ``sources`` are those to download."""

    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Choice:
    """``given``: the upstreams by URL that come first. ``lines`` are for --check.

    ``salt``, this machine's name, makes the choice its own where any will do.
    """

    wanted: Wanted
    given: tuple[UpstreamSpec, ...]
    salt: str
    upstreams: tuple[UpstreamSpec, ...] = ()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read(document: Document, given: Sequence[UpstreamSpec]) -> tuple[tuple[UpstreamSpec, ...], dict[str, Any]]:
    """Read the tables and the files of the lists, and choose; raise ConfigError.

    Returns the upstreams, and other fields of Config.
    """
    wanted = tables.read(document)
    chosen = choose(Choice(wanted, tuple(given), platform.node(), warnings=tuple(catalog.load(wanted))))
    return chosen.upstreams, {
        "sources": wanted.sources, "renewed": renewed, "choice": chosen, "notes": chosen.notes,
        "warnings": chosen.warnings,
    }  # fmt: skip


def renewed(config: Config) -> Config:
    """Return the configuration with upstreams out of the lists that its sources have now; raise ConfigError."""
    old = config.choice
    if old is None:
        return config
    new = choose(replace(old, warnings=()))
    return replace(
        config, upstreams=new.upstreams, choice=new,
        notes=(*(note for note in config.notes if note not in old.notes), *new.notes),
        warnings=(*(one for one in config.warnings if one not in old.warnings), *new.warnings),
    )  # fmt: skip


def choose(base: Choice) -> Choice:
    """Choose from what the sources have; warnings of ``base`` are kept. Opens nothing."""
    return _Chooser(base).choose()


class _Chooser:
    """One choice under way."""

    def __init__(self, base: Choice) -> None:
        self.base, self.wanted = base, base.wanted
        self.catalog = Catalog(base.wanted)
        self.routes = Routes(self.catalog, base.salt)
        self.lines = list(self.catalog.lines)
        self.notes = list(base.wanted.notes)
        self.warnings = [*base.warnings, *self.catalog.warnings]
        self.used: set[str] = set()
        self.look = f"see what there is: udp2tls --list {self.wanted.path}"

    def choose(self) -> Choice:
        self._check_statics()
        self._check_routes()
        specs = [*self.base.given]
        if self.wanted.server_names:
            for said in self.wanted.server_names:
                specs += self._named(said)
        elif self.base.given:
            if self.wanted.static or self.catalog.lines:
                self.notes.append("upstreams are given by URL, so servers of lists are asked only by server_names")
        else:
            specs += self._unnamed()
        self._say_unused_routes()
        if not specs:
            raise self._nothing()
        if self.wanted.direct_certificates and any(one.direct_certificate for one in specs):
            self.warnings.append(
                f"{self.wanted.direct_certificates.where}: direct_cert_fallback = true: where no relay brings a"
                " server's certificate, the server is asked for it directly and sees your address"
            )
        return replace(
            self.base, upstreams=tuple(dict.fromkeys(specs)), lines=tuple(self.lines), notes=tuple(self.notes),
            warnings=tuple(dict.fromkeys((*self.warnings, *self.routes.warnings))),
        )  # fmt: skip

    def _check_statics(self) -> None:
        for name, said in self.wanted.static.items():
            if self.catalog.offers(name)[0].stamp is None:
                stamps.upstream(said.text, said.place.where)  # says where in the stamp the mistake is

    def _check_routes(self) -> None:
        """A route with a mistake in its name is no route, and its server would be asked directly."""
        for route in self.wanted.routes.values():
            name = route.server.text
            if name == "*" or self.catalog.find(name):
                continue
            if not self.catalog.missing:
                raise self._unknown(route.server)
            self.warnings.append(f"{route.server.place.where}: a route for {name!r}, which is in no list that is here")

    def _say_unused_routes(self) -> None:
        for route in self.wanted.routes.values():
            if route.server.text != "*" and self.catalog.find(route.server.text) not in self.used:
                self.notes.append(f"{route.server.place.where}: the route for {route.server.text} is not needed")
        direct = [str(one) for one in self.base.given if not one.relay]
        if direct and self.wanted.routes:
            self.warnings.append(f"routes are for servers by name; without a relay is asked: {', '.join(direct)}")

    def _unknown(self, said: Said) -> ConfigError:
        servers = [one for one in self.catalog if not all(offer.relay for offer in self.catalog.offers(one))]
        more = self.look if servers else "add [sources] with a list, or [static.NAME]"
        return said.error(f"there is no server {said.text!r}", suggest(said.text, servers, more))

    def _named(self, said: Said) -> list[UpstreamSpec]:
        name = self.catalog.find(said.text)
        if not name:
            if not self.catalog.missing:
                raise self._unknown(said)
            missing = ", ".join(self.catalog.missing)
            self.warnings.append(f"{said.place.where}: {said.text!r} is in no list that is here (missing: {missing})")
            return []
        offers = self.catalog.offers(name)
        if all(one.relay for one in offers):
            raise said.error(f"{name} is a relay, which answers no queries itself", "name it in via of a route")
        good = [one for one in offers if one.spec]
        if not good:
            self.notes.append(f"{name} is passed over: {offers[0].problem}")
            return []
        if name.casefold() in self.wanted.disabled:
            self.notes.append(f"{name} is named and disabled, so it is passed over")
            return []
        fitting = [one for one in good if one.families & self.wanted.families] or good
        try:
            return self._specs(fitting)
        except NoRelay as error:
            self.warnings.append(f"{error}; it is not asked")
            return []

    def _unnamed(self) -> list[UpstreamSpec]:
        own = [name for name in self.wanted.static if not all(one.relay for one in self.catalog.offers(name))]
        specs: list[UpstreamSpec] = []
        for name in own:
            specs += self._named(Said(name, self.wanted.static[name].place))
        found: dict[str, list[Offer]] = {}
        for offer in self.catalog.all():
            if offer.origin != STATIC and offer.spec and not offer.lacks(self.wanted):
                found.setdefault(offer.name, []).append(offer)
        order = sorted(found, key=lambda name: rank(self.base.salt, name))
        taken: list[str] = []
        for name in order:
            if len(taken) == UNNAMED or len(specs) >= WAYS:
                break
            more = list(self._quietly(found[name]))
            specs += more
            taken += [name] if more else []
        if found:
            required = ", ".join(self.wanted.require) or "nothing"
            which = "" if len(found) == len(taken) else f"; used are {len(taken)}, settled by chance for this machine"
            have = f"{len(found)} servers of lists have what is required ({required})"
            self.notes.append(f"no server_names: {have}{which}")
        return specs

    def _quietly(self, offers: list[Offer]) -> Iterator[UpstreamSpec]:
        """Give the ways to a server that nobody named; none when its route leaves none that works."""
        if self.routes.of(offers[0].name):
            offers = [one for one in offers if one.spec and one.spec.name.startswith(STANDARD)]
        heard = len(self.routes.warnings)
        try:
            yield from self._specs(offers)
        except ConfigError:
            del self.routes.warnings[heard:]

    def _specs(self, offers: list[Offer]) -> list[UpstreamSpec]:
        """Return the ways to a server; raise ConfigError when its route leaves none, to none of its stamps."""
        specs: list[UpstreamSpec] = []
        mistakes: list[ConfigError] = []
        for one in offers[:STAMPS]:
            try:
                specs += self._ways(one)
            except ConfigError as error:
                mistakes.append(error)
        if mistakes and not specs:
            raise mistakes[0]
        self.notes += [f"{offers[0].name} is not asked in one of its ways: {error.problem}" for error in mistakes]
        return specs

    def _ways(self, offer: Offer) -> list[UpstreamSpec]:
        """Return the ways to one stamp: with a route, each through a relay."""
        spec = offer.spec
        route, exact = self.routes.of(offer.name), self.routes.exact(offer.name)
        self.used.add(offer.name)
        if spec is None or route is None or (spec.relay and not exact):
            return [spec] if spec else []
        if spec.relay and exact:
            raise exact.server.error(f"the stamp of {offer.name} names a relay too", "leave one of the two out")
        ways = self.routes.ways(offer, route)
        self.lines.append(f"route     {offer.name} ({spec.host}) through {', then '.join(str(one) for one, _ in ways)}")
        return [way for _, way in ways]

    def _nothing(self) -> ConfigError:
        said = [*self.warnings, *self.routes.warnings, *self.notes]
        why = "".join(f"\n  {one}" for one in said)
        error = NothingChosen(
            f"there is no upstream among what the file names{why}",
            remedy='put each list and its .minisig where cache_file says, or add upstream = "tls://..."'
            if self.catalog.missing else f"name other servers, or require less; {self.look}",
        )  # fmt: skip
        error.sources = self.wanted.sources
        return error
