"""Which connection a query goes to, and where it goes when that one does not answer.

Owns the open links and the queries that no link has taken yet. It has no socket and no
clock: ``plan`` says what to connect to, the ``link_*`` methods are told what became of it.

The rules:

- The first link to open wins over other attempts to the same or a later upstream.
- A link to an upstream on the bench that opens without a word from the server, because what
  it has to know is known already, is on trial (see ``dialer``).
- A link that dies with queries in flight: they wait again, first in line. Its address
  rests only if the link never answered anything; an idle close is nobody's failure.
- With the strategies rotate and fastest, who stands in for another way to the same resolver has no
  turn, unless that is *out* (see ``dialer``); then that one is on the bench until a trial.
- A link that is doubted (see ``link``) gets another beside it; what then happens to its
  queries is ``hedge``'s business, and those that an upstream refuses are ``opinions``'.
- There are queries that make a server hang up. The oldest without an answer is the suspect:
  it goes last, and from its second time on it rests, so that it costs the others little.
- Whatever cannot be delivered waits until its time is up; the table of pending
  queries, not this file, ends that.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from random import Random

from _udp2tls.dialer import Call, Dialer
from _udp2tls.hedge import Hedge
from _udp2tls.link import DOUBTED, IDLE, Link
from _udp2tls.opinions import REFUSALS, Opinions
from _udp2tls.path import Path
from _udp2tls.pending import Pending, Probe, Query
from _udp2tls.upstream import Upstream

# How long a query rests on which two connections ended; twice as long after each further one.
SUSPECT_REST = 0.5

# A connection closed within this after its last answer was closed because of it.
AT_ONCE = 0.1

# With strategy "fastest", one batch in so many goes to another upstream, to see how fast it is now.
EXPLORE = 50


class Delivery:
    """See the file's docstring."""

    def __init__(
        self, upstreams: Sequence[Upstream], pending: Pending, random: Random, strategy: str = "ordered"
    ) -> None:
        self.dialer = Dialer(upstreams, random, everyone=strategy != "ordered")
        self.upstreams = self.dialer.upstreams
        self.hedge = Hedge(pending)
        self.opinions = Opinions(self.upstreams, pending)
        self.links: list[Link] = []  # open, the most preferred first
        self.unsent: deque[Query] = deque()
        self.suspects: list[tuple[float, Query]] = []  # (when it may go again, query)
        self.deadline = math.inf
        self.unsorted = True  # with "fastest": a round trip was measured, or a link is not in its place
        self._strategy = strategy
        self._in_turn = 0  # so many of the links, from the first on, have their turn
        self._with_reserves = strategy != "ordered" and any(one.stands_in_for for one in self.upstreams)
        self._lapses = any(one.timed for one in self.upstreams)
        self._pending = pending
        self._turn = 0
        self._sent_before = 0  # on links that have ended

    @property
    def reason(self) -> str:
        """Why nothing was delivered lately."""
        return self.dialer.reason

    def best(self) -> Link | None:
        """Return the link that takes queries now, or None."""
        for link in self.links:  # Link.usable, without a call: this runs for every batch
            if link.takes:
                codec = link.codec
                if codec.room > 0 and not codec.closing:
                    return link
        return None

    def least_bad(self) -> Link | None:
        """Return a doubted link: for a new query better than none, for it moves on when there is a better one.

        Not for queries that were sent before: they would be sent on and on, from one silent
        link to the next.
        """
        for link in self.links:
            if link.doubt == DOUBTED and not (link.goodbye or link.trial or link.codec.closing) and link.room():
                return link
        return None

    def next(self) -> Link | None:
        """Return the link for a new batch: ``best``, after the strategy has had its say."""
        if self._strategy != "ordered" and self._in_turn > 1:
            last = self._in_turn - 1
            if self._strategy == "rotate":
                self.links.insert(last, self.links.pop(0))
            else:
                self._turn += 1
                if self.unsorted:  # not for every batch: that would cost it something for every link
                    self.unsorted = False
                    self.links[: last + 1] = sorted(self.links[: last + 1], key=lambda link: link.path.rtt)
                if self._turn % EXPLORE == 0:
                    self.unsorted = True
                    self.links.insert(last, self.links.pop(0))
        return self.best() or self.least_bad()

    def take(self, room: int) -> list[Query]:
        """Remove and return up to ``room`` queries that still wait for a link, oldest first."""
        batch: list[Query] = []
        unsent, holds = self.unsent, self._pending.holds
        while unsent and len(batch) < room:
            query = unsent.popleft()
            if holds(query):
                batch.append(query)
        return batch

    def waiting(self) -> bool:
        """True when a query waits for a link; forgets the ones whose time was up."""
        unsent, holds = self.unsent, self._pending.holds
        while unsent and not holds(unsent[0]):
            unsent.popleft()
        return bool(unsent)

    def plan(self, now: float) -> tuple[list[Call], list[Upstream]]:
        """Return (what to connect to now, whose name to look up now) and set ``deadline``.

        Call after every event and at ``deadline``.
        """
        self.deadline = math.inf
        if self.suspects:
            self._release_suspects(now)
        if self._with_reserves:
            self._arrange(now)
        for link in self.links:
            path = link.path
            if path.width or path.capacity or link.limited:  # else nothing has changed that nobody told the link
                path.make_room(len(self.unsent))
                if path.gathered(len(self.unsent), now):
                    self._gather(path)
                self._look_again(path.scattering_until)
                link.settle()
        trusted = [link for link in self.links if link.trusted]
        if len(self.links) > 1:
            self._find_spares(trusted)
        waiting = self.waiting()
        trusted = [link for link in trusted if not (link.path.capacity and link.sent >= link.path.capacity)]
        if self._lapses:  # who waits for a certificate to be replaced that is over is not to be relied on
            trusted = [link for link in trusted if not link.upstream.timed or link.upstream.ready(now)]
        self.hedge.earn(self._sent_before + sum(link.sent for link in self.links), now)
        calls, look_up = self.dialer.plan(
            self.links, now,
            need=not trusted and (waiting or any(link.doubt == DOUBTED and link.inflight for link in self.links)),
            more=len(self.unsent) if waiting and trusted and all(link.path.limited for link in trusted) else 0,
            elsewhere=self.opinions.wanted(self.links) if self.opinions.waiting else (), waiting=waiting,
        )  # fmt: skip
        self.deadline = min(self.deadline, self.dialer.deadline)
        return calls, look_up

    def _arrange(self, now: float) -> None:
        """Put links that stand in for nobody now behind the others, where no turn reaches them."""
        reserves = []
        for link in self.links:
            first = link.upstream.stands_in_for
            if first is not None and link.trusted:
                if self.dialer.out(first, self.links, now):
                    self.dialer.bench(first, now)
                else:
                    first.benched = False
                    reserves.append(link)
        if reserves:
            self.links = [link for link in self.links if link not in reserves] + reserves
        self._in_turn = len(self.links) - len(reserves)

    def refused(self, query: Query, answer: bytes, link: Link, now: float) -> bool:
        """An upstream refused ``query``; True when another one will be asked."""
        waits_on = self.opinions.refused(query, answer, link, self.links)
        if waits_on and link.upstream.refusals >= REFUSALS:
            self._bench(link.upstream, now)
        return waits_on

    def _bench(self, upstream: Upstream, now: float) -> None:
        self.dialer.bench(upstream, now)
        for link in self.links:
            if link.upstream is upstream:
                link.part("another upstream answers what this one refuses")

    def hedged_answer(self, query: Query, link: Link, now: float) -> None:
        """A query that was asked on two links got its answer, on ``link``."""
        loser = self.hedge.answered(query, link)
        if loser is not None:
            self.unsent.extendleft(reversed(self.hedge.scatter(loser, now)))

    def _find_spares(self, trusted: list[Link]) -> None:
        serving: dict[Path, Link] = {}
        for link in trusted:
            serving.setdefault(link.path, link)
        for link in self.links:
            link.spare = not link.limited and serving.get(link.path, link) is not link

    def _gather(self, path: Path) -> None:
        """One connection is enough again."""
        links = [link for link in self.links if link.path is path and not link.goodbye]
        links.sort(key=lambda link: not link.trusted)
        for link in links[1:]:
            link.part("one connection is enough again")

    def link_started(self, link: Link) -> None:
        self.dialer.attempts.append(link)
        link.upstream.counts["connections"] += 1

    def link_opened(self, link: Link, now: float) -> list[Link]:
        """The peer is authenticated. Return the attempts that are no longer needed."""
        self.dialer.attempts.remove(link)
        link.trial = link.trial or (link.upstream.benched and link.upstream.ready(now))
        link.note_open(now)
        link.upstream.prefer(link.address)
        self.links.append(link)
        self.links.sort(key=self._rank_of)
        self._in_turn = len(self.links)
        self.unsorted = True
        if link.trial:
            return []
        return self._promote(link, now)

    def trial_passed(self, link: Link, now: float) -> list[Link]:
        """The link has answered our question: clients' queries may go there."""
        link.trial = False
        return self._promote(link, now)

    def _promote(self, link: Link, now: float) -> list[Link]:
        link.settle()
        link.path.retry_at = 0.0
        link.upstream.trials.recover()
        link.upstream.benched, link.upstream.refusals = False, 0
        rank = self._rank_of(link)
        if self._strategy == "ordered":
            for better in self.upstreams[:rank]:
                if not any(one.upstream is better and one.trusted for one in self.links):
                    self.dialer.bench(better, now)
            for other in self.links:
                if self._rank_of(other) > rank:
                    other.part(f"{link.upstream} comes first")
        attempts = self.dialer.attempts
        surplus = [attempt for attempt in attempts if self._in_vain(attempt, link, rank)]
        self.dialer.attempts = [attempt for attempt in attempts if attempt not in surplus]
        return surplus

    def _in_vain(self, attempt: Link, opened: Link, rank: int) -> bool:
        """True when nobody needs ``attempt`` now that ``opened`` is open."""
        if opened.upstream in attempt.upstream.fetches_for:
            return True
        if attempt.upstream is opened.upstream:
            return not (attempt.address == opened.address and opened.path.limited)
        return self._strategy == "ordered" and self._rank_of(attempt) > rank and not self.opinions.waiting

    def link_ended(self, link: Link, reason: str, now: float, *, failed: bool, by_peer: bool = False) -> None:
        """The link is gone. What was in flight on it waits again, first in line."""
        if link in self.dialer.attempts:
            self.dialer.attempts.remove(link)
        if link in self.links:
            self.links.remove(link)
            self._in_turn = len(self.links)
            self._sent_before += link.sent
            if link.upstream.volatile and all(one.upstream is not link.upstream for one in self.links):
                link.upstream.addresses = []  # to be looked up for the next connection
        if link.probe:
            self._pending.drop(link.probe)
        if link.upstream.fetches_for:
            for other in (*self.dialer.attempts, *self.links):
                if other.upstream in link.upstream.fetches_for:
                    other.codec.deadline = now  # there may be a certificate
        lost = self._let_go(link)
        if link.answered:
            link.path.failures = 0
        elif failed and not (lost and lost[0].losses):
            self.dialer.blame(link, now)
        if by_peer and link.opened:
            self._note_close(link, lost, now)
        elif link.doubt == DOUBTED and not link.stirred:
            self._note_silence(link, now)
        if failed and not (link.goodbye and link.doubt == DOUBTED):
            link.upstream.reason = self.dialer.reason = f"{link.upstream}: {reason}"
        done = link.path.capacity and link.answered >= link.path.capacity
        self._again(lost, now, hung_up=by_peer and not done)

    def _let_go(self, link: Link) -> list[Query]:
        """Return the queries that are on no other link."""
        lost = []
        for query in self._pending.written_to(link):
            if query.link is link:
                query.link = None if query.other is link else query.other
            query.other = None
            if query.link is None and not isinstance(query, Probe):
                lost.append(query)
        return lost

    def _note_close(self, link: Link, lost: list[Query], now: float) -> None:
        if lost or (now < link.heard + AT_ONCE and link.answered):
            if not lost or any(not query.losses for query in lost):  # else a suspect is why
                link.path.note_hang_up(link.answered, now)
        elif not link.inflight:
            link.upstream.counts["idle_closes"] += 1
            link.path.note_idle_close(now - link.busy_at, now)

    @staticmethod
    def _note_silence(link: Link, now: float) -> None:
        """Nothing at all has come from it any more."""
        link.upstream.counts["silent"] += 1
        if link.idle_before >= IDLE:
            link.path.note_idle_death(link.idle_before, now)
        elif link.answered and link.outdone:
            link.path.note_stall(False, now)

    def _again(self, lost: list[Query], now: float, *, hung_up: bool) -> None:
        """Queue the queries of a dead link, oldest first, once more."""
        if not lost:
            return
        if not hung_up:
            self.unsent.extendleft(reversed(lost))
            return
        suspect = lost[0]
        suspect.losses += 1
        self.unsent.extendleft(reversed(lost[1:]))
        if suspect.losses == 1:
            self.unsent.append(suspect)
        else:
            self.suspects.append((now + SUSPECT_REST * 2 ** min(suspect.losses - 2, 8), suspect))

    def _release_suspects(self, now: float) -> None:
        self.unsent.extend(query for when, query in self.suspects if when <= now)
        self.suspects = [(when, query) for when, query in self.suspects if when > now and self._pending.holds(query)]
        for when, _ in self.suspects:
            self._look_again(when)

    def forget_blame(self) -> None:
        """The machine slept, or its network changed: what failed before says nothing now."""
        for upstream in self.upstreams:
            upstream.forgive()

    def _look_again(self, at: float) -> None:
        self.deadline = min(self.deadline, at)

    def _rank_of(self, link: Link) -> int:
        one = link.upstream
        return self.upstreams.index(one.fetches_for[0] if one.fetches_for else one)
