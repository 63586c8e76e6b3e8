"""The promise of delivery, with the whole loop and a fake clock: connections that go silent, servers with habits,
upstreams that come back, machines that sleep.
"""

from __future__ import annotations

import errno
import random
from collections import Counter

import pytest

from _udp2tls.config import Endpoint
from _udp2tls.path import IDLE_LIMIT
from _udp2tls.pending import Probe
from tests.fakes import CLIENT, Tcp, World, answer, query


def settled(world: World, name: str = "first.example") -> Tcp:
    """Have one query answered, and return the connection it went over."""
    world.ask(query(name, id=0x7777))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    world.replies()
    return world.link


def test_a_slow_name_alone_leads_to_a_question_of_our_own_and_to_no_second_connection() -> None:
    world = World()
    link = settled(world)
    world.ask(query("slow.example", 2))
    world.later(0.11)
    slow, probe = link.frames()
    assert probe[12:17] == b"\0\0\2\0\1", "the root's name servers"
    link.feed(answer(probe))
    for _ in range(20):
        world.later(0.1)
        link.feed(*(answer(frame) for frame in link.frames()))
    assert len(world.opened) == 1
    assert world.upstreams[0].counts["probes"] <= 5
    link.feed(answer(slow))
    world.turns()
    assert world.replies() == [(answer(query("slow.example", 2)), CLIENT)]


def test_a_silent_connection_costs_a_fraction_of_a_second_and_gets_no_more_queries() -> None:
    world = World()
    dead = settled(world)
    world.later(5.0)
    began = world.clock.now
    world.ask(query(id=2))
    while len(world.opened) == 1 and world.clock.now < began + 1:
        world.later(0.01)
    assert world.clock.now - began < 0.2
    dead.frames()
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert len(world.replies()) == 1
    for number in range(3, 20):
        world.ask(query(id=number))
        world.turns()
        world.link.feed(*(answer(frame) for frame in world.link.frames()))
        world.later(0.2)
    assert dead.frames() == []
    assert dead.closed
    assert len(world.opened) == 2
    assert world.upstreams[0].path_of(Endpoint("192.0.2.53", 853)).idle_limit == pytest.approx(2.5)
    assert world.upstreams[0].counts["silent"] == 1


def test_under_load_a_silent_connection_is_left_although_new_queries_keep_coming() -> None:
    world = World()
    dead = settled(world)
    began = world.clock.now
    left_at = 0.0
    for number in range(100):
        world.ask(query(id=number))
        world.turns()
        if len(world.opened) > 1:
            world.link.feed(*(answer(frame) for frame in world.link.frames()))
            world.turns()
        if dead.frames():
            left_at = world.clock.now - began
        world.later(0.02)
    world.serve(0.5)
    assert left_at < 0.4
    assert len(world.replies()) == 100
    assert {reply[3] & 15 for reply, _ in world.replies()} <= {0}


def test_a_serial_server_with_one_slow_name_holds_up_nobody_and_is_remembered() -> None:
    world = World()
    first = settled(world)
    names = [f"q{number}.example" for number in range(40)]
    world.ask(*(query(name, id=number) for number, name in enumerate(names)))
    world.turns(20)
    blocked = first.frames()
    first.feed(*(answer(frame) for frame in blocked[:5]))
    world.turns()
    began = world.clock.now
    while len(world.replies()) < 1 and world.clock.now < began + 1:
        world.later(0.01)
        for _, sock in world.opened[1:]:
            sock.feed(*(answer(f) for f in sock.frames() if b"\x02q5\x07example" not in f))
        world.turns()
    assert world.clock.now - began < 0.2
    for _ in range(80):
        world.later(0.02)
        for _, sock in world.opened[1:]:
            if not sock.closed:
                sock.feed(*(answer(f) for f in sock.frames() if b"\x02q5\x07example" not in f))
    assert len(world.forwarder.pending) <= 2, "only the slow one waits, and a question of our own"
    assert not first.closed
    first.feed(*(answer(frame) for frame in blocked[5:]))
    world.turns()
    assert len(world.forwarder.pending) <= 1
    assert world.upstreams[0].path_of(Endpoint("192.0.2.53", 853)).width == 1


def test_a_slow_upstream_is_not_asked_twice() -> None:
    """300 ms, jitter 100 ms, 200 queries a second."""
    world = World()
    chance = random.Random(7)
    due: list[tuple[float, Tcp, bytes]] = []
    seen: Counter[bytes] = Counter()
    for number in range(1600):
        world.ask(query(f"q{number}.example", id=number))
        world.turns(2)
        for _, sock in world.opened:
            for frame in sock.frames():
                seen[frame[12:].split(b"\0", 1)[0]] += 1
                due.append((world.clock.now + chance.uniform(0.2, 0.4), sock, frame))
        for when, sock, frame in [one for one in due if one[0] <= world.clock.now]:
            if not sock.closed:
                sock.feed(answer(frame))
            due.remove((when, sock, frame))
        world.later(0.005)
    twice = sum(count > 1 for name, count in seen.items() if name)
    assert twice < 0.02 * 1600


@pytest.mark.parametrize("change", ["sleep", "address"])
def test_after_sleep_or_a_change_of_network_no_old_connection_is_trusted(change: str) -> None:
    world = World()
    old = settled(world)
    world.later(5.0)
    if change == "sleep":
        world.asleep += 600.0
    else:
        world.local = "198.51.100.9"
    world.ask(query(id=2))
    world.turns()
    assert old.closed
    assert old.frames() == []
    assert len(world.opened) == 2
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert world.replies() == [(answer(query(id=2)), CLIENT)]
    assert world.forwarder.statistics()["fresh_starts"] == 1
    assert world.forwarder.statistics()["failed_connections"] == 0


def test_a_loop_that_woke_far_too_late_was_asleep() -> None:
    world = World()
    old = settled(world)
    world.turns()
    world.clock.now += IDLE_LIMIT + 100.0
    world.ask(query(id=2))
    world.turns()
    assert old.closed
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert world.replies() == [(answer(query(id=2)), CLIENT)]
    assert world.forwarder.statistics()["fresh_starts"] == 1


def test_a_write_that_finds_the_network_gone_ends_every_connection() -> None:
    world = World()
    old = settled(world)
    old.error = OSError(errno.ENETUNREACH, "injected")
    world.ask(query(id=2))
    world.turns()
    assert old.closed
    assert len(world.opened) == 2
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert world.replies() == [(answer(query(id=2)), CLIENT)]


def test_a_server_that_answers_one_query_a_connection_gets_several_connections() -> None:
    world = World()
    world.ask(*(query(f"q{number}.example", id=number) for number in range(60)))

    def one_answer() -> None:
        for _, sock in world.opened:
            if not sock.closed and not sock.ended and (frames := sock.frames()):
                sock.feed(answer(frames[0]))
                sock.ended = True

    for _ in range(80):
        world.turns(8)
        one_answer()
        world.clock.now += 0.01
    assert len({reply[:2] for reply, _ in world.replies()}) == 60
    assert world.upstreams[0].path_of(Endpoint("192.0.2.53", 853)).capacity == 1
    assert len(world.opened) < 90


def test_an_idle_limit_seen_twice_is_kept_to() -> None:
    world = World()
    closed_by_us = []
    for number in range(6):
        link = settled(world, f"q{number}.example")
        world.later(2.95)
        closed_by_us.append(link.closed)
        if not link.closed:
            link.ended = True
        world.later(0.6)
    assert closed_by_us == [False, False, True, True, True, True]
    assert world.forwarder.statistics()["failed_connections"] == 0


def test_the_first_upstream_is_returned_to_when_it_works_again() -> None:
    world = World("tls://192.0.2.1", "tls://192.0.2.2")
    broken = True

    def first_broken(address: Endpoint) -> Tcp:
        if broken and address.host == "192.0.2.1":
            raise ConnectionRefusedError(errno.ECONNREFUSED, "injected")
        return Tcp()

    world.on_open = first_broken
    asked = 0
    for step in range(200):
        broken = step < 100
        asked += 1
        world.ask(query(f"q{step}.example", id=step))
        world.turns()
        for _, sock in world.opened:
            if not sock.closed:
                sock.feed(*(answer(frame) for frame in sock.frames()))
        world.later(0.1)
    assert len(world.replies()) == asked
    attempts = world.upstreams[0].counts["connections"]
    assert attempts <= 12, "at most one a second, and fewer and fewer"
    best = world.forwarder.delivery.best()
    assert best is not None
    assert best.upstream is world.upstreams[0]


@pytest.mark.parametrize("strategy", ["rotate", "fastest"])
def test_the_other_strategies_use_all_upstreams_or_the_fastest(strategy: str) -> None:
    world = World("tls://192.0.2.1", "tls://192.0.2.2", strategy=strategy)
    due: list[tuple[float, Tcp, bytes]] = []
    counts = Counter[str]()
    for number in range(300):
        world.ask(query(f"q{number}.example", id=number))
        for _ in range(10):
            world.turns(2)
            for address, sock in world.opened:
                for frame in sock.frames():
                    counts[address.host] += number > 100
                    due.append((world.clock.now + (0.05 if address.host == "192.0.2.1" else 0.01), sock, frame))
            for when, sock, frame in [one for one in due if one[0] <= world.clock.now]:
                sock.feed(answer(frame))
                due.remove((when, sock, frame))
            world.clock.now += 0.01
    assert len(world.replies()) >= 298
    if strategy == "rotate":
        assert abs(counts["192.0.2.1"] - counts["192.0.2.2"]) < 30
    else:
        assert counts["192.0.2.2"] > 10 * counts["192.0.2.1"] > 0


class Chaos:
    """Upstreams that change their minds, clients that keep asking; every query must be accounted for."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        urls = [f"tls://192.0.2.{number}" for number in range(1, 2 + self.chance.randrange(3))]
        self.world = World(*urls, strategy=self.chance.choice(("ordered", "rotate", "fastest")), timeout=4.0)
        self.world.on_open = self.open
        self.mood: dict[str, str] = {}
        self.asked = 0
        self.replies: Counter[bytes] = Counter()

    def open(self, address: Endpoint) -> Tcp:
        mood = self.mood.get(address.host, "well")
        if mood == "refuse":
            raise ConnectionRefusedError(errno.ECONNREFUSED, "injected")
        return Tcp(connected=mood != "hole")

    def upstream(self) -> None:
        """Let every connection do what its upstream is in the mood for."""
        for address, sock in self.world.opened:
            mood = self.mood.get(address.host, "well")
            if sock.closed or sock.ended or mood == "silent" or not sock.connected:
                continue
            frames = sock.frames()
            if mood == "reset" and frames:
                sock.error = ConnectionResetError(errno.ECONNRESET, "injected")
            elif mood == "one" and frames:
                sock.feed(answer(frames[0]))
                sock.ended = True
            elif mood == "shuffle":
                self.chance.shuffle(frames)
                sock.feed(*(answer(frame) for frame in frames))
            elif mood == "refusing":
                ends = [frame.index(0, 12) + 5 for frame in frames]
                sock.feed(*(f[:2] + b"\x81\x82\0\1\0\0\0\0\0\0" + f[12:end] for f, end in zip(frames, ends)))
            elif mood == "lossy":
                sock.feed(*(answer(frame) for frame in frames if self.chance.random() < 0.8))
            else:
                sock.feed(*(answer(frame) for frame in frames))

    def step(self) -> None:
        world, chance = self.world, self.chance
        if chance.random() < 0.1:
            host = f"192.0.2.{chance.randrange(1, 4)}"
            moods = "well", "well", "silent", "refuse", "hole", "reset", "one", "shuffle", "refusing", "lossy"
            self.mood[host] = chance.choice(moods)
        if chance.random() < 0.02:
            world.asleep += 600.0
        for _ in range(chance.choice((0, 1, 1, 2, 20))):
            world.ask(query(f"q{self.asked}.example", id=self.asked % 65536))
            self.asked += 1
        world.turns(2)
        self.upstream()
        world.turns(2)
        world.later(chance.choice((0.0, 0.01, 0.05, 0.3, 1.5)))
        self.check()
        for reply, _ in world.replies():
            self.replies[reply[:2]] += 1

    def check(self) -> None:
        forwarder = self.world.forwarder
        pending, delivery = forwarder.pending, forwarder.delivery
        waiting = list(pending._by_message.values())
        for link in delivery.links:
            assert link.inflight == len(pending.written_to(link)), "the tally of a link"
        alive = set(map(id, delivery.links))
        homeless = {id(one) for one in (*delivery.unsent, *(one for _, one in delivery.suspects))}
        homeless |= {id(one) for one in delivery.opinions.waiting}
        for one in waiting:
            assert one.asked + pending.lifetime > self.world.clock.now - 0.1, "nobody waits longer than the timeout"
            assert one.link is None or id(one.link) in alive
            assert one.other is None or id(one.other) in alive
            assert one.link is not None or id(one) in homeless
        assert len(self.world.selector.keys) == len(delivery.links) + len(delivery.dialer.attempts) + 2


@pytest.mark.parametrize("seed", [*range(30), 1073, 2039])
def test_whatever_happens_every_query_is_answered_once_and_the_tallies_agree(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(250):
        chaos.step()
    chaos.mood.clear()
    for _ in range(60):
        chaos.upstream()
        chaos.world.later(0.1)
    for reply, _ in chaos.world.replies():
        chaos.replies[reply[:2]] += 1
    waiting = chaos.world.forwarder.pending._by_message.values()
    assert [one for one in waiting if not isinstance(one, Probe)] == []
    assert len(chaos.replies) == chaos.asked
    assert set(chaos.replies.values()) == {1}


@pytest.mark.parametrize("rtt", [0.001, 0.02, 0.05, 0.1, 0.2])
def test_a_connection_found_dead_costs_two_round_trips_before_another_is_raised(rtt: float) -> None:
    """So that the answer comes within three round trips and a handshake, or within 300 ms."""
    world = World()
    link = None
    for number in range(20):
        world.ask(query(f"q{number}.example", id=number))
        world.turns()
        world.clock.now += rtt
        link = world.link
        link.feed(*(answer(frame) for frame in link.frames()))
        world.turns()
        world.later(0.3)
    world.later(5.0)
    began = world.clock.now
    world.ask(query("dead.example", id=100))
    while len(world.opened) == 1 and world.clock.now < began + 2:
        world.later(0.005)
    handshake = 2 * rtt
    assert world.clock.now - began + handshake + rtt <= max(0.3, 3 * rtt + handshake) * 1.05


def test_a_server_that_says_nothing_is_not_flooded_with_copies_nor_with_connections() -> None:
    world = World(timeout=4.0)
    seen: Counter[bytes] = Counter()
    for number in range(300):
        world.ask(query(f"q{number}.example", id=number))
    for _ in range(80):
        world.later(0.05)
        for _, sock in world.opened:
            seen.update(frame[12:] for frame in sock.frames() if frame[12])
    assert len(world.opened) <= 6
    assert sum(seen.values()) <= 2.1 * 300
    world.later(0.5)
    assert len(world.replies()) == 300


def test_names_that_never_get_an_answer_hold_up_no_others_and_leave_no_connections_behind() -> None:
    world = World(timeout=4.0)
    settled(world)
    world.ask(*(query(f"{'good' if 0 < number < 9 else 'bad'}{number}.example", id=number) for number in range(120)))
    world.later(0.01)  # and this connection loses all of them

    def answer_most(seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            world.later(0.01)
            for _, sock in world.opened[1:]:
                if not sock.closed:
                    sock.feed(*(answer(frame) for frame in sock.frames() if frame[13:16] != b"bad"))
            world.turns(2)

    answer_most(0.6)
    assert {int.from_bytes(reply[:2], "big") for reply, _ in world.replies()} == {*range(1, 9)}
    late = []
    for number in range(200, 350):
        world.ask(query(f"new{number}.example", id=number))
        answer_most(0.02)
        if [reply[:2] for reply, _ in world.replies()] != [number.to_bytes(2, "big")]:
            late.append(number)
    assert not late
    answer_most(5.0)
    assert sum(not sock.closed for _, sock in world.opened) <= 2


def test_a_connection_that_stood_in_for_another_is_closed_soon_when_that_one_works_again() -> None:
    world = World()
    first = settled(world)
    world.ask(query("slow.example", 2))
    world.later(0.3)
    assert len(world.opened) == 2
    second = world.link
    first.feed(*(answer(frame) for frame in first.frames()))
    for number in range(50):
        world.ask(query(f"q{number}.example", number))
        world.turns()
        first.feed(*(answer(frame) for frame in first.frames()))
        world.later(0.1)
    assert len(world.replies()) == 51
    assert second.closed
    assert not first.closed


def test_a_connection_left_for_names_that_have_no_answer_is_closed_when_nobody_waits_for_them_any_more() -> None:
    world = World(timeout=2.0)
    first = settled(world)
    world.ask(query("bad.example", 2))
    world.later(0.3)
    for number in range(30):
        world.ask(query(f"q{number}.example", number))
        world.turns()
        world.link.feed(*(answer(frame) for frame in world.link.frames() if frame[13:16] != b"bad"))
        world.later(0.1)
    assert first.closed
    assert not world.link.closed
