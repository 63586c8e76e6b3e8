"""A DNSCrypt server of our own, for what dnsdist does not do: its keys and its manners are attributes.

It stands on ``tests.provider``, which plays the provider: es_version 1, 2 and 3. UDP and TCP
on one port, certificates over both. Over UDP no answer is longer than its query, as the
protocol says: what does not fit is cut short (TC). Only a first certificate of a classic
system is in every answer, as encrypted-dns-server has it.

Manners on a TCP connection, all of them seen in servers that are in use:

    "one-shot"      answers the first query and closes (encrypted-dns-server, dnscrypt-wrapper)
    "serial"        answers one after the other (AdGuard's)
    "together"      answers each when it is due, in any order (dnsdist with maxInFlight)
    "repeats"       what is due at the same time all gets the first answer, byte for byte (unbound)
    "mute"          takes everything, says nothing
    "drops"         closes without an answer
    "empty"         a frame of no length before each answer, and in place of certificates (dnsdist)

``asked`` is what came, by whom, and what it was: "certificate", "sealed", or "unknown" for
what no key opens, which gets no answer; over TCP the connection closes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

from _udp2tls import box
from tests import provider
from tests.peers import asking, late, programs, scripted, sdns
from tests.peers.background import Address, Background, Datagrams, Streams, read_frame
from tests.peers.capture import Capture

NAME = provider.NAME
Answer = Callable[[bytes], bytes]


class Unknown(Exception):
    """A packet that no key here opens."""


class DnsCrypt(Background):
    """Serves while the ``with`` block runs. ``stamp`` holds ``address``, ``provider`` and ``provider_key``."""

    def __init__(
        self, *es_versions: int, manners: str = "together", host: str = "127.0.0.1", port: int = 0,
        lifetime: int = 86400, seed: int = 1,
    ) -> None:  # fmt: skip
        """Without ``es_versions`` there is one certificate of es_version 2. ``lifetime`` in seconds."""
        super().__init__(host, port, seed)
        self.manners = manners
        self.signer = provider.Provider(self.random.randbytes(32))
        self.provider = NAME
        self.serial = 0
        self.shown: list[bytes] = []  # certificates
        self.known: dict[bytes, provider.Resolver] = {}  # by client magic
        # Faults
        self.delay = 0.0  # until each answer; a label dN adds N milliseconds
        self.silent = self.silent_udp = False
        self.answer: Answer = right_answer
        self.pipelined = 0  # the most queries of one connection that were open at once
        self.connections = 0
        self.asked = Capture()
        self.queries: list[bytes] = []  # opened
        self._tickets: dict[bytes, tuple[provider.Resolver, bytes]] = {}
        self._front: Datagrams
        self._streams = Streams(self, self._serve)
        self.rotate(*(es_versions or (box.XCHACHA20,)), lifetime=lifetime)

    @property
    def address(self) -> Address:
        return self.host, self.port

    @property
    def stamp(self) -> str:
        return sdns.dnscrypt(self.address, self.provider_key, self.provider)

    @property
    def provider_key(self) -> bytes:
        return self.signer.public

    async def open(self) -> None:
        self._front = await Datagrams.bound(self.address, self._from_client)
        await self._streams.open()

    async def close(self) -> None:
        self._front.transport.close()
        await self._streams.close()

    def rotate(
        self, *es_versions: int, keep: bool = False, begins: int = -3600, lifetime: int = 86400, serial: int = 0
    ) -> None:
        """Make a new key and certificate for each es_version; times are from now on.

        ``keep``: the old ones still work, but are shown no more; else they are gone without
        warning. A negative ``lifetime`` makes expired certificates. ``serial``: for all of them,
        as some servers have it; 0: the next ones.
        """
        now = int(time.time())
        known = dict(self.known) if keep else {}
        shown = []
        for version in es_versions or [int.from_bytes(one[4:6], "big") for one in self.shown]:
            self.serial = serial or self.serial + 1
            resolver = provider.Resolver(version, self.random.randbytes(32), b"magic" + self.random.randbytes(3))
            shown.append(
                resolver.certificate(
                    self.signer, serial=self.serial, begins=now + min(begins, lifetime - 1), ends=now + lifetime
                )
            )
            known[resolver.magic] = resolver
        if not keep:
            self._tickets = {}
        self.known, self.shown = known, shown

    def expire(self) -> None:
        """Show certificates that are over, of new keys."""
        self.rotate(lifetime=-60)

    def cut(self) -> None:
        """Close every connection."""
        self.run(self._cut())

    def stop(self) -> None:
        """Close the port, and reset every connection."""
        self.run(self.close())

    def start(self) -> None:
        """Open it again."""
        self.run(self.open())

    async def _cut(self) -> None:
        for writer in self._streams.writers:
            writer.close()

    def served(self) -> list[str]:
        """Return how queries were sealed: "shared", in es_version 3 "text" or "resumed"."""
        return [how for resolver in self.known.values() for how in resolver.served]

    def _from_client(self, data: bytes, client: Address) -> None:
        try:
            query, seal = self._open("udp", data, client)
        except Unknown:
            return
        if not self.silent and not self.silent_udp:
            answer = self._sealed(query, seal, len(data))
            self.loop.call_later(self._wait(query), self._front.transport.sendto, answer, client)

    def _wait(self, query: bytes) -> float:
        return self.delay + late.delay_of(query)

    def _open(self, transport: str, data: bytes, client: Address) -> tuple[bytes, provider.Sealed | None]:
        """Return a query, and what its answer is sealed with. Raises Unknown."""
        resolver = self._resolver(data)
        if resolver is None:
            kind = "certificate" if asking.question_of(data)[-4:] == b"\0\x10\0\1" else "unknown"
            self.asked.add(transport, client, data, kind)
            if kind == "unknown":
                raise Unknown
            return data, None
        try:
            plain, seal = resolver.open(data)
            query = box.unpad(plain)
        except (box.Refused, AssertionError):
            self.asked.add(transport, client, data, "unknown")
            raise Unknown from None
        if seal.control is not None:
            self._tickets[resolver.ticket] = resolver, resolver.secret
        self.asked.add(transport, client, data, "sealed")
        self.queries.append(query)
        return query, seal

    def _resolver(self, data: bytes) -> provider.Resolver | None:
        """Return whose key a packet is for; with tickets of its own for every client."""
        if data.startswith(b"PQResume"):
            ticket = data[10 : 10 + int.from_bytes(data[8:10], "big")]
            resolver, secret = self._tickets.get(ticket, (None, b""))
            if resolver is not None:
                resolver.ticket, resolver.secret = ticket, secret
            return resolver
        resolver = self.known.get(data[:8])
        if resolver is not None:
            resolver.ticket = os.urandom(130)
        return resolver

    def _sealed(self, query: bytes, seal: provider.Sealed | None, most: int) -> bytes:
        """Return the packet that answers a query, of at most so many bytes."""
        if seal is None:
            return self._certificates(query, most)
        for message in ((answer := self.answer(query)), _cut_short(answer)):
            length = len(message) + 1
            room = most - len(seal.answer(message, padding=b"\x80"))
            if room >= 0:
                padding = min(-length % box.BLOCK, room)
                return seal.answer(message, os.urandom(12), b"\x80" + bytes(padding))
        return seal.answer(message)

    def _certificates(self, query: bytes, most: int) -> bytes:
        """Return an answer with the certificates there is room for."""
        shown: list[bytes] = []
        for one in self.shown:
            first = not shown and int.from_bytes(one[4:6], "big") != box.XWING
            if first or len(provider.reply(query, *shown, one)) <= most:
                shown.append(one)
        return provider.reply(query, *shown, flags=b"\x81\0" if len(shown) == len(self.shown) else b"\x83\0")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        client = writer.get_extra_info("peername")[:2]
        due: list[float] = []  # when the answers under way will be sent
        first: dict[float, bytes] = {}  # "repeats": the first answer of those due at one time
        while True:
            data = await read_frame(reader)
            try:
                query, seal = self._open("tcp", data, client)
            except Unknown:
                return
            if self.manners == "drops":
                return
            if self.silent or self.manners == "mute":
                continue
            frame = asking.framed(self._sealed(query, seal, 65535))
            if self.manners == "empty":
                frame = b"\0\0" + (frame if seal else b"")
            if self.manners in ("one-shot", "serial"):
                await asyncio.sleep(self._wait(query))
                writer.write(frame)
                await writer.drain()
                if self.manners == "one-shot":
                    return
                continue
            now = self.loop.time()
            wait = self._wait(query)
            due = [*(one for one in due if one > now), now + wait]
            self.pipelined = max(self.pipelined, len(due))
            if self.manners == "repeats":
                slot = round(now + wait, 2)
                frame = first.setdefault(slot, frame)
            self.loop.call_later(wait, writer.write, frame)


def _cut_short(answer: bytes) -> bytes:
    """Return an answer with TC set, and nothing but the question."""
    return b"".join((answer[:2], bytes((answer[2] | 2,)), answer[3:6], bytes(6), asking.question_of(answer)))


def right_answer(query: bytes) -> bytes:
    """Answer as asking.is_right wants it, and ``large.test.example`` with the 4 KB of text that the others have."""
    question = asking.question_of(query)
    if question != asking.wire_name(f"large.{programs.ZONE}") + b"\0\x10\0\1":
        return scripted.right_answer(query)
    data = b"".join(bytes((len(one),)) + one.encode() for one in programs.LARGE)
    record = b"\xc0\x0c\0\x10\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    return query[:2] + bytes((0x80 | query[2] & 1, 0x80)) + b"\0\1\0\1\0\0\0\0" + question + record
