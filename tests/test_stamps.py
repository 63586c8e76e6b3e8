"""stamps: text to stamp and back, and nothing but a StampError for what is none."""
# ruff: noqa: E501  (published stamps are as long as they are)

from __future__ import annotations

import base64
import contextlib
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import udp2tls
from _udp2tls import demo, stamps
from _udp2tls.config import Config, ConfigError, UpstreamSpec, parse_upstream
from _udp2tls.stamp_fields import FIELDS
from _udp2tls.stamps import Kind, Pair, Stamp, StampError
from _udp2tls.tls import tbs_digest
from tests.fakes import query

LISTS = sorted((Path(__file__).parent.parent.parent / "shared" / "resolver_lists").glob("*.md"))

GOOGLE_HASH = "6a5062b0d178d556f163b13b1b0f19435d02588291cc75589dfee6eb11c8d5c3"
QUAD9_HASH = "b01920744bbb76c9ab053e01e07b7e050e473d20f79f7bea435fafe43c9d242f"
TEST_HASH = "c3846bf24b9e93ca64274c0ec67c1ecc5e024ffcacd2d74019350e81fe546ae4"


def props(number: int) -> dict[str, Any]:
    return {"dnssec": bool(number & 1), "no_logs": bool(number & 2), "no_filter": bool(number & 4)}


def plain(number: int, address: str) -> Stamp:
    return Stamp(Kind.PLAIN, **props(number), address=address)


def dnscrypt(number: int, address: str, key: str, provider: str) -> Stamp:
    return Stamp(Kind.DNSCRYPT, **props(number), address=address, key=bytes.fromhex(key), provider=provider)


def tls(kind: Kind, number: int, address: str, hashes: str, host: str, path: str = "") -> Stamp:
    found = tuple(bytes.fromhex(one) for one in hashes.split())
    return Stamp(kind, **props(number), address=address, hashes=found, host=host, path=path)


def target(host: str, path: str) -> Stamp:
    return Stamp(Kind.ODOH_TARGET, **props(7), host=host, path=path)


def relay(address: str) -> Stamp:
    return Stamp(Kind.DNSCRYPT_RELAY, address=address)


# Published by the servers' operators, or in other implementations' tests.
VECTORS = {
    "AQMAAAAAAAAAETk0LjE0MC4xNC4xNDo1NDQzINErR_JS3PLCu_iZEIbq95zkSV2LFsigxDIuUso_OQhzIjIuZG5zY3J5cHQuZGVmYXVsdC5uczEuYWRndWFyZC5jb20":
        dnscrypt(3, "94.140.14.14:5443", "d12b47f252dcf2c2bbf8991086eaf79ce4495d8b16c8a0c4322e52ca3f390873", "2.dnscrypt.default.ns1.adguard.com"),
    "AQEAAAAAAAAADjIwOC42Ny4yMjAuMjIwILc1EUAgbyJdPivYItf9aR6hwzzI1maNDL4Ev6vKQ_t5GzIuZG5zY3J5cHQtY2VydC5vcGVuZG5zLmNvbQ":
        dnscrypt(1, "208.67.220.220", "b7351140206f225d3e2bd822d7fd691ea1c33cc8d6668d0cbe04bfabca43fb79", "2.dnscrypt-cert.opendns.com"),
    "AQMAAAAAAAAADDkuOS45Ljk6ODQ0MyBnyEe4yHWM0SAkVUO-dWdG3zTfHYTAC4xHA2jfgh2GPhkyLmRuc2NyeXB0LWNlcnQucXVhZDkubmV0":
        dnscrypt(3, "9.9.9.9:8443", "67c847b8c8758cd120245543be756746df34df1d84c00b8c470368df821d863e", "2.dnscrypt-cert.quad9.net"),
    "AQMAAAAAAAAAEzE4NS4yMjguMTY4LjEwOjg0NDMgvKwy-tVDaRcfCDLWB1AnwyCM7vDo6Z-UGNx3YGXUjykRY2xlYW5icm93c2luZy5vcmc":
        dnscrypt(3, "185.228.168.10:8443", "bcac32fad54369171f0832d6075027c3208ceef0e8e99f9418dc776065d48f29", "cleanbrowsing.org"),
    "AQcAAAAAAAAAFFsyMDAxOmFjODoyOTphMTo6NTNdIDEzcq1ZVjLCQWuHLwmPhRvduWUoTGy-mk8ZCWQw26laHjIuZG5zY3J5cHQtY2VydC5jcnlwdG9zdG9ybS5pcw":
        dnscrypt(7, "[2001:ac8:29:a1::53]", "313372ad595632c2416b872f098f851bddb965284c6cbe9a4f19096430dba95a", "2.dnscrypt-cert.cryptostorm.is"),
    "AgcAAAAAAAAABzEuMC4wLjEAEmRucy5jbG91ZGZsYXJlLmNvbQovZG5zLXF1ZXJ5":
        tls(Kind.DOH, 7, "1.0.0.1", "", "dns.cloudflare.com", "/dns-query"),
    "AgUAAAAAAAAABzguOC44LjggalBisNF41VbxY7E7Gw8ZQ10CWIKRzHVYnf7m6xHI1cMHOC44LjguOAovZG5zLXF1ZXJ5":
        tls(Kind.DOH, 5, "8.8.8.8", GOOGLE_HASH, "8.8.8.8", "/dns-query"),
    "AgMAAAAAAAAABzkuOS45LjkgsBkgdEu7dsmrBT4B4Ht-BQ5HPSD3n3vqQ1-v5DydJC8SZG5zOS5xdWFkOS5uZXQ6NDQzCi9kbnMtcXVlcnk":
        tls(Kind.DOH, 3, "9.9.9.9", QUAD9_HASH, "dns9.quad9.net:443", "/dns-query"),
    "AgcAAAAAAAAAFlsyNjA2OjQ3MDA6NDcwMDo6MTExMV0AGlsyNjA2OjQ3MDA6NDcwMDo6MTExMV06NDQzCi9kbnMtcXVlcnk":
        tls(Kind.DOH, 7, "[2606:4700:4700::1111]", "", "[2606:4700:4700::1111]:443", "/dns-query"),
    "AgcAAAAAAAAABzEuMC4wLjGgENk8mGSlIfMGXMOlIlCcKvq7AVgcrZxtjon911-ep0cg63Ul-I8NlFj4GplQGb_TTLiczclX57DvMV8Q-JdjgRgSZG5zLmNsb3VkZmxhcmUuY29tCi9kbnMtcXVlcnk":
        tls(Kind.DOH, 7, "1.0.0.1", "10d93c9864a521f3065cc3a522509c2afabb01581cad9c6d8e89fdd75f9ea747 eb7525f88f0d9458f81a995019bfd34cb89ccdc957e7b0ef315f10f897638118", "dns.cloudflare.com", "/dns-query"),
    "AwMAAAAAAAAAAAATZG5zLmFkZ3VhcmQtZG5zLmNvbQ": tls(Kind.DOT, 3, "", "", "dns.adguard-dns.com"),
    "AwcAAAAAAAAAAAAUZG5zLmVtZXJhbGRvbmlvbi5vcmc": tls(Kind.DOT, 7, "", "", "dns.emeraldonion.org"),
    "AwAAAAAAAAAAAAAPYWRhLm9wZW5ibGQubmV0": tls(Kind.DOT, 0, "", "", "ada.openbld.net"),
    "AwAAAAAAAAAABzEuMS4xLjEAD29uZS5vbmUub25lLm9uZQ": tls(Kind.DOT, 0, "1.1.1.1", "", "one.one.one.one"),
    "AwcAAAAAAAAADDEuMS4xLjE6ODg1MyDDhGvyS56TymQnTA7GfB7MXgJP_KzS10AZNQ6B_lRq5BJjbG91ZGZsYXJlLWRucy5jb20":
        tls(Kind.DOT, 7, "1.1.1.1:8853", TEST_HASH, "cloudflare-dns.com"),
    "BAcAAAAAAAAAAAAXZG5zLmFkZ3VhcmQtZG5zLmNvbTo3ODQ": tls(Kind.DOQ, 7, "", "", "dns.adguard-dns.com:784"),
    "BAcAAAAAAAAACjc2Ljc2LjIuMTEAFGZyZWVkbnMuY29udHJvbGQuY29t": tls(Kind.DOQ, 7, "76.76.2.11", "", "freedns.controld.com"),
    "BAMAAAAAAAAAEjE3NC4xMzguMjkuMTc1Ojc4NAAMZG9oLnRpYXIuYXBw": tls(Kind.DOQ, 3, "174.138.29.175:784", "", "doh.tiar.app"),
    "AAcAAAAAAAAABzguOC44Ljg": plain(7, "8.8.8.8"),
    "AAcAAAAAAAAADDguOC44Ljg6ODA1Mw": plain(7, "8.8.8.8:8053"),
    "AAcAAAAAAAAAE1syYTEwOjUwYzA6OmFkMTpmZl0": plain(7, "[2a10:50c0::ad1:ff]"),
    "AAcAAAAAAAAADDk0LjE0MC4xNC4xNA": plain(7, "94.140.14.14"),
    "gRMxMDIuMjA5LjIxLjE3Njo4NDQz": relay("102.209.21.176:8443"),
    "gRE5NC4xOTguNDEuMjM1OjQ0Mw": relay("94.198.41.235:443"),
    "gRhbMjAwMTphYzg6Mjk6YTE6OjUzXTo0NDM": relay("[2001:ac8:29:a1::53]:443"),
    "gRIyMTIuNDcuMjI4LjEzNjo0NDM": relay("212.47.228.136:443"),
    "BQcAAAAAAAAAF29kb2guY2xvdWRmbGFyZS1kbnMuY29tCi9kbnMtcXVlcnk": target("odoh.cloudflare-dns.com", "/dns-query"),
    "BQcAAAAAAAAADm9kb2guY3J5cHRvLnN4Ci9kbnMtcXVlcnk": target("odoh.crypto.sx", "/dns-query"),
    "BQcAAAAAAAAAEG9kb2guZXhhbXBsZS5jb20HL3RhcmdldA": target("odoh.example.com", "/target"),
    "hQcAAAAAAAAAAAAab2RvaC1yZWxheS5lZGdlY29tcHV0ZS5hcHABLw": tls(Kind.ODOH_RELAY, 7, "", "", "odoh-relay.edgecompute.app", "/"),
    "hQcAAAAAAAAAAAASb2RvaC1yZWxheS5udW1hLnJzBi9yZWxheQ": tls(Kind.ODOH_RELAY, 7, "", "", "odoh-relay.numa.rs", "/relay"),
    "hQcAAAAAAAAAB1s6OjFdOjEgw4Rr8kuek8pkJ0wOxnwezF4CT_ys0tdAGTUOgf5UauQPZG9oLmV4YW1wbGUuY29tBi9yZWxheQ":
        tls(Kind.ODOH_RELAY, 7, "[::1]:1", TEST_HASH, "doh.example.com", "/relay"),
}  # fmt: skip

DOT = "sdns://AwAAAAAAAAAABzEuMS4xLjEAD29uZS5vbmUub25lLm9uZQ"


def sdns(data: bytes) -> str:
    return "sdns://" + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def binary(text: str) -> bytes:
    body = text.removeprefix("sdns://")
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


def mistake(text: str) -> StampError:
    with pytest.raises(StampError) as caught:
        stamps.parse(text, "here")
    assert caught.value.where == "here"
    assert caught.value.remedy
    return caught.value


def underlined(error: StampError) -> str:
    assert error.span
    return error.text[slice(*error.span)]


@pytest.mark.parametrize(("body", "stamp"), VECTORS.items())
def test_published_stamps(body: str, stamp: Stamp) -> None:
    assert stamps.parse("sdns://" + body) == stamp
    assert stamps.parse("sdns:" + body) == stamp
    assert stamps.format(stamp) == "sdns://" + body


@pytest.mark.parametrize("path", LISTS, ids=lambda path: str(path.stem))
def test_the_published_lists_come_back_as_they_are(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("sdns:"):
            assert stamps.format(stamps.parse(line.strip())) == line.strip()


addresses = st.sampled_from(["192.0.2.1", "[2001:db8::1]", "[fe80::1%eth0]", "[::FFFF:192.0.2.1]"])
ports = st.sampled_from(["", ":1", ":443", ":853", ":65535"])
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, max_size=4).map(lambda some: ".".join([*some, "example"])) | st.just("bücher.example")
digests = st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple)


@st.composite
def some_stamps(draw: st.DrawFn) -> Stamp:
    kind = draw(st.sampled_from(list(Kind)))
    said: dict[str, Any] = {}
    if kind is not Kind.DNSCRYPT_RELAY:
        said |= props(draw(st.integers(0, 7)))
    over_tls = kind in (Kind.DOH, Kind.DOT, Kind.DOQ, Kind.ODOH_RELAY)
    if over_tls:
        said["hashes"] = draw(digests)
        said["bootstrap"] = tuple(draw(st.lists(addresses | st.just("2001:db8::1"), max_size=3)))
    if kind is not Kind.ODOH_TARGET:
        said["address"] = draw(st.just("") | addresses if over_tls else addresses) + draw(ports)
    if over_tls or kind is Kind.ODOH_TARGET:
        said["host"] = draw(names | st.sampled_from(["192.0.2.1", "[2001:db8::1]"])) + draw(ports)
    if kind in (Kind.DOH, Kind.ODOH_TARGET, Kind.ODOH_RELAY):
        said["path"] = draw(st.sampled_from(["/", "/dns-query", "/" + "a" * 254]))
    if kind is Kind.DNSCRYPT:
        said |= {"key": draw(st.binary(min_size=32, max_size=32)), "provider": "2.dnscrypt-cert." + draw(labels)}
    return Stamp(kind, **said)


@given(some_stamps())
def test_every_stamp_is_read_as_it_was_written(stamp: Stamp) -> None:
    text = stamps.format(stamp)
    assert stamps.parse(text) == stamp
    assert stamps.format(stamps.parse(text)) == text


@given(some_stamps(), st.data())
def test_a_wrong_character_is_another_stamp_or_a_mistake(stamp: Stamp, data: st.DataObject) -> None:
    text = stamps.format(stamp)
    at = data.draw(st.integers(0, len(text) - 1))
    wrong = text[:at] + data.draw(st.characters()) + text[at + 1 :]
    for read in stamps.parse, stamps.parse_pair, stamps.upstream:
        with contextlib.suppress(StampError):
            read(wrong)
    with contextlib.suppress(ConfigError):
        parse_upstream(wrong)


@given(some_stamps(), st.data())
def test_a_stamp_cut_short_or_made_longer_is_a_mistake(stamp: Stamp, data: st.DataObject) -> None:
    whole = binary(stamps.format(stamp))
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    # What may be missing is the list of bootstrap addresses.
    if stamp.bootstrap and stamps.format(Stamp(**{**vars(stamp), "bootstrap": ()})) == sdns(cut):
        return
    mistake(sdns(cut))
    if stamp.bootstrap or "host" not in FIELDS[stamp.kind] or stamp.kind is Kind.ODOH_TARGET:
        mistake(sdns(whole + b"\0"))


@given(st.binary(max_size=80) | st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=80)).map(
    lambda two: bytes([two[0]]) + two[1]
))  # fmt: skip
def test_bytes_are_a_stamp_or_a_mistake_and_a_stamp_has_one_text(data: bytes) -> None:
    with contextlib.suppress(StampError):
        stamp = stamps.parse(sdns(data))
        assert stamps.parse(stamps.format(stamp)) == stamp


@given(st.text() | st.text().map("sdns://".__add__))
@example("sdns:///")
@example("sdns://" + "\ud800")
@example("sdns:" + "A" * 100_000)
def test_no_text_raises_anything_else(text: str) -> None:
    for read in stamps.parse, stamps.parse_pair, stamps.upstream:
        with contextlib.suppress(StampError):
            read(text)


def test_a_mistake_is_a_value_error_and_a_short_one() -> None:
    error = mistake("sdns:" + "A" * 100_000)
    assert isinstance(error, ValueError)
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        ("", "begins with sdns://", ""), ("https://dns.example/", "begins with sdns://", "https:/"),
        ("SDNS://AAcA", "begins with sdns://", "SDNS://"),
        ("sdns://", "the stamp is empty", ""), ("sdns:", "the stamp is empty", ""),
        ("sdns://AAcAAAAAAAAABzguOC44Ljg=", "no padding", "="),
        ("sdns://AAcAAAAAAAAABzguOC44Ljh", "the last character cannot be the last", "h"),
        ("sdns://AAcAAAAAAAAABzguOC44L", "the last character cannot be the last", "L"),
        ("sdns://AAcA+AAA", "'+' does not belong in a stamp", "+"),
        ("sdns://AAcA AAA", "' ' does not belong in a stamp", " "),
        ("sdns://BgcAAAAAAAAA", "kind 0x06 is unknown", "Bg"),
        ("sdns://gRE5NC4xOTguNDEuMjM1OjQ0MwA", "something follows its end", "wA"),
        ("sdns://AAcAAAAAAAAACDguOC44Ljg", "it ends 1 byte too early", "CDguOC44Ljg"),
        ("sdns://AwcAAAAAAAAACzEuMS4xLjE6ODUzj6qqqqqqqqqqqqqqqqqqqhC7u7u7u7u7u7u7u7u7u7u7FmNsb3VkZmxhcmUtZG5zLmNvbTo4NTMA",
         "a hash is 15 bytes long", "j6qqqqqqqqqqqqqqqqqqqhC7u7u7u7u7u7u7u7u7u7u7"),
        ("sdns://AwAAAAAAAAAAAAAVdGxzOi8vZG5zLmFkZ3VhcmQuY29t", "'tls://dns.adguard.com' is neither a host name",
         "AVdGxzOi8vZG5zLmFkZ3VhcmQuY29t"),
        (sdns(b"\x81\x02\xff\xfe"), "it is not UTF-8 text", "QL__g"),
        (sdns(b"\x81\x00"), "there is no IP address", "gQA"[1:]),
        (f"{DOT}/{DOT[7:]}", "these are two stamps", f"/{DOT[7:]}"),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_where_it_is(text: str, said: str, where: str) -> None:
    error = mistake(text)
    assert said in str(error)
    assert underlined(error) == where


def test_control_characters_do_not_reach_the_terminal() -> None:
    error = mistake("sdns://AA\x1b[2J\nAA")
    assert error.text == "sdns://AA?[2J?AA"
    assert "\x1b" not in str(error)


def test_what_may_be_written_in_two_ways_is_written_in_one() -> None:
    without = binary(DOT)
    one = stamps.parse(DOT)
    assert stamps.parse(sdns(without + b"\0")) == one  # an empty list of bootstrap addresses
    assert stamps.parse(sdns(without[:1] + b"\xf8" + without[2:])) == one  # unknown properties
    assert stamps.parse(sdns(without[:17] + b"\x80\x80\0" + without[18:])) == one  # empty hashes
    assert stamps.parse(sdns(without[:1] + b"\x01" + without[2:])).dnssec


def test_a_list_without_its_end_is_a_mistake() -> None:
    assert "too early" in str(mistake(sdns(binary(DOT) + b"\x84" + b"\xc0\x00\x02\x01")))
    assert "too early" in str(mistake(sdns(binary(DOT)[:17] + b"\xa0" + bytes(32))))


def test_a_relay_and_its_server() -> None:
    bodies = list(VECTORS)
    first, second = next(b for b in bodies if b.startswith("gR")), bodies[0]
    text = f"sdns://{first}/{second}"
    assert stamps.is_pair(text)
    assert not stamps.is_pair(f"sdns://{second}")
    assert stamps.parse_pair(text) == Pair(VECTORS[first], VECTORS[second])
    assert stamps.format(stamps.parse_pair(text)) == text
    odoh = Pair(tls(Kind.ODOH_RELAY, 0, "", "", "relay.example", "/"), target("target.example", "/dns-query"))
    assert stamps.parse_pair(stamps.format(odoh)) == odoh


@pytest.mark.parametrize(
    ("text", "said", "where"),
    [
        (f"{DOT}/{DOT[7:]}", "DoT first and DoT second do not go together", f"{DOT[7:]}/{DOT[7:]}"),
        ("sdns://gRE5NC4xOTguNDEuMjM1OjQ0Mw/AwA", "it ends 7 bytes too early", "wA"),
        ("sdns://gRE5NC4xOTguNDEuMjM1OjQ0Mw/", "the stamp is empty", ""),
        ("sdns://gRE5NC4xOTguNDEuMjM1OjQ0Mx/AwA", "the last character cannot be the last", "x"),
        (DOT, "not one relay and one server", DOT[7:]), ("sdns://a/b/c", "not one relay and one server", "a/b/c"),
        (f"{DOT}/{DOT}", "not one relay and one server", f"{DOT[7:]}/{DOT}"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(text: str, said: str, where: str) -> None:
    with pytest.raises(StampError) as caught:
        stamps.parse_pair(text)
    assert said in str(caught.value)
    assert underlined(caught.value) == where


@pytest.mark.parametrize(
    ("stamp", "upstream"),
    [
        (tls(Kind.DOT, 0, "1.1.1.1", "", "one.one.one.one"), "tls://1.1.1.1#one.one.one.one"),
        (tls(Kind.DOT, 0, "1.1.1.1:8853", "", "one.one.one.one"), "tls://1.1.1.1:8853#one.one.one.one"),
        (tls(Kind.DOT, 0, "1.1.1.1:8853", "", "one.one.one.one:8853"), "tls://1.1.1.1:8853#one.one.one.one"),
        (tls(Kind.DOT, 0, "1.1.1.1", "", "one.one.one.one:8853"), "tls://1.1.1.1:8853#one.one.one.one"),
        (tls(Kind.DOT, 0, "", "", "DNS.Quad9.net"), "tls://dns.quad9.net"),
        (tls(Kind.DOT, 0, ":8853", "", "dns.quad9.net"), "tls://dns.quad9.net:8853"),
        (tls(Kind.DOT, 0, "", "", "bücher.example"), "tls://xn--bcher-kva.example"),
        (tls(Kind.DOT, 0, "[2620:FE::FE]", "", "dns.quad9.net"), "tls://[2620:fe::fe]#dns.quad9.net"),
        (tls(Kind.DOT, 0, "[fe80::1%eth0]", "", "dns.example"), "tls://[fe80::1%eth0]#dns.example"),
        (tls(Kind.DOT, 0, "", "", "[2620:fe::fe]"), "tls://[2620:fe::fe]"),
        (tls(Kind.DOT, 0, "9.9.9.9", "", "9.9.9.9"), "tls://9.9.9.9"),
    ],
)  # fmt: skip
def test_a_dot_stamp_is_an_upstream(stamp: Stamp, upstream: str) -> None:
    spec = parse_upstream(stamps.format(stamp))
    assert str(spec) == upstream
    assert spec == parse_upstream(upstream)


def test_the_hashes_of_a_stamp_come_along() -> None:
    text = stamps.format(tls(Kind.DOT, 0, "192.0.2.1", f"{TEST_HASH} {QUAD9_HASH}", "dot.example"))
    hashes = frozenset(map(bytes.fromhex, (TEST_HASH, QUAD9_HASH)))
    assert parse_upstream(text) == UpstreamSpec("192.0.2.1", 853, "dot.example", hashes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sdns://AAcAAAAAAAAABzguOC44Ljg", "plain DNS is not encrypted, and udp2tls asks nobody in plain text"),
        ("sdns://gRE5NC4xOTguNDEuMjM1OjQ0Mw", "a relay answers no queries itself"),
        (next("sdns://" + b for b in VECTORS if b[:2] == "hQ"), "a relay answers no queries itself"),
        (next("sdns://" + b for b in VECTORS if b[:2] == "Ag"), "DoH is not supported as an upstream in this"),
        (next("sdns://" + b for b in VECTORS if b[:2] == "BA"), "DoQ is not supported as an upstream in this"),
        (next("sdns://" + b for b in VECTORS if b[:2] == "BQ"), "ODoH target is not supported as an upstream in this"),
        (stamps.format(tls(Kind.DOT, 0, "192.0.2.1:853", "", "dot.example:8853")), "name different ports"),
        ("sdns://AwcA", "too early"), ("sdns:///", "the stamp is empty"),
    ],
)  # fmt: skip
def test_other_stamps_are_no_upstreams(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_upstream(text, "resolvers.toml:3")
    assert caught.value.where == "resolvers.toml:3"
    assert caught.value.remedy


@pytest.mark.parametrize("right", [True, False])
def test_a_resolver_is_asked_when_its_chain_has_a_hash_of_its_stamp(
    right: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="udp2tls")
    files = demo.certificates(str(tmp_path))
    digest = tbs_digest(ssl.PEM_cert_to_DER_cert(Path(files.ca_file).read_text(encoding="ascii")))
    server = udp2tls.Forwarder(Config(upstreams=(parse_upstream("tls://192.0.2.53"),), listen=()))
    sock, port = udp2tls.Forwarder.open_demo_listener()
    server.clients.listen_tcp(sock, False, demo.codec_factory(files), demo.answer)
    runner = threading.Thread(target=server.run)
    runner.start()
    hashes = (bytes(32), digest) if right else (bytes(32),)
    stamp = stamps.format(Stamp(Kind.DOT, address=f"127.0.0.1:{port}", hashes=hashes, host=demo.NAME))
    client = udp2tls.Forwarder(
        Config(upstreams=(parse_upstream(stamp),), listen=(), ca_file=files.ca_file, timeout=1.0)
    )  # fmt: skip
    try:
        reply = client.ask(query("www.example"))
    finally:
        client.close()
        server.stop("the test is over")
        runner.join(5)
    assert reply[3] & 15 == (0 if right else 2)
    assert ("no hash of the stamp matches" in caplog.text) is not right
