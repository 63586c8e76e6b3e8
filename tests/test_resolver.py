"""Both ways to a DNSCrypt resolver: what they share, and where each of them goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from _udp2tls import relay, resolver, stamps, upstream
from _udp2tls.config import Config, ConfigError, Endpoint, UpstreamSpec
from _udp2tls.dnscrypt import Udp
from _udp2tls.dnscrypt_tcp import Tcp
from tests import provider as signing

KEY = bytes(range(32))
SPEC = UpstreamSpec("192.0.2.1", 8443, "2.dnscrypt-cert.example", key=KEY)
RELAYED = UpstreamSpec("192.0.2.1", 8443, "2.dnscrypt-cert.example", key=KEY, relay=Endpoint("198.51.100.1", 443))


def both(spec: UpstreamSpec = SPEC) -> tuple[resolver.OverUdp, resolver.OverTcp]:
    udp, tcp = resolver.build(spec, lambda: float(signing.NOW))
    assert isinstance(udp, resolver.OverUdp)
    assert isinstance(tcp, resolver.OverTcp)
    return udp, tcp


def test_both_ways_share_what_is_known_of_the_resolver() -> None:
    udp, tcp = both()
    assert udp.provider is tcp.provider
    assert udp.twin is tcp
    assert tcp.twin is None
    assert tcp.stands_in_for is udp
    assert udp.stands_in_for is None
    assert (udp.datagrams, tcp.datagrams) == (True, False)
    assert str(udp) != str(tcp), "statistics are kept by it"
    assert isinstance(udp.codec(1.0), Udp)
    assert isinstance(tcp.codec(1.0), Tcp)


def test_where_tcp_is_preferred_udp_stands_in_for_it() -> None:
    tcp, udp = resolver.build(replace(SPEC, prefer_tcp=True), lambda: 1e9)
    assert isinstance(tcp, resolver.OverTcp)
    assert udp.stands_in_for is tcp
    assert tcp.stands_in_for is None


def test_nothing_is_ready_without_a_certificate() -> None:
    udp, tcp = both()
    codec = udp.codec(1.0)
    assert codec.room == 0
    assert not udp.ready(1.0)
    assert not tcp.ready(1.0)
    assert udp.news() == ""


def test_through_a_relay_nobody_else_is_connected_to() -> None:
    for one in both(RELAYED):
        assert one.addresses == [Endpoint("198.51.100.1", 443)]
        (first, *_) = one.codec(1.0).outgoing()
        assert relay.prefix("192.0.2.1", 8443) in first[:30]


def test_a_server_is_asked_through_all_its_relays_before_it_is_asked_in_the_other_way() -> None:
    """Else the other way through a relay that has failed would be tried before the next relay."""
    two = replace(RELAYED, relay=Endpoint("203.0.113.1", 443))
    others = SPEC, replace(RELAYED, host="192.0.2.9"), UpstreamSpec("192.0.2.7", 853, "dot.example")
    built = upstream.build(Config((RELAYED, two, *others, replace(two, prefer_tcp=True))))
    assert [str(one).removeprefix("dnscrypt://").replace("#2.dnscrypt-cert.example", "") for one in built] == [
        "192.0.2.1:8443 through 198.51.100.1:443", "192.0.2.1:8443 through 203.0.113.1:443",
        "192.0.2.1:8443 through 198.51.100.1:443 over TCP", "192.0.2.1:8443 through 203.0.113.1:443 over TCP",
        "192.0.2.1:8443", "192.0.2.1:8443 over TCP",
        "192.0.2.9:8443 through 198.51.100.1:443", "192.0.2.9:8443 through 198.51.100.1:443 over TCP",
        "tls://192.0.2.7#dot.example",
        "192.0.2.1:8443?tcp through 203.0.113.1:443", "192.0.2.1:8443?tcp through 203.0.113.1:443 over UDP",
    ]  # fmt: skip


def test_a_relays_name_is_looked_up_and_the_servers_own_address_is_none_of_its() -> None:
    spec = replace(RELAYED, relay=Endpoint("relay.example", 8443))
    assert not spec.literal
    for one in both(spec):
        assert one.addresses == []
        assert one.found(["192.0.2.1", "::ffff:192.0.2.1"]) == "it is at the server's own address, 192.0.2.1"
        assert one.addresses == []
        assert one.found(["192.0.2.1", "198.51.100.7"]) == ""
        assert one.addresses == [Endpoint("198.51.100.7", 8443)]
        (first, *_) = one.codec(1.0).outgoing()
        assert relay.prefix("192.0.2.1", 8443) in first[:30]


def test_after_a_change_of_network_the_keys_are_new() -> None:
    signer = signing.Provider()
    udp, tcp = both(UpstreamSpec("192.0.2.1", 443, signing.NAME, key=signer.public))
    codec = udp.codec(1.0)
    certificate = signing.Resolver().certificate(signer)
    codec.receive([signing.reply(codec.outgoing()[0], certificate)], 1.0)
    assert udp.ready(1.0)
    assert codec.room
    assert signing.NAME in udp.news()
    assert udp.news() == "", "once"
    before = udp.provider.keys
    udp.start_over(2.0)
    assert udp.provider.keys is not before
    assert tcp.ready(2.0)


def test_a_name_that_cannot_be_is_a_bad_configuration() -> None:
    with pytest.raises(ConfigError):
        resolver.build(UpstreamSpec("192.0.2.1", 443, "a" * 70 + ".example", key=KEY), lambda: 1e9)


def test_they_stand_in_the_order_they_were_given_in() -> None:
    plain = UpstreamSpec("192.0.2.9", 853, "dot.example")
    made = upstream.build(Config(upstreams=(SPEC, plain, RELAYED), listen=()))
    assert [str(one) for one in made] == [
        str(SPEC), f"{SPEC} over TCP", "tls://192.0.2.9#dot.example", str(RELAYED), f"{RELAYED} over TCP"
    ]  # fmt: skip


def test_stamps_make_them() -> None:
    server = stamps.Stamp(stamps.Kind.DNSCRYPT, address="192.0.2.1:8443", key=KEY, provider="2.dnscrypt-cert.example")
    way = stamps.Stamp(stamps.Kind.DNSCRYPT_RELAY, address="198.51.100.1")
    assert stamps.upstream(stamps.format(server)) == SPEC
    assert stamps.upstream(stamps.format(stamps.Pair(way, server))) == RELAYED
    own = stamps.Stamp(stamps.Kind.DNSCRYPT_RELAY, address="192.0.2.1:444")
    with pytest.raises(ConfigError, match="own address"):
        stamps.upstream(stamps.format(stamps.Pair(own, server)))


def sealed_keys(spec: UpstreamSpec, count: int, *, ephemeral: bool) -> tuple[resolver.OverUdp, list[bytes]]:
    """Return the upstream and the public keys that so many queries bring the server."""
    signer = signing.Provider()
    udp, _ = resolver.build(replace(spec, name=signing.NAME, key=signer.public), lambda: float(signing.NOW),
                            ephemeral=ephemeral)  # fmt: skip
    assert isinstance(udp, resolver.OverUdp)
    codec = udp.codec(1.0)
    codec.receive([signing.reply(codec.outgoing()[0], signing.Resolver().certificate(signer))], 1.0)
    codec.send([bytes((0, number)) + bytes(30) for number in range(count)], 1.0)
    return udp, [packet[8:40] for packet in codec.outgoing()]


def test_a_key_pair_for_each_query_or_one_for_all() -> None:
    _, keys = sealed_keys(SPEC, 50, ephemeral=True)
    assert len(set(keys)) == 50
    udp, keys = sealed_keys(SPEC, 50, ephemeral=False)
    assert len(set(keys)) == 1
    udp.start_over(2.0)
    codec = udp.codec(2.0)
    codec.outgoing()
    codec.send([bytes(32)], 2.0)
    assert codec.outgoing()[0][8:40] != keys[0], "a network that has changed must not know us again"


def test_ephemeral_keys_reach_every_resolver() -> None:
    made = upstream.build(Config(upstreams=(SPEC, RELAYED), listen=(), ephemeral_keys=True))
    assert all(isinstance(one, resolver.Resolver) and one.provider.ephemeral for one in made)
    made = upstream.build(Config(upstreams=(SPEC, RELAYED), listen=()))
    assert not any(isinstance(one, resolver.Resolver) and one.provider.ephemeral for one in made)
