"""A TCP connection and its codec: bytes from one to the other.

The socket is given, non-blocking, and only read from, written to and closed here.
Bytes the kernel did not take wait in ``backlog``. ``events`` and ``handler`` are the
loop's note of what it waits for and whom it then calls.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Protocol

from _udp2tls.codec import Codec, CodecError

# A larger recv makes CPython allocate by mmap, twice as dear.
CHUNK = 65536

# So many at once: others wait for their turn, too.
MOST_DATAGRAMS = 256

# A write that Windows has no memory for at the moment: what was not taken waits.
NO_BUFFER = (errno.ENOBUFS, 10055)


class Socket(Protocol):
    """What is used of a socket."""

    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes, /) -> int: ...
    def close(self) -> None: ...


# What the loop calls with its second part and the events that are ready.
Handler = tuple[Callable[[Any, int], None], Any]


class Stream:
    """See the file's docstring."""

    __slots__ = ("backlog", "codec", "ended", "events", "handler", "sock")

    def __init__(self, sock: Any, codec: Codec) -> None:
        self.sock: Socket = sock
        self.codec = codec
        self.backlog = b""
        self.ended = False  # the peer's FIN has come
        self.events = 0
        self.handler: Handler | None = None

    def receive(self, now: float) -> list[bytes]:
        """Read once and return the messages now complete.

        Raises CodecError and OSError, which end the connection.
        """
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return []
        if data:
            return self.codec.receive((data,), now)
        self.ended = True
        return self.codec.eof(now)

    def flush(self) -> int:
        """Write as much as the kernel takes; return how many bytes are left.

        Raises CodecError and OSError.
        """
        chunks = self.codec.outgoing()
        if self.backlog:
            chunks.insert(0, self.backlog)
        if not chunks:
            return 0
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno not in NO_BUFFER:
                raise
            sent = 0
        self.backlog = left = data[sent:]
        return len(left)

    def farewell(self) -> None:
        """Write what may still go out, an alert or a TLS close, and close the socket."""
        try:
            self.flush()
            self.codec.close()
            self.flush()
        except (CodecError, OSError):
            pass  # the peer is not owed more than a try
        self.sock.close()


class Datagrams(Stream):
    """A connected UDP socket and its codec: a chunk is a datagram.

    What the kernel does not take at the moment is lost, as any datagram may be: the codec
    sends it again. So is a complaint that nobody listens, while there is a certificate:
    servers are restarted.
    """

    __slots__ = ()

    def receive(self, now: float) -> list[bytes]:
        chunks: list[bytes] = []
        try:
            while len(chunks) < MOST_DATAGRAMS:
                chunks.append(self.sock.recv(CHUNK))
        except BlockingIOError:
            pass
        except ConnectionError:
            if not self.codec.room and not chunks:
                raise
        return self.codec.receive(chunks, now) if chunks else []

    def flush(self) -> int:
        for chunk in self.codec.outgoing():
            try:
                self.sock.send(chunk)
            except BlockingIOError:
                break
            except ConnectionError:  # an earlier one's; this one was not sent either
                if not self.codec.room:
                    raise
            except OSError as error:
                if error.errno not in (*NO_BUFFER, errno.EMSGSIZE):
                    raise
        return 0


class TcpClient(Stream):
    """A client's TCP connection.

    ``dirty`` is where it is noted when it has answers to write, ``flush_answers`` is then
    called with it.
    """

    __slots__ = ("answer", "dirty", "flush_answers", "heard", "waiting")

    def __init__(
        self, sock: Any, codec: Codec, answer: Callable[[bytes], bytes] | None, dirty: list[TcpClient],
        flush_answers: Callable[[TcpClient], None], now: float,
    ) -> None:  # fmt: skip
        super().__init__(sock, codec)
        self.flush_answers = flush_answers
        self.answer = answer  # answers its queries itself, instead of the upstream (the demo)
        self.dirty = dirty
        self.heard = now  # its last whole query, or the last byte of an answer it took
        self.waiting = 0  # queries without an answer

    def deliver(self, answer: bytes, address: object = None) -> None:
        self.waiting -= 1
        self.codec.send((answer,), 0.0)
        self.dirty.append(self)
