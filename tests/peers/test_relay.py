"""The relay passes on what a real one does, refuses what a real one refuses, and fails when told to."""

from __future__ import annotations

import time

import pytest

from _udp2tls import certificate
from tests import provider
from tests.peers import asking, dnscrypt, lossy, relay, scripted_dnscrypt, sealing

pytestmark = pytest.mark.peers

MESSAGE = asking.make_query("secret.n4.test.example")
HERE = ("127.0.0.1", 15353)
PACKET = b"m" * 100


@pytest.fixture
def way(dnscrypt_relay: relay.Relay) -> relay.Relay:
    return dnscrypt_relay


def client_via(way: relay.Relay, server: dnscrypt.DnsCrypt | scripted_dnscrypt.DnsCrypt) -> sealing.Sealing:
    return sealing.Sealing(server.address, server.provider, server.provider_key, via=way.address)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_through_it_a_real_server_answers(way: relay.Relay, dnscrypt_server: dnscrypt.DnsCrypt, transport: str) -> None:
    client = client_via(way, dnscrypt_server)
    assert client.fetch(transport, size=480).es_version == dnscrypt.XCHACHA20
    assert asking.is_right(MESSAGE, client.ask(transport, MESSAGE))
    assert way.asked.notes == ["", ""]
    assert [packet.transport for packet in way.asked.packets] == [transport] * 2
    assert way.targets == [dnscrypt_server.address] * 2
    assert way.passed.notes == ["", ""]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_server_sees_the_relay_and_the_relay_no_name(way: relay.Relay, transport: str) -> None:
    with scripted_dnscrypt.DnsCrypt() as server:
        client = client_via(way, server)
        client.source = "127.0.0.8"
        client.fetch(transport)
        client.ask(transport, MESSAGE)
        server.asked.assert_only_from("127.0.0.2")
        assert not server.asked.by("tcp")
        way.asked.assert_only_from("127.0.0.8")
        way.asked.assert_silent_about("secret.n4.test.example")
        way.passed.assert_silent_about("secret.n4.test.example")
        assert server.queries == [MESSAGE]
        with pytest.raises(AssertionError, match="plain text"):
            way.asked.assert_silent_about(server.provider)


def test_a_tap_before_a_real_server_sees_the_relay(way: relay.Relay, dnscrypt_server: dnscrypt.DnsCrypt) -> None:
    with lossy.Lossy(dnscrypt_server.address) as tap:
        client = client_via(way, dnscrypt_server)
        client.server = tap.address
        client.fetch()
        assert asking.is_right(MESSAGE, client.ask("udp", MESSAGE))
        tap.asked.assert_only_from("127.0.0.2")
        tap.asked.assert_silent_about("secret.n4.test.example")


def test_the_header_is_the_protocols() -> None:
    four = "ffffffffffffffff 0000 00000000000000000000ffffc0000201 01bb"
    six = "ffffffffffffffff 0000 20010db8000000000000000000000007 20fb"
    assert relay.wrap(("192.0.2.1", 443), b"packet") == bytes.fromhex(four) + b"packet"
    assert relay.wrap(("2001:db8::7", 8443), b"packet") == bytes.fromhex(six) + b"packet"


REFUSED = {
    "no packet for a relay": PACKET,
    "short": relay.wrap(HERE, b""),
    "address": relay.wrap(("10.0.0.1", 443), PACKET),
    "blocked": relay.wrap(("9.9.9.10", 443), PACKET),
    "port": relay.wrap(("127.0.0.1", 53), PACKET),
    "size": relay.wrap(HERE, bytes(21)),
    "quic": relay.wrap(HERE, b"\0\0\0\0\0\0\0\1" + PACKET),
    "chain": relay.wrap(HERE, relay.wrap(HERE, PACKET)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_it_refuses(way: relay.Relay, why: str) -> None:
    way.blocked.add("9.9.9.10")
    client = sealing.Sealing(way.address, "", b"")
    assert client.fate("udp", REFUSED[why], 0.1) == "silence"
    assert client.fate("tcp", REFUSED[why], 5) == "end"
    assert way.asked.notes == [why, why]
    assert way.targets == []


def test_it_refuses_more_as_its_operator_decides(way: relay.Relay) -> None:
    for packet, why in (
        (relay.wrap(way.address, PACKET), "itself"),
        (relay.wrap(HERE, bytes(0x1601)), "size"),
        (relay.wrap(("::1", 80), PACKET), "port"),
        (relay.wrap(("fd00::1", 443), PACKET), "address"),
    ):
        with pytest.raises(relay.Refused, match=why):
            way.check(packet)
    assert way.check(relay.wrap(("127.0.0.1", 20000), PACKET)) == (("127.0.0.1", 20000), PACKET)
    assert way.check(relay.wrap(("2620:fe::fe", 443), PACKET)) == (("2620:fe::fe", 443), PACKET)
    way.high_ports = False
    with pytest.raises(relay.Refused, match="port"):
        way.check(relay.wrap(("127.0.0.1", 20000), PACKET))
    way.loopback = False
    with pytest.raises(relay.Refused, match="address"):
        way.check(relay.wrap(HERE, PACKET))


ASKED = certificate.query(provider.NAME, b"id", size=480)
OTHER = certificate.query("cleanbrowsing.org", b"id", size=480)


@pytest.mark.parametrize(
    ("asked", "answer", "why"),
    [
        (ASKED, provider.reply(ASKED, bytes(124)), ""),
        (ASKED, provider.reply(ASKED, bytes(124)) + bytes(400), "longer than the query"),
        (ASKED, b"XX" + provider.reply(ASKED, bytes(124))[2:], "neither sealed nor an answer"),
        (ASKED, ASKED, "neither sealed nor an answer"),
        (ASKED, provider.reply(OTHER, bytes(124)), "another question"),
        (OTHER, provider.reply(OTHER, bytes(124)), "not a standard name"),
        (bytes(256), relay.RESOLVER_MAGIC + bytes(52), ""),
        (bytes(256), relay.RESOLVER_MAGIC + bytes(51), "size"),
        (bytes(256), bytes(100), "neither sealed nor an answer"),
    ],
)  # fmt: skip
def test_what_it_passes_back(asked: bytes, answer: bytes, why: str) -> None:
    assert relay.refusal(asked, answer) == why


def test_it_waits_on_when_an_answer_is_against_the_rules(way: relay.Relay) -> None:
    with scripted_dnscrypt.DnsCrypt() as server, lossy.Lossy(server.address) as bad:
        client = client_via(way, server)
        client.server = bad.address
        bad.rewrite_answer = lambda data: [b"forged by somebody", data + bytes(9000), data]
        client.fetch()
        assert way.passed.notes == ["neither sealed nor an answer", "longer than the query", ""]


def test_an_unpadded_certificate_query_brings_nothing(way: relay.Relay, dnscrypt_server: dnscrypt.DnsCrypt) -> None:
    client = client_via(way, dnscrypt_server)
    assert client.fate("udp", certificate.query(dnscrypt_server.provider, b"id")) == "silence"
    assert way.passed.notes == ["longer than the query"]


def test_it_remembers_certificates(way: relay.Relay) -> None:
    with scripted_dnscrypt.DnsCrypt() as server:
        client = client_via(way, server)
        assert client.fetch().serial == 1
        server.rotate()
        assert client.fetch().serial == 1
        way.cached = 0.0
        way.forget()
        assert client.fetch().serial == 2
        server.rotate()
        assert client.fetch().serial == 3


def test_its_faults(way: relay.Relay) -> None:
    with scripted_dnscrypt.DnsCrypt() as server:
        client = client_via(way, server)
        client.fetch()
        sealed = client.seal(MESSAGE)[0]
        for transport in ("udp", "tcp"):
            for fault in ("silent", f"{'udp' if transport == 'tcp' else 'tcp'}_only"):
                setattr(way, fault, True)
                assert client.fate(transport, sealed) == "silence"
                way.heal()
            way.drop_above = 600
            assert client.fate(transport, sealed) == "silence"
            assert asking.is_right(MESSAGE, client.ask(transport, MESSAGE, size=512))
            way.heal()
            way.garbage = True
            assert not client.exchange(transport, sealed).startswith(relay.RESOLVER_MAGIC)
            way.heal()
            way.delay = 0.1
            begin = time.monotonic()
            assert asking.is_right(MESSAGE, client.ask(transport, MESSAGE))
            assert time.monotonic() - begin > 0.09
            way.heal()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_it_may_pass_on_everything_but_certificates(way: relay.Relay, transport: str) -> None:
    with scripted_dnscrypt.DnsCrypt() as server:
        client = client_via(way, server)
        client.fetch()
        asked = certificate.query(server.provider, b"id", size=480)
        before = len(server.asked)
        for how, fate in (("drops", "silence"), ("refuses", "silence" if transport == "udp" else "end")):
            way.certificates = how
            assert client.fate(transport, asked, 0.2) == fate
            assert way.asked.notes[-1] == "certificate"
        assert len(server.asked) == before
        assert asking.is_right(MESSAGE, client.ask(transport, MESSAGE))
        way.heal()
        assert client.fetch(transport).serial == 1


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_it_may_die_and_come_back(way: relay.Relay, transport: str) -> None:
    with scripted_dnscrypt.DnsCrypt() as server:
        client = client_via(way, server)
        client.fetch()
        way.die()
        assert client.fate(transport, client.seal(MESSAGE)[0]) == "refused"
        way.revive()
        assert asking.is_right(MESSAGE, client.ask(transport, MESSAGE))


def test_it_drops_its_share(way: relay.Relay) -> None:
    with scripted_dnscrypt.DnsCrypt() as server:
        client = client_via(way, server)
        client.fetch()
        way.loss = 0.5
        fates = [client.fate("udp", client.seal(MESSAGE)[0], 0.1) for _ in range(16)]
        assert 2 < fates.count("silence") < 14
        assert way.asked.notes.count("fault") == fates.count("silence")
