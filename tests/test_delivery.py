"""Delivery: which connections are opened when, and where queries go when one dies."""

from __future__ import annotations

import random

import pytest

from _udp2tls import delivery as rules
from _udp2tls.codec import Codec
from _udp2tls.config import Endpoint, parse_upstream
from _udp2tls.delivery import Delivery
from _udp2tls.dialer import HANDOVER, LOOKUP_LIMIT, STAGGER
from _udp2tls.link import Link
from _udp2tls.path import FIRST_REST, LONGEST_REST, SPREAD
from _udp2tls.pending import Pending, Query
from _udp2tls.upstream import Upstream
from tests.fakes import PlainUpstream, answer, query

A = Endpoint("192.0.2.1", 853)
B = Endpoint("192.0.2.2", 853)
SIX = Endpoint("2001:db8::1", 853)
TCP1_AT = B


class House:
    """A Delivery, its table, and a way to say what happens."""

    def __init__(self, *urls: str, strategy: str = "ordered", twins: bool = False) -> None:
        self.pending = Pending(4.0, random.Random(1))
        self.upstreams = [PlainUpstream(parse_upstream(url)) for url in urls or ("tls://192.0.2.1",)]
        if twins:
            for first, second in zip(self.upstreams[::2], self.upstreams[1::2]):
                first.twin, second.stands_in_for = second, first
        self.delivery = Delivery(self.upstreams, self.pending, random.Random(1), strategy)
        self.now = 100.0
        self.asked = 0

    def ask(self) -> Query:
        self.asked += 1
        waiting = self.pending.add(query(id=self.asked), (lambda *_: None, None), self.now)
        assert waiting
        self.delivery.unsent.append(waiting)
        return waiting

    def plan(self) -> list[Link]:
        """Start what is planned; name look-ups are not expected."""
        connect, look_up = self.delivery.plan(self.now)
        assert not look_up
        return [self.start(*call) for call in connect]

    def start(self, upstream: Upstream, address: Endpoint, trial: bool = False) -> Link:
        link = Link(upstream, address, upstream.codec(), self.now, trial=trial)
        self.delivery.link_started(link)
        return link

    def open(self, link: Link) -> list[Link]:
        return self.delivery.link_opened(link, self.now)

    def fail(self, link: Link, reason: str = "refused") -> None:
        self.delivery.link_ended(link, reason, self.now, failed=True, by_peer=True)

    def write(self, link: Link, count: int = 100) -> list[Query]:
        batch = self.delivery.take(count)
        for one in batch:
            one.link = link
        link.inflight += len(batch)
        return batch


def test_nothing_is_opened_before_a_query_waits() -> None:
    house = House()
    assert house.plan() == []
    assert house.delivery.deadline == float("inf")
    house.ask()
    assert [link.address for link in house.plan()] == [A]


def test_one_attempt_at_a_time_per_address() -> None:
    house = House()
    house.ask()
    house.plan()
    house.ask()
    house.now += HANDOVER
    assert house.plan() == []


def test_addresses_of_an_upstream_start_staggered() -> None:
    house = House()
    house.upstreams[0].addresses = [SIX, A, B]
    house.ask()
    assert [link.address for link in house.plan()] == [SIX]
    assert house.plan() == []
    assert house.delivery.deadline == house.now + STAGGER
    house.now += STAGGER
    assert [link.address for link in house.plan()] == [A]
    house.now += STAGGER
    assert [link.address for link in house.plan()] == [B]


def test_a_failure_starts_the_next_address_at_once() -> None:
    house = House()
    house.upstreams[0].addresses = [SIX, A]
    house.ask()
    (first,) = house.plan()
    house.fail(first)
    assert [link.address for link in house.plan()] == [A]


def test_the_first_to_open_wins_and_is_remembered() -> None:
    house = House()
    house.upstreams[0].addresses = [SIX, A]
    house.ask()
    (slow,) = house.plan()
    house.now += STAGGER
    (fast,) = house.plan()
    assert house.open(fast) == [slow]
    assert house.delivery.best() is fast
    assert house.upstreams[0].addresses == [A, SIX]
    assert house.delivery.dialer.attempts == []


def test_a_refused_upstream_hands_over_at_once() -> None:
    house = House("tls://192.0.2.1", "tls://192.0.2.2")
    house.ask()
    (first,) = house.plan()
    house.fail(first)
    assert [link.address for link in house.plan()] == [B]


def test_a_silent_upstream_hands_over_after_a_while() -> None:
    house = House("tls://192.0.2.1", "tls://192.0.2.2")
    house.ask()
    house.plan()
    house.now += HANDOVER - 0.01
    assert house.plan() == []
    house.now = house.delivery.deadline
    assert [link.address for link in house.plan()] == [B]


def test_a_preferred_upstream_that_opens_late_gets_the_new_queries() -> None:
    house = House("tls://192.0.2.1", "tls://192.0.2.2")
    house.ask()
    (late,) = house.plan()
    house.now += HANDOVER
    (second,) = house.plan()
    assert house.open(second) == []
    assert house.delivery.best() is second
    assert house.open(late) == []
    assert house.delivery.best() is late
    assert second.goodbye


def test_failures_rest_longer_and_longer_and_an_answer_ends_that() -> None:
    house = House()
    rests = []
    for _ in range(8):
        house.ask()
        (link,) = house.plan()
        house.fail(link)
        assert house.plan() == []
        rests.append(house.delivery.deadline - house.now)
        house.now = house.delivery.deadline
    assert FIRST_REST / 2 <= rests[0] <= FIRST_REST
    assert all(rest <= LONGEST_REST for rest in rests)
    assert max(rests) > LONGEST_REST / 2
    (link,) = house.plan()
    house.open(link)
    link.answered = 1
    house.delivery.link_ended(link, "closed", house.now, failed=True)
    assert house.upstreams[0].path_of(A).failures == 0
    house.ask()
    assert len(house.plan()) == 1


def test_queries_of_a_dead_link_wait_again_first_in_line() -> None:
    house = House()
    first, second = house.ask(), house.ask()
    (link,) = house.plan()
    house.open(link)
    assert house.write(link) == [first, second]
    link.answered = 5
    third = house.ask()
    house.fail(link, "reset")
    assert list(house.delivery.unsent) == [second, third, first], "the oldest is suspected, and goes last"
    assert first.link is None
    assert len(house.plan()) == 1, "a link that had answered is replaced at once"


def test_a_query_that_servers_hang_up_on_rests_longer_each_time_and_blames_no_address() -> None:
    house = House()
    house.pending.lifetime = 60.0
    culprit = house.ask()
    (link,) = house.plan()
    rests = []
    for _ in range(4):
        house.open(link)
        innocent = house.ask()
        house.write(link)
        assert house.pending.match(answer(innocent.message))
        link.answered += 1
        house.fail(link, "closed by the upstream")
        assert culprit.link is None
        began, started = house.now, house.plan()
        while not started:
            house.now = house.delivery.deadline
            started = house.plan()
        rests.append(house.now - began)
        (link,) = started
    assert rests == [0.0, rules.SUSPECT_REST, rules.SUSPECT_REST * 2, rules.SUSPECT_REST * 4]
    assert house.upstreams[0].path_of(A).failures == 0


def test_a_link_that_dies_without_an_answer_makes_its_address_rest() -> None:
    house = House()
    house.ask()
    (link,) = house.plan()
    house.open(link)
    house.write(link)
    house.fail(link, "reset")
    assert house.plan() == []
    house.now = house.delivery.deadline
    assert len(house.plan()) == 1


def test_an_idle_close_is_nobodys_failure() -> None:
    house = House()
    house.ask()
    (link,) = house.plan()
    house.open(link)
    house.delivery.take(10)
    house.delivery.link_ended(link, "closed by the upstream", house.now, failed=False)
    assert house.upstreams[0].path_of(A).failures == 0
    assert house.plan() == []
    house.ask()
    assert len(house.plan()) == 1


def test_a_link_without_room_is_waited_for_and_a_closing_one_is_replaced() -> None:
    house = House()
    house.ask()
    (link,) = house.plan()
    house.open(link)
    codec: Codec = link.codec
    codec.room = 0
    assert house.delivery.best() is None
    assert house.plan() == []
    codec.closing = True
    assert len(house.plan()) == 1


def test_answered_queries_are_not_sent_again() -> None:
    house = House()
    first, second = house.ask(), house.ask()
    (link,) = house.plan()
    house.open(link)
    house.write(link)
    assert house.pending.match(answer(first.message))
    house.fail(link)
    assert house.delivery.take(10) == [second]


def test_take_respects_the_room() -> None:
    house = House()
    asked = [house.ask() for _ in range(5)]
    assert house.delivery.take(2) == asked[:2]
    assert house.delivery.take(10) == asked[2:]


def test_a_name_is_looked_up_before_anything_is_connected() -> None:
    house = House("tls://dns.example")
    house.ask()
    connect, look_up = house.delivery.plan(house.now)
    assert (connect, look_up) == ([], house.upstreams)
    assert house.delivery.plan(house.now) == ([], [])
    house.delivery.dialer.name_found(house.upstreams[0], ["192.0.2.1", "192.0.2.2", "2001:db8::1"], "", house.now)
    assert [link.address for link in house.plan()] == [SIX]
    assert house.upstreams[0].addresses == [SIX, A, B]


def test_a_name_that_is_not_found_hands_over_and_is_tried_again() -> None:
    house = House("tls://dns.example", "tls://192.0.2.2")
    house.ask()
    house.delivery.plan(house.now)
    house.delivery.dialer.name_found(house.upstreams[0], [], "no such name", house.now)
    assert "no such name" in house.delivery.reason
    (link,) = house.plan()
    assert link.address == B
    house.fail(link)
    house.now += LOOKUP_LIMIT
    assert house.delivery.plan(house.now)[1] == [house.upstreams[0]]


def test_a_look_up_that_hangs_hands_over() -> None:
    house = House("tls://dns.example", "tls://192.0.2.2")
    house.ask()
    house.delivery.plan(house.now)
    house.now += HANDOVER
    assert [link.address for link in house.plan()] == [B]


def test_addresses_that_all_fail_are_looked_up_again() -> None:
    house = House("tls://dns.example")
    house.ask()
    house.delivery.plan(house.now)
    house.delivery.dialer.name_found(house.upstreams[0], ["192.0.2.1"], "", house.now)
    (link,) = house.plan()
    house.fail(link)
    house.now += LONGEST_REST
    assert house.delivery.plan(house.now)[1] == [house.upstreams[0]]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nothing_is_lost_and_attempts_stay_few(seed: int) -> None:
    """A random life: every query that still waits is either on a live link or unsent."""
    house = House("tls://192.0.2.1", "tls://192.0.2.2", "tls://192.0.2.3")
    chance = random.Random(seed)
    for _ in range(400):
        house.now += chance.choice((0.0, 0.05, STAGGER, 1.0))
        event = chance.randrange(6)
        links = house.delivery.links + house.delivery.dialer.attempts
        if event <= 1:
            house.ask()
        elif event == 2 and house.delivery.dialer.attempts:
            house.open(chance.choice(house.delivery.dialer.attempts))
        elif event == 3 and links:
            house.fail(chance.choice(links))
        elif event == 4 and house.delivery.best():
            link = house.delivery.best()
            assert link
            for written in house.write(link)[::2]:
                assert house.pending.match(answer(written.message))
                link.answered += 1
        house.pending.oldest(house.now)
        house.plan()
        assert len(house.delivery.dialer.attempts) <= 3 * SPREAD
        alive = set(map(id, house.delivery.links))
        unsent = set(map(id, [*house.delivery.unsent, *(query for _, query in house.delivery.suspects)]))
        for waiting in list(house.pending._by_message.values()):
            assert id(waiting) in unsent or id(waiting.link) in alive


UDP1, TCP1, UDP2, TCP2 = (f"tls://192.0.2.{number}" for number in range(1, 5))


def resolvers(strategy: str) -> tuple[House, Link, Link]:
    """Two resolvers of two ways each, like those of DNSCrypt; the preferred ways are open."""
    house = House(UDP1, TCP1, UDP2, TCP2, strategy=strategy, twins=True)
    house.ask()
    (first,) = house.plan()
    house.open(first)
    house.write(first)
    (second,) = house.plan()
    house.open(second)
    assert house.plan() == []
    assert [str(link.upstream) for link in (first, second)] == [UDP1, UDP2]
    return house, first, second


def used(house: House, batches: int = 120) -> set[str]:
    """Return who would get so many batches."""
    chosen = [house.delivery.next() for _ in range(batches)]
    return {str(link.upstream) for link in chosen if link}


each_other_strategy = pytest.mark.parametrize("strategy", ["rotate", "fastest"])


@each_other_strategy
def test_a_way_that_stands_in_for_another_is_neither_opened_nor_used_beside_it(strategy: str) -> None:
    house, *_ = resolvers(strategy)
    extra = house.start(house.upstreams[1], TCP1_AT)  # for an answer that had no room
    house.open(extra)
    assert house.plan() == []
    assert used(house) == {UDP1, UDP2}
    assert extra.usable, "for what is to be asked there in particular"
    assert not house.upstreams[0].benched


@each_other_strategy
def test_it_takes_part_when_the_other_way_is_silent_until_that_has_passed_a_trial(strategy: str) -> None:
    house, first, second = resolvers(strategy)
    first.doubt = second.doubt = 2
    first.settle()
    house.open(house.start(house.upstreams[1], TCP1_AT))
    house.plan()
    assert house.upstreams[0].benched
    assert not house.upstreams[2].benched, "nobody stands in for it yet"
    second.calm_down(only_probe=False)
    house.plan()
    assert used(house) == {TCP1, UDP2}
    first.answered = 1
    house.delivery.link_ended(first, "silent", house.now, failed=True)
    house.now += 1.0
    second.heard = house.now
    trial = next(link for link in house.plan() if link.upstream is house.upstreams[0])
    assert trial.trial
    house.open(trial)
    house.plan()
    assert used(house) == {TCP1, UDP2}
    house.delivery.trial_passed(trial, house.now)
    house.plan()
    assert used(house) == {UDP1, UDP2}
    assert not house.upstreams[0].benched


@each_other_strategy
def test_a_hiccup_puts_nobody_on_the_bench_for_long(strategy: str) -> None:
    house, first, _ = resolvers(strategy)
    first.doubt = 2
    house.open(house.start(house.upstreams[1], TCP1_AT))
    house.plan()
    assert house.upstreams[0].benched
    first.calm_down(only_probe=False)
    house.plan()
    assert not house.upstreams[0].benched
    assert used(house) == {UDP1, UDP2}


@each_other_strategy
def test_a_way_that_fails_or_hangs_is_stood_in_for(strategy: str) -> None:
    house = House(UDP1, TCP1, UDP2, TCP2, strategy=strategy, twins=True)
    house.ask()
    (first,) = house.plan()
    house.open(first)
    house.write(first)
    (hanging,) = house.plan()
    assert str(hanging.upstream) == UDP2
    assert house.plan() == []
    assert house.delivery.deadline == house.now + HANDOVER
    house.now += HANDOVER
    first.heard = house.now
    (second,) = house.plan()
    assert str(second.upstream) == TCP2
    house.open(second)
    house.plan()
    assert used(house) == {UDP1, TCP2}
    house.fail(hanging)
    house.plan()
    assert used(house) == {UDP1, TCP2}


def test_on_the_bench_opening_without_a_word_from_the_server_is_no_proof() -> None:
    house = House("tls://192.0.2.1", "tls://192.0.2.2")
    first, second = house.upstreams
    house.ask()
    (attempt,) = house.plan()
    house.now += HANDOVER
    (other,) = house.plan()
    house.open(other)
    assert first.benched
    first.ready = lambda now: True  # type: ignore[method-assign]
    house.open(attempt)
    assert attempt.trial
    assert not attempt.takes
    assert not other.goodbye
    house.delivery.trial_passed(attempt, house.now)
    assert (attempt.takes, first.benched, other.goodbye) == (True, False, True)
    assert second.benched is False


class Certified(PlainUpstream):
    """One whose connections need a certificate, which may be over."""

    timed = True
    good = True

    def ready(self, now: float) -> bool:
        return self.good


def test_while_a_certificate_that_is_over_is_not_replaced_another_upstream_is_connected_to() -> None:
    house = House("tls://192.0.2.1", "tls://192.0.2.2")
    first = Certified(house.upstreams[0].spec)
    house.upstreams[0] = first
    house.delivery = Delivery(house.upstreams, house.pending, random.Random(1))
    house.ask()
    (link,) = house.plan()
    house.open(link)
    house.write(link)
    house.ask()
    assert house.plan() == []
    first.good = False
    assert [one.upstream for one in house.plan()] == [first]
    house.now += HANDOVER
    assert [one.upstream for one in house.plan()] == [house.upstreams[1]]
