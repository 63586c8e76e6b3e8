"""stunnel_compat.names: OpenSSL's rules, each with its trap, and any text at all."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stunnel_compat import names
from stunnel_compat.names import Names
from stunnel_compat.service import Checks


def of(*hosts: str, common: str = "", email: str = "", subject_email: str = "") -> Names:
    def tuple_of(text: str) -> tuple[bytes, ...]:
        return (text.encode(),) if text else ()

    return Names(
        tuple(host.encode() for host in hosts), (ipaddress.ip_address("192.0.2.1").packed,),
        tuple_of(email), tuple_of(common), tuple_of(subject_email),
    )  # fmt: skip


# The certificate's DNS name, what checkHost asks for, OpenSSL's verdict.
HOSTS = [
    ("dns.test", "dns.test", True), ("dns.test", "DNS.Test", True), ("dns.test", "dns.test.", False),
    ("dns.test.", "dns.test", False), ("dns.test", "ns.test", False), ("dns.test", "", False), ("", "", False),
    ("dns.test", ".test", True), ("a.dns.test", ".test", True), ("test", ".test", False), (".test", ".test", True),
    ("dns.test", ".", False), (".", ".", True), ("dnstest", ".test", False), ("*.dns.test", ".dns.test", True),
    ("*.dns.test", "a.dns.test", True), ("*.dns.test", "A-1.DNS.TEST", True), ("*.dns.test", "dns.test", False),
    ("*.dns.test", "a.b.dns.test", False), ("*.dns.test", "*.dns.test", True), ("*.dns.test", "a_b.dns.test", False),
    ("*.dns.test", "xn--a.dns.test", True), ("*.test", "dns.test", False), ("*", "dns", False),
    ("*.*.test", "a.b.test", False),
    ("a*.dns.test", "ab.dns.test", True), ("a*.dns.test", "a.dns.test", True), ("*a.dns.test", "ba.dns.test", True),
    ("a*c.dns.test", "abc.dns.test", False), ("xn--*.dns.test", "xn--a.dns.test", False),
    ("x*.dns.test", "xn--a.dns.test", False), ("dns.*.test", "dns.a.test", False),
    ("a-*.dns.test", "a-b.dns.test", False),
    ("*.dns-.test", "a.dns-.test", False), ("*.d_s.test", "a.d_s.test", False), ("dns.test", "*.test", False),
    ("192.0.2.1", "192.0.2.1", True), ("dns\0.test", "dns", False), ("dns\0.test", "dns\0.test", False),
    ("a\0b.test", ".test", False), ("straße.test", "strasse.test", False), ("\N{KELVIN SIGN}.test", "k.test", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "host", "expected"), HOSTS)
def test_a_host_name(name: str, host: str, expected: bool) -> None:
    assert names.matches(of(name), Checks(hosts=(host,))) == expected
    assert names.matches(of(common=name), Checks(hosts=(host,))) == expected  # a common name goes by the same rules


def test_a_common_name_counts_only_without_dns_names() -> None:
    asked = Checks(hosts=("dns.test",))
    assert names.matches(of(common="dns.test"), asked)
    assert not names.matches(of("other.test", common="dns.test"), asked)
    assert not names.matches(of("", common="dns.test"), asked)
    assert names.matches(of(common="dns.test", email="a@b.test"), asked)


def test_an_address_is_never_a_host_name_nor_the_other_way_round() -> None:
    assert not names.matches(of("dns.test"), Checks(hosts=("192.0.2.1",)))
    assert not names.matches(of("192.0.2.7", common="192.0.2.7"), Checks(addresses=("192.0.2.7",)))
    assert names.matches(of("dns.test"), Checks(addresses=("192.0.2.1",)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", bytes((127, 0, 0, 1))), ("127.000.0.0000000000001", bytes((127, 0, 0, 1))), ("127.1", b""),
        ("256.0.0.1", b""), ("1" * 5000 + ".0.0.1", b""), ("::1", bytes(15) + b"\1"),
        ("0:0:0:0:0:0:0:0001", bytes(15) + b"\1"),
        ("::ffff:127.0.0.1", bytes(10) + b"\xff\xff\x7f\0\0\1"), ("fe80::1%eth0", b""), ("", b""), ("dns.test", b""),
        ("127.0.0.1 ", b""), ("127.0.0.١", b""),
    ],
)  # fmt: skip
def test_an_address_in_any_spelling(text: str, expected: bytes) -> None:
    assert names.packed(text) == expected


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("op@dns.test", "op@dns.test", True), ("op@dns.test", "op@DNS.TEST", True),
        ("op@dns.test", "OP@dns.test", False),
        ("op@dns.test", "p@dns.test", False), ("op@dns.test", "", False), ("@dns.test", "@DNS.test", False),
        ("op", "op", True), ("op", "OP", False), ("a@b@C", "a@b@c", True), ("a@B@c", "a@b@c", False),
        ("a\0@b", "a\0@b", False),
    ],
)  # fmt: skip
def test_an_email_address(name: str, asked: str, expected: bool) -> None:
    for certificate in of("dns.test", email=name), of("dns.test", subject_email=name):
        assert names.matches(certificate, Checks(emails=(asked,))) == expected
    assert not names.matches(of(email="x@y.test", subject_email=name), Checks(emails=(asked,)))


def test_one_match_of_any_kind_is_enough() -> None:
    certificate = of("dns.test", email="op@dns.test")
    for right in Checks(hosts=("dns.test",)), Checks(addresses=("192.0.2.1",)), Checks(emails=("op@dns.test",)):
        asked = Checks(
            hosts=("nope.test", *right.hosts), addresses=("::1", *right.addresses), emails=("", *right.emails)
        )
        assert names.matches(certificate, asked)
    assert not names.matches(certificate, Checks(hosts=("nope.test",), addresses=("::1",), emails=("x@y.test",)))


def test_what_getpeercert_says_is_read() -> None:
    leaf = {
        "subject": ((("commonName", "a"), ("emailAddress", "e@f")), (("commonName", "b"),)),
        "subjectAltName": (
            ("DNS", "dns.test"), ("IP Address", "2001:DB8:0:0:0:0:0:1"), ("IP Address", "<invalid>"), ("email", "x@y"),
            ("URI", "dns:other.test"), ("DirName", ((("commonName", "c"),),)),
        ),
    }  # fmt: skip
    found = names.from_ssl(leaf)
    address = ipaddress.ip_address("2001:db8::1").packed
    assert found == Names((b"dns.test",), (address,), (b"x@y",), (b"a", b"b"), (b"e@f",))
    assert str(found) == "DNS:dns.test, IP:2001:db8::1, email:x@y"
    assert str(names.from_ssl({})) == "nobody"
    assert str(of(common="c")) == "IP:192.0.2.1, CN=c"


ODD = st.text(st.sampled_from("aB*.-_x\0n@é1:%"), max_size=12) | st.text(max_size=12)
ANY = st.lists(ODD, max_size=3).map(tuple)


@given(ANY, ODD, ODD, ANY, ANY, ANY)
def test_no_text_breaks_the_matcher(
    hosts: tuple[str, ...], common: str, email: str, a: tuple[str, ...], b: tuple[str, ...], c: tuple[str, ...]
) -> None:
    certificate = of(*hosts, common=common, email=email, subject_email=common)
    asked = Checks(hosts=a, addresses=b, emails=c)
    each = [Checks(hosts=(x,)) for x in a] + [Checks(addresses=(x,)) for x in b] + [Checks(emails=(x,)) for x in c]
    assert names.matches(certificate, asked) == any(names.matches(certificate, one) for one in each)
    assert not names.matches(certificate, Checks(hosts=("",), addresses=("",), emails=("",)))
    assert isinstance(str(certificate) + names.wanted(asked), str)


@given(st.text(max_size=8))
def test_no_address_breaks_the_reader(text: str) -> None:
    assert len(names.packed(text)) in (0, 4, 16)


def test_text_that_is_no_unicode_matches_nothing() -> None:
    assert not names.matches(of("a\N{REPLACEMENT CHARACTER}"), Checks(hosts=("a\udcff",), emails=("\ud800",)))


@given(st.from_regex(r"[a-z]([a-z-]{0,5}[a-z])?(\.[a-z]{1,5}){1,3}", fullmatch=True))
def test_a_name_is_itself_in_any_case_and_under_its_wildcard(name: str) -> None:
    assert names.matches(of(name), Checks(hosts=(name.upper(),)))
    parent = name.partition(".")[2]
    assert names.matches(of(f"*.{parent}"), Checks(hosts=(name,))) == ("." in parent)
    assert names.matches(of(name), Checks(hosts=(f".{parent}",)))
