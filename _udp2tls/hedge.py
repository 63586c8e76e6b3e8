"""Asking once more: which queries on a doubted link are also sent on another one.

Owns the budget. A few queries are asked twice, as many as the budget allows; the first
valid answer wins. If the other link gives it, the doubted link is given up, and all that
it still holds goes to the other.

The oldest query on a doubted link goes last, half a second later: on a server that works
on one query at a time it is the slow name that everyone else waits behind, and would only
block the other connection as well.

A query may end up on two silent connections. To a third it goes when that is another
upstream's, or one of the two is known to be dead: not from one connection to the next of
an upstream that is silent on all. It then counts as on the later of the two alone.

It must never double the traffic of an upstream that is merely slow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from _udp2tls.link import DOUBTED, HEAD_LIMIT, Link
from _udp2tls.path import MANY
from _udp2tls.pending import Pending, Probe, Query

# Queries asked twice without proof that they must be: one in a hundred, or one in ten
# seconds, saved up to ten.
BUDGET, PER_QUERY, PER_SECOND = 10.0, 0.01, 0.1


class Hedge:
    """See the file's docstring. ``deadline`` is when ``repeat`` has something new to say."""

    def __init__(self, pending: Pending) -> None:
        self.deadline = math.inf
        self.budget = BUDGET
        self._pending = pending
        self._reckoned_at = 0.0
        self._sent = 0  # queries until then

    def repeat(self, links: Sequence[Link], now: float) -> tuple[Link, list[Query]] | None:
        """Return queries to send once more, and where; call until it returns None."""
        self.deadline = math.inf
        for link in links:
            if link.doubt == DOUBTED and link.inflight:
                other = next((one for one in links if one is not link and one.usable), None)
                if other is None:
                    return None
                queries = self._choose(link, other, now)
                if queries:
                    name = "resent" if link.goodbye else "hedged"
                    link.upstream.counts[name] += len(queries)
                    for query in queries:
                        if query.other is not None:
                            _release(query.other)
                        query.other = link
                    return other, queries
        return None

    def _choose(self, link: Link, target: Link, now: float) -> list[Query]:
        room = target.room()
        written = [query for query in self._pending.written_to(link) if not isinstance(query, Probe)]
        held = [one for one in written if one.link is link and (one.other is None or _goes_on(one, one.other, target))]
        head_until = link.quiet_since + HEAD_LIMIT
        if held and held[0] is link.sample and now < head_until and (len(written) > 1 or link.goodbye):
            self.deadline = min(self.deadline, head_until)
            held.pop(0)
        if link.goodbye:
            return held[:room]
        proven = [query for query in held if query.other is not None and query.other.outdone][:room]
        chosen = [query for query in held if query not in proven][: min(room - len(proven), int(self.budget))]
        self.budget -= len(chosen)
        return proven + chosen

    def scatter(self, link: Link, now: float) -> list[Query]:
        """Return what ``link``, given up, still holds alone but for its oldest query, if that is a lot.

        They are taken off it, to go over several connections at once: whatever held them up
        there, one more queue would cost the last of them as much again.
        """
        written = [query for query in self._pending.written_to(link) if not isinstance(query, Probe)]
        stuck = [query for query in written if query.link is link and query.other is None and query is not link.sample]
        if len(stuck) < MANY:
            return []
        for query in stuck:
            query.link = None
        link.inflight -= len(stuck)
        link.path.scatter(now)
        link.upstream.counts["resent"] += len(stuck)
        return stuck

    def earn(self, sent: int, now: float) -> None:
        """Add to the budget what time and traffic have earned; ``sent`` counts all queries so far."""
        earned = (now - self._reckoned_at) * PER_SECOND + (sent - self._sent) * PER_QUERY
        self.budget = min(BUDGET, self.budget + max(0.0, earned))
        self._reckoned_at, self._sent = now, sent

    def note_doubt(self, link: Link) -> None:
        """The link is doubted: remember its oldest query, to know later whether the others waited for that one."""
        written = self._pending.written_to(link)
        link.sample = next((query for query in written if not isinstance(query, Probe)), None)

    def answered(self, query: Query, link: Link) -> Link | None:
        """A query that was asked on two links got its answer, on ``link``; return a link that is given up for it."""
        for one in (query.link, query.other):
            if one is not None:
                one.inflight -= 1
        loser = query.other if link is query.link else None
        if loser is not None and loser.doubt == DOUBTED and not loser.goodbye:
            loser.outdone = True
            loser.part("silent, and its queries were answered on another connection")
            if loser.probe is not None and self._pending.drop(loser.probe):
                loser.inflight -= 1
            return loser
        return None


def _goes_on(query: Query, other: Link, target: Link) -> bool:
    """True when a query on two silent connections, ``other`` the first, is to be asked on a third."""
    elsewhere = query.link is not None and target.upstream not in (query.link.upstream, other.upstream)
    return other.doubt == DOUBTED and (other.outdone or elsewhere)


def _release(link: Link) -> None:
    """One query less is waited for on a silent link; if that was the last, on the link as well."""
    link.inflight -= 1
    if not link.inflight:
        link.part("silent, and its queries are asked on other connections")
