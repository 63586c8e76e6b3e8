"""Addresses as stunnel writes them: ``[host:]port``, split at the last colon.

A bare port is every IPv4 address for ``accept`` and this machine for ``connect``. IPv6
needs no brackets (``::1:53``, ``:::53``), and stunnel does not know them; here they may
stand. Ports may be names. What makes addresses of names is handed in: this room has no
sockets, and what ``connect`` names is looked up later, by whoever connects.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from _udp2tls.config import Endpoint, is_address
from stunnel_compat.parser import BLANKS, shown
from stunnel_compat.service import Target
from stunnel_compat.values import Bad

# What no resolver takes for a name, so that it need not be asked.
_NO_NAME = re.compile(r"[\s!\"#$%&'()*+,/:;<=>?@\[\\\]^`{|}~\x00-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class System:
    """What has to be asked of the operating system.

    ``resolve_port``: the services table; raises OSError or ValueError for what it does not know.
    ``resolve_host``: the addresses of a name to listen on; the same, or an empty list.
    ``constant``: a constant of the socket module, None where this system lacks it.
    """

    resolve_port: Callable[[str], int]
    resolve_host: Callable[[str], list[str]]
    constant: Callable[[str], int | None] = lambda name: None
    knows_user: Callable[[str], bool] = lambda name: True
    knows_group: Callable[[str], bool] = lambda name: True


class Never(Bad):
    """An address that makes the file useless here even when there are others beside it."""


def accept(value: str, system: System) -> list[Endpoint]:
    """Return the addresses to listen on; raise Bad."""
    host, port = _split(value, "accept", 53, system)
    if host in ("", "*"):
        if value.startswith(":"):
            raise Bad("Cannot resolve accept target: no host before the colon", f"write accept = {port}, or *:{port}")
        return [Endpoint("0.0.0.0", port)]
    if is_address(host):
        return [Endpoint(str(ipaddress.ip_address(host)), port)]
    remedy = "write an address of this machine: accept = ADDR:PORT"
    if is_address(value):  # IPv6
        remedy = f"the last colon begins the port, so write that too: accept = {value}:53"
    try:
        found = [address for address in system.resolve_host(host) if is_address(address)]
    except (OSError, ValueError) as error:
        raise Bad(f"Cannot resolve accept target: {error}", remedy) from None
    if not found:
        raise Bad("Cannot resolve accept target", remedy)
    return [Endpoint(address, port) for address in dict.fromkeys(found)]


def connect(value: str, system: System) -> Target:
    """Return the address or name to connect to; raise Bad."""
    host, port = _split(value, "connect", 853, system)
    if not port:
        raise Bad("port 0 cannot be connected to", f"write connect = {host}:853")
    if not host and value.startswith(":"):
        raise Bad("no host before the colon", f"write connect = HOST:{port}")
    if host in ("", "*"):
        return Target("localhost", port)
    if is_address(host):
        return Target(str(ipaddress.ip_address(host)), port)
    part = (value.find(host), value.find(host) + len(host))
    if ":" in host:
        raise Bad(
            f"the last colon begins the port, and {_brief(host)!r} is no IPv6 address",
            f"write the port too: connect = {value}:853" if is_address(value) else "write connect = ADDRESS:853", part,
        )  # fmt: skip
    if _NO_NAME.search(host) or re.fullmatch(r"[0-9.]+", host, re.ASCII):
        raise Bad(f"{_brief(host)!r} is neither an address nor a host name", "write connect = ADDRESS:853", part)
    return Target(host, port)


def local(value: str, system: System) -> str:
    """Return the address to connect from; raise Bad."""
    if is_address(value):
        return str(ipaddress.ip_address(value))
    try:
        found = [address for address in (system.resolve_host(value) if value else []) if is_address(address)]
    except (OSError, ValueError):
        found = []
    if not found:
        raise Bad("Failed to resolve local address", "write an address of this machine, without a port")
    return found[0]


def _split(value: str, option: str, default: int, system: System) -> tuple[str, int]:
    """Return host and port; the host is empty when there is a port alone."""
    if value.startswith("/"):
        raise Never("a Unix socket, which no DNS client speaks", f"write {option} = 127.0.0.1:{default}")
    if not value:
        raise Bad("the value is empty", f"write {option} = ADDRESS:{default}")
    if value.startswith("[") and value.endswith("]"):
        raise Bad("there is no port", f"write {option} = {value}:{default}")
    host, colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not is_address(host) or ":" not in host:
            raise Bad(f"{shown(host)!r} is no IPv6 address", f"write {option} = [ADDRESS]:{default}")
    number = _port(port, system)
    if number is not None:
        return host, number
    if not colon and ("." in value or is_address(value)) and not _NO_NAME.search(value):
        raise Bad(
            f'there is no port, so stunnel takes "{shown(value)}" for one: unknown TCP service',
            f"write the port too: {option} = {value}:{default}",
        )
    if is_address(value):
        raise Bad(
            f"the last colon begins the port, and {_brief(port)!r} is none",
            f"write the port too: {option} = {value}:{default}",
        )
    wish = "a number from 1 to 65535 or a name of the services table"
    start = len(value) - len(port)
    raise Bad(
        f"Unknown TCP service {_brief(port)!r}: a port is {wish}", f"write {option} = {host or 'ADDRESS'}:{default}",
        (start, len(value)),
    )  # fmt: skip


def _brief(text: str) -> str:
    """Return what can be quoted within a sentence."""
    text = shown(text)
    return text if len(text) <= 30 else text[:30] + "..."


def _port(text: str, system: System) -> int | None:
    text = text.lstrip(BLANKS)  # strtoul does
    if re.fullmatch(r"\+?[0-9]{1,9}", text, re.ASCII):
        return int(text) if int(text) <= 65535 else None
    if not text or _NO_NAME.search(text):
        return None
    try:
        return system.resolve_port(text)
    except (OSError, ValueError, LookupError, OverflowError):
        return None
