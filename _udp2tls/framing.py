"""Two-byte length framing of DNS over a stream (RFC 1035 section 4.2.2).

Owns the tail of a message that has not fully arrived. The same codec serves
both ends: queries to an upstream, and the queries of our own TCP clients.
It must never hold more than one message of 65,535 bytes and one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from _udp2tls.codec import ConnectionLost

MAX_MESSAGE = 65535


class Framing:
    """The codec for DNS over a plain stream.

    ``room`` does not bound a stream by itself: 65,536 is every DNS ID there is.
    A frame of length zero is legal framing and no message; it is skipped.
    """

    def __init__(self) -> None:
        self.room = 65536
        self.deadline = math.inf
        self.closing = False
        self._tail = b""
        self._out: list[bytes] = []

    def send(self, messages: Sequence[bytes], now: float) -> None:
        append = self._out.append
        for message in messages:
            append(len(message).to_bytes(2, "big") + message)

    def receive(self, chunks: Sequence[bytes], now: float) -> list[bytes]:
        data = chunks[0] if len(chunks) == 1 and not self._tail else b"".join((self._tail, *chunks))
        size = len(data)
        if size > 2 and size == 2 + (data[0] << 8 | data[1]):  # just one, whole: the usual case at rest
            self._tail = b""
            return [data[2:]]
        messages = []
        start = 0
        while start + 2 <= size:
            end = start + 2 + (data[start] << 8 | data[start + 1])
            if end > size:
                break
            if end > start + 2:
                messages.append(data[start + 2 : end])
            start = end
        self._tail = data[start:] if start < size else b""
        return messages

    def outgoing(self) -> list[bytes]:
        out, self._out = self._out, []
        return out

    def close(self) -> None:
        pass

    def eof(self, now: float) -> list[bytes]:
        if self._tail:
            raise ConnectionLost(f"the stream ended {len(self._tail)} bytes into a message")
        return []

    @property
    def partial(self) -> bool:
        """True while a message has begun and not ended."""
        return bool(self._tail)
