"""One connection to an upstream, without its socket: its state, its clocks, its tally.

A link is *connecting* until its codec has authenticated the peer, then *open*. An open
link on which queries wait and nothing is heard goes through three stages of doubt:

    CALM      nothing unusual
    ASKED     quiet for longer than answers usually take: a small query of our own asks
              whether it lives (whoever is only slow with one name answers that at once)
    DOUBTED   that was not answered either: another connection is raised beside it

Any answer ends the doubt. ``deadline`` is when somebody must look at it again, and
``overdue`` says in words why it is given up then. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from _udp2tls.codec import Codec
from _udp2tls.pace import Pace
from _udp2tls.path import MANY, Path

if TYPE_CHECKING:
    from _udp2tls.config import Endpoint
    from _udp2tls.pending import Query
    from _udp2tls.upstream import Upstream

CALM, ASKED, DOUBTED = range(3)

# How long the small question may take besides the network's own round trip.
PROBE_GRACE = 0.05

# A doubted connection is kept this long for what it may still answer: longer than most
# slow names take, shorter than a client's patience.
SILENCE_LIMIT = 3.0

# The query that everyone else may be waiting behind is repeated elsewhere after this.
HEAD_LIMIT = 0.5

# A connection whose queries were answered elsewhere is watched this long for a sign of
# life: dead is another lesson than slow.
LINGER = 1.0

# The upstream said goodbye and owes answers: it gets this long to send each.
GOODBYE_LIMIT = 0.2

# Of two connections that take queries one is kept for only so long when idle: there may be a next time.
SPARE_LIMIT = 3.0

# A connection was idle, and not just between two queries, from here on.
IDLE = 1.0


class Link:
    """A connection attempt, later a connection."""

    __slots__ = (
        "address", "answered", "codec", "connected", "doubt", "drift", "goodbye", "heard", "idle_before", "inflight",
        "limited", "local", "opened", "outdone", "pace", "parting", "path", "probe", "resumed", "sample", "sampled_at",
        "sent", "slack", "spare", "started", "stirred", "takes", "trial", "upstream", "waiting_since", "wants_sample",
        "watched",
    )  # fmt: skip

    def __init__(self, upstream: Upstream, address: Endpoint, codec: Codec, now: float, *, trial: bool = False) -> None:
        self.upstream = upstream
        self.address = address
        self.path: Path = upstream.path_of(address)
        self.path.refresh(now)
        self.codec = codec
        self.started = now
        self.connected = 0.0  # 0.0 until TCP is
        self.opened = 0.0  # 0.0 while connecting
        self.heard = now  # the last answer to a query of ours
        self.waiting_since = now
        self.idle_before = 0.0  # how long it was idle before the queries that wait now
        self.inflight = 0  # queries written here that wait for an answer
        self.sent = 0
        self.answered = 0
        self.goodbye = False  # see part()
        self.parting = ""
        self.outdone = False  # what waits here was answered on another connection
        self.trial = trial  # it must answer a query of ours before it gets a client's
        self.takes = False  # new queries may go here; see settle()
        self.limited = False  # what it takes at a time depends on more than its codec
        self.watched = False  # an answer changes how it is seen
        self.doubt = CALM
        self.stirred = False  # since it was doubted something has come, if only what nobody waits for any more
        self.slack = 1.0  # by how much more patient it has become since its last answer to a client
        self.pace = Pace()
        self.sample: Query | None = None  # whose round trip is being measured
        self.sampled_at = 0.0
        self.wants_sample = True
        self.probe: Query | None = None  # our own question
        self.local = ""  # this machine's address at its end
        self.drift = 0.0  # the wall clock's seconds ahead of ours
        self.resumed = False
        self.spare = False  # another connection takes the queries

    def settle(self) -> None:
        """Find anew whether new queries may go here; call when anything it depends on has changed."""
        path = self.path
        self.limited = path.width > 0 or path.capacity > 0
        self.watched = self.limited or self.doubt != CALM or self.slack > 1
        self.takes = (
            self.opened > 0
            and not (self.goodbye or self.trial or self.doubt == DOUBTED)
            and not (path.capacity and self.sent >= path.capacity)
            and not (path.width and self.inflight >= path.width)
        )

    def room(self) -> int:
        """How many more queries it takes now, by what was learned of its address."""
        room, path = self.codec.room, self.path
        if path.capacity:
            room = min(room, path.capacity - self.sent)
        if path.width:
            room = min(room, path.width - self.inflight)
        return max(0, room)

    def note_open(self, now: float) -> None:
        self.opened = self.heard = now
        self.settle()

    def note_keepalive(self, tenths: int) -> None:
        """The upstream said how long it keeps idle connections (RFC 7828); 0: close soon."""
        if tenths:
            self.path.note_keepalive(tenths)
        else:
            self.part("asked to close by the upstream")

    def part(self, why: str) -> None:
        """Give it no new queries; it is closed when nothing is in flight any more."""
        if not self.goodbye:
            self.goodbye, self.parting = True, why
            self.settle()

    def note_limits(self) -> None:
        """Queries were written to a server that takes few at a time, or few a connection."""
        capacity = self.path.capacity
        if capacity and self.sent >= capacity:
            self.part(f"the upstream answers {capacity} queries a connection")
        self.settle()

    @property
    def quiet_since(self) -> float:
        """Since when queries wait and nothing was heard."""
        return max(self.heard, self.waiting_since)

    @property
    def busy_at(self) -> float:
        """When a query was last written here, or answered."""
        return max(self.heard, self.waiting_since)

    @property
    def usable(self) -> bool:
        """True when it takes queries now."""
        codec = self.codec
        return self.takes and codec.room > 0 and not codec.closing

    @property
    def trusted(self) -> bool:
        """True when it will take queries, if not now then when it has room again."""
        return self.opened > 0 and not (self.goodbye or self.codec.closing or self.trial or self.doubt == DOUBTED)

    @property
    def deadline(self) -> float:
        """When to look at it again: something is overdue, or to be doubted."""
        return min(self.own_deadline, self.codec.deadline)

    @property
    def own_deadline(self) -> float:
        """The same, whatever its codec has to do."""
        if not self.opened:
            return self.started + (self.upstream.connect_limit if self.connected else self.upstream.tcp_limit)
        if self.inflight:
            quiet = self.quiet_since
            if self.codec.closing:
                return quiet + GOODBYE_LIMIT
            if self.doubt == DOUBTED:
                return quiet + SILENCE_LIMIT
            return quiet + self._wait
        if self.goodbye and self.doubt == DOUBTED:
            return self.quiet_since + LINGER
        if self.goodbye or self.codec.closing:
            return self.heard
        return self.heard + self.idle_limit

    @property
    def idle_limit(self) -> float:
        return min(self.path.idle_limit, self.upstream.idle_limit, SPARE_LIMIT if self.spare else math.inf)

    @property
    def _wait(self) -> float:
        wait = self.path.patience(self.inflight) * self.slack
        if self.doubt == ASKED:
            wait += max(PROBE_GRACE, 1.1 * self.path.trip)
        return wait

    def grow_doubt(self) -> None:
        """It stayed quiet for too long. With many waiting, or where one waits behind another, a question
        of ours would tell nothing new; unless they are here for having had no answer elsewhere.
        """
        told = self.inflight >= MANY or (self.path.width > 0 and self.inflight > 1)
        told = told and not self.path.scattering
        self.doubt = DOUBTED if self.doubt == ASKED or told else ASKED
        self.stirred = False
        self.settle()

    def calm_down(self, *, only_probe: bool) -> None:
        """It answered; after the answer to nothing but our own question it has longer until the next."""
        self.doubt = CALM
        self.stirred = False  # since it was doubted something has come, if only what nobody waits for any more
        self.slack = min(16.0, self.slack * 2) if only_probe else 1.0
        self.settle()

    @property
    def failed(self) -> bool:
        """True when reaching the deadline is the peer's failure, not a quiet end."""
        return not self.opened or self.inflight > 0

    def overdue(self) -> str:
        """Say why the link is given up at its deadline."""
        if not self.opened and not self.connected:
            return f"no TCP connection within {self.upstream.tcp_limit:g} s"
        if not self.opened:
            return f"no {self.upstream.greeting} within {self.upstream.connect_limit:g} s"
        if self.inflight and self.codec.closing:
            return f"closed by the upstream with {self.inflight} queries waiting"
        if self.inflight:
            return f"silent for {SILENCE_LIMIT:g} s with {self.inflight} queries waiting"
        if self.codec.closing:
            return "asked to close by the upstream"
        return self.parting or f"idle for {self.idle_limit:.3g} s"
