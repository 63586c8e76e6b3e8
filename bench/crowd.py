"""A forwarder among fakes with many of something: TCP clients, pending queries, upstreams, listeners, services.

Real: everything in ``udp2tls`` and ``_udp2tls``, and OpenSSL at both ends of every link.
Fake: sockets, selector, and the clock, which goes on by ``STEP`` a turn: what the loop
does now and then, whether or not there are queries, is in the cost of the queries at
1000 a second. The fakes are those of ``world``, which has one of everything.

Queries come one at a time, each from the next of the TCP clients (if there are any), or
to the next of the listeners. What is pending was sent to the upstream and never answered.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from selectors import SelectorKey

from _udp2tls import demo
from _udp2tls.codec import Codec
from _udp2tls.config import Config, Endpoint, UpstreamSpec
from _udp2tls.loop import WRITE
from bench import material
from bench.world import Bytestream, Datagrams, Listener, Selector
from udp2tls import Forwarder

# Seconds a turn takes; a query is two of them.
STEP = 0.0005

# What is pending has numbers from here on, so that its names are its own. Its IDs are spread
# over all there are, as clients choose them: the next is this much further.
PENDING_FROM, SPREAD = 10_000, 40_503


@dataclass(frozen=True)
class Size:
    """How many of what; everything but ``pending`` and ``clients`` for each of the services."""

    clients: int = 0
    pending: int = 0
    upstreams: int = 1
    listeners: int = 1
    services: int = 1
    strategy: str = "ordered"


class Peer(Bytestream):
    """A connection to an upstream, with the upstream at its other end."""

    def __init__(self, resolver: Codec) -> None:
        super().__init__()
        self.resolver = resolver
        self.fresh = True

    def work(self, *, answering: bool) -> None:
        """Read what was written, write what there is to say: handshake, and answers unless they are withheld."""
        written, self.sent = self.sent, []
        asked = self.resolver.receive(written, 0.0)
        if asked and answering:
            self.resolver.send([material.brief(message) for message in asked], 0.0)
        self.inbox.extend(self.resolver.outgoing())


class _Woken(Selector):
    """Remembers no socket twice: two queries may wait in one."""

    def wake_all(self, peers: list[Peer]) -> None:
        for peer in peers:
            self.ready.append((self._keys[peer], WRITE if peer.fresh else 1))
            peer.fresh = False

    def key_of(self, sock: object) -> SelectorKey | None:
        return self._keys.get(sock)


class Crowd:
    """See the file's docstring. ``turn`` once after ``query_comes``, once after ``answer_comes``."""

    def __init__(self, files: demo.Files, size: Size) -> None:
        self.size = size
        self.now = 1000.0
        self._selector = _Woken()
        self._resolver = demo.codec_factory(files)
        self._peers: list[Peer] = []
        self._queries = material.queries(4096)
        self._asked = 0
        specs = tuple(UpstreamSpec("127.0.0.1", 10_000 + port, demo.NAME) for port in range(size.upstreams))
        config = Config(specs, listen=(), ca_file=files.ca_file, strategy=size.strategy, moderation=0.0)
        self.forwarder = Forwarder(
            *(config,) * size.services, clock=lambda: self.now, selector=self._selector, rng=random.Random(1),
            open_stream=self._open, wall=lambda: self.now, route=lambda address: "127.0.0.1",
        )  # fmt: skip
        self._turn = self.forwarder.turn
        self._listeners: list[Datagrams] = []
        self._clients: deque[Bytestream] = deque()
        for service in self.forwarder.services:
            for _ in range(size.listeners):
                self._listeners.append(Datagrams())
                service.clients.listen_udp(self._listeners[-1], guarded=False)
        self._open_links()
        if size.clients:
            self._accept(size.clients)
        self._drain()
        self.leave_pending(size.pending)
        for _ in range(2 * len(self._listeners) + 20):
            self.both_turns()

    def _open(self, address: Endpoint) -> Peer:
        self._peers.append(Peer(self._resolver()))
        return self._peers[-1]

    def turn(self) -> None:
        self._turn()
        self.now += STEP

    def _open_links(self) -> None:
        """Ask until every link there will be is open."""
        wanted = self.size.services * (1 if self.size.strategy == "ordered" else self.size.upstreams)
        for _ in range(20 * wanted + 20):
            self.both_turns()
            if self.links >= wanted:
                return
        raise RuntimeError(f"{self.links} of {wanted} links are open")

    @property
    def links(self) -> int:
        """How many take queries now."""
        return sum(link.takes for service in self.forwarder.services for link in service.delivery.links)

    def _accept(self, count: int) -> None:
        listener = Listener()
        self._clients.extend(Bytestream() for _ in range(count))
        listener.inbox.extend(self._clients)
        clients = self.forwarder.clients
        clients.limit = max(clients.limit, count)
        clients.listen_tcp(listener, guarded=False)
        while listener.inbox:
            self._selector.wake(listener)
            self._turn()

    def _drain(self) -> None:
        """Have everything answered that was asked so far."""
        while self.waiting:
            self.answer_comes()
            self.turn()

    def leave_pending(self, count: int) -> None:
        """Ask what is never answered; while the clock stands still, else it would be given up."""
        listener = self._listeners[0]
        for number in range(count):
            id = (number * SPREAD & 0xFFFF).to_bytes(2, "big")
            listener.inbox.append(id + material.query(PENDING_FROM + number)[2:])
        while listener.inbox:
            self._selector.wake(listener)
            self._turn()
        self._work(answering=False)

    def query_comes(self) -> None:
        """Put a query where the next turn finds it."""
        self._asked += 1
        query = self._queries[self._asked % len(self._queries)]
        if self._clients:
            client = self._clients[0]
            self._clients.rotate(-1)
            client.sent.clear()
            client.inbox.append(len(query).to_bytes(2, "big") + query)
            self._selector.wake(client)
        else:
            listener = self._listeners[self._asked % len(self._listeners)]
            listener.inbox.append(query)
            self._selector.wake(listener)

    def answer_comes(self) -> None:
        """Have the upstreams answer; the next turn finds the answers."""
        self._work(answering=True)

    def _work(self, *, answering: bool) -> None:
        busy = []
        for peer in self._peers:
            if peer.sent:
                peer.work(answering=answering)
            if (peer.inbox or peer.fresh) and self._selector.key_of(peer):
                busy.append(peer)
        self._selector.wake_all(busy)

    def both_turns(self) -> None:
        """A query out, its answer back."""
        self.query_comes()
        self.turn()
        self.answer_comes()
        self.turn()

    @property
    def waiting(self) -> int:
        """How many queries wait for an answer."""
        return sum(len(service.pending) for service in self.forwarder.services)

    @property
    def answered(self) -> int:
        """How many answers the upstreams have given."""
        answers: int = self.forwarder.statistics()["answers"]
        return answers

    def close(self) -> None:
        for service in self.forwarder.services:
            service.pending.clear()  # nobody minds
        self.forwarder.close()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()
