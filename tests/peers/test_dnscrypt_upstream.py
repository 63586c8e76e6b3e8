"""The forwarder with DNSCrypt upstreams: real and scripted servers, relays, loss, rotation, blocked UDP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.peers import asking, dnscrypt, lossy, programs, relay, scripted_dnscrypt, sdns
from tests.peers.conftest import Start

pytestmark = [pytest.mark.peers, pytest.mark.slow]


# A relay at the server's own address is refused.
ELSEWHERE = "127.0.0.3"


def through(way: relay.Relay, server: str) -> str:
    """Return the stamp of a server asked through a relay."""
    return f"{way.stamp}/{server.removeprefix('sdns://')}"


def assert_right(bridge: programs.Program, name: str) -> None:
    message = asking.make_query(name)
    assert asking.is_right(message, asking.ask_udp(bridge.port, message)), bridge.log
    message = asking.make_query("tcp." + name)
    assert asking.is_right(message, asking.ask_tcp(bridge.port, message)), bridge.log


def assert_large(bridge: programs.Program) -> None:
    message = asking.make_query("large.test.example", asking.TXT, opt=asking.opt_record(4096))
    whole = asking.ask_tcp(bridge.port, message)
    assert not whole[2] & 2, bridge.log
    assert len(whole) > 4000
    assert asking.ask_udp(bridge.port, message)[2] & 2


@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "relayed"])
@pytest.mark.parametrize("es_version", [dnscrypt.XSALSA20, dnscrypt.XCHACHA20])
def test_a_real_server_answers(
    es_version: int, relayed: bool, tmp_path: Path, dnscrypt_relay: relay.Relay, start: Start
) -> None:
    with dnscrypt.DnsCrypt(tmp_path, es_versions=[es_version], host=ELSEWHERE) as server:
        bridge = start("--upstream", through(dnscrypt_relay, server.stamp) if relayed else server.stamp)
        assert_right(bridge, "n1.test.example")
        if not relayed:
            assert_large(bridge)
        tally = asyncio.run(asking.Asker.ask(bridge.port, 300, 2))
        assert tally.right == tally.sent, tally
        assert f"es_version {es_version}" in bridge.log
        assert server.provider in bridge.log


def test_what_relay_and_server_see(dnscrypt_relay: relay.Relay, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=ELSEWHERE) as server:
        bridge = start("--upstream", through(dnscrypt_relay, server.stamp))
        assert_right(bridge, "secret.n4.test.example")
        server.asked.assert_only_from("127.0.0.2")
        dnscrypt_relay.asked.assert_silent_about("secret.n4.test.example")
        assert dnscrypt_relay.asked.sources == {"127.0.0.1"}


def test_without_its_relay_a_server_is_not_asked(dnscrypt_relay: relay.Relay, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=ELSEWHERE) as server:
        dnscrypt_relay.die()
        bridge = start("--upstream", through(dnscrypt_relay, server.stamp), "--timeout", "2")
        message = asking.make_query("n1.test.example")
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert server.asked.size == 0
        dnscrypt_relay.revive()
        message = asking.make_query("n2.test.example")
        assert asking.is_right(message, asking.ask_udp(bridge.port, message)), bridge.log
        server.asked.assert_only_from("127.0.0.2")


def test_when_one_relay_dies_another_is_asked(start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=ELSEWHERE) as server, relay.Relay() as first, relay.Relay() as second:
        bridge = start("--upstream", through(first, server.stamp), "--upstream", through(second, server.stamp))
        assert_right(bridge, "n1.test.example")
        assert second.asked.size == 0
        first.silent = True
        tally = asyncio.run(asking.Asker.ask(bridge.port, 50, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        server.asked.assert_only_from("127.0.0.2")


@pytest.mark.parametrize("manners", ["together", "serial", "one-shot", "repeats"])
def test_where_udp_is_blocked_tcp_is_used_as_the_server_allows(manners: str, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, manners=manners) as server:
        server.silent_udp = True
        bridge = start("--upstream", server.stamp)
        assert_right(bridge, "n1.test.example")
        tally = asyncio.run(asking.Asker.ask(bridge.port, 50, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"


@pytest.mark.parametrize("keep", [True, False], ids=["announced", "without warning"])
def test_new_keys_cost_no_answer(keep: bool, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2) as server:
        bridge = start("--upstream", server.stamp)
        assert_right(bridge, "n1.test.example")
        server.rotate(keep=keep)
        tally = asyncio.run(asking.Asker.ask(bridge.port, 50, 4))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"


def test_a_server_that_restarts_is_found_again(tmp_path: Path, start: Start) -> None:
    with dnscrypt.DnsCrypt(tmp_path) as server:
        bridge = start("--upstream", server.stamp)
        assert_right(bridge, "n1.test.example")
        server.kill()
        server.start()
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"


def test_an_expired_certificate_is_not_used(start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, lifetime=-1000) as server:
        bridge = start("--upstream", server.stamp, "--timeout", "2")
        message = asking.make_query("n1.test.example")
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert server.queries == []


def test_a_server_with_another_key_is_never_asked(start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2) as server:
        stamp = sdns.dnscrypt(server.address, bytes(range(32)), server.provider)
        bridge = start("--upstream", stamp, "--timeout", "2")
        message = asking.make_query("n1.test.example")
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert server.queries == []


def test_a_fifth_of_all_packets_may_be_lost(tmp_path: Path, start: Start) -> None:
    with (
        dnscrypt.DnsCrypt(tmp_path) as server,
        lossy.Lossy(server.address, rtt=0.02) as way,
    ):
        bridge = start("--upstream", sdns.dnscrypt(way.address, server.provider_key, server.provider))
        assert_right(bridge, "n1.test.example")
        way.loss = 0.2
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 4))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
