"""DNSCrypt over TCP (DNSCRYPT-V2-PROTOCOL): a codec that finds out what the server allows.

Most servers, and all relays, answer one query and close; some keep the connection, some of
those take several queries at once, and one (unbound) then repeats answers in place of others.
So a connection begins with one query at a time. What was learned is in a ``Habit``, which
outlives connections: several at once after proof, one at a time after a sign to the contrary,
one for each connection where the server closes after its first answer. ``room`` says it.

What must never happen here: a query leaves before a certificate was verified, or under one
that is over; a frame that fails its tag gets through (the connection ends); an end after an
answer is called an error. Answers are matched by nonce, in any order.

For who uses it, besides the contract of ``codec``:

- ``width`` and ``capacity`` are for the ``path``: queries at once on a connection, and in all;
  0 means no limit. They may change with every call of ``receive`` and ``eof``.
- ``closing`` with no query ever sent: this connection brought the certificate, the next one
  takes queries. It has not failed.
- ``overflow`` as in ``dnscrypt``, but through a relay alone: the next connection asks with
  more room for the answer.
- CertificateError: there is none to be had here; ``provider.wants`` "udp" says how to get one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from _udp2tls.box import NONCE, RESOLVER_MAGIC, Box, Refused, response_nonce, tcp_size, udp_size
from _udp2tls.certificate import NoCertificate
from _udp2tls.codec import CertificateError, ConnectionLost, ProtocolError
from _udp2tls.exchange import Exchange
from _udp2tls.provider import Habit, Keys, Provider

# Who closes sooner after its first answer closes because of it; dnsdist keeps an idle
# connection for 2 s, the others longer.
AT_ONCE = 1.0
# Longer than a client's patience. A query that had no answer makes room for others then.
LIFETIME = 5.0
# Through a relay the query goes on by UDP; a larger packet than this is never whole there.
MOST_RELAYED = 4032
_MOST_FRAME = 65535
# Nonces of answers that are remembered, to know one that comes twice: more than a server
# that repeats has been seen to.
_REMEMBERED = 256


class _Asked:
    __slots__ = ("box", "expires", "keys", "message", "size")

    def __init__(self, message: bytes, size: int, box: Box, keys: Keys, expires: float) -> None:
        self.message, self.size, self.box, self.keys, self.expires = message, size, box, keys, expires


class Tcp:
    """See the file's docstring. ``habit`` is the relay's, where there is one; else the server's."""

    def __init__(self, provider: Provider, now: float, *, prefix: bytes = b"", habit: Habit | None = None) -> None:
        self.room = 0
        self.deadline = math.inf
        self.closing = False
        self.overflow: list[tuple[bytes, bytes]] | None = None
        self.counts = provider.counts
        self.habit = habit or provider.habit
        self.habit.refresh(now)
        self._provider = provider
        self._prefix = prefix
        self._exchange = Exchange(provider, relayed=bool(prefix), stream=True)
        self._waiting: dict[bytes, _Asked] = {}
        self._seen: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._written = self._answered = 0  # frames; the certificate's are among them
        self._answered_at = now
        self._over = False  # nothing more is to be asked here
        self._tail = b""
        self._out: list[bytes] = []
        if not provider.ready(now) or now >= provider.refresh_at:
            self._write(self._exchange.begin(now))
        self._settle(now)

    @property
    def width(self) -> int:
        return self.habit.width

    @property
    def capacity(self) -> int:
        return 1 if self.habit.one_shot else 0

    def _write(self, packet: bytes) -> None:
        packet = self._prefix + packet
        self._written += 1
        self._out.append(len(packet).to_bytes(2, "big") + packet)

    def send(self, messages: Sequence[bytes], now: float) -> None:
        keys, random = self._provider.keys, self._provider.random
        if keys is None:
            raise RuntimeError("a query before a certificate was verified: hold it while room is 0")
        for message in messages:
            nonce = random(NONCE)
            box = keys.boxes.box(nonce, now)
            size = max(box.least, tcp_size(len(message), random(1)[0]))
            if self._prefix:
                size = max(size, udp_size(len(message), self.habit.least, MOST_RELAYED))
            size = min(size, _MOST_FRAME - len(self._prefix) - box.overhead)
            if len(message) >= size:
                self.counts["too_large"] += 1  # its client is told when its time is up
                continue
            self._waiting[nonce] = _Asked(message, size, box, keys, now + LIFETIME)
            self._write(box.seal(message, nonce, size))
        self._settle(now)

    def receive(self, chunks: Sequence[bytes], now: float) -> list[bytes]:
        messages: list[bytes] = []
        for frame in self._frames(chunks):
            self._take(frame, messages, now)
        if now >= self.deadline:
            self._tick(now)
        self._settle(now)
        return messages

    def _frames(self, chunks: Sequence[bytes]) -> list[bytes]:
        """Return the frames now complete, those of no length too: as answers they say no."""
        data = b"".join((self._tail, *chunks))
        frames, start = [], 0
        while start + 2 <= len(data):
            end = start + 2 + (data[start] << 8 | data[start + 1])
            if end > len(data):
                break
            frames.append(data[start + 2 : end])
            start = end
        self._tail = data[start:]
        return frames

    def _take(self, frame: bytes, messages: list[bytes], now: float) -> None:
        provider = self._provider
        if not frame.startswith(RESOLVER_MAGIC):
            self._take_plain(frame, now)
            return
        nonce = response_nonce(frame)
        asked = self._waiting.get(nonce)
        if asked is None:
            if not nonce:  # what unbound says to a query that it cannot open
                provider.miss(now)
                raise ProtocolError("DNSCrypt: an answer too short to be one")
            self.counts["strays"] += 1
            if nonce in self._seen:
                # Another query's answer was lost for it. What waits has to be asked anew.
                self.counts["repeats"] += 1
                self.habit.demote(now)
                self._over = True
            return
        try:
            message = asked.box.open(frame)
        except Refused as why:
            raise ProtocolError(f"DNSCrypt: an answer that cannot be opened: {why}") from None
        full = self._answered and len(self._waiting) >= self.habit.width
        del self._waiting[nonce]
        self._seen.append(nonce)
        self._note_answer(now)
        provider.worked(asked.keys)
        if full:
            self.habit.proved()
        if message[2] & 2 and self._prefix and self.overflow is not None and asked.size < MOST_RELAYED:
            self.counts["truncated"] += 1
            self.habit.least = max(self.habit.least, min(2 * asked.size, MOST_RELAYED))
            self.overflow.append((asked.message, message))
        else:
            messages.append(message)

    def _note_answer(self, now: float) -> None:
        self._answered += 1
        self._answered_at = now

    def _take_plain(self, frame: bytes, now: float) -> None:
        """A certificate, or nothing at all."""
        exchange, provider = self._exchange, self._provider
        if not frame:
            self.counts["empty_frames"] += 1
            if exchange.active:  # dnsdist gives certificates over UDP alone
                self._note_answer(now)
                provider.wants = "udp"
                self._no_certificate("the server gives no certificate over TCP: it must be asked over UDP", now)
        elif exchange.is_answer(frame):
            self._note_answer(now)
            try:
                exchange.take(frame, now)
            except NoCertificate as error:
                self._no_certificate(str(error), now)
        else:
            raise ProtocolError("DNSCrypt: a frame that is neither an answer nor a certificate")

    def _no_certificate(self, reason: str, now: float) -> None:
        self._exchange.give_up(reason, now)
        if not self._provider.ready(now):
            raise CertificateError(f"DNSCrypt: {reason}")

    def _tick(self, now: float) -> None:
        """Do what is due."""
        provider, exchange = self._provider, self._exchange
        for nonce in [nonce for nonce, asked in self._waiting.items() if asked.expires <= now]:
            del self._waiting[nonce]
            self.counts["expired"] += 1
            provider.miss(now)
        if exchange.active:
            exchange.look(now)
            if not exchange.active and not provider.ready(now):
                raise ConnectionLost(f"DNSCrypt: {provider.reason}")
        elif not self._over and not self.habit.one_shot and exchange.deadline(now) <= now and not self._waiting:
            self._write(exchange.begin(now))

    def _settle(self, now: float) -> None:
        """Find out what may be asked here now, and when to look again."""
        habit, provider, exchange = self.habit, self._provider, self._exchange
        busy = len(self._waiting) + exchange.active
        if habit.one_shot and self._written:
            self._over = True
        ready = provider.ready(now)
        if self._over or not ready or (exchange.active and provider.suspect):
            self.room = 0
        else:
            self.room = max(0, habit.width - busy)
        self.closing = self._over and (not busy or not habit.one_shot)
        due = exchange.due
        if not exchange.active and not self._over and not habit.one_shot and not self._waiting:
            due = exchange.deadline(now)
        for asked in self._waiting.values():
            due = min(due, asked.expires)
            break
        if ready and provider.keys is not None:
            due = min(due, provider.keys.expires)
        self.deadline = due

    def outgoing(self) -> list[bytes]:
        out, self._out = self._out, []
        return out

    def close(self) -> None:
        pass

    def eof(self, now: float) -> list[bytes]:
        provider, habit, waiting = self._provider, self.habit, len(self._waiting)
        self.room, self.closing = 0, True
        if self._tail:
            raise ConnectionLost(f"DNSCrypt: the stream ended {len(self._tail)} bytes into a frame")
        if not self._answered and self._written:
            if waiting:
                provider.miss(now)
            said = "the query" if waiting else "the query for a certificate"
            raise ConnectionLost(f"DNSCrypt: the server closed without an answer to {said}")
        if self._answered == 1 and (waiting or now < self._answered_at + AT_ONCE):
            habit.end_after_one(now)
        elif waiting > 1:
            habit.broke(now)
        return []
