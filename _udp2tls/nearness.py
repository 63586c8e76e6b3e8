"""Whether two addresses are so near each other that one operator may have both.

A relay is there so that nobody sees both who asks and what is asked. At the server's own
address it is of no use at all; in the server's network it may well be of no use.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

ADDRESS, NETWORK = "address", "network"

# What one customer of a provider is commonly given, by version of IP.
BITS = {4: 24, 6: 48}


def nearness(one: str, other: str) -> str:
    """Return ADDRESS for the same address, NETWORK for the same /24 (IPv4) or /48 (IPv6), else nothing.

    Raises ValueError for what is no address.
    """
    first, second = _bare(one), _bare(other)
    if first == second:
        return ADDRESS
    if first.version == second.version and second in ip_network((first, BITS[first.version]), strict=False):
        return NETWORK
    return ""


def _bare(text: str) -> IPv4Address | IPv6Address:
    """Return an address without its scope, and as IPv4 if it only looks like IPv6."""
    address = ip_address(text.partition("%")[0])
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
