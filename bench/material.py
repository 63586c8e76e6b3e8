"""Sample messages: what programs ask, what resolvers answer. Nothing is measured here.

Every query has a name of its own, as in real traffic after the programs' own caches.
Two kinds of client: *plain* sends no OPT record, *edns* sends one of 1232 bytes with DO.
Two kinds of upstream: *brief* answers like dnsdist, one address and an empty OPT record;
*padded* answers like a public resolver, with keepalive and padding to 468 bytes (RFC 8467).
"""

from __future__ import annotations

from collections.abc import Callable

from _udp2tls import edns, wire

BATCHES = (1, 8, 32, 128)

# Where the clients are, as a UDP socket says it.
ADDRESS = ("127.0.0.1", 40000)

# From a query as it came to the upstream to its answer.
Answerer = Callable[[bytes], bytes]

_OPT = b"\0\x00\x29\x04\xd0\0\0\x80\0"  # without its length and options
_KEEPALIVE = b"\x00\x0b\x00\x02\x00\xc8"  # 20 s
_PADDED_SIZE = 468


def query(number: int, *, with_opt: bool = False) -> bytes:
    """Return a client's query for an address of a name that no other number has."""
    name = b"\x07q%06d\x05bench\x07example\0" % (number % 1000000)
    tail = _OPT + b"\0\0" if with_opt else b""
    counts = b"\0\1\0\0\0\0\0\1" if with_opt else b"\0\1\0\0\0\0\0\0"
    return b"".join(((number & 0xFFFF).to_bytes(2, "big"), b"\1\0", counts, name, b"\0\1\0\1", tail))


def queries(count: int, *, with_opt: bool = False) -> list[bytes]:
    """Return ``count`` different queries."""
    return [query(number, with_opt=with_opt) for number in range(count)]


def dressed(message: bytes) -> bytes:
    """Return a client's query as the forwarder sends it on, under the same ID."""
    _, opt = wire.parse_query(message)
    return edns.dress(message, opt, message[:2])


def brief(message: bytes) -> bytes:
    """Answer a query as dnsdist does: one address, and an OPT record if it had one."""
    return _answer(message, b"")


def padded(message: bytes) -> bytes:
    """Answer a query as a public resolver does: one address, keepalive, padding to 468 bytes."""
    unpadded = len(_answer(message, _KEEPALIVE + b"\x00\x0c\0\0"))
    size = max(0, _PADDED_SIZE - unpadded)
    return _answer(message, _KEEPALIVE + b"\x00\x0c" + size.to_bytes(2, "big") + bytes(size))


def _answer(message: bytes, options: bytes) -> bytes:
    end = wire.question_end(message)
    opt = _OPT + len(options).to_bytes(2, "big") + options if message[11] else b""
    return b"".join((
        message[:2], b"\x81\x80\0\1\0\1\0\0\0", message[11:12], message[12:end],
        b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\xc0\0\2\1", opt,
    ))  # fmt: skip
