"""What is learned of a DNSCrypt resolver, step by step; and that nothing goes where it should not."""

from __future__ import annotations

import pytest

from _udp2tls import box, relay
from _udp2tls.checkup_dnscrypt import MUTE, ONE_SHOT, REPEATS, Checkup, Way
from _udp2tls.codec import CertificateError, ConnectionLost
from _udp2tls.config import Endpoint
from tests.dnscrypt_world import SERVER, World
from tests.provider import DAY, NOW, Resolver
from tests.resolver import CONNECT, TURN

RELAY = Endpoint("198.51.100.1", 443)
needs_xwing = pytest.mark.skipif(bool(box.why_not(box.XWING)), reason=box.why_not(box.XWING))


def examine(world: World, **given: object) -> tuple[Way, Way, Checkup]:
    """Return what was seen over UDP and over TCP."""
    checkup = Checkup(world.spec(**given), world.tools)  # type: ignore[arg-type]
    udp, tcp = checkup.over_udp(), checkup.over_tcp()
    return udp, tcp, checkup


def test_a_good_server_is_measured_both_ways() -> None:
    world = World()
    udp, tcp, checkup = examine(world)
    assert (udp.step, udp.error) == ("answer", None)
    assert udp.certificate == pytest.approx(TURN)
    assert udp.round_trip == pytest.approx(TURN)
    assert not udp.cut_short
    assert tcp.connect == pytest.approx(CONNECT)
    assert tcp.certificate == pytest.approx(TURN)
    assert tcp.round_trip == pytest.approx(TURN)
    assert tcp.manners.startswith("persistent, several queries at once: 8 answered in order in ")
    assert world.addresses == {SERVER}
    assert checkup.best is checkup.provider
    assert len(world.queries) == 2 + 2 + 8


def test_through_a_relay_nothing_goes_to_the_server() -> None:
    world = World(tcp="one-shot", prefix=relay.prefix(*SERVER))
    udp, tcp, _ = examine(world, relay=RELAY)
    assert world.addresses == {RELAY}
    assert udp.answer
    assert tcp.answer
    assert tcp.manners == ONE_SHOT


@pytest.mark.parametrize(
    ("tcp", "manners", "step"),
    [("one-shot", ONE_SHOT, "answer"), ("repeats", REPEATS, "answer"), ("bare", "persistent, several", "answer"),
     ("refuses", "", "connect"), ("silent", "", "answer"), ("closes", "", "answer")],
)  # fmt: skip
def test_what_a_server_does_with_connections(tcp: str, manners: str, step: str) -> None:
    world = World(tcp=tcp)
    _, way, _ = examine(world)
    assert way.step == step
    assert way.manners.startswith(manners)
    assert bool(way.answer) == bool(manners)
    assert (way.certificate > 0) == (tcp in ("one-shot", "repeats"))
    assert isinstance(way.error, (OSError, ConnectionLost)) == (not manners)


def test_a_server_that_answers_once_and_then_nothing() -> None:
    world = World()
    udp = Checkup(world.spec(), world.tools).over_udp()
    assert udp.answer
    answered = world._over_tcp
    world._over_tcp = lambda sock, packet: answered(sock, packet) if sock.taken == 1 else []  # type: ignore[method-assign]
    assert Checkup(world.spec(), world.tools).over_tcp().manners == MUTE


@pytest.mark.parametrize("udp", ["silent", "refuses", "mute"])
def test_where_udp_says_nothing_tcp_is_measured_all_the_same(udp: str) -> None:
    world = World(udp=udp)
    started = world.now
    way, tcp, checkup = examine(world)
    assert not way.answer
    assert isinstance(way.error, OSError)
    assert way.step == ("answer" if udp == "mute" else "certificate")
    assert tcp.answer
    assert checkup.best is (checkup.provider if udp == "mute" else checkup.over_stream)
    assert world.now - started < 8.0


@needs_xwing
def test_certificates_without_room_in_a_datagram_come_over_tcp_and_udp_is_tried_with_them() -> None:
    world = World(Resolver(2), Resolver(3, b"x" * 32, b"magic-03"))
    udp, tcp, checkup = examine(world)
    assert not udp.certificate
    assert "cut short" in checkup.provider.refusal
    assert tcp.certificate
    checkup.over_udp_again(udp)
    assert udp.answer
    assert udp.certificate == 0.0


@pytest.mark.parametrize("way", ["key", "expired", "name"])
def test_without_a_good_certificate_no_query_is_sealed(way: str) -> None:
    world = World()
    world.name_known = way != "name"
    if way == "expired":
        world.certificates = [world.resolvers[0].certificate(world.provider, begins=NOW - DAY, ends=NOW - 5)]
    udp, tcp, checkup = examine(world, key=bytes(range(32)) if way == "key" else b"")
    assert not udp.answer
    assert not tcp.answer
    assert isinstance(tcp.error, CertificateError)
    assert checkup.best.refusal
    assert world.queries == []
    assert all(b"dnscrypt-cert" in packet for packet in world.packets)


def test_the_longest_answer_is_the_one_that_is_shown() -> None:
    world = World()
    world.certificates = [world.resolvers[0].certificate(world.provider, begins=NOW - DAY, ends=NOW - 5)]
    replies = iter(["long", "answers", "long", "long", "long"])
    whole = world._over_udp

    def mixed(sock: object, packet: bytes) -> list[bytes]:
        world.udp = next(replies, "long")
        return whole(sock, packet)  # type: ignore[arg-type]

    world._over_udp = mixed  # type: ignore[method-assign]
    checkup = Checkup(world.spec(), world.tools)
    checkup.over_udp()
    assert "expired" in checkup.provider.refusal
    assert b"DNSC" in checkup.provider.answer
