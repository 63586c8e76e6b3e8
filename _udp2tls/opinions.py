"""SERVFAIL and REFUSED are believed when every upstream says so.

Owns the queries that one upstream has refused and that wait for another's opinion. What
was said is kept with the query, so that it can be handed over when nobody knows better.

A refusal that says it is a matter of policy (RFC 8914: blocked, censored, filtered,
prohibited) is an answer: asking around would defeat the filter that somebody chose.
"""

from __future__ import annotations

from collections.abc import Sequence

from _udp2tls import edns
from _udp2tls.link import Link
from _udp2tls.pending import Pending, Probe, Query
from _udp2tls.upstream import Upstream

# So many refusals in a row, which another upstream did not share, put an upstream on the bench.
REFUSALS = 3

# Extended errors of RFC 8914 sections 4.16 to 4.19.
POLICY = frozenset((15, 16, 17, 18))


class Opinions:
    """See the file's docstring."""

    def __init__(self, upstreams: Sequence[Upstream], pending: Pending) -> None:
        self.waiting: list[Query] = []
        self._upstreams = upstreams
        self._pending = pending

    def refused(self, query: Query, answer: bytes, link: Link, links: Sequence[Link]) -> bool:
        """``link`` brought a refusal; True when another upstream will be asked, and the query waits on."""
        link.upstream.counts["refused"] += 1
        if len(self._upstreams) == 1 or isinstance(query, Probe) or edns.extended_error(answer, query.end) in POLICY:
            return False
        if link is not query.link and link is not query.other:
            return True  # it was taken off this link before
        query.refusals = query.refusals or []
        query.refusals.append((link.upstream, answer))
        if len(query.refusals) == 1 and query.other is None and self._next(query, links) is None:
            return False
        link.inflight -= 1
        query.link, query.other = query.other if link is query.link else query.link, None
        if query.link is not None:
            return True  # its other link may know better
        link.upstream.refusals += 1
        self.waiting.append(query)
        return True

    def cut_short(self, query: Query, answer: bytes, link: Link) -> None:
        """``link`` brought an answer with TC set; the same resolver is asked over TCP. That is no refusal."""
        if link is not query.link and link is not query.other:
            return
        query.refusals = query.refusals or []
        query.refusals.append((link.upstream, answer))
        link.inflight -= 1
        query.link, query.other = query.other if link is query.link else query.link, None
        if query.link is None:
            self.waiting.append(query)

    def _next(self, query: Query, links: Sequence[Link]) -> Upstream | None:
        """Return the upstream to ask next: the most preferred that has said nothing yet and is not out of reach."""
        asked = [upstream for upstream, _ in query.refusals or ()]
        for upstream, answer in query.refusals or ():
            if answer[2] & 2 and upstream.twin is not None and upstream.twin not in asked:
                return upstream.twin
        asked += [upstream.twin for upstream in asked if upstream.twin]
        for upstream in self._upstreams:
            if upstream not in asked:
                out_of_reach = upstream.addresses and all(upstream.path_of(a).failures for a in upstream.addresses)
                if not out_of_reach or any(link.upstream is upstream for link in links):
                    return upstream
        return None

    def wanted(self, links: Sequence[Link]) -> list[Upstream]:
        """Return the upstreams that queries wait for and that have no link."""
        connected = [link.upstream for link in links if link.trusted]
        wanted = dict.fromkeys(self._next(query, links) for query in self.waiting if self._pending.holds(query))
        return [one for one in wanted if one is not None and one not in connected]

    def take(self, links: Sequence[Link]) -> tuple[list[tuple[Link, list[Query]]], list[Query]]:
        """Return (queries to ask on certain links now, queries that nobody else can be asked); the rest waits on."""
        ask: dict[int, tuple[Link, list[Query]]] = {}
        settled: list[Query] = []
        later: list[Query] = []
        for query in self.waiting:
            if not self._pending.holds(query):
                continue
            upstream = self._next(query, links)
            if upstream is None:
                settled.append(query)
                continue
            link = next((one for one in links if one.upstream is upstream and one.usable), None)
            if link is None:
                later.append(query)
            else:
                ask.setdefault(id(link), (link, []))[1].append(query)
        self.waiting = later
        return list(ask.values()), settled
