"""The connections to the upstreams: batches of queries out, answers back to who asked.

Owns a stream for every link. ``delivery`` decides which links there are and which one
a query goes to; this file carries it out and reports what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from _udp2tls import edns, log, wire
from _udp2tls.clients import Clients
from _udp2tls.codec import CodecError, ProtocolError
from _udp2tls.config import Endpoint
from _udp2tls.delivery import Delivery
from _udp2tls.link import SILENCE_LIMIT, Link
from _udp2tls.loop import READ, WRITE, Loop
from _udp2tls.pending import Pending, Query
from _udp2tls.stream import Stream
from _udp2tls.upstream import Upstream

# Bytes an upstream has not taken; above this no more datagrams are read.
HIGH_WATER = 1 << 20

# Queries per write when many wait: 64 KiB or so, so that copies of them stay small.
PIECE = 512


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
        # When to look at the clocks after a query was written: the first that can run out.
        self._patience = min(SILENCE_LIMIT, pending.lifetime)

    def forward(self, queries: list[Query]) -> None:
        """Send new queries, or hold them until a link takes them."""
        delivery = self._delivery
        link = delivery.best()
        if link is None or delivery.unsent:
            delivery.unsent.extend(queries)
            self._loop.look_soon()
        else:
            self._write(link, queries)

    def _write(self, link: Link, queries: list[Query]) -> None:
        room = link.codec.room
        if len(queries) > room:
            self._delivery.unsent.extendleft(reversed(queries[room:]))
            queries = queries[:room]
        dress, batch = edns.dress, []
        for query in queries:
            query.link = link
            batch.append(dress(query.message, query.opt, query.id))
        loop = self._loop
        now = loop.now
        if not link.inflight:
            link.waiting_since = now
        link.inflight += len(batch)
        link.codec.send(batch, now)
        self._flush(link, self._streams[link])
        link.sent += len(batch)
        if now + self._patience < loop.wake_at:
            loop.wake_at = now + self._patience

    def _flush(self, link: Link, stream: Stream) -> None:
        """Write what the codec has to say, and wait to write what the kernel did not take."""
        try:
            left = stream.flush()
        except (CodecError, OSError) as error:
            self._end(link, self._last_words(link, stream) or _reason(error), failed=True)
            return
        if left or stream.events != READ:
            self._loop.want(stream, READ | WRITE if left else READ)
            self.clients.rest(left > HIGH_WATER)

    def _last_words(self, link: Link, stream: Stream) -> str:
        """Read what a peer that takes nothing any more had sent: answers, or why it hung up."""
        if link.opened:
            try:
                self._answer(link, stream.receive(self._loop.now))
            except ProtocolError as error:
                return _reason(error)
            except (CodecError, OSError):
                pass  # no more than the failed write had said
        return ""

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
        stream.handler = (self._on_link, link)
        # Windows reports a failed connect only to those who wait to write.
        self._loop.want(stream, WRITE)

    def _on_link(self, link: Link, mask: int) -> None:
        stream = self._streams.get(link)
        if stream is None:
            return  # ended earlier in this turn
        codec, now = link.codec, self._loop.now
        if mask & READ:
            try:
                answers = stream.receive(now)
            except (CodecError, OSError) as error:
                self._end(link, _reason(error), failed=link.failed)
                return
            link.heard = now
            if answers:
                self._answer(link, answers)
            if stream.ended:
                self._end(link, "closed by the upstream", failed=link.failed)
                return
        if not link.opened and codec.room:
            self._opened(link)
        if self._delivery.unsent:
            self._send_waiting(link)
            if link not in self._streams:
                return  # it broke under them
        self._flush(link, stream)
        if link.goodbye or codec.closing or self._delivery.unsent:
            self._loop.look_soon()

    def _send_waiting(self, link: Link) -> None:
        """Send the queries that no link had taken, in pieces: there may be tens of thousands."""
        unsent = self._delivery.unsent
        while unsent and link.usable and link in self._streams:
            if len(self._streams[link].backlog) > HIGH_WATER:
                break
            batch = self._delivery.take(min(link.codec.room, PIECE))
            if batch:
                self._write(link, batch)

    def _opened(self, link: Link) -> None:
        for attempt in self._delivery.link_opened(link, self._loop.now):
            self._drop(attempt)
        log.connected(link, self._loop.now)

    def _answer(self, link: Link, answers: list[bytes]) -> None:
        match, undress, deliver, sealed = self._pending.match, edns.undress, self.clients.deliver, wire.SEALED
        strays = 0
        for received in answers:
            matched = match(received)
            if matched is None:
                strays += 1
                continue
            query, answer = matched
            opt = query.opt
            if opt != sealed:
                try:
                    answer, keepalive = undress(answer, query.end, opt > 0)
                except wire.Malformed as error:
                    answer = query.error(wire.SERVFAIL, edns.OTHER, f"the upstream's answer: {error}")
                else:
                    if keepalive is not None:
                        link.note_keepalive(keepalive)
            deliver(query.clients, answer, query)
            if query.link is not None:
                query.link.inflight -= 1
        link.answered += len(answers) - strays
        self._loop.counts["answers"] += len(answers) - strays

    def _end(self, link: Link, reason: str, *, failed: bool) -> None:
        """A connection, or the attempt at one, is over."""
        waiting = link.inflight
        self._delivery.link_ended(link, reason, self._loop.now, failed=failed)
        if link.opened:
            self._loop.counts["resent"] += waiting
            # A server that hangs up on everyone is one complaint, not one a second.
            if not failed or link.answered or self._loop.news(link.address, reason):
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
        """Open what ``delivery`` wants opened, send what may now be sent, and set the next deadline."""
        connect, look_up = self._delivery.plan(self._loop.now)
        link = self._delivery.best()
        if link is not None:
            # What another link owed when it ended, and suspects that have rested.
            self._send_waiting(link)
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
