"""A DNSCrypt client for checks: one question at a time, over blocking sockets, with the product's boxes.

It has none of the product's cleverness: no retransmission, no growth, no memory. What it is
asked to send, it sends; so that what a server or relay does with it can be seen.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from _udp2tls import box, certificate
from tests.peers import asking, relay
from tests.peers.background import Address


class Sealing:
    """Asks a server, given as its stamp has it; with ``via`` through the relay at that address."""

    def __init__(
        self, server: Address, provider: str, key: bytes, *, via: Address | None = None, timeout: float = 5.0,
        source: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self.server, self.provider, self.key, self.via = server, provider, key, via
        self.timeout, self.source = timeout, source
        self.certificate: certificate.Certificate | None = None
        self.pair = box.KeyPair(os.urandom(32))
        self._boxes: box.Boxes | None = None

    def fetch(self, transport: str = "udp", *, size: int = 1232, now: float | None = None) -> certificate.Certificate:
        """Ask for the certificates, choose one, and seal with it from now on. Raises NoCertificate."""
        asked = certificate.query(self.provider, os.urandom(2), size=size)
        answer = self.exchange(transport, asked)
        assert certificate.is_answer(asked, answer), answer
        self.certificate = certificate.choose(answer, self.key, time.time() if now is None else now)
        self._boxes = self.certificate.boxes(os.urandom, self.pair)
        return self.certificate

    def ask(self, transport: str, message: bytes, *, size: int = 1024) -> bytes:
        """Ask one question, padded to ``size``, and open the answer."""
        sealed, one, nonce = self.seal(message, size)
        answer = self.exchange(transport, sealed)
        assert box.response_nonce(answer) == nonce, answer
        return one.open(answer)

    def seal(self, message: bytes, size: int = 1024) -> tuple[bytes, box.Box, bytes]:
        """Return a sealed question, what opens its answer, and its nonce."""
        assert self._boxes, "fetch comes first"
        nonce = os.urandom(box.NONCE)
        one = self._boxes.box(nonce, time.monotonic())
        return one.seal(message, nonce, max(size, one.least)), one, nonce

    def exchange(self, transport: str, packet: bytes) -> bytes:
        """Send a packet as it is, but for the relay's header, and return what comes back; b"": the end of a stream."""
        if self.via:
            packet = relay.wrap(self.server, packet)
        kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
        target = self.via or self.server
        with socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, kind) as sock:
            sock.settimeout(self.timeout)
            if ":" not in target[0]:
                sock.bind((self.source, 0))
            sock.connect(target)
            if transport == "tcp":
                sock.sendall(asking.framed(packet))
                return asking.read_frame(sock)
            sock.send(packet)
            return sock.recv(65535)

    def fate(self, transport: str, packet: bytes, patience: float = 0.2) -> str:
        """Say what becomes of a packet: "answer", "silence", "end" of the stream, or "refused" by the machine."""
        self.timeout, before = patience, self.timeout
        try:
            return "answer" if self.exchange(transport, packet) else "end"
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "refused"
        except ConnectionResetError:
            return "end"
        finally:
            self.timeout = before

    def ask_together(self, messages: Sequence[bytes], *, size: int = 256, patience: float = 5.0) -> list[bytes]:
        """Ask on one TCP connection without waiting; return the answers as they come, until the end or silence."""
        opened = {}
        frames = []
        for message in messages:
            sealed, one, nonce = self.seal(message, size)
            opened[nonce] = one
            frames.append(asking.framed(sealed))
        answers: list[bytes] = []
        with socket.create_connection(self.server, patience) as sock:
            sock.sendall(b"".join(frames))
            try:
                while len(answers) < len(messages) and (answer := asking.read_frame(sock)):
                    answers.append(opened[box.response_nonce(answer)].open(answer))
            except (TimeoutError, ConnectionResetError):
                pass
        return answers
