"""The certificate query of one DNSCrypt connection: asked, asked again, answered or given up.

It is to a DNSCrypt codec what a handshake is to TLS, but goes on beside queries when a
certificate is only to be replaced. Over UDP an answer proves nothing until a signature in
it was checked, so a bad one is passed over and the query stays open; over TCP it is final.

Servers differ in what they answer: some send no answer longer than the query (relays never
pass one), some do not know EDNS. So retransmissions are of different sizes. Certificates of
es_version 3 are 1.3 KB, and servers leave them out, with TC set, where the query is shorter
than the answer would be: then what came is used, and the rest asked for with the largest
query. A relay remembers the first answer it passed, and gives that to everyone for ten
minutes: so the first query through it is the largest. The query is plain DNS, and holds
nothing that anybody on the way may not know.
"""

from __future__ import annotations

import math

from _udp2tls import certificate
from _udp2tls.box import XWING
from _udp2tls.certificate import NoCertificate
from _udp2tls.provider import FIRST_WAIT, MOST_WAIT, Provider

# How large the query is, at one try after the other. The largest has room for an answer with
# certificates of all systems and the longest name; 1232 is what arrives unfragmented.
LARGEST = 2048
_DIRECT, _RELAYED = (0, 480, 0, LARGEST), (480, 1232, 480, LARGEST)
# Over TCP there is one, through a relay the largest: on to the server it goes by UDP.
_STREAM, _RELAYED_STREAM = (0,), (LARGEST,)
# So many tries over UDP: about 4 s.
_TRIES = 7
# When so many brought nothing, TCP is worth trying beside it.
_UDP_FAILS = 3
# How long an answer over TCP may take: a relay's question to the server is by UDP.
_PATIENCE = 3.0
# Whoever guesses port and ID sends answers that cost 24 signature checks, 1.5 ms: so many
# are looked at for each query that we send.
_MOST_ANSWERS = 4


class Exchange:
    """See the file's docstring. ``due``: when the answer's time is up; inf: nothing is asked."""

    def __init__(self, provider: Provider, *, relayed: bool, stream: bool = False) -> None:
        self.due = math.inf
        self._provider = provider
        self._relayed, self._stream = relayed, stream
        sizes = (_RELAYED_STREAM if relayed else _STREAM), (_RELAYED if relayed else _DIRECT)
        self._sizes = sizes[not stream]
        self._id = self._asked = b""
        self._tries = self._looked_at = self._growth = 0
        self._begun = self._sent = 0.0
        self._answered = False

    @property
    def active(self) -> bool:
        """True while an answer is waited for."""
        return self.due < math.inf

    def deadline(self, now: float) -> float:
        """Return when ``look`` has something to do."""
        keys = self._provider.keys
        if keys is None or keys.expires <= now:
            return self.due if self.active else now
        return min(keys.expires, self.due if self.active else self._provider.refresh_at)

    def look(self, now: float) -> bytes:
        """Return the query that is to be sent now, or nothing."""
        provider = self._provider
        if self.active and provider.taken_at > self._begun:
            self.due = math.inf  # another connection has got what was asked for
        if self.active:
            return self._again(now) if now >= self.due else b""
        return b"" if provider.ready(now) and now < provider.refresh_at else self.begin(now)

    def begin(self, now: float) -> bytes:
        """Return the query, of a new exchange."""
        self._provider.begin(now)
        self._provider.counts["fetches"] += 1
        self._id = self._provider.random(2)
        self._tries = 0
        largest_first = self._provider.hopes(now) and (self._relayed or self._has_xwing())
        self._growth = len(self._sizes) - 1 if largest_first else 0
        self._begun, self._answered = now, False
        return self._next(now)

    def _has_xwing(self) -> bool:
        keys = self._provider.keys
        return keys is not None and keys.certificate.es_version == XWING

    def _next(self, now: float) -> bytes:
        if self._stream:
            wait = _PATIENCE
        else:
            wait = min(MOST_WAIT, max(FIRST_WAIT / 2, self._provider.pace.wait) * 2**self._tries)
        size = self._sizes[(self._tries + self._growth) % len(self._sizes)]
        self._asked = certificate.query(self._provider.name, self._id, size=size)
        self._tries += 1
        self._looked_at = 0
        self._sent, self.due = now, now + wait
        return self._asked

    def _again(self, now: float) -> bytes:
        provider = self._provider
        if not self._stream:
            if self._tries == _UDP_FAILS and not self._relayed:
                provider.wants = "tcp"
            # Without any certificate there is nothing else to do; the connection's owner ends that.
            if self._tries < _TRIES or not provider.ready(now):
                return self._next(now)
        self.give_up(provider.reason if self._answered else "no answer to the query for a certificate", now)
        return b""

    def give_up(self, reason: str, now: float) -> None:
        """Wait no longer."""
        self.due = math.inf
        self._provider.fail(reason, now)

    def is_answer(self, packet: bytes) -> bool:
        """True when ``packet`` claims to be what is waited for."""
        return self.active and self._looked_at < _MOST_ANSWERS and certificate.is_answer(self._asked, packet)

    def take(self, packet: bytes, now: float) -> None:
        """Read an answer. Raises NoCertificate, and goes on waiting where that can be mended."""
        provider = self._provider
        self._looked_at += 1
        self._answered = True
        try:
            provider.take(packet, now)
        except NoCertificate as error:
            provider.reason = str(error)
            if error.truncated and not self._stream and not self._growth:
                self._grow(now)  # if that is not enough, TCP
            if error.truncated and not self._relayed:
                provider.wants = "tcp"
            raise
        if self._tries == 1 and not self._stream and not self._relayed:  # relays answer for the server
            provider.pace.sample(now - self._sent)
        self.due = math.inf
        if packet[2] & 2 and not self._stream and not self._growth and provider.hopes(now) and not self._has_xwing():
            self._begun = now  # what was taken now is good, but not all there is
            self._grow(now)

    def _grow(self, now: float) -> None:
        """Ask once more, at once, and not in this size but the largest."""
        self._growth = len(self._sizes) - 1 - self._tries % len(self._sizes)
        self.due = now
