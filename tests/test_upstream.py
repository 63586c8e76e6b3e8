"""An upstream: its addresses, their health, and the codecs it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from _udp2tls import demo, tls, upstream
from _udp2tls.config import Config, ConfigError, Endpoint, UpstreamSpec, parse_upstream
from _udp2tls.tls import Tls
from tests.fakes import PlainUpstream


def test_a_literal_address_is_its_own_and_a_name_has_none_yet() -> None:
    assert PlainUpstream(parse_upstream("tls://192.0.2.1:8853")).addresses == [Endpoint("192.0.2.1", 8853)]
    assert PlainUpstream(parse_upstream("tls://dns.example")).addresses == []


def test_found_addresses_alternate_between_families_ipv6_first() -> None:
    one = PlainUpstream(parse_upstream("tls://dns.example"))
    one.found(["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"])
    assert [address.host for address in one.addresses] == [
        "2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3",
    ]  # fmt: skip
    one.found(["192.0.2.9"])
    assert one.addresses == [Endpoint("192.0.2.9", 853)]


def test_an_address_that_worked_comes_first_next_time() -> None:
    one = PlainUpstream(parse_upstream("tls://dns.example"))
    one.found(["192.0.2.1", "192.0.2.2"])
    one.prefer(Endpoint("192.0.2.2", 853))
    assert [address.host for address in one.addresses] == ["192.0.2.2", "192.0.2.1"]
    one.prefer(Endpoint("192.0.2.77", 853))
    assert len(one.addresses) == 2


def test_upstreams_share_trust_but_not_tickets(tmp_path: Path) -> None:
    files = demo.certificates(str(tmp_path))
    specs = (parse_upstream("tls://192.0.2.1#one.example"), parse_upstream("tls://192.0.2.2#two.example"))
    one, two = upstream.build(Config(upstreams=specs, ca_file=files.ca_file, pins=frozenset([bytes(32)])))
    assert one.session is not two.session
    assert (one.session.name, two.session.name) == ("one.example", "two.example")
    assert one.session.pins
    assert isinstance(one.codec(), Tls)


def test_a_stamps_hashes_are_its_own_and_not_for_windows_to_look_for(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = UpstreamSpec("192.0.2.1", 853, "one.example", frozenset([bytes(32)])), parse_upstream("tls://192.0.2.2")
    looked_for: list[Any] = []
    monkeypatch.setattr(tls, "system_verifies", lambda ca, cert, pins, environment: looked_for.append(pins))
    first, second = upstream.build(Config(upstreams=(one, two)))
    assert (first.session.hashes, second.session.hashes) == (one.hashes, frozenset())
    upstream.build(Config(upstreams=(two,)))
    assert looked_for == [one.hashes, frozenset()]


def test_a_trust_file_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    specs = (parse_upstream("tls://192.0.2.1"),)
    with pytest.raises(ConfigError, match=r"--ca-file.*No such file"):
        upstream.build(Config(upstreams=specs, ca_file=str(tmp_path / "missing.pem")))
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing here")
    with pytest.raises(ConfigError, match="--ca-file"):
        upstream.build(Config(upstreams=specs, ca_file=str(empty)))
    with pytest.raises(ConfigError, match="--client-cert"):
        upstream.build(Config(upstreams=specs, client_cert=str(empty)))


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ({"pins": frozenset([bytes(32)])}, "cryptography"),
        ({"upstreams": (UpstreamSpec("192.0.2.1", 853, "one.example", frozenset([bytes(32)])),)}, "cryptography"),
        ({"bootstrap": (parse_upstream("tls://192.0.2.9"),)}, "dnslib"),
    ],
)
def test_what_needs_a_package_says_so_before_anything_starts(
    settings: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"needs the package {package}(.|\n)*pip install {package}"):
        upstream.build(Config(**({"upstreams": (parse_upstream("tls://192.0.2.1"),)} | settings)))


def test_bootstrap_resolvers_are_not_held_to_the_upstreams_pins() -> None:
    specs = (parse_upstream("tls://dns.example"),)
    config = Config(upstreams=specs, bootstrap=(parse_upstream("tls://192.0.2.9"),), pins=frozenset([bytes(32)]))
    (one,) = upstream.build_bootstrap(config)
    assert one.session.pins == frozenset()
    assert one.session.name == "192.0.2.9"


def test_limits_of_the_configuration_count_when_they_are_shorter(tmp_path: Path) -> None:
    files = demo.certificates(str(tmp_path))
    spec = parse_upstream("tls://dns.example")
    (plain,) = upstream.build(Config(upstreams=(spec,), ca_file=files.ca_file))
    assert (plain.tcp_limit, plain.connect_limit) == (upstream.TCP_LIMIT, upstream.CONNECT_LIMIT)
    config = Config(
        upstreams=(spec,), ca_file=files.ca_file, connect_limit=0.5, handshake_limit=1.0, idle_limit=5.0, delay=True
    )
    (limited,) = upstream.build(config)
    assert (limited.tcp_limit, limited.connect_limit, limited.idle_limit) == (0.5, 1.5, 5.0)
    assert limited.volatile
    assert not plain.volatile
