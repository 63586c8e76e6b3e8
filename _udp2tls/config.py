"""What the user asked for, checked: frozen dataclasses and the parsers of their parts.

Owns the meaning of an address, an upstream URL, a pin and a network, and what goes
together. Where values come from (command line, environment, a file) is elsewhere.
Nothing here opens a file or a socket. Every mistake is a ConfigError that shows the
text, points at the place and names the remedy.
"""

from __future__ import annotations

import base64
import binascii
import errno
import ipaddress
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from _udp2tls.nearness import BITS, NETWORK, nearness

DNS_PORT, DOT_PORT = 53, 853

# RFC 1123 names: what a certificate can carry and SNI can say.
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\.?$)({_LABEL}\.)*{_LABEL}\.?", re.ASCII)

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(Exception):
    """Bad configuration: what, where and what to do.

    ``text`` is the offending value, ``span`` the part of it to underline, ``where`` the
    option, or file and line, it came from.
    """

    def __init__(
        self, problem: str, *, text: str = "", span: tuple[int, int] | None = None, where: str = "", remedy: str = ""
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.text = text
        self.span = span
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.problem}" if self.where else self.problem]
        if self.text:
            lines.append("    " + self.text.replace("\t", " "))  # as wide as the line under it takes it to be
            if self.span:
                start, end = self.span
                lines.append("    " + " " * start + "~" * max(0, end - start - 1) + "^")
        if self.remedy:
            lines.append(f"  {self.remedy}")
        return "\n".join(lines)


class BindError(Exception):
    """A listening address could not be had: which, why, and what to do."""

    def __init__(self, endpoint: Endpoint, kind: str, error: OSError) -> None:
        self.no_such_address = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, 10049, 10047)
        super().__init__(
            f"cannot listen on {endpoint} ({kind}): {error.strerror or error}\n  {_bind_remedy(endpoint, error)}"
        )


def _bind_remedy(endpoint: Endpoint, error: OSError) -> str:
    # 10013 and 10048 are WSAEACCES and WSAEADDRINUSE; Windows gives either for a port in use.
    code = getattr(error, "winerror", None) or error.errno
    if code in (errno.EADDRINUSE, 10013, 10048):
        if sys.platform == "win32":
            holder = (
                "in PowerShell\n"
                f"    Get-Process -Id (Get-NetUDPEndpoint -LocalPort {endpoint.port}).OwningProcess\n"
                f"    Get-Process -Id (Get-NetTCPConnection -State Listen -LocalPort {endpoint.port}).OwningProcess\n"
                "  svchost on port 53 is Internet Connection Sharing (SharedAccess); Hyper-V, WSL, Docker start it;\n"
                "  if nobody holds it, it may be set aside: netsh int ipv4 show excludedportrange udp"
            )
        else:
            holder = f"sudo ss -lunpt 'sport = :{endpoint.port}'"
        return f"another program holds the port; find it with: {holder}\n  or choose another: --listen ADDR:PORT"
    if code in (errno.EACCES, errno.EPERM):
        return (
            "ports below 1024 need a privilege: under systemd AmbientCapabilities=CAP_NET_BIND_SERVICE,\n"
            "  by hand: sudo setcap cap_net_bind_service=+ep on a copy of the Python interpreter,\n"
            "  or choose a high port: --listen 127.0.0.1:5353"
        )
    if code in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, 10049, 10047):
        return f"this machine does not have the address; see: {'ipconfig' if sys.platform == 'win32' else 'ip address'}"
    return "choose another address: --listen ADDR:PORT"


class Endpoint(NamedTuple):
    """A literal address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """True for addresses that only this machine can reach."""
        return ipaddress.ip_address(self.host).is_loopback


# What to do with several upstreams, and what it means.
STRATEGIES = {
    "ordered": "ordered: the first that works, and back to it when it works again",
    "rotate": "rotate: each in turn",
    "fastest": "fastest: whichever answers fastest",
}

DEFAULT_LISTEN = (Endpoint("127.0.0.1", DNS_PORT), Endpoint("::1", DNS_PORT))


@dataclass(frozen=True)
class UpstreamSpec:
    """One ``--upstream``. ``name`` is what the certificate must carry; with DNSCrypt, the provider's name."""

    host: str
    port: int
    name: str
    hashes: frozenset[bytes] = frozenset()  # of a stamp: SHA-256 of a TBSCertificate; one must be in the chain
    key: bytes = b""  # with DNSCrypt, the provider's public key
    relay: Endpoint | None = None  # with DNSCrypt, ask through it; its host may be a name
    prefer_tcp: bool = False  # with DNSCrypt
    direct_certificate: bool = False  # with a relay: its certificate may be asked for without, if that fails

    @property
    def target(self) -> Endpoint:
        """Where connections go to; its host may be a name."""
        return self.relay or Endpoint(self.host, self.port)

    @property
    def literal(self) -> bool:
        """True when connections go to an address, and no name needs a look-up."""
        return is_address(self.target.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.key:
            tcp = "?tcp" if self.prefer_tcp else ""
            return f"dnscrypt://{host}:{self.port}#{self.name}{tcp}" + (f" through {self.relay}" if self.relay else "")
        port = "" if self.port == DOT_PORT else f":{self.port}"
        name = "" if self.name == self.host else f"#{self.name}"
        return f"tls://{host}{port}{name}"


@dataclass(frozen=True)
class Config:
    """Everything a Forwarder needs to know. Times are in seconds."""

    upstreams: tuple[UpstreamSpec, ...]
    listen: tuple[Endpoint, ...] = DEFAULT_LISTEN
    # The default addresses are wishes: a machine without IPv6 is served on IPv4 alone.
    listen_optional: bool = False
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    pins: frozenset[bytes] = frozenset()
    bootstrap: tuple[UpstreamSpec, ...] = ()
    allow: tuple[IPNetwork, ...] = ()
    timeout: float = 4.0
    strategy: str = "ordered"
    ephemeral_keys: bool = False  # with DNSCrypt, a key pair for each query
    moderation: float | None = None  # pause of the loop, seconds; None: as it saves work
    workers: int = 1  # processes on each port
    local: str = ""  # address of this machine to connect from
    connect_limit: float = math.inf  # for the TCP handshake, if shorter than our own limit
    handshake_limit: float = math.inf  # for the TLS handshake, likewise
    idle_limit: float = math.inf  # close an idle connection then, if not before
    delay: bool = False  # look up the upstream's name for each connection
    # (level, option, value) of connections to upstreams, of listening sockets, of TCP clients'
    socket_options: tuple[tuple[int, int, int], ...] = ()
    listen_options: tuple[tuple[int, int, int], ...] = ()
    client_options: tuple[tuple[int, int, int], ...] = ()
    log_level: str = "info"
    log_queries: bool = False
    name: str = ""  # of the service, where there are several
    # Makes the TLS session of an upstream, where more than the above has to be said of it.
    sessions: Callable[[UpstreamSpec], Any] | None = field(default=None, compare=False)
    # Lists of servers, to be renewed, and what returns a configuration with the upstreams
    # that they come to by then; it opens no file, and raises ConfigError: see choice.
    sources: tuple[Any, ...] = field(default=(), compare=False)
    renewed: Callable[[Config], Config] | None = field(default=None, compare=False)
    choice: Any = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def allows(self, host: str) -> bool:
        """True when a client at this address may ask."""
        address = ipaddress.ip_address(host.partition("%")[0])
        return address.is_loopback or any(address in network for network in self.allow)

    def for_bootstrap(self) -> Config:
        """Return a configuration that asks the bootstrap resolvers, and listens nowhere."""
        return replace(
            self, upstreams=self.bootstrap, bootstrap=(), listen=(), pins=frozenset(), sessions=None
        )  # fmt: skip

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ConfigError("no upstream", remedy="name one: --upstream tls://9.9.9.9#dns.quad9.net")
        for endpoint in self.listen:
            if not endpoint.loopback and not self.allow:
                raise ConfigError(
                    f"listening on {endpoint} would serve everyone who can reach it",
                    where="--listen",
                    remedy="say which networks may ask, e.g. --allow 192.168.0.0/16, or listen on 127.0.0.1",
                )
        if self.client_key and not self.client_cert:
            raise ConfigError("a key without its certificate", where="--client-key", remedy="add --client-cert FILE")
        if not 0.1 <= self.timeout <= 60:
            raise ConfigError(
                f"{self.timeout:g} is not between 0.1 and 60 seconds", where="--timeout",
                remedy="stub resolvers give up after about 5 seconds; the default is 4",
            )  # fmt: skip


def doubts(
    given: Sequence[UpstreamSpec], upstreams: Sequence[UpstreamSpec], *, ephemeral: bool = False
) -> tuple[str, ...]:
    """Return warnings about what works, but is not what it seems to be for.

    ``given`` are the upstreams that were named by URL; of the others, ``routes`` warns.
    """
    found = [said for said in map(neighbours, given) if said]
    if ephemeral and not any(spec.key for spec in upstreams):
        found.append("ephemeral keys mean nothing to upstreams of DNS over TLS, and there are no others")
    return tuple(found)


def neighbours(spec: UpstreamSpec) -> str:
    """Say so when a relay and its server are likely to be one operator's: in one IPv4 /24, or IPv6 /48."""
    relay = spec.relay.host if spec.relay else ""
    if not is_address(relay) or nearness(relay, spec.host) != NETWORK:
        return ""
    version = ipaddress.ip_address(relay).version
    network = ipaddress.ip_network((relay, BITS[version]), strict=False)
    return (
        f"the relay {relay} and its server {spec.host} are in one network, {network}: if they have one"
        " operator, that one sees who asks and what; choose a relay of another"
    )


def is_address(text: str) -> bool:
    """True for a literal IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_endpoint(text: str, where: str, default_port: int = DNS_PORT) -> Endpoint:
    """Read ``ADDR[:PORT]``; IPv6 may stand in brackets, and must when a port follows."""
    host, port, at = _split_port(text, where, default_port)
    if not is_address(host):
        raise ConfigError(
            f"{host!r} is not an IP address", text=text, span=(at, at + max(1, len(host))), where=where,
            remedy="write ADDR or ADDR:PORT, IPv6 as [ADDR]:PORT, e.g. 127.0.0.1:5353 or [::1]:5353",
        )  # fmt: skip
    return Endpoint(str(ipaddress.ip_address(host)), port)


def parse_upstream(text: str, where: str = "--upstream") -> UpstreamSpec:
    """Read ``tls://HOST[:PORT][#NAME]``, or a DNS stamp."""
    if text.startswith("sdns:"):
        from _udp2tls import stamps  # few need them, and everybody starts

        return stamps.upstream(text, where)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() != "tls":
        raise ConfigError(
            f"{scheme + '://' if separator else text!r} is not an upstream this version knows",
            text=text, span=(0, len(scheme) if separator else len(text)), where=where,
            remedy="write tls://HOST[:853][#NAME], e.g. tls://9.9.9.9#dns.quad9.net",
        )  # fmt: skip
    target, hash_, name = rest.partition("#")
    target = target.removesuffix("/")
    host, port, at = _split_port(target, where, DOT_PORT, text, len(scheme) + 3)
    host = str(ipaddress.ip_address(host)) if is_address(host) else _host_name(host, text, at, where)
    if not port:
        end = len(scheme) + 3 + len(target)
        raise ConfigError(
            "port 0 cannot be connected to", text=text, span=(end - 1, end), where=where, remedy="leave it out for 853",
        )  # fmt: skip
    if hash_:
        at = len(text) - len(name)
        name = str(ipaddress.ip_address(name)) if is_address(name) else _host_name(name, text, at, where)
    return UpstreamSpec(host, port, name or host)


def ascii_name(name: str) -> str:
    """Return a host name as A-labels in lower case, without the final dot; empty when it is none."""
    try:
        ascii_ = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return ""
    if not _HOST_NAME.fullmatch(ascii_) or re.fullmatch(r"[0-9.]+", ascii_):
        return ""
    return ascii_.rstrip(".").lower()


def _host_name(name: str, text: str, at: int, where: str) -> str:
    found = ascii_name(name)
    if not found:
        raise ConfigError(
            f"{name!r} is neither an IP address nor a host name",
            text=text, span=(at, at + max(1, len(name))), where=where,
            remedy="write tls://HOST[:853][#NAME]; IPv6 in brackets: tls://[2620:fe::fe]#dns.quad9.net",
        )  # fmt: skip
    return found


def _split_port(
    target: str, where: str, default: int, text: str | None = None, offset: int = 0
) -> tuple[str, int, int]:
    """Split ``HOST[:PORT]``; return host, port and where the host begins in ``text``."""
    text = target if text is None else text
    if target.startswith("["):
        host, bracket, rest = target[1:].partition("]")
        start = offset + 1
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(
                "the bracket is not closed, or something but :PORT follows it", text=text,
                span=(offset, offset + len(target)), where=where, remedy="write [ADDR]:PORT",
            )  # fmt: skip
        port = rest[1:] if rest else None
    elif target.count(":") > 1:
        host, port, start = target, None, offset
    else:
        host, colon, after = target.partition(":")
        port, start = (after if colon else None), offset
    if port is None:
        return host, default, start
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) else -1
    if not 0 <= number <= 65535:
        end = offset + len(target)
        raise ConfigError(
            f"port {port!r} is not a number from 1 to 65535", text=text,
            span=(end - len(port), max(end, end - len(port) + 1)), where=where,
            remedy=f"leave :PORT out for {default}",
        )  # fmt: skip
    return host, number, start


def parse_pin(text: str, where: str = "--pin") -> bytes:
    """Read ``sha256/BASE64`` (also ``sha256//``, as curl writes it) into a digest."""
    kind, _, value = text.partition("/")
    if len(value) == 45:  # a digest's base64 is 44 long, and may itself begin with a slash
        value = value.removeprefix("/")
    try:
        digest = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if kind.lower() != "sha256" or len(digest) != 32:
        raise ConfigError(
            "not a pin", text=text, span=(0, max(1, len(text))), where=where,
            remedy="write sha256/ and the base64 of the SHA-256 of the SubjectPublicKeyInfo (44 characters)",
        )  # fmt: skip
    return digest


def parse_network(text: str, where: str = "--allow") -> IPNetwork:
    """Read ``ADDR/BITS``, or one address."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ConfigError(
            f"not a network: {error}", text=text, span=(0, max(1, len(text))), where=where,
            remedy="write e.g. 192.168.0.0/16 or fd00::/8",
        ) from None  # fmt: skip
