"""DNS messages and clients of our own, where dig says too little: every byte of every answer is looked at.

Names like ``q17.n3.test.example`` have the address 192.0.2.3 on every server here, so that
an answer to another question is known by its content also.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

A, TXT, AAAA, OPT, HTTPS = 1, 16, 28, 41, 65
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
EXTENDED_ERROR = 15
PATIENCE = 8.0  # seconds; longer than any answer may take


def wire_name(text: str) -> bytes:
    r"""Return a name as on the wire; ``\000`` stands for a byte."""
    labels = []
    for label in text.rstrip(".").split("."):
        raw = bytearray()
        at = 0
        while at < len(label):
            if label[at] == "\\":
                raw.append(int(label[at + 1 : at + 4]))
                at += 4
            else:
                raw.append(ord(label[at]))
                at += 1
        labels.append(bytes((len(raw),)) + raw)
    return b"".join(labels) + b"\0"


def opt_record(size: int = 1232, options: bytes = b"", *, do: bool = False) -> bytes:
    return struct.pack(">BHHIH", 0, OPT, size, 0x8000 if do else 0, len(options)) + options


def make_query(name: str, kind: int = A, id: int | None = None, opt: bytes = b"") -> bytes:
    """Build a query; ``opt`` is an OPT record or nothing."""
    number = secrets.randbelow(65536) if id is None else id
    header = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 1 if opt else 0)
    return header + wire_name(name) + struct.pack(">HH", kind, 1) + opt


def question_of(message: bytes) -> bytes:
    """Return the first question's bytes; b"" when the message says it has none, or has none that can be read."""
    if len(message) < 12 or message[4:6] == b"\0\0":
        return b""
    at = 12
    while at < len(message) and message[at]:
        if message[at] > 63:
            return b""
        at += 1 + message[at]
    return message[12 : at + 5] if at + 5 <= len(message) else b""


def rcode_of(message: bytes) -> int:
    return message[3] & 15


@dataclass(frozen=True)
class Record:
    kind: int
    size: int  # an OPT record's class: the UDP size
    data: bytes


def records_of(message: bytes) -> list[Record]:
    """Return every record behind the question."""
    at = 12 + len(question_of(message))
    found = []
    for _ in range(sum(struct.unpack_from(">HHH", message, 6))):
        while message[at] and message[at] < 0xC0:
            at += 1 + message[at]
        at += 2 if message[at] else 1
        kind, size, _, length = struct.unpack_from(">HHIH", message, at)
        at += 10
        found.append(Record(kind, size, message[at : at + length]))
        at += length
    if at != len(message):
        raise ValueError("bytes behind the last record")
    return found


def options_of(message: bytes) -> dict[int, bytes] | None:
    """Return the EDNS options of a message, or None when it has no OPT record."""
    for record in records_of(message):
        if record.kind == OPT:
            return dict(_options(record.data))
    return None


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        code, length = struct.unpack_from(">HH", data, at)
        yield code, data[at + 4 : at + 4 + length]
        at += 4 + length


def extended_error(message: bytes) -> str:
    """Return the text of an extended error (RFC 8914), or "" without one."""
    return (options_of(message) or {}).get(EXTENDED_ERROR, b"\0\0")[2:].decode()


def numbered(serial: int) -> str:
    """Return one of many distinct names whose address can be told from it."""
    return f"q{serial}.n{serial % 10}.test.example"


def address_for(question: bytes) -> bytes:
    """Return the address every server here gives to ``question``: 192.0.2.D with D from the label nD, else 1."""
    at, digit = 0, 1
    while question[at]:
        label = question[at + 1 : at + 1 + question[at]].lower()
        if label[:1] == b"n" and label[1:].isdigit():
            digit = int(label[1:]) % 10
        at += 1 + question[at]
    return bytes((192, 0, 2, digit))


def is_right(query: bytes, answer: bytes) -> bool:
    """True for NOERROR with the query's ID, its question to the letter, and the one address it has."""
    question = question_of(query)
    if (
        answer[:2] != query[:2]
        or not answer[2] & 0x80
        or rcode_of(answer) != NOERROR
        or question_of(answer) != question
    ):
        return False
    try:
        records = records_of(answer)
    except (ValueError, IndexError, struct.error):
        return False
    return [record.data for record in records if record.kind == A] == [address_for(question)]


def ask_udp(port: int, message: bytes, host: str = "127.0.0.1", timeout: float = PATIENCE) -> bytes:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((host, port))
        sock.send(message)
        return sock.recv(65535)


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Return ``size`` bytes; fewer when the stream ends before."""
    got = b""
    while len(got) < size:
        data = sock.recv(size - len(got))
        if not data:
            break
        got += data
    return got


def read_frame(sock: socket.socket) -> bytes:
    """Return one message, b"" at the end of the stream."""
    head = read_exactly(sock, 2)
    return read_exactly(sock, int.from_bytes(head, "big")) if len(head) == 2 else b""


def ask_tcp(port: int, message: bytes, host: str = "127.0.0.1", timeout: float = PATIENCE) -> bytes:
    with socket.create_connection((host, port), timeout) as sock:
        sock.sendall(framed(message))
        return read_frame(sock)


def ask_tls(port: int, message: bytes, ca_file: str, name: str, timeout: float = PATIENCE) -> bytes:
    context = ssl.create_default_context(cafile=ca_file)
    with (
        socket.create_connection(("127.0.0.1", port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=name) as sock,
    ):
        sock.sendall(framed(message))
        return read_frame(sock)


@dataclass
class Tally:
    """What became of the queries of one Asker."""

    sent: int = 0
    right: int = 0
    servfail: int = 0
    wrong: list[bytes] = field(default_factory=list)
    stray: list[bytes] = field(default_factory=list)  # answers to what was not asked, or asked and answered before
    reasons: Counter[str] = field(default_factory=Counter)  # of the SERVFAILs
    worst: float = 0.0  # seconds until an answer
    unanswered: int = 0

    @property
    def right_share(self) -> float:
        return self.right / self.sent

    def __str__(self) -> str:
        return (
            f"{self.sent} queries, {self.right} right ({self.right_share:.3%}), {self.servfail} SERVFAIL, "
            f"{len(self.wrong)} wrong, {len(self.stray)} stray, {self.unanswered} unanswered, "
            f"worst {self.worst:.2f} s, reasons {dict(self.reasons)}"
        )


class Asker(asyncio.DatagramProtocol):
    """One UDP client that asks at a steady rate and judges every answer it gets."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self.tally = Tally()
        self._make = make
        self._transport: asyncio.DatagramTransport
        self._waiting: dict[bytes, tuple[bytes, float]] = {}

    @classmethod
    async def ask(
        cls, port: int, rate: float, seconds: float, make: Callable[[int], bytes] | None = None, patience: float = 5.0
    ) -> Tally:
        """Ask ``rate`` queries a second for ``seconds``, wait ``patience`` for the last answers, and judge.

        ``make`` gives the query with a serial number; its ID must be that number.
        """
        loop = asyncio.get_running_loop()

        def build() -> Asker:
            return cls(make or (lambda serial: make_query(numbered(serial), id=serial % 65536, opt=opt_record())))

        transport, asker = await loop.create_datagram_endpoint(build, remote_addr=("127.0.0.1", port))
        try:
            begin = time.monotonic()
            while (elapsed := time.monotonic() - begin) < seconds:
                for _ in range(asker.tally.sent, int(elapsed * rate) + 1):
                    asker._send()
                await asyncio.sleep(0.5 / rate)
            last = time.monotonic()
            while asker._waiting and time.monotonic() < last + patience:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)  # for answers that nobody asked for
        finally:
            transport.close()
        asker.tally.unanswered = len(asker._waiting)
        return asker.tally

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def _send(self) -> None:
        message = self._make(self.tally.sent)
        self.tally.sent += 1
        self._waiting[message[:2]] = message, time.monotonic()
        self._transport.sendto(message)

    def datagram_received(self, data: bytes, addr: object) -> None:
        message, sent = self._waiting.pop(data[:2], (b"", 0.0))
        tally = self.tally
        if not message or (question_of(data) != question_of(message)):
            tally.stray.append(data)
            return
        tally.worst = max(tally.worst, time.monotonic() - sent)
        if is_right(message, data):
            tally.right += 1
        elif rcode_of(data) == SERVFAIL:
            tally.servfail += 1
            tally.reasons[extended_error(data)] += 1
        else:
            tally.wrong.append(data)

    def error_received(self, exc: Exception) -> None:
        raise AssertionError(f"the forwarder's port is gone: {exc}")
