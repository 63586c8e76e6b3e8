"""A Forwarder among fakes: no kernel, no clock, a resolver that answers in memory.

Real: everything in ``udp2tls`` and ``_udp2tls``, and OpenSSL, at both ends. Fake: the UDP
socket, the streams, the selector, the clock, which stands still. The resolver works only
when it is told to, so that its work need not be in what is measured.
"""

from __future__ import annotations

import random
from collections import deque
from selectors import SelectorKey
from typing import Any

from _udp2tls import demo
from _udp2tls.codec import Codec
from _udp2tls.config import Config, Endpoint, UpstreamSpec
from _udp2tls.framing import Framing
from _udp2tls.loop import READ, WRITE
from bench import material
from udp2tls import Forwarder


class Datagrams:
    """A UDP socket: queries come out of ``inbox``, answers are counted and forgotten."""

    def __init__(self) -> None:
        self.inbox: deque[bytes] = deque()
        self.sent = 0

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        if self.inbox:
            return self.inbox.popleft(), material.ADDRESS
        raise BlockingIOError

    def sendto(self, data: bytes, address: object) -> int:
        self.sent += 1
        return len(data)

    def close(self) -> None:
        pass


class Bytestream:
    """A TCP socket: what was written is in ``sent``, what can be read in ``inbox``."""

    def __init__(self) -> None:
        self.inbox: deque[bytes] = deque()
        self.sent: list[bytes] = []

    def recv(self, size: int) -> bytes:
        if self.inbox:
            return self.inbox.popleft()
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        return len(data)

    def getsockopt(self, level: int, option: int) -> int:
        return 0

    def setblocking(self, flag: bool) -> None:
        pass

    def close(self) -> None:
        pass


class Listener:
    """A listening TCP socket that accepts each of ``inbox`` once."""

    def __init__(self) -> None:
        self.inbox: list[Bytestream] = []

    def accept(self) -> tuple[Bytestream, tuple[str, int]]:
        if self.inbox:
            return self.inbox.pop(), material.ADDRESS
        raise BlockingIOError

    def close(self) -> None:
        pass


class Selector:
    """``select`` returns ``ready`` once."""

    def __init__(self) -> None:
        self.ready: list[tuple[SelectorKey, int]] = []
        self._keys: dict[Any, SelectorKey] = {}

    def register(self, sock: Any, events: int, data: Any) -> SelectorKey:
        self._keys[sock] = key = SelectorKey(sock, 0, events, data)
        return key

    modify = register

    def unregister(self, sock: Any) -> SelectorKey:
        return self._keys.pop(sock)

    def get_map(self) -> dict[Any, SelectorKey]:
        return self._keys

    def select(self, timeout: float) -> list[tuple[SelectorKey, int]]:
        ready, self.ready = self.ready, []
        return ready

    def wake(self, sock: Any, events: int = READ) -> None:
        """Make ``sock`` ready at the next ``select``."""
        self.ready.append((self._keys[sock], events))

    def close(self) -> None:
        pass


class World:
    """A forwarder with one open link and one UDP socket, ready for turns of ``batch`` queries.

    A turn is ``self.turn()`` after ``queries_come`` or ``answers_come``. ``batch`` is a power
    of two. ``tcp`` has the queries come over one TCP connection instead.
    """

    def __init__(
        self, files: demo.Files, batch: int = 1, *, with_opt: bool = False,
        answerer: material.Answerer = material.brief, tcp: bool = False,
    ) -> None:  # fmt: skip
        spec = UpstreamSpec("127.0.0.1", 853, demo.NAME)
        self._selector = Selector()
        self._link = Bytestream()
        self._resolver: Codec = demo.codec_factory(files)()
        self._answerer = answerer
        self._batch = batch
        self._queries = material.queries(4096, with_opt=with_opt)
        self._asked = 0
        self.forwarder = Forwarder(
            Config((spec,), listen=(), ca_file=files.ca_file), clock=lambda: 1000.0,
            selector=self._selector, rng=random.Random(1), open_stream=self._open_link,
        )  # fmt: skip
        self.turn = self.forwarder.turn
        self._datagrams = Datagrams()
        self._client = Bytestream()
        self.forwarder.clients.listen_udp(self._datagrams, guarded=False)
        self._connect()
        if tcp:
            self._accept_client()
        self._tcp = tcp
        self._warm()

    def _open_link(self, address: Endpoint) -> Bytestream:
        return self._link

    def _connect(self) -> None:
        """Have one query answered, which opens the link."""
        self._datagrams.inbox.append(self._next_query())
        self._selector.wake(self._datagrams)
        self.turn()
        self._selector.wake(self._link, WRITE)
        while not self._datagrams.sent:
            self.turn()
            self._resolve()
            self._selector.wake(self._link)
        self._selector.ready.clear()

    def _accept_client(self) -> None:
        listener = Listener()
        listener.inbox.append(self._client)
        self.forwarder.clients.listen_tcp(listener, guarded=False)
        self._selector.wake(listener)
        self.turn()

    def _warm(self) -> None:
        """Let the UDP socket's budget grow to the batch, and caches fill."""
        size = 1
        while size <= self._batch:
            self.queries_come(size)
            self.turn()
            size *= 2
        self.answers_come()
        self.turn()
        for _ in range(20):
            self.both_turns()

    def _next_query(self) -> bytes:
        self._asked += 1
        return self._queries[self._asked % len(self._queries)]

    def _resolve(self) -> None:
        """Be the resolver: read what was written to the link, write answers to it."""
        written = self._link.sent.copy()
        self._link.sent.clear()
        asked = self._resolver.receive(written, 0.0)
        if asked:
            self._resolver.send([self._answerer(message) for message in asked], 0.0)
        self._link.inbox.extend(self._resolver.outgoing())

    def queries_come(self, count: int = 0) -> None:
        """Put a batch of queries where the next turn finds them."""
        asked = [self._next_query() for _ in range(count or self._batch)]
        if self._tcp:
            self._client.inbox.append(b"".join(len(one).to_bytes(2, "big") + one for one in asked))
            self._selector.wake(self._client)
        else:
            self._datagrams.inbox.extend(asked)
            self._selector.wake(self._datagrams)

    def answers_come(self) -> None:
        """Have the resolver answer what it was asked; the next turn finds the answers."""
        self._client.sent.clear()
        self._resolve()
        self._selector.wake(self._link)

    def both_turns(self) -> None:
        """A batch of queries out, their answers back."""
        self.queries_come()
        self.turn()
        self.answers_come()
        self.turn()

    @property
    def waiting(self) -> int:
        """How many queries wait for an answer."""
        return len(self.forwarder.pending)

    def close(self) -> None:
        self.forwarder.close()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


def pair(files: demo.Files) -> tuple[Codec, Codec]:
    """Return both ends of a TLS connection, client first, past the handshake and the tickets."""
    from _udp2tls import tls

    client: Codec = tls.Tls.client(Framing(), tls.Session(tls.client_context(files.ca_file), demo.NAME))
    server = demo.codec_factory(files)()
    messages: list[bytes] = []
    while not client.room or not messages:
        server.receive(client.outgoing(), 0.0)
        if server.room:
            server.send([b"a first answer"], 0.0)
        messages = client.receive(server.outgoing(), 0.0)
    return client, server
