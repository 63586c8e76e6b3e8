"""Which connection a query goes to, and which connections to open or give up.

Owns the links and the queries that no link has taken yet. It has no socket and no
clock: ``plan`` says what to connect to now, the ``link_*`` methods are told what
became of it, and ``deadline`` is when ``plan`` has something new to say.

The rules:

- Nothing is opened before a query waits (lazy), and nothing while an open link takes
  queries or will again.
- Upstreams are tried in order. Within one, addresses start 250 ms apart (RFC 8305
  section 8); the next upstream starts when every address of the one before has
  failed, or has had ``HANDOVER`` seconds.
- The first link to open wins over other attempts to the same or a later upstream.
- A failed attempt makes its address rest, longer each time; an answer ends that.
- A link that dies with queries in flight: they wait again, first in line. Its address
  rests only if the link never answered anything; an idle close is nobody's failure.
- There are queries that make a server hang up. The oldest without an answer is the suspect:
  it goes last, and from its second time on it rests, so that it costs the others little.
- Whatever cannot be delivered waits until its time is up; the table of pending
  queries, not this file, ends that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from random import Random

from _udp2tls.config import Endpoint
from _udp2tls.link import Link
from _udp2tls.pending import Pending, Query
from _udp2tls.upstream import Upstream

# RFC 8305 section 8: the connection attempt delay.
STAGGER = 0.25

# How long an upstream may stay silent on a new connection before the next one is tried
# beside it: more than a slow line's three round trips, less than a client's patience.
HANDOVER = 1.0

# How long a query rests on which two connections ended; twice as long after each further one.
SUSPECT_REST = 0.5

# One name look-up that finds nothing is given up after this, as a connection would be.
LOOKUP_LIMIT = 3.5


class Delivery:
    """See the file's docstring."""

    def __init__(self, upstreams: Sequence[Upstream], pending: Pending, random: Random) -> None:
        self.upstreams = list(upstreams)
        self.links: list[Link] = []  # open, the most preferred upstream first
        self.attempts: list[Link] = []  # connecting
        self.unsent: deque[Query] = deque()
        self.suspects: list[tuple[float, Query]] = []  # (when it may go again, query)
        self.deadline = math.inf
        self.reason = "no connection was tried yet"
        self._pending = pending
        self._random = random
        self._rank = {id(upstream): rank for rank, upstream in enumerate(self.upstreams)}

    def best(self) -> Link | None:
        """Return the link that takes queries now, or None."""
        for link in self.links:  # Link.usable, without a call: this runs for every batch
            codec = link.codec
            if codec.room > 0 and not codec.closing and not link.goodbye:
                return link
        return None

    def take(self, room: int) -> list[Query]:
        """Remove and return up to ``room`` queries that still wait for a link, oldest first."""
        batch: list[Query] = []
        unsent, holds = self.unsent, self._pending.holds
        while unsent and len(batch) < room:
            query = unsent.popleft()
            if holds(query):
                batch.append(query)
        return batch

    def waiting(self) -> bool:
        """True when a query waits for a link; forgets the ones whose time was up."""
        unsent, holds = self.unsent, self._pending.holds
        while unsent and not holds(unsent[0]):
            unsent.popleft()
        return bool(unsent)

    def plan(self, now: float) -> tuple[list[tuple[Upstream, Endpoint]], list[Upstream]]:
        """Return (what to connect to now, whose name to look up now) and set ``deadline``.

        Call after every event and at ``deadline``.
        """
        connect: list[tuple[Upstream, Endpoint]] = []
        lookup: list[Upstream] = []
        self.deadline = math.inf
        if self.suspects:
            self._release_suspects(now)
        if not self.waiting() or any(not link.goodbye and not link.codec.closing for link in self.links):
            return connect, lookup  # a link that has no room just now will have some again
        for upstream in self.upstreams:
            if not upstream.addresses:
                if self._wait_for_name(upstream, lookup, now):
                    break
                continue
            began = [link.started for link in self.attempts if link.upstream is upstream]
            address = self._next_address(upstream, began, now)
            if address:
                connect.append((upstream, address))
                self._look_again(now + STAGGER)
                break
            if began and now < min(began) + HANDOVER:
                self._look_again(min(began) + HANDOVER)
                break
        return connect, lookup

    def _next_address(self, upstream: Upstream, began: list[float], now: float) -> Endpoint | None:
        trying = {link.address for link in self.attempts if link.upstream is upstream}
        for address in upstream.addresses:
            if address in trying:
                continue
            rest_until = upstream.health_of(address).retry_at
            if rest_until > now:
                self._look_again(rest_until)
            elif began and max(began) + STAGGER > now:
                self._look_again(max(began) + STAGGER)
            else:
                return address
        return None

    def _wait_for_name(self, upstream: Upstream, lookup: list[Upstream], now: float) -> bool:
        """Start a look-up if one is due; True while it deserves to be waited for."""
        if not upstream.looking_up:
            if upstream.lookup.retry_at > now:
                self._look_again(upstream.lookup.retry_at)
                return False
            upstream.looking_up = True
            upstream.lookup.retry_at = now + LOOKUP_LIMIT
            self.reason = f"{upstream}: its address was not found yet"
            lookup.append(upstream)
        handover = upstream.lookup.retry_at - LOOKUP_LIMIT + HANDOVER
        if now < handover:
            self._look_again(handover)
            return True
        return False

    def _look_again(self, at: float) -> None:
        self.deadline = min(self.deadline, at)

    def name_found(self, upstream: Upstream, hosts: list[str], reason: str, now: float) -> None:
        """A look-up ended: with addresses, or with the reason why not."""
        upstream.looking_up = False
        if hosts:
            upstream.found(hosts)
            upstream.lookup = type(upstream.lookup)()
        else:
            upstream.lookup.fail(now, self._random)
            upstream.reason = self.reason = f"{upstream}: {reason}"

    def link_started(self, link: Link) -> None:
        self.attempts.append(link)

    def link_opened(self, link: Link, now: float) -> list[Link]:
        """The peer is authenticated. Return the attempts that are no longer needed."""
        self.attempts.remove(link)
        link.note_open(now)
        link.upstream.prefer(link.address)
        rank = self._rank_of(link)
        for other in self.links:
            if self._rank_of(other) >= rank:
                other.goodbye = True
        self.links.append(link)
        self.links.sort(key=self._rank_of)
        surplus = [attempt for attempt in self.attempts if self._rank_of(attempt) >= rank]
        self.attempts = [attempt for attempt in self.attempts if self._rank_of(attempt) < rank]
        return surplus

    def link_ended(self, link: Link, reason: str, now: float, *, failed: bool) -> None:
        """The link is gone. What was in flight on it waits again, first in line."""
        if link in self.attempts:
            self.attempts.remove(link)
        if link in self.links:
            self.links.remove(link)
        lost = self._pending.written_to(link)
        if link.answered:
            link.upstream.health_of(link.address).failures = 0
        elif failed and not (lost and lost[0].losses):
            self._blame(link, now)
        if failed:
            link.upstream.reason = self.reason = f"{link.upstream}: {reason}"
        self._again(lost, now)

    def _blame(self, link: Link, now: float) -> None:
        upstream = link.upstream
        health = upstream.health_of(link.address)
        health.fail(now, self._random)
        if not upstream.spec.literal and all(upstream.health_of(a).failures for a in upstream.addresses):
            upstream.addresses = []  # perhaps the name means other addresses by now
            upstream.lookup.retry_at = health.retry_at

    def _again(self, lost: list[Query], now: float) -> None:
        """Queue the queries of a dead link, oldest first, once more."""
        if not lost:
            return
        for query in lost:
            query.link = None
        suspect = lost[0]
        suspect.losses += 1
        self.unsent.extendleft(reversed(lost[1:]))
        if suspect.losses == 1:
            self.unsent.append(suspect)
        else:
            self.suspects.append((now + SUSPECT_REST * 2 ** min(suspect.losses - 2, 8), suspect))

    def _release_suspects(self, now: float) -> None:
        self.unsent.extend(query for when, query in self.suspects if when <= now)
        self.suspects = [(when, query) for when, query in self.suspects if when > now and self._pending.holds(query)]
        for when, _ in self.suspects:
            self._look_again(when)

    def _rank_of(self, link: Link) -> int:
        return self._rank[id(link.upstream)]
