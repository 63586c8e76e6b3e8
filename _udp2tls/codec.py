"""The codec contract: one connection's worth of protocol, without its socket.

A *message* is a bare DNS message (no length prefix). A *chunk* is what one
system call moves: on a datagram transport one datagram, on a stream any piece,
whose borders mean nothing. That sentence makes UDP and TCP the same interface.

The caller drains ``outgoing()`` after construction and after every ``send``,
``receive``, ``close`` and ``eof``; it never blocks. There is no callback, no timer, no
clock and no socket in a codec: time is an argument, and ``deadline`` says when
the codec wants to be called next.

``send`` never fails for reasons of transport and hands nothing back: the table
of pending queries is the retransmit buffer. If the connection dies, what is
still pending is sent again on another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class CodecError(Exception):
    """The connection is over; ``str()`` says why, in words for a log line."""


class ProtocolError(CodecError):
    """The peer broke the protocol; nothing more from it may be believed."""


class CertificateError(ProtocolError):
    """The peer is not who it must be: chain, name, time or pin."""


class ConnectionLost(CodecError):
    """The stream ended inside a message, or without a TLS close."""


class Codec(Protocol):
    """What the loop knows of a connection.

    ``room``: how many more queries it takes now; 0 means hold them.
    ``deadline``: call ``receive((), now)`` at this monotonic time at the latest; inf: never.
    ``closing``: take the answers still due, then close; new queries go elsewhere.
    """

    room: int
    deadline: float
    closing: bool

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages for the peer."""

    def receive(self, chunks: Sequence[bytes], now: float) -> list[bytes]:
        """Feed what arrived, in order; return the messages now complete.

        An empty ``chunks`` says that time has passed. Stream codecs raise
        ProtocolError; datagram codecs count and drop instead.
        """

    def outgoing(self) -> list[bytes]:
        """Hand over the chunks to write, and forget them."""

    def close(self) -> None:
        """Say goodbye where the protocol has a word for it; ``outgoing`` has the bytes."""

    def eof(self, now: float) -> list[bytes]:
        """The peer's stream ended: return the last messages or raise ConnectionLost."""
