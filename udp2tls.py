#!/usr/bin/env python3
"""udp2tls: a local DNS forwarder. Programs ask it over UDP and TCP; it asks over TLS or DNSCrypt.

This file is the front door and the loop: the only place that waits and that reads a
clock. What bytes mean is decided in ``_udp2tls``; this file moves them.

One turn: wait for an event or the nearest deadline, read the clock once, then for each
ready socket move a batch. A query costs one recvfrom, or its share of one recvmmsg, and a place in the batch, a batch
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
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any

from _udp2tls import __version__, cli, log, lookup, system, upstream, wire
from _udp2tls.clients import Clients
from _udp2tls.config import BindError, Config, ConfigError, Endpoint
from _udp2tls.delivery import Delivery
from _udp2tls.loop import READ, Loop
from _udp2tls.moderation import Moderation
from _udp2tls.naming import Naming
from _udp2tls.pending import Pending
from _udp2tls.selector import best_selector
from _udp2tls.service import Service
from _udp2tls.surroundings import LATE, Surroundings
from _udp2tls.system import bind_both, local_address_towards, open_stream_to

__all__ = ["BindError", "Config", "ConfigError", "Forwarder", "__version__", "main"]

# The loop never sleeps longer, for infinity is no timeout. Nothing depends on waking.
LONGEST_SLEEP = 3600.0


class Forwarder:
    """One or several services, and the one loop that runs them.

    ``clock`` gives monotonic seconds, ``wall`` those of the calendar. ``selector``, ``rng``,
    ``open_stream`` (from an Endpoint to a non-blocking socket on its way there) and ``route``
    (from an Endpoint to this machine's address on the way) are there for tests.
    Raises ConfigError for files that cannot be used; ``listen`` raises BindError.
    """

    def __init__(
        self, *configs: Config, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep, selector: Any = None, rng: random.Random | None = None,
        open_stream: Callable[..., Any] | None = None,
        upstreams: Sequence[upstream.Upstream] | None = None,
        wall: Callable[[], float] = time.time, route: Callable[[Endpoint], str] = local_address_towards,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or random.SystemRandom()  # IDs must not be guessable
        self._open_stream = open_stream
        self._surroundings = Surroundings(wall, route)
        self._moderation = self._moderate(configs[0])
        self._loop = Loop(selector or best_selector(), clock())
        self._select = self._loop.selector.select
        self._dirty = self._loop.dirty
        self._sockets: dict[Endpoint, tuple[Any, Any]] = {}  # UDP and TCP listeners, by configured address
        self._given: dict[Endpoint, tuple[Any, Any]] = {}  # those of them that systemd has bound
        self._retiring: list[Service] = []
        self._wishes: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._naming = Naming(lambda config, host: find_addresses(config, host), self.do)
        self._stop_reason = self._resume_reason = ""
        self.chore: Callable[[float], float] | None = None  # told the time, returns when to be told it again
        # Wakes the loop for signals and threads. Being registered, it also keeps select
        # from being called with nothing, which Windows does not bear.
        self._waker, self.wake_socket = socket.socketpair()
        for sock in (self._waker, self.wake_socket):
            sock.setblocking(False)
        self._loop.selector.register(self._waker, READ, (Forwarder._on_wake, self))
        self.services = [self._service(config, upstreams) for config in configs]

    @staticmethod
    def _moderate(config: Config) -> Moderation:
        # Where the system cannot sleep that briefly, only if asked to.
        return Moderation(config.moderation if system.FINE_TIMERS or config.moderation else 0.0)

    def _service(self, config: Config, upstreams: Sequence[upstream.Upstream] | None = None) -> Service:
        open_stream = self._open_stream or partial(open_stream_to, local=config.local, options=config.socket_options)
        return Service(
            config, self._loop, self._rng, self._surroundings, open_stream, self._naming.begin, upstreams
        )  # fmt: skip

    # The first service's, for programs that have just one.

    @property
    def config(self) -> Config:
        return self.services[0].config

    @property
    def pending(self) -> Pending:
        return self.services[0].pending

    @property
    def delivery(self) -> Delivery:
        return self.services[0].delivery

    @property
    def clients(self) -> Clients:
        return self.services[0].clients

    def listen(self, *, inherit: bool = False) -> list[Endpoint]:
        """Bind every configured address for UDP and TCP; return the addresses with their real ports.

        ``inherit``: use the sockets that systemd has bound for us (LISTEN_FDS). They take the
        place of the default addresses, and stand beside addresses that were asked for.
        """
        if inherit:
            self._given = system.inherited()
            self._sockets.update(self._given)
        self._adopt(self.services)
        sockets = self._bind(self.services)
        bound = self._attach(self.services, sockets)
        self._sockets = sockets
        return bound

    def take(self, sockets: dict[Endpoint, tuple[Any, Any]]) -> None:
        """Before ``listen``: use these sockets, UDP and TCP, for these of the configured addresses."""
        self._sockets.update(sockets)

    def _adopt(self, services: Sequence[Service]) -> None:
        """Have the first service listen on what systemd has bound and nobody asked for by address."""
        if self._given:
            first = services[0].config
            others = {endpoint for service in services[1:] for endpoint in service.config.listen}
            kept = () if first.listen_optional else first.listen
            more = tuple(endpoint for endpoint in self._given if endpoint not in others)
            services[0].config = replace(first, listen=tuple(dict.fromkeys(kept + more)), listen_optional=False)

    def find_names(self, limit: float) -> None:
        """Look up the upstreams' names before anything else; what is not found in time is looked up again later."""
        self._naming.all(self.services, limit)
        while not self._wishes.empty():
            self._wishes.get()()

    def _bind(self, services: Sequence[Service]) -> dict[Endpoint, tuple[Any, Any]]:
        """Return a pair of sockets for every address, those that exist already first. Raises BindError."""
        sockets: dict[Endpoint, tuple[Any, Any]] = {}
        try:
            for service in services:
                for endpoint in service.config.listen:
                    try:
                        sockets[endpoint] = (
                            self._sockets.get(endpoint) or bind_both(endpoint, service.config.listen_options)
                        )
                    except BindError as error:
                        if not service.config.listen_optional or not error.no_such_address:
                            raise
                        log.not_listening(endpoint, "this machine does not have the address")
        except BindError:
            for endpoint, pair in sockets.items():
                if endpoint not in self._sockets:
                    _close(pair)
            raise
        return sockets

    @staticmethod
    def _attach(services: Sequence[Service], sockets: dict[Endpoint, tuple[Any, Any]]) -> list[Endpoint]:
        bound = []
        for service in services:
            for endpoint in service.config.listen:
                if endpoint in sockets:
                    udp, tcp = sockets[endpoint]
                    if udp is not None:
                        service.clients.listen_udp(udp, guarded=not endpoint.loopback)
                    if tcp is not None:
                        service.clients.listen_tcp(tcp, guarded=not endpoint.loopback)
                    bound.append(Endpoint(endpoint.host, (udp or tcp).getsockname()[1]))
        return bound

    def reload(
        self, *configs: Config, upstreams: Sequence[Sequence[upstream.Upstream]] = ()
    ) -> list[Endpoint]:
        """Run these configurations instead; who waits for an answer still gets it from the old ones.

        ``upstreams`` are those of each, if somebody has built them already: see upstream.build.
        Call from the loop's thread. Raises ConfigError and BindError, and then nothing has changed.
        """
        services = [self._service(config, built) for config, built in zip_longest(configs, upstreams)]
        self._adopt(services)
        sockets = self._bind(services)
        for service in self.services:
            service.clients.release()
        for endpoint, pair in self._sockets.items():
            if endpoint not in sockets:
                _close(pair)
        for old, new in zip(self.services, services):
            new.clients.limit = old.clients.limit
        self._retiring += self.services
        self.services, self._sockets = services, sockets
        self._moderation = self._moderate(configs[0])
        self._loop.look_soon()
        return self._attach(services, sockets)

    def run(self) -> None:
        """Serve until ``stop`` is called, then answer what waits and close everything."""
        while not self._stop_reason:
            self.turn()
        log.stopping(self._stop_reason, sum(len(service.pending) for service in (*self.services, *self._retiring)))
        self.close()
        log.counters(self.statistics())
        log.stopped()

    def stop(self, reason: str) -> None:
        """End ``run``; callable from a signal handler and from other threads."""
        self._stop_reason = self._stop_reason or reason
        self._wake()

    def resume(self, reason: str) -> None:
        """The process had been stopped: trust no connection. Callable from a signal handler."""
        self._resume_reason = reason
        self._wake()

    def do(self, wish: Callable[[], None]) -> None:
        """Call ``wish`` in the loop, soon; callable from a signal handler and from other threads."""
        self._wishes.put(wish)
        self._wake()

    def turn(self, limit: float = LONGEST_SLEEP) -> None:
        """Wait for something to happen, at most ``limit`` seconds, and deal with it."""
        loop = self._loop
        wait = loop.wake_at - loop.now
        if self._moderation.pause:
            rest = self._moderation.rest(loop.now, wait)
            self._sleep(rest)
            wait -= rest
        events = self._select(wait if wait < limit else limit)
        loop.now = now = self._clock()
        for key, mask in events:
            handler, about = key[3]  # key.data, without the attribute's way around
            handler(about, mask)
        loop.turns += 1
        if now >= loop.wake_at:
            self._tick()
        if self._dirty:
            self._flush()

    def _tick(self) -> None:
        """Do what time, or a change of connections, makes due, and find the next deadline."""
        loop = self._loop
        services = (*self.services, *self._retiring)
        if self._resume_reason or 0.0 < loop.wake_at < loop.now - LATE:
            for service in services:
                service.links.start_over(self._resume_reason or "this process, or the whole machine, was asleep")
            self._resume_reason = ""
        for service in services:
            service.tick()
        loop.wake_at = loop.now + LONGEST_SLEEP
        if self._moderation.look(loop.now, loop.counts["queries"], loop.turns):
            loop.wake_by(self._moderation.look_at)
        for service in services:
            service.plan()
        if self.chore:
            loop.wake_by(self.chore(loop.now))
        if self._retiring:
            self._retire()

    def _retire(self) -> None:
        for service in [one for one in self._retiring if not one.needed]:
            self._retiring.remove(service)
            service.close("a new configuration has taken over")

    def _flush(self) -> None:
        """Write the answers that this turn left with TCP clients and UDP listeners."""
        dirty = dict.fromkeys(self._dirty)
        self._dirty.clear()
        for client in dirty:
            client.flush_answers(client)

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
        while not self._wishes.empty():
            self._wishes.get()()
        self._loop.look_soon()

    def close(self) -> None:
        """Answer what waits with SERVFAIL, say goodbye to every peer, close every socket."""
        for service in (*self.services, *self._retiring):
            service.close()
        self._flush()
        selector = self._loop.selector
        for key in list(selector.get_map().values()):
            selector.unregister(key.fileobj)
            key.fileobj.close()
        self.wake_socket.close()
        selector.close()

    def statistics(self) -> dict[str, Any]:
        """Return the counters as a plain dict; under "upstreams" each upstream's own, by its URL."""
        tables = [service.pending for service in self.services]
        return self._loop.counts | {
            "coalesced": sum(table.coalesced for table in tables),
            "unknown_answers": sum(table.unknown for table in tables),
            "mismatched_answers": sum(table.mismatched for table in tables),
            "upstreams": {
                str(one): dict(one.counts) for service in self.services for one in service.delivery.upstreams
            },
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
        self.services[0].submit(message, deliver)
        while not answers:
            self.turn()
        return answers[0]

    open_demo_listener = staticmethod(system.open_demo_listener)
    notify = staticmethod(system.notify)
    clock = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    @staticmethod
    def find_addresses(config: Config, host: str) -> tuple[list[str], str]:
        """See the function of that name."""
        return find_addresses(config, host)

    @staticmethod
    def doctor(config: Config) -> int:
        """Try every upstream and listening address, print what was found, return the exit status. Blocks."""
        from _udp2tls import checkup, doctor

        return doctor.run(config, checkup.Tools(time.monotonic, time.time, lambda host: find_addresses(config, host)))

    @staticmethod
    def stunnel(path: str, **choices: Any) -> Any:
        """Read a stunnel.conf; see ``stunnel_compat.adopt.Adopted``. Raises ConfigError."""
        from stunnel_compat import adopt

        return adopt.Adopted(path, system, **choices)

    @staticmethod
    def start_demo_client(server: Endpoint) -> None:
        """Ask the forwarder one query over UDP and one over TCP from another thread, and print the answers."""
        threading.Thread(target=system.ask_both, args=(server,), daemon=True).start()


def _close(pair: tuple[Any, Any]) -> None:
    for sock in pair:
        if sock is not None:
            sock.close()


def find_addresses(config: Config, host: str) -> tuple[list[str], str]:
    """Return the addresses of an upstream's host name, or why there are none. Blocks. See lookup."""
    return lookup.addresses(Forwarder, config, host)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0, 1 (run time) or 2 (configuration)."""
    return cli.main(sys.argv[1:] if argv is None else argv, Forwarder)


if __name__ == "__main__":
    sys.exit(main())
