"""A DNS-over-TLS server in memory, behind sockets that only seem to block: their clock moves instead."""

from __future__ import annotations

import errno
import random
import ssl
import time
from collections.abc import Callable

from _udp2tls import wire
from _udp2tls.checkup import Tools
from _udp2tls.codec import CodecError
from _udp2tls.config import Endpoint
from _udp2tls.framing import Framing
from _udp2tls.tls import Tls

# How long things take, in seconds.
CONNECT, TURN = 0.030, 0.020
NOW = time.time()  # the tests' certificates are of today

Script = Callable[["Connection", list[bytes]], None]


def options(*pairs: tuple[int, bytes]) -> bytes:
    """Return an OPT record with these options."""
    data = b"".join(code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for code, value in pairs)
    return b"\0\0\x29\x04\xd0\0\0\0\0" + len(data).to_bytes(2, "big") + data


def answer(query: bytes, rcode: int = 0, opt: bytes = b"") -> bytes:
    return wire.respond(query, wire.question_end(query), rcode, tail=opt)


def serve(connection: Connection, queries: list[bytes]) -> None:
    """Answer everything in order."""
    connection.send([answer(query) for query in queries])


class World:
    """Time, and what listens at any address. ``refuse`` has the addresses where nothing does."""

    def __init__(self, context: ssl.SSLContext | None, script: Script = serve, patience: float = 5.0) -> None:
        self.now = 1000.0
        self.context = context
        self.script = script
        self.refuse: set[Endpoint] = set()
        self.connections: list[Connection] = []
        self.said: list[str] = []
        self.hosts: tuple[list[str], str] = ([], "no such name")
        self.tools = Tools(
            lambda: self.now, lambda: NOW, lambda host: self.hosts, self.connect, self.connect, lambda endpoint: (),
            random.Random(1), self.said.append, patience,
        )  # fmt: skip

    def connect(self, address: Endpoint, timeout: float) -> Connection:
        self.now += CONNECT
        if address in self.refuse:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self.connections.append(Connection(self))
        return self.connections[-1]

    @property
    def queries(self) -> list[bytes]:
        return [query for connection in self.connections for query in connection.queries]

    @property
    def text(self) -> str:
        """The whole report, every row on one line."""
        return " ".join(" ".join(self.said).split())


class Connection:
    """The client's socket and, behind it, the server's side. Without a context nothing is ever said."""

    def __init__(self, world: World) -> None:
        self.codec = Tls.server(Framing(), world.context) if world.context else None
        self.queries: list[bytes] = []
        self.closed = False  # by the client
        self.hung_up = False  # by the server
        self.drip = b""  # a byte of it with each turn, for ever
        self._world = world
        self._timeout = 0.0
        self._out = b""

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self._timeout = seconds

    def sendall(self, data: bytes) -> None:
        assert not self.closed
        if self.codec is None or not data:
            return
        try:
            queries = self.codec.receive([data], 0.0)
        except CodecError:
            self.hung_up = True
            queries = []
        self._flush()
        if queries:
            self.queries += queries
            self._world.script(self, queries)

    def send(self, messages: list[bytes]) -> None:
        assert self.codec is not None
        self.codec.send(messages, 0.0)
        self._flush()

    def hang_up(self) -> None:
        assert self.codec is not None
        self.codec.close()
        self._flush()
        self.hung_up = True

    def recv(self, size: int) -> bytes:
        assert not self.closed
        if not self._out and self.drip:
            self.send_raw(self.drip)
        if self._out:
            self._world.now += TURN
            data, self._out = self._out, b""
            return data
        if self.hung_up:
            return b""
        self._world.now += self._timeout
        raise TimeoutError("timed out")

    def send_raw(self, data: bytes) -> None:
        """Send bytes that are less than a message."""
        assert isinstance(self.codec, Tls)
        self.codec._tls.write(data)
        self._flush()

    def close(self) -> None:
        self.closed = True

    def _flush(self) -> None:
        assert self.codec is not None
        self._out += b"".join(self.codec.outgoing())
