"""From which answers it is concluded that a server works on one query at a time, and from which it is not."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from _udp2tls.config import Endpoint
from _udp2tls.pace import GAP, NEAR, RUN, SPREAD, Pace
from _udp2tls.pending import Query
from tests.fakes import Tcp, World, answer, query

ADDRESS = Endpoint("192.0.2.53", 853)


def asked(count: int, apart: float = 0.0) -> list[Query]:
    return [
        Query(query(id=number), 29, 0, number.to_bytes(2, "big"), (lambda *_: None, None), number * apart)
        for number in range(count)
    ]


def learned(answers: Iterable[tuple[Query, Query | None]], gap: float) -> list[int]:
    """Return the places of the answers after which the pace was taken for one worker's."""
    pace, now = Pace(), 100.0
    places = []
    for place, (answered, oldest) in enumerate(answers):
        now += gap
        if pace.note(answered, 1, oldest, now):
            places.append(place)
    return places


def in_order(queries: list[Query]) -> list[tuple[Query, Query | None]]:
    return list(zip(queries, [*queries[1:], None]))


def test_a_run_of_answers_in_order_and_apart_is_one_worker() -> None:
    assert learned(in_order(asked(RUN + 1)), 0.002) == [RUN]
    assert learned(in_order(asked(RUN)), 0.002) == []


def test_two_answers_at_once_do_not_interrupt_a_run_and_do_not_lengthen_it() -> None:
    first, _, second, *rest = asked(RUN + 4)
    pace, now = Pace(), 100.0
    assert not pace.note(first, 1, second, now)
    assert not pace.note(second, 2, rest[0], now + 0.004)
    proven = [pace.note(one, 1, oldest, now + 0.006 + 0.002 * n) for n, (one, oldest) in enumerate(pairwise(rest))]
    assert proven == [False] * (RUN - 1) + [True]


def test_an_answer_held_up_and_the_next_soon_after_are_two_steps() -> None:
    queries = asked(RUN + 1)
    pace, now = Pace(), 100.0
    for place, (answered, oldest) in enumerate(in_order(queries)):
        now += (0.0037, 0.0003)[place % 2]
        assert pace.note(answered, 1, oldest, now) == (place == RUN)


def test_answers_too_fast_for_a_run_end_it() -> None:
    queries = asked(2 * RUN)
    pace, now = Pace(), 100.0
    proven = []
    for place, (answered, oldest) in enumerate(in_order(queries)):
        now += 0.002
        if place == RUN - 2:
            pace.interrupt()
        else:
            proven.append(pace.note(answered, 2 if place == RUN - 1 else 1, oldest, now))
    assert proven[: RUN + 5] == [False] * (RUN + 5)


def test_answers_that_come_at_once_are_not() -> None:
    assert learned(in_order(asked(100)), GAP * 0.9) == []


def test_answers_out_of_order_are_not() -> None:
    queries = asked(100)
    order = queries.copy()
    random.Random(3).shuffle(order)
    waiting = queries.copy()
    answers = []
    for one in order:
        waiting.remove(one)
        answers.append((one, waiting[0] if waiting else None))
    assert learned(answers, 0.002) == []


def test_one_answer_out_of_order_begins_the_run_anew() -> None:
    queries = asked(2 * RUN)
    overtaking = (queries.pop(), queries[4])
    answers = in_order(queries)
    answers.insert(4, overtaking)
    assert learned(answers, 0.002) == [4 + RUN]


def test_a_steady_flow_to_a_server_that_is_as_slow_with_each_is_not() -> None:
    assert learned(in_order(asked(300, apart=0.002)), 0.002) == []
    assert learned(in_order(asked(300, apart=0.002 / SPREAD)), 0.002) == []
    assert learned(in_order(asked(300, apart=0.001 / SPREAD)), 0.002)


def serve_in_turn(world: World, sock: Tcp, seconds: float) -> None:
    """Answer what was written to ``sock``, each after ``seconds``, in its order."""
    for frame in sock.frames():
        world.clock.now += seconds
        sock.feed(answer(frame))
        world.turns(2)


def settled(trip: float = 0.0005) -> tuple[World, Tcp]:
    world = World()
    world.ask(query())
    world.turns()
    world.clock.now += trip
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    world.replies()
    path = world.upstreams[0].path_of(ADDRESS)
    path.trip = trip
    return world, world.link


def burst(world: World, count: int, first: int = 0) -> None:
    world.ask(*(query(f"q{number}.example", id=number) for number in range(first, first + count)))
    world.turns(12)


def test_an_ordinary_burst_teaches_that_a_server_is_serial(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "udp2tls")
    world, link = settled()
    burst(world, 40)
    serve_in_turn(world, link, 0.002)
    assert len(world.replies()) == 40
    assert world.upstreams[0].path_of(ADDRESS).width == 1
    assert [r.getMessage() for r in caplog.records if "one query at a time" in r.getMessage()] == [
        "tls://192.0.2.53#one.example at 192.0.2.53:853 works on one query at a time; "
        "from now on several connections share them"
    ]


def test_after_that_a_slow_name_holds_up_nobody_in_the_next_burst() -> None:
    world, link = settled()
    burst(world, 40)
    serve_in_turn(world, link, 0.002)
    world.replies()
    burst(world, 20, first=100)
    for _ in range(30):
        world.clock.now += 0.001
        for _, sock in world.opened:
            sock.feed(*(answer(f) for f in sock.frames() if b"\x04q100\x07example" not in f))
        world.turns(3)
    assert len(world.replies()) == 19, "within 30 ms"


@pytest.mark.parametrize(("trip", "gap"), [(2 * NEAR, 0.002), (0.0005, GAP / 2)], ids=["far", "quick"])
def test_neither_a_far_nor_a_quick_server_is_taken_for_serial(trip: float, gap: float) -> None:
    world, link = settled(trip)
    burst(world, 40)
    serve_in_turn(world, link, gap)
    assert len(world.replies()) == 40
    assert world.upstreams[0].path_of(ADDRESS).width == 0
    assert len(world.opened) == 1
