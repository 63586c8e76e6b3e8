"""Every option of stunnel 5.75 and what becomes of it: one row an option.

Honoured: it does what it does in stunnel, perhaps within limits that the row names.
Ignored: leaving it out cannot make the result weaker (less checked, more exposed, readable
by others), and the row says why. Refused: leaving it out could, so the file does not run,
and the row says what to do instead. A refused option set to one of its ``harmless`` values
asks for nothing and is ignored.

A row also says on which level the option may stand, how its value is read, and whether
several lines add up; else the last one wins. What the values then mean together is in
``section`` and ``meaning``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from stunnel_compat import values
from stunnel_compat.parser import lower
from stunnel_compat.values import choice, number, ticket_key, yes_no

HONOURED, IGNORED, REFUSED = "honoured", "ignored", "refused"

GLOBAL = "global"  # before the first [section] only
SERVICE = "service"  # in a section, or before the first as the default of all
BOTH = "both"  # means one thing for the process and another for a section

# treatment, why, what to do
Treatment = tuple[str, str, str]


@dataclass(frozen=True)
class Option:
    """A row. ``weigh`` decides by the value where the whole option has no one treatment."""

    name: str
    treatment: str
    why: str
    level: str = SERVICE
    read: values.Reader = values.text
    many: bool = False
    remedy: str = "remove the line"
    harmless: tuple[object, ...] = ()
    aliases: tuple[str, ...] = ()
    weigh: Callable[[Any], Treatment] | None = None

    def treat(self, value: object) -> Treatment:
        """Return (treatment, why, remedy) of a value that ``read`` returned."""
        if self.weigh:
            return self.weigh(value)
        if self.treatment == REFUSED and value in self.harmless:
            return IGNORED, "this asks for nothing", ""
        return self.treatment, self.why, self.remedy


def _tls_option(value: tuple[bool, str]) -> Treatment:
    clear, name = value
    remedy = "remove the line; udp2tls speaks TLS 1.2 and 1.3, without what this allows"
    if name in ("NO_TICKET", "NO_TLSV1_2", "NO_TLSV1_3", "CIPHER_SERVER_PREFERENCE"):
        return HONOURED, "undoes that option" if clear else "as in stunnel", ""
    if name in ("NO_SSLV2", "NO_SSLV3", "NO_TLSV1", "NO_TLSV1_1", "NO_COMPRESSION", "NO_RENEGOTIATION") and not clear:
        return HONOURED, "always so", ""
    if clear and name.startswith("NO_"):
        return REFUSED, "it allows what udp2tls never does", remedy
    if not clear and name in ("LEGACY_SERVER_CONNECT", "ALLOW_UNSAFE_LEGACY_RENEGOTIATION"):
        return REFUSED, "it allows an attack on renegotiation (CVE-2009-3555)", remedy
    if not clear and name == "NO_SSL_MASK":
        return REFUSED, "it forbids every version of TLS", "forbid single ones, e.g. options = NO_TLSv1_2"
    return IGNORED, "a work-around or a server's option; leaving it out weakens nothing", ""


_KEPT_SOCKET_OPTIONS = {
    "TCP_NODELAY", "SO_KEEPALIVE", "TCP_KEEPCNT", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "SO_REUSEADDR", "SO_RCVBUF",
    "SO_SNDBUF", "SO_DONTROUTE", "IP_TOS", "IP_TTL", "TCP_MAXSEG", "IP_FREEBIND", "IPV6_V6ONLY",
}  # fmt: skip


def _socket(value: tuple[str, str, int]) -> Treatment:
    side, name, _ = value
    if name in _KEPT_SOCKET_OPTIONS:
        sockets = {"a": "listening sockets", "l": "clients' connections", "r": "connections to the servers"}
        return HONOURED, f"set on the {sockets[side]}", ""
    if name in ("SO_BINDTODEVICE", "IP_BINDANY", "IPV6_BINDANY"):
        return (
            REFUSED,
            "udp2tls cannot, and would listen, or send, elsewhere than asked for",
            "bind to an address of that interface: accept = ADDRESS:53, local = ADDRESS",
        )
    return IGNORED, "it is about closing or waiting, which udp2tls does in its own way", ""


def _command(value: tuple[str, object]) -> Treatment:
    name, _ = value
    if name in ("minprotocol", "maxprotocol", "cipherstring"):
        return HONOURED, "as sslVersionMin, sslVersionMax and ciphers, and after them", ""
    return (
        REFUSED, "of OpenSSL's commands udp2tls knows MinProtocol, MaxProtocol and CipherString",
        "say it with an option of stunnel's: sslVersionMin, ciphers, ciphersuites, curves, options",
    )  # fmt: skip


def _suites(value: tuple[str, ...]) -> Treatment:
    if set(values.SUITES[:3]) <= set(value):
        return HONOURED, "these are all that Python's ssl offers", ""
    return IGNORED, "before 3.15 Python cannot choose; all suites of TLS 1.3 are sound", ""


def _curves(value: tuple[str, ...]) -> Treatment:
    if len(value) == 1 and value[0] in values.CURVES:
        return HONOURED, "the only curve offered", ""
    if set(value) >= values.DEFAULT_CURVES:
        return HONOURED, "OpenSSL's defaults have them all", ""
    return IGNORED, "before 3.15 Python takes one curve or the defaults; the defaults are used, and all are sound", ""


_OCSP = "udp2tls asks no OCSP responder, so a revoked certificate would pass"
_OCSP_REMEDY = (
    "run with --without-ocsp to do without this check, or remove the line; most certificate authorities\n"
    "  have closed their responders. CRLfile and CRLpath are honoured"
)
_ENGINE = "udp2tls uses no OpenSSL engines or providers"
_KEYFILE = "keep the key in a file: cert = FILE.pem, key = FILE.pem"
_LOCAL = "it starts a program, which udp2tls does not"
_ACCESS = "without it clients could ask that stunnel would turn away"
_WALL = "restrict the clients with a firewall, or listen on 127.0.0.1, and remove the line"
_PLAIN = "another protocol is spoken before TLS, which udp2tls does not"
_NO_PROTOCOL = "means nothing without protocol, which is refused"
_RANDOM = "Python and OpenSSL take random numbers from the system"
_WINDOWS = "there is no window"
_SERVER = "for servers; without effect in a client"

TABLE = (
    # the process
    Option("chroot", HONOURED, "after everything has been read", GLOBAL),
    Option("compression", IGNORED, "udp2tls never compresses TLS, which is safer (CRIME)", GLOBAL,
           choice("Specified compression type is not available", "deflate", "zlib")),
    Option("EGD", IGNORED, _RANDOM, GLOBAL),
    Option("engine", REFUSED, _ENGINE, GLOBAL, remedy=_KEYFILE),
    Option("engineCtrl", REFUSED, _ENGINE, GLOBAL, remedy=_KEYFILE),
    Option("engineDefault", REFUSED, _ENGINE, GLOBAL, remedy=_KEYFILE),
    Option("fips", REFUSED, "no FIPS provider can be asked for here", GLOBAL, yes_no, harmless=(False,),
           remedy="configure FIPS for OpenSSL as a whole (openssl.cnf), and remove the line"),
    Option("foreground", HONOURED, "udp2tls always stays in the foreground", GLOBAL,
           choice("The argument needs to be either 'yes', 'quiet' or 'no'", "yes", "quiet", "no")),
    Option("iconActive", IGNORED, _WINDOWS, GLOBAL),
    Option("iconError", IGNORED, _WINDOWS, GLOBAL),
    Option("iconIdle", IGNORED, _WINDOWS, GLOBAL),
    Option("log", HONOURED, "how the log file is opened", GLOBAL,
           choice("The argument needs to be either 'append' or 'overwrite'", "append", "overwrite")),
    Option("output", HONOURED, "the log file", GLOBAL),
    Option("pid", HONOURED, "the process number is written there", GLOBAL),
    Option("provider", REFUSED, _ENGINE, GLOBAL, many=True, remedy=_KEYFILE),
    Option("providerParameter", REFUSED, _ENGINE, GLOBAL, many=True, remedy=_KEYFILE),
    Option("RNDbytes", IGNORED, _RANDOM, GLOBAL, number("Illegal number of bytes to read from random seed files")),
    Option("RNDfile", IGNORED, _RANDOM, GLOBAL),
    Option("RNDoverwrite", IGNORED, _RANDOM, GLOBAL, yes_no),
    Option("setEnv", IGNORED, "udp2tls starts no programs that could see it", GLOBAL, many=True),
    Option("syslog", IGNORED, "udp2tls writes to output or standard error, which systemd takes to the journal",
           GLOBAL, yes_no),
    Option("taskbar", IGNORED, _WINDOWS, GLOBAL, yes_no),
    # both
    Option("debug", HONOURED, "the level of the log", BOTH, values.debug),
    Option("service", IGNORED, "a name for syslog", BOTH),
    Option("setgid", HONOURED, "the group after the sockets are bound", BOTH),
    Option("setuid", HONOURED, "the user after the sockets are bound", BOTH),
    # endpoints
    Option("accept", HONOURED, "listens there, on UDP and TCP", many=True),
    Option("client", HONOURED, "yes: DNS goes out over TLS", read=yes_no),
    Option("connect", HONOURED, "asked over TLS", many=True),
    Option("delay", HONOURED, "yes: names are looked up at each connection", read=yes_no),
    Option("exec", REFUSED, _LOCAL),
    Option("execArgs", REFUSED, _LOCAL),
    Option("failover", HONOURED, "prio: the first that works; rr: each in turn",
           read=choice("The argument needs to be either 'rr' or 'prio'", "rr", "prio")),
    Option("ident", REFUSED, _ACCESS, remedy=_WALL),
    Option("libwrap", REFUSED, _ACCESS, read=yes_no, harmless=(False,), remedy=_WALL),
    Option("local", HONOURED, "the address to connect from"),
    Option("protocol", REFUSED, _PLAIN, remedy="connect to a server that speaks DNS over TLS at once"),
    Option("protocolAuthentication", IGNORED, _NO_PROTOCOL),
    Option("protocolDomain", IGNORED, _NO_PROTOCOL),
    Option("protocolHeader", IGNORED, _NO_PROTOCOL, many=True),
    Option("protocolHost", HONOURED, "the name sent to the server (SNI), unless sni says another"),
    Option("protocolPassword", IGNORED, _NO_PROTOCOL),
    Option("protocolUsername", IGNORED, _NO_PROTOCOL),
    Option("pty", REFUSED, _LOCAL, read=yes_no, harmless=(False,)),
    Option("redirect", REFUSED, '"redirect" is unsupported in client sections', many=True),
    Option("retry", IGNORED, "for exec only; udp2tls always tries again", read=values.retry),
    Option("transparent", REFUSED, "it changes the addresses of the packets", harmless=("none", "no"),
           read=choice("Selected transparent proxy mode is not available",
                       "none", "no", "source", "yes", "destination", "both")),
    Option("socket", HONOURED, "", read=values.socket_option, many=True, weigh=_socket),
    # who the server has to be
    Option("CAengine", REFUSED, _ENGINE, many=True, remedy="keep the certificates in a file: CAfile = FILE.pem"),
    Option("CAfile", HONOURED, "what is trusted, if anything is verified"),
    Option("CApath", HONOURED, "what is trusted, if anything is verified"),
    Option("CAstore", REFUSED, _ENGINE, remedy="keep the certificates in a file: CAfile = FILE.pem"),
    Option("checkEmail", HONOURED, "one check of host, address or e-mail must match", many=True),
    Option("checkHost", HONOURED, "one check of host, address or e-mail must match", many=True),
    Option("checkIP", HONOURED, "one check of host, address or e-mail must match", many=True),
    Option("CRLfile", HONOURED, "revoked certificates are rejected, with verifyChain"),
    Option("CRLpath", HONOURED, "revoked certificates are rejected, with verifyChain"),
    Option("OCSP", REFUSED, _OCSP, remedy=_OCSP_REMEDY),
    Option("OCSPaia", REFUSED, _OCSP, read=yes_no, harmless=(False,), remedy=_OCSP_REMEDY),
    Option("OCSPflag", IGNORED, "means nothing without OCSP", read=values.ocsp_flag, many=True),
    Option("OCSPnonce", IGNORED, "means nothing without OCSP", read=yes_no),
    Option("OCSPrequire", REFUSED, _OCSP, read=yes_no, harmless=(False,), remedy=_OCSP_REMEDY),
    Option("requireCert", IGNORED, _SERVER, read=yes_no),
    Option("verify", HONOURED, "0 nothing, 1 and 2 the chain, 3 chain and pinned certificate, 4 pinned certificate",
           read=number("Bad verify level", 0, 4)),
    Option("verifyChain", HONOURED, "yes: the certificate must lead to a trusted root", read=yes_no),
    Option("verifyPeer", HONOURED, "yes: the certificate itself must be among the trusted", read=yes_no),
    # who we are
    Option("cert", HONOURED, "shown to the server when it asks"),
    Option("engineId", REFUSED, _ENGINE, remedy=_KEYFILE),
    Option("engineNum", REFUSED, _ENGINE, remedy=_KEYFILE),
    Option("key", HONOURED, "the key of cert"),
    Option("PSKidentity", IGNORED, "means nothing without PSKsecrets, which is refused"),
    Option("PSKsecrets", REFUSED, "Python's ssl authenticates by certificates only",
           remedy="verify the server by its certificate: verifyChain = yes, CAfile, checkHost"),
    Option("sni", HONOURED, "the name sent to the server"),
    # TLS
    Option("ciphers", HONOURED, "of TLS 1.2"),
    Option("ciphersuites", HONOURED, "", read=values.suites, weigh=_suites),
    Option("config", HONOURED, "", read=values.command, many=True, weigh=_command),
    Option("curves", HONOURED, "", read=values.curves, aliases=("curve",), weigh=_curves),
    Option("options", HONOURED, "", read=values.tls_option, many=True, weigh=_tls_option),
    Option("renegotiation", HONOURED, "there is none", read=yes_no),
    Option("securityLevel", HONOURED, "how strong keys and ciphers have to be",
           read=number("Illegal security level", 0, 5)),
    Option("sessionCacheSize", IGNORED, "one session is kept for each server",
           read=number("Illegal session cache size")),
    Option("sessionCacheTimeout", IGNORED, "the server says how long a session may be resumed",
           read=number("Illegal session cache timeout"), aliases=("session",)),
    Option("sessiond", REFUSED, "sessions would be shared over the network"),
    Option("sessionResume", HONOURED, "yes: later handshakes are abbreviated", read=yes_no),
    Option("sslVersion", HONOURED, "the only version of TLS", read=values.version),
    Option("sslVersionMax", HONOURED, "the newest version of TLS", read=values.version),
    Option("sslVersionMin", HONOURED, "the oldest version of TLS, 1.2 at least", read=values.version),
    Option("ticketKeySecret", IGNORED, _SERVER, read=ticket_key("Failed to read ticketKeySecret")),
    Option("ticketMacSecret", IGNORED, _SERVER, read=ticket_key("Failed to read ticketMacSecret")),
    # time, and the rest
    Option("logId", IGNORED, "log lines carry no identifiers",
           read=choice("Invalid connection identifier type", "sequential", "unique", "thread", "process")),
    Option("reset", IGNORED, "clients get an answer, not a reset", read=yes_no),
    Option("stack", IGNORED, "udp2tls has one thread", read=number("Illegal thread stack size")),
    Option("TIMEOUTbusy", HONOURED, "the limit of a handshake, 10 s at most", read=number("Illegal busy timeout")),
    Option("TIMEOUTclose", IGNORED, "udp2tls closes at once", read=number("Illegal close timeout")),
    Option("TIMEOUTconnect", HONOURED, "the limit of a TCP connect", read=number("Illegal connect timeout")),
    Option("TIMEOUTidle", HONOURED, "how long an idle connection is kept, if the server keeps it as long",
           read=number("Illegal idle timeout")),
    Option("TIMEOUTocsp", IGNORED, "means nothing without OCSP", read=number("Illegal OCSP connect timeout")),
)  # fmt: skip

OCSP_OPTIONS = ("ocsp", "ocspaia", "ocsprequire")


def _by_key() -> Iterator[tuple[str, Option]]:
    for option in TABLE:
        for name in (option.name, *option.aliases):
            yield lower(name), option


BY_KEY = dict(_by_key())
