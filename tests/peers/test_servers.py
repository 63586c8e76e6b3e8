"""The forwarder between real clients and real DNS-over-TLS servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests import authority
from tests.peers import asking, programs
from tests.peers.conftest import Start

pytestmark = pytest.mark.peers

SECTIONS = ("+noall", "+comments", "+question", "+answer")

DIG_OPTIONS = {
    "udp": (), "tcp": ("+tcp",), "keepopen": ("+tcp", "+keepopen"), "bufsize512": ("+bufsize=512",),
    "bufsize4096": ("+bufsize=4096",), "nocookie": ("+nocookie",), "cookie": ("+cookie=0123456789abcdef",),
    "dnssec": ("+dnssec",), "noedns": ("+noedns",), "padding": ("+padding=128",), "nsid": ("+nsid",),
    "subnet": ("+subnet=192.0.2.0/24",), "keepalive": ("+tcp", "+keepalive"), "norecurse-cd": ("+norecurse", "+cdflag"),
}  # fmt: skip
KDIG_OPTIONS = {
    "udp": (), "tcp": ("+tcp",), "keepopen": ("+tcp", "+keepopen"), "noedns": ("+noedns",),
    "bufsize512": ("+bufsize=512",), "dnssec": ("+dnssec",), "padding": ("+padding=64",), "cookie": ("+cookie",),
}  # fmt: skip

WANTED = {"A": "192.0.2.1", "AAAA": "2001:db8::1", "TXT": f'"{programs.TEXT}"', "HTTPS": '1 . alpn="h2"'}


@pytest.fixture(params=list(programs.SERVERS), scope="module")
def server(request: pytest.FixtureRequest, server_named: Callable[[str], programs.Program]) -> programs.Program:
    return server_named(request.param)


@pytest.fixture(scope="module")
def bridge(
    server: programs.Program, certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[programs.Program]:
    options = ["--ca-file", certs.ca_file, *programs.upstream(server.port)]
    with programs.forwarder(tmp_path_factory.mktemp("bridge"), *options) as program:
        yield program
        assert program.alive


def records(output: str, kind: str) -> list[str]:
    """Return the data of the answers of one type in what dig or kdig printed."""
    return re.findall(rf"^\S+\s+\d+\s+IN\s+{kind}\s+(.*)$", output, re.MULTILINE)


def texts(output: str) -> list[str]:
    """Return the strings of the one TXT answer."""
    (data,) = records(output, "TXT")
    return re.findall(r'"([^"]*)"', data)


@pytest.mark.parametrize("kind", WANTED)
@pytest.mark.parametrize("options", DIG_OPTIONS.values(), ids=DIG_OPTIONS)
def test_dig_gets_what_the_server_has(bridge: programs.Program, options: tuple[str, ...], kind: str) -> None:
    output = programs.dig(bridge.port, *SECTIONS, *options, "www.test.example", kind)
    assert "status: NOERROR" in output
    assert records(output, kind) == [WANTED[kind]]
    assert "PAD" not in output
    assert "KEEPALIVE" not in output


@pytest.mark.parametrize("options", KDIG_OPTIONS.values(), ids=KDIG_OPTIONS)
def test_kdig_gets_what_the_server_has(bridge: programs.Program, options: tuple[str, ...]) -> None:
    for kind in ("A", "AAAA", "TXT"):
        output = programs.kdig(bridge.port, *options, "www.test.example", kind)
        assert "status: NOERROR" in output
        assert records(output, kind) == [WANTED[kind]]
        assert "PADDING" not in output
    output = programs.kdig(bridge.port, *options, "www.test.example", "TYPE65")
    assert "status: NOERROR" in output
    assert records(output, "HTTPS") == ["1 . alpn=h2"]


def test_many_names_on_one_tcp_connection_get_each_its_own_answer(bridge: programs.Program) -> None:
    names = [f"q{serial}.n{serial % 10}.test.example" for serial in range(20)]
    for options in ((), ("+tcp", "+keepopen")):
        output = programs.dig(bridge.port, "+noall", "+answer", *options, *names)
        assert records(output, "A") == [f"192.0.2.{serial % 10}" for serial in range(20)]


@pytest.mark.parametrize("options", [(), ("+bufsize=512",), ("+bufsize=4096",), ("+noedns",)], ids=" ".join)
def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp(
    bridge: programs.Program, options: tuple[str, ...]
) -> None:
    cut = programs.dig(bridge.port, *SECTIONS, "+ignore", *options, "large.test.example", "TXT")
    assert re.search(r"flags:[a-z ]* tc[ ;]", cut)
    assert records(cut, "TXT") == []
    retried = programs.dig(bridge.port, *SECTIONS, *options, "large.test.example", "TXT")
    assert "Truncated, retrying in TCP mode" in retried
    assert texts(retried) == list(programs.LARGE)
    whole = programs.dig(bridge.port, *SECTIONS, "+tcp", *options, "large.test.example", "TXT")
    assert texts(whole) == list(programs.LARGE)


def test_kdig_retries_a_truncated_answer_over_tcp(bridge: programs.Program) -> None:
    output = programs.kdig(bridge.port, "large.test.example", "TXT")
    assert texts(output) == list(programs.LARGE)


@pytest.mark.parametrize("name", ["WWW.TEST.EXAMPLE", "wWw.tEsT.eXaMpLe"])
@pytest.mark.parametrize("ask", [asking.ask_udp, asking.ask_tcp])
def test_the_question_comes_back_in_the_clients_letter_case(
    bridge: programs.Program, ask: Callable[[int, bytes], bytes], name: str
) -> None:
    for opt in (b"", asking.opt_record()):
        message = asking.make_query(name, opt=opt)
        assert asking.is_right(message, ask(bridge.port, message))


def test_names_that_differ_in_case_only_are_answered_each_in_its_own(bridge: programs.Program) -> None:
    output = programs.dig(bridge.port, "+noall", "+question", "WwW.test.example", "wWw.test.example")
    assert [line.split()[0] for line in output.splitlines() if line.startswith((";W", ";w"))] == [
        ";WwW.test.example.", ";wWw.test.example.",
    ]  # fmt: skip


@pytest.mark.parametrize("options", [(), ("+tcp",), ("+noedns",)], ids=" ".join)
def test_a_label_with_a_zero_byte_passes(bridge: programs.Program, options: tuple[str, ...]) -> None:
    output = programs.dig(bridge.port, *SECTIONS, *options, programs.ODD_NAME, "A")
    assert f";{programs.ODD_NAME}." in output
    assert records(output, "A") == ["192.0.2.1"]


@pytest.mark.parametrize("options", [(), ("+tcp",), ("+noedns",), ("+dnssec",)], ids=" ".join)
def test_a_name_that_does_not_exist_stays_nonexistent(bridge: programs.Program, options: tuple[str, ...]) -> None:
    output = programs.dig(bridge.port, *SECTIONS, *options, "nothing.test.example", "A")
    assert "status: NXDOMAIN" in output
    assert "ANSWER: 0" in output


@pytest.mark.parametrize("name", ["www.test.example", "nothing.test.example", "large.test.example"])
@pytest.mark.parametrize("kind", [asking.A, asking.TXT, asking.HTTPS])
def test_no_client_gets_edns_it_did_not_ask_for(bridge: programs.Program, name: str, kind: int) -> None:
    padding, keepalive = 12, 11
    for ask in (asking.ask_udp, asking.ask_tcp):
        plain = ask(bridge.port, asking.make_query(name, kind))
        assert asking.options_of(plain) is None
        asked = asking.opt_record(4096, bytes((0, keepalive, 0, 0, 0, padding, 0, 5)) + bytes(5))
        options = asking.options_of(ask(bridge.port, asking.make_query(name, kind, opt=asked))) or {}
        assert padding not in options
        assert keepalive not in options


@pytest.mark.parametrize("server", ["named"], indirect=True)
@pytest.mark.parametrize("options", [("+dnssec",), ("+dnssec", "+tcp"), ("+dnssec", "+bufsize=512")], ids=" ".join)
def test_signatures_reach_a_client_that_wants_them(bridge: programs.Program, options: tuple[str, ...]) -> None:
    signed = programs.dig(bridge.port, *SECTIONS, *options, "www.test.example", "A")
    assert len(records(signed, "RRSIG")) == 1
    assert records(signed, "A") == ["192.0.2.1"]
    assert re.search(r"flags: do;", signed)
    plain = programs.dig(bridge.port, *SECTIONS, "www.test.example", "A")
    assert records(plain, "RRSIG") == []
    keys = programs.dig(bridge.port, *SECTIONS, *options, "test.example", "DNSKEY")
    assert len(records(keys, "DNSKEY")) == 2
    denial = programs.dig(bridge.port, "+noall", "+comments", "+authority", *options, "nothing.test.example", "A")
    assert "status: NXDOMAIN" in denial
    assert records(denial, "NSEC")


@pytest.mark.parametrize("server", ["named"], indirect=True)
def test_a_servers_cookie_reaches_its_client(bridge: programs.Program) -> None:
    output = programs.dig(bridge.port, "+noall", "+comments", "+cookie", "www.test.example", "A")
    assert re.search(r"COOKIE: [0-9a-f]{48} \(good\)", output)
    output = programs.dig(bridge.port, "+noall", "+comments", "+nocookie", "www.test.example", "A")
    assert "COOKIE" not in output


def test_clients_and_upstreams_may_be_reached_over_ipv6(server: programs.Program, start: Start) -> None:
    bridge = start(*programs.upstream(server.port, host="::1"), host="::1")
    for options in ((), ("+tcp",)):
        output = programs.dig(bridge.port, *SECTIONS, *options, "www.test.example", "AAAA", host="::1")
        assert records(output, "AAAA") == [WANTED["AAAA"]]
    assert f"at [::1]:{server.port}" in bridge.log


def test_both_families_are_served_at_once(server: programs.Program, start: Start) -> None:
    four = start(*programs.upstream(server.port), "--listen", f"[::1]:{(other := programs.free_port())}")
    for port, host in (four.port, "127.0.0.1"), (other, "::1"):
        message = asking.make_query("n7.test.example")
        assert asking.is_right(message, asking.ask_udp(port, message, host))
        assert asking.is_right(message, asking.ask_tcp(port, message, host))
