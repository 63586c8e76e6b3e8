#!/usr/bin/env python3
"""udp2tls: a local DNS forwarder. Programs ask it over UDP and TCP; it asks over TLS.

This file is the front door and the loop: the only place that waits and that reads a
clock. What bytes mean is decided in ``_udp2tls``; this file moves them.

One turn: wait for an event or the nearest deadline, read the clock once, then for each
ready socket move a batch. A query costs one recvfrom and a place in the batch, a batch
one codec.send and one sock.send; an answer costs one look-up and one sendto.

Nothing here may block, and nothing that arrives from the network may end the loop.
"""

from __future__ import annotations

import queue
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from _udp2tls import __version__, cli, edns, log, lookup, upstream, wire
from _udp2tls.clients import Clients
from _udp2tls.config import BindError, Config, ConfigError, Endpoint
from _udp2tls.delivery import Delivery
from _udp2tls.links import Links
from _udp2tls.loop import READ, Loop
from _udp2tls.pending import Pending, Probe, Query
from _udp2tls.surroundings import LATE, Surroundings
from _udp2tls.system import best_selector, bind_both, local_address_towards, open_stream_to

__all__ = ["BindError", "Config", "ConfigError", "Forwarder", "__version__", "main"]

# Expiry looks this late, so that an outage costs a look per 20 ms, not one per query.
GRAIN = 0.02
# The loop never sleeps longer, for infinity is no timeout. Nothing depends on waking.
LONGEST_SLEEP = 3600.0


class Forwarder:
    """Listeners, links, and the one loop that serves both.

    ``clock`` gives monotonic seconds, ``wall`` those of the calendar. ``selector``, ``rng``,
    ``open_stream`` (from an Endpoint to a non-blocking socket on its way there) and ``route``
    (from an Endpoint to this machine's address on the way) are there for tests.
    Raises ConfigError for files that cannot be used; ``listen`` raises BindError.
    """

    def __init__(
        self, config: Config, *, clock: Callable[[], float] = time.monotonic,
        selector: Any = None, rng: random.Random | None = None,
        open_stream: Callable[[Endpoint], Any] | None = None,
        upstreams: Sequence[upstream.Upstream] | None = None,
        wall: Callable[[], float] = time.time, route: Callable[[Endpoint], str] = local_address_towards,
    ) -> None:  # fmt: skip
        self.config = config
        rng = rng or random.SystemRandom()  # IDs must not be guessable
        self.pending = Pending(config.timeout - 2 * GRAIN, rng)
        upstreams = upstream.build(config) if upstreams is None else upstreams
        self.delivery = Delivery(upstreams, self.pending, rng, config.strategy)
        self._clock = clock
        self._loop = Loop(selector or best_selector(), clock())
        self._select = self._loop.selector.select
        surroundings = Surroundings(wall, route, clock())
        self._links = Links(self._loop, self.pending, self.delivery, surroundings, open_stream or open_stream_to)
        self._links.look_up = self._look_up  # type: ignore[method-assign]
        self.clients = self._links.answers.clients = Clients(self._loop, config, self.pending, self._links.forward)
        self._dirty = self.clients.dirty
        self._stop_reason = self._resume_reason = ""
        self._wants_report = False
        self._names: queue.SimpleQueue[tuple[upstream.Upstream, list[str], str]] = queue.SimpleQueue()
        # Wakes the loop for signals and threads. Being registered, it also keeps select
        # from being called with nothing, which Windows does not bear.
        self._waker, self.wake_socket = socket.socketpair()
        for sock in (self._waker, self.wake_socket):
            sock.setblocking(False)
        self._loop.selector.register(self._waker, READ, (Forwarder._on_wake, self))

    def listen(self) -> list[Endpoint]:
        """Bind every configured address for UDP and TCP; return the addresses with their real ports."""
        bound = []
        for endpoint in self.config.listen:
            try:
                udp, tcp = bind_both(endpoint)
            except BindError as error:
                if not self.config.listen_optional or not error.no_such_address:
                    raise
                log.not_listening(endpoint, "this machine does not have the address")
                continue
            self.clients.listen_udp(udp, guarded=not endpoint.loopback)
            self.clients.listen_tcp(tcp, guarded=not endpoint.loopback)
            bound.append(Endpoint(endpoint.host, udp.getsockname()[1]))
        return bound

    def run(self) -> None:
        """Serve until ``stop`` is called, then answer what waits and close everything."""
        while not self._stop_reason:
            self.turn()
        log.stopping(self._stop_reason, len(self.pending))
        self.close()
        log.counters(self.statistics())
        log.stopped()

    def stop(self, reason: str) -> None:
        """End ``run``; callable from a signal handler and from other threads."""
        self._stop_reason = self._stop_reason or reason
        self._wake()

    def report(self) -> None:
        """Log the counters at the end of this turn or in the next; callable from a signal handler."""
        self._wants_report = True
        self._wake()

    def resume(self, reason: str) -> None:
        """The process had been stopped: trust no connection. Callable from a signal handler."""
        self._resume_reason = reason
        self._wake()

    def turn(self, limit: float = LONGEST_SLEEP) -> None:
        """Wait for something to happen, at most ``limit`` seconds, and deal with it."""
        loop = self._loop
        wait = loop.wake_at - loop.now
        events = self._select(wait if wait < limit else limit)
        loop.now = now = self._clock()
        for key, mask in events:
            handler, about = key[3]  # key.data, without the attribute's way around
            handler(about, mask)
        loop.turns += 1
        if now >= loop.wake_at:
            self._tick()
        if self._dirty:
            self.clients.flush()

    def _tick(self) -> None:
        """Do what time, or a change of connections, makes due, and find the next deadline."""
        if self._resume_reason or 0.0 < self._loop.wake_at < self._loop.now - LATE:
            self._links.start_over(self._resume_reason or "this process, or the whole machine, was asleep")
            self._resume_reason = ""
        if self._wants_report:
            self._wants_report = False
            log.counters(self.statistics())
        self._expire()
        self._links.tick()
        self._loop.wake_at = self._loop.now + LONGEST_SLEEP
        self._links.plan()
        self.clients.tick()
        self._loop.wake_by(self.pending.deadline + GRAIN)

    def _expire(self) -> None:
        gone = self.pending.oldest(self._loop.now)
        if gone:
            self._give_up(gone)

    def _give_up(self, queries: list[Query], reason: str = "") -> None:
        """Answer SERVFAIL, saying why; or what an upstream had said, if none could say better."""
        why = reason
        unanswered = 0
        for query in queries:
            code = edns.OTHER
            if query.expires > self._loop.now and not reason:
                why = "too many queries are waiting"
            elif query.link is None and not reason:
                code, why = edns.NETWORK_ERROR, self.delivery.reason
            elif query.link is not None and not reason:
                code, why = edns.NO_REACHABLE_AUTHORITY, f"no answer from {query.link.upstream}"
            for link in (query.link, query.other):
                if link is not None:
                    link.inflight -= 1
            if query.refusals:
                self._links.answers.hand_refusal(query)
                continue
            self.clients.deliver(query.clients, query.error(wire.SERVFAIL, code, why), query)
            if not isinstance(query, Probe):
                unanswered += 1
                self._count_servfail(query, code)
        self._loop.counts["servfail"] += unanswered
        if unanswered and self._loop.news("servfail", why):
            log.unanswered(unanswered, why)

    def _count_servfail(self, query: Query, code: int) -> None:
        name = {edns.NETWORK_ERROR: "servfail_unreachable", edns.NO_REACHABLE_AUTHORITY: "servfail_no_answer"}
        blamed = query.link.upstream if query.link is not None else self.delivery.upstreams[0]
        blamed.counts[name.get(code, "servfail_other")] += 1

    def _wake(self) -> None:
        try:
            self.wake_socket.send(b"\0")
        except OSError:
            pass  # full: the loop is awake already. Closed: it is gone already.

    def _on_wake(self, mask: int) -> None:
        try:
            self._waker.recv(4096)
        except BlockingIOError:
            pass
        while not self._names.empty():
            one, hosts, reason = self._names.get()
            self.delivery.dialer.name_found(one, hosts, reason, self._loop.now)
            if hosts:
                log.name_found(one)
            elif self._loop.news(one, reason):
                log.name_not_found(one, reason)
        self._loop.look_soon()

    def _look_up(self, upstreams: list[upstream.Upstream]) -> None:
        """Find upstreams' addresses without stopping the loop for it."""

        def work(one: upstream.Upstream) -> None:
            hosts, reason = find_addresses(self.config, one.spec.host)
            self._names.put((one, hosts, reason))
            self._wake()

        for one in upstreams:
            threading.Thread(target=work, args=(one,), name=f"look up {one}", daemon=True).start()

    def close(self) -> None:
        """Answer what waits with SERVFAIL, say goodbye to every peer, close every socket."""
        self._give_up(self.pending.clear(), "the forwarder is stopping")
        self.clients.close()
        self._links.close()
        selector = self._loop.selector
        for key in list(selector.get_map().values()):
            selector.unregister(key.fileobj)
            key.fileobj.close()
        self.wake_socket.close()
        selector.close()

    def statistics(self) -> dict[str, Any]:
        """Return the counters as a plain dict; under "upstreams" each upstream's own, by its URL."""
        table = self.pending
        return self._loop.counts | {
            "coalesced": table.coalesced, "unknown_answers": table.unknown, "mismatched_answers": table.mismatched,
            "upstreams": {str(one): dict(one.counts) for one in self.delivery.upstreams},
        }  # fmt: skip

    def ask(self, message: bytes) -> bytes:
        """Send one query through the upstreams and return its answer, or SERVFAIL after ``Config.timeout``.

        For programs without a running loop: it runs the loop meanwhile.
        Raises wire.Malformed when ``message`` is no query.
        """
        message = bytes(message)  # dnslib packs bytearrays
        answers: list[bytes] = []

        def deliver(answer: bytes, address: object) -> None:
            answers.append(answer)

        if len(message) < wire.HEADER or message[2] & 0x80:
            raise wire.Malformed("not a query")
        self._loop.now = self._clock()
        self._loop.look_soon()  # nobody ran the loop since the last time: that is no lateness
        query = self.pending.add(message, (deliver, None), self._loop.now)
        if query is not None:
            self._links.forward([query])
        while not answers:
            self.turn()
        return answers[0]

    @staticmethod
    def open_demo_listener() -> tuple[socket.socket, int]:
        """Bind a loopback TCP port for the demo's resolver."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock, sock.getsockname()[1]

    @staticmethod
    def doctor(config: Config) -> int:
        """Try every upstream and listening address, print what was found, return the exit status. Blocks."""
        from _udp2tls import checkup, doctor

        return doctor.run(config, checkup.Tools(time.monotonic, time.time, lambda host: find_addresses(config, host)))

    @staticmethod
    def start_demo_client(server: Endpoint) -> None:
        """Ask the forwarder one query over UDP and one over TCP from another thread, and print the answers."""
        threading.Thread(target=demo_client, args=(server,), daemon=True).start()


def find_addresses(config: Config, host: str) -> tuple[list[str], str]:
    """Return the addresses of an upstream's host name, or why there are none. Blocks.

    Asks the bootstrap resolvers over TLS if there are any, else the system's resolver.
    """
    if config.bootstrap:
        try:
            forwarder = Forwarder(config.for_bootstrap(), upstreams=upstream.build_bootstrap(config))
        except ConfigError as error:
            return [], str(error)
        try:
            return lookup.through(forwarder.ask, host)
        finally:
            forwarder.close()
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return [], f"the system's resolver says: {getattr(error, 'strerror', None) or error}"
    return list(dict.fromkeys(str(entry[4][0]) for entry in found)), ""


def demo_client(server: Endpoint) -> None:
    """Ask one query over UDP and one over TCP, print both answers, and say what to try."""
    question = b"\x03www\x07example\0\0\1\0\1"
    for said, kind, id in ("UDP", socket.SOCK_DGRAM, b"\x12\x34"), ("TCP", socket.SOCK_STREAM, b"\x43\x21"):
        query = id + b"\1\0\0\1\0\0\0\0\0\0" + question
        with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET, kind) as sock:
            sock.settimeout(10)
            sock.connect(tuple(server))
            if kind == socket.SOCK_STREAM:
                query = len(query).to_bytes(2, "big") + query
            sock.sendall(query)
            answer = sock.recv(65535)
        print(f"{said}: www.example has address {socket.inet_ntoa(answer[-4:])}", flush=True)
    print(f"Now try: dig @{server.host} -p {server.port} www.example, with +tcp, or large.example TXT.", flush=True)
    print("It keeps running; Ctrl-C ends it.", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0, 1 (run time) or 2 (configuration)."""
    return cli.main(sys.argv[1:] if argv is None else argv, Forwarder)


if __name__ == "__main__":
    sys.exit(main())
