"""choice: names, requirements and routes come to upstreams, in order, and never to one that nobody meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from _udp2tls import choice
from _udp2tls.choice import UNNAMED, WAYS, NothingChosen
from _udp2tls.config import Config, ConfigError, UpstreamSpec, parse_upstream
from _udp2tls.routes import STAR
from tests import signed
from tests.signed import chosen, mistake, server, ways

URL = parse_upstream("tls://9.9.9.9#dns.quad9.net")

SERVERS = {
    "a": server("10.0.0.1", 1), "b": [server("10.0.0.2", 2), server("[2001:db8::2]", 2), signed.DOH],
    "logs": server("10.0.0.3", 3, no_logs=False), "filters": server("10.0.0.4", 4, no_filter=False),
    "plain-dnssec": server("10.0.0.5", 5, dnssec=False), "six": server("[2001:db8::6]", 6),
    "dot": signed.dot("10.0.0.7"), "doh": signed.DOH, "bad": "sdns://nonsense!",
    "anon-r": signed.relay("198.51.100.1"), "anon-a": signed.relay("10.0.0.1"),
}  # fmt: skip


@pytest.fixture
def lists(tmp_path: Path) -> str:
    return signed.write(tmp_path, "lists", SERVERS)


def hosts(found: choice.Choice) -> list[str]:
    return [one.host for one in found.upstreams]


def test_servers_that_are_named_are_asked_in_that_order_whatever_is_required(tmp_path: Path, lists: str) -> None:
    found = chosen(tmp_path, "server_names = ['filters', 'DOT', 'six', 'b', 'logs']", lists)
    assert hosts(found) == ["10.0.0.4", "10.0.0.7", "2001:db8::6", "10.0.0.2", "10.0.0.3"]
    assert found.notes == found.warnings == ()
    assert [one.key[:1] for one in found.upstreams] == [b"\4", b"", b"\6", b"\2", b"\3"]
    assert found.lines == (f"source    lists: 11 names, from {tmp_path / 'lists.md'}",)


def test_a_server_has_all_its_stamps_for_the_versions_of_ip_in_use(tmp_path: Path, lists: str) -> None:
    names = "server_names = ['b']\nipv6_servers = true"
    assert hosts(chosen(tmp_path, names, lists)) == ["10.0.0.2", "2001:db8::2"]
    assert hosts(chosen(tmp_path, f"{names}\nipv4_servers = false", lists)) == ["2001:db8::2"]


def test_upstreams_by_url_come_first_and_nothing_is_there_twice(tmp_path: Path, lists: str) -> None:
    found = chosen(tmp_path, "server_names = ['dot', 'a', 'dot']", lists, given=[URL])
    assert hosts(found) == ["9.9.9.9", "10.0.0.7", "10.0.0.1"]


def test_without_names_all_that_have_what_is_required(tmp_path: Path, lists: str) -> None:
    found = chosen(tmp_path, lists)
    assert sorted(hosts(found)) == ["10.0.0.1", "10.0.0.2", "10.0.0.5", "10.0.0.7"]
    assert found.notes == (
        "no server_names: 4 servers of lists have what is required (require_nolog, require_nofilter)",
    )
    more = "require_nolog = false\nrequire_nofilter = false\nrequire_dnssec = true\nipv6_servers = true"
    assert sorted(hosts(chosen(tmp_path, more, lists))) == [
        "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.7", "2001:db8::2", "2001:db8::6"
    ]  # fmt: skip
    fewer = "dnscrypt_servers = false"
    assert hosts(chosen(tmp_path, fewer, lists)) == ["10.0.0.7"]
    assert "10.0.0.1" not in hosts(chosen(tmp_path, "disabled_server_names = ['A']", lists))


def test_without_names_but_with_an_upstream_lists_add_no_server(tmp_path: Path, lists: str) -> None:
    found = chosen(tmp_path, lists, given=[URL])
    assert found.upstreams == (URL,)
    assert "only by server_names" in found.notes[0]


def test_without_names_the_files_own_come_first_and_are_all_there(tmp_path: Path, lists: str) -> None:
    own = f"[static.mine]\nstamp = '{server('10.1.1.1', no_logs=False)}'\n[static.doh]\nstamp = '{signed.DOH}'\n"
    found = chosen(tmp_path, lists, own, f"[static.way]\nstamp = '{signed.relay('10.2.2.2')}'")
    assert hosts(found)[0] == "10.1.1.1"
    assert len(hosts(found)) == 5
    assert "doh is passed over: DoH is not supported" in found.notes[0]


def test_of_a_long_list_so_many_are_used_always_the_same_and_others_elsewhere(tmp_path: Path) -> None:
    many = signed.write(tmp_path, "many", {f"s{at}": server(f"10.0.{at}.1", at) for at in range(100)})
    found = chosen(tmp_path, many)
    assert len(found.upstreams) == UNNAMED
    assert f"100 servers of lists have what is required (require_nolog, require_nofilter); used are {UNNAMED}" in (
        found.notes[0]
    )
    assert chosen(tmp_path, many).upstreams == found.upstreams
    elsewhere = choice.choose(choice.Choice(found.wanted, (), "another machine"))
    assert elsewhere.upstreams != found.upstreams


def test_with_relays_there_are_fewer_servers_for_each_has_several_ways(tmp_path: Path) -> None:
    many = {f"s{at}": server(f"10.0.{at}.1", at) for at in range(100)}
    many |= {f"anon-r{at}": signed.relay(f"10.1.{at}.1") for at in range(100)}
    route = "[anonymized_dns]\nroutes = [{ server_name = '*', via = ['*'] }]"
    found = chosen(tmp_path, signed.write(tmp_path, "many", many), route)
    assert WAYS <= len(found.upstreams) < WAYS + STAR
    assert len({one.host for one in found.upstreams}) == -(-WAYS // STAR)
    assert all(one.relay for one in found.upstreams)


def test_servers_that_nobody_named_and_that_no_route_fits_are_passed_over(tmp_path: Path) -> None:
    entries = {
        "a": server("10.0.0.1"), "own-relay": server("198.51.100.1"), "dot": signed.dot("10.0.0.7"),
        "odd": server("10.0.0.8", 1, "2.dnscrypt.example"), "anon-r": signed.relay("198.51.100.1"),
    }  # fmt: skip
    route = "[anonymized_dns]\nroutes = [{ server_name = '*', via = ['anon-r'] }]"
    found = chosen(tmp_path, signed.write(tmp_path, "lists", entries), route)
    assert ways(found) == ["10.0.0.1 198.51.100.1"]
    assert found.lines[-1] == "route     a (10.0.0.1) through anon-r (198.51.100.1:443)"
    assert [one for one in found.warnings if "one operator" not in one] == []


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("aa", "there is no server 'aa'", "did you mean a?"),
        ("zzz", "there is no server 'zzz'", "see what there is: udp2tls --list "),
        ("anon-r", "anon-r is a relay, which answers no queries itself", "name it in via of a route"),
    ],
)
def test_a_name_that_is_no_server_is_shown(name: str, what: str, remedy: str, tmp_path: Path, lists: str) -> None:
    said, shown, carets, hint = mistake(tmp_path, f"server_names = ['a',\n  '{name}']", lists)
    assert said == f"{tmp_path / 'file.toml'}:2: {what}"
    assert shown[carets.index(carets.strip()) :].startswith(name)
    assert hint.strip().startswith(remedy)


def test_without_any_list_the_remedy_is_another(tmp_path: Path) -> None:
    assert "add [sources] with a list" in mistake(tmp_path, "server_names = ['a']")[-1]


def test_a_route_with_a_mistake_in_its_name_is_shown_and_the_server_is_not_asked_directly(
    tmp_path: Path, lists: str
) -> None:
    route = "[anonymized_dns]\nroutes = [{ server_name = 'filtres', via = ['anon-r'] }]"
    said, *_, hint = mistake(tmp_path, "server_names = ['filters']", lists, route)
    assert "there is no server 'filtres'" in said
    assert "did you mean filters?" in hint


def test_protocols_that_are_not_supported_are_passed_over_with_a_note(tmp_path: Path, lists: str) -> None:
    found = chosen(tmp_path, "server_names = ['doh', 'bad', 'a']", lists)
    assert hosts(found) == ["10.0.0.1"]
    assert "doh is passed over: DoH is not supported" in found.notes[0]
    assert "bad is passed over: its stamp cannot be read" in found.notes[1]


def test_a_static_stamp_with_a_mistake_is_shown_even_if_nobody_wants_it(tmp_path: Path, lists: str) -> None:
    said, shown, carets, *_ = mistake(
        tmp_path, "server_names = ['a']", lists, "[static.x]\nstamp = 'sdns://AQcAAAAAAAAA'"
    )
    assert said.startswith(f"{tmp_path / 'file.toml'}:")
    assert "too early" in said
    assert shown == "    sdns://AQcAAAAAAAAA"
    assert carets.strip()


def test_a_static_stamp_may_have_its_relay_in_it_but_then_no_route(tmp_path: Path, lists: str) -> None:
    pair = f"{signed.relay('198.51.100.7')}/{server('10.1.1.1').removeprefix('sdns://')}"
    own = f"[static.mine]\nstamp = '{pair}'\n"
    names = "server_names = ['mine', 'a']"
    every = "[anonymized_dns]\nroutes = [{ server_name = '*', via = ['anon-r'] }]"
    assert ways(chosen(tmp_path, names, lists, own, every)) == ["10.1.1.1 198.51.100.7", "10.0.0.1 198.51.100.1"]
    assert "names a relay too" in mistake(tmp_path, names, lists, own, every.replace("*", "mine"))[0]


def test_a_server_named_and_with_a_route_goes_through_relays_in_all_its_ways(tmp_path: Path, lists: str) -> None:
    routes = "[anonymized_dns]\nroutes = [{ server_name = 'b', via = ['anon-r', '203.0.113.9'] }]"
    found = chosen(tmp_path, "server_names = ['b', 'a']\nipv6_servers = true", lists, routes)
    assert ways(found) == [
        "10.0.0.2 198.51.100.1", "10.0.0.2 203.0.113.9", "2001:db8::2 198.51.100.1", "2001:db8::2 203.0.113.9",
        "10.0.0.1 direct",
    ]  # fmt: skip


def test_a_server_whose_only_relay_is_at_its_address_is_a_mistake_for_whoever_named_it(
    tmp_path: Path, lists: str
) -> None:
    routes = "[anonymized_dns]\nroutes = [{ server_name = 'a', via = ['anon-a'] }]"
    assert "at the server's own address" in mistake(tmp_path, "server_names = ['b', 'a']", lists, routes)[0]


def test_certificates_may_be_asked_for_directly_where_there_is_a_route_and_that_is_a_warning(
    tmp_path: Path, lists: str
) -> None:
    route = "[anonymized_dns]\nroutes = [{ server_name = 'b', via = ['anon-r'] }]"
    for said, allowed in (("", False), ("direct_cert_fallback = false", False), ("direct_cert_fallback = true", True)):
        found = chosen(tmp_path, "server_names = ['b', 'logs', 'dot']", lists, route, said)
        assert [one.direct_certificate for one in found.upstreams] == [allowed, False, False]
        assert ways(found) == ["10.0.0.2 198.51.100.1", "10.0.0.3 direct", "10.0.0.7 direct"]
        assert [one.endswith("is asked for it directly and sees your address") for one in found.warnings] == [
            True
        ] * allowed
    found = chosen(tmp_path, "server_names = ['logs']", lists, route, "direct_cert_fallback = true")
    assert found.warnings == (), "it concerns nobody"


def test_a_route_that_nobody_needs_is_a_note_and_an_upstream_beside_a_route_for_all_a_warning(
    tmp_path: Path, lists: str
) -> None:
    routes = "[anonymized_dns]\nroutes = [{ server_name = 'six', via = ['anon-r'] }, " \
             "{ server_name = '*', via = ['anon-r'] }]"  # fmt: skip
    found = chosen(tmp_path, "server_names = ['a']", lists, routes, given=[URL])
    assert ways(found) == ["9.9.9.9 direct", "10.0.0.1 198.51.100.1"]
    assert [one for one in found.notes if "the route for six is not needed" in one]
    assert [one for one in found.warnings if "without a relay is asked: tls://9.9.9.9#dns.quad9.net" in one]


def test_without_a_list_the_rest_goes_on(tmp_path: Path, lists: str) -> None:
    found = chosen(tmp_path, "server_names = ['far', 'a']", lists, signed.table("missing"))
    assert hosts(found) == ["10.0.0.1"]
    assert found.warnings[0].startswith("source missing: ")
    assert found.warnings[1].endswith("'far' is in no list that is here (missing: missing)")


def test_without_the_list_of_relays_a_server_with_a_route_is_not_asked(tmp_path: Path, lists: str) -> None:
    routes = "[anonymized_dns]\nroutes = [{ server_name = 'a', via = ['anon-x', '*'] }, "
    routes += "{ server_name = 'gone', via = ['anon-r'] }]"
    (tmp_path / "lists.md").unlink()
    own = f"[static.a]\nstamp = '{server('10.0.0.1')}'\n[static.b]\nstamp = '{server('10.0.0.2')}'\n"
    found = chosen(tmp_path, "server_names = ['a', 'b']", lists, own, routes)
    assert ways(found) == ["10.0.0.2 direct"]
    said = "\n".join(found.warnings)
    assert "no relay for a, for lists are missing: lists; it is not asked" in said
    assert "a route for 'gone', which is in no list that is here" in said
    assert "'anon-x' is in no list that is here" in said


def test_when_nothing_is_left_the_error_says_why_and_which_lists_would_help(tmp_path: Path) -> None:
    for names in ("server_names = ['a']", ""):
        with pytest.raises(NothingChosen) as caught:
            chosen(tmp_path, names, signed.table("missing"))
        assert "missing.md: No such file" in str(caught.value)
        assert "put each list and its .minisig where cache_file says" in str(caught.value)
        assert [one.name for one in caught.value.sources] == ["missing"]
    entries = signed.write(tmp_path, "lists", {"doh": signed.DOH, "logs": server("10.0.0.1", no_logs=False)})
    with pytest.raises(NothingChosen, match=r"require less; see what there is: udp2tls --list .*file\.toml"):
        chosen(tmp_path, entries)
    with pytest.raises(NothingChosen, match=r"doh is passed over: DoH"):
        chosen(tmp_path, "server_names = ['doh']", entries)


def config(found: choice.Choice) -> Config:
    return Config(found.upstreams, sources=found.wanted.sources, choice=found, notes=("mine", *found.notes),
                  warnings=("mine", *found.warnings))  # fmt: skip


def test_a_list_that_was_renewed_is_chosen_from_anew(tmp_path: Path, lists: str) -> None:
    before = config(chosen(tmp_path, "server_names = ['a', 'doh']", lists, given=[URL]))
    assert choice.renewed(before) == before
    assert choice.renewed(before).notes == before.notes
    signed.write(tmp_path, "lists", {"a": server("10.0.0.99"), "doh": server("10.0.0.98", 2)}, 2000)
    assert choice.renewed(before) == before, "the file is not read"
    before.sources[0].load()
    after = choice.renewed(before)
    assert [one.host for one in after.upstreams] == ["9.9.9.9", "10.0.0.99", "10.0.0.98"]
    assert (after.notes, after.warnings) == (("mine",), ("mine",))
    assert after.sources == before.sources


def test_a_renewed_list_without_a_server_that_is_named_leaves_the_old_choice_standing(
    tmp_path: Path, lists: str
) -> None:
    before = config(chosen(tmp_path, "server_names = ['a']", lists))
    signed.write(tmp_path, "lists", {"b": server("10.0.0.2")}, 2000)
    before.sources[0].load()
    with pytest.raises(ConfigError, match="there is no server 'a'"):
        choice.renewed(before)


def test_a_configuration_without_lists_is_its_own_renewal() -> None:
    plain = Config((UpstreamSpec("9.9.9.9", 853, "9.9.9.9"),))
    assert choice.renewed(plain) is plain
