"""What outlives a DNSCrypt connection: keys, the certificate, what was learned of the server.

One ``Provider`` for each upstream (and one for each way to it, where relays differ); all its
codecs, over UDP and TCP, share it. It says with which keys queries are sealed now, and when
the next certificate is to be asked for. It asks nobody itself: that is ``exchange``'s part.

What never happens here: keys of a certificate that was not verified, or is over, are handed
out. A new certificate takes the place of the old one at once, but the old one is kept until
an answer has come under the new. A key pair of ours serves one provider only, and until the
next certificate is fetched: nobody can tell by it that two upstreams have the same user.

Times are monotonic seconds (``now``). The wall clock and randomness are given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from _udp2tls import certificate
from _udp2tls.box import XWING, Boxes, KeyPair, Random, why_not
from _udp2tls.certificate import Certificate, NoCertificate

# A certificate is asked for at most so often, whatever goes wrong, and after failures less.
RARELY, SELDOM = 10.0, 600.0
# But a server may lose its keys right after it was asked in the course of things.
SOON = 1.0

# Timeouts or closes in a row, with no answer between, after which the server may have lost
# its keys: servers say nothing to queries that they cannot open.
MISSES = 3

# What was learned in order to be careful is forgotten after this, as in ``path``.
BELIEF = 1800.0

# A padded query over UDP: 516 bytes on the wire, what most programs begin with. Through a
# relay more: it passes no answer longer than its query, and dnsdist pads by up to 256 bytes.
LEAST, LEAST_RELAYED = 448, 768
# The larger size that a truncated answer called for is kept for so long, then halved.
KEPT = 300.0

# A retransmission waits for the usual round trip and its variation (RFC 6298), at least
# LEAST_WAIT and at first FIRST_WAIT.
FIRST_WAIT, LEAST_WAIT, LEAST_SLACK, MOST_WAIT = 0.25, 0.05, 0.02, 1.0

# Queries at once on one TCP connection, at most, however well it goes.
WIDEST = 64
# So often a connection must have been full, and all was well, before it may hold twice as many:
# unbound takes several queries, and only sometimes mixes up the answers.
PROOFS = 3
# Connections lost with several queries on them, after which one at a time is enough.
STRIKES = 3


class Pace:
    """How long answers over UDP take. ``wait``: send again after this."""

    def __init__(self) -> None:
        self.rtt = self.deviation = 0.0
        self.wait = FIRST_WAIT

    def sample(self, seconds: float) -> None:
        """A query that was sent once had its answer after so long (Karn: no other counts)."""
        if self.rtt:
            self.deviation += (abs(seconds - self.rtt) - self.deviation) / 4
            self.rtt += (seconds - self.rtt) / 8
        else:
            self.rtt, self.deviation = seconds, seconds / 4
        self.wait = min(MOST_WAIT, max(LEAST_WAIT, self.rtt + max(LEAST_SLACK, 4 * self.deviation)))


class Habit:
    """What a server does with queries on one TCP connection.

    ``width``: how many at once it was seen to answer. ``one_shot``: it closes after one answer.
    ``least``: through a relay, what a padded query is at least.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.width = 1
        self.one_shot = False
        self.least = LEAST_RELAYED
        self._widest = WIDEST
        self._proofs = self._strikes = 0
        self._forget_at = math.inf

    def proved(self) -> None:
        """One more answer on a connection that had one before, and as many queries as it may have."""
        self._proofs += 1
        if self._proofs >= PROOFS and self.width < self._widest:
            self.width, self._proofs = 2 * self.width, 0

    def broke(self, now: float) -> None:
        """A connection ended with several queries on it: begin anew; the third time stay so."""
        self._strikes += 1
        self.width, self._proofs = 1, 0
        if self._strikes >= STRIKES:
            self.demote(now)

    def demote(self, now: float) -> None:
        """It mixes up queries that come together: one at a time from now on."""
        self.width, self._widest = 1, 1
        self._forget_at = now + BELIEF

    def end_after_one(self, now: float) -> None:
        """It closed after its first answer."""
        self.demote(now)
        self.one_shot = True

    def refresh(self, now: float) -> None:
        """Forget what was learned too long ago."""
        if now >= self._forget_at:
            self._begin()


class Keys:
    """One certificate at work. ``expires`` is monotonic; ``proven``: an answer has come under it."""

    __slots__ = ("boxes", "certificate", "expires", "proven")

    def __init__(self, one: Certificate, boxes: Boxes, expires: float, proven: bool) -> None:
        self.certificate, self.boxes, self.expires, self.proven = one, boxes, expires, proven


class Provider:
    """See the file's docstring.

    ``name`` and ``key`` are the stamp's; raises ValueError when they cannot be. ``random(n)``
    returns n random bytes, ``wall()`` the seconds since 1970. ``ephemeral``: a key pair for
    each query. ``xsalsa20``, ``check_time``: see ``certificate.choose``.

    ``news`` is the certificate that has just been taken, for the log; who logs it sets None.
    ``reason``: why there is no certificate, or no newer one. ``wants``: "tcp" or "udp" when
    the certificate can be had over that alone, empty else.
    """

    def __init__(
        self, name: str, key: bytes, random: Random, wall: Callable[[], float], *,
        ephemeral: bool = False, xsalsa20: bool = True, check_time: bool = True,
    ) -> None:  # fmt: skip
        certificate.query(name, b"\0\0")
        if len(key) != 32:
            raise ValueError("a provider's key has 32 bytes")
        self.name, self.key, self.random = name, key, random
        self.xsalsa20, self.check_time, self.ephemeral = xsalsa20, check_time, ephemeral
        self.keys: Keys | None = None
        self.previous: Keys | None = None
        self.refresh_at = self.taken_at = -math.inf  # when to ask for a certificate, when one was last taken
        self.suspect = False  # the server seems not to know our keys any more
        self.news: Certificate | None = None
        self.reason = self.wants = ""
        self.counts: Counter[str] = Counter()
        self._wall = wall
        self._misses = self._failures = 0
        self._early_at = -math.inf
        self._taken: Certificate | None = None  # the last one
        self._shunned: Certificate | None = None  # of es_version 3: its packets, 1.4 KB at first, get lost
        self._shunned_until = -math.inf
        self._unlearn()

    def _unlearn(self) -> None:
        self.pace, self.habit = Pace(), Habit()
        self._size, self._shrink_at = 0, math.inf

    def stranger(self) -> Provider:
        """Return one of the same server that knows nothing of it yet, and shares nothing with this one."""
        return Provider(
            self.name, self.key, self.random, self._wall,
            ephemeral=True, xsalsa20=self.xsalsa20, check_time=self.check_time,
        )  # fmt: skip

    def ready(self, now: float) -> bool:
        """True when ``keys`` may be used."""
        return self.keys is not None and now < self.keys.expires

    def take(self, answer: bytes, now: float) -> None:
        """Take the best certificate of an answer to a certificate query. Raises NoCertificate."""
        wall = self._wall()
        one = self._choose(answer, wall)
        if one == self._shunned and now < self._shunned_until:
            one = self._classic(answer, wall) or one
        old = self.keys
        same = old is not None and old.certificate == one
        self.keys = self._at_work(one, now, proven=same and old is not None and old.proven)
        if not same:
            self.news = one
            self.counts["certificates"] += 1
            if old is not None and now < old.expires and (old.proven or self.previous is None):
                self.previous = old
            elif one.es_version == XWING and (classic := self._classic(answer, wall)):
                self.previous = self._at_work(classic, now, proven=False)  # in case es_version 3 does not get through
        if one != self._taken:
            self._taken, self._early_at = one, now + SOON  # it was worth asking
        self.refresh_at = now + certificate.refresh_in(one, wall, self.random(1)[0] / 256)
        self.taken_at = now
        self.reason = self.wants = ""
        self._failures = self._misses = 0
        self.suspect = False

    def _choose(self, answer: bytes, wall: float, *, xwing: bool = True) -> Certificate:
        return certificate.choose(
            answer, self.key, wall, xsalsa20=self.xsalsa20, xwing=xwing, check_time=self.check_time
        )  # fmt: skip

    def _classic(self, answer: bytes, wall: float) -> Certificate | None:
        """Return the best certificate of es_version 1 or 2."""
        try:
            return self._choose(answer, wall, xwing=False)
        except NoCertificate:
            return None

    def hopes(self, now: float) -> bool:
        """True while a certificate of es_version 3 would be welcome."""
        return not why_not(XWING) and (self._shunned is None or now >= self._shunned_until)

    def _at_work(self, one: Certificate, now: float, *, proven: bool) -> Keys:
        pair = None if self.ephemeral else KeyPair(self.random(32))
        left = one.ends + 1 - self._wall() if self.check_time else math.inf
        return Keys(one, one.boxes(self.random, pair), now + left, proven)

    def begin(self, now: float) -> None:
        """Somebody asks for a certificate now; the others need not."""
        self.refresh_at = now + RARELY
        self._early_at = now + (RARELY if self.suspect else SOON)

    def fail(self, reason: str, now: float) -> None:
        """Nobody answered, or nothing in the answer could be used."""
        self.reason = reason
        self.counts["failed_fetches"] += 1
        self.refresh_at = now + min(SELDOM, RARELY * 2 ** min(self._failures, 8))
        self._failures += 1

    def miss(self, now: float) -> None:
        """No answer came in its time, or the server closed without one."""
        self._misses += 1
        if self._misses < MISSES or self.keys is None:
            return
        self._misses, self.suspect = 0, True
        self.counts["suspicions"] += 1
        previous = self.previous
        if previous is not None and not self.keys.proven and now < previous.expires:
            if self.keys.certificate.es_version == XWING:
                self._shunned, self._shunned_until = self.keys.certificate, now + BELIEF
            self.keys, self.previous = previous, None
            self.counts["fallbacks"] += 1
        elif self.keys.certificate.es_version == XWING:
            # A server that was started anew may know its key and no ticket.
            self.keys = self._at_work(self.keys.certificate, now, proven=self.keys.proven)
        self.refresh_at = min(self.refresh_at, max(now, self._early_at))

    def worked(self, keys: Keys) -> None:
        """An answer came that was sealed with ``keys``."""
        self._misses, self.suspect = 0, False
        if not keys.proven:
            keys.proven = True
            if keys is self.keys:
                self.previous = None

    def forget(self, now: float) -> None:
        """The network is another: new keys, so that nobody knows us again, and nothing learned.

        Certificates stay. Their time is reckoned anew, for the machine may have slept.
        """
        self._unlearn()
        self._misses, self.suspect = 0, False
        self._early_at, self._shunned = -math.inf, None
        if self.keys is not None:
            self.keys = self._at_work(self.keys.certificate, now, proven=self.keys.proven)
            # Asked for in any case: a time that a sleeping machine did not count is not to be relied on.
            self.refresh_at = now
        self.previous = None

    def least(self, relayed: bool, now: float) -> int:
        """Return what a padded query over UDP is at least."""
        if now >= self._shrink_at:
            self._size //= 2
            self._shrink_at = now + KEPT if self._size > LEAST else math.inf
        return max(self._size, LEAST_RELAYED if relayed else LEAST)

    def grow(self, size: int, now: float) -> None:
        """An answer was cut short that a query of ``size`` bytes has more room for."""
        self._size, self._shrink_at = max(self._size, size), now + KEPT
