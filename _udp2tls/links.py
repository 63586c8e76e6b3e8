"""The connections to the upstreams: batches of queries out, and what becomes of each connection.

Owns a stream for every link. ``delivery`` decides which links there are and which one
a query goes to; this file carries it out and reports what happened. What comes back goes
through ``answers``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from _udp2tls import edns, log, wire
from _udp2tls.answers import Answers
from _udp2tls.codec import CodecError, ConnectionLost, ProtocolError
from _udp2tls.config import Endpoint
from _udp2tls.delivery import Delivery
from _udp2tls.link import ASKED, DOUBTED, IDLE, Link
from _udp2tls.loop import READ, WRITE, Loop
from _udp2tls.path import LEAST_PATIENCE_OF_MANY
from _udp2tls.pending import Pending, Query
from _udp2tls.stream import Datagrams, Stream
from _udp2tls.surroundings import Surroundings
from _udp2tls.system import connect_error
from _udp2tls.upstream import Upstream

# Bytes an upstream has not taken; above this no more datagrams are read.
HIGH_WATER = 1 << 20

# Queries per write when many wait: 64 KiB or so, so that copies of them stay small.
PIECE = 512

# What a write fails with when this machine's network has changed under the connection.
NETWORK_GONE = frozenset((errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL))


class Links:
    """See the file's docstring.

    ``open_stream`` begins a connection and may raise OSError; ``look_up`` begins to find an
    upstream's addresses.
    """

    def __init__(
        self, loop: Loop, pending: Pending, delivery: Delivery, surroundings: Surroundings,
        open_stream: Callable[..., Any], look_up: Callable[[Upstream], object],
    ) -> None:  # fmt: skip
        self.answers = Answers(loop, pending, delivery)
        self._loop = loop
        self._pending = pending
        self._delivery = delivery
        self._surroundings = surroundings
        self._open_stream = open_stream
        self._look_up = look_up
        self._streams: dict[Link, Stream] = {}

    def forward(self, queries: list[Query]) -> None:
        """Send new queries, or hold them until a link takes them."""
        delivery = self._delivery
        link = delivery.next()
        if link is None or delivery.unsent:
            delivery.unsent.extend(queries)
            self._loop.look_soon()
        else:
            self._write(link, queries)

    def _write(self, link: Link, queries: list[Query]) -> None:
        room = link.room() if link.limited else link.codec.room
        if len(queries) > room and not (queries[0] is link.probe and link.codec.room):
            self._delivery.unsent.extendleft(reversed(queries[room:]))
            self._loop.look_soon()
            queries = queries[:room]
        loop = self._loop
        now = loop.now
        if not link.inflight:
            link.waiting_since = now
            link.idle_before = idle = now - link.heard
            if idle >= IDLE and (reason := self._surroundings.changed(link, self._loop.now)):
                # Those that are under way elsewhere come back from there.
                self._delivery.unsent.extendleft(query for query in reversed(queries) if query.link is None)
                self.start_over(reason)
                return
        dress, batch = edns.dress, []
        for query in queries:
            query.link = link
            batch.append(dress(query.message, query.opt, query.id))
        link.inflight += len(batch)
        link.codec.send(batch, now)
        self._flush(link, self._streams[link])
        if link.wants_sample:
            link.sample, link.sampled_at, link.wants_sample = queries[0], now, False
        link.sent += len(batch)
        if link.limited:
            link.note_limits()
        if now + LEAST_PATIENCE_OF_MANY < loop.wake_at:
            loop.wake_at = now + LEAST_PATIENCE_OF_MANY
        if link.codec.deadline < loop.wake_at:
            loop.wake_at = link.codec.deadline

    def _flush(self, link: Link, stream: Stream) -> None:
        """Write what the codec has to say, and wait to write what the kernel did not take."""
        try:
            left = stream.flush()
        except (CodecError, OSError) as error:
            said = self._last_words(link, stream)
            self._end(link, said or _reason(error), failed=True, by_peer=True)
            if not said and isinstance(error, OSError) and error.errno in NETWORK_GONE and link.opened:
                self.start_over(f"the network is gone: {_reason(error)}")
            return
        if left or stream.events != READ:
            self._loop.want(stream, READ | WRITE if left else READ)
            self.answers.clients.rest(left > HIGH_WATER)

    def _last_words(self, link: Link, stream: Stream) -> str:
        """Read what a peer that takes nothing any more had sent: answers, or why it hung up."""
        if link.opened:
            try:
                self.answers.take(link, stream.receive(self._loop.now))
            except ProtocolError as error:
                return _reason(error)
            except (CodecError, OSError):
                pass  # no more than the failed write had said
        return ""

    def connect(self, upstream: Upstream, address: Endpoint, *, trial: bool = False) -> None:
        """Begin a connection; its end, good or bad, is reported to ``delivery``."""
        now = self._loop.now
        link = Link(upstream, address, upstream.codec(now), now, trial=trial)
        self._delivery.link_started(link)
        self._loop.counts["connections"] += 1
        log.connecting(link)
        try:
            if upstream.datagrams:
                stream: Stream = Datagrams(self._open_stream(address, datagrams=True), link.codec)
            else:
                stream = Stream(self._open_stream(address), link.codec)
        except OSError as error:
            self._end(link, _reason(error), failed=True)
            return
        self._streams[link] = stream
        stream.handler = (self._on_link, link)
        if upstream.datagrams:
            link.connected = now
            self._loop.want(stream, READ)
            self._move_on(link)
            return
        # Windows reports a failed connect only to those who wait to write.
        self._loop.want(stream, WRITE)

    def _on_link(self, link: Link, mask: int) -> None:
        stream = self._streams.get(link)
        if stream is None:
            return  # ended earlier in this turn
        codec, now = link.codec, self._loop.now
        if not link.connected and mask & WRITE and (refused := connect_error(stream.sock)):
            self._end(link, _reason(refused), failed=True, by_peer=True)
            return
        if mask & READ:
            try:
                answers = stream.receive(now)
            except (CodecError, OSError) as error:
                by_peer = isinstance(error, (ConnectionLost, OSError))
                self._end(link, _reason(error), failed=link.failed, by_peer=by_peer)
                return
            if answers and (matched := self.answers.take(link, answers)):
                link.heard = now
                if link.watched:
                    self._reconsider(link, only_probe=matched == self.answers.probes)
            if link.upstream.timed:
                self._note_learned(link)
            if stream.ended:
                fetched = not link.opened and codec.closing and link.upstream.ready(now)  # a certificate, and no more
                self._end(link, "closed by the upstream", failed=link.failed and not fetched, by_peer=not fetched)
                return
        self._move_on(link)

    def _move_on(self, link: Link) -> None:
        """After whatever happened on a link: open it when it is ready, send what waits, write what is to be written."""
        codec, stream = link.codec, self._streams[link]
        if codec.closing and link.upstream.fetches_for:
            self._end(link, "it has brought the certificate", failed=False)
            return
        if not link.opened:
            if codec.room:
                self._opened(link)
            elif not link.connected:
                self._connected(link)
        if self._delivery.unsent:
            self._send_waiting()
            if link not in self._streams:
                return  # it broke under them
        self._flush(link, stream)
        if link.goodbye or codec.closing or self._delivery.unsent:
            self._loop.look_soon()

    def _note_learned(self, link: Link) -> None:
        """A codec that learns by itself, and says more than answers."""
        upstream = link.upstream
        if text := upstream.news():
            log.news(upstream, text)
        if short := upstream.learn(link):
            self.answers.take_short(link, short)
            self._loop.look_soon()
        self._loop.wake_by(link.codec.deadline)

    def _keep_time(self, link: Link) -> bool:
        """A codec's own deadline has come; False when that was the link's end."""
        stream, now = self._streams[link], self._loop.now
        try:
            answers = link.codec.receive((), now)
        except CodecError as error:
            self._end(link, _reason(error), failed=link.failed)
            return False
        if answers and (matched := self.answers.take(link, answers)):
            link.heard = now
            self._reconsider(link, only_probe=matched == self.answers.probes)
        self._note_learned(link)
        self._move_on(link)
        return self._streams.get(link) is stream

    def _reconsider(self, link: Link, *, only_probe: bool) -> None:
        """Something was heard on a link that is doubted, or that takes few queries at a time."""
        self.answers.probes = 0
        if link.doubt or link.slack > 1:
            link.calm_down(only_probe=only_probe)
            self._loop.look_soon()
        else:
            link.settle()

    def _send_waiting(self) -> None:
        """Send the queries that no link had taken, in pieces: there may be tens of thousands."""
        delivery = self._delivery
        while delivery.unsent:
            link = delivery.best()
            if link is None or len(self._streams[link].backlog) > HIGH_WATER:
                break
            room = link.room()
            if not room:
                link.settle()  # another link has taught its address a limit
            elif batch := delivery.take(min(room, PIECE)):
                self._write(link, batch)

    def _connected(self, link: Link) -> None:
        link.connected = self._loop.now
        link.path.note_trip(link.connected - link.started)

    def _opened(self, link: Link) -> None:
        if not link.connected:
            self._connected(link)
        for attempt in self._delivery.link_opened(link, self._loop.now):
            self._drop(attempt)
        self._surroundings.note(link, self._loop.now)
        link.resumed = getattr(link.codec, "resumed", False)
        link.upstream.counts["resumed"] += link.resumed
        log.connected(link, self._loop.now)
        if link.trial:
            self._ask(link)
        self._loop.look_soon()

    def _ask(self, link: Link) -> None:
        """Ask a question of our own on a link, to see whether it lives; unless it takes one query at a time."""
        if link.probe is not None or not (link.room() or link.path.scattering):
            return
        probe = self._pending.add_probe(partial(self._probe_answered, link), self._loop.now)
        if probe is not None:
            link.probe = probe
            link.upstream.counts["probes"] += 1
            self._write(link, [probe])

    def _probe_answered(self, link: Link, answer: bytes, address: object) -> None:
        link.probe = None
        self.answers.probes += link.watched
        if link.trial and link in self._streams:
            if answer[3] & 15 in (wire.NOERROR, wire.NXDOMAIN):
                for attempt in self._delivery.trial_passed(link, self._loop.now):
                    self._drop(attempt)
                log.returned(link)
            else:
                link.part("it cannot answer a question of our own")
            self._loop.look_soon()

    def _end(self, link: Link, reason: str, *, failed: bool, by_peer: bool = False) -> None:
        """A connection, or the attempt at one, is over."""
        waiting = link.inflight
        self._delivery.link_ended(link, reason, self._loop.now, failed=failed, by_peer=by_peer)
        if link.opened:
            self._loop.counts["resent"] += waiting
            link.upstream.counts["resent"] += waiting
            # A server that hangs up on everyone is one complaint, not one a second.
            if not failed or link.answered or self._loop.news(link.address, reason):
                log.connection_ended(link, reason, self._loop.now, waiting, by_peer=by_peer)
        elif failed or not link.upstream.fetches_for:
            self._loop.counts["failed_connections"] += 1
            link.upstream.counts["failed_connections"] += 1
            if self._loop.news(link.address, reason):
                log.connection_failed(link, reason)
        self._drop(link)
        self._loop.look_soon()

    def _drop(self, link: Link) -> None:
        stream = self._streams.pop(link, None)
        if stream is not None:
            self._loop.want(stream, 0)
            stream.farewell()
            self.answers.clients.rest(False)

    def start_over(self, reason: str) -> None:
        """The machine slept or its network changed: no connection is trusted, and nobody is blamed."""
        if self._streams:
            log.starting_over(reason, len(self._streams))
        for link in list(self._streams):
            self._end(link, reason, failed=False)
        self._delivery.forget_blame()
        for upstream in self._delivery.upstreams:
            upstream.start_over(self._loop.now)
        self._loop.counts["fresh_starts"] += 1
        self._loop.look_soon()

    def tick(self) -> None:
        """End the links whose time is up, and doubt those that are quiet for too long."""
        now = self._loop.now
        for link in list(self._streams):
            if link not in self._streams or link.deadline > now:
                continue
            if link.upstream.timed and link.codec.deadline <= now and not self._keep_time(link):
                continue
            if link.own_deadline > now:
                continue
            if link.opened and link.inflight and link.doubt < DOUBTED and not link.codec.closing:
                self._doubt(link)
            else:
                self._end(link, link.overdue(), failed=link.failed, by_peer=link.opened > 0 and link.codec.closing)

    def _doubt(self, link: Link) -> None:
        reason = self._surroundings.changed(link, self._loop.now)
        if reason:
            self.start_over(reason)
            return
        link.grow_doubt()
        if link.doubt == ASKED:
            self._ask(link)
        elif link.trial:
            self._end(link, "no answer to a question of our own", failed=True)
        else:
            self._delivery.hedge.note_doubt(link)
            log.doubted(link, self._loop.now)
        self._loop.look_soon()

    def plan(self) -> None:
        """Open what ``delivery`` wants opened, send what may now be sent, and set the next deadline."""
        delivery, now = self._delivery, self._loop.now
        for link in self._streams:
            if link.sample is not None and not self._pending.holds(link.sample):
                link.sample = None  # it was answered elsewhere, or its time was up
            link.wants_sample = link.sample is None  # one round trip a look is enough
        calls, look_up = delivery.plan(now)
        self._send_waiting()
        while again := delivery.hedge.repeat(delivery.links, now):
            self._write(*again)
        if delivery.opinions.waiting:
            self._ask_elsewhere()
        for upstream, address, trial in calls:
            self.connect(upstream, address, trial=trial)
        for upstream in look_up:
            self._look_up(upstream)
        for link in self._streams:
            self._loop.wake_by(link.deadline)
        self._loop.wake_by(min(delivery.deadline, delivery.hedge.deadline))

    def _ask_elsewhere(self) -> None:
        delivery = self._delivery
        questions, settled = delivery.opinions.take(delivery.links)
        for link, queries in questions:
            if link in self._streams:
                self._write(link, queries)
            else:
                delivery.opinions.waiting += queries
        for query in settled:
            self._pending.drop(query)
            self.answers.hand_refusal(query)

    def close(self, reason: str) -> None:
        """Say goodbye to every upstream."""
        for link in list(self._streams):
            if link.opened:
                log.connection_ended(link, reason, self._loop.now, 0, by_peer=False)
            self._drop(link)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    return str(error)
