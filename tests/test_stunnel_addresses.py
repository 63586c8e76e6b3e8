"""Addresses in stunnel's way: the last colon, bare ports, names of ports, and what people forget."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stunnel_compat import addresses
from stunnel_compat.addresses import Never
from stunnel_compat.values import Bad
from tests.stunnel_confs.reading import SYSTEM


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("53", [("0.0.0.0", 53)]), ("*:53", [("0.0.0.0", 53)]), ("domain", [("0.0.0.0", 53)]),
        ("127.0.0.1:53", [("127.0.0.1", 53)]), ("127.0.0.1: 53", [("127.0.0.1", 53)]),
        ("127.0.0.1:domain-s", [("127.0.0.1", 853)]), ("localhost:53", [("127.0.0.1", 53), ("::1", 53)]),
        ("::1:53", [("::1", 53)]), (":::53", [("::", 53)]), ("[::1]:53", [("::1", 53)]),
        ("2001:DB8::1:53", [("2001:db8::1", 53)]), ("127.0.0.1:0", [("127.0.0.1", 0)]),
    ],
)  # fmt: skip
def test_where_to_listen(text: str, expected: list[tuple[str, int]]) -> None:
    assert addresses.accept(text, SYSTEM) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("853", ("localhost", 853)), ("*:853", ("localhost", 853)), ("domain-s", ("localhost", 853)),
        ("192.0.2.1:853", ("192.0.2.1", 853)), ("dns.example:domain-s", ("dns.example", 853)),
        ("no-such.example:853", ("no-such.example", 853)), ("::1:853", ("::1", 853)), ("[::1]:853", ("::1", 853)),
        ("2620:fe::fe:853", ("2620:fe::fe", 853)), ("fe80::1%eth0:853", ("fe80::1%eth0", 853)),
        ("bücher.example:853", ("bücher.example", 853)),
    ],
)  # fmt: skip
def test_where_to_connect(text: str, expected: tuple[str, int]) -> None:
    target = addresses.connect(text, SYSTEM)
    assert (target.host, target.port) == expected


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("9.9.9.9", "connect = 9.9.9.9:853"), ("dns.example", "connect = dns.example:853"),
        ("2620:fe::fe", "connect = 2620:fe::fe:853"), ("::1", "connect = ::1:853"), ("[::1]", "connect = [::1]:853"),
        ("dns", "connect = ADDRESS:853"), ("1.2.3.4:dns", "connect = 1.2.3.4:853"), ("", "connect = ADDRESS:853"),
        ("1.2.3.4:", "connect = 1.2.3.4:853"), (":853", "connect = HOST:853"), ("1.2.3.4:0", "connect = 1.2.3.4:853"),
        ("1.2.3.4:65536", "connect = 1.2.3.4:853"), ("1.2.3.4:-1", "connect = 1.2.3.4:853"),
        ("256.1.1.1:853", "ADDRESS:853"), ("IP|HOST:853", "ADDRESS:853"), ("a b:853", "ADDRESS:853"),
        ("x::y:853", "ADDRESS:853"), ("[::g]:853", "[ADDRESS]:853"), ("/run/dns", "127.0.0.1:853"),
        ("1.2.3.4:853 #x", "853"),
    ],
)  # fmt: skip
def test_what_cannot_be_connected_to(text: str, remedy: str) -> None:
    with pytest.raises(Bad) as caught:
        addresses.connect(text, SYSTEM)
    assert remedy in caught.value.remedy
    assert caught.value.problem


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("127.0.0.1", "accept = 127.0.0.1:53"), (":53", "accept = 53"), ("nohost.example:53", "ADDR:PORT"),
        ("nothing.example:53", "ADDR:PORT"),
        ("odd.example:53", "ADDR:PORT"), ("127.0.0.1 :53", "ADDR:PORT"), ("::1", "accept = ::1:53"),
        ("", "ADDRESS:53"), ("/run/dns", "127.0.0.1:53"),
    ],
)  # fmt: skip
def test_what_cannot_be_listened_on(text: str, remedy: str) -> None:
    with pytest.raises(Bad) as caught:
        addresses.accept(text, SYSTEM)
    assert remedy in caught.value.remedy
    assert isinstance(caught.value, Never) == text.startswith("/")


def test_local() -> None:
    assert addresses.local("::0001", SYSTEM) == "::1"
    assert addresses.local("localhost", SYSTEM) == "127.0.0.1"
    for text in ("", "nohost.example", "nothing.example", "127.0.0.1:53"):
        with pytest.raises(Bad, match="Failed to resolve local address"):
            addresses.local(text, SYSTEM)


PIECES = st.sampled_from([":", "::", "1", ".", "53", "[", "]", "*", "/", "a", "ü", " ", "#", "%", "-", "\udcff"])


@settings(max_examples=300)
@given(st.text(max_size=20) | st.lists(PIECES, max_size=10).map("".join))
def test_any_text_is_an_address_or_bad(text: str) -> None:
    for read in (addresses.accept, addresses.connect, addresses.local):
        with contextlib.suppress(Bad):
            assert read(text, SYSTEM)
