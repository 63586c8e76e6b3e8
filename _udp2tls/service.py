"""One configuration at work: its listeners, its pending queries, its upstreams.

A program runs one or several of these in one loop, which they share with nobody's
queries mixed up: a stunnel.conf has a service for every section. When a configuration is
read anew, its services replace the old ones; those *retire*: they listen no more, and end
when nobody waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from _udp2tls import edns, log, upstream, wire
from _udp2tls.clients import Clients
from _udp2tls.config import Config
from _udp2tls.delivery import Delivery
from _udp2tls.links import Links
from _udp2tls.loop import Loop
from _udp2tls.pending import Pending, Probe, Query
from _udp2tls.surroundings import Surroundings
from _udp2tls.upstream import Upstream

# Expiry looks this late, so that an outage costs a look per 20 ms, not one per query.
GRAIN = 0.02

# By extended error: the counter of an upstream that it goes to.
_SERVFAILS = {edns.NETWORK_ERROR: "servfail_unreachable", edns.NO_REACHABLE_AUTHORITY: "servfail_no_answer"}


class Service:
    """See the file's docstring. Raises ConfigError for files that cannot be used."""

    def __init__(
        self, config: Config, loop: Loop, rng: Random, surroundings: Surroundings,
        open_stream: Callable[..., Any], look_up: Callable[[Service, Upstream], object],
        upstreams: Sequence[Upstream] | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.pending = Pending(config.timeout - 2 * GRAIN, rng)
        upstreams = upstream.build(config, surroundings.wall) if upstreams is None else upstreams
        self.delivery = Delivery(upstreams, self.pending, rng, config.strategy)
        self.links = Links(
            loop, self.pending, self.delivery, surroundings, open_stream, lambda one: look_up(self, one)
        )  # fmt: skip
        self.clients = self.links.answers.clients = Clients(loop, config, self.pending, self.links.forward)
        self._loop = loop

    def submit(self, message: bytes, deliver: Callable[[bytes, Any], object]) -> None:
        """Ask, in the loop, as a client that is part of this program; raises wire.Malformed."""
        query = self.pending.add(message, (deliver, None), self._loop.now)
        if query is not None:
            self.links.forward([query])

    def tick(self) -> None:
        """Give up whose time is up, queries and connections."""
        gone = self.pending.oldest(self._loop.now)
        if gone:
            self._give_up(gone)
        self.links.tick()

    def plan(self) -> None:
        """Open what is needed, and set the next deadline."""
        self.links.plan()
        self.clients.tick()
        self._loop.wake_by(self.pending.deadline + GRAIN)

    def name_found(self, one: Upstream, hosts: list[str], reason: str) -> None:
        """A look-up ended."""
        reason = self.delivery.dialer.name_found(one, hosts, reason, self._loop.now)
        if hosts and not reason:
            log.name_found(one)
        elif self._loop.news(one, reason):
            log.name_not_found(one, reason)

    @property
    def needed(self) -> bool:
        """True while somebody may still wait for it, although it listens no more."""
        return len(self.pending) > 0 or len(self.clients) > 0

    def close(self, reason: str = "the forwarder is stopping") -> None:
        """Answer what waits with SERVFAIL and say goodbye to every peer."""
        self._give_up(self.pending.clear(), reason)
        self.clients.close()
        self.links.close(reason)

    def _give_up(self, queries: list[Query], reason: str = "") -> None:
        """Answer SERVFAIL, saying why; or what an upstream had said, if none could say better."""
        unanswered, why = 0, reason
        for query in queries:
            code, why = (edns.OTHER, reason) if reason else self._why(query)
            for link in (query.link, query.other):
                if link is not None:
                    link.inflight -= 1
            if query.refusals:
                self.links.answers.hand_refusal(query)
                continue
            self.clients.deliver(query.clients, query.error(wire.SERVFAIL, code, why), query)
            if not isinstance(query, Probe):
                unanswered += 1
                blamed = query.link.upstream if query.link is not None else self.delivery.upstreams[0]
                blamed.counts[_SERVFAILS.get(code, "servfail_other")] += 1
        self._loop.counts["servfail"] += unanswered
        if unanswered and self._loop.news((id(self), "servfail"), why):
            log.unanswered(unanswered, why)

    def _why(self, query: Query) -> tuple[int, str]:
        """Return the extended error for a query whose time is up, and the words that go with it."""
        if query.asked + self.pending.lifetime > self._loop.now:
            return edns.OTHER, "too many queries are waiting"
        link = query.link or next(iter(self.delivery.links), None)
        if link is None:
            return edns.NETWORK_ERROR, self.delivery.reason
        return edns.NO_REACHABLE_AUTHORITY, f"no answer from {link.upstream}"
