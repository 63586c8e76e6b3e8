"""What one client section of a stunnel.conf asks for, in plain values.

``section`` makes these of a parsed file, ``verify`` makes TLS contexts of them. Nothing
here decides anything; the defaults are stunnel's. Times are in seconds, paths as written
in the file.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from _udp2tls.config import Endpoint
from _udp2tls.process import Process

__all__ = ["Checks", "Process", "Service", "Target"]


@dataclass(frozen=True)
class Target:
    """One ``connect``: an address or a host name, and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class Checks:
    """Whom the server has to be. Nothing set: anybody, as with stunnel.

    ``chain``: the certificate must lead to a root in ``ca_file`` or ``ca_path``.
    ``peer``: the certificate itself (its subject and public key) must be in there.
    ``hosts``, ``addresses`` and ``emails`` are one pool: one match of any of them is enough.
    """

    chain: bool = False
    peer: bool = False
    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    ca_file: str = ""
    ca_path: str = ""
    crl_file: str = ""
    crl_path: str = ""
    root: str = ""  # the jail in which ca_path and crl_path will be looked into

    @property
    def subject(self) -> bool:
        """True when names are checked."""
        return bool(self.hosts or self.addresses or self.emails)


@dataclass(frozen=True)
class Service:
    """One section. ``sni`` is None for stunnel's default, the host of the first ``connect``."""

    name: str
    accept: tuple[Endpoint, ...]
    connect: tuple[Target, ...]
    checks: Checks = Checks()
    cert: str = ""
    key: str = ""  # the certificate's file when empty
    sni: str | None = None
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    flags: int = 0  # ssl.OP_..., to be added
    ciphers: str = "HIGH:!aNULL:!SSLv2:!DH:!kDHEPSK"
    security_level: int = 2
    curve: str = ""  # one OpenSSL name, when a single curve is asked for
    resume: bool = True
    rotate: bool = False  # failover = rr
    delay: bool = False  # look names up at each connection
    local: str = ""  # source address
    connect_limit: float = 10.0  # TIMEOUTconnect
    handshake_limit: float = 10.0  # TIMEOUTbusy, capped
    idle_limit: float = 43200.0  # TIMEOUTidle
    socket_options: tuple[tuple[str, int, int, int], ...] = ()  # ("a", "l" or "r", level, option, value)
    ciphersuites: str = ""  # of TLS 1.3, as written; for a Python that can set them (3.15)
    where: str = ""  # FILE:LINE of the section's head
    warnings: tuple[str, ...] = ()  # what the user should change, one sentence each
    notes: tuple[str, ...] = ()  # what is ignored or done otherwise and why, one sentence each
