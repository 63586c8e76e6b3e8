"""What is asked twice, how often, and in which order."""

from __future__ import annotations

import random

from _udp2tls.config import parse_upstream
from _udp2tls.hedge import BUDGET, Hedge
from _udp2tls.link import DOUBTED, HEAD_LIMIT, Link
from _udp2tls.pending import Pending, Query
from tests.fakes import PlainUpstream, query


class Pair:
    """A link with queries in flight that is doubted, and a good one beside it."""

    def __init__(self, waiting: int) -> None:
        self.now = 100.0
        self.pending = Pending(4.0, random.Random(1))
        self.hedge = Hedge(self.pending)
        upstream = PlainUpstream(parse_upstream("tls://192.0.2.1"))
        self.doubted, self.good = (
            Link(upstream, upstream.addresses[0], upstream.codec(), self.now) for _ in range(2)
        )
        for link in (self.doubted, self.good):
            link.note_open(self.now)
        self.queries = [self._ask(number) for number in range(waiting)]
        self.write(self.doubted, self.queries)
        self.doubted.doubt = DOUBTED
        self.doubted.settle()
        self.hedge.note_doubt(self.doubted)

    def _ask(self, number: int) -> Query:
        asked = self.pending.add(query(id=number), (lambda *_: None, None), self.now)
        assert asked
        return asked

    def write(self, link: Link, queries: list[Query]) -> None:
        for one in queries:
            one.link = link
        link.inflight += len(queries)

    def repeat(self) -> list[Query]:
        """Ask again what may be, and return it."""
        again = []
        while found := self.hedge.repeat([self.doubted, self.good], self.now):
            link, queries = found
            assert link is self.good
            self.write(link, queries)
            again += queries
        return again


def test_a_lone_query_is_asked_again_at_once_and_once() -> None:
    pair = Pair(1)
    assert pair.repeat() == pair.queries
    assert pair.queries[0].other is pair.doubted
    assert pair.repeat() == []


def test_the_oldest_goes_last_and_later() -> None:
    pair = Pair(3)
    assert pair.repeat() == pair.queries[1:]
    assert pair.hedge.deadline == pair.now + HEAD_LIMIT
    pair.now += HEAD_LIMIT
    assert pair.repeat() == pair.queries[:1]


def test_without_proof_no_more_than_the_budget_allows() -> None:
    pair = Pair(100)
    assert len(pair.repeat()) == BUDGET
    assert pair.repeat() == []


def test_with_proof_everything_moves() -> None:
    pair = Pair(100)
    first = pair.repeat()[0]
    pair.hedge.answered(first, pair.good)
    assert pair.doubted.goodbye
    assert len(pair.repeat()) == 99 - BUDGET, "all but the oldest"
    pair.now += HEAD_LIMIT
    assert pair.repeat() == pair.queries[:1]


def test_an_answer_on_the_doubted_link_is_no_proof_against_it() -> None:
    pair = Pair(2)
    (again,) = pair.repeat()
    pair.hedge.answered(again, pair.doubted)
    assert not pair.doubted.goodbye
    assert (pair.doubted.inflight, pair.good.inflight) == (1, 0)


def test_both_links_are_relieved_of_a_query_that_was_answered() -> None:
    pair = Pair(2)
    (again,) = pair.repeat()
    assert (pair.doubted.inflight, pair.good.inflight) == (2, 1)
    pair.hedge.answered(again, pair.good)
    assert (pair.doubted.inflight, pair.good.inflight) == (1, 0)


def test_nothing_is_asked_again_without_a_better_link() -> None:
    pair = Pair(2)
    assert pair.hedge.repeat([pair.doubted], pair.now) is None
    pair.good.doubt = DOUBTED
    pair.good.settle()
    assert pair.hedge.repeat([pair.doubted, pair.good], pair.now) is None


def test_our_own_questions_are_not_repeated() -> None:
    pair = Pair(1)
    probe = pair.pending.add_probe(lambda *_: None, pair.now)
    assert probe
    pair.write(pair.doubted, [probe])
    assert pair.repeat() == pair.queries


def test_the_budget_grows_with_traffic_and_slowly_with_time_to_a_limit() -> None:
    hedge = Hedge(Pending(4.0, random.Random(1)))
    hedge.earn(0, 0.0)
    hedge.budget = 0.0
    hedge.earn(100, 0.0)
    assert hedge.budget == 1.0
    hedge.earn(100, 10.0)
    assert hedge.budget == 2.0
    hedge.earn(1_000_000, 10.0)
    assert hedge.budget == BUDGET


def test_many_stuck_queries_are_taken_off_a_link_that_is_given_up_but_for_its_oldest() -> None:
    pair = Pair(100)
    first = pair.repeat()[0]
    assert pair.hedge.answered(first, pair.good) is pair.doubted
    stuck = pair.hedge.scatter(pair.doubted, pair.now)
    assert len(stuck) == 99 - BUDGET
    assert pair.queries[0] not in stuck
    assert pair.doubted.inflight == BUDGET, "the oldest, and those that were asked on both"
    assert pair.doubted.path.width


def test_a_few_are_just_asked_again() -> None:
    pair = Pair(5)
    first = pair.repeat()[0]
    assert pair.hedge.answered(first, pair.good) is pair.doubted
    assert pair.hedge.scatter(pair.doubted, pair.now) == []
    assert not pair.doubted.path.width


def test_what_waits_on_two_silent_connections_is_asked_on_a_third() -> None:
    pair = Pair(20)
    silent = Link(pair.good.upstream, pair.good.address, pair.good.codec, pair.now)
    silent.note_open(pair.now)
    twice = pair.queries[1]
    twice.link, twice.other = silent, pair.doubted
    silent.inflight = 1
    silent.doubt = DOUBTED
    silent.settle()
    links = [pair.doubted, silent, pair.good]
    pair.hedge.budget = 1
    found = pair.hedge.repeat(links, pair.now)
    assert found == (pair.good, [pair.queries[2]])
    pair.write(*found)
    assert pair.hedge.repeat(links, pair.now) is None  # the budget
    pair.hedge.answered(pair.queries[2], pair.good)
    pair.pending.drop(pair.queries[2])
    assert pair.doubted.goodbye
    while found := pair.hedge.repeat(links, pair.now):
        pair.write(*found)
    assert (twice.link, twice.other) == (pair.good, silent)  # that one of its connections is no good is proven
    assert pair.doubted.inflight == 18
    pair.hedge.answered(twice, pair.good)
    assert (silent.inflight, silent.goodbye) == (0, True)


def test_a_silent_connection_whose_last_query_went_to_another_upstream_is_given_up() -> None:
    pair = Pair(1)
    silent = Link(pair.good.upstream, pair.good.address, pair.good.codec, pair.now)
    silent.note_open(pair.now)
    pair.queries[0].link, pair.queries[0].other = silent, pair.doubted
    silent.inflight = 1
    silent.doubt = DOUBTED
    silent.settle()
    links = [pair.doubted, silent, pair.good]
    assert pair.hedge.repeat(links, pair.now) is None  # it would go from one connection to the next
    pair.good.upstream = PlainUpstream(parse_upstream("tls://192.0.2.2"))
    assert pair.hedge.repeat(links, pair.now) == (pair.good, pair.queries)
    assert (pair.doubted.inflight, pair.doubted.goodbye) == (0, True)
    assert pair.queries[0].other is silent
