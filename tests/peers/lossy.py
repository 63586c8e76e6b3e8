"""A bad way for UDP: a proxy that loses, delays, doubles, reorders and rewrites datagrams.

It listens on a port of its own and passes on to ``target``; for every client it has another
socket, so that answers find back. All chances are drawn from a seeded generator. Without
faults it is a tap: ``asked`` has what clients sent, ``answered`` what the target did.

TCP on the same port is passed on unharmed, for DNSCrypt servers have one port for both.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial

from tests.peers.background import Address, Background, Datagrams, Streams
from tests.peers.capture import Capture

Rewrite = Callable[[bytes], list[bytes]]


class Lossy(Background):
    """Passes datagrams on while the ``with`` block runs. The attributes are the faults; change them at any time.

    ``loss``, ``duplicate``, ``reorder`` are shares of the datagrams, each way. ``rtt`` is what
    is added to a round trip, half of it each way, ``jitter`` up to so much more each way.
    What is reordered comes later by ``lag``. ``largest``: longer datagrams are lost.
    ``rewrite_query``, ``rewrite_answer``: return what is to be sent in place of a datagram.
    """

    def __init__(
        self, target: Address, *, loss: float = 0.0, rtt: float = 0.0, jitter: float = 0.0, duplicate: float = 0.0,
        reorder: float = 0.0, lag: float = 0.02, largest: int = 65535, source: str = "",
        host: str = "127.0.0.1", port: int = 0, seed: int = 1,
    ) -> None:  # fmt: skip
        """``source``: the address its own queries come from."""
        super().__init__(host, port, seed)
        self.target = target
        self.loss, self.duplicate, self.reorder = loss, duplicate, reorder
        self.rtt, self.jitter, self.lag, self.largest = rtt, jitter, lag, largest
        self.dead = False  # loses everything
        self.rewrite_query: Rewrite | None = None
        self.rewrite_answer: Rewrite | None = None
        self.asked, self.answered = Capture(), Capture()
        self.counts: Counter[str] = Counter()
        self._source = source
        self.connections = 0
        self._front: Datagrams
        self._streams = Streams(self, self._serve)
        self._behind: dict[Address, Datagrams] = {}

    async def open(self) -> None:
        self._front = await Datagrams.bound(self.address, self._from_client)
        await self._streams.open()

    async def close(self) -> None:
        for one in (self._front, *self._behind.values()):
            one.transport.close()
        await self._streams.close()

    @property
    def address(self) -> Address:
        return self.host, self.port

    def heal(self) -> None:
        """Be a good way."""
        self.loss = self.duplicate = self.reorder = self.rtt = self.jitter = 0.0
        self.largest, self.dead = 65535, False
        self.rewrite_query = self.rewrite_answer = None

    def inject(self, data: bytes, client: Address) -> None:
        """Send a datagram to a client as if it came from the server."""
        self.loop.call_soon_threadsafe(self._front.transport.sendto, data, client)

    @property
    def clients(self) -> list[Address]:
        """Who asked, in the order they came."""
        return list(self._behind)

    def _from_client(self, data: bytes, client: Address) -> None:
        self.asked.add("udp", client, data)
        for one in self.rewrite_query(data) if self.rewrite_query else [data]:
            self._pass(one, "query", partial(self._ask, one, client))

    def _ask(self, data: bytes, client: Address) -> None:
        behind = self._behind.get(client)
        if behind is None:
            self.begin(self._connect(data, client))
        else:
            behind.transport.sendto(data)

    async def _connect(self, data: bytes, client: Address) -> None:
        made = await Datagrams.connected(self.target, lambda answer, _: self._from_target(answer, client), self._source)
        kept = self._behind.setdefault(client, made)
        if kept is not made:  # two datagrams came at once
            made.transport.close()
        kept.transport.sendto(data)

    def _from_target(self, data: bytes, client: Address) -> None:
        self.answered.add("udp", self.target, data)
        for one in self.rewrite_answer(data) if self.rewrite_answer else [data]:
            self._pass(one, "answer", partial(self._front.transport.sendto, one, client))

    def _pass(self, data: bytes, kind: str, send: Callable[[], None]) -> None:
        """Do with a datagram what the way does."""
        if self.dead or len(data) > self.largest or self.random.random() < self.loss:
            self.counts[f"lost {kind}"] += 1
            return
        copies = 1 + (self.random.random() < self.duplicate)
        for _ in range(copies):
            wait = self.rtt / 2 + self.jitter * self.random.random()
            if self.random.random() < self.reorder:
                wait += self.lag
                self.counts[f"late {kind}"] += 1
            self.counts[f"passed {kind}"] += 1
            if wait:
                self.loop.call_later(wait, self._unless_closed, send)
            else:
                send()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        from_target, to_target = await asyncio.open_connection(*self.target)
        try:
            await asyncio.gather(_pump(reader, to_target), _pump(from_target, writer))
        finally:
            to_target.close()
            with contextlib.suppress(OSError):
                await to_target.wait_closed()

    def _unless_closed(self, send: Callable[[], None]) -> None:
        if not self._front.transport.is_closing():
            send()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # either end is gone; the other learns it
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.write_eof()
