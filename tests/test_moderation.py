"""When the loop pauses after its wake-ups, and when it must not."""

from __future__ import annotations

import math
import random

import pytest

from _udp2tls import moderation as rules
from _udp2tls.config import ConfigError
from _udp2tls.moderation import Moderation, parse
from tests.fakes import World, answer, query


class Load:
    """Queries at a steady rate, whatever the answers do; or ``closed``, at one that falls when answers take longer."""

    def __init__(self, rate: float, *, batch: float = 0.7, closed: bool = False) -> None:
        self.moderation = Moderation()
        self.now, self.queries, self.turns = 100.0, 0.0, 0.0
        self.rate, self.batch, self.closed = rate, batch, closed
        self.bears_short = False  # a short pause makes those who are ``closed`` no slower
        self.paused = 0.0  # seconds during which pauses were made

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            moderation = self.moderation
            moderation.look(self.now, round(self.queries), round(self.turns))
            pause = moderation.pause
            step = rules.TRIAL if pause else rules.WINDOW
            slower = pause > rules.SHORT or (pause and not self.bears_short)
            rate = self.rate * (0.3 if self.closed and slower else 1.0)
            self.queries += rate * step
            self.turns += rate * step / (max(self.batch, rate * 1.3 * pause))
            self.now += step
            if pause:
                self.paused += step


def test_a_rush_of_queries_is_moderated_most_of_the_time() -> None:
    load = Load(12_000)
    load.run(60)
    assert load.paused > 0.95 * 60


@pytest.mark.parametrize("rate", [1, 100, 500, 5000])
def test_sparse_queries_never_are(rate: float) -> None:
    load = Load(rate)
    load.run(60)
    assert load.paused == 0


def test_nor_those_of_which_each_has_the_loop_to_itself() -> None:
    load = Load(12_000, batch=0.5)
    load.run(60)
    assert load.paused == 0


def test_nor_those_that_fill_their_batches_anyway() -> None:
    load = Load(150_000, batch=rules.FULL)
    load.run(60)
    assert load.paused == 0


def test_small_batches_are_made_larger() -> None:
    load = Load(80_000, batch=4)
    load.run(60)
    assert load.paused > 0.95 * 60


def test_a_crowd_that_waits_for_its_answers_gets_a_short_pause() -> None:
    load = Load(80_000, batch=4, closed=True)
    load.bears_short = True
    load.run(60)
    assert load.paused > 0.95 * 60
    assert load.moderation.pause == rules.SHORT
    load.bears_short = False
    load.run(2 * rules.RECHECK)
    load.paused = 0.0
    load.run(60)
    assert load.paused < 0.02 * 60


def test_a_rush_that_has_only_begun_is_no_measure() -> None:
    load = Load(1000)
    load.run(1)
    load.rate = 20_000
    load.run(2 * rules.WINDOW)
    assert not load.moderation.pause
    load.run(rules.WINDOW)
    assert load.moderation.pause


def test_nor_beyond_a_few_trials_those_who_wait_for_their_answers() -> None:
    load = Load(20_000, closed=True)
    load.run(120)
    assert 0 < load.paused < 0.01 * 120


def test_askers_who_begin_to_wait_are_noticed_within_seconds() -> None:
    load = Load(20_000)
    load.run(10)
    load.closed = True
    load.rate = 60_000
    load.run(rules.RECHECK)
    load.paused = 0.0
    load.run(60)
    assert load.paused < 0.02 * 60


def test_a_rate_that_falls_ends_it() -> None:
    load = Load(12_000)
    load.run(1)
    assert load.moderation.pause
    load.rate = 1000
    load.run(0.2)
    assert not load.moderation.pause


def test_batches_that_are_full_make_the_pause_short() -> None:
    load = Load(12_000)
    load.run(1)
    load.rate = 250_000
    load.run(0.1)
    assert load.moderation.pause == rules.SHORT


def test_and_so_does_the_first_gap() -> None:
    load = Load(12_000)
    load.run(1)
    moderation, now = load.moderation, load.now
    assert moderation.rest(now, 1.0) == rules.PAUSE
    assert moderation.rest(now + 0.001, 1.0) == rules.PAUSE
    assert moderation.rest(now + 0.002 + rules.GAP, 1.0) == 0.0
    assert not moderation.pause


def test_it_never_sleeps_past_what_is_due() -> None:
    moderation = Moderation(300e-6)
    assert moderation.rest(1.0, 200e-6) == 0.0
    assert moderation.rest(1.0, 400e-6) == 300e-6


def test_a_fixed_pause_is_kept_whatever_happens() -> None:
    load = Load(5)
    load.moderation = Moderation(300e-6)
    load.run(10)
    assert load.moderation.rest(load.now + 60.0, 1.0) == 300e-6
    load.moderation = Moderation(0.0)
    load.rate = 12_000
    load.run(10)
    assert load.moderation.pause == 0.0
    assert load.moderation.look_at == math.inf


def test_what_may_be_said_about_it() -> None:
    assert parse("auto") is None
    assert parse("off") == 0.0
    assert parse("500") == 500e-6


@pytest.mark.parametrize("text", ["", "on", "-1", "501", "1e2", "\u0663", "99999999999999999999"])
def test_what_may_not(text: str) -> None:
    with pytest.raises(ConfigError, match="not a pause"):
        parse(text, "here")


@pytest.mark.parametrize(
    ("rate", "limit", "moderated"), [(12_000, None, True), (5000, None, False), (12_000, 0.0, False)]
)
def test_in_the_loop_every_query_is_answered_and_little_later(
    rate: float, limit: float | None, moderated: bool
) -> None:
    """An upstream that takes 2 ms; what a turn costs is reckoned at 40 us."""
    world = World(moderation=limit)
    chance = random.Random(3)
    coming = [world.clock.now]
    for _ in range(5000):
        coming.append(coming[-1] + chance.expovariate(rate))
    due: list[tuple[float, bytes]] = []
    asked: list[float] = []
    late: list[float] = []
    while len(late) < len(coming):
        while len(asked) < len(coming) and coming[len(asked)] <= world.clock.now:
            world.ask(query(f"q{len(asked)}.example", len(asked)))
            asked.append(coming[len(asked)])
        if ready := [answer(frame) for when, frame in due if when <= world.clock.now]:
            world.link.feed(*ready)
            del due[: len(ready)]
        slept = world.slept
        world.forwarder.turn()
        if world.opened:
            due += [(world.clock.now + 0.002, frame) for frame in world.link.frames()]
        late += [world.clock.now - asked[int.from_bytes(reply[:2], "big")] for reply, _ in world.replies()]
        if world.slept == slept:
            events = [when for when, _ in due[:1]] + coming[len(asked) : len(asked) + 1]
            world.clock.now = max(world.clock.now + 40e-6, min(events, default=0.0))
    assert (world.slept > 0) == moderated
    assert sorted(late)[len(late) // 2] < 0.002 + 2 * rules.PAUSE + 0.001
