"""Signed lists in a test's folder, and the TOML tables that name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from _udp2tls import choice, stamps, tables
from _udp2tls.choice import Choice
from _udp2tls.config import ConfigError, UpstreamSpec
from _udp2tls.stamps import Kind, Stamp
from _udp2tls.toml_document import Document
from tests.test_minisign import Signer

SIGNER = Signer()

Entries = Mapping[str, str | Sequence[str]]


def relay(address: str) -> str:
    return stamps.format(Stamp(Kind.DNSCRYPT_RELAY, address=address))


def server(address: str, key: int = 1, provider: str = "2.dnscrypt-cert.test.example", **properties: Any) -> str:
    """Return the stamp of a DNSCrypt server that has all properties but those that are said to be False."""
    bare = Stamp(Kind.DNSCRYPT, True, True, True, address, bytes([key]) * 32, provider)
    return stamps.format(replace(bare, **properties))


def dot(address: str, host: str = "dot.example", **properties: Any) -> str:
    return stamps.format(replace(Stamp(Kind.DOT, True, True, True, address, host=host), **properties))


DOH = stamps.format(Stamp(Kind.DOH, address="192.0.2.9", host="doh.example", path="/dns-query"))


def write(folder: Path, name: str, entries: Entries, timestamp: int = 1000) -> str:
    """Write NAME.md and its signature; return the table of the source."""
    text = "".join(
        f"## {title}\n\nA description.\n\n" + "".join(f"{one}\n" for one in ([of] if isinstance(of, str) else of))
        for title, of in entries.items()
    )  # fmt: skip
    data = text.encode()
    (folder / f"{name}.md").write_bytes(data)
    (folder / f"{name}.md.minisig").write_bytes(SIGNER.sign(data, timestamp=timestamp, file=f"{name}.md"))
    return table(name)


def table(name: str, *more: str) -> str:
    """Return the table of a source whose file lies beside the TOML file."""
    lines = f'cache_file = "{name}.md"', f'minisign_key = "{SIGNER.line}"', *more
    return f"[sources.{name}]\n" + "\n".join(lines) + "\n"


def document(folder: Path, *parts: str) -> Document:
    return Document("\n".join(parts), str(folder / "file.toml"))


def wanted(folder: Path, *parts: str) -> tables.Wanted:
    return tables.read(document(folder, *parts))


def chosen(folder: Path, *parts: str, given: Sequence[UpstreamSpec] = ()) -> Choice:
    """Return what a file comes to."""
    _, fields = choice.read(document(folder, *parts), given)
    found: Choice = fields["choice"]
    return found


def ways(found: Choice) -> list[str]:
    """Return server and relay of each upstream, by address."""
    return [f"{one.host} {one.relay.host if one.relay else 'direct'}" for one in found.upstreams]


def mistake(folder: Path, *parts: str) -> list[str]:
    """Return the lines of the ConfigError that a file is."""
    try:
        chosen(folder, *parts)
    except ConfigError as error:
        return str(error).split("\n")
    raise AssertionError("no mistake was found")
