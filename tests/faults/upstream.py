"""A DNS-over-TLS server on loopback whose faults are attributes and methods, to be used while it runs.

It has a thread and an event loop of its own, so that a busy client does not slow it down.
Attributes are read when they matter: a change counts for established connections as well.
``visits`` and ``queries`` remember everything that reached it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests import authority
from tests.faults import tampering
from tests.faults.connection import Connection, Seen, Visit
from tests.peers import programs, scripted

BACKLOG = 1024


class Upstream:
    """Serves while the ``with`` block runs, faultless until told otherwise."""

    def __init__(self, certs: authority.Authority, host: str = "127.0.0.1", port: int = 0, seed: int = 1) -> None:
        self.host = host
        self.port = port or programs.free_port()
        self.random = random.Random(seed)
        self.delay = 0.0  # seconds until each answer
        self.jitter = 0.0  # up to so much more, at random: answers leave out of order
        self.slow = 0.0  # so much more for names with a label "slow"
        self.serial = False  # one query after the other, each taking ``service``, or ``slow`` instead
        self.service = 0.0
        self.servfail = False
        self.one_shot = False  # one answer per connection, then a TLS close
        self.idle_limit = 0.0  # seconds without a query after which ``idle_end`` happens; 0: never
        self.idle_end = "close_notify"  # or fin, rst, go_silent
        self.halve = 0  # so many of the next answers are cut in the middle, followed by silence
        self.tamper: tampering.Tamper = tampering.nothing
        self.tamper_once: tampering.Tamper | None = None  # with the next answer, instead
        self.stall = False  # new connections are accepted, and that is all
        self.bad_certificate = False  # for new connections
        self.visits: list[Visit] = []
        self.queries: list[Seen] = []
        self.connections: set[Connection] = set()  # the event loop's own
        self._good = scripted.context_for(certs.server_cert, certs.server_key)
        self._bad = scripted.context_for(certs.wrong_name_cert, certs.wrong_name_key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._hole: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        self._run(lambda: None)  # what the cut scheduled is done before this
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def heal(self) -> None:
        """Be faultless again; connections that are silent stay so."""
        self.delay = self.jitter = self.slow = self.service = self.idle_limit = 0.0
        self.serial = self.servfail = self.one_shot = self.stall = self.bad_certificate = False
        self.halve = 0
        self.tamper = tampering.nothing
        self.tamper_once = None
        self.open()

    def open(self) -> None:
        """Accept connections."""
        if self._server is None:
            self._close_hole()
            self._listen(BACKLOG)

    def refuse(self) -> None:
        """Close the port. Established connections stay."""
        self._close_hole()
        if self._server is not None:
            self._run(self._server.close)
            self._run(lambda: None)
            self._server = None

    def black_hole(self) -> None:
        """Leave new connections without any reply. Established ones stay."""
        self.refuse()
        listener = self._bound()
        listener.listen(0)
        self._hole.append(listener)
        for _ in range(4):  # until the backlog is full, the kernel would accept
            sock = socket.socket(listener.family)
            sock.setblocking(False)
            self._hole.append(sock)
            with contextlib.suppress(BlockingIOError):
                sock.connect((self.host, self.port))

    def cut(self) -> None:
        """Reset every connection."""
        self._on_each(Connection.rst)

    def go_silent(self) -> None:
        """Make every connection a black hole; new ones work."""
        self._on_each(Connection.go_silent)

    def spill(self, data: bytes) -> None:
        """Write bytes that are no TLS on every connection."""
        self._on_each(lambda connection: connection.write_below_tls(data))

    def first_seen(self) -> dict[bytes, Seen]:
        """Return each question's first arrival."""
        first: dict[bytes, Seen] = {}
        for seen in list(self.queries):
            first.setdefault(seen.question, seen)
        return first

    def _on_each(self, work: Callable[[Connection], None]) -> None:
        def run() -> None:
            for connection in list(self.connections):
                work(connection)

        self._run(run)

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # said, for asyncio to set TCP_NODELAY
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, self.port))
        return sock

    def _listen(self, backlog: int) -> None:
        async def listen() -> asyncio.Server:
            return await self._loop.create_server(self._accept, sock=self._bound(), backlog=backlog)

        self._server = asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def _accept(self) -> Connection:
        visit = Visit(len(self.visits), time.monotonic())
        self.visits.append(visit)
        context = None if self.stall else self._bad if self.bad_certificate else self._good
        connection = Connection(self, visit, context)
        self.connections.add(connection)
        return connection

    def _close_hole(self) -> None:
        for sock in self._hole:
            sock.close()
        self._hole.clear()

    def _run(self, work: Callable[[], object]) -> None:
        """Do it in the event loop, and wait until it is done."""

        async def run() -> None:
            work()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)
