"""What a DNS stamp says: its kinds, their fields, and what each field may hold.

Owns the meaning of stamps (draft-denis-dns-stamps, dnscrypt.info/stamps-specifications);
``stamps`` has their text, ``stamp_json`` their JSON. A ``Stamp`` that exists is a good one,
and can be written and read back: what is wrong with one is said when it is made. Nothing here
connects, looks up or picks, and texts stay as they were given: default ports are not filled
in, names not folded.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from _udp2tls.config import ConfigError, ascii_name, is_address


class Kind(IntEnum):
    """What a stamp describes; the number is its first byte."""

    PLAIN = 0x00
    DNSCRYPT = 0x01
    DOH = 0x02
    DOT = 0x03
    DOQ = 0x04
    ODOH_TARGET = 0x05
    DNSCRYPT_RELAY = 0x81
    ODOH_RELAY = 0x85


NAMES = {
    Kind.PLAIN: "plain DNS", Kind.DNSCRYPT: "DNSCrypt", Kind.DOH: "DoH", Kind.DOT: "DoT", Kind.DOQ: "DoQ",
    Kind.ODOH_TARGET: "ODoH target", Kind.DNSCRYPT_RELAY: "DNSCrypt relay", Kind.ODOH_RELAY: "ODoH relay",
}  # fmt: skip

# The website's text says 443 for DoT and DoQ; the draft and every implementation say 853.
DEFAULT_PORT = {Kind.PLAIN: 53, Kind.DOT: 853, Kind.DOQ: 853}
_HTTPS_PORT = 443

# What follows the first byte, in order. The bootstrap addresses may be missing altogether.
_OVER_HTTPS = ("properties", "address", "hashes", "host", "path", "bootstrap")
_OVER_TLS = ("properties", "address", "hashes", "host", "bootstrap")
FIELDS: dict[Kind, tuple[str, ...]] = {
    Kind.PLAIN: ("properties", "address"),
    Kind.DNSCRYPT: ("properties", "address", "key", "provider"),
    Kind.DOH: _OVER_HTTPS,
    Kind.DOT: _OVER_TLS,
    Kind.DOQ: _OVER_TLS,
    Kind.ODOH_TARGET: ("properties", "host", "path"),
    Kind.DNSCRYPT_RELAY: ("address",),
    Kind.ODOH_RELAY: _OVER_HTTPS,
}

# Bit by bit; the others are ignored when read and zero when written.
PROPERTIES = ("dnssec", "no_logs", "no_filter")

KEY_SIZE = HASH_SIZE = 32  # Ed25519; SHA-256

# As much of a text as an error message repeats.
_SHOWN = 500

_PORT = r"(?::([1-9][0-9]{0,4}))?"
_ADDRESS = re.compile(rf"(?:\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9._~-]+)?)\]|([0-9.]+))?{_PORT}", re.ASCII)
_NAME_AND_PORT = re.compile(rf"([^:\[\]/]+){_PORT}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*", re.ASCII)  # RFC 3986: path and query


class StampError(ConfigError, ValueError):
    """A bad stamp: what, where and what to do."""

    def place(self, text: str, start: int, end: int, where: str) -> StampError:
        """Say where it is: characters ``start`` to ``end`` of ``text``; returns itself."""
        shown = "".join(char if char.isprintable() else "?" for char in text[:_SHOWN])
        self.text = shown + ("..." if len(text) > _SHOWN else "")
        self.span = (start, max(end, start + 1)) if end <= _SHOWN else None
        self.where = where
        return self


@dataclass(frozen=True)
class Stamp:
    """One resolver or relay. Fields its kind does not have are empty; raises StampError.

    ``address`` is ``ADDR[:PORT]``, IPv6 in brackets; kinds with a ``host`` may leave it empty, or
    say ``:PORT`` alone. ``host`` is ``NAME[:PORT]``, where NAME may be an address or Unicode.
    ``key`` is the DNSCrypt provider's Ed25519 key, ``provider`` its name. ``hashes`` are
    SHA-256 of the TBSCertificate of certificates of which one must be in the verified chain.
    """

    kind: Kind
    dnssec: bool = False
    no_logs: bool = False
    no_filter: bool = False
    address: str = ""
    key: bytes = b""
    provider: str = ""
    hashes: tuple[bytes, ...] = ()
    host: str = ""
    path: str = ""
    bootstrap: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fields = FIELDS[self.kind]
        for field in (*_CHECKS, *PROPERTIES):
            value = getattr(self, field)
            if field in fields:
                _CHECKS[field](value, self.kind)
            elif value and not (field in PROPERTIES and "properties" in fields):
                raise StampError(f"a stamp of {NAMES[self.kind]} has no {field}", remedy="leave it out")

    @property
    def ip(self) -> str:
        """The address without brackets and port; empty when there is none."""
        found = _split_address(self.address)
        return str(ipaddress.ip_address(found[0])) if found and found[0] else ""

    @property
    def name(self) -> str:
        """What the certificate must carry, as A-labels or an address; empty without a ``host``."""
        found = _split_host(self.host)
        return found[0] if found else ""

    @property
    def port(self) -> int:
        """Where to connect to: the port of ``host``, else of ``address``, else the default.

        With a path the port of ``address`` does not count: URLs have theirs in the host.
        """
        address, host = _split_address(self.address), _split_host(self.host)
        written = host[1] if host else 0
        if not written and address and not self.path:
            written = address[1]
        return written or DEFAULT_PORT.get(self.kind, _HTTPS_PORT)

    @property
    def agrees(self) -> bool:
        """False when ``address`` and ``host`` both name a port, and not the same."""
        address, host = _split_address(self.address), _split_host(self.host)
        return not (address and host and address[1] and host[1]) or address[1] == host[1]


class Pair(NamedTuple):
    """A server and the relay it is asked through."""

    relay: Stamp
    server: Stamp


def _split_address(text: str) -> tuple[str, int] | None:
    """Return (address or empty, port or 0), None when it is neither."""
    found = _ADDRESS.fullmatch(text)
    if not found or int(found[3] or 0) > 65535:
        return None
    host = found[1] or found[2] or ""
    if host and (not is_address(host) or (":" in host) != bool(found[1])):
        return None
    return host, int(found[3] or 0)


def _split_host(text: str) -> tuple[str, int] | None:
    """Return (name as A-labels, or address; port or 0), None when it is neither."""
    address = _split_address(text)
    if address and address[0]:
        # A scope means something on one machine alone, so no certificate carries one.
        return None if "%" in address[0] else (str(ipaddress.ip_address(address[0])), address[1])
    found = _NAME_AND_PORT.fullmatch(text)
    name = ascii_name(found[1]) if found else ""
    if not found or not name or int(found[2] or 0) > 65535:
        return None
    return name, int(found[2] or 0)


def _check_size(text: str, what: str, most: int = 255) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # half a surrogate pair, as JSON can say it
        raise StampError(f"the {what} is not Unicode text") from None
    if size > most:
        raise StampError(f"the {what} is {size} bytes long", remedy=f"a stamp has room for {most}")


def _check_address(text: str, kind: Kind) -> None:
    found = _split_address(text)
    optional = "host" in FIELDS[kind]
    if not found or not (found[0] or optional):
        raise StampError(
            f"{text!r:.80} is not an IP address" if text else "there is no IP address",
            remedy=f"write ADDR or ADDR:PORT, IPv6 as [ADDR]:PORT{', or leave it empty' if optional else ''}",
        )
    _check_size(text, "address")


def _check_key(key: bytes, kind: Kind) -> None:
    if len(key) != KEY_SIZE:
        raise StampError(f"the provider's key is {len(key)} bytes long", remedy=f"an Ed25519 key has {KEY_SIZE}")


def _check_provider(text: str, kind: Kind) -> None:
    if not text.isascii() or not ascii_name(text):
        raise StampError(
            f"{text!r:.80} is not the name of a DNSCrypt provider",
            remedy="it is a DNS name, mostly 2.dnscrypt-cert. and the operator's",
        )


def _check_hashes(hashes: tuple[bytes, ...], kind: Kind) -> None:
    for one in hashes:
        if len(one) != HASH_SIZE:
            raise StampError(f"a hash is {len(one)} bytes long", remedy=f"a SHA-256 has {HASH_SIZE}")


def _check_host(text: str, kind: Kind) -> None:
    _check_size(text, "host name")
    if not _split_host(text):
        raise StampError(
            f"{text!r:.80} is neither a host name nor an IP address",
            remedy="write NAME or NAME:PORT, with nothing before it; IPv6 in brackets",
        )


def _check_path(text: str, kind: Kind) -> None:
    if not _PATH.fullmatch(text):
        raise StampError(f"{text!r:.80} is not the path of a URL", remedy="it begins with a slash: /dns-query")
    _check_size(text, "path")


def _check_bootstrap(addresses: tuple[str, ...], kind: Kind) -> None:
    for one in addresses:
        found = _split_address(one)
        bare = ":" in one and is_address(one)
        if not bare and not (found and found[0]):
            raise StampError(f"{one!r:.80} is not an IP address", remedy="bootstrap resolvers are given by address")
        _check_size(one, "bootstrap address", 127)


_CHECKS: dict[str, Callable[[Any, Kind], None]] = {
    "address": _check_address, "key": _check_key, "provider": _check_provider, "hashes": _check_hashes,
    "host": _check_host, "path": _check_path, "bootstrap": _check_bootstrap,
}  # fmt: skip


def check_field(field: str, value: Any, kind: Kind) -> None:
    """Raise StampError unless a stamp of this kind may say this."""
    _CHECKS[field](value, kind)


def check_pair(pair: Pair) -> None:
    """Raise StampError unless the relay relays to such servers."""
    kinds = (pair.relay.kind, pair.server.kind)
    if kinds not in ((Kind.DNSCRYPT_RELAY, Kind.DNSCRYPT), (Kind.ODOH_RELAY, Kind.ODOH_TARGET)):
        raise StampError(
            f"{NAMES[kinds[0]]} first and {NAMES[kinds[1]]} second do not go together",
            remedy="a DNSCrypt relay goes with a DNSCrypt server, an ODoH relay with an ODoH target",
        )
