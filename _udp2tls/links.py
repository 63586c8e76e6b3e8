"""The connections to the upstreams: batches of queries out, answers back to who asked.

Owns a stream for every link. ``delivery`` decides which links there are and which one
a query goes to; this file carries it out and reports what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from _udp2tls import edns, log, wire
from _udp2tls.clients import Clients
from _udp2tls.codec import CodecError
from _udp2tls.config import Endpoint
from _udp2tls.delivery import Delivery
from _udp2tls.link import SILENCE_LIMIT, Link
from _udp2tls.loop import READ, WRITE, Loop
from _udp2tls.pending import Pending, Query
from _udp2tls.stream import Stream
from _udp2tls.upstream import Upstream

# Bytes an upstream has not taken; above this no more datagrams are read.
HIGH_WATER = 1 << 20


class Links:
    """See the file's docstring. ``open_stream`` begins a connection and may raise OSError."""

    def __init__(
        self, loop: Loop, pending: Pending, delivery: Delivery, open_stream: Callable[[Endpoint], Any]
    ) -> None:
        self.clients: Clients  # who gets the answers; set once both exist
        self._loop = loop
        self._pending = pending
        self._delivery = delivery
        self._open_stream = open_stream
        self._streams: dict[Link, Stream] = {}

    def forward(self, queries: list[Query]) -> None:
        """Send new queries, or hold them until a link takes them."""
        link = self._delivery.best()
        if link is None or self._delivery.unsent:
            self._delivery.unsent.extend(queries)
            self._loop.look_soon()
        else:
            self._write(link, queries)

    def _write(self, link: Link, queries: list[Query]) -> None:
        room = link.codec.room
        if len(queries) > room:
            self._delivery.unsent.extendleft(reversed(queries[room:]))
            queries = queries[:room]
        for query in queries:
            query.link = link
        now = self._loop.now
        link.note_sent(len(queries), now)
        link.codec.send([query.outgoing() for query in queries], now)
        self._flush(link)
        self._loop.wake_by(now + SILENCE_LIMIT)

    def _flush(self, link: Link) -> None:
        stream = self._streams[link]
        try:
            stream.flush()
        except (CodecError, OSError) as error:
            self._end(link, _reason(error), failed=True)
            return
        left = len(stream.backlog)
        self._loop.want(stream, READ | WRITE if left else READ)
        self.clients.rest(left > HIGH_WATER)

    def connect(self, upstream: Upstream, address: Endpoint) -> None:
        """Begin a connection; its end, good or bad, is reported to ``delivery``."""
        link = Link(upstream, address, upstream.codec(), self._loop.now)
        self._delivery.link_started(link)
        self._loop.counts["connections"] += 1
        log.connecting(link)
        try:
            stream = Stream(self._open_stream(address), link.codec)
        except OSError as error:
            self._end(link, _reason(error), failed=True)
            return
        self._streams[link] = stream
        stream.handler = partial(self._on_link, link, stream)
        # Windows reports a failed connect only to those who wait to write.
        self._loop.want(stream, WRITE)

    def _on_link(self, link: Link, stream: Stream, mask: int) -> None:
        if link not in self._streams:
            return  # ended earlier in this turn
        answers: list[bytes] = []
        try:
            if mask & READ:
                answers = stream.receive(self._loop.now)
                link.heard = self._loop.now
            if not link.opened and link.codec.room:
                self._opened(link)
        except (CodecError, OSError) as error:
            self._end(link, _reason(error), failed=link.failed)
            return
        if answers:
            self._answer(link, answers)
        if stream.ended:
            self._end(link, "closed by the upstream", failed=link.failed)
        elif self._delivery.unsent and link.usable:
            self._write(link, self._delivery.take(link.codec.room))
        else:
            self._flush(link)
        if not link.usable:
            self._loop.look_soon()

    def _opened(self, link: Link) -> None:
        for attempt in self._delivery.link_opened(link, self._loop.now):
            self._drop(attempt)
        log.connected(link, self._loop.now)

    def _answer(self, link: Link, answers: list[bytes]) -> None:
        match, deliver = self._pending.match, self.clients.deliver
        for answer in answers:
            query = match(answer)
            if query is None:
                continue
            if query.link is not None:
                query.link.note_answer()
            try:
                answer, keepalive = query.restore(answer)
            except wire.Malformed as error:
                answer, keepalive = query.error(wire.SERVFAIL, edns.OTHER, f"the upstream's answer: {error}"), None
            if keepalive is not None:
                link.note_keepalive(keepalive)
            deliver(query.clients, answer, query)
        self._loop.counts["answers"] += len(answers)

    def _end(self, link: Link, reason: str, *, failed: bool) -> None:
        """A connection, or the attempt at one, is over."""
        waiting = link.inflight
        self._delivery.link_ended(link, reason, self._loop.now, failed=failed)
        if link.opened:
            self._loop.counts["resent"] += waiting
            log.connection_ended(link, reason, self._loop.now, waiting)
        else:
            self._loop.counts["failed_connections"] += 1
            if self._loop.news(link.address, reason):
                log.connection_failed(link, reason)
        self._drop(link)
        self._loop.look_soon()

    def _drop(self, link: Link) -> None:
        stream = self._streams.pop(link, None)
        if stream is not None:
            self._loop.want(stream, 0)
            stream.farewell()
            self.clients.rest(False)

    def tick(self) -> None:
        """End the links whose time is up."""
        for link in list(self._streams):
            if link.deadline <= self._loop.now:
                self._end(link, link.overdue(), failed=link.failed)

    def plan(self) -> None:
        """Open what ``delivery`` wants opened, and set the next deadline."""
        connect, look_up = self._delivery.plan(self._loop.now)
        for upstream, address in connect:
            self.connect(upstream, address)
        self.look_up(look_up)
        for link in self._streams:
            self._loop.wake_by(link.deadline)
        self._loop.wake_by(self._delivery.deadline)

    def look_up(self, upstreams: list[Upstream]) -> None:
        """Replaced by whoever can find addresses."""

    def close(self) -> None:
        """Say goodbye to every upstream."""
        for link in list(self._streams):
            self._drop(link)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    return str(error)
