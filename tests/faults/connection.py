"""One connection from the forwarder to the upstream: TLS over memory BIOs, two-byte frames, and every way to end.

It runs in the upstream's event loop. The TLS layer is done by hand because the faults need
it: a handshake never answered, an end of the stream without a TLS close, a TLS close after
which reading goes on, bytes that are no TLS.
"""

from __future__ import annotations

import asyncio
import collections
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from tests.peers import asking, scripted

if TYPE_CHECKING:
    from tests.faults.upstream import Upstream

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: close sends RST


@dataclass
class Visit:
    """What is remembered of a connection. Times are monotonic; infinity is never."""

    number: int
    opened: float
    established: float = float("inf")
    resumed: bool = False
    queries: int = 0
    ended: float = float("inf")  # by the upstream: closed, or silent from then on
    end: str = ""  # how
    late: list[float] = field(default_factory=list)  # queries that arrived after that
    failure: str = ""


@dataclass(frozen=True)
class Seen:
    """A query as it arrived."""

    time: float
    visit: int
    name: str
    question: bytes
    dead: bool  # the connection had ended already

    @property
    def from_client(self) -> bool:
        """False for what a forwarder asks by itself, to find out whether somebody is there."""
        return self.name.endswith(".test.example")


class Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream, visit: Visit, context: ssl.SSLContext | None) -> None:
        """Without a ``context`` the peer's first words are never answered."""
        self.visit = visit
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)
        self._established = False
        self._silent = context is None
        self._ended = False
        self._stream = b""
        self._queue: collections.deque[tuple[float, bytes]] = collections.deque()
        self._busy_until = 0.0
        self._idle: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._silent = True
        self._upstream.connections.discard(self)
        if self._idle:
            self._idle.cancel()

    def eof_received(self) -> bool:
        return self._silent  # a black hole does not say goodbye either

    def data_received(self, data: bytes) -> None:
        if self._tls is None:
            return
        self._received.write(data)
        try:
            if not self._established:
                if self._silent:
                    return
                self._tls.do_handshake()
                self._established = True
                self.visit.established = time.monotonic()
                self.visit.resumed = bool(self._tls.session_reused)
                self._awake()
            while chunk := self._tls.read(1 << 16):
                self._stream += chunk
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.visit.failure = str(error)
            self._flush()
            if not self._silent:
                self._transport.close()
            return
        self._flush()
        self._read_frames()

    def _read_frames(self) -> None:
        stream, at = self._stream, 0
        while len(stream) >= at + 2:
            end = at + 2 + int.from_bytes(stream[at : at + 2], "big")
            if len(stream) < end:
                break
            self._take(stream[at + 2 : end])
            at = end
        self._stream = stream[at:]

    def _take(self, query: bytes) -> None:
        now = time.monotonic()
        question = asking.question_of(query)
        seen = Seen(now, self.visit.number, _text(question), question, self._ended)
        self._upstream.queries.append(seen)
        self.visit.queries += 1
        if self._ended:
            self.visit.late.append(now)
            return
        if len(query) < 12:
            return
        self._awake()
        up = self._upstream
        slow = up.slow if "slow" in seen.name.split(".") else 0.0
        if up.serial:
            self._busy_until = max(self._busy_until, now) + (slow or up.service)
            self._queue.append((self._busy_until, query))
            self._loop.call_later(self._busy_until - now, self._serve_queue)
            return
        wait = up.delay + up.jitter * up.random.random() + slow
        if wait:
            self._loop.call_later(wait, self._answer, query)
        else:
            self._answer(query)

    def _serve_queue(self) -> None:
        now = time.monotonic() + 0.001  # timers are no finer
        while self._queue and self._queue[0][0] <= now:
            self._answer(self._queue.popleft()[1])

    def _answer(self, query: bytes) -> None:
        if self._ended or self._transport.is_closing():
            return
        up = self._upstream
        if up.servfail:
            question = asking.question_of(query)
            answer = query[:2] + b"\x81\x82\0\1" + bytes(6) + question
        else:
            answer = scripted.right_answer(query)
        if up.halve:
            up.halve -= 1
            frame = asking.framed(answer)
            self.write(frame[: len(frame) // 2])
            self.go_silent()
            return
        tamper, up.tamper_once = up.tamper_once or up.tamper, None
        self.write(tamper(query, answer))
        self._awake()
        if up.one_shot:
            self.close_notify()

    def write(self, data: bytes) -> None:
        if data and self._tls and self._established and not self._ended:
            self._tls.write(data)
            self._flush()

    def write_below_tls(self, data: bytes) -> None:
        if self._established and not self._ended:
            self._transport.write(data)

    def _flush(self) -> None:
        data = self._to_send.read()
        if data and not self._silent and not self._transport.is_closing():
            self._transport.write(data)

    def _awake(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None
        if self._upstream.idle_limit and not self._ended:
            self._idle = self._loop.call_later(self._upstream.idle_limit, getattr(self, self._upstream.idle_end))

    def _end(self, how: str) -> bool:
        if self._ended:
            return False
        self.visit.ended, self.visit.end = time.monotonic(), how
        self._ended = True
        return True

    def close_notify(self) -> None:
        """Close as TLS asks for, and go on reading."""
        if not self._established:
            self.fin()
            return
        assert self._tls
        if self._end("close_notify"):
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it waits for the peer's goodbye; we do not
            self._flush()
            self._write_eof()

    def fin(self) -> None:
        """Close the stream without a TLS close, and go on reading."""
        if self._end("fin"):
            self._write_eof()

    def _write_eof(self) -> None:
        try:
            self._transport.write_eof()
        except OSError:
            pass  # the peer reset it just now

    def rst(self) -> None:
        self._end("rst")
        sock = self._transport.get_extra_info("socket")
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # closed by the peer just now
        self._transport.abort()

    def go_silent(self) -> None:
        """Become a black hole: whatever arrives is noted and swallowed."""
        self._end("silence")
        self._silent = True


def _text(question: bytes) -> str:
    labels, at = [], 0
    while question and question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace").lower())
        at += 1 + question[at]
    return ".".join(labels)
