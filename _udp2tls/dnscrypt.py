"""DNSCrypt over UDP (DNSCRYPT-V2-PROTOCOL): a codec whose connection is one UDP socket.

Owns the queries in flight, by nonce, and sends each again, the identical packet, until it is
answered: after the usual round trip and its variation, and ever more slowly.
Also the padding, which grows when an answer was cut short (TC) and stays so for a while, and
the certificate exchange: ``room`` is 0 and ``send`` refuses until a certificate was verified.

What must never happen here: something that came in raises, or is believed before its tag
was checked; a nonce serves two packets; a query leaves under a certificate that is over.

For who uses it, besides the contract of ``codec``:

- One object for each UDP socket, connected to the server or relay. ``prefix`` is what a relay
  wants before every packet (``relay``). ``largest`` bounds a datagram.
- ``receive((), now)`` at ``deadline`` sends again, so ``outgoing`` is to be drained after it.
  It may return messages, too. No error of the socket means that the codec is finished.
- ``send`` of a query that is in flight sends its packet again. It is answered once.
- ``overflow``: a list, if somebody takes queries from it to ask them over TCP; there come
  pairs (query, what there is for an answer) of what UDP has no room for. While it is None
  the latter, an answer with TC set, is returned as any other. Not used through a relay: its
  way to the server is UDP in any case.
- ``provider.news`` is a certificate to log, ``provider.wants`` "tcp" when the certificate is
  not to be had over UDP, and a codec over TCP has to fetch it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from _udp2tls import wire
from _udp2tls.box import BLOCK, NONCE, RESOLVER_MAGIC, Box, Refused, udp_size
from _udp2tls.certificate import NoCertificate
from _udp2tls.exchange import Exchange
from _udp2tls.provider import MOST_WAIT, Keys, Provider

# A datagram that arrives unfragmented everywhere, IPv6's and UDP's headers not counted: some
# servers drop fragments. X-Wing's cipher text alone is 1,120 bytes, so for it what Ethernet carries.
LARGEST, LARGEST_XWING = 1232, 1452
# Over TCP a relay's way is no wider than over UDP; so some larger sizes are tried, by
# queries that were cut short and only for those.
LARGEST_RELAYED = 4128

_OVERHEAD = 68  # of a query, but in es_version 3

# A server that has gone silent must not make us hold ever more: 1.3 KB each.
MOST_IN_FLIGHT = 4096
# Longer than a client's patience (about 5 s); a later answer is for nobody.
LIFETIME = 5.0
# When a packet is sent again (last: given up), in waits of the provider's ``pace`` from one time to the next. The
# third packet must be out after two, for with 20 % of packets lost each way it is the one
# that brings 95 % of the answers; and there are so many that a query without any answer is one in 500,000. Those to a
# server that says nothing at all are bounded below.
WAITS = (1, 1, 1.5, 2, 3, 4, 6, 8, 8, 8, 8, 8, 8)
# A larger packet that brings nothing after so many is one whose fragments are dropped.
LARGE_TRIES = 2
# So often a query is made larger: 768, 1536, 3072, 4032.
MOST_GROWTH = 4
# Retransmissions that may be saved up and that each second brings; each query brings one.
# A server that is down, or drops what is beyond its limit, must not get many times the traffic.
_SAVED, _TRICKLE = 256.0, 32.0


class _Asked:
    """A query in flight. ``packet`` is empty when it is no more."""

    __slots__ = ("box", "expires", "grown", "keys", "message", "nonce", "packet", "sent", "short", "size", "tries")

    def __init__(
        self, message: bytes, nonce: bytes, packet: bytes, size: int, box: Box, keys: Keys, now: float
    ) -> None:
        self.message, self.nonce, self.packet, self.size = message, nonce, packet, size
        self.box, self.keys = box, keys
        self.sent, self.expires = now, now + LIFETIME
        self.tries = 0  # how often it was sent again
        self.grown = 0  # how often it was made larger
        self.short = b""  # the answer that was cut short


class Udp:
    """See the file's docstring."""

    def __init__(self, provider: Provider, now: float, *, prefix: bytes = b"", largest: int = 0) -> None:
        self.room, self.deadline, self.closing = 0, math.inf, False
        self.overflow: list[tuple[bytes, bytes]] | None = None
        self.counts = provider.counts
        self._provider = provider
        self._prefix, self._largest = prefix, largest
        self._exchange = Exchange(provider, relayed=bool(prefix))
        self._ready = False  # there is a certificate
        self._keys: Keys | None = None  # the last that were seen
        self._whole = (largest or LARGEST) - len(prefix) - _OVERHEAD & -BLOCK  # a padded query at most
        self._least = 0  # and at least
        self._waiting: dict[bytes, _Asked] = {}
        self._by_message: dict[bytes, _Asked] = {}
        # Who was sent again how often. In each queue the next one to be sent again is the first.
        self._queues: tuple[deque[_Asked], ...] = tuple(deque() for _ in WAITS)
        self._saved, self._saved_at = _SAVED / 4, now
        self._short: list[bytes] = []  # answers cut short that are to be returned
        self._out: list[bytes] = []
        self._tick(now)

    def send(self, messages: Sequence[bytes], now: float) -> None:
        if not self._ready:
            raise RuntimeError("a query before a certificate was verified: hold it while room is 0")
        nonces = self._provider.random(NONCE * len(messages))
        at = 0
        for message in messages:
            asked = self._by_message.get(message)
            if asked is None:
                self._ask(message, nonces[at : at + NONCE], self._least, now)
                at += NONCE
            else:
                asked.tries = asked.tries or 1
                self._out.append(asked.packet)
        while len(self._waiting) > MOST_IN_FLIGHT:
            self._forget(next(iter(self._waiting.values())))
        self.room = MOST_IN_FLIGHT - len(self._waiting)
        self._saved += len(messages)
        due = now if self._short else now + self._provider.pace.wait
        if due < self.deadline:
            self.deadline = due

    def _ask(self, message: bytes, nonce: bytes, size: int, now: float, *, fragments: bool = False) -> _Asked | None:
        """Seal a query, padded to at least ``size``, and send it. None: it has no room in a datagram."""
        keys = self._provider.keys
        if keys is None:
            raise RuntimeError("no query may be sealed yet")
        box = keys.boxes.box(nonce, now)
        if len(message) >= size or size != self._least or box.overhead != _OVERHEAD:  # else the usual case
            size = udp_size(len(message), max(size, box.least), self._most(box, fragments=fragments))
            if not size:
                self._overflow(message, b"")
                return None
        packet = self._prefix + box.seal(message, nonce, size)  # no copy where there is none
        asked = _Asked(message, nonce, packet, size, box, keys, now)
        self._waiting[nonce] = self._by_message[message] = asked
        self._queues[0].append(asked)
        self._out.append(packet)
        return asked

    def _most(self, box: Box, *, fragments: bool = False) -> int:
        """Return how large a padded query may be in a datagram."""
        large = LARGEST_RELAYED if fragments and self._prefix else LARGEST
        if box.overhead > LARGEST // 2:
            large = max(large, LARGEST_XWING)
        return (self._largest or large) - len(self._prefix) - box.overhead & -BLOCK

    def _overflow(self, message: bytes, short: bytes) -> None:
        """A query, or its answer, has no room over UDP."""
        self.counts["overflows"] += 1
        short = short or wire.respond(message, wire.question_end(message), wire.NOERROR, truncated=True)
        if self.overflow is None or self._prefix:
            self._short.append(short)
        else:
            self.overflow.append((message, short))

    def receive(self, chunks: Sequence[bytes], now: float) -> list[bytes]:
        waiting, by_message = self._waiting, self._by_message
        messages: list[bytes] = []
        asked: _Asked | None = None
        for packet in chunks:
            found = waiting.get(packet[8:20])
            if found is None:
                self._stray(packet, now)
                continue
            try:
                message = found.box.open(packet)
            except Refused:
                self.counts["forged"] += 1
                continue
            asked = found
            del waiting[asked.nonce], by_message[asked.message]
            asked.packet = b""
            if message[2] & 2:
                self._cut_short(asked, message, now)
            else:
                messages.append(message)
        if asked is not None:
            provider = self._provider
            provider.worked(asked.keys)
            if not asked.tries:
                provider.pace.sample(now - asked.sent)
            if self._ready:
                self.room = MOST_IN_FLIGHT - len(waiting)
        if now >= self.deadline:
            self._tick(now)
        if self._short:
            messages += self._short
            self._short = []
        return messages

    def _cut_short(self, asked: _Asked, answer: bytes, now: float) -> None:
        """An answer has TC set: ask with more room for it, or leave it to TCP."""
        self.counts["truncated"] += 1
        whole = self._most(asked.box)
        size = min(2 * asked.size, whole if asked.size < whole else self._most(asked.box, fragments=True))
        if size <= asked.size or asked.grown == MOST_GROWTH or not self._ready:
            self._overflow(asked.message, answer)
            return
        if size <= whole:  # what may be fragmented on its way is for those alone that need it
            self._provider.grow(size, now)
            self._least = max(self._least, min(size, self._whole))
        larger = self._ask(asked.message, self._provider.random(NONCE), size, now, fragments=size > whole)
        if larger is not None:
            larger.grown, larger.short = asked.grown + 1, answer
        self.deadline = min(self.deadline, now + self._provider.pace.wait)

    def _stray(self, packet: bytes, now: float) -> None:
        """It answers no query in flight: a certificate, a late or second answer, or made up."""
        exchange = self._exchange
        if packet.startswith(RESOLVER_MAGIC) or not exchange.is_answer(packet):
            self.counts["strays"] += 1
            return
        try:
            exchange.take(packet, now)
        except NoCertificate:
            self.counts["refused_certificates"] += 1
        self.deadline = now  # in any case there is something to do

    def _tick(self, now: float) -> None:
        """Do what is due, and find out when to look again."""
        provider, exchange, waiting = self._provider, self._exchange, self._waiting
        if query := exchange.look(now):
            self._out.append(self._prefix + query)
        self._ready = provider.ready(now)
        self._least = min(provider.least(bool(self._prefix), now), self._whole)
        while waiting and (oldest := next(iter(waiting.values()))).expires <= now:
            self.counts["expired"] += 1
            self._forget(oldest)
        due = self._retransmit(now)
        if self._ready and provider.keys is not self._keys:
            self._keys = provider.keys
            for asked in [one for one in waiting.values() if one.tries]:
                self._renew(asked, now)
            due = min(due, now + provider.pace.wait)
        self.room = MOST_IN_FLIGHT - len(waiting) if self._ready else 0
        expires = next((asked.expires for asked in waiting.values()), math.inf)
        self.deadline = min(due, exchange.deadline(now), expires)

    def _retransmit(self, now: float) -> float:
        """Send again what is due, and return when the next is."""
        self._saved = min(_SAVED, self._saved + (now - self._saved_at) * _TRICKLE)
        self._saved_at = now
        deadline, missed = math.inf, False
        for tries, queue in enumerate(self._queues):
            wait = min(MOST_WAIT, self._provider.pace.wait * WAITS[tries])
            while queue:
                asked = queue[0]
                if asked.packet:
                    if asked.sent + wait > now:
                        deadline = min(deadline, asked.sent + wait)
                        break
                    missed = missed or tries > 1
                    self._send_again(asked, tries, now)
                queue.popleft()
        if missed:
            self._provider.miss(now)
        return deadline

    def _send_again(self, asked: _Asked, tries: int, now: float) -> None:
        if tries == len(WAITS) - 1 or (tries == LARGE_TRIES and asked.short and asked.size > self._whole):
            if asked.short:
                self._forget(asked)
                self._overflow(asked.message, asked.short)
        elif not self._ready or self._saved < 1:
            asked.sent = now
            self._queues[tries].append(asked)
        elif asked.keys is not self._provider.keys:
            self._renew(asked, now)
        else:
            self._saved -= 1
            asked.sent, asked.tries = now, tries + 1
            self._queues[tries + 1].append(asked)
            self._out.append(asked.packet)
            self.counts["retransmitted"] += 1

    def _renew(self, asked: _Asked, now: float) -> None:
        """Seal a query again, with the keys that are in force now."""
        self._forget(asked)
        self.counts["renewed"] += 1
        nonce = self._provider.random(NONCE)
        again = self._ask(asked.message, nonce, asked.size, now, fragments=asked.size > self._whole)
        if again is not None:
            again.short, again.grown = asked.short, asked.grown

    def _forget(self, asked: _Asked) -> None:
        del self._waiting[asked.nonce], self._by_message[asked.message]
        asked.packet = b""

    def outgoing(self) -> list[bytes]:
        out, self._out = self._out, []
        return out

    def close(self) -> None:
        pass

    def eof(self, now: float) -> list[bytes]:
        return []
