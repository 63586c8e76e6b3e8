"""routes: through which relays, in which order, and never without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from _udp2tls import catalog, routes
from _udp2tls.catalog import Catalog
from _udp2tls.config import ConfigError
from _udp2tls.routes import STAR, NoRelay, Routes
from tests import signed

SERVER = "192.0.2.1"
RELAYS = {
    "anon-a": signed.relay("198.51.100.1"), "anon-b": signed.relay("203.0.113.1:8443"),
    "anon-same": signed.relay(SERVER), "anon-near": signed.relay("192.0.2.77"),
    "anon-six": signed.relay("[2001:db8:1::1]"),
    "anon-both": [signed.relay("[2001:db8:2::1]"), signed.relay("10.1.1.1")],
}  # fmt: skip
SERVERS = {
    "server": signed.server(SERVER), "six": signed.server("[2001:db8:9::1]:8443", 2),
    "other": signed.server("10.9.9.9", 3), "dot": signed.dot("10.8.8.8"), "doh": signed.DOH,
    "odd": signed.server("10.7.7.7", 4, "2.dnscrypt.example"), "scoped": signed.server("[fe80::1%eth0]", 5),
}  # fmt: skip


def line(*via: str, server: str = "server") -> str:
    return f"[anonymized_dns]\nroutes = [ {{ server_name = '{server}', via = {list(via)} }} ]\n"


def made(folder: Path, text: str, salt: str = "here", *more: str) -> Routes:
    relays, servers = signed.write(folder, "relays", RELAYS), signed.write(folder, "servers", SERVERS)
    wanted = signed.wanted(folder, text, *more, relays, servers)
    assert catalog.load(wanted) == []
    return Routes(Catalog(wanted), salt)


def through(folder: Path, *via: str, server: str = "server", salt: str = "here") -> list[str]:
    known = made(folder, line(*via, server=server), salt)
    route = known.of(server)
    assert route is not None
    (offer,) = known._catalog.offers(server)
    ways = known.ways(offer, route)
    assert all(spec.relay == relay.address and spec.host == (offer.spec and offer.spec.host) for relay, spec in ways)
    return [str(relay.address) for relay, _ in ways]


def warnings(folder: Path, *via: str, server: str = "server") -> list[str]:
    known = made(folder, line(*via, server=server))
    route = known.of(server)
    assert route is not None
    known.ways(known._catalog.offers(server)[0], route)
    return [one.removeprefix(f"{folder / 'file.toml'}:2: ") for one in known.warnings]


def mistake(folder: Path, *via: str, server: str = "server") -> str:
    with pytest.raises(ConfigError) as caught:
        through(folder, *via, server=server)
    return str(caught.value)


@pytest.mark.parametrize(
    ("via", "addresses"),
    [
        (["anon-a"], ["198.51.100.1:443"]), (["ANON-B", "anon-a"], ["203.0.113.1:8443", "198.51.100.1:443"]),
        (["anon-both"], ["10.1.1.1:443"]), (["anon-six"], ["[2001:db8:1::1]:443"]),
        (["198.51.100.9"], ["198.51.100.9:443"]), (["198.51.100.9:99"], ["198.51.100.9:99"]),
        (["[2001:db8::9]:99"], ["[2001:db8::9]:99"]), (["2001:db8::9"], ["[2001:db8::9]:443"]),
        ([signed.relay("198.51.100.9:99")], ["198.51.100.9:99"]),
        ([signed.server("198.51.100.9")], ["198.51.100.9:443"]), (["other"], ["10.9.9.9:443"]),
        (["anon-a", "198.51.100.1:443", "anon-b"], ["198.51.100.1:443", "203.0.113.1:8443"]),
        (["anon-same", "anon-a"], ["198.51.100.1:443"]), (["Relay.Example:8443"], ["relay.example:8443"]),
    ],
)  # fmt: skip
def test_whatever_names_a_relay(via: list[str], addresses: list[str], tmp_path: Path) -> None:
    assert through(tmp_path, *via) == addresses


@pytest.mark.parametrize(
    ("via", "what", "under", "remedy"),
    [
        ("anon-aa", "there is no relay 'anon-aa' in the lists", "anon-aa", "did you mean anon-a"),
        ("zzz", "there is no relay 'zzz' in the lists", "zzz", "give a relay's name"),
        ("dot", "dot relays no DNSCrypt: DoT", "dot", "give a relay's name"),
        ("relay_!:443", "'relay_!:443' is not HOST:PORT", "relay_!:443", "give a relay's name"),
        ("relay.example:0", "'relay.example:0' is not HOST:PORT", "relay.example:0", "give a relay's name"),
        ("tls://relay.example:44", "is not HOST:PORT", "tls://relay.example:44", "give a relay's name"),
        ("192.0.2.1:0", "port 0", "192.0.2.1:0", "leave it out for 443"),
        ("192.0.2.1:99999", "is not a number from 1", "192.0.2.1:99999", "leave :PORT out"),
        ("[192.0.2.1", "the bracket is not closed", "[192.0.2.1", "[ADDR]:PORT"),
        (signed.DOH, "this is the stamp of DoH, which relays no DNSCrypt", signed.DOH, "give a relay's name"),
        ("sdns://gRM", "it ends 19 bytes too early", "RM", ""),
        ("", "there is no relay ''", "'", ""),
    ],
)  # fmt: skip
def test_what_names_none_is_shown(via: str, what: str, under: str, remedy: str, tmp_path: Path) -> None:
    said, shown, carets, *rest = mistake(tmp_path, "anon-b", via).split("\n")
    assert said.startswith(f"{tmp_path / 'file.toml'}:2: ")
    assert what in said
    assert shown[carets.index(carets.strip()) :].startswith(under)
    assert remedy in "".join(rest)


def test_a_relay_at_the_servers_address_is_left_out_and_where_it_was_the_only_one_that_is_a_mistake(
    tmp_path: Path,
) -> None:
    assert warnings(tmp_path, "anon-same", "anon-a") == [
        "server is not asked through anon-same (192.0.2.1:443): it is at the server's own address,"
        " and would see who asks and what"
    ]
    for via in (["anon-same"], [f"{SERVER}:8443", "anon-same"], [signed.server(SERVER)], [f"[::ffff:{SERVER}]:443"]):
        said = mistake(tmp_path, *via)
        assert "no relay is left for server: it is at the server's own address" in said
        assert via[0] in said
        assert said.endswith("name another relay")


def test_relays_that_may_belong_to_the_servers_operator_are_warned_of(tmp_path: Path) -> None:
    assert warnings(tmp_path, "anon-a", "anon-b") == []
    assert warnings(tmp_path, "192.0.2.200") == [
        "the relay 192.0.2.200:443 is in the network of server, 192.0.2.1, and one operator may see who asks and what"
    ]


OPERATORS = {
    "dns.org-paris": signed.server("10.1.0.1", 7), "dns.org-rome": signed.server("10.2.0.1", 7),
    "else-where": signed.server("10.3.0.1", 8), "dns.org-anon-oslo": signed.relay("10.4.0.1"),
    "anon-dns.org-bern": signed.relay("10.5.0.1"), "anon-rome": signed.relay("10.2.0.1"),
    "anon-good": signed.relay("10.6.0.1"),
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "my-"])
def test_who_runs_what_is_guessed_by_names_and_providers_keys(prefix: str, tmp_path: Path) -> None:
    entries = signed.write(tmp_path, "all", OPERATORS) + f'prefix = "{prefix}"\n'
    via = [f"{prefix}{name}" for name in OPERATORS if "anon" in name]
    known = signed.wanted(tmp_path, line(*via, server=f"{prefix}dns.org-paris"), entries)
    catalog.load(known)
    routed = Routes(Catalog(known), "")
    for name, suspects in ((f"{prefix}dns.org-paris", 3), (f"{prefix}else-where", 0)):
        route = routed.of(f"{prefix}dns.org-paris")
        assert route is not None
        routed.warnings.clear()
        assert len(routed.ways(routed._catalog.offers(name)[0], route)) == 4
        assert len(routed.warnings) == suspects
        assert all("seem to have one operator" in one for one in routed.warnings)
    star = signed.wanted(tmp_path, line("*", server="*"), entries)
    catalog.load(star)
    routed = Routes(Catalog(star), "")
    route = routed.of("whoever")
    assert route is not None
    ways = routed.ways(routed._catalog.offers(f"{prefix}dns.org-paris")[0], route)
    assert [relay.name for relay, _ in ways] == [f"{prefix}anon-good"]
    assert len(routed.ways(routed._catalog.offers(f"{prefix}else-where")[0], route)) == 4


def test_all_relays_are_those_of_lists_that_are_not_near_the_server(tmp_path: Path) -> None:
    assert sorted(through(tmp_path, "*")) == ["10.1.1.1:443", "198.51.100.1:443", "203.0.113.1:8443"]
    for name, address in (("anon-a", "198.51.100.1:443"), ("anon-b", "203.0.113.1:8443"), ("anon-both", "10.1.1.1:443")
    ):  # fmt: skip
        found = through(tmp_path, name, "*")
        assert (found[0], len(found)) == (address, 3), "each once, and what is named comes first"


def test_all_relays_are_so_many_at_most_and_others_on_another_machine_but_always_the_same_on_this(
    tmp_path: Path,
) -> None:
    many = {f"r{number}-x": signed.relay(f"10.{number}.0.1") for number in range(60)}
    entries = signed.write(tmp_path, "many", many)

    def star(salt: str) -> list[str]:
        wanted = signed.wanted(tmp_path, line("*") + f"[static.server]\nstamp = '{signed.server(SERVER)}'", entries)
        catalog.load(wanted)
        routed = Routes(Catalog(wanted), salt)
        route = routed.of("server")
        assert route is not None
        return [relay.name for relay, _ in routed.ways(routed._catalog.offers("server")[0], route)]

    first = star("one")
    assert len(first) == STAR
    assert star("one") == first
    assert star("two") != first
    signed.write(tmp_path, "many", {name: stamp for name, stamp in many.items() if name != first[2]}, 2000)
    assert star("one")[:4] == first[:2] + first[3:], "the others stay"


def test_relays_of_the_servers_version_of_ip_come_first(tmp_path: Path) -> None:
    both = "ipv6_servers = true"
    for name, first in (("server", "."), ("six", ":")):
        routed = made(tmp_path, f"{both}\n{line('*', server=name)}")
        route = routed.of(name)
        assert route is not None
        hosts = [relay.address.host for relay, _ in routed.ways(routed._catalog.offers(name)[0], route)]
        assert first in hosts[0]
        assert len(hosts) == 5


def test_the_exact_name_comes_before_all(tmp_path: Path) -> None:
    relays, servers = signed.write(tmp_path, "relays", RELAYS), signed.write(tmp_path, "servers", SERVERS)
    text = "[anonymized_dns]\nroutes = [ { server_name = '*', via = ['anon-a'] },"
    text += " { server_name = 'SERVER', via = ['anon-b'] } ]"
    found = signed.chosen(tmp_path, "server_names = ['other', 'server']", text, relays, servers)
    assert signed.ways(found) == ["10.9.9.9 198.51.100.1", "192.0.2.1 203.0.113.1"]


def test_only_dnscrypt_goes_through_relays(tmp_path: Path) -> None:
    for name, protocol in (("dot", "DoT"), ("doh", "DoH")):
        assert f"{name} speaks {protocol}, and only DNSCrypt goes through a relay" in mistake(
            tmp_path, "anon-a", server=name
        )
    assert "a scope means nothing to a relay" in mistake(tmp_path, "anon-a", server="scoped")


def test_a_provider_whose_certificates_no_relay_passes_on_is_warned_of(tmp_path: Path) -> None:
    assert "2.dnscrypt.example" in warnings(tmp_path, "anon-a", server="odd")[0]


def test_without_relays_in_the_lists_nothing_is_left_and_while_lists_are_missing_that_is_no_mistake(
    tmp_path: Path,
) -> None:
    static = f"[static.server]\nstamp = '{signed.server(SERVER)}'\n"
    with pytest.raises(ConfigError, match=r"no relay is left for server\n(.|\n)*add \[sources.relays\]"):
        signed.chosen(tmp_path, "server_names = ['server']", static, line("*"))
    wanted = signed.wanted(tmp_path, static, line("*", "anon-a"), signed.table("relays"))
    routed = Routes(Catalog(wanted), "")
    assert "'anon-a' is in no list that is here (missing: relays)" in routed.warnings[0]
    route = routed.of("server")
    assert route is not None
    with pytest.raises(NoRelay, match="no relay for server, for lists are missing: relays"):
        routed.ways(routed._catalog.offers("server")[0], route)


def test_the_order_that_nobody_chose_takes_any_text() -> None:
    assert routes.rank("\ud800", "a") != routes.rank("a", "\ud800")
