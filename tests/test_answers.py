"""What answers do to clients, to the link they came on, and to the queries that wait elsewhere."""

from __future__ import annotations

import pytest

from _udp2tls.config import Endpoint
from _udp2tls.dialer import FIRST_TRIAL
from _udp2tls.opinions import REFUSALS
from tests.fakes import CLIENT, Tcp, World, answer, query

PAIR = ("tls://192.0.2.1", "tls://192.0.2.2")


def refusal(asked: bytes, rcode: int = 2) -> bytes:
    end = 12
    while asked[end]:
        end += asked[end] + 1
    return asked[:2] + bytes((0x81, 0x80 | rcode)) + b"\0\1\0\0\0\0\0\0" + asked[12 : end + 5]


def by_upstream(world: World, first: int, second: int = 0) -> None:
    """Let every connection answer with an rcode by its upstream, until nothing more is asked."""
    for _ in range(10):
        for address, sock in world.opened:
            rcode = first if address.host == "192.0.2.1" else second
            if not sock.closed and (frames := sock.frames()):
                sock.feed(*(refusal(frame, rcode) if rcode else answer(frame) for frame in frames))
        world.turns()


@pytest.mark.parametrize("rcode", [2, 5])
def test_a_refusal_is_asked_of_the_next_upstream_and_its_answer_counts(rcode: int) -> None:
    world = World(*PAIR)
    world.ask(query())
    world.turns()
    by_upstream(world, rcode)
    assert world.replies() == [(answer(query()), CLIENT)]
    assert world.upstreams[0].counts["refused"] == 1
    assert len(world.forwarder.pending) == 0


def test_a_refusal_that_all_share_is_believed_and_is_the_first_ones() -> None:
    world = World(*PAIR)
    world.ask(query())
    world.turns()
    by_upstream(world, 5, 2)
    assert world.replies() == [(refusal(query(), 5), CLIENT)]
    assert world.forwarder.statistics()["servfail"] == 0


def test_a_refusal_is_believed_when_no_other_upstream_can_be_reached() -> None:
    world = World(*PAIR)

    def only_first(address: Endpoint) -> Tcp:
        if address.host != "192.0.2.1":
            raise ConnectionRefusedError(111, "injected")
        return Tcp()

    world.on_open = only_first
    world.ask(query())
    world.turns()
    by_upstream(world, 2)
    assert world.replies() == [(refusal(query()), CLIENT)]


def test_a_refusal_is_handed_over_in_time_when_the_second_upstream_says_nothing() -> None:
    world = World(*PAIR, timeout=4.0)
    world.ask(query())
    world.turns()
    world.link.feed(refusal(world.link.frames()[0]))
    world.later(4.1)
    assert world.replies() == [(refusal(query()), CLIENT)]


def test_an_upstream_that_refuses_what_another_answers_goes_on_the_bench_and_comes_back() -> None:
    world = World(*PAIR)
    for number in range(REFUSALS):
        world.ask(query(id=number))
        world.turns()
        by_upstream(world, 2)
    first = world.upstreams[0]
    assert first.benched
    asked = first.counts["refused"]
    for number in range(20):
        world.ask(query(id=100 + number))
        world.turns()
        by_upstream(world, 2)
    assert first.counts["refused"] == asked, "clients' queries go to the other one at once"
    world.replies()
    for number in range(30):
        world.clock.now += 0.5
        world.ask(query(id=200 + number))
        world.turns()
        by_upstream(world, 0)
    assert not first.benched
    assert len(world.replies()) == 30
    assert world.forwarder.delivery.best() is not None
    assert world.forwarder.delivery.best().upstream is first


def test_trials_of_a_benched_upstream_are_few_and_carry_no_query_of_a_client() -> None:
    world = World(*PAIR)
    for number in range(REFUSALS):
        world.ask(query(id=number))
        world.turns()
        by_upstream(world, 2)
    names = []
    before = world.upstreams[0].counts["connections"]
    for number in range(40):
        world.clock.now += 0.1
        world.ask(query(id=100 + number))
        world.turns()
        for address, sock in world.opened:
            if address.host == "192.0.2.1" and not sock.closed:
                frames = sock.frames()
                names += [frame[12:] for frame in frames]
                sock.feed(*(refusal(frame) for frame in frames))
        by_upstream(world, 2)
    assert 1 <= world.upstreams[0].counts["connections"] - before <= 4.0 / FIRST_TRIAL
    assert names
    assert {name[:5] for name in names} == {b"\0\0\2\0\1"}, "the root's name servers"


def test_a_late_answer_and_a_wrong_one_are_counted_for_their_upstream() -> None:
    world = World()
    world.ask(query())
    world.turns()
    world.link.feed(answer(query("other.example")), answer(query()), answer(query()))
    world.turns()
    counts = world.upstreams[0].counts
    assert (counts["mismatched"], counts["late"]) == (1, 1)
    assert world.replies() == [(answer(query()), CLIENT)]


def test_round_trips_are_measured() -> None:
    world = World()
    world.ask(query())
    world.turns()
    world.clock.now += 0.04
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    path = world.upstreams[0].path_of(Endpoint("192.0.2.53", 853))
    assert path.rtt == pytest.approx(0.04)
