"""Which connection a query goes to, and what to connect to.

Measured: Delivery.best, asked once for every batch, with one link and behind two that
take nothing; Delivery.plan at rest, with a query and no link, and with every upstream
resting after a failure; Hedge.repeat when nothing is doubted and when a doubted link's
queries move to another; Opinions when upstreams refuse, and when queries wait for a word.
Not measured: the events that tell it of links; they are rare.
"""

from __future__ import annotations

import random

import pytest

from _udp2tls import demo, tls, wire
from _udp2tls.config import Endpoint, UpstreamSpec
from _udp2tls.delivery import Delivery
from _udp2tls.framing import Framing
from _udp2tls.link import DOUBTED, Link
from _udp2tls.pending import Pending, Query
from _udp2tls.upstream import Upstream
from bench import material
from bench.meter import Meter, group

pytestmark = group("delivery")

NOW = 1000.0


def _deliver(answer: bytes, address: object) -> None:
    pass


class _Case:
    """Three upstreams and no link."""

    def __init__(self, files: demo.Files) -> None:
        session = tls.Session(tls.client_context(files.ca_file), demo.NAME)
        specs = [UpstreamSpec(f"192.0.2.{n}", 853, demo.NAME) for n in (1, 2, 3)]
        self.upstreams = [Upstream(spec, session) for spec in specs]
        self.pending = Pending(4.0, random.Random(1))
        self.delivery = Delivery(self.upstreams, self.pending, random.Random(1))

    def open_link(self, upstream: Upstream) -> Link:
        link = Link(upstream, upstream.addresses[0], Framing(), NOW)
        self.delivery.link_started(link)
        self.delivery.link_opened(link, NOW)
        return link

    def query(self, number: int = 1) -> Query:
        query = self.pending.add(material.query(number), (_deliver, material.ADDRESS), NOW)
        assert query is not None
        return query

    def ask(self) -> None:
        self.delivery.unsent.append(self.query())

    def written(self, link: Link, batch: int) -> list[Query]:
        """Return a batch of queries that wait for their answers on ``link``."""
        queries = [self.query(number) for number in range(batch)]
        for query in queries:
            query.link = link
        link.inflight += batch
        return queries


@pytest.fixture
def case(files: demo.Files) -> _Case:
    return _Case(files)


def test_best_of_one(meter: Meter, case: _Case) -> None:
    link = case.open_link(case.upstreams[0])
    assert case.delivery.best() is link
    meter.repeat(1, case.delivery.best)


def test_best_behind_two_that_leave(meter: Meter, case: _Case) -> None:
    links = [case.open_link(upstream) for upstream in reversed(case.upstreams)]
    links[-1].part("for the benchmark")
    links[0].goodbye = False
    links[0].settle()
    assert case.delivery.best() is links[0]
    meter.repeat(1, case.delivery.best)


def test_plan_at_rest(meter: Meter, case: _Case) -> None:
    case.open_link(case.upstreams[0])
    assert case.delivery.plan(NOW) == ([], [])
    meter.repeat(1, case.delivery.plan, NOW)


def test_plan_a_connection(meter: Meter, case: _Case) -> None:
    case.ask()
    assert case.delivery.plan(NOW) == ([(case.upstreams[0], Endpoint("192.0.2.1", 853), False)], [])
    meter.repeat(1, case.delivery.plan, NOW)


def test_plan_while_all_rest(meter: Meter, case: _Case) -> None:
    case.ask()
    for upstream in case.upstreams:
        upstream.path_of(upstream.addresses[0]).retry_at = NOW + 1
    assert case.delivery.plan(NOW) == ([], [])
    meter.repeat(1, case.delivery.plan, NOW)


def test_repeat_at_rest(meter: Meter, case: _Case) -> None:
    for upstream in case.upstreams[:2]:
        case.written(case.open_link(upstream), 0)
    assert case.delivery.hedge.repeat(case.delivery.links, NOW) is None
    meter.repeat(1, case.delivery.hedge.repeat, case.delivery.links, NOW)


@pytest.mark.parametrize("batch", [1, 32])
def test_repeat_what_a_doubted_link_holds(meter: Meter, case: _Case, batch: int) -> None:
    doubted, other = (case.open_link(upstream) for upstream in case.upstreams[:2])
    queries = case.written(doubted, batch)
    doubted.doubt = DOUBTED
    doubted.part("for the benchmark")  # its queries move whatever the budget

    def prepare() -> None:
        for query in queries:
            query.other = None

    links = [doubted, other]
    assert case.delivery.hedge.repeat(links, NOW) == (other, queries)
    meter.alternate(batch, prepare, lambda: case.delivery.hedge.repeat(links, NOW))
    assert queries[0].other is doubted


def test_refused(meter: Meter, case: _Case) -> None:
    """One upstream says SERVFAIL, and another one is to be asked."""
    links = [case.open_link(upstream) for upstream in case.upstreams[:2]]
    query = case.written(links[0], 1)[0]
    answer = wire.respond(query.message, query.end, wire.SERVFAIL)
    opinions = case.delivery.opinions

    def prepare() -> None:
        query.link, query.refusals, links[0].inflight = links[0], None, 1
        opinions.waiting.clear()

    meter.alternate(1, prepare, lambda: opinions.refused(query, answer, links[0], links))
    assert opinions.waiting == [query]


@pytest.mark.parametrize("batch", [1, 32])
def test_take_what_another_may_know(meter: Meter, case: _Case, batch: int) -> None:
    links = [case.open_link(upstream) for upstream in case.upstreams[:2]]
    queries = case.written(links[0], batch)
    for query in queries:
        query.refusals = [(case.upstreams[0], query.error(2, 0, ""))]
    opinions = case.delivery.opinions

    def prepare() -> None:
        opinions.waiting = queries.copy()

    prepare()
    assert opinions.take(links) == ([(links[1], queries)], [])
    meter.alternate(batch, prepare, lambda: opinions.take(links))
    assert not opinions.waiting
