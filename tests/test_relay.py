"""relay: the header of ANONYMIZED-DNSCRYPT, byte by byte."""

from __future__ import annotations

import pytest

from _udp2tls import relay


def test_the_prefix_is_magic_address_and_port() -> None:
    assert relay.prefix("192.0.2.1", 443) == b"\xff" * 8 + bytes(12) + b"\xff\xff\xc0\0\2\1\x01\xbb"
    six = relay.prefix("2001:db8::1", 8443)
    assert six == b"\xff" * 8 + b"\0\0" + bytes.fromhex("20010db8000000000000000000000001") + b"\x20\xfb"
    assert len(six) == 28


@pytest.mark.parametrize("address", ["fe80::1%eth0", "example.com", ""])
def test_what_a_relay_cannot_reach_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        relay.prefix(address, 443)
