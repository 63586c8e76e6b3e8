"""A link's clocks: when it must be looked at again, and what is said then."""

from __future__ import annotations

from _udp2tls.config import Endpoint, parse_upstream
from _udp2tls.link import CONNECT_LIMIT, GOODBYE_LIMIT, IDLE_LIMIT, LONGEST_IDLE, SILENCE_LIMIT, Link
from tests.fakes import PlainUpstream

ADDRESS = Endpoint("192.0.2.1", 853)


def new(now: float = 10.0) -> Link:
    upstream = PlainUpstream(parse_upstream("tls://192.0.2.1"))
    return Link(upstream, ADDRESS, upstream.codec(), now)


def test_connecting_is_limited_and_its_end_is_a_failure() -> None:
    link = new()
    assert link.deadline == 10.0 + CONNECT_LIMIT
    assert link.failed
    assert "no connection within" in link.overdue()
    assert not link.usable


def test_an_open_link_is_limited_by_idleness_which_is_no_failure() -> None:
    link = new()
    link.note_open(11.0)
    assert link.usable
    assert link.deadline == 11.0 + IDLE_LIMIT
    assert not link.failed
    assert "idle" in link.overdue()


def test_silence_counts_from_the_first_waiting_query_not_from_the_last_answer() -> None:
    link = new()
    link.note_open(11.0)
    link.waiting_since, link.inflight = 20.0, 3
    assert link.deadline == 20.0 + SILENCE_LIMIT
    assert link.failed
    assert "3 queries waiting" in link.overdue()
    link.heard = 20.5
    assert link.deadline == 20.5 + SILENCE_LIMIT


def test_a_server_that_said_goodbye_gets_little_time() -> None:
    link = new()
    link.note_open(11.0)
    link.waiting_since, link.inflight = 11.0, 1
    link.codec.closing = True
    assert link.deadline == 11.0 + GOODBYE_LIMIT
    assert "closed by the upstream" in link.overdue()


def test_keepalive_sets_the_idle_limit_of_this_and_later_connections_of_the_upstream() -> None:
    link = new()
    link.note_open(11.0)
    link.note_keepalive(100)
    assert link.deadline == 11.0 + 9.0
    again = Link(link.upstream, ADDRESS, link.upstream.codec(), 50.0)
    again.note_open(50.0)
    assert again.deadline == 59.0
    link.note_keepalive(65535)
    assert link.deadline == 11.0 + LONGEST_IDLE


def test_keepalive_zero_ends_the_link_when_nothing_is_in_flight() -> None:
    link = new()
    link.note_open(11.0)
    link.note_keepalive(0)
    assert not link.usable
    assert link.deadline == 11.0
    assert not link.failed
    assert "asked to close" in link.overdue()


def test_the_codecs_own_deadline_counts() -> None:
    link = new()
    link.note_open(11.0)
    link.codec.deadline = 12.0
    assert link.deadline == 12.0
