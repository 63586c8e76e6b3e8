"""A link's clocks: when it must be looked at again, and what is said then."""

from __future__ import annotations

import math

import pytest

from _udp2tls.config import Endpoint, parse_upstream
from _udp2tls.link import (
    ASKED,
    CALM,
    DOUBTED,
    GOODBYE_LIMIT,
    LINGER,
    PROBE_GRACE,
    SILENCE_LIMIT,
    SPARE_LIMIT,
    Link,
)  # fmt: skip
from _udp2tls.path import IDLE_LIMIT, LEAST_PATIENCE, LONGEST_IDLE, MANY
from _udp2tls.upstream import CONNECT_LIMIT, TCP_LIMIT
from tests.fakes import PlainUpstream

ADDRESS = Endpoint("192.0.2.1", 853)


def new(now: float = 10.0) -> Link:
    upstream = PlainUpstream(parse_upstream("tls://192.0.2.1"))
    return Link(upstream, ADDRESS, upstream.codec(), now)


def test_connecting_is_limited_and_its_end_is_a_failure() -> None:
    link = new()
    assert link.deadline == 10.0 + TCP_LIMIT
    assert link.failed
    assert "no TCP connection within" in link.overdue()
    assert not link.usable
    link.connected = 10.5
    assert link.deadline == 10.0 + CONNECT_LIMIT
    assert "no TLS handshake within" in link.overdue()


def test_an_open_link_is_limited_by_idleness_which_is_no_failure() -> None:
    link = new()
    link.note_open(11.0)
    assert link.usable
    assert link.deadline == 11.0 + IDLE_LIMIT
    assert not link.failed
    assert "idle" in link.overdue()


def waiting(count: int = 3) -> Link:
    link = new()
    link.note_open(11.0)
    link.connected = 11.0
    link.waiting_since, link.idle_before = 20.0, 9.0
    link.inflight = count
    return link


def test_silence_counts_from_the_first_waiting_query_not_from_the_last_answer() -> None:
    link = waiting()
    assert link.deadline == 20.0 + LEAST_PATIENCE
    link.heard = 20.5
    assert link.deadline == 20.5 + LEAST_PATIENCE


def test_doubt_grows_in_two_steps_and_takes_the_link_out_of_use() -> None:
    link = waiting()
    link.grow_doubt()
    assert link.doubt == ASKED
    assert link.usable
    assert link.deadline == pytest.approx(20.0 + LEAST_PATIENCE + PROBE_GRACE)
    link.grow_doubt()
    assert link.doubt == DOUBTED
    assert not link.usable
    assert not link.trusted
    assert link.deadline == 20.0 + SILENCE_LIMIT
    assert link.failed
    assert "3 queries waiting" in link.overdue()


def test_the_wait_for_our_own_question_is_a_round_trip_of_the_network() -> None:
    link = waiting()
    link.path.note_trip(0.2)
    link.path.sample(0.2)
    patience = link.path.patience(3)
    link.grow_doubt()
    assert link.deadline == pytest.approx(20.0 + patience + 0.22)


def test_with_many_waiting_one_step_is_enough() -> None:
    link = waiting(MANY)
    link.grow_doubt()
    assert link.doubt == DOUBTED


def test_an_answer_ends_the_doubt_and_our_own_answer_makes_it_more_patient() -> None:
    link = waiting()
    link.grow_doubt()
    link.heard = 21.0
    link.calm_down(only_probe=True)
    assert link.doubt == CALM
    assert link.deadline == 21.0 + 2 * LEAST_PATIENCE
    link.calm_down(only_probe=True)
    assert link.deadline == 21.0 + 4 * LEAST_PATIENCE
    link.calm_down(only_probe=False)
    assert link.deadline == 21.0 + LEAST_PATIENCE


def test_a_link_given_up_is_watched_a_little_longer_and_then_ends_quietly() -> None:
    link = waiting()
    link.grow_doubt()
    link.grow_doubt()
    link.part("answered on another connection")
    link.inflight = 0
    assert link.deadline == 20.0 + LINGER
    assert not link.failed
    assert "answered on another connection" in link.overdue()


def test_a_trial_takes_no_queries_of_clients() -> None:
    upstream = PlainUpstream(parse_upstream("tls://192.0.2.1"))
    link = Link(upstream, ADDRESS, upstream.codec(), 10.0, trial=True)
    link.note_open(11.0)
    assert not link.usable
    assert not link.trusted


def test_a_learned_limit_of_queries_holds_a_link_back() -> None:
    link = waiting(0)
    link.path.capacity = 5
    link.sent = 4
    link.settle()
    assert link.usable
    assert link.room() == 1
    link.sent = 5
    link.settle()
    assert not link.usable
    assert link.room() == 0


def test_a_serial_server_gets_one_query_at_a_time() -> None:
    link = waiting(0)
    link.path.width = 1
    link.settle()
    assert (link.usable, link.room()) == (True, 1)
    link.inflight = 1
    link.settle()
    assert (link.usable, link.room()) == (False, 0)


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


@pytest.mark.parametrize(
    ("width", "until", "waiting", "stage"),
    [
        (0, math.inf, 1, ASKED),
        (0, math.inf, MANY, DOUBTED),
        (1, math.inf, 1, ASKED),
        (1, math.inf, 2, DOUBTED),
        (MANY, 11.0, MANY, ASKED),
    ],
    ids=["a few", "many", "alone on a serial server", "behind another there", "unanswered elsewhere"],
)  # fmt: skip
def test_a_question_of_our_own_comes_first_where_it_can_tell_anything(
    width: int, until: float, waiting: int, stage: int
) -> None:
    link = new()
    link.note_open(10.0)
    link.path.width, link.path.scattering_until = width, until
    link.inflight = waiting
    link.grow_doubt()
    assert link.doubt == stage


def test_a_spare_connection_is_not_kept_for_long() -> None:
    link = new()
    link.note_open(10.0)
    assert link.deadline == 10.0 + IDLE_LIMIT
    link.spare = True
    assert link.deadline == 10.0 + SPARE_LIMIT
