"""A small world without a kernel: clock, selector, sockets, an upstream that speaks plain framing.

The fakes behave as the real things do as far as the loop can see: reads raise
BlockingIOError when nothing is there, writes take what the window allows, readiness is
level-triggered. Nothing sleeps: time is a number that a test changes.
"""

from __future__ import annotations

import random
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

from _udp2tls.codec import Codec
from _udp2tls.config import Config, Endpoint, UpstreamSpec, parse_upstream
from _udp2tls.framing import Framing
from _udp2tls.tls import Session
from _udp2tls.upstream import Upstream
from udp2tls import Forwarder

CLIENT = ("127.0.0.1", 40001)


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Selector:
    """Level-triggered readiness of fake sockets."""

    def __init__(self) -> None:
        self.keys: dict[Any, selectors.SelectorKey] = {}
        self.timeout = 0.0  # of the last select

    def register(self, sock: Any, events: int, data: Any) -> None:
        assert sock not in self.keys
        assert not getattr(sock, "closed", False), "a closed socket has no descriptor to wait for"
        self.keys[sock] = selectors.SelectorKey(sock, 0, events, data)

    def modify(self, sock: Any, events: int, data: Any) -> None:
        self.unregister(sock)
        self.register(sock, events, data)

    def unregister(self, sock: Any) -> None:
        del self.keys[sock]

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return self.keys

    def select(self, timeout: float) -> list[tuple[selectors.SelectorKey, int]]:
        self.timeout = timeout
        ready = []
        for sock, key in self.keys.items():
            mask = (1 if sock.readable() else 0) | (2 if sock.writable() else 0)
            if mask & key.events:
                ready.append((key, mask & key.events))
        return ready

    def close(self) -> None:
        self.keys.clear()


class Udp:
    """A UDP listener; ``inbox`` holds (datagram, address) or an OSError to raise."""

    type = socket.SOCK_DGRAM

    def __init__(self) -> None:
        self.inbox: deque[tuple[bytes, Any] | OSError] = deque()
        self.sent: list[tuple[bytes, Any]] = []
        self.send_error: OSError | None = None
        self.closed = False
        self.reads = 0

    def readable(self) -> bool:
        return bool(self.inbox)

    def writable(self) -> bool:
        return True

    def recvfrom(self, size: int) -> tuple[bytes, Any]:
        self.reads += 1
        if not self.inbox:
            raise BlockingIOError
        first = self.inbox.popleft()
        if isinstance(first, OSError):
            raise first
        return first

    def sendto(self, data: bytes, address: Any) -> int:
        if self.send_error:
            raise self.send_error
        self.sent.append((data, address))
        return len(data)

    def close(self) -> None:
        self.closed = True


class Tcp:
    """One end of a TCP connection. ``window`` is how many bytes the kernel takes."""

    def __init__(self, connected: bool = True) -> None:
        self.connected = connected
        self.error: OSError | None = None
        self.inbox: deque[bytes] = deque()
        self.ended = False
        self.sent = bytearray()
        self.window = 1 << 30
        self.closed = False

    def readable(self) -> bool:
        return self.connected and bool(self.inbox or self.ended or self.error)

    def writable(self) -> bool:
        return (self.connected and self.window > 0) or bool(self.error)

    def recv(self, size: int) -> bytes:
        if self.error:
            raise self.error
        if self.inbox:
            return self.inbox.popleft()
        if self.ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        if self.error:
            raise self.error
        if not self.window:
            raise BlockingIOError
        taken = min(len(data), self.window)
        self.window -= taken
        self.sent += data[:taken]
        return taken

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return (self.error.errno or 0) if self.error else 0

    def close(self) -> None:
        self.closed = True

    def frames(self) -> list[bytes]:
        """Take the framed messages written so far."""
        messages = Framing().receive((bytes(self.sent),), 0.0)
        del self.sent[: sum(len(message) + 2 for message in messages)]
        return messages

    def feed(self, *messages: bytes) -> None:
        if messages:
            self.inbox.append(b"".join(len(m).to_bytes(2, "big") + m for m in messages))


class TcpListener:
    """``queue`` holds (Tcp, address) or an OSError to raise."""

    type = socket.SOCK_STREAM

    def __init__(self) -> None:
        self.queue: deque[tuple[Tcp, Any] | OSError] = deque()

    def readable(self) -> bool:
        return bool(self.queue)

    def writable(self) -> bool:
        return False

    def accept(self) -> tuple[Tcp, Any]:
        if not self.queue:
            raise BlockingIOError
        first = self.queue.popleft()
        if isinstance(first, OSError):
            raise first
        return first

    def close(self) -> None:
        pass


class PlainUpstream(Upstream):
    """An upstream without TLS: its codec is bare framing, open as soon as it is connected."""

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec, Session(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), spec.name))

    def codec(self, now: float = 0.0) -> Codec:
        return Framing()


class World:
    """A Forwarder with one UDP and one TCP listener, and every connection it opens."""

    def __init__(self, *urls: str, **settings: Any) -> None:
        specs = tuple(parse_upstream(url) for url in urls or ("tls://192.0.2.53#one.example",))
        self.clock = Clock()
        self.selector = Selector()
        self.asleep = 1e9  # by how much the wall clock is ahead of the other one
        self.local = "192.0.2.200"
        self.slept = 0.0  # in the loop's pauses
        self.opened: list[tuple[Endpoint, Tcp]] = []
        self.on_open: Callable[[Endpoint], Tcp] = lambda address: Tcp()
        self.upstreams = [PlainUpstream(spec) for spec in specs]
        self.forwarder = Forwarder(
            Config(upstreams=specs, listen=(), **settings), clock=self.clock, sleep=self.sleep, selector=self.selector,
            rng=random.Random(1), open_stream=self._open, upstreams=self.upstreams,
            wall=lambda: self.clock.now + self.asleep, route=lambda address: self.local,
        )  # fmt: skip
        # Nobody wakes this loop; its real sockets would only have to be closed by every test.
        for sock in list(self.selector.keys):
            self.selector.unregister(sock)
            sock.close()
        self.forwarder.wake_socket.close()
        self.udp, self.tcp = Udp(), TcpListener()
        guarded = bool(settings.get("allow"))
        self.forwarder.clients.listen_udp(self.udp, guarded)
        self.forwarder.clients.listen_tcp(self.tcp, guarded)

    def _open(self, address: Endpoint) -> Tcp:
        sock = self.on_open(address)
        self.opened.append((address, sock))
        return sock

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.clock.now += seconds

    @property
    def link(self) -> Tcp:
        """The newest connection."""
        return self.opened[-1][1]

    def ask(self, *messages: bytes, address: Any = CLIENT) -> None:
        self.udp.inbox.extend((message, address) for message in messages)

    def client(self, address: Any = CLIENT) -> Tcp:
        """Connect a TCP client."""
        sock = Tcp()
        self.tcp.queue.append((sock, address))
        self.turns()
        return sock

    def turns(self, count: int = 6) -> None:
        for _ in range(count):
            self.forwarder.turn()

    def later(self, seconds: float) -> None:
        """Let time pass in steps no longer than the loop asked to sleep."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.forwarder.turn()
            self.clock.now = min(end, self.clock.now + max(0.001, self.selector.timeout))
        self.turns()

    def serve(self, seconds: float, answerer: Callable[[bytes], bytes] | None = None) -> None:
        """Let time pass while every connection answers what is written to it."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.forwarder.turn()
            for _, sock in self.opened:
                if not sock.closed and (frames := sock.frames()):
                    sock.feed(*((answerer or answer)(frame) for frame in frames))
            self.turns()
            self.clock.now = min(end, self.clock.now + max(0.001, self.selector.timeout))

    def replies(self) -> list[tuple[bytes, Any]]:
        """Take the datagrams sent to clients."""
        sent, self.udp.sent = self.udp.sent, []
        return sent


def question(name: str = "www.example", rtype: int = 1) -> bytes:
    """Return a question section; labels must not hold dots."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return labels + b"\0" + rtype.to_bytes(2, "big") + b"\0\1"


def query(name: str = "www.example", id: int = 0x1234, rtype: int = 1, size: int = 0) -> bytes:
    """Return a query; ``size`` > 0 adds an OPT record with that UDP size."""
    opt = b"\0\0\x29" + size.to_bytes(2, "big") + bytes(6) if size else b""
    counts = b"\0\1\0\0\0\0" + (b"\0\1" if opt else b"\0\0")
    return id.to_bytes(2, "big") + b"\1\0" + counts + question(name, rtype) + opt


def answer(asked: bytes, data: bytes = b"\xc0\x00\x02\x01", count: int = 1) -> bytes:
    """Return an answer to ``asked`` with ``count`` records, echoing ID and question; no OPT."""
    end = 12
    while asked[end]:
        end += asked[end] + 1
    end += 5
    record = b"\xc0\x0c" + asked[end - 4 : end] + b"\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    return asked[:2] + b"\x81\x80\0\1" + count.to_bytes(2, "big") + bytes(4) + asked[12:end] + record * count
