"""The bad way loses, delays, doubles, reorders and rewrites as much as it is told to."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.peers import asking, late, lossy, scripted
from tests.peers.background import Address

pytestmark = pytest.mark.peers

MANY = 200


@pytest.fixture
def echo() -> Iterator[Address]:
    """A server that answers everything; with FORMERR here, for these are no queries."""
    with late.Late() as server:
        yield server.host, server.port


def pass_through(way: lossy.Lossy, messages: list[bytes]) -> list[bytes]:
    """Send messages from one socket, and return what comes back until nothing has for a while."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(way.address)
        sock.settimeout(way.rtt + 2 * way.jitter + 0.3)
        for message in messages:
            sock.send(message)
        answers = []
        try:
            while True:
                answers.append(sock.recv(65535))
        except TimeoutError:
            return answers


def messages(count: int) -> list[bytes]:
    return [number.to_bytes(2, "big") + bytes(10) for number in range(count)]


def expected(sent: list[bytes]) -> list[bytes]:
    return [scripted.right_answer(one) for one in sent]


def test_without_faults_it_is_a_tap(echo: Address) -> None:
    with lossy.Lossy(echo, source="127.0.0.3") as way:
        sent = messages(20)
        assert sorted(pass_through(way, sent)) == expected(sent)
        assert sorted(packet.data for packet in way.asked.packets) == sent
        assert sorted(packet.data for packet in way.answered.packets) == expected(sent)
        way.asked.assert_only_from("127.0.0.1")
        assert way.asked.size == 20 * 12


def test_it_loses_its_share_both_ways_and_the_same_again(echo: Address) -> None:
    lost = []
    for _ in range(2):
        with lossy.Lossy(echo, loss=0.2, seed=7) as way:
            assert 90 < len(pass_through(way, messages(MANY))) < 165
            assert 20 < way.counts["lost query"] < 60
            assert 15 < way.counts["lost answer"] < 50
            lost.append(way.counts["lost query"] + way.counts["lost answer"])
    assert abs(lost[0] - lost[1]) < 30  # the order of queries and answers differs, and so who is lost


def test_it_takes_its_time(echo: Address) -> None:
    with lossy.Lossy(echo, rtt=0.1) as way, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        begin = time.monotonic()
        sock.sendto(messages(1)[0], way.address)
        sock.recv(100)
        assert 0.09 < time.monotonic() - begin < 0.5


def test_it_doubles_and_reorders(echo: Address) -> None:
    with lossy.Lossy(echo, duplicate=1.0) as way:
        assert len(pass_through(way, messages(5))) == 20
        way.heal()
        way.reorder = 0.5
        answers = pass_through(way, messages(50))
        assert answers != expected(messages(50))
        assert sorted(answers) == expected(messages(50))


def test_it_loses_what_is_too_long_and_all_when_dead(echo: Address) -> None:
    with lossy.Lossy(echo, largest=12) as way:
        assert len(pass_through(way, [*messages(3), bytes(13)])) == 3
        way.dead = True
        assert pass_through(way, messages(3)) == []


def test_tcp_goes_through_unharmed(echo: Address) -> None:
    with lossy.Lossy(echo, loss=1.0) as way:
        message = asking.make_query("n7.test.example")
        assert asking.is_right(message, asking.ask_tcp(way.port, message))
        assert way.connections == 1


def test_it_rewrites_and_injects(echo: Address) -> None:
    with lossy.Lossy(echo) as way:
        way.rewrite_answer = lambda data: [b"forged", data]
        (sent,) = messages(1)
        assert pass_through(way, [sent]) == [b"forged", *expected([sent])]
        way.rewrite_answer = None
        way.rewrite_query = lambda data: []
        assert pass_through(way, [sent]) == []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            way.inject(b"made up", sock.getsockname())
            sock.settimeout(2)
            assert sock.recvfrom(100) == (b"made up", way.address)
