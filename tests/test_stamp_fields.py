"""stamp_fields: what a stamp may say, and what it means."""

from __future__ import annotations

from typing import Any

import pytest

from _udp2tls.stamp_fields import DEFAULT_PORT, FIELDS, NAMES, Kind, Pair, Stamp, StampError, check_field, check_pair

DOT = {"address": "192.0.2.1", "host": "dot.example"}
DOH = {**DOT, "path": "/dns-query"}
CRYPT = {"address": "192.0.2.1", "key": bytes(32), "provider": "2.dnscrypt-cert.example"}


def test_every_kind_has_a_name_and_fields() -> None:
    assert set(NAMES) == set(FIELDS) == set(Kind)
    assert [kind.value for kind in Kind] == [0, 1, 2, 3, 4, 5, 0x81, 0x85]


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        (Kind.PLAIN, {"address": ""}, "there is no IP address"), (Kind.PLAIN, {"address": ":53"}, "not an IP address"),
        (Kind.PLAIN, {"address": "::1"}, "'::1' is not an IP address"),
        (Kind.PLAIN, {"address": "[192.0.2.1]"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.1:0"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.1:65536"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.1:053"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.1:٥٣"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.1:"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.1\n"}, "not an IP address"),
        (Kind.PLAIN, {"address": "192.0.2.01"}, "not an IP address"), (Kind.PLAIN, {"address": "1.2"}, "not an IP"),
        (Kind.PLAIN, {"address": "[::1"}, "not an IP address"),
        (Kind.PLAIN, {"address": "[::1]]"}, "not an IP address"),
        (Kind.PLAIN, {"address": "[fe80::1%]"}, "not an IP address"),
        (Kind.PLAIN, {"address": "[fe80::1%a b]"}, "not an IP address"),
        (Kind.PLAIN, {"address": "dns.example"}, "not an IP address"),
        (Kind.PLAIN, {"address": "[fe80::1%" + "e" * 255 + "]"}, "the address is 265 bytes long"),
        (Kind.PLAIN, DOT, "a stamp of plain DNS has no host"),
        (Kind.DNSCRYPT, {**CRYPT, "key": bytes(31)}, "the provider's key is 31 bytes long"),
        (Kind.DNSCRYPT, {**CRYPT, "key": b"0" * 64}, "the provider's key is 64 bytes long"),
        (Kind.DNSCRYPT, {**CRYPT, "provider": ""}, "'' is not the name of a DNSCrypt provider"),
        (Kind.DNSCRYPT, {**CRYPT, "provider": "b\u00fccher.example"}, "is not the name of a DNSCrypt provider"),
        (Kind.DNSCRYPT, {**CRYPT, "provider": "a..example"}, "is not the name of a DNSCrypt provider"),
        (Kind.DNSCRYPT, {**CRYPT, "hashes": (bytes(32),)}, "a stamp of DNSCrypt has no hashes"),
        (Kind.DNSCRYPT_RELAY, {"address": "192.0.2.1", "dnssec": True}, "a stamp of DNSCrypt relay has no dnssec"),
        (Kind.DOT, {**DOT, "host": ""}, "'' is neither a host name nor an IP address"),
        (Kind.DOT, {**DOT, "host": "tls://dot.example"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "dot.example:0"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "dot.example:99999"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "dot example"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "1.2.3"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "2001:db8::1"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "[fe80::1%eth0]"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "a" * 64 + ".example"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "host": "\u00fc" * 200}, "the host name is 400 bytes long"),
        (Kind.DOT, {**DOT, "host": "\ud800.example"}, "the host name is not Unicode text"),
        (Kind.DOT, {**DOT, "host": "\u202e.example"}, "is neither a host name"),
        (Kind.DOT, {**DOT, "hashes": (bytes(32), bytes(31))}, "a hash is 31 bytes long"),
        (Kind.DOT, {**DOT, "hashes": (b"",)}, "a hash is 0 bytes long"),
        (Kind.DOT, {**DOT, "bootstrap": ("dns.example",)}, "'dns.example' is not an IP address"),
        (Kind.DOT, {**DOT, "bootstrap": ("",)}, "'' is not an IP address"),
        (Kind.DOT, {**DOT, "bootstrap": (":53",)}, "':53' is not an IP address"),
        (Kind.DOT, {**DOT, "bootstrap": ("[fe80::1%" + "e" * 127 + "]",)}, "the bootstrap address is 137 bytes"),
        (Kind.DOT, DOH, "a stamp of DoT has no path"),
        (Kind.DOH, DOT, "'' is not the path of a URL"), (Kind.DOH, {**DOH, "path": "dns-query"}, "is not the path"),
        (Kind.DOH, {**DOH, "path": "/dns query"}, "is not the path"), (Kind.DOH, {**DOH, "path": "/#"}, "is not the"),
        (Kind.DOH, {**DOH, "path": "/\r\nHost:"}, "is not the path"),
        (Kind.DOH, {**DOH, "path": "/" * 256}, "the path is 256 bytes long"),
        (Kind.ODOH_TARGET, {"address": "192.0.2.1", "host": "a.example", "path": "/"}, "ODoH target has no address"),
    ],
)  # fmt: skip
def test_what_no_stamp_may_say(kind: Kind, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(StampError) as caught:
        Stamp(kind, **fields)
    assert said in str(caught.value)
    assert caught.value.remedy or "Unicode" in said


@pytest.mark.parametrize(
    ("kind", "fields", "ip", "name", "port"),
    [
        (Kind.PLAIN, {"address": "192.0.2.1"}, "192.0.2.1", "", 53),
        (Kind.PLAIN, {"address": "[2001:DB8::1]:5353"}, "2001:db8::1", "", 5353),
        (Kind.PLAIN, {"address": "[fe80::1%eth0]"}, "fe80::1%eth0", "", 53),
        (Kind.DNSCRYPT, CRYPT, "192.0.2.1", "", 443),
        (Kind.DNSCRYPT_RELAY, {"address": "192.0.2.1"}, "192.0.2.1", "", 443),
        (Kind.DOT, DOT, "192.0.2.1", "dot.example", 853), (Kind.DOQ, DOT, "192.0.2.1", "dot.example", 853),
        (Kind.DOT, {"host": "Dot.Example."}, "", "dot.example", 853),
        (Kind.DOT, {"address": ":8853", "host": "dot.example"}, "", "dot.example", 8853),
        (Kind.DOQ, {"address": "192.0.2.1:784", "host": "dot.example"}, "192.0.2.1", "dot.example", 784),
        (Kind.DOT, {"address": "192.0.2.1:1", "host": "dot.example:2"}, "192.0.2.1", "dot.example", 2),
        (Kind.DOT, {"host": "[2001:DB8::1]:8853"}, "", "2001:db8::1", 8853),
        (Kind.DOH, DOH, "192.0.2.1", "dot.example", 443),
        (Kind.DOH, {**DOH, "address": "192.0.2.1:8443"}, "192.0.2.1", "dot.example", 443),
        (Kind.DOH, {**DOH, "host": "b\u00fccher.example:8443"}, "192.0.2.1", "xn--bcher-kva.example", 8443),
        (Kind.ODOH_TARGET, {"host": "a.example", "path": "/"}, "", "a.example", 443),
    ],
)  # fmt: skip
def test_where_a_stamp_leads(kind: Kind, fields: dict[str, Any], ip: str, name: str, port: int) -> None:
    stamp = Stamp(kind, **fields)
    assert (stamp.ip, stamp.name, stamp.port) == (ip, name, port)


def test_two_ports_may_disagree() -> None:
    for address, host, agrees in (
        ("", "", True),
        (":1", "", True),
        ("", ":2", True),
        (":2", ":2", True),
        (":1", ":2", False),
    ):
        assert Stamp(Kind.DOT, address="192.0.2.1" + address, host="dot.example" + host).agrees is agrees


def test_default_ports_are_those_of_the_draft() -> None:
    assert DEFAULT_PORT == {Kind.PLAIN: 53, Kind.DOT: 853, Kind.DOQ: 853}


def test_one_field_can_be_checked_alone() -> None:
    check_field("address", "", Kind.DOT)
    with pytest.raises(StampError):
        check_field("address", "", Kind.DNSCRYPT)


def test_only_relays_relay() -> None:
    relay, server = Stamp(Kind.DNSCRYPT_RELAY, address="192.0.2.9"), Stamp(Kind.DNSCRYPT, **CRYPT)  # type: ignore[arg-type]
    check_pair(Pair(relay, server))
    for pair in Pair(server, relay), Pair(relay, relay), Pair(server, server), Pair(relay, Stamp(Kind.DOH, **DOH)):  # type: ignore[arg-type]
        with pytest.raises(StampError, match="do not go together"):
            check_pair(pair)
