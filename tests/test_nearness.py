"""nearness: which addresses are so near that one operator may have both."""

from __future__ import annotations

import pytest

from _udp2tls.nearness import ADDRESS, NETWORK, nearness


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("192.0.2.1", "192.0.2.1", ADDRESS), ("::ffff:192.0.2.1", "192.0.2.1", ADDRESS),
        ("2001:db8::1", "2001:0db8:0::0001", ADDRESS), ("fe80::1%eth0", "fe80::1", ADDRESS),
        ("192.0.2.1", "192.0.2.254", NETWORK), ("192.0.2.1", "::ffff:192.0.2.9", NETWORK),
        ("2001:db8:1::1", "2001:db8:1:ffff::1", NETWORK),
        ("192.0.2.1", "192.0.3.1", ""), ("2001:db8:1::1", "2001:db8:2::1", ""), ("192.0.2.1", "2001:db8::1", ""),
    ],
)  # fmt: skip
def test_near_and_far(one: str, other: str, near: str) -> None:
    assert nearness(one, other) == nearness(other, one) == near


def test_a_name_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"relay\.example"):
        nearness("relay.example", "192.0.2.1")
