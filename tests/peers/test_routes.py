"""The forwarder with servers and relays by name, out of signed lists that a TOML file names."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import signed
from tests.peers import asking, dnscrypt, programs, relay, scripted_dnscrypt
from tests.peers.conftest import Start
from tests.peers.test_dnscrypt_upstream import assert_right
from tests.test_minisign import LISTS

pytestmark = [pytest.mark.peers, pytest.mark.slow]

# Each in a network of its own, as * wants it. Relays ask the server from these.
SERVER, FIRST, SECOND = "127.0.3.1", "127.0.1.1", "127.0.2.1"
FROM_FIRST, FROM_SECOND = "127.0.1.2", "127.0.2.2"


@pytest.fixture
def relays() -> Iterator[tuple[relay.Relay, relay.Relay]]:
    with relay.Relay(FIRST, outgoing=FROM_FIRST) as one, relay.Relay(SECOND, outgoing=FROM_SECOND) as two:
        yield one, two


def file(folder: Path, server: str, relays: tuple[relay.Relay, ...], *via: str, more: str = "") -> str:
    """Write two signed lists and a TOML file that routes a server through relays; return its name."""
    named = {f"anon-{number}": one.stamp for number, one in enumerate(relays, 1)}
    tables = [signed.write(folder, "servers", {"the-server": server})]
    tables += [signed.write(folder, "relays", named)] if relays else []
    route = f"[anonymized_dns]\nroutes = [{{ server_name = 'the-server', via = {list(via)} }}]\n{more}"
    names = "server_names = ['the-server']\nrequire_nolog = false\n"
    (folder / "udp2tls.toml").write_text("\n".join((names, *tables, route)))
    return str(folder / "udp2tls.toml")


async def ask_meanwhile(port: int, seconds: float, *changes: Callable[[], None]) -> asking.Tally:
    """Ask for ``seconds``; meanwhile make the changes, a second after one another."""

    async def change() -> None:
        for one in changes:
            await asyncio.sleep(1)
            await asyncio.to_thread(one)

    tally, _ = await asyncio.gather(asking.Asker.ask(port, 50, seconds), change())
    return tally


@pytest.mark.parametrize("way", ["dies", "falls silent"])
@pytest.mark.parametrize("via", [["anon-1", "anon-2"], ["*"], ["anon-1", "*"]], ids=["names", "all", "both"])
def test_when_a_relay_fails_the_other_takes_over_and_the_server_is_never_asked_directly(
    via: list[str], way: str, tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server:
        bridge = start(file(tmp_path, server.stamp, relays, *via))
        assert_right(bridge, "n1.test.example")
        used, other = relays if relays[0].asked.size else relays[::-1]
        assert other.asked.size == 0
        if via[0] == "anon-1":
            assert used is relays[0]

        def fail() -> None:
            if way == "dies":
                used.die()
            else:
                used.silent = True

        tally = asyncio.run(ask_meanwhile(bridge.port, 3, fail))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert other.asked.size > 0
        assert tally.worst < 2, "queries waited for the relay that had failed"
        server.asked.assert_only_from(FROM_FIRST, FROM_SECOND)
        for one in relays:
            for name in ("n1.test.example", asking.numbered(0), asking.numbered(100)):
                one.asked.assert_silent_about(name)


def test_where_udp_is_blocked_relays_are_asked_over_tcp(
    tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    for one in relays:
        one.tcp_only = True
    with scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server:
        bridge = start(file(tmp_path, server.stamp, relays, "anon-1", "anon-2"))
        assert_right(bridge, "n1.test.example")
        tally = asyncio.run(asking.Asker.ask(bridge.port, 20, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        server.asked.assert_only_from(FROM_FIRST, FROM_SECOND)


def test_without_any_relay_nothing_is_asked(
    tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server:
        for one in relays:
            one.die()
        bridge = start(file(tmp_path, server.stamp, relays, "anon-1", "anon-2"), "--timeout", "1.5")
        message = asking.make_query("n1.test.example")
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert len(server.asked) == 0
        relays[1].revive()
        assert asyncio.run(asking.Asker.ask(bridge.port, 20, 3)).right > 0
        server.asked.assert_only_from(FROM_SECOND)


@pytest.mark.parametrize("how", ["drops", "refuses"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_where_relays_bring_no_certificate_the_server_is_asked_for_it_alone_if_that_is_allowed(
    how: str, transport: str, tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    for one in relays:
        one.certificates = how
        one.tcp_only = transport == "tcp"
    with scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server:
        name = file(tmp_path, server.stamp, relays, "anon-1", "anon-2", more="direct_cert_fallback = true")
        bridge = start(name)
        assert_right(bridge, "n1.test.example")
        tally = asyncio.run(asking.Asker.ask(bridge.port, 20, 2))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        seen = server.asked.packets
        directly = [packet for packet in seen if packet.source not in (FROM_FIRST, FROM_SECOND)]
        assert {packet.note for packet in directly} == {"certificate"}
        assert len(directly) == 1, f"there was a certificate then\n{bridge.log}"
        assert {packet.note for packet in seen if packet not in directly} == {"sealed"}
        assert bridge.log.count("sees your address") == 1
        assert "the server was asked itself" in bridge.log


@pytest.mark.parametrize("said", ["", "direct_cert_fallback = false"])
def test_where_relays_bring_no_certificate_the_server_is_not_asked_if_that_is_not_allowed(
    said: str, tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    for one in relays:
        one.certificates = "drops"
    with scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server:
        bridge = start(file(tmp_path, server.stamp, relays, "anon-1", "anon-2", more=said), "--timeout", "4")
        message = asking.make_query("n1.test.example")
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert len(server.asked) == 0
        assert "sees your address" not in bridge.log


def test_a_real_server_through_relays_by_name(
    tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    with dnscrypt.DnsCrypt(tmp_path, host=SERVER) as server:
        bridge = start(file(tmp_path, server.stamp, relays, "anon-2", "anon-1"))
        assert_right(bridge, "n1.test.example")
        tally = asyncio.run(ask_meanwhile(bridge.port, 3, relays[1].die))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert server.clients() <= {FROM_FIRST, FROM_SECOND}


def test_a_relays_name_is_looked_up(tmp_path: Path, start: Start) -> None:
    with (
        scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server,
        relay.Relay("127.0.0.1", outgoing=FROM_FIRST) as way,
    ):
        bridge = start(file(tmp_path, server.stamp, (), f"localhost:{way.address[1]}"))
        assert_right(bridge, "n1.test.example")
        server.asked.assert_only_from(FROM_FIRST)
        assert f"through localhost:{way.address[1]} is at " in bridge.log


def test_a_name_that_leads_to_the_server_itself_is_no_relay(tmp_path: Path, start: Start) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host="127.0.0.1") as server:
        bridge = start(file(tmp_path, server.stamp, (), f"localhost:{server.address[1]}"), "--timeout", "1.5")
        message = asking.make_query("n1.test.example")
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert len(server.asked) == 0


def test_a_renewed_list_is_taken_with_sighup_and_costs_no_answer(
    tmp_path: Path, relays: tuple[relay.Relay, relay.Relay], start: Start
) -> None:
    with scripted_dnscrypt.DnsCrypt(2, host=SERVER) as server:
        bridge = start(file(tmp_path, server.stamp, relays[:1], "*"))
        assert_right(bridge, "n1.test.example")
        assert relays[0].asked.size > 0

        def renew() -> None:
            signed.write(tmp_path, "relays", {"anon-2": relays[1].stamp}, timestamp=2000)
            bridge.signal(signal.SIGHUP)

        tally = asyncio.run(ask_meanwhile(bridge.port, 3, renew, relays[0].asked.clear))
        assert tally.right == tally.sent, f"{tally}\n{bridge.log}"
        assert "the configuration was read anew" in bridge.log
        assert relays[1].asked.size > 0
        server.asked.assert_only_from(FROM_FIRST, FROM_SECOND)


@pytest.mark.skipif(not LISTS.exists(), reason="the project's lists are not here")
def test_the_projects_lists_from_the_command_line(tmp_path: Path) -> None:
    key = (LISTS / "minisign.pub").read_text().splitlines()[1]
    tables = [f"[sources.{name}]\ncache_file = '{LISTS / name}.md'\nminisign_key = '{key}'\n"
              for name in ("relays", "parental-control")]  # fmt: skip
    route = "[anonymized_dns]\nroutes = [{ server_name = '*', via = ['anon-cs-austria', '*'] }]"
    path = tmp_path / "real.toml"
    path.write_text("\n".join(("server_names = ['cisco-familyshield']", *tables, route)))
    listed = programs.run_forwarder("--list", str(path))
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "relays    346" in listed.stdout
    checked = programs.run_forwarder("--check", str(path))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "through anon-cs-austria (94.198.41.235:443), then " in checked.stdout
