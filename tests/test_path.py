"""What is learned about an address: rests, patience, idle limits, limits of a connection; and that it is forgotten."""

from __future__ import annotations

import random

import pytest

from _udp2tls import path as rules
from _udp2tls.path import Path


def test_rests_grow_and_are_jittered_and_bounded() -> None:
    rests = set()
    for seed in range(20):
        path = Path()
        for _ in range(40):
            path.fail(0.0, random.Random(seed))
        assert rules.LONGEST_REST / 2 <= path.retry_at <= rules.LONGEST_REST
        rests.add(path.retry_at)
    assert len(rests) > 10


def test_the_first_rest_is_short_and_success_ends_all() -> None:
    path = Path()
    path.fail(10.0, random.Random(1))
    assert 10.0 < path.retry_at <= 10.0 + rules.FIRST_REST
    path.recover()
    assert (path.failures, path.retry_at) == (0, 0.0)


def test_round_trips_are_smoothed_as_rfc_6298_says() -> None:
    path = Path()
    path.sample(0.2)
    assert (path.rtt, path.deviation) == (0.2, 0.1)
    path.sample(0.28)
    assert path.deviation == pytest.approx(0.1 + (0.08 - 0.1) / 4)
    assert path.rtt == pytest.approx(0.2 + 0.08 / 8)
    assert path.trip == 0.2


def test_patience_follows_the_round_trips_within_bounds() -> None:
    path = Path()
    assert path.patience(1) == rules.LEAST_PATIENCE
    path.note_trip(0.2)
    assert path.patience(1) == pytest.approx(0.4), "before the first answer: two of the network's own"
    for _ in range(50):
        path.sample(0.3)
    assert path.patience(1) == pytest.approx(0.3, abs=0.01)
    path.sample(30.0)
    assert path.patience(1) == rules.MOST_PATIENCE


def test_silence_says_more_when_many_wait() -> None:
    path = Path()
    path.sample(0.001)
    assert path.patience(rules.MANY) == rules.LEAST_PATIENCE_OF_MANY < path.patience(1)


def test_silence_says_most_of_a_server_known_to_work_on_one_query_at_a_time() -> None:
    path = Path()
    path.sample(0.001)
    path.note_stall(True, 0.0)
    assert path.patience(1) == rules.LEAST_PATIENCE
    assert path.patience(2) == rules.LEAST_PATIENCE_BEHIND
    other = Path()
    other.scatter(0.0)
    assert other.patience(2) == rules.LEAST_PATIENCE


def test_a_keepalive_value_is_kept_to_with_a_margin_and_a_limit() -> None:
    path = Path()
    path.note_keepalive(100)
    assert path.idle_limit == 9.0
    path.note_keepalive(65535)
    assert path.idle_limit == rules.LONGEST_IDLE


def test_one_idle_close_is_chance_and_two_alike_are_a_habit() -> None:
    path = Path()
    path.note_idle_close(3.0, 0.0)
    assert path.idle_limit == rules.IDLE_LIMIT
    path.note_idle_close(9.0, 0.0)
    assert path.idle_limit == rules.IDLE_LIMIT
    path.note_idle_close(8.8, 0.0)
    assert path.idle_limit == pytest.approx(8.8 * 0.9)


def test_a_close_right_after_an_answer_is_no_idle_limit() -> None:
    path = Path()
    for _ in range(5):
        path.note_idle_close(0.01, 0.0)
    assert path.idle_limit == rules.IDLE_LIMIT


def test_a_connection_that_died_idle_leads_to_half_of_that() -> None:
    path = Path()
    path.note_idle_death(15.0, 0.0)
    assert path.idle_limit == 7.5
    path.note_idle_death(18.0, 0.0)
    assert path.idle_limit == 7.5, "never up again by another death"


def test_the_number_of_queries_on_a_connection_is_learned_from_two_equal_ends() -> None:
    path = Path()
    path.note_hang_up(5, 0.0)
    path.note_hang_up(7, 0.0)
    assert not path.limited
    path.note_hang_up(7, 0.0)
    assert path.capacity == 7
    assert path.limited


def test_ends_without_any_answer_teach_nothing() -> None:
    path = Path()
    for _ in range(5):
        path.note_hang_up(0, 0.0)
    assert not path.limited


def test_a_proven_stall_makes_a_server_serial_and_lost_connections_only_in_numbers() -> None:
    path = Path()
    for _ in range(rules.STALLS - 1):
        path.note_stall(False, 0.0)
        assert not path.limited
    path.note_stall(False, 0.0)
    assert path.width == 1
    other = Path()
    other.note_stall(True, 0.0)
    assert other.width == 1


def test_a_queue_with_far_to_go_widens_serial_connections_and_only_those() -> None:
    path = Path()
    path.note_trip(0.05)
    path.make_room(10_000)
    assert path.width == 0
    path.note_stall(True, 0.0)
    path.make_room(10)
    assert path.width == 1
    path.make_room(1000)
    assert path.width > 10
    path.make_room(0)
    assert path.width == 1
    near = Path()
    near.note_trip(0.0005)
    near.note_stall(True, 0.0)
    near.make_room(1000)
    assert near.width == 1


def test_what_was_learned_is_forgotten_after_a_while() -> None:
    path = Path()
    path.note_stall(True, 0.0)
    path.note_hang_up(7, 0.0)
    path.note_hang_up(7, 0.0)
    path.note_idle_death(4.0, 0.0)
    path.refresh(rules.BELIEF - 1)
    assert path.limited
    path.refresh(rules.BELIEF)
    assert not path.limited
    assert path.idle_limit == rules.IDLE_LIMIT


def test_scattering_is_for_the_queries_that_wait_and_teaches_nothing() -> None:
    path = Path()
    path.scatter(0.0)
    path.make_room(50)
    assert not path.gathered(50, 0.0)
    assert path.width == rules.MANY
    assert path.gathered(0, 0.01)
    assert not path.gathered(0, 0.01), "said once"
    assert not path.limited
    path.note_stall(True, 0.0)
    path.scatter(0.0)
    assert not path.gathered(0, 0.0)
    path.make_room(0)
    assert path.width == 1, "what was learned stays"


def test_scattering_ends_soon_even_if_the_queries_wait_on() -> None:
    path = Path()
    path.scatter(1.0)
    assert path.gathered(50, 1.0 + rules.SCATTERING)
    assert not path.limited
