"""What comes back on a link goes to who asked.

Owns nothing but the tally of the batch at hand. For each answer: find its query, take this
hop's part off, hand it over, and note what it says about the link it came on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _udp2tls import edns, log, wire
from _udp2tls.delivery import Delivery
from _udp2tls.link import DOUBTED, HEAD_LIMIT, Link
from _udp2tls.loop import Loop
from _udp2tls.pace import LEAST_GAP, MOST, NEAR
from _udp2tls.path import MANY
from _udp2tls.pending import Pending, Query

if TYPE_CHECKING:
    from _udp2tls.clients import Clients


class Answers:
    """See the file's docstring. ``probes`` counts answers to our own questions; whoever reads it sets it back."""

    def __init__(self, loop: Loop, pending: Pending, delivery: Delivery) -> None:
        self.clients: Clients  # who gets the answers; set once both exist
        self.probes = 0
        self._loop = loop
        self._pending = pending
        self._delivery = delivery
        self._receiving: Link  # whose answers are being dealt with
        self._kept = 0  # of those, refusals that another upstream is asked about
        self._seen = 0, 0  # unknown and mismatched answers until now
        pending.try_elsewhere = self._try_elsewhere

    def take(self, link: Link, answers: list[bytes]) -> int:
        """Hand answers to who asked; return how many were answers to anything."""
        match, undress, deliver, sealed = self._pending.match, edns.undress, self.clients.deliver, wire.SEALED
        sample = link.sample
        self._receiving = link
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
            if query.other is not None:
                self._delivery.hedged_answer(query, link, self._loop.now)
            elif query.link is not None:
                query.link.inflight -= 1
            if query is sample:
                self._sampled(link, query)
        answered = len(answers) - strays
        link.answered += answered
        self._loop.counts["answers"] += answered
        if strays:
            answered += self._note_strays(link)
        elif link.inflight >= MANY and link.path.trip <= NEAR and not link.limited:
            self._note_pace(link, query, answered)
        return answered

    def take_short(self, link: Link, short: list[tuple[bytes, bytes]]) -> None:
        """Queries with answers that were cut short on their way, over UDP: have them asked over TCP."""
        for _, received in short:
            found = self._pending.find(received)
            if found is not None:
                self._delivery.opinions.cut_short(found, received, link)

    def _note_strays(self, link: Link) -> int:
        """Something came that nobody waits for, or that answers another question, or that is asked elsewhere.

        Returns how many of the last there were.
        """
        kept, self._kept = self._kept, 0
        pending, (unknown, mismatched) = self._pending, self._seen
        self._seen = pending.unknown, pending.mismatched
        link.stirred = True
        link.upstream.counts["late"] += pending.unknown - unknown
        link.upstream.counts["mismatched"] += pending.mismatched - mismatched
        return kept

    def _sampled(self, link: Link, query: Query) -> None:
        """The query whose round trip is measured was answered on its link."""
        now = self._loop.now
        link.sample = None
        if link.doubt < DOUBTED:
            link.path.sample(now - link.sampled_at)
            self._delivery.unsorted = True
        elif query.other is link and now > link.quiet_since + 2 * HEAD_LIMIT:
            # It was slow on another connection too, and here everyone else waited behind it.
            self._one_at_a_time(link)

    def _one_at_a_time(self, link: Link) -> None:
        if not link.path.width or link.path.scattering:
            log.one_at_a_time(link)
        link.path.note_stall(True, self._loop.now)

    def _note_pace(self, link: Link, query: Query, answered: int) -> None:
        """Answers came while many wait: is there one worker, that deals with one query after the other?"""
        now, pending = self._loop.now, self._pending
        if now < link.heard + LEAST_GAP or pending.count() > MOST or link.upstream.datagrams:
            link.pace.interrupt()
        elif link.pace.note(query, answered, pending.first(), now):
            self._one_at_a_time(link)
            link.settle()
            self._loop.look_soon()

    def _try_elsewhere(self, query: Query, answer: bytes) -> bool:
        tried = self._delivery.refused(query, answer, self._receiving, self._loop.now)
        if tried:
            self._kept += 1
            self._loop.look_soon()
        return tried

    def hand_refusal(self, query: Query) -> None:
        """Give a query's askers what its most preferred upstream had said: no other could say better."""
        for upstream, answer in (query.refusals or ())[:1]:
            upstream.counts["refusals_believed"] += 1
            try:
                answer, _ = edns.undress(answer, query.end, query.opt > 0)
            except wire.Malformed:
                answer = query.error(wire.SERVFAIL, edns.OTHER, "every upstream refused the query")
            self.clients.deliver(query.clients, answer, query)
