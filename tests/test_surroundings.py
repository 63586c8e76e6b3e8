"""Whether sleep and a change of network are told from their likes."""

from __future__ import annotations

from _udp2tls.config import Endpoint, parse_upstream
from _udp2tls.link import Link
from _udp2tls.surroundings import JUMP, Surroundings
from tests.fakes import PlainUpstream

ADDRESS = Endpoint("192.0.2.1", 853)


class Place:
    """A wall clock, a route, and a link opened there."""

    def __init__(self) -> None:
        self.wall, self.local = 5000.0, "192.0.2.200"
        self.surroundings = Surroundings(lambda: self.wall, lambda address: self.local)
        upstream = PlainUpstream(parse_upstream("tls://192.0.2.1"))
        self.link = Link(upstream, ADDRESS, upstream.codec(), 100.0)
        self.surroundings.note(self.link, 100.0)


def test_nothing_happened() -> None:
    place = Place()
    place.wall += 3600
    assert place.surroundings.changed(place.link, 3700.0) == ""


def test_time_that_only_the_wall_clock_saw_was_sleep_and_is_told_once() -> None:
    place = Place()
    place.wall += 610
    assert "jumped by 600 s" in place.surroundings.changed(place.link, 110.0)
    assert place.surroundings.changed(place.link, 110.0) == ""


def test_a_clock_that_is_set_a_little_is_of_no_interest() -> None:
    place = Place()
    for step in range(1, 20):
        place.wall += 10 + JUMP * 0.9
        assert place.surroundings.changed(place.link, 100.0 + 10 * step) == ""


def test_another_local_address_is_another_network() -> None:
    place = Place()
    place.local = "198.51.100.7"
    said = place.surroundings.changed(place.link, 100.0)
    assert "192.0.2.200" in said
    assert "198.51.100.7" in said


def test_no_way_to_the_upstream_is_told() -> None:
    place = Place()
    place.local = ""
    assert "is none now" in place.surroundings.changed(place.link, 100.0)


def test_a_link_whose_own_address_is_unknown_is_left_alone() -> None:
    place = Place()
    place.link.local = ""
    assert place.surroundings.changed(place.link, 100.0) == ""


def test_each_link_is_told_of_a_jump_by_itself() -> None:
    place = Place()
    upstream = PlainUpstream(parse_upstream("tls://192.0.2.2"))
    other = Link(upstream, ADDRESS, upstream.codec(), 100.0)
    place.surroundings.note(other, 100.0)
    place.wall += 600
    for link in (place.link, other):
        assert "jumped" in place.surroundings.changed(link, 100.0)
    for link in (place.link, other):
        assert place.surroundings.changed(link, 100.0) == ""
