"""provider: which keys are in force, when to ask for others, what is learned and forgotten."""

from __future__ import annotations

import math

import pytest

from _udp2tls import certificate
from _udp2tls.provider import BELIEF, FIRST_WAIT, LEAST, MISSES, RARELY, SELDOM, Habit, Pace, Provider
from tests.provider import DAY, NAME, NOW, Resolver, bytes_of
from tests.test_dnscrypt import Server, needs_xwing, session

ASKED = certificate.query(NAME, b"id")


def take(provider: Provider, server: Server, now: float = 0.0) -> None:
    provider.take(server.answer(ASKED) or b"", now)


def test_a_name_or_a_key_that_cannot_be_is_refused() -> None:
    for name, key in (("", bytes(32)), ("a..b", bytes(32)), (NAME, bytes(31))):
        with pytest.raises(ValueError, match=r"."):
            Provider(name, key, bytes_of(1), lambda: NOW)


def test_keys_are_in_force_until_their_certificate_is_over() -> None:
    server = Server()
    provider = session(server)
    assert not provider.ready(0.0)
    take(provider, server, 5.0)
    assert provider.keys is not None
    assert provider.keys.expires == 5.0 + DAY + 1
    assert provider.ready(DAY + 5.9)
    assert not provider.ready(DAY + 6.0)
    assert 5.0 + 3240 <= provider.refresh_at <= 3605.0


def test_the_old_keys_are_kept_until_the_new_ones_worked() -> None:
    server = Server()
    provider = session(server)
    take(provider, server)
    old = provider.keys
    assert old is not None
    provider.worked(old)
    server.rotate(Resolver(2, b"s" * 32, b"magic-02"))
    take(provider, server, 1.0)
    new = provider.keys
    assert new is not None
    assert provider.previous is old
    provider.worked(old)  # a late answer proves nothing of the new
    assert provider.previous is old
    provider.worked(new)
    assert provider.previous is None


@needs_xwing
def test_where_es_version_3_does_not_get_through_the_classic_one_is_used_for_a_while() -> None:
    server = Server(Resolver(2), Resolver(3, b"x" * 32, b"magic-03"))
    provider = session(server)
    take(provider, server)
    assert version(provider) == 3
    assert provider.hopes(0.0)
    for _ in range(MISSES):
        provider.miss(1.0)
    assert version(provider) == 2
    take(provider, server, 11.0)
    assert version(provider) == 2
    assert not provider.hopes(11.0)
    take(provider, server, 1.0 + BELIEF)
    assert version(provider) == 3
    for _ in range(MISSES):
        provider.miss(1.0 + BELIEF)
    provider.forget(2000.0)  # another network may carry it
    take(provider, server, 2000.0)
    assert version(provider) == 3


def version(provider: Provider) -> int:
    assert provider.keys is not None
    return provider.keys.certificate.es_version


def test_the_same_certificate_gets_a_new_key_pair_and_is_no_news() -> None:
    server = Server()
    provider = session(server)
    take(provider, server)
    provider.news = None
    first = provider.keys
    assert first is not None
    provider.worked(first)
    take(provider, server, 3600.0)
    second = provider.keys
    assert second is not None
    assert provider.news is None
    assert second.proven
    assert provider.previous is None
    assert (
        first.boxes.box(b"n" * 12, 0.0).seal(b"m", b"n" * 12, 64)[8:40]
        != (second.boxes.box(b"n" * 12, 0.0).seal(b"m", b"n" * 12, 64)[8:40])
    )


def test_three_misses_in_a_row_ask_early_and_not_often() -> None:
    server = Server()
    provider = session(server)
    provider.begin(0.0)
    take(provider, server)
    assert provider.keys is not None
    for _ in range(2):
        provider.miss(20.0)
        provider.miss(20.0)
        provider.worked(provider.keys)
    assert provider.refresh_at > 3000
    for _ in range(3):
        provider.miss(20.0)
    assert provider.suspect
    assert provider.refresh_at == 20.0
    provider.begin(20.0)
    for _ in range(3):
        provider.miss(21.0)
    assert provider.refresh_at == 20.0 + RARELY


def test_where_asking_early_brought_new_keys_it_may_be_asked_early_again() -> None:
    server = Server()
    provider = session(server)
    take(provider, server)
    for number in range(1, 4):
        server.rotate(Resolver(2, b"%d" % number * 32, b"magic-%02d" % number))
        for _ in range(MISSES):
            provider.miss(2.0 * number)
        assert provider.refresh_at <= 2.0 * number
        provider.begin(2.0 * number)
        take(provider, server, 2.0 * number)
    for _ in range(MISSES):
        provider.miss(8.0)
    provider.begin(8.0)
    take(provider, server, 8.0)  # the same as before
    for _ in range(MISSES):
        provider.miss(10.0)
    assert provider.refresh_at == 8.0 + RARELY


def test_failures_make_it_ask_less() -> None:
    provider = session(Server())
    waits = []
    for _ in range(9):
        provider.fail("no answer", 0.0)
        waits.append(provider.refresh_at)
    assert waits == [10, 20, 40, 80, 160, 320, SELDOM, SELDOM, SELDOM]
    assert provider.reason == "no answer"


def test_another_network_means_other_keys_and_nothing_learned() -> None:
    server = Server()
    provider = session(server)
    take(provider, server)
    before = provider.keys
    provider.grow(1152, 0.0)
    provider.pace.sample(0.3)
    provider.habit.end_after_one(0.0)
    provider.forget(100.0)
    assert provider.keys is not before
    assert provider.ready(100.0)
    assert provider.refresh_at == 100.0
    assert provider.least(False, 100.0) == LEAST
    assert provider.pace.wait == FIRST_WAIT
    assert not provider.habit.one_shot


def test_a_clock_that_is_wrong_may_be_passed_over() -> None:
    server = Server()
    provider = Provider(NAME, server.provider.public, bytes_of(1), lambda: 1000.0, check_time=False)
    take(provider, server)
    assert provider.keys is not None
    assert provider.keys.expires == math.inf


def test_padding_grows_is_kept_and_shrinks() -> None:
    provider = session(Server())
    assert (provider.least(False, 0.0), provider.least(True, 0.0)) == (448, 768)
    provider.grow(1152, 0.0)
    provider.grow(896, 0.0)
    assert provider.least(False, 299.0) == 1152
    assert provider.least(False, 300.0) == 576
    assert provider.least(False, 600.0) == 448


def test_the_pace_follows_the_round_trip() -> None:
    pace = Pace()
    for _ in range(50):
        pace.sample(0.1)
    assert 0.12 <= pace.wait < 0.121
    for _ in range(50):
        pace.sample(0.001)
    assert 0.05 <= pace.wait < 0.06
    pace.sample(9.0)
    assert pace.wait == 1.0


def test_habits_are_proved_broken_and_forgotten() -> None:
    habit = Habit()
    for _ in range(3):
        habit.proved()
    assert habit.width == 2
    habit.broke(0.0)
    assert habit.width == 1
    habit.end_after_one(0.0)
    for _ in range(9):
        habit.proved()
    assert (habit.width, habit.one_shot) == (1, True)
    habit.refresh(1799.0)
    assert habit.one_shot
    habit.refresh(1800.0)
    assert not habit.one_shot


def test_a_stranger_shares_nothing_but_whose_certificates_are_good() -> None:
    server = Server()
    provider = session(server, xsalsa20=False)
    take(provider, server)
    other = provider.stranger()
    assert not other.ready(1.0)
    take(other, server)
    assert other.ready(1.0)
    assert other.keys is not None
    assert provider.keys is not None
    assert other.keys.certificate == provider.keys.certificate
    assert other.keys.boxes is not provider.keys.boxes
    assert (other.pace, other.habit) != (provider.pace, provider.habit)
    assert (other.xsalsa20, other.check_time) == (provider.xsalsa20, provider.check_time)
