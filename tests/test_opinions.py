"""Which refusals are believed, and whom else a query is asked of."""

from __future__ import annotations

import random

import pytest

from _udp2tls.config import parse_upstream
from _udp2tls.link import Link
from _udp2tls.opinions import Opinions
from _udp2tls.pending import Pending, Query
from _udp2tls.upstream import Upstream
from tests.fakes import PlainUpstream, query


class Panel:
    """Upstreams with open links, and a query that was written to the first."""

    def __init__(self, count: int = 3) -> None:
        self.pending = Pending(4.0, random.Random(1))
        self.upstreams: list[Upstream] = [
            PlainUpstream(parse_upstream(f"tls://192.0.2.{number}")) for number in range(1, count + 1)
        ]
        self.opinions = Opinions(self.upstreams, self.pending)
        self.links = [Link(one, one.addresses[0], one.codec(), 1.0) for one in self.upstreams]
        for link in self.links:
            link.note_open(1.0)

    def ask(self) -> Query:
        asked = self.pending.add(query(size=1232), (lambda *_: None, None), 0.0)
        assert asked
        self.write(asked, self.links[0])
        return asked

    def write(self, asked: Query, link: Link) -> None:
        asked.link = link
        link.inflight += 1

    def refuse(self, asked: Query, link: Link, said: bytes = b"") -> bool:
        return self.opinions.refused(asked, said or refusal(asked), link, self.links)


def refusal(asked: Query, code: int | None = None) -> bytes:
    """SERVFAIL, or REFUSED with an extended error."""
    return asked.error(2, 0, "") if code is None else asked.error(5, code, "")


def test_every_upstream_is_asked_in_order_and_then_the_first_is_believed() -> None:
    panel = Panel()
    asked = panel.ask()
    for number in (1, 2):
        assert panel.refuse(asked, panel.links[number - 1])
        assert asked.link is None
        ((link, queries),), settled = panel.opinions.take(panel.links)
        assert link is panel.links[number]
        assert queries == [asked]
        assert not settled
        panel.write(asked, link)
    assert panel.refuse(asked, panel.links[2])
    assert panel.opinions.take(panel.links) == ([], [asked])
    assert [upstream for upstream, _ in asked.refusals or ()] == panel.upstreams


def test_the_refusing_link_is_relieved() -> None:
    panel = Panel()
    panel.refuse(panel.ask(), panel.links[0])
    assert panel.links[0].inflight == 0


def test_a_single_upstream_is_believed() -> None:
    panel = Panel(1)
    assert not panel.refuse(panel.ask(), panel.links[0])


@pytest.mark.parametrize("code", [15, 16, 17, 18])
def test_a_filter_is_not_asked_around(code: int) -> None:
    panel = Panel()
    asked = panel.ask()
    assert not panel.refuse(asked, panel.links[0], refusal(asked, code))


@pytest.mark.parametrize("code", [0, 6, 22, 23])
def test_other_reasons_are(code: int) -> None:
    panel = Panel()
    asked = panel.ask()
    assert panel.refuse(asked, panel.links[0], refusal(asked, code))


def test_an_upstream_without_a_link_is_wanted_and_waited_for() -> None:
    panel = Panel(2)
    asked = panel.ask()
    assert panel.refuse(asked, panel.links[0])
    assert panel.opinions.wanted(panel.links[:1]) == [panel.upstreams[1]]
    assert panel.opinions.take(panel.links[:1]) == ([], [])
    assert panel.opinions.take(panel.links) == ([(panel.links[1], [asked])], [])


def test_an_upstream_out_of_reach_is_not_waited_for() -> None:
    panel = Panel(2)
    asked = panel.ask()
    assert panel.refuse(asked, panel.links[0])
    panel.links[1].path.fail(0.0, random.Random(1))
    assert panel.opinions.take(panel.links[:1]) == ([], [asked])


def test_a_query_whose_time_was_up_is_forgotten() -> None:
    panel = Panel(2)
    assert panel.refuse(panel.ask(), panel.links[0])
    panel.pending.clear()
    assert panel.opinions.take(panel.links) == ([], [])
    assert panel.opinions.waiting == []
    assert panel.opinions.wanted(panel.links[:1]) == []
