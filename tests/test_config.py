"""config: what is meant by what the user wrote, and what the user is told when nothing is."""

from __future__ import annotations

import base64
import contextlib
import errno
import ipaddress
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import config
from _udp2tls.config import BindError, Config, ConfigError, Endpoint, UpstreamSpec

PIN = base64.b64encode(bytes(range(32))).decode()
ONE = (UpstreamSpec("192.0.2.1", 853, "dot.example"),)


def endpoint(text: str) -> Endpoint:
    return config.parse_endpoint(text, "--listen")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)), ("127.0.0.1:5353", ("127.0.0.1", 5353)), ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)), ("[::1]:5353", ("::1", 5353)), ("[2001:DB8:0:0::1]:65535", ("2001:db8::1", 65535)),
        ("0.0.0.0:0", ("0.0.0.0", 0)), ("127.0.0.1:00053", ("127.0.0.1", 53)),
        ("[fe80::1%eth0]:53", ("fe80::1%eth0", 53)),
    ],
)  # fmt: skip
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text) == expected
    assert endpoint(str(endpoint(text))) == expected


def test_the_default_port_is_the_callers() -> None:
    assert config.parse_endpoint("9.9.9.9", "--bootstrap", 853) == ("9.9.9.9", 853)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tls://9.9.9.9", ("9.9.9.9", 853, "9.9.9.9")),
        ("tls://9.9.9.9#dns.quad9.net", ("9.9.9.9", 853, "dns.quad9.net")),
        ("TLS://9.9.9.9:8853/#DNS.Quad9.net.", ("9.9.9.9", 8853, "dns.quad9.net")),
        ("tls://dns.quad9.net", ("dns.quad9.net", 853, "dns.quad9.net")),
        ("tls://dns.quad9.net./", ("dns.quad9.net", 853, "dns.quad9.net")),
        ("tls://[2620:FE::FE]:853", ("2620:fe::fe", 853, "2620:fe::fe")),
        ("tls://2620:fe::fe#dns.quad9.net", ("2620:fe::fe", 853, "dns.quad9.net")),
        ("tls://dot.example#2620:FE::FE", ("dot.example", 853, "2620:fe::fe")),
        ("tls://bücher.example", ("xn--bcher-kva.example", 853, "xn--bcher-kva.example")),
        ("tls://a_b-c.1.example", ("a_b-c.1.example", 853, "a_b-c.1.example")),
        (f"tls://{'a' * 63}.example", ("a" * 63 + ".example", 853, "a" * 63 + ".example")),
    ],
)
def test_upstreams(text: str, expected: tuple[str, int, str]) -> None:
    spec = config.parse_upstream(text)
    assert (spec.host, spec.port, spec.name) == expected
    assert config.parse_upstream(str(spec)) == spec
    assert spec.literal == (spec.host[0].isdigit())


@given(st.binary(min_size=32, max_size=32) | st.binary(min_size=31, max_size=31).map(b"\xff".__add__))
def test_every_digest_is_a_pin_also_one_whose_base64_begins_with_a_slash(digest: bytes) -> None:
    written = base64.b64encode(digest).decode()
    assert config.parse_pin(f"sha256/{written}") == digest
    assert config.parse_pin(f"sha256//{written}") == digest


def test_pins_as_browsers_and_curl_write_them() -> None:
    for text in (f"sha256/{PIN}", f"sha256//{PIN}", f"SHA256/{PIN}"):
        assert config.parse_pin(text) == bytes(range(32))


def test_networks() -> None:
    assert str(config.parse_network("192.168.0.0/16")) == "192.168.0.0/16"
    assert str(config.parse_network("192.168.0.1")) == "192.168.0.1/32"
    assert str(config.parse_network("FD00::/8")) == "fd00::/8"


# What is wrong, what reads it, and the line under it.
MISTAKES: list[tuple[str, Callable[[str], object], str]] = [
    ("localhost", endpoint, "~~~~~~~~^"),
    ("127.0.0.1:x", endpoint, "          ^"),
    ("127.0.0.1:", endpoint, "          ^"),
    ("127.0.0.1:65536", endpoint, "          ~~~~^"),
    ("127.0.0.1:-1", endpoint, "          ~^"),
    ("[::1]:99999", endpoint, "      ~~~~^"),
    ("[::g]:53", endpoint, " ~~^"),
    ("[::1", endpoint, "~~~^"),
    ("[::1]5353", endpoint, "~~~~~~~~^"),
    ("::1:99999", endpoint, "~~~~~~~~^"),
    ("256.0.0.1:53", endpoint, "~~~~~~~~^"),
    (":53", endpoint, "^"),
    ("9.9.9.9", config.parse_upstream, "~~~~~~^"),
    ("https://dns.quad9.net", config.parse_upstream, "~~~~^"),
    ("tls:/9.9.9.9", config.parse_upstream, "~~~~~~~~~~~^"),
    ("tls://", config.parse_upstream, "      ^"),
    ("tls://9.9.9.9:0", config.parse_upstream, "              ^"),
    ("tls://9.9.9.9:0/", config.parse_upstream, "              ^"),
    ("tls://9.9.9.9:dot#dns.quad9.net", config.parse_upstream, "              ~~^"),
    ("tls://9.9.9.9:85333/", config.parse_upstream, "              ~~~~^"),
    ("tls://9.9.9.9.9#dns.quad9.net", config.parse_upstream, "      ~~~~~~~~^"),
    ("tls://dns quad9.net:853", config.parse_upstream, "      ~~~~~~~~~~~~^"),
    ("tls://dns.quad9.net/path", config.parse_upstream, "      ~~~~~~~~~~~~~~~~~^"),
    ("tls://a..b", config.parse_upstream, "      ~~~^"),
    ("tls://-a.b", config.parse_upstream, "      ~~~^"),
    ("tls://9.9.9.9#", config.parse_upstream, "              ^"),
    ("tls://9.9.9.9#dns!", config.parse_upstream, "              ~~~^"),
    ("tls://[::1#dns.example", config.parse_upstream, "      ~~~^"),
    ("sha256/abcd", config.parse_pin, "~~~~~~~~~~^"),
    (f"sha1/{PIN}", config.parse_pin, "~" * 48 + "^"),
    (PIN, config.parse_pin, "~" * 43 + "^"),
    ("192.168.0.1/16", config.parse_network, "~~~~~~~~~~~~~^"),
    ("home", config.parse_network, "~~~^"),
]


@pytest.mark.parametrize(("text", "parse", "underline"), MISTAKES, ids=[text for text, _, _ in MISTAKES])
def test_a_mistake_is_shown_underlined_and_remedied(
    text: str, parse: Callable[[str], object], underline: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    what, shown, under, *remedy = str(caught.value).split("\n")
    assert what.startswith("--")
    assert shown == "    " + text
    assert under == "    " + underline
    assert remedy
    assert all(line.startswith("  ") for line in remedy)


@pytest.mark.parametrize("parse", [config.parse_network, config.parse_pin, endpoint, config.parse_upstream])
def test_the_empty_text_is_a_mistake(parse: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError):
        parse("")


@pytest.mark.parametrize("name", ["a" * 64, "a" * 64 + ".example", "x." + "a" * 100, ("a" * 60 + ".") * 4 + "a" * 20])
def test_names_that_dns_and_tls_cannot_carry_are_refused(name: str) -> None:
    """A label of more than 63 bytes would only be found when the first connection is made."""
    for text in (f"tls://{name}", f"tls://9.9.9.9#{name}"):
        with pytest.raises(ConfigError):
            config.parse_upstream(text)


def test_a_long_name_with_a_typo_is_refused_at_once() -> None:
    program = "from _udp2tls.config import parse_upstream; parse_upstream('tls://' + 'a' * 60 + '!')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=10, check=False)
    assert "is neither an IP address nor a host name" in done.stderr


def test_an_error_without_text_has_no_caret() -> None:
    assert str(ConfigError("what", where="--option", remedy="do this")) == "--option: what\n  do this"
    assert str(ConfigError("what")) == "what"


def test_the_caret_stands_right_behind_a_tab() -> None:
    _, shown, under = str(ConfigError("what", text="\tab = 1", span=(1, 3))).split("\n")
    assert under.expandtabs().index("~") == shown.expandtabs().index("a")


@pytest.mark.parametrize(
    ("given", "where", "remedy"),
    [
        ({"upstreams": ()}, "", "--upstream"),
        ({"listen": (Endpoint("0.0.0.0", 53),)}, "--listen", "--allow"),
        ({"listen": (Endpoint("127.0.0.1", 53), Endpoint("::", 53))}, "--listen", "--allow"),
        ({"client_key": "key.pem"}, "--client-key", "--client-cert"),
        ({"timeout": 0.05}, "--timeout", "default"),
        ({"timeout": 61.0}, "--timeout", "default"),
        ({"timeout": float("nan")}, "--timeout", "default"),
    ],
)
def test_what_does_not_go_together_is_refused(given: dict[str, Any], where: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**{"upstreams": ONE, **given})
    assert caught.value.where == where
    assert remedy in caught.value.remedy


def test_other_addresses_than_loopback_need_a_network() -> None:
    listen = (Endpoint("127.0.0.53", 53), Endpoint("::1", 53), Endpoint("0.0.0.0", 53))
    made = Config(ONE, listen=listen, allow=(ipaddress.ip_network("192.168.0.0/16"), ipaddress.ip_network("fd00::/8")))
    allowed = [made.allows(host) for host in ("192.168.3.4", "192.169.0.1", "fd00::1", "fe80::1%eth0", "8.8.8.8")]
    assert allowed == [True, False, True, False, False]
    assert made.allows("127.1.2.3")
    assert made.allows("::1")
    assert not Config(ONE).allows("192.168.3.4")


@pytest.mark.parametrize(
    ("relay", "server", "network"),
    [
        ("192.0.2.200", "192.0.2.1", "192.0.2.0/24"), ("192.0.3.1", "192.0.2.1", ""),
        ("2001:db8:1:ffff::1", "2001:db8:1::1", "2001:db8:1::/48"), ("2001:db8:2::1", "2001:db8:1::1", ""),
        ("192.0.2.1", "2001:db8:1::1", ""),
    ],
)  # fmt: skip
def test_relays_beside_their_server_are_doubted(relay: str, server: str, network: str) -> None:
    spec = UpstreamSpec(server, 443, "2.cert.example", key=bytes(32), relay=Endpoint(relay, 443))
    both = (*ONE, spec)
    said = config.doubts(both, both)
    assert len(said) == bool(network)
    assert config.doubts(both, both, ephemeral=True) == said
    assert config.doubts(ONE, both, ephemeral=True) == ()
    assert "ephemeral keys mean nothing" in config.doubts(ONE, ONE, ephemeral=True)[0]
    assert all(f"{relay} and its server {server} are in one network, {network}: " in one for one in said)


def test_the_bootstrap_asks_the_bootstrap_resolvers_only() -> None:
    other = (UpstreamSpec("192.0.2.2", 853, "192.0.2.2"),)
    made = Config(ONE, bootstrap=other, pins=frozenset({bytes(32)}), ca_file="ca.pem").for_bootstrap()
    assert (made.upstreams, made.listen, made.pins, made.bootstrap) == (other, (), frozenset(), ())
    assert made.ca_file == "ca.pem"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.EADDRINUSE, "another program"), (errno.EACCES, "CAP_NET_BIND"), (errno.EADDRNOTAVAIL, "does not have"),
     (errno.EINVAL, "--listen")],
)  # fmt: skip
def test_a_bind_error_says_what_to_do(code: int, remedy: str) -> None:
    said = BindError(Endpoint("::1", 53), "UDP", OSError(code, "no"))
    assert "cannot listen on [::1]:53 (UDP): no" in str(said)
    assert remedy in str(said)
    assert said.no_such_address == (code == errno.EADDRNOTAVAIL)


PIECES = st.sampled_from(["tls://", "a", "é", "1", ".", ":", "::", "[", "]", "#", "/", "-", "%", " ", "853", "sha256/"])
TEXTS = st.text(max_size=30) | st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=400)
@given(TEXTS, st.booleans())
def test_any_text_is_a_config_error_at_worst(text: str, prefixed: bool) -> None:
    if prefixed:
        text = "tls://" + text
    for parse in (endpoint, config.parse_upstream, config.parse_pin, config.parse_network):
        with contextlib.suppress(ConfigError):
            parse(text)
            continue
        with pytest.raises(ConfigError) as caught:
            parse(text)
        assert str(caught.value)
