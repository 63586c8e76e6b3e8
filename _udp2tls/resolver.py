"""A DNSCrypt resolver as an upstream: asked over UDP, and over TCP for what UDP cannot carry.

Owns what both ways share, the provider. The way over TCP is an upstream of its own, next in
order, or after all relays were tried over UDP: so it also stands in where UDP is blocked.
Whoever is asked through a relay is never connected to in any other way: the relay's address
is the only one there is, or those that its name has. Where the user allows it there is ``direct``
besides, for certificates alone.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import cast

from _udp2tls import box, direct, relay, tls
from _udp2tls.config import ConfigError, Endpoint, UpstreamSpec
from _udp2tls.dnscrypt import Udp
from _udp2tls.dnscrypt_tcp import Tcp
from _udp2tls.link import Link
from _udp2tls.nearness import ADDRESS, nearness
from _udp2tls.provider import Habit, Provider
from _udp2tls.upstream import Upstream

_SOME = Endpoint("::", 0)


class Resolver(Upstream):
    """One way to a DNSCrypt resolver. ``provider`` is shared with the other way."""

    timed = True
    greeting = "DNSCrypt certificate"

    def __init__(self, spec: UpstreamSpec, provider: Provider) -> None:
        super().__init__(spec, tls.Session(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ""))  # never used
        self.provider = provider
        self.prefix = b""
        if spec.relay:
            self.prefix = relay.prefix(spec.host, spec.port)

    def start_over(self, now: float) -> None:
        self.provider.forget(now)

    def forgive(self) -> None:
        super().forgive()
        for one in self.fetchers:
            one.forgive()

    def ready(self, now: float) -> bool:
        return self.provider.ready(now)

    def found(self, hosts: list[str]) -> str:
        """Take the addresses of a relay's name, but for the server's own: nobody shall see both ends."""
        apart = [host for host in hosts if nearness(host, self.spec.host) != ADDRESS]
        super().found(apart)
        return "" if apart else f"it is at the server's own address, {self.spec.host}"

    def news(self) -> str:
        found, self.provider.news = self.provider.news, None
        return f"provider {self.provider.name}, {found.describe()}" if found else ""


class OverUdp(Resolver):
    """The usual way."""

    datagrams = True

    def __str__(self) -> str:
        return f"{self.spec} over UDP" if self.spec.prefer_tcp else str(self.spec)

    def codec(self, now: float = 0.0) -> Udp:
        codec = Udp(self.provider, now, prefix=self.prefix)
        codec.overflow = []
        return codec

    def learn(self, link: Link) -> list[tuple[bytes, bytes]]:
        codec = cast("Udp", link.codec)
        short, codec.overflow = codec.overflow or [], []
        return short


class OverTcp(Resolver):
    """The other way."""

    def __init__(self, spec: UpstreamSpec, provider: Provider) -> None:
        super().__init__(spec, provider)
        self.habit = Habit() if spec.relay else None

    def __str__(self) -> str:
        return str(self.spec) if self.spec.prefer_tcp else f"{self.spec} over TCP"

    def codec(self, now: float = 0.0) -> Tcp:
        return Tcp(self.provider, now, prefix=self.prefix, habit=self.habit)

    def learn(self, link: Link) -> list[tuple[bytes, bytes]]:
        codec, path = cast("Tcp", link.codec), link.path
        # Where several may be asked at once, ``room`` says how many, for each connection.
        learned = int(codec.width == 1), codec.capacity
        if learned != (path.width, path.capacity):
            path.width, path.capacity = learned
            link.settle()
        return []


def build(spec: UpstreamSpec, wall: Callable[[], float], *, ephemeral: bool = False) -> list[Upstream]:
    """Return both ways to a resolver, the preferred one first. Raises ConfigError.

    ``ephemeral``: seal each query with a key pair of its own.
    """
    try:
        provider = Provider(
            spec.name, spec.key, os.urandom, wall, ephemeral=ephemeral, xsalsa20=not box.why_not(box.XSALSA20)
        )  # fmt: skip
    except (ValueError, box.Unavailable) as error:
        raise ConfigError(f"{spec}: {error}", where="--upstream") from error
    udp, tcp = OverUdp(spec, provider), OverTcp(spec, provider)
    udp.twin = tcp
    # Preferred or not, both are needed: dnsdist gives certificates over UDP alone.
    first, second = (tcp, udp) if spec.prefer_tcp else (udp, tcp)
    second.stands_in_for = first
    return [first, second]


def describe(spec: UpstreamSpec, found: str, *, ephemeral: bool) -> str:
    """Say in one line how a resolver is asked, for ``--check``; ``found``: how a relay's address is."""
    return (
        f"DNSCrypt, provider {spec.name}"
        + (f", through the relay {spec.relay}{found}" if spec.relay else "")
        + (", over TCP where it can be" if spec.prefer_tcp else "")
        + (", a new key pair for each query" if ephemeral else ", a new key pair every hour")
    )


def by_relay(upstreams: Sequence[Upstream]) -> list[Upstream]:
    """Return them so that a server is asked through each of its relays before it is asked in the other way.

    A relay that fails, fails in both ways: its other way would be silence once more.
    """
    found: list[Upstream] = []
    for _, group in groupby(upstreams, _server_of):
        found += sorted(group, key=lambda one: one.datagrams == one.spec.prefer_tcp)
    _allow_direct(found)
    return found


def _allow_direct(upstreams: Sequence[Upstream]) -> None:
    """Have servers asked for their certificates themselves, where that is allowed."""
    servers: dict[tuple[str, int, str, bytes], list[Resolver]] = {}
    for one in upstreams:
        if isinstance(one, Resolver) and one.spec.relay and one.spec.direct_certificate:
            servers.setdefault((one.spec.host, one.spec.port, one.spec.name, one.spec.key), []).append(one)
    for ways in servers.values():
        ways[0].fetchers = direct.both(ways, list(dict.fromkeys(way.provider for way in ways)))


def _server_of(one: Upstream) -> UpstreamSpec:
    """Return the same for all ways through relays to one server, and for those alone."""
    return replace(one.spec, relay=_SOME) if one.spec.relay else one.spec
