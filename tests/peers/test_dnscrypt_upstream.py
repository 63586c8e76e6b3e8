"""The forwarder with DNSCrypt upstreams: real and scripted servers, relays, loss, rotation, blocked UDP."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from _udp2tls import box
from tests.peers import asking, dnscrypt, late, lossy, programs, relay, scripted, scripted_dnscrypt, sdns, sealing
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
        assert programs.dig(bridge.port, "n7.test.example", "+short") == "192.0.2.7\n"
        assert programs.dig(bridge.port, "n8.test.example", "+short", "+tcp") == "192.0.2.8\n"
        if not relayed:
            assert_large(bridge)
        tally = asyncio.run(asking.Asker.ask(bridge.port, 300, 2))
        assert tally.right == tally.sent, tally
        assert f"es_version {es_version}" in bridge.log
        assert server.provider in bridge.log


@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "relayed"])
def test_the_post_quantum_system_is_preferred(relayed: bool, dnscrypt_relay: relay.Relay, start: Start) -> None:
    if said := box.why_not(box.XWING):
        pytest.skip(said)
    with scripted_dnscrypt.DnsCrypt(2, 3, host=ELSEWHERE) as server:
        bridge = start("--upstream", through(dnscrypt_relay, server.stamp) if relayed else server.stamp)
        assert_right(bridge, "n1.test.example")
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 1))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert "es_version 3" in bridge.log
        assert {"text", "resumed"} <= set(server.served())


@pytest.mark.parametrize("before", [480, 3200], ids=["classic remembered", "all remembered"])
def test_what_a_relay_remembers_or_drops_costs_the_post_quantum_system_at_most(
    before: int, dnscrypt_relay: relay.Relay, start: Start
) -> None:
    """Somebody before us asked through the relay, and it now drops our large packets, those of es_version 3 too."""
    if said := box.why_not(box.XWING):
        pytest.skip(said)
    with scripted_dnscrypt.DnsCrypt(2, 3, host=ELSEWHERE) as server:
        client = sealing.Sealing(server.address, server.provider, server.provider_key, via=dnscrypt_relay.address)
        client.fetch(size=before)
        dnscrypt_relay.drop_above = 1200
        bridge = start("--upstream", through(dnscrypt_relay, server.stamp))
        assert_right(bridge, "n1.test.example")
        tally = asyncio.run(asking.Asker.ask(bridge.port, 50, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert set(server.served()) == {"shared"}, bridge.log


def test_tcp_may_be_preferred_even_where_certificates_come_over_udp_alone(
    dnscrypt_server: dnscrypt.DnsCrypt, start: Start
) -> None:
    bridge = start("--upstream", dnscrypt_server.stamp + "?tcp")
    assert_right(bridge, "n1.test.example")
    tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 4))
    assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
    assert "answers again; queries go there" in bridge.log
    assert_large(bridge)


@pytest.mark.parametrize("relayed", [False, True], ids=["direct", "relayed"])
@pytest.mark.parametrize("way", ["udp", "tcp"])
@pytest.mark.parametrize("es_version", [dnscrypt.XSALSA20, dnscrypt.XCHACHA20])
def test_twenty_thousand_names_all_get_their_answers(
    es_version: int, way: str, relayed: bool, tmp_path: Path, dnscrypt_relay: relay.Relay, start: Start
) -> None:
    names = tmp_path / "names"
    names.write_text("".join(f"{asking.numbered(serial)} A\n" for serial in range(20_000)))
    with dnscrypt.DnsCrypt(tmp_path, es_versions=[es_version], in_flight=100, host=ELSEWHERE) as server:
        stamp = through(dnscrypt_relay, server.stamp) if relayed else server.stamp
        bridge = start("--upstream", stamp + ("?tcp" if way == "tcp" else ""))
        assert_right(bridge, "n1.test.example")
        if way == "tcp":
            asyncio.run(asking.Asker.ask(bridge.port, 50, 2.5))
            assert "?tcp" in bridge.log
            assert "answers again; queries go there" in bridge.log
        done = subprocess.run(
            [programs.find("dnsperf"), "-s", "127.0.0.1", "-p", str(bridge.port), "-d", str(names), "-n", "1",
             "-q", "100", "-c", "10", "-T", "1", "-b", "4096"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert re.search(r"Response codes:\s+NOERROR 20000 \(100", done.stdout), done.stdout + bridge.log
        assert bridge.alive


def test_over_one_tcp_connection_late_answers_are_overtaken(tmp_path: Path, start: Start) -> None:
    with (
        late.Late() as backend,
        dnscrypt.DnsCrypt(tmp_path, in_flight=100, host=ELSEWHERE, backend=backend.port) as server,
    ):
        bridge = start("--upstream", server.stamp + "?tcp")
        asyncio.run(asking.Asker.ask(bridge.port, 50, 2.5))  # the certificate comes over UDP alone
        assert "answers again; queries go there" in bridge.log
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(asking.PATIENCE)
            client.connect(("127.0.0.1", bridge.port))
            # At first one at a time: that the server takes more has to show. (dnsdist itself, with Nagle's
            # algorithm, lets a second query wait for 40 ms.)
            for delays in ([2] * 40, [90, 0]):
                queries = [asking.make_query(f"n{number}.d{delay}.{late.ZONE}") for number, delay in enumerate(delays)]
                for query in queries:
                    client.send(query)
                answers = [client.recv(4096) for _ in queries]
        assert all(map(asking.is_right, queries[::-1], answers))
        assert len(re.findall(r"connected to \S+\?tcp by way of", bridge.log)) == 1, bridge.log


def test_what_relay_and_server_see(dnscrypt_relay: relay.Relay, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=ELSEWHERE) as server:
        bridge = start("--upstream", through(dnscrypt_relay, server.stamp))
        assert_right(bridge, "secret.n4.test.example")
        server.asked.assert_only_from("127.0.0.2")
        dnscrypt_relay.asked.assert_silent_about("secret.n4.test.example")
        assert dnscrypt_relay.asked.sources == {"127.0.0.1"}
        assert bridge.log.count("are in one network, 127.0.0.0/24") == 1


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


@pytest.mark.parametrize("strategy", ["rotate", "fastest"])
def test_strategies_use_tcp_only_where_udp_fails(strategy: str, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2) as one, scripted_dnscrypt.DnsCrypt(2) as other:
        bridge = start("--upstream", one.stamp, "--upstream", other.stamp, "--strategy", strategy)
        tally = asyncio.run(asking.Asker.ask(bridge.port, 300, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert one.queries
        assert other.queries
        assert one.connections + other.connections == 0
        one.silent_udp = True
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 4))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert one.connections
        assert other.connections == 0
        if strategy == "rotate":
            over_tcp = [packet for packet in one.asked.by("tcp") if packet.note == "sealed"]
            assert len(over_tcp) > tally.sent / 4, "half of the queries are its share"
            assert tally.worst < 2.0, tally
        one.silent_udp = False
        asyncio.run(asking.Asker.ask(bridge.port, 100, 9))  # by then it has been tried again
        one.asked.clear()
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 1))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert not one.asked.by("tcp"), bridge.log
        if strategy == "rotate":
            assert one.asked.by("udp")


def client_keys(server: scripted_dnscrypt.DnsCrypt) -> list[bytes]:
    """Return the clients' public keys that sealed queries brought, each packet's once."""
    return [data[8:40] for data in {packet.data for packet in server.asked.packets if packet.note == "sealed"}]


@pytest.mark.parametrize("way", ["udp", "tcp"])
def test_each_query_has_a_key_pair_of_its_own_where_that_is_wished(way: str, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2) as server:
        upstream = ("--upstream", server.stamp + ("?tcp" if way == "tcp" else ""))
        bridge = start(*upstream, "--ephemeral-keys")
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 1))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        keys = client_keys(server)
        assert len(keys) >= tally.sent
        assert len(set(keys)) == len(keys)
        assert server.asked.by(way)
        server.asked.clear()
        tally = asyncio.run(asking.Asker.ask(start(*upstream).port, 100, 1))
        assert tally.right == tally.sent
        assert len(client_keys(server)) >= tally.sent
        assert len(set(client_keys(server))) == 1, "else one, until the certificate is asked for again"


def test_after_a_change_of_network_nobody_is_known_by_the_key(start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2) as server:
        bridge = start("--upstream", server.stamp)
        assert_right(bridge, "n1.test.example")
        before = set(client_keys(server))
        bridge.signal(signal.SIGSTOP)
        bridge.signal(signal.SIGCONT)
        scripted.wait_until(lambda: "made anew" in bridge.log)
        server.asked.clear()
        assert_right(bridge, "n2.test.example")
        after = set(client_keys(server))
        assert before
        assert after
        assert not before & after, bridge.log
