"""Through which relays a DNSCrypt server is asked: ``[anonymized_dns]`` becomes upstreams.

Owns what ``via`` may say, which relays of the lists ``*`` stands for, and their order. A server
with a route is asked through relays or not at all (but for its certificate, where the file says
so: see ``direct``): each way made here has one, and where none remains that is a mistake, or a
server less. One relay is one upstream, and the next one stands in for it, as one upstream stands
in for another.

A relay at the server's own address would see who asks and what: it is left out. In the same
network, or run by the same operator, it may: ``*`` leaves it out, by name it is a warning. Who
runs what is guessed: relays and servers of lists are named OPERATOR-PLACE, and servers that
share a provider's key have one operator, whose addresses are those of its relays too.

Which relays ``*`` takes is settled by hashes of the names: the same with every start, so that a
list that was renewed leaves the ways alone that are still there, and other ones for other servers
and on other machines (``salt``), so that not everybody asks through the first relay of the list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from _udp2tls import stamps
from _udp2tls.catalog import STATIC, Catalog, Offer
from _udp2tls.config import ConfigError, Endpoint, UpstreamSpec, is_address, parse_endpoint, parse_upstream
from _udp2tls.nearness import ADDRESS, nearness
from _udp2tls.stamp_fields import NAMES, Kind
from _udp2tls.tables import Route, Said
from _udp2tls.toml_document import suggest

# So many relays of a server are chosen by *. One is in use; each is two more upstreams.
STAR = 5

DNSCRYPT_PORT = 443

# Relays pass on certificates of names that begin so, and no others.
STANDARD = "2.dnscrypt-cert."

_WAYS = "a relay's name, a relay's or DNSCrypt server's stamp, ADDR[:PORT], HOST:PORT, or *"


class NoRelay(ConfigError):
    """A server that is to be asked through relays, and there is none."""


@dataclass(frozen=True)
class Relay:
    """``said``: where the file names it, None for one that * stands for; ``offer``: as what it is listed, if it is."""

    name: str
    address: Endpoint
    said: Said | None = None
    offer: Offer | None = None

    def __str__(self) -> str:
        return self.name if self.name == str(self.address) else f"{self.name} ({self.address})"


class Routes:
    """See the file's docstring. ``warnings`` fills while ``ways`` is asked."""

    def __init__(self, catalog: Catalog, salt: str) -> None:
        """Check what every route says, whether it is needed or not; raise ConfigError."""
        self._catalog, self._salt = catalog, salt
        self._routes = catalog.wanted.routes
        self.warnings: list[str] = []
        self._named = {key: self._read(route) for key, route in self._routes.items()}
        self._operators: dict[bytes, set[str]] | None = None
        self._all: list[Relay] | None = None

    def of(self, name: str) -> Route | None:
        """Return the route of a server by its name, or the one for all."""
        return self._routes.get(name.casefold()) or self._routes.get("*")

    def exact(self, name: str) -> Route | None:
        return self._routes.get(name.casefold())

    def _read(self, route: Route) -> list[Relay | None]:
        """Return the relays of a route; None stands for *."""
        found: list[Relay | None] = []
        for said in route.via:
            if said.text == "*":
                found.append(None)
            else:
                found += self._via(said)
        return found

    def _via(self, said: Said) -> list[Relay]:
        text = said.text
        name = self._catalog.find(text)
        if name:
            return self._by_name(name, said)
        if text.startswith("sdns:"):
            stamp = stamps.parse(text, said.place.where)
            if stamp.kind not in (Kind.DNSCRYPT_RELAY, Kind.DNSCRYPT):
                raise said.error(f"this is the stamp of {NAMES[stamp.kind]}, which relays no DNSCrypt", f"give {_WAYS}")
            address = Endpoint(stamp.ip, stamp.port)
            return [Relay(str(address), address, said)]
        if text.startswith("[") or is_address(text) or is_address(text.rpartition(":")[0]):
            try:
                address = parse_endpoint(text, said.place.where, DNSCRYPT_PORT)
            except ConfigError as error:
                raise said.error(error.problem, error.remedy) from None
            if not address.port:
                raise said.error("port 0 cannot be asked", f"leave it out for {DNSCRYPT_PORT}")
            return [Relay(str(address), address, said)]
        host, colon, _ = text.rpartition(":")
        if colon and host:
            return [Relay(text, self._looked_up(host, text, said), said)]
        if self._catalog.missing:
            missing = ", ".join(self._catalog.missing)
            self.warnings.append(f"{said.place.where}: {text!r} is in no list that is here (missing: {missing})")
            return []
        relays = [one for one in self._catalog if any(offer.relay for offer in self._catalog.offers(one))]
        raise said.error(f"there is no relay {text!r} in the lists", suggest(text, relays, f"give {_WAYS}"))

    @staticmethod
    def _looked_up(host: str, text: str, said: Said) -> Endpoint:
        """Read HOST:PORT; the name is looked up when the relay is needed, as upstreams' names are."""
        try:
            spec = parse_upstream(f"tls://{text}", said.place.where)
        except ConfigError:
            raise said.error(f"{text!r} is not HOST:PORT", f"give {_WAYS}") from None
        return Endpoint(spec.host, spec.port)

    def _by_name(self, name: str, said: Said) -> list[Relay]:
        offers = self._catalog.offers(name)
        good = [one for one in offers if one.stamp and one.stamp.kind in (Kind.DNSCRYPT_RELAY, Kind.DNSCRYPT)]
        if not good:
            what = offers[0].protocol or offers[0].problem
            raise said.error(f"{name} relays no DNSCrypt: {what}", f"give {_WAYS}")
        return [replace(_relay(one), said=said) for one in _preferred(good, self._catalog.wanted.families)]

    def ways(self, offer: Offer, route: Route) -> list[tuple[Relay, UpstreamSpec]]:
        """Return the ways to a server, the preferred first; raise ConfigError when there are none."""
        spec = offer.spec
        if spec is None or not spec.key:
            raise route.server.error(
                f"{offer.name} speaks {offer.protocol}, and only DNSCrypt goes through a relay",
                "choose a DNSCrypt server, or one more route for those that are meant",
            )
        if "%" in spec.host:
            raise route.server.error(f"{offer.name} has the address {spec.host}: a scope means nothing to a relay")
        relays: list[Relay] = []
        dropped: list[tuple[Relay, str]] = []
        for one in self._named[route.server.text.casefold()]:
            for relay in self._star(offer, spec) if one is None else [one]:
                if _near(relay, spec) == ADDRESS:
                    dropped.append((relay, "it is at the server's own address, and would see who asks and what"))
                else:
                    relays.append(relay)
        if not relays:
            raise self._none(offer, route, dropped)
        for relay, why in dropped:
            self._warn(relay, f"{offer.name} is not asked through {relay}: {why}")
        for relay in relays:
            if relay.said is not None:
                self._warn_near(relay, offer, spec)
        if not spec.name.startswith(STANDARD):
            self.warnings.append(
                f"{offer.name}: relays pass on certificates of {STANDARD}NAME alone, and its are of {spec.name}"
            )
        direct = self._catalog.wanted.direct_certificates is not None
        ways: dict[Endpoint, tuple[Relay, UpstreamSpec]] = {}
        for relay in relays:  # * may stand for one that is named too
            ways.setdefault(relay.address, (relay, replace(spec, relay=relay.address, direct_certificate=direct)))
        return list(ways.values())

    def _none(self, offer: Offer, route: Route, dropped: list[tuple[Relay, str]]) -> ConfigError:
        if dropped:
            relay, why = dropped[0]
            return (relay.said or route.server).error(f"no relay is left for {offer.name}: {why}", "name another relay")
        if self._catalog.missing:
            missing = ", ".join(self._catalog.missing)
            return NoRelay(f"{route.server.place.where}: no relay for {offer.name}, for lists are missing: {missing}")
        return route.via[0].error(
            f"no relay is left for {offer.name}", "name one, or add [sources.relays] with the relays' list"
        )

    def _warn(self, relay: Relay, text: str) -> None:
        where = f"{relay.said.place.where}: " if relay.said else ""
        self.warnings.append(where + text)

    def _warn_near(self, relay: Relay, offer: Offer, spec: UpstreamSpec) -> None:
        near = _near(relay, spec)
        if near:
            self._warn(relay, f"the relay {relay} is in the network of {offer.name}, {spec.host}, "
                       "and one operator may see who asks and what")  # fmt: skip
        elif self._same_operator(relay, offer):
            self._warn(relay, f"the relay {relay} and the server {offer.name} seem to have one operator, "
                       "who may see who asks and what")  # fmt: skip

    def _star(self, offer: Offer, spec: UpstreamSpec) -> list[Relay]:
        """Return relays of the lists that are not near the server; of its version of IP first, as some have one."""
        six = ":" in spec.host
        order = sorted(
            self._listed(), key=lambda one: ((":" in one.address.host) != six, rank(self._salt, offer.name, one.name))
        )
        far = (one for one in order if not _near(one, spec) and not self._same_operator(one, offer))
        return list(islice(far, STAR))

    def _listed(self) -> list[Relay]:
        """Return what * stands for, before it is known for whom."""
        if self._all is None:
            wanted = self._catalog.wanted
            self._all = [
                _relay(one) for one in self._catalog.all()
                if one.stamp and one.stamp.kind is Kind.DNSCRYPT_RELAY and one.families & wanted.families
                and one.name.casefold() not in wanted.disabled
            ]  # fmt: skip
        return self._all

    def _same_operator(self, relay: Relay, offer: Offer) -> bool:
        if self._operators is None:
            self._operators = {}
            for one in self._catalog.all():
                if one.spec and one.spec.key:
                    self._operators.setdefault(one.spec.key, set()).add(one.spec.host)
        if offer.spec and relay.address.host in self._operators.get(offer.spec.key, ()):
            return True
        return relay.offer is not None and operator(relay.offer) == operator(offer) != ""


def _near(relay: Relay, spec: UpstreamSpec) -> str:
    """Return how near a relay is to the server, as far as that is known before its name was looked up."""
    return nearness(relay.address.host, spec.host) if is_address(relay.address.host) else ""


def _relay(offer: Offer) -> Relay:
    stamp = offer.stamp
    return Relay(offer.name, Endpoint(stamp.ip, stamp.port) if stamp else Endpoint("", 0), offer=offer)


def _preferred(offers: Iterable[Offer], families: frozenset[int]) -> list[Offer]:
    """Return the stamps for the versions of IP that are in use, or all when there are none."""
    every = list(offers)
    return [one for one in every if one.families & families] or every


def operator(offer: Offer) -> str:
    """Return who runs a server or relay, going by its name; nothing for names that the file itself gives."""
    if offer.origin == STATIC:
        return ""
    return offer.name.removeprefix(offer.prefix).casefold().removeprefix("anon-").partition("-")[0]


def rank(*parts: str) -> bytes:
    """Return where something stands in an order that nobody chose."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
