"""A TOML file as options: the same names, with dnscrypt-proxy's where it has one.

Reads the file, checks names and types, and hands over text for the parsers in
``config``; every value carries "FILE:LINE" so that a mistake in it can be found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from _udp2tls.config import ConfigError

if TYPE_CHECKING:
    from _udp2tls.toml_document import Document

# Option by key: (option, may it be a list)
KEYS = {
    "listen": ("listen", True),
    "listen_addresses": ("listen", True),  # dnscrypt-proxy
    "upstream": ("upstream", True),
    "upstreams": ("upstream", True),
    "ca_file": ("ca_file", False),
    "pin": ("pin", True),
    "pins": ("pin", True),
    "client_cert": ("client_cert", False),
    "client_key": ("client_key", False),
    "bootstrap": ("bootstrap", True),
    "allow": ("allow", True),
    "timeout": ("timeout", False),
    "strategy": ("strategy", False),
    "ephemeral_keys": ("ephemeral_keys", False),
    "dnscrypt_ephemeral_keys": ("ephemeral_keys", False),  # dnscrypt-proxy
    "moderation": ("moderation", False),
    "workers": ("workers", False),
    "log_level": ("log_level", False),
    "log_queries": ("log_queries", False),
}

SWITCHES = {"ephemeral_keys", "log_queries"}

# The tables of dnscrypt-proxy that say which servers there are: read in ``tables``, when there are any.
CATALOG = frozenset((
    "server_names", "disabled_server_names", "require_dnssec", "require_nolog", "require_nofilter", "ipv4_servers",
    "ipv6_servers", "dnscrypt_servers", "doh_servers", "odoh_servers", "static", "sources", "anonymized_dns",
))  # fmt: skip


class Table(dict[str, list[tuple[str, str]]]):
    """Option -> [(text, "FILE:LINE")]. ``document``: the file, when it has any of CATALOG."""

    document: Document | None = None


def read(path: str) -> Table:
    """Read a file; raise ConfigError."""
    return _table(document(path))


def document(path: str) -> Document:
    """Read a file, and understand nothing of it; raise ConfigError."""
    from _udp2tls.toml_document import Document  # few have a file, and everybody starts

    try:
        with open(path, encoding="utf-8-sig") as file:  # Notepad writes a BOM
            source = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return Document(source, path)


def parse(source: str, path: str) -> Table:
    """Read the text of a file."""
    from _udp2tls.toml_document import Document

    return _table(Document(source, path))


def _table(file: Document) -> Table:
    table = Table()
    for key, value in file.data.items():
        if key in CATALOG:
            table.document = file
            continue
        if key not in KEYS:
            raise file.error(f"unknown name {key!r}", key, remedy="known are: " + ", ".join(sorted({*KEYS, *CATALOG})))
        option, many = KEYS[key]
        listed = isinstance(value, list) and many
        for number, one in enumerate(value if listed else [value]):
            place = file.place(key, number) if listed else file.place(key)
            if (option in SWITCHES) != isinstance(one, bool) or not isinstance(one, (str, int, float)):
                raise file.error(f"{key} cannot be a {type(one).__name__}", key)
            if isinstance(one, int) and abs(one) > 1 << 64:
                raise file.error(f"{key} cannot be so large", key)
            said = str(one).lower() if isinstance(one, bool) else str(one)
            table.setdefault(option, []).append((said, place.where))
    return table
