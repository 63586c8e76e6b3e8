"""exchange: when a certificate is asked for, how large, how often, and what ends that."""

from __future__ import annotations

import math

import pytest

from _udp2tls.certificate import NoCertificate
from _udp2tls.exchange import LARGEST, Exchange
from tests import provider as peers
from tests.provider import Resolver
from tests.test_dnscrypt import Server, needs_xwing, session

CLASSIC, XWING = Resolver(2), Resolver(3, b"x" * 32, b"magic-03")


def test_it_asks_until_there_is_an_answer_then_when_the_next_is_due() -> None:
    server = Server()
    provider = session(server)
    exchange = Exchange(provider, relayed=False)
    assert exchange.deadline(0.0) == 0.0
    asked = exchange.look(0.0)
    assert (len(asked), exchange.due) == (46, 0.25)
    assert exchange.look(0.1) == b""
    larger = exchange.look(0.25)
    assert (len(larger), larger[:2]) == (480, asked[:2])
    assert not exchange.is_answer(asked)
    exchange.take(server.answer(larger) or b"", 0.3)
    assert not exchange.active
    assert exchange.look(0.3) == b""
    assert exchange.deadline(0.3) == provider.refresh_at
    assert exchange.look(provider.refresh_at)


def test_beside_a_certificate_it_is_given_up_and_without_one_never() -> None:
    server = Server()
    provider = session(server)
    exchange = Exchange(provider, relayed=False)
    now, count = 0.0, 0
    while now < 30.0:
        count += bool(exchange.look(now))
        now = exchange.deadline(now)
    assert 28 <= count <= 34
    exchange.take(server.answer(exchange._asked) or b"", now)
    now, count = provider.refresh_at, 0
    start = now
    while now < start + 9.0:
        count += bool(exchange.look(now))
        now = exchange.deadline(now)
    assert count == 7
    assert provider.reason == "no answer to the query for a certificate"


def test_what_another_connection_has_got_need_not_be_asked_for() -> None:
    server = Server()
    provider = session(server)
    one, other = Exchange(provider, relayed=False), Exchange(provider, relayed=False)
    asked = one.look(0.0)
    other.look(0.0)
    one.take(server.answer(asked) or b"", 0.1)
    assert other.look(0.25) == b""
    assert not other.active


def test_few_answers_are_looked_at() -> None:
    server = Server()
    exchange = Exchange(session(server), relayed=True)
    asked = exchange.look(0.0)
    server.certificates = [b"DNSC nothing"]
    bad = server.answer(asked) or b""
    for _ in range(4):
        assert exchange.is_answer(bad)
        with pytest.raises(NoCertificate):
            exchange.take(bad, 0.1)
    assert not exchange.is_answer(bad)
    exchange.look(exchange.due)
    assert exchange.is_answer(bad)


def test_over_tcp_it_asks_once() -> None:
    provider = session(Server())
    exchange = Exchange(provider, relayed=False, stream=True)
    assert exchange.begin(0.0)
    assert exchange.due == 3.0
    assert exchange.look(3.0) == b""
    assert exchange.due == math.inf
    assert provider.counts["failed_fetches"] == 1


def as_they_do(server: Server, asked: bytes) -> bytes:
    """Answer as encrypted-dns-server: with es_version 3 only where that is no longer than the query, else with TC."""
    whole = peers.reply(asked, *server.certificates)
    return whole if len(whole) <= len(asked) else peers.reply(asked, server.certificates[0], flags=b"\x83\0")


@needs_xwing
def test_what_was_left_out_is_asked_for_while_the_rest_is_used() -> None:
    server = Server(CLASSIC, XWING)
    provider = session(server)
    exchange = Exchange(provider, relayed=False)
    exchange.take(as_they_do(server, exchange.look(0.0)), 0.1)
    assert provider.ready(0.1)
    assert provider.keys
    assert provider.keys.certificate.es_version == 2
    assert exchange.due == 0.1
    larger = exchange.look(0.1)
    assert len(larger) == LARGEST
    exchange.take(as_they_do(server, larger), 0.2)
    assert provider.keys.certificate.es_version == 3
    assert not exchange.active
    assert len(exchange.look(provider.refresh_at)) == LARGEST  # else a classic one took its place for a while


@needs_xwing
def test_what_is_left_out_again_is_not_asked_for_again() -> None:
    """A relay gives everyone what it has passed first."""
    server = Server(CLASSIC, XWING)
    provider = session(server)
    exchange = Exchange(provider, relayed=True)
    assert len(exchange.look(0.0)) == LARGEST  # so this is the first
    remembered = as_they_do(server, exchange.look(exchange.due))
    exchange.take(remembered, 0.3)
    assert not exchange.active
    assert provider.ready(0.3)
    assert provider.counts["failed_fetches"] == 0
