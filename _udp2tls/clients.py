"""Our clients: queries in over UDP and TCP, answers out.

Owns the listeners and the TCP clients. Sockets are given, bound and non-blocking.
Everything a client can send is expected: what cannot be answered is counted and
dropped, what breaks the format is answered as the RFCs say, and a client that
vanished, reads too slowly or says nothing costs a bounded amount and nothing else.
"""

from __future__ import annotations

import errno
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from _udp2tls import edns, log, wire
from _udp2tls.codec import Codec, CodecError
from _udp2tls.config import Config
from _udp2tls.framing import Framing
from _udp2tls.listener import BATCH, Listener, readable
from _udp2tls.loop import READ, WRITE, Loop
from _udp2tls.pending import Client, Pending, Probe, Query
from _udp2tls.stream import Handler, TcpClient
from _udp2tls.wire import HEADER

# Bytes of answers a TCP client has not taken; at more it is cut off.
CLIENT_BACKLOG = 1 << 20
# Queries of one TCP client under way at once; its next ones wait in the kernel.
CLIENT_QUERIES = 1000
# TCP clients at once; one more closes the one quiet for longest (RFC 7766 section 6.1). Fewer where
# the system allows fewer open files. Windows waits for 512 sockets at most.
TCP_CLIENTS = 400 if sys.platform == "win32" else 10_000
# Seconds without a whole query or a byte of an answer taken (RFC 7766 section 6.2.3).
CLIENT_IDLE = 30.0

Answerer = Callable[[bytes], bytes]


class Clients:
    """See the file's docstring. ``forward`` takes each batch of new queries."""

    def __init__(self, loop: Loop, config: Config, pending: Pending, forward: Callable[[list[Query]], None]) -> None:
        self.limit = TCP_CLIENTS
        self._loop = loop
        self._config = config
        self._log_queries = config.log_queries
        self._pending = pending
        self._forward = forward
        self._datagrams: list[tuple[Any, Handler]] = []
        self._listeners: list[Any] = []
        self._resting = False
        self._streams: OrderedDict[TcpClient, None] = OrderedDict()  # quiet for longest first
        self._allowed: dict[str | bytes, bool] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def listen_udp(self, sock: Any, guarded: bool) -> None:
        """Serve a UDP socket; ``guarded`` asks ``Config.allows`` about every client."""
        handler = (self._on_datagrams, Listener(sock, guarded, self._loop.counts, self._loop.dirty))
        self._datagrams.append((sock, handler))
        self._loop.selector.register(sock, READ, handler)

    def listen_tcp(
        self, sock: Any, guarded: bool, codec: Callable[[], Codec] = Framing, answer: Answerer | None = None
    ) -> None:
        """Serve a listening TCP socket; ``answer`` answers in place of an upstream (the demo's resolver)."""
        self._loop.selector.register(sock, READ, (self._on_accept, (sock, guarded, codec, answer)))
        self._listeners.append(sock)

    def release(self) -> None:
        """Stop listening; the sockets stay open, for whoever listens on them from now on."""
        self.rest(False)
        for sock in [*(sock for sock, _ in self._datagrams), *self._listeners]:
            self._loop.selector.unregister(sock)
        self._datagrams.clear()
        self._listeners.clear()

    def rest(self, resting: bool) -> None:
        """Stop, or begin again, to read datagrams: the kernel drops what no longer fits."""
        if resting != self._resting:
            self._resting = resting
            for sock, handler in self._datagrams:
                if resting:
                    self._loop.selector.unregister(sock)
                else:
                    self._loop.selector.register(sock, READ, handler)

    def _may_ask(self, address: Any) -> bool:
        host = address[4:] if isinstance(address, bytes) else address[0]
        known = self._allowed.get(host)
        if known is None:
            if len(self._allowed) >= 10000:  # forged source addresses must not fill the memory
                self._allowed.clear()
            known = self._allowed[host] = self._config.allows(readable(address)[0])
        return known

    def _on_datagrams(self, listener: Listener, mask: int) -> None:
        add, counts, now, guarded = self._pending.add, self._loop.counts, self._loop.now, listener.guarded
        batch: list[Query] = []
        received = listener.receive(self._loop.turns)
        for message, client in received:
            # Too short for a header, or a response.
            if len(message) < HEADER or message[2] & 0x80 or (guarded and not self._may_ask(client[1])):
                counts["dropped"] += 1
                continue
            try:
                query = add(message, client, now)
            except wire.Malformed as error:
                counts["refused"] += 1
                self.deliver([client], wire.respond(message, wire.HEADER, error.rcode))
                continue
            if query is not None:
                batch.append(query)
            if self._log_queries:
                log.query(message, wire.question_end(message), readable(client[1]))
        if batch:
            self._forward(batch)
        counts["queries"] += len(received)
        if self._pending.count() > self._pending.limit:
            self._loop.look_soon()

    def _on_accept(self, about: tuple[Any, bool, Callable[[], Codec], Answerer | None], mask: int) -> None:
        listener, guarded, codec, answer = about
        for _ in range(BATCH):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors or memory: the quietest client pays, else accept would fail for ever.
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, 10024, 10055):
                    self._close_quietest()
                return
            if guarded and not self._may_ask(address):
                self._loop.counts["dropped"] += 1
                sock.close()
                continue
            if len(self._streams) >= self.limit:
                self._close_quietest()
            sock.setblocking(False)
            try:
                for option in self._config.client_options:
                    sock.setsockopt(*option)
            except OSError:  # it has gone already
                sock.close()
                continue
            client = TcpClient(sock, codec(), answer, self._loop.dirty, self._flush_answers, self._loop.now)
            client.handler = (self._on_client, client)
            self._streams[client] = None
            self._loop.counts["tcp_clients"] += 1
            self._loop.want(client, READ)
            self._loop.wake_by(self._loop.now + CLIENT_IDLE)

    def _on_client(self, client: TcpClient, mask: int) -> None:
        batch: list[Query] = []
        try:
            messages = client.receive(self._loop.now) if mask & READ else []
            for message in messages:
                query = self._take(client, message)
                if query is not None:
                    batch.append(query)
            if messages:
                self._note_alive(client)
        except (CodecError, OSError):
            self._close(client)
        if batch:
            self._forward(batch)
        if self._pending.count() > self._pending.limit:
            self._loop.look_soon()
        if client in self._streams:
            self._flush(client)

    def _take(self, client: TcpClient, message: bytes) -> Query | None:
        counts = self._loop.counts
        counts["queries"] += 1
        if len(message) < wire.HEADER or message[2] & 0x80:
            counts["dropped"] += 1
            raise CodecError("a TCP client sent what is not a query")
        client.waiting += 1
        if client.answer:
            client.deliver(client.answer(message))
            return None
        try:
            query = self._pending.add(message, (client.deliver, None), self._loop.now)
        except wire.Malformed as error:
            counts["refused"] += 1
            client.deliver(wire.respond(message, wire.HEADER, error.rcode))
            return None
        if self._log_queries:
            log.query(message, wire.question_end(message), None)
        return query

    def deliver(self, clients: list[Client], answer: bytes, query: Query | None = None) -> None:
        """Hand an answer to everyone who asked ``query``; UDP clients get no more than they take."""
        short = answer
        if len(answer) > wire.MIN_UDP and query is not None:
            limit = edns.udp_size(query.message, query.opt)
            if len(answer) > limit:
                short = edns.truncate(answer, query.end, limit)
        for hand_over, address in clients:
            try:
                hand_over(short if address else answer, address)
            except OSError:  # full buffer, no route, a firewall: UDP promises nothing
                self._loop.counts["unsendable"] += 1
        if self._log_queries and query is not None and not isinstance(query, Probe):
            for _, address in clients:
                log.answer(answer, query.end, readable(address))

    def _flush_answers(self, client: TcpClient) -> None:
        """Write the answers that this turn's deliveries left with a TCP client."""
        if client in self._streams:
            self._flush(client)

    def _flush(self, client: TcpClient) -> None:
        had = len(client.backlog)
        try:
            left = client.flush()
        except (CodecError, OSError):
            self._close(client)
            return
        if left < had:
            self._note_alive(client)
        if left > CLIENT_BACKLOG or (client.ended and not client.waiting and not left):
            self._close(client)
            return
        reads = not client.ended and not left and client.waiting < CLIENT_QUERIES
        self._loop.want(client, (READ if reads else 0) | (WRITE if left else 0))

    def tick(self) -> None:
        """Close the clients that were quiet for too long, and set the next deadline."""
        while self._streams:
            client = next(iter(self._streams))
            if client.heard + CLIENT_IDLE > self._loop.now:
                self._loop.wake_by(client.heard + CLIENT_IDLE)
                break
            if client.waiting and not client.backlog:
                self._note_alive(client)  # it waits for us, and Config.timeout bounds that
            else:
                self._close(client)

    def _note_alive(self, client: TcpClient) -> None:
        client.heard = self._loop.now
        self._streams.move_to_end(client)

    def _close_quietest(self) -> None:
        for client in self._streams:
            self._close(client)
            break

    def _close(self, client: TcpClient) -> None:
        if client in self._streams:
            del self._streams[client]
            self._loop.want(client, 0)
            client.farewell()

    def close(self) -> None:
        """Write what can be written at once, and close every client."""
        for client in list(self._streams):
            self._close(client)
