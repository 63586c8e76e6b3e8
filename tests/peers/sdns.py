"""DNS stamps (sdns://) of servers and relays on loopback, written apart from the product's own."""

from __future__ import annotations

import base64

from tests.peers.background import Address

_DNSCRYPT, _RELAY = b"\x01", b"\x81"


def dnscrypt(address: Address, key: bytes, provider: str, properties: int = 0) -> str:
    """Return the stamp of a DNSCrypt server: its address, its provider's public key and name."""
    fields = (_shown(address), key, provider.encode())
    return _stamp(_DNSCRYPT, properties.to_bytes(8, "little"), *map(_prefixed, fields))


def relay(address: Address) -> str:
    """Return the stamp of an Anonymized DNSCrypt relay."""
    return _stamp(_RELAY, _prefixed(_shown(address)))


def _shown(address: Address) -> bytes:
    host, port = address
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()


def _prefixed(field: bytes) -> bytes:
    return bytes((len(field),)) + field


def _stamp(*parts: bytes) -> str:
    return "sdns://" + base64.urlsafe_b64encode(b"".join(parts)).decode().rstrip("=")
