"""An Anonymized DNSCrypt relay that checks what encrypted-dns-server, the one in use, checks.

Client and relay talk UDP or TCP, one question for each connection; relay and server talk UDP
in any case, from another address of the loopback net (``outgoing``), so that a test can see
who sees whom. A question against the rules gets no answer, and over TCP the connection
closes; an answer against the rules is passed over, and the right one waited for until
``patience`` is over.

Rules that matter to clients: no answer longer than its query, certificates only of names
that begin with ``2.dnscrypt-cert.``, and those are remembered for ten minutes.
``asked`` is what clients sent, each with what became of it: "" or why it was refused.
``passed`` is what came from servers, likewise; ``targets`` says of which.
"""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address, IPv6Address

from tests.peers import asking, sdns
from tests.peers.background import Address, Background, Datagrams, Streams, read_frame
from tests.peers.capture import Capture

MAGIC = b"\xff" * 8 + b"\0\0"
PORTS = frozenset((443, 553, 853, 1443, 2053, 4343, 4434, 4443, 5353, 5443, 8443, 15353))
LEAST, MOST = 22, 0x1600  # of an inner packet
LEAST_ANSWER = 60  # magic, nonce, tag, a DNS header
CACHED = 600.0
RESOLVER_MAGIC = b"r6fnvWj8"


class Refused(Exception):
    """A packet against the rules; ``str()`` names the rule."""


def wrap(target: Address, packet: bytes) -> bytes:
    """Return what a client sends to a relay, written apart from the product."""
    host, port = target
    six = IPv6Address(host) if ":" in host else IPv6Address(b"\0" * 10 + b"\xff\xff" + IPv4Address(host).packed)
    return MAGIC + six.packed + port.to_bytes(2, "big") + packet


class Relay(Background):
    """Relays while the ``with`` block runs. The attributes below are faults and rules; change them at any time."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, outgoing: str = "127.0.0.2", loopback: bool = True,
        high_ports: bool = True, seed: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(host, port, seed)
        # What the operator decides. The real one forbids loopback and high ports.
        self.loopback, self.high_ports = loopback, high_ports
        self.blocked: set[str] = set()
        self.cached = CACHED  # seconds; 0: certificates are not remembered
        self.patience = 10.0
        # Faults
        self.silent = False  # takes packets and drops them
        self.loss = 0.0  # the share of questions dropped
        self.drop_above = 0  # longer packets get lost on the way to the server, as fragments do; 0: none
        self.garbage = False  # random bytes, of a legal size, in place of what the server said
        self.delay = 0.0  # before each answer
        self.tcp_only = self.udp_only = False  # says nothing on the other
        self.certificates = "passes"  # or "drops", or "refuses": over TCP it closes then
        self.asked, self.passed = Capture(), Capture()
        self.targets: list[Address] = []
        self._outgoing = outgoing
        self._front: Datagrams | None = None
        self._streams = Streams(self, self._serve)
        self._certificates: dict[bytes, tuple[float, bytes]] = {}

    @property
    def address(self) -> Address:
        return self.host, self.port

    @property
    def stamp(self) -> str:
        return sdns.relay(self.address)

    async def open(self) -> None:
        self._front = await Datagrams.bound(self.address, self._from_client)
        await self._streams.open()

    async def close(self) -> None:
        if self._front is not None:
            self._front.transport.close()
            self._front = None
        await self._streams.close()

    def die(self) -> None:
        """Close the ports: UDP and TCP are refused from now on."""
        self.run(self.close())

    def revive(self) -> None:
        self.run(self.open())

    def heal(self) -> None:
        """Be faultless; a dead one stays dead."""
        self.silent = self.garbage = self.tcp_only = self.udp_only = False
        self.loss = self.delay = 0.0
        self.drop_above = 0
        self.certificates = "passes"

    def forget(self) -> None:
        """Forget the certificates it remembers."""
        self._certificates.clear()

    def _from_client(self, data: bytes, client: Address) -> None:
        self.begin(self._relay_datagram(data, client))

    async def _relay_datagram(self, data: bytes, client: Address) -> None:
        answer = await self._relay("udp", data, client)
        if answer and self._front is not None:
            self._front.transport.sendto(answer, client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question, one answer, and out."""
        client = writer.get_extra_info("peername")[:2]
        async with asyncio.timeout(self.patience):
            data = await read_frame(reader)
            answer = await self._relay("tcp", data, client)
            if answer:
                writer.write(asking.framed(answer))
                await writer.drain()

    async def _relay(self, transport: str, data: bytes, client: Address) -> bytes:
        if self.silent or self.random.random() < self.loss or getattr(self, _OTHER[transport]):
            self.asked.add(transport, client, data, "fault")
            return await self._wait()
        try:
            target, inner = self.check(data)
        except Refused as why:
            self.asked.add(transport, client, data, str(why))
            return b""
        if self.certificates != "passes" and asking.question_of(inner).startswith(_STANDARD):
            self.asked.add(transport, client, data, "certificate")
            return await self._wait() if self.certificates == "drops" else b""
        self.asked.add(transport, client, data)
        self.targets.append(target)
        if self.drop_above and len(inner) > self.drop_above:
            return await self._wait()
        answer = await self._ask(target, inner)
        if answer and self.delay:
            await asyncio.sleep(self.delay)
        if answer and self.garbage:
            return self.random.randbytes(len(answer))
        return answer

    async def _wait(self) -> bytes:
        """Wait for what will not come."""
        await asyncio.sleep(self.patience)
        return b""

    def check(self, data: bytes) -> tuple[Address, bytes]:
        """Return where a packet is to go, and what. Raises Refused."""
        if not data.startswith(MAGIC) or len(data) < len(MAGIC) + 12:
            raise Refused("no packet for a relay")
        if len(data) <= 28:
            raise Refused("short")
        six = IPv6Address(data[10:26])
        host: IPv4Address | IPv6Address = six.ipv4_mapped or six
        port = int.from_bytes(data[26:28], "big")
        if not host.is_global and not (self.loopback and host.is_loopback):
            raise Refused("address")
        if str(host) in self.blocked:
            raise Refused("blocked")
        if port not in PORTS and not (self.high_ports and port >= 1024):
            raise Refused("port")
        target = str(host), port
        if target == self.address:
            raise Refused("itself")
        inner = data[28:]
        if not LEAST <= len(inner) <= MOST:
            raise Refused("size")
        # The draft forbids seven zero bytes, the implementation this one packet.
        if inner.startswith(b"\0\0\0\0\0\0\0\1"):
            raise Refused("quic")
        if inner.startswith(MAGIC):
            raise Refused("chain")
        return target, inner

    async def _ask(self, target: Address, inner: bytes) -> bytes:
        """Ask the server over UDP, with a socket for this alone, which takes nothing from others."""
        came: asyncio.Queue[bytes] = asyncio.Queue()
        behind = await Datagrams.connected(target, lambda data, _: came.put_nowait(data), self._outgoing)
        try:
            behind.transport.sendto(inner)
            async with asyncio.timeout(self.patience):
                while True:
                    answer = await came.get()
                    why = refusal(inner, answer)
                    self.passed.add("udp", target, answer, why)
                    if not why:
                        return self._remembered(target, inner, answer)
        except TimeoutError:
            return b""
        finally:
            behind.transport.close()

    def _remembered(self, target: Address, inner: bytes, answer: bytes) -> bytes:
        """Return the certificates that were last seen under this name, with this question's ID."""
        if answer.startswith(RESOLVER_MAGIC):
            return answer
        now = time.monotonic()
        key = wrap(target, asking.question_of(inner))
        until, kept = self._certificates.get(key, (0.0, b""))
        if now < until:
            return inner[:2] + kept[2:]
        if self.cached:
            self._certificates[key] = now + self.cached, answer
        return answer


_OTHER = {"udp": "tcp_only", "tcp": "udp_only"}


def refusal(inner: bytes, answer: bytes) -> str:
    """Say why the answer to a packet is not passed on; nothing: it is."""
    if len(answer) > len(inner):
        return "longer than the query"
    if answer.startswith(RESOLVER_MAGIC):
        return "" if LEAST_ANSWER <= len(answer) <= MOST else "size"
    if answer[:2] != inner[:2] or len(answer) < 12 or not answer[2] & 0x80 or inner[2] & 0x80:
        return "neither sealed nor an answer"
    question = asking.question_of(inner)
    if not question or asking.question_of(answer).lower() != question.lower():
        return "another question"
    return "" if question.startswith(_STANDARD) else "not a standard name"


# The prefix as labels: the real one compares text, and the next label's length stands for the dot.
_STANDARD = asking.wire_name("2.dnscrypt-cert")[:-1]
