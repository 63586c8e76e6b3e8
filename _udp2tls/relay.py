"""Anonymized DNSCrypt: what stands before a packet so that a relay passes it on.

The relay learns who asks and not what, the server what is asked and not by whom. The relay
answers for the server, without a prefix, and passes no answer that is longer than its query.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

MAGIC = b"\xff" * 8 + b"\0\0"


def prefix(address: str, port: int) -> bytes:
    """Return what a relay wants before each packet, certificate queries too, for the server there.

    Raises ValueError when ``address`` is not an IP address without a scope.
    """
    host = ip_address(address)
    six = host if isinstance(host, IPv6Address) else IPv6Address(f"::ffff:{host}")
    if six.scope_id:
        raise ValueError(f"{address}: a scope means nothing to a relay")
    return b"".join((MAGIC, six.packed, port.to_bytes(2, "big")))
