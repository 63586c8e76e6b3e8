"""A DNSCrypt server in memory, behind sockets that only seem to block: their clock moves instead."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from _udp2tls import box, stamps
from _udp2tls.checkup import Tools
from _udp2tls.config import Endpoint, UpstreamSpec
from tests import provider as peers
from tests.provider import NAME, NOW, Resolver
from tests.resolver import CONNECT, TURN, answer

SERVER = Endpoint("192.0.2.1", 8443)
# Over UDP no answer is longer than its query, where ``World.strict`` says so.
ANSWER_ROOM = 1232


class World:
    """Time, and a server. ``udp``, ``tcp``: what it does there; ``certificates`` is what it shows.

    ``udp``: "answers", "silent", "refuses", "mute" (certificates, then nothing) or "long" (TC).
    ``tcp``: "together", "one-shot", "repeats", "silent", "refuses", "closes", or "bare"
    (everything but certificates).
    """

    def __init__(self, *resolvers: Resolver, udp: str = "answers", tcp: str = "together", prefix: bytes = b"") -> None:
        self.now = 1000.0
        self.udp, self.tcp, self.prefix = udp, tcp, prefix
        self.provider = peers.Provider()
        self.resolvers = list(resolvers or (Resolver(),))
        self.certificates = [one.certificate(self.provider) for one in self.resolvers]
        self.random = random.Random(2)
        self._secrets: dict[bytes, bytes] = {}  # by ticket
        self.rcode = 0
        self.name_known = True
        self.addresses: set[Endpoint] = set()  # that were connected to
        self.packets: list[bytes] = []  # everything that came in
        self.queries: list[bytes] = []  # sealed ones, opened
        self.said: list[str] = []
        self.tools = Tools(
            lambda: self.now, lambda: float(NOW), lambda host: ([], "no such name"), self.connect, self.datagrams,
            lambda endpoint: (), random.Random(1), self.said.append, 5.0,
        )  # fmt: skip

    def spec(self, *, relay: Endpoint | None = None, key: bytes = b"", tcp: bool = False) -> UpstreamSpec:
        return UpstreamSpec(*SERVER, NAME, key=key or self.provider.public, relay=relay, prefer_tcp=tcp)

    def stamp(self) -> str:
        return stamps.format(stamps.Stamp(
            stamps.Kind.DNSCRYPT, address=str(SERVER), key=self.provider.public, provider=NAME
        ))  # fmt: skip

    @property
    def text(self) -> str:
        """The whole report, every row on one line."""
        return " ".join(" ".join(self.said).split())

    def connect(self, address: Endpoint, timeout: float) -> Socket:
        self.now += CONNECT
        self.addresses.add(address)
        if self.tcp == "refuses":
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        return Socket(self, self._over_tcp, stream=True)

    def datagrams(self, address: Endpoint, timeout: float) -> Socket:
        self.addresses.add(address)
        return Socket(self, self._over_udp, stream=False)

    def _over_udp(self, sock: Socket, packet: bytes) -> list[bytes]:
        if self.udp == "refuses":
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        sealed, reply = self._reply(packet)
        if self.udp == "silent" or (self.udp == "mute" and sealed):
            return []
        if self.udp == "long" or (not sealed and len(reply) > ANSWER_ROOM):
            return [peers.reply(packet, flags=b"\x83\0")]
        return [reply]

    def _over_tcp(self, sock: Socket, packet: bytes) -> list[bytes]:
        sealed, reply = self._reply(packet)
        if self.tcp == "silent":
            return []
        if self.tcp == "closes" or (sock.taken > 1 and self.tcp == "one-shot"):
            sock.hung_up = True
            return []
        if self.tcp == "bare" and not sealed:
            return [b""]
        if self.tcp == "repeats" and sealed:
            sock.first = sock.first or reply
            return [sock.first]
        sock.hung_up = self.tcp == "one-shot"
        return [reply]

    def _reply(self, packet: bytes) -> tuple[bool, bytes]:
        """Return whether a packet is sealed, and its answer."""
        assert packet.startswith(self.prefix), "a relay passes this on to nobody"
        packet = packet.removeprefix(self.prefix)
        self.packets.append(packet)
        for resolver in self.resolvers:
            if packet.startswith(resolver.magic) or (packet.startswith(b"PQResume") and resolver.es_version == 3):
                resolver.ticket = packet[10:140] if packet.startswith(b"PQ") else self.random.randbytes(130)
                resolver.secret = self._secrets.get(resolver.ticket, b"")
                plain, seal = resolver.open(packet)
                self._secrets[resolver.ticket] = resolver.secret
                query = box.unpad(plain)
                self.queries.append(query)
                return True, seal.answer(answer(query, self.rcode))
        if not self.name_known:
            return False, peers.reply(packet, flags=b"\x81\x03")
        return False, peers.reply(packet, *self.certificates)


class Socket:
    """The client's end, and what the server does with what comes out of it."""

    def __init__(self, world: World, serve: Callable[[Socket, bytes], list[bytes]], *, stream: bool) -> None:
        self.closed = False  # by the client
        self.hung_up = False  # by the server
        self.taken = 0  # packets
        self.first = b""  # answer
        self._world, self._serve, self._stream = world, serve, stream
        self._timeout = 0.0
        self._in = b""
        self._out: list[bytes] = []

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self._timeout = seconds

    def sendall(self, data: bytes) -> None:
        assert not self.closed
        for packet in self._frames(data) if self._stream else [data]:
            if self.hung_up:
                return
            self.taken += 1
            for reply in self._serve(self, packet):
                self._out.append(len(reply).to_bytes(2, "big") + reply if self._stream else reply)

    def _frames(self, data: bytes) -> list[bytes]:
        self._in += data
        frames = []
        while len(self._in) >= 2 and len(self._in) >= 2 + int.from_bytes(self._in[:2], "big"):
            end = 2 + int.from_bytes(self._in[:2], "big")
            frames.append(self._in[2:end])
            self._in = self._in[end:]
        return frames

    def recv(self, size: int) -> bytes:
        assert not self.closed
        if self._out:
            self._world.now += TURN
            return self._out.pop(0)
        if self.hung_up:
            return b""
        self._world.now += self._timeout
        raise TimeoutError("timed out")

    def close(self) -> None:
        self.closed = True
