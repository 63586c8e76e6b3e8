"""What is known about one address of an upstream, and for how long that is believed.

Everything here was learned from what the address did: whether it may be tried again,
how long its answers take, how long it keeps an idle connection, how many queries it
takes on one, and whether it works on one query at a time. It outlives connections.

Decides nothing: it turns observations into limits. What was learned in order to be
careful is forgotten after ``BELIEF`` seconds, for servers change and first impressions
can be wrong. Times are seconds; ``now`` is monotonic.
"""

from __future__ import annotations

import math
from random import Random

# After a failure an address rests 0.1 s, then twice as long each time, up to 1 s: an
# upstream that comes back is found well within a client's patience (about 5 s).
FIRST_REST, LONGEST_REST = 0.1, 1.0

# Half an hour, as a DNS zone's TTL would have it: wrong lessons cost that long at most.
BELIEF = 1800.0

# Public resolvers close after 8 to 30 s without a query; closing first costs a resumed
# handshake, writing into a connection that is gone costs more.
IDLE_LIMIT = 20.0
# However long a server offers to keep a connection, routers on the way forget it sooner.
LONGEST_IDLE = 120.0
# Shorter idle limits are not believed: a connection per query is no way to save one.
SHORTEST_IDLE = 0.5

# How long nothing may be heard while queries wait: a few round trips, and within these.
# A cold name takes a resolver hundreds of ms, so below 0.1 s silence means nothing, except
# where ``MANY`` wait at once: then some have short answers; and where it is known that the
# server works on one query at a time, so that it says whom the others wait for.
LEAST_PATIENCE, LEAST_PATIENCE_OF_MANY, LEAST_PATIENCE_BEHIND, MOST_PATIENCE = 0.1, 0.06, 0.02, 1.0
MANY = 8

# So many connections lost with queries on them make a server one that cannot take several.
STALLS = 4

# Connections at once to a server that takes one query at a time, or one a connection.
SPREAD = 8

# A queue shall not spend more than this on waiting for the network, one query after the other:
# from there on, several at once go to a server that works on one.
TRAVEL = 0.1

# Queries stuck on one connection go over several for so long. If they still wait then, it is not
# for each other, and newer ones must not wait behind them.
SCATTERING = 0.25


class Rest:
    """Failures in a row, and when the next try may be."""

    def __init__(self) -> None:
        self.failures = 0
        self.retry_at = 0.0

    def fail(self, now: float, random: Random) -> None:
        """Rest: exponential, and by up to half shorter at random so that clients do not march in step."""
        rest = min(LONGEST_REST, FIRST_REST * 2 ** min(self.failures, 16))
        self.retry_at = now + rest * (0.5 + random.random() / 2)
        self.failures += 1

    def recover(self) -> None:
        """It worked, or the failures were somebody else's: it may be tried at once."""
        self.failures, self.retry_at = 0, 0.0


class Path(Rest):
    """See the file's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.rtt = 0.0  # smoothed, from query to answer; 0.0: unknown
        self.deviation = 0.0
        self.trip = 0.0  # the shortest round trip seen: the network's own; 0.0: unknown
        self.capacity = 0  # queries a connection; 0: no limit seen
        self.width = 0  # queries at once on a connection; 0: no limit seen
        self.scattering_until = math.inf  # until then that limit is for queries that were stuck, and nothing learned
        self._idle = 0.0  # the limit that was told or learned; 0.0: neither
        self._idle_seen = 0.0
        self._count_seen = 0
        self._stalls = 0
        self._forget_at = math.inf

    def sample(self, seconds: float) -> None:
        """An answer took so long (RFC 6298 section 2)."""
        if not self.rtt:
            self.rtt, self.deviation = seconds, seconds / 2
        else:
            self.deviation += (abs(seconds - self.rtt) - self.deviation) / 4
            self.rtt += (seconds - self.rtt) / 8
        self.note_trip(seconds)

    def note_trip(self, seconds: float) -> None:
        """Something came back after so long: a handshake's first reply, or an answer."""
        if not self.trip or seconds < self.trip:
            self.trip = seconds

    def patience(self, waiting: int) -> float:
        """How long nothing need be heard, with so many queries waiting, to become suspicious."""
        # Twice the deviation, where a retransmission (RFC 6298) would wait for four times: to
        # become suspicious is cheap.
        expected = self.rtt + 2 * self.deviation if self.rtt else 2 * self.trip
        if self.width and waiting > 1 and not self.scattering:
            least = LEAST_PATIENCE_BEHIND
        else:
            least = LEAST_PATIENCE_OF_MANY if waiting >= MANY else LEAST_PATIENCE
        return min(MOST_PATIENCE, max(least, expected))

    @property
    def idle_limit(self) -> float:
        """Close a connection that was idle for so long."""
        return self._idle or IDLE_LIMIT

    @property
    def limited(self) -> bool:
        """True when a connection takes less than all queries."""
        return self.width > 0 or self.capacity > 0

    def note_keepalive(self, tenths: int) -> None:
        """The upstream said how long it keeps idle connections (RFC 7828)."""
        # A tenth less than agreed, so that our close and its own do not cross.
        self._idle = min(LONGEST_IDLE, tenths / 10 * 0.9)

    def note_idle_close(self, idle: float, now: float) -> None:
        """The peer closed a connection idle for so long. Twice about the same is its habit."""
        if idle < SHORTEST_IDLE:
            return
        if abs(idle - self._idle_seen) <= 0.25 * idle:
            self._learn(now)
            self._idle = max(SHORTEST_IDLE, min(idle, self._idle_seen) * 0.9)
        self._idle_seen = idle

    def note_idle_death(self, idle: float, now: float) -> None:
        """A connection idle for so long was found dead. Where in that time it died nobody said: stay below half."""
        if idle >= 2 * SHORTEST_IDLE:
            self._learn(now)
            self._idle = min(self.idle_limit, idle / 2)

    def note_hang_up(self, answered: int, now: float) -> None:
        """The peer closed a busy connection after so many answers. Twice the same number is its limit."""
        if answered and answered == self._count_seen:
            self._learn(now)
            self.capacity = answered
        self._count_seen = answered

    def note_stall(self, proven: bool, now: float) -> None:
        """Queries waited behind another's answer (``proven``), or were lost on a busy connection.

        Networks lose connections, too: that must happen a few times to be called the server's way.
        """
        self._stalls += STALLS if proven else 1
        if self._stalls >= STALLS:
            self._learn(now)
            self.width, self.scattering_until = 1, math.inf

    def scatter(self, now: float) -> None:
        """Many were stuck on one connection: let those go over several, a few on each."""
        if not self.width:
            self.width, self.scattering_until = MANY, now + SCATTERING

    @property
    def scattering(self) -> bool:
        """True while queries that were stuck go over several connections."""
        return self.scattering_until < math.inf

    def gathered(self, waiting: int, now: float) -> bool:
        """True, once, when the queries that were stuck need several connections no more."""
        if not self.scattering or (waiting and now < self.scattering_until):
            return False
        self.width, self.scattering_until = 0, math.inf
        return True

    def make_room(self, waiting: int) -> None:
        """With so many queries waiting, how many at once a connection that works on one at a time shall hold."""
        if self.width and not self.scattering:
            # One, so that nobody waits behind a slow name, as long as the way there is short enough.
            self.width = 1 + int(waiting * self.trip / (SPREAD * TRAVEL))

    def _learn(self, now: float) -> None:
        self._forget_at = now + BELIEF

    def refresh(self, now: float) -> None:
        """Forget what was learned too long ago."""
        if now >= self._forget_at:
            self._forget_at = math.inf
            self._idle = self._idle_seen = 0.0
            self.capacity = self.width = self._count_seen = self._stalls = 0
            self.scattering_until = math.inf
