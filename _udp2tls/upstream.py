"""One upstream: its addresses, its session, what was learned about it; it makes codecs.

What is learned outlives connections and lives here: the TLS ticket, which address worked
last, for each address its ``Path``, and the counters. Decides nothing: which upstream is
used when is ``delivery``'s business, which is connected to when is ``dialer``'s.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from _udp2tls import tls
from _udp2tls.codec import Codec
from _udp2tls.config import Config, ConfigError, Endpoint, UpstreamSpec
from _udp2tls.framing import Framing
from _udp2tls.path import LONGEST_IDLE, Path, Rest

if TYPE_CHECKING:
    from _udp2tls.link import Link

TCP_LIMIT, CONNECT_LIMIT = 1.5, 3.5


class Upstream:
    """See the file's docstring. ``addresses`` is empty until a host name was looked up."""

    datagrams = False  # its connections are UDP sockets
    timed = False  # its codecs have deadlines, and more to say than answers
    greeting = "TLS handshake"  # what an attempt waits for
    # Those that ask the server itself for its certificate; and whose ways through relays such a one is for.
    fetchers: tuple[Upstream, ...] = ()
    fetches_for: tuple[Upstream, ...] = ()

    def __init__(self, spec: UpstreamSpec, session: tls.Session) -> None:
        self.spec = spec
        self.session = session
        self.twin: Upstream | None = None  # the same resolver over TCP, for what has no room in a datagram
        self.stands_in_for: Upstream | None = None  # the same resolver's preferred way
        self.addresses: list[Endpoint] = [spec.target] if spec.literal else []
        self.paths: dict[Endpoint, Path] = {}
        self.counts: Counter[str] = Counter()
        self.reason = ""  # why it failed last
        self.looking_up = False
        self.lookup = Rest()
        # Seconds for the TCP handshake (one retransmitted SYN, after 1 s, fits), for that and the
        # TLS handshake together, and until an idle connection is closed whatever its server allows.
        self.tcp_limit, self.connect_limit, self.idle_limit = TCP_LIMIT, CONNECT_LIMIT, LONGEST_IDLE
        self.volatile = False  # its name is looked up again for every connection
        self.benched = False  # others are asked before it, until it has passed a trial
        self.trials = Rest()
        self.refusals = 0  # in a row, of what another upstream then answered

    def __str__(self) -> str:
        return str(self.spec)

    def codec(self, now: float = 0.0) -> Codec:
        """Begin one connection's worth of protocol."""
        return tls.Tls.client(Framing(), self.session)

    def start_over(self, now: float) -> None:
        """The machine slept or its network changed."""

    def ready(self, now: float) -> bool:
        """True when the next connection needs no greeting."""
        return False

    def learn(self, link: Link) -> list[tuple[bytes, bytes]]:
        """Note what the link's codec has learned; return (query, answer cut short) of what is to be asked over TCP."""
        return []

    def news(self) -> str:
        """Return what has been learned of it that the log should say, once."""
        return ""

    def path_of(self, address: Endpoint) -> Path:
        return self.paths.setdefault(address, Path())

    def forgive(self) -> None:
        """What went wrong was the network's doing: nothing rests any more."""
        for path in self.paths.values():
            path.recover()
        self.lookup.recover()
        self.trials.recover()
        self.benched, self.refusals = False, 0

    def found(self, hosts: list[str]) -> str:
        """Take the result of a look-up; families alternate, IPv6 first (RFC 8305 section 4).

        Returns why none of it can be used; nothing when some can.
        """
        six = [host for host in hosts if ":" in host]
        four = [host for host in hosts if ":" not in host]
        order = [host for pair in zip(six, four) for host in pair]
        order += six[len(four) :] + four[len(six) :]
        self.addresses = [Endpoint(host, self.spec.target.port) for host in order]
        self.paths = {a: self.paths[a] for a in self.addresses if a in self.paths}
        return ""

    def prefer(self, address: Endpoint) -> None:
        """Remember the address that worked: it is tried first next time."""
        if address in self.addresses:
            self.addresses.remove(address)
            self.addresses.insert(0, address)


def build(config: Config, wall: Callable[[], float] = lambda: 0.0) -> list[Upstream]:
    """Make the configured upstreams; they share one TLS context. Raises ConfigError.

    ``wall`` gives the seconds of the calendar, which certificates of DNSCrypt are compared with.
    """
    if any(spec.key for spec in config.upstreams):
        _require("cryptography", "--upstream with a stamp of DNSCrypt")
        from _udp2tls import resolver  # few have one

        plain = [spec for spec in config.upstreams if not spec.key]
        made = {one.spec: one for one in _build_all(replace(config, upstreams=tuple(plain)))} if plain else {}
        upstreams: list[Upstream] = []
        for spec in config.upstreams:
            upstreams += resolver.build(spec, wall, ephemeral=config.ephemeral_keys) if spec.key else [made[spec]]
        return resolver.by_relay(upstreams)
    return _build_all(config)


def _build_all(config: Config) -> list[Upstream]:
    if config.pins:
        _require("cryptography", "--pin")
    if any(spec.hashes for spec in config.upstreams):
        _require("cryptography", "--upstream with a stamp that has hashes")
    if config.bootstrap:
        _require("dnslib", "--bootstrap")
    return _build(config, config.upstreams, config.pins)


def build_bootstrap(config: Config) -> list[Upstream]:
    """Make the upstreams that only look up other upstreams' names. Pins are not theirs."""
    return _build(config, config.bootstrap, frozenset())


def _require(package: str, option: str) -> None:
    """Better now than with the first connection."""
    if find_spec(package) is None:
        raise ConfigError(f"needs the package {package}", where=option, remedy=f"pip install {package}")


def _build(config: Config, specs: tuple[UpstreamSpec, ...], pins: frozenset[bytes]) -> list[Upstream]:
    if config.sessions:
        upstreams = [Upstream(spec, config.sessions(spec)) for spec in specs]
    else:
        looked_for = pins.union(*(spec.hashes for spec in specs))
        by_system = tls.system_verifies(config.ca_file, config.client_cert, looked_for, os.environ)
        context = tls.client_context(config.ca_file, config.client_cert, config.client_key, by_system=by_system)
        upstreams = [Upstream(spec, tls.Session(context, spec.name, pins, hashes=spec.hashes)) for spec in specs]
    for upstream in upstreams:
        upstream.tcp_limit = min(TCP_LIMIT, config.connect_limit)
        upstream.connect_limit = min(CONNECT_LIMIT, config.connect_limit + config.handshake_limit)
        upstream.idle_limit = min(LONGEST_IDLE, config.idle_limit)
        upstream.volatile = config.delay and not upstream.spec.literal
    return upstreams
