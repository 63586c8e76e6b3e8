"""One connection to an upstream, without its socket: its state, its clocks, its tally.

A link is *connecting* until its codec has authenticated the peer, then *open*.
``deadline`` is when somebody must look at it again, and ``overdue`` says in words
what went wrong by then. Times are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _udp2tls.codec import Codec

if TYPE_CHECKING:
    from _udp2tls.config import Endpoint
    from _udp2tls.upstream import Upstream

# TCP and TLS handshake together; two retransmitted SYNs (1 s, 3 s) fit.
CONNECT_LIMIT = 3.5

# Queries wait and nothing at all arrives: the connection is taken for dead. Well inside
# a client's patience, so that its query can still be answered by another connection.
SILENCE_LIMIT = 1.5

# Public resolvers close after 8 to 30 s without a query; closing first costs a resumed
# handshake, writing into a connection that is gone costs more.
IDLE_LIMIT = 20.0

# However long a server offers to keep a connection, routers on the way forget it sooner.
LONGEST_IDLE = 120.0

# The upstream said goodbye and owes answers: it gets this long to send each.
GOODBYE_LIMIT = 0.2


class Link:
    """A connection attempt, later a connection."""

    __slots__ = (
        "address", "answered", "codec", "goodbye", "heard", "idle_limit",
        "inflight", "opened", "sent", "started", "upstream", "waiting_since",
    )  # fmt: skip

    def __init__(self, upstream: Upstream, address: Endpoint, codec: Codec, now: float) -> None:
        self.upstream = upstream
        self.address = address
        self.codec = codec
        self.started = now
        self.opened = 0.0  # 0.0 while connecting
        self.heard = now
        self.waiting_since = now
        self.inflight = 0  # queries written here that wait for an answer
        self.sent = 0
        self.answered = 0
        self.idle_limit = upstream.idle_limit or IDLE_LIMIT
        self.goodbye = False  # no new queries: close when nothing is in flight

    def note_open(self, now: float) -> None:
        self.opened = self.heard = now

    def note_keepalive(self, tenths: int) -> None:
        """The upstream said how long it keeps idle connections (RFC 7828); 0: close soon."""
        if tenths:
            # A tenth less than agreed, so that our close and its own do not cross.
            self.idle_limit = self.upstream.idle_limit = min(LONGEST_IDLE, tenths / 10 * 0.9)
        else:
            self.goodbye = True

    @property
    def usable(self) -> bool:
        """True when it takes queries now."""
        codec = self.codec
        return self.opened > 0 and not self.goodbye and codec.room > 0 and not codec.closing

    @property
    def deadline(self) -> float:
        return min(self._own_deadline, self.codec.deadline)

    @property
    def _own_deadline(self) -> float:
        if not self.opened:
            return self.started + CONNECT_LIMIT
        if self.inflight:
            limit = GOODBYE_LIMIT if self.codec.closing else SILENCE_LIMIT
            return max(self.heard, self.waiting_since) + limit
        if self.goodbye or self.codec.closing:
            return self.heard
        return self.heard + self.idle_limit

    @property
    def failed(self) -> bool:
        """True when reaching the deadline is the peer's failure, not a quiet end."""
        return not self.opened or self.inflight > 0

    def overdue(self) -> str:
        """Say why the link is given up at its deadline."""
        if not self.opened:
            return f"no connection within {CONNECT_LIMIT:g} s"
        if self.inflight and self.codec.closing:
            return f"closed by the upstream with {self.inflight} queries waiting"
        if self.inflight:
            return f"silent for {SILENCE_LIMIT:g} s with {self.inflight} queries waiting"
        if self.goodbye or self.codec.closing:
            return "asked to close by the upstream"
        return f"idle for {self.idle_limit:.3g} s"
