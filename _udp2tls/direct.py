"""A certificate asked of a DNSCrypt server itself, where no relay brings it and the user allows that.

Owns what goes to such a server without a relay: certificate queries, and by construction nothing
else. A ``Direct`` is not among the upstreams: no strategy, trial or number counts it. It
hangs on the first of the ways through relays to its server (``fetchers``), which the dialer
asks for it. Its codec's ``room`` is 0 and cannot be set, so that no connection of it ever opens,
and ``send`` refuses. It holds no keys: the answer goes to the providers of those ways, and
each checks it for itself. What is learned here of the server's manners is forgotten with the
connection, for through a relay they are others.

It takes the first good answer, and asks for the largest first over UDP, as is done through relays.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from _udp2tls import tls
from _udp2tls.certificate import NoCertificate
from _udp2tls.codec import CertificateError, ConnectionLost, ProtocolError
from _udp2tls.exchange import Exchange
from _udp2tls.framing import Framing
from _udp2tls.provider import Provider
from _udp2tls.upstream import Upstream


class Fetch:
    """One connection that asks for a certificate and is over: then ``closing`` is set.

    ``asker`` is a provider for this alone. ``give`` takes an answer that is good;
    ``needless`` says that there is nothing to ask for any more.
    """

    __slots__ = ("_asker", "_exchange", "_frames", "_give", "_needless", "_out", "closing", "deadline")

    room = 0  # of the class: an object has no place for another

    def __init__(
        self, asker: Provider, give: Callable[[bytes, float], None], needless: Callable[[float], bool], now: float, *,
        stream: bool,
    ) -> None:  # fmt: skip
        self.closing = False
        self.deadline = math.inf
        self._asker, self._give, self._needless = asker, give, needless
        # Over UDP asked as through a relay: the first good answer is enough, and it is the largest.
        self._exchange = Exchange(asker, relayed=not stream, stream=stream)
        self._frames = Framing() if stream else None
        self._out: list[bytes] = []
        self._tick(now)

    def send(self, messages: Sequence[bytes], now: float) -> None:
        raise RuntimeError("a query for a server that is asked for its certificate alone")

    def receive(self, chunks: Sequence[bytes], now: float) -> list[bytes]:
        for packet in self._frames.receive(chunks, now) if self._frames else chunks:
            if not self.closing and self._exchange.is_answer(packet):
                self._take(packet, now)
            elif self._frames:
                raise ProtocolError("DNSCrypt: a frame that is no certificate")
        if now >= self.deadline:
            self._tick(now)
        return []

    def _take(self, packet: bytes, now: float) -> None:
        try:
            self._exchange.take(packet, now)
        except NoCertificate as error:
            if self._frames:
                raise CertificateError(f"DNSCrypt: {error}") from None
            return  # over UDP anybody may have said so
        self._give(packet, now)
        self._end()

    def _tick(self, now: float) -> None:
        if self.closing:
            return
        if self._needless(now):
            self._end()
            return
        begun = self._exchange.active
        query = self._exchange.look(now)
        if begun and not self._exchange.active:
            raise ConnectionLost(f"DNSCrypt: {self._asker.reason}")
        self._out += [query] if query else []
        self.deadline = self._exchange.due

    def _end(self) -> None:
        self.closing, self.deadline = True, math.inf

    def outgoing(self) -> list[bytes]:
        out, self._out = self._out, []
        if self._frames:
            self._frames.send(out, 0.0)
            return self._frames.outgoing()
        return out

    def close(self) -> None:
        pass

    def eof(self, now: float) -> list[bytes]:
        if not self.closing:
            raise ConnectionLost("DNSCrypt: the server closed without an answer to the query for a certificate")
        return []


class Direct(Upstream):
    """See the file's docstring. ``ways`` are those through relays, of all ``providers``."""

    timed = True
    greeting = "DNSCrypt certificate"

    def __init__(self, ways: Sequence[Upstream], providers: Sequence[Provider], *, stream: bool) -> None:
        spec = replace(ways[0].spec, relay=None, direct_certificate=False)
        super().__init__(spec, tls.Session(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ""))  # never used
        self.datagrams = not stream
        self.fetches_for = tuple(ways)
        self._providers = tuple(providers)

    def __str__(self) -> str:
        return f"{self.spec}, its certificate alone, over {'UDP' if self.datagrams else 'TCP'}"

    def codec(self, now: float = 0.0) -> Fetch:
        return Fetch(self._providers[0].stranger(), self._give, self.ready, now, stream=not self.datagrams)

    def ready(self, now: float) -> bool:
        """True while no way lacks a certificate."""
        return all(one.ready(now) for one in self._providers)

    def _give(self, packet: bytes, now: float) -> None:
        """Give an answer to those who lack a certificate."""
        for one in self._providers:
            if not one.ready(now):
                with suppress(NoCertificate):
                    one.take(packet, now)
        self.forgive()

    def news(self) -> str:
        text = ""
        for one in self._providers:
            if one.news:
                text = f"provider {one.name}, {one.news.describe()}; no relay brought it: the server was asked itself"
                one.news = None
        return text


def both(ways: Sequence[Upstream], providers: Sequence[Provider]) -> tuple[Direct, Direct]:
    """Return what asks a server for its certificate over UDP, and over TCP where that brings nothing."""
    udp, tcp = Direct(ways, providers, stream=False), Direct(ways, providers, stream=True)
    tcp.stands_in_for = udp
    return udp, tcp
