"""Which connections to open: to which upstream, to which of its addresses, and when.

Owns the attempts under way. It has no socket and no clock: ``plan`` says what to connect
to now, and ``deadline`` is when it has something new to say.

The rules:

- Nothing is opened before a query needs it.
- Upstreams are tried in order, those on the bench last. Within one, addresses start
  250 ms apart (RFC 8305 section 8); the next upstream starts when every address of the one
  before has failed, or has had ``HANDOVER`` seconds.
- A silent server is not piled up with connections: three at a time, until one of them ends.
- An attempt that hangs gets another beside it after a second, for its first packet may
  have been lost in an outage that is over by now.
- A failed attempt makes its address rest, longer each time; an answer ends that.
- An upstream that another had to stand in for goes on the bench. While queries flow it is
  tried again, after one second, then two, up to eight: a *trial* connection that must
  answer a question of our own before it gets a client's.
- Who stands in for another (DNSCrypt over TCP for that over UDP) is kept connected with the
  rest only while that one is *out*.
- Where the user allows it, a server is asked itself for its certificate (see ``direct``): when all ways
  to it through relays are out, and one lacks it. A relay that says nothing gets ``LAST_RESORT`` seconds
  for that; one that refuses connections is no reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random

from _udp2tls.config import Endpoint
from _udp2tls.link import DOUBTED, Link
from _udp2tls.path import SPREAD
from _udp2tls.upstream import Upstream

# RFC 8305 section 8: the connection attempt delay.
STAGGER = 0.25

# How long the addresses of an upstream may stay silent before the next upstream is tried too.
HANDOVER = 0.25

# A SYN that got lost is sent again after one second, then three: by then another one is faster.
# Attempts and silent connections at once to one address; it is given up when those are.
# Of UDP sockets one is enough: the codec itself sends again. Where there is another upstream
# to turn to, two connections to which it said nothing are.
REATTEMPT, MAX_ATTEMPTS, MAX_BESIDE_OTHERS = 1.0, 3, 2

# One name look-up that finds nothing is given up after this, as a connection would be.
LOOKUP_LIMIT = 3.5

# How long relays may stay silent before their server is asked for its certificate directly: by then the query
# for it went out three times over UDP, and over TCP.
LAST_RESORT = 1.5

# How long after the last query its connection counts as in use, and better ones are tried for.
RECENT = 2.0

# Between trials of an upstream on the bench: at most one a second.
FIRST_TRIAL, LONGEST_TRIAL = 1.0, 8.0

# What to connect to: upstream, address, and whether it is a trial.
Call = tuple[Upstream, Endpoint, bool]


class Dialer:
    """See the file's docstring. ``everyone`` keeps all upstreams connected while queries flow (rotate, fastest)."""

    def __init__(self, upstreams: Sequence[Upstream], random: Random, *, everyone: bool = False) -> None:
        self.upstreams = list(upstreams)
        self.attempts: list[Link] = []  # connecting
        self.deadline = math.inf
        self.reason = "no connection was tried yet"
        self._everyone = everyone
        self._fetchers = [fetcher for one in self.upstreams for fetcher in one.fetchers]
        # Open links on which nothing is heard. The same address may be two upstreams': UDP and TCP.
        self._silent: Counter[tuple[Upstream, Endpoint]] = Counter()
        self._random = random

    def plan(
        self, links: Sequence[Link], now: float, *, need: bool, more: int = 0, elsewhere: Iterable[Upstream] = (),
        waiting: bool = False,
    ) -> tuple[list[Call], list[Upstream]]:  # fmt: skip
        """Return (what to connect to now, whose name to look up now) and set ``deadline``.

        ``links`` are the open ones, most preferred first. ``need``: queries wait for another
        link. ``more``: so many wait for links of which each takes few. ``elsewhere``: upstreams
        that queries wait for in particular. ``waiting``: a query waits for any link. Call after
        every event and at ``deadline``.
        """
        calls: list[Call] = []
        look_up: list[Upstream] = []
        self.deadline = math.inf
        silent = [link for link in links if link.doubt == DOUBTED and not link.goodbye]
        self._silent = Counter((link.upstream, link.address) for link in silent)
        if need:
            self._plan_needed(links, calls, look_up, now)
        elif more:
            self._plan_more(links, more, calls, now)
        for upstream in elsewhere:
            self._call_one(upstream, calls, look_up, now, trial=False)
        if links:
            self._plan_trials(links, calls, look_up, now)
        for fetcher in self._fetchers:
            self._plan_fetch(fetcher, links, calls, now, urgent=need or waiting)
        return calls, look_up

    def _plan_needed(self, links: Sequence[Link], calls: list[Call], look_up: list[Upstream], now: float) -> None:
        on_trial = [link.upstream for link in links if link.trial and not link.goodbye]
        for upstream in sorted(self.upstreams, key=lambda one: one.benched):
            if upstream in on_trial:
                continue
            if not upstream.addresses:
                if self._wait_for_name(upstream, look_up, now):
                    return
                continue
            began = [link.started for link in self._attempts_of(upstream)]
            address = self._next_address(upstream, began, now)
            if address:
                # A UDP socket for which there is a certificate opens whatever is at its other end.
                unproven = upstream.benched and upstream.datagrams and upstream.ready(now)
                calls.append((upstream, address, unproven))
                self._look_again(now + STAGGER)
                return
            if began and now < max(began) + HANDOVER:
                self._look_again(max(began) + HANDOVER)
                return

    def _plan_more(self, links: Sequence[Link], more: int, calls: list[Call], now: float) -> None:
        """Open further connections beside links that take one query, or few, at a time."""
        upstream, address, path = links[0].upstream, links[0].address, links[0].path
        held = sum(link.address == address for link in (*links, *self.attempts))
        under_way = sum(link.address == address for link in self.attempts)
        if path.retry_at > now:
            self._look_again(path.retry_at)
        else:
            calls += [(upstream, address, False)] * max(0, min(more - under_way, SPREAD - held))

    def _plan_trials(self, links: Sequence[Link], calls: list[Call], look_up: list[Upstream], now: float) -> None:
        in_use = next((link for link in links if link.trusted), None)
        if in_use is None:  # a server that takes one query a connection has none that will take another
            full = [link for link in links if link.path.capacity and link.inflight and not link.trial]
            in_use = next((link for link in full if link.doubt < DOUBTED), None)
        if in_use is None:
            return
        if self._everyone:
            connected = {link.upstream for link in links}
            missing = [
                one for one in self.upstreams if one not in connected
                and (one.stands_in_for is None or self.out(one.stands_in_for, links, now))
            ]  # fmt: skip
        else:
            missing = self.upstreams[: self.upstreams.index(in_use.upstream)]
        if not missing or max(link.busy_at for link in links) + RECENT < now:
            return
        for upstream in missing:
            if any(link.upstream is upstream for link in (*links, *self.attempts)):
                continue
            if upstream.trials.retry_at > now:
                self._look_again(upstream.trials.retry_at)
                continue
            self._trial_failed(upstream, now)  # until it has succeeded
            self._call_one(upstream, calls, look_up, now, trial=upstream.benched or not self._everyone)

    def _trial_failed(self, upstream: Upstream, now: float) -> None:
        trials = upstream.trials
        trials.retry_at = now + min(LONGEST_TRIAL, FIRST_TRIAL * 2 ** min(trials.failures, 8))
        trials.failures += 1
        self._look_again(trials.retry_at)

    def _call_one(
        self, upstream: Upstream, calls: list[Call], look_up: list[Upstream], now: float, *, trial: bool
    ) -> None:
        if not upstream.addresses:
            self._wait_for_name(upstream, look_up, now)
            return
        began = [link.started for link in self._attempts_of(upstream)]
        address = self._next_address(upstream, began, now)
        if address:
            calls.append((upstream, address, trial))

    def bench(self, upstream: Upstream, now: float) -> None:
        """Others had to stand in for it."""
        if not upstream.benched:
            upstream.benched = True
            upstream.trials.failures = 0
            upstream.trials.retry_at = now + FIRST_TRIAL

    def out(self, upstream: Upstream, links: Sequence[Link], now: float) -> bool:
        """True when others have to stand in for it: it is silent, on the bench, or cannot be connected to."""
        own = [link for link in links if link.upstream is upstream and not link.trial]
        if own or upstream.benched:
            return not any(link.trusted for link in own)
        began = [link.started for link in self._attempts_of(upstream)]
        if began and now < min(began) + HANDOVER:
            self._look_again(min(began) + HANDOVER)
            return False
        return bool(began) or any(path.failures for path in upstream.paths.values())

    def _plan_fetch(
        self, fetcher: Upstream, links: Sequence[Link], calls: list[Call], now: float, *, urgent: bool
    ) -> None:
        """Ask a server itself for its certificate when no way through a relay is left."""
        if fetcher.ready(now) or not (urgent or self._worth_a_trial(fetcher, links, now)):
            return
        if fetcher.stands_in_for is not None and not self.out(fetcher.stands_in_for, links, now):
            return
        ways = fetcher.fetches_for
        if not all(self._is_lost(way, links, now) for way in ways):
            return
        since = [link.started for link in self.attempts if link.upstream in ways]
        if since and now < min(since) + LAST_RESORT:
            self._look_again(min(since) + LAST_RESORT)
            return
        if not since and not any(self._hung_up(way) for way in ways):
            return
        began = [link.started for link in self._attempts_of(fetcher)]
        if not urgent:
            if began:
                return
            if fetcher.trials.retry_at > now:
                self._look_again(fetcher.trials.retry_at)
                return
            self._trial_failed(fetcher, now)
        if address := self._next_address(fetcher, began, now):
            calls.append((fetcher, address, False))

    def _worth_a_trial(self, fetcher: Upstream, links: Sequence[Link], now: float) -> bool:
        """True while queries flow elsewhere that the server would have a part of."""
        in_use = next((link.upstream for link in links if link.trusted), None)
        if in_use is None or max(link.busy_at for link in links) + RECENT < now:
            return False
        order = self.upstreams.index
        return self._everyone or order(fetcher.fetches_for[0]) <= order(in_use)

    def _is_lost(self, way: Upstream, links: Sequence[Link], now: float) -> bool:
        """True when a way through a relay brings no certificate, or nothing at all."""
        if not way.addresses:
            return way.lookup.failures > 0
        if not way.ready(now) and any(link.upstream is way for link in links):
            return True  # the certificate that it opened with is over
        return self.out(way, links, now)

    @staticmethod
    def _hung_up(way: Upstream) -> bool:
        """True when a relay took a connection and brought nothing: it is there.

        Where connections are refused a certificate is of no use, and the network may be down.
        """
        return not way.datagrams and any(path.trip and path.failures for path in way.paths.values())

    def _attempts_of(self, upstream: Upstream) -> list[Link]:
        return [link for link in self.attempts if link.upstream is upstream]

    def _next_address(self, upstream: Upstream, began: list[float], now: float) -> Endpoint | None:
        most = 1 if upstream.datagrams else MAX_ATTEMPTS
        enough = MAX_BESIDE_OTHERS if len(self.upstreams) > 1 else most
        for address in upstream.addresses:
            tries = [link.started for link in self.attempts if link.address == address and link.upstream is upstream]
            silent = self._silent[upstream, address]
            rest_until = upstream.path_of(address).retry_at
            if rest_until > now:
                self._look_again(rest_until)
            elif silent >= enough or len(tries) + silent >= most:
                continue
            elif tries and max(tries) + REATTEMPT > now:
                self._look_again(max(tries) + REATTEMPT)
            elif began and max(began) + STAGGER > now:
                self._look_again(max(began) + STAGGER)
            else:
                return address
        return None

    def _wait_for_name(self, upstream: Upstream, look_up: list[Upstream], now: float) -> bool:
        """Start a look-up if one is due; True while it deserves to be waited for."""
        if not upstream.looking_up:
            if upstream.lookup.retry_at > now:
                self._look_again(upstream.lookup.retry_at)
                return False
            upstream.looking_up = True
            upstream.lookup.retry_at = now + LOOKUP_LIMIT
            self.reason = f"{upstream}: its address was not found yet"
            look_up.append(upstream)
        handover = upstream.lookup.retry_at - LOOKUP_LIMIT + HANDOVER
        if now < handover:
            self._look_again(handover)
            return True
        return False

    def _look_again(self, at: float) -> None:
        self.deadline = min(self.deadline, at)

    def name_found(self, upstream: Upstream, hosts: list[str], reason: str, now: float) -> str:
        """A look-up ended: with addresses, or with the reason why not. Return why there are none to use."""
        upstream.looking_up = False
        reason = upstream.found(hosts) if hosts else reason
        if reason or not hosts:
            upstream.lookup.fail(now, self._random)
            upstream.reason = self.reason = f"{upstream}: {reason}"
        else:
            upstream.lookup.recover()
        return reason

    def blame(self, link: Link, now: float) -> None:
        """A connection that never answered, or never opened, has ended: its address rests."""
        upstream = link.upstream
        link.path.fail(now, self._random)
        if not upstream.spec.literal and all(upstream.path_of(a).failures for a in upstream.addresses):
            upstream.addresses = []  # perhaps the name means other addresses by now
            upstream.lookup.retry_at = link.path.retry_at
