"""What is connected to, in which order and how soon; what rests, what is tried again, what is on trial."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from _udp2tls.config import Endpoint, parse_upstream
from _udp2tls.dialer import (
    FIRST_TRIAL,
    HANDOVER,
    LONGEST_TRIAL,
    MAX_ATTEMPTS,
    REATTEMPT,
    RECENT,
    STAGGER,
    Call,
    Dialer,
)  # fmt: skip
from _udp2tls.link import DOUBTED, Link
from _udp2tls.path import SPREAD
from _udp2tls.upstream import Upstream
from tests.fakes import PlainUpstream

A = Endpoint("192.0.2.1", 853)
B = Endpoint("192.0.2.2", 853)


class Phone:
    """A Dialer, its upstreams and its open links."""

    def __init__(self, count: int = 2, *, everyone: bool = False) -> None:
        urls = [f"tls://192.0.2.{number}" for number in range(1, count + 1)]
        self.upstreams: list[Upstream] = [PlainUpstream(parse_upstream(url)) for url in urls]
        self.dialer = Dialer(self.upstreams, random.Random(1), everyone=everyone)
        self.links: list[Link] = []
        self.now = 100.0

    def plan(self, *, need: bool = False, more: int = 0, elsewhere: tuple[Upstream, ...] = ()) -> list[Call]:
        """Begin what is planned."""
        calls, look_up = self.dialer.plan(self.links, self.now, need=need, more=more, elsewhere=elsewhere)
        assert not look_up
        for upstream, address, trial in calls:
            self.dialer.attempts.append(Link(upstream, address, upstream.codec(), self.now, trial=trial))
        return calls

    def open(self, number: int) -> Link:
        """Have an open link to an upstream, just used."""
        upstream = self.upstreams[number]
        link = Link(upstream, upstream.addresses[0], upstream.codec(), self.now)
        link.note_open(self.now)
        self.links.append(link)
        return link


def test_nothing_is_connected_to_without_need() -> None:
    phone = Phone()
    assert phone.plan() == []
    assert phone.dialer.deadline == math.inf


def test_a_hanging_attempt_hands_over_and_gets_another_beside_it() -> None:
    phone = Phone(1)
    assert phone.plan(need=True) == [(phone.upstreams[0], A, False)]
    phone.now += REATTEMPT - 0.01
    assert phone.plan(need=True) == []
    phone.now = phone.dialer.deadline
    assert phone.plan(need=True) == [(phone.upstreams[0], A, False)]
    for _ in range(10):
        phone.now += REATTEMPT
        phone.plan(need=True)
    assert len(phone.dialer.attempts) == MAX_ATTEMPTS


def test_the_next_upstream_starts_when_all_addresses_of_the_first_had_their_time() -> None:
    phone = Phone()
    six = Endpoint("2001:db8::1", 853)
    phone.upstreams[0].addresses = [six, A]
    started: list[tuple[Endpoint, float]] = []
    while len(started) < 3:
        started += [(address, round(phone.now - 100.0, 3)) for _, address, _ in phone.plan(need=True)]
        phone.now = max(phone.now, phone.dialer.deadline)
    assert started == [(six, 0.0), (A, STAGGER), (B, STAGGER + HANDOVER)]


def test_an_upstream_on_the_bench_is_tried_last() -> None:
    phone = Phone()
    phone.dialer.bench(phone.upstreams[0], phone.now)
    assert [address for _, address, _ in phone.plan(need=True)] == [B]


def test_better_upstreams_are_tried_again_while_queries_flow_at_most_once_a_second() -> None:
    phone = Phone()
    link = phone.open(1)
    phone.dialer.bench(phone.upstreams[0], phone.now)
    trials = []
    for _ in range(400):
        link.heard = phone.now
        for upstream, _, trial in phone.plan():
            assert upstream is phone.upstreams[0]
            assert trial
            trials.append(phone.now - 100.0)
            phone.dialer.attempts.clear()  # it failed at once
        phone.now += 0.1
    gaps = [later - earlier for earlier, later in pairwise(trials)]
    assert trials[0] >= FIRST_TRIAL
    assert min(gaps) >= FIRST_TRIAL
    assert max(gaps) <= LONGEST_TRIAL + 0.2
    assert len(trials) >= 6


def test_nothing_is_on_trial_when_nobody_asks() -> None:
    phone = Phone()
    phone.open(1)
    phone.now += RECENT + 0.1
    assert phone.plan() == []
    assert phone.dialer.deadline == math.inf


def test_one_trial_at_a_time() -> None:
    phone = Phone()
    link = phone.open(1)
    assert len(phone.plan()) == 1
    phone.now += LONGEST_TRIAL + 1
    link.heard = phone.now
    assert phone.plan() == []


def test_worse_upstreams_are_not_tried_when_the_first_is_in_use() -> None:
    phone = Phone(3)
    phone.open(0)
    assert phone.plan() == []


def test_with_rotate_or_fastest_everyone_is_connected() -> None:
    phone = Phone(3, everyone=True)
    phone.open(1)
    assert [upstream for upstream, _, _ in phone.plan()] == [phone.upstreams[0], phone.upstreams[2]]


def test_links_that_take_one_query_at_a_time_get_company_up_to_a_limit() -> None:
    phone = Phone(1)
    link = phone.open(0)
    link.path.width = 1
    assert len(phone.plan(more=3)) == 3
    assert len(phone.plan(more=3)) == 0, "three are on their way"
    assert len(phone.plan(more=100)) == SPREAD - 1 - 3


def test_an_upstream_wanted_in_particular_is_connected_to_unless_it_rests() -> None:
    phone = Phone()
    phone.open(0)
    second = phone.upstreams[1]
    assert phone.plan(elsewhere=(second,)) == [(second, B, False)]
    phone.dialer.blame(phone.dialer.attempts.pop(), phone.now)
    assert phone.plan(elsewhere=(second,)) == []
    assert phone.dialer.deadline == second.path_of(B).retry_at


class Sockets(PlainUpstream):
    """Datagrams, and a greeting that is over: what opens by itself."""

    datagrams = True

    def ready(self, now: float) -> bool:
        return True


def test_what_opens_by_itself_and_was_silent_is_on_trial_however_much_it_is_needed() -> None:
    phone = Phone(2)
    phone.upstreams[0] = phone.dialer.upstreams[0] = Sockets(parse_upstream("tls://192.0.2.1"))
    assert phone.plan(need=True) == [(phone.upstreams[0], A, False)]
    phone.dialer.attempts.clear()
    phone.dialer.bench(phone.upstreams[0], phone.now)
    assert phone.plan(need=True) == [(phone.upstreams[1], B, False)]
    phone.now += HANDOVER
    assert phone.plan(need=True) == [(phone.upstreams[0], A, True)]
    link = phone.dialer.attempts.pop()
    link.note_open(phone.now)
    phone.links.append(link)
    phone.now += HANDOVER
    assert phone.plan(need=True) == [], "one is enough"


def test_a_name_whose_addresses_cannot_be_used_is_looked_up_again_later() -> None:
    phone = Phone(1)
    (one,) = phone.upstreams
    one.addresses = []
    one.found = lambda hosts: "nobody wants them"  # type: ignore[method-assign]
    assert phone.dialer.plan([], phone.now, need=True)[1] == [one]
    assert phone.dialer.name_found(one, ["192.0.2.1"], "", phone.now) == "nobody wants them"
    assert phone.dialer.plan([], phone.now, need=True)[1] == []
    assert phone.now < phone.dialer.deadline < math.inf
    assert "nobody wants them" in phone.dialer.reason
    phone.now = phone.dialer.deadline
    assert phone.dialer.plan([], phone.now, need=True)[1] == [one]


def test_better_upstreams_are_tried_again_from_one_that_takes_one_query_a_connection() -> None:
    phone = Phone()
    phone.dialer.bench(phone.upstreams[0], phone.now)
    phone.now += FIRST_TRIAL
    only = phone.open(1)
    only.path.capacity, only.sent, only.inflight = 1, 1, 1
    only.note_limits()
    assert not only.trusted
    assert phone.plan() == [(phone.upstreams[0], A, True)]


def test_an_upstream_that_is_silent_on_two_connections_is_left_for_another() -> None:
    phone = Phone(2)
    phone.open(0).doubt = DOUBTED
    assert phone.plan(need=True) == [(phone.upstreams[0], A, False)]
    phone.dialer.attempts.clear()
    phone.open(0).doubt = DOUBTED
    assert phone.plan(need=True) == [(phone.upstreams[1], B, False)]
    alone = Phone(1)
    for _ in range(2):
        alone.open(0).doubt = DOUBTED
    assert alone.plan(need=True) == [(alone.upstreams[0], A, False)]


def test_silence_over_tcp_says_nothing_of_udp_at_the_same_address() -> None:
    phone = Phone(1)
    other = PlainUpstream(parse_upstream("tls://192.0.2.1"))
    other.datagrams = True
    phone.dialer.upstreams.append(other)
    for _ in range(MAX_ATTEMPTS):
        phone.open(0).doubt = DOUBTED
    assert phone.plan(need=True) == [(other, A, False)]


def test_an_upstream_on_trial_is_not_connected_to_once_more() -> None:
    phone = Phone(1)
    phone.open(0).trial = True
    assert phone.plan(need=True) == []


def test_a_connection_given_up_for_a_better_one_puts_nobody_on_trial() -> None:
    phone = Phone()
    old = phone.open(1)
    old.inflight = 1
    old.part("the first comes first")
    assert phone.plan() == []
