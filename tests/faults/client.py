"""The programs that ask: over UDP and TCP, every name different, each query's fate on record."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from tests.peers import asking

_serials = itertools.count(1)  # over all scenarios: no name is asked twice


@dataclass
class Ask:
    """One query and what became of it."""

    name: str
    message: bytes
    sent: float
    took: float = float("inf")  # seconds until the answer
    verdict: str = "unanswered"  # or right, servfail, wrong
    reason: str = ""  # of a SERVFAIL
    cut_short: bool = False  # the answer has TC set, which is no right one

    def judge(self, answer: bytes) -> None:
        self.took = time.monotonic() - self.sent
        self.cut_short = len(answer) > 2 and bool(answer[2] & 2)
        if asking.is_right(self.message, answer):
            self.verdict = "right"
        elif asking.rcode_of(answer) == asking.SERVFAIL:
            self.verdict = "servfail"
            self.reason = _reason(answer)
        else:
            self.verdict = "wrong"


@dataclass
class Record:
    """Queries, together."""

    asks: list[Ask] = field(default_factory=list)
    stray: int = 0  # answers to what was not asked, or was answered before

    def between(self, begin: float, end: float) -> Record:
        return Record([ask for ask in self.asks if begin <= ask.sent < end])

    def count(self, verdict: str) -> int:
        return sum(ask.verdict == verdict for ask in self.asks)

    @property
    def all_right(self) -> bool:
        return self.count("right") == len(self.asks)

    @property
    def right_share(self) -> float:
        return self.count("right") / len(self.asks) if self.asks else 1.0

    @property
    def worst(self) -> float:
        """Return the longest time to an answer, infinite if one never came."""
        return max((ask.took for ask in self.asks), default=0.0)

    def quantile(self, share: float) -> float:
        """Return within how long so large a share was answered."""
        return sorted(ask.took for ask in self.asks)[min(len(self.asks) - 1, int(share * len(self.asks)))]

    def __str__(self) -> str:
        kinds = Counter(ask.verdict for ask in self.asks)
        if self.stray:
            kinds["stray"] = self.stray
        parts = ", ".join(f"{kinds[kind]} {kind}" for kind in ("right", "servfail", "wrong", "unanswered", "stray")
                          if kinds[kind])  # fmt: skip
        answered = [ask.took for ask in self.asks if ask.verdict != "unanswered"]
        slowest = f", slowest {shown(max(answered))}" if answered else ""
        return f"{len(self.asks)} queries: {parts}{slowest}"


def shown(seconds: float) -> str:
    if seconds == float("inf"):
        return "never"
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def fresh_name(label: str = "") -> str:
    """Return a name never asked before; its address can be told from it."""
    serial = next(_serials)
    return f"{label + '.' if label else ''}q{serial}.n{serial % 10}.test.example"


class Clients:
    """Several UDP sockets and TCP users on one port, taking turns. Their queries are in ``record``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.record = Record()
        self._udp: list[_Udp] = []
        self._tcp = 0
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, port: int, udp: int = 1, tcp: int = 0) -> Clients:
        """Every ``udp + tcp``-th query goes over each."""
        clients = cls(port)
        loop = asyncio.get_running_loop()
        for _ in range(udp):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.setblocking(False)
            sock.connect(("127.0.0.1", port))
            _, client = await loop.create_datagram_endpoint(lambda: _Udp(clients.record), sock=sock)
            clients._udp.append(client)
        clients._tcp = tcp
        return clients

    def ask(self, label: str = "") -> Ask:
        """Ask a fresh name."""
        name = fresh_name(label)
        ask = Ask(name, asking.make_query(name, opt=asking.opt_record()), time.monotonic())
        self.record.asks.append(ask)
        self._turn = (self._turn + 1) % (len(self._udp) + self._tcp)
        if self._turn < len(self._udp):
            self._udp[self._turn].send(ask)
        else:
            task = asyncio.create_task(ask_tcp(self.port, ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return ask

    def burst(self, count: int, slow: int | None = None) -> Record:
        """Ask ``count`` queries at once; the one with the number ``slow`` has a label that says so."""
        return Record([self.ask("slow" if number == slow else "") for number in range(count)])

    async def steady(self, rate: float, seconds: float) -> Record:
        """Ask at a steady rate; return what was asked, answered or not yet."""
        begin = time.monotonic()
        asks: list[Ask] = []
        while (elapsed := time.monotonic() - begin) < seconds:
            due = int(elapsed * rate) + 1 - len(asks)
            asks += [self.ask() for _ in range(due)]
            await asyncio.sleep(max(0.0, begin + len(asks) / rate - time.monotonic()))
        return Record(asks)

    async def settle(self, asks: Sequence[Ask] | None = None, patience: float = 5.0) -> None:
        """Wait for the answers, until ``patience`` seconds after now."""
        wanted = self.record.asks if asks is None else asks
        end = time.monotonic() + patience
        while any(ask.verdict == "unanswered" for ask in wanted) and time.monotonic() < end:
            await asyncio.sleep(0.01)

    async def answer_to(self, label: str = "", patience: float = 5.0) -> Ask:
        """Ask one query and wait for its answer."""
        ask = self.ask(label)
        await self.settle([ask], patience)
        return ask

    async def close(self) -> None:
        for client in self._udp:
            client.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, record: Record) -> None:
        self._record = record
        self._waiting: dict[bytes, Ask] = {}
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def send(self, ask: Ask) -> None:
        while ask.message[:2] in self._waiting:
            ask.message = random.randbytes(2) + ask.message[2:]
        self._waiting[ask.message[:2]] = ask
        self._transport.sendto(ask.message)

    def datagram_received(self, data: bytes, addr: object) -> None:
        ask = self._waiting.get(data[:2])
        if ask is None or asking.question_of(data) != asking.question_of(ask.message):
            self._record.stray += 1
            return
        del self._waiting[data[:2]]
        ask.judge(data)

    def error_received(self, exc: Exception) -> None:
        pass  # the forwarder's port is gone: its queries stay unanswered

    def close(self) -> None:
        self._transport.close()


async def ask_tcp(port: int, ask: Ask) -> None:
    """Ask over a connection of its own."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    try:
        await exchange(reader, writer, ask)
    finally:
        writer.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: Ask) -> None:
    writer.write(asking.framed(ask.message))
    try:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = await reader.readexactly(size)
    except (OSError, asyncio.IncompleteReadError):
        return
    ask.judge(answer)


def new_ask(label: str = "") -> Ask:
    """Return a query for ``exchange``."""
    name = fresh_name(label)
    return Ask(name, asking.make_query(name, opt=asking.opt_record()), time.monotonic())


def _reason(answer: bytes) -> str:
    try:
        return asking.extended_error(answer)
    except (ValueError, IndexError, UnicodeDecodeError):
        return ""
