"""How the values of stunnel's options are read: one small reader a kind of value.

A reader takes the text behind the ``=`` and returns what it says, or raises Bad with
stunnel's own words, which people search for. No reader knows its option.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from stunnel_compat.parser import BLANKS, lower, shown

Reader = Callable[[str], object]

# Stunnel's TLS versions by their wire numbers; "all" is no limit.
VERSIONS = {"all": 0, "sslv3": 0x300, "tlsv1": 0x301, "tlsv1.1": 0x302, "tlsv1.2": 0x303, "tlsv1.3": 0x304}
_PROTOCOLS = {"None": 0, "SSLv3": 0x300, "TLSv1": 0x301, "TLSv1.1": 0x302, "TLSv1.2": 0x303, "TLSv1.3": 0x304}

_LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_FACILITIES = {
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "ntp", "syslog", "user", "uucp",
    *(f"local{number}" for number in range(8)),
}  # fmt: skip

# SSL_OP_... as ``stunnel -options`` of 5.68 lists them.
TLS_OPTIONS = {
    "ALL", "ALLOW_CLIENT_RENEGOTIATION", "ALLOW_NO_DHE_KEX", "ALLOW_UNSAFE_LEGACY_RENEGOTIATION",
    "CIPHER_SERVER_PREFERENCE", "CISCO_ANYCONNECT", "CLEANSE_PLAINTEXT", "COOKIE_EXCHANGE", "CRYPTOPRO_TLSEXT_BUG",
    "DISABLE_TLSEXT_CA_NAMES", "DONT_INSERT_EMPTY_FRAGMENTS", "ENABLE_KTLS", "ENABLE_MIDDLEBOX_COMPAT",
    "EPHEMERAL_RSA", "IGNORE_UNEXPECTED_EOF", "LEGACY_SERVER_CONNECT", "MICROSOFT_BIG_SSLV3_BUFFER",
    "MICROSOFT_SESS_ID_BUG", "MSIE_SSLV2_RSA_PADDING", "NETSCAPE_CA_DN_BUG", "NETSCAPE_CHALLENGE_BUG",
    "NETSCAPE_DEMO_CIPHER_CHANGE_BUG", "NETSCAPE_REUSE_CIPHER_CHANGE_BUG", "NO_ANTI_REPLAY", "NO_COMPRESSION",
    "NO_DTLS_MASK", "NO_DTLSV1", "NO_DTLSV1_2", "NO_ENCRYPT_THEN_MAC", "NO_EXTENDED_MASTER_SECRET", "NO_QUERY_MTU",
    "NO_RENEGOTIATION", "NO_SESSION_RESUMPTION_ON_RENEGOTIATION", "NO_SSL_MASK", "NO_SSLV2", "NO_SSLV3", "NO_TICKET",
    "NO_TLSV1", "NO_TLSV1_1", "NO_TLSV1_2", "NO_TLSV1_3", "PKCS1_CHECK_1", "PKCS1_CHECK_2", "PRIORITIZE_CHACHA",
    "SAFARI_ECDHE_ECDSA_BUG", "SINGLE_DH_USE", "SINGLE_ECDH_USE", "SSLEAY_080_CLIENT_DH_BUG",
    "SSLREF2_REUSE_CERT_TYPE_BUG", "TLS_BLOCK_PADDING_BUG", "TLS_D5_BUG", "TLSEXT_PADDING", "TLS_ROLLBACK_BUG",
}  # fmt: skip

SUITES = (
    "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256",
)  # fmt: skip

# The names OpenSSL's SSL_CTX_set1_groups_list knows, and those by which set_ecdh_curve knows the same.
CURVES = {
    "X25519": "X25519", "X448": "X448", "P-256": "prime256v1", "prime256v1": "prime256v1", "secp256r1": "prime256v1",
    "P-384": "secp384r1", "secp384r1": "secp384r1", "P-521": "secp521r1", "secp521r1": "secp521r1",
}  # fmt: skip
RARE_CURVES = {
    "P-192", "P-224", "secp160k1", "secp160r1", "secp160r2", "secp192k1", "prime192v1", "secp224k1", "secp224r1",
    "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "ffdhe2048", "ffdhe3072", "ffdhe4096",
    "ffdhe6144", "ffdhe8192", "sect163k1", "sect233k1", "sect283k1", "sect409k1", "sect571k1", "sect571r1",
}  # fmt: skip
DEFAULT_CURVES = {"X25519", "P-256", "X448", "P-521", "P-384"}

FLAG, INTEGER, PAIR, STRING = "flag", "integer", "pair", "string"
SOCKET_OPTIONS = {
    "SO_DEBUG": FLAG, "SO_DONTROUTE": FLAG, "SO_KEEPALIVE": FLAG, "SO_LINGER": PAIR, "SO_OOBINLINE": FLAG,
    "SO_RCVBUF": INTEGER, "SO_SNDBUF": INTEGER, "SO_RCVLOWAT": INTEGER, "SO_SNDLOWAT": INTEGER, "SO_RCVTIMEO": PAIR,
    "SO_SNDTIMEO": PAIR, "SO_EXCLUSIVEADDRUSE": FLAG, "SO_REUSEADDR": FLAG, "SO_BINDTODEVICE": STRING,
    "TCP_KEEPCNT": INTEGER, "TCP_KEEPIDLE": INTEGER, "TCP_KEEPINTVL": INTEGER, "IP_TOS": INTEGER, "IP_TTL": INTEGER,
    "TCP_MAXSEG": INTEGER, "TCP_NODELAY": FLAG, "IP_FREEBIND": FLAG, "IP_BINDANY": FLAG, "IPV6_BINDANY": FLAG,
    "IPV6_V6ONLY": FLAG,
}  # fmt: skip


class Bad(Exception):
    """A value that cannot be meant: stunnel's words, what to do, and the part of the value that is wrong."""

    def __init__(self, problem: str, remedy: str = "", part: tuple[int, int] | None = None) -> None:
        super().__init__(problem)
        self.problem, self.remedy, self.part = problem, remedy, part


def text(value: str) -> str:
    """Take the value as it is."""
    return value


def some_text(value: str) -> str:
    """Take the value as it is; it must not be empty."""
    if not value:
        raise Bad("the value is empty", "write a value, or remove the line")
    return value


def yes_no(value: str) -> bool:
    if lower(value) not in ("yes", "no"):
        raise Bad("The argument needs to be either 'yes' or 'no'", "write yes or no; 1, true and on are not known")
    return lower(value) == "yes"


def choice(words: str, *values: str) -> Reader:
    """Return a reader of one of some words, in any case."""

    def read(value: str) -> str:
        if lower(value) not in values:
            raise Bad(words, f"write one of: {', '.join(values)}")
        return lower(value)

    return read


def number(words: str, least: int | None = None, most: int | None = None) -> Reader:
    """Return a reader of what strtol takes for a decimal number."""

    def read(value: str) -> int:
        found = integer(value)
        if found is None or (least is not None and found < least) or (most is not None and found > most):
            span = f" from {least} to {most}" if most is not None else " without a unit"
            raise Bad(words, f"write a number{span}")
        return found

    return read


def integer(value: str) -> int | None:
    """Read digits as C's strtol does; None when they are none. Absurd numbers are cut as a C long cuts them."""
    value = value.lstrip(BLANKS)
    if not re.fullmatch(r"[+-]?[0-9]+", value, re.ASCII):
        return None
    limit = (1 << 31) - 1
    if len(value) > 20:
        return -limit if value[0] == "-" else limit
    return max(-limit, min(limit, int(value)))


def retry(value: str) -> object:
    """5.68 knows yes and no, 5.70 also milliseconds."""
    milliseconds = integer(value)
    if lower(value) in ("yes", "no") or (milliseconds is not None and milliseconds >= 0):
        return value
    raise Bad("The argument needs to be either 'yes' or 'no'", "write yes or no")


def debug(value: str) -> int:
    """``level``: a number from 0 to 7 or a name of syslog's."""
    if re.fullmatch("[0-7]", value, re.ASCII):
        return int(value)
    if lower(value) not in _LEVELS:
        facility = "; a facility is allowed before the first [section] only" if "." in value else ""
        raise Bad("Illegal debug level", f"write a number from 0 to 7, or one of {', '.join(_LEVELS)}{facility}")
    return _LEVELS.index(lower(value))


def global_debug(value: str) -> int:
    """``[facility.]level``; the facility is for syslog."""
    if "." not in value:
        return debug(value)
    facility, *rest = [part for part in value.split(".") if part] or [""]  # as strtok takes it apart
    if lower(facility) not in _FACILITIES:
        raise Bad("Illegal syslog facility", f"write one of {', '.join(sorted(_FACILITIES))}, or the level alone")
    return debug(rest[0] if rest else "")


def version(value: str) -> int:
    if lower(value) not in VERSIONS:
        raise Bad("Invalid protocol version", "write all, TLSv1.2 or TLSv1.3")
    return VERSIONS[lower(value)]


def tls_option(value: str) -> tuple[bool, str]:
    """``NAME`` or ``-NAME``: (is it to be cleared, NAME in capitals)."""
    name = value.removeprefix("-").upper() if value.isascii() else value
    if name in ("NO_TLSV1.1", "NO_TLSV1.2", "NO_TLSV1.3"):
        name = name.replace(".", "_")  # unknown to stunnel, but common in published files, and there is no doubt
    if name not in TLS_OPTIONS:
        raise Bad("Illegal TLS option", "see: stunnel -options, for instance NO_TLSv1_2 or NO_TICKET")
    return value.startswith("-"), name


def suites(value: str) -> tuple[str, ...]:
    """The TLS 1.3 cipher suites, separated by colons."""
    found = tuple(value.split(":"))
    for name in found:
        if name not in SUITES:
            raise Bad(
                f"no cipher match: {shown(name)!r} is no cipher suite of TLS 1.3",
                f"write one or several of {':'.join(SUITES[:3])}; those of TLS 1.2 go to ciphers",
            )
    return found


def curves(value: str) -> tuple[str, ...]:
    found = tuple(value.split(":"))
    for name in found:
        if name not in CURVES and name not in RARE_CURVES:
            raise Bad(
                f"Invalid groups list in 'curves': {shown(name)!r} is unknown",
                f"write some of {':'.join(sorted(DEFAULT_CURVES))}, in these letters",
            )
    return found


def socket_option(value: str) -> tuple[str, str, int]:
    """``a|l|r:NAME=VALUE``: (side, NAME, number). Of a pair the first number; a device's name is 0."""
    side, _, rest = value.partition(":")
    name, equals, given = rest.partition("=")
    kind = SOCKET_OPTIONS.get(name)
    if side not in ("a", "l", "r") or not equals or not kind:
        raise Bad("Illegal socket option", "write a:, l: or r:, NAME=VALUE, without blanks, e.g. r:TCP_NODELAY=1")
    if kind == STRING:
        return side, name, 0
    if kind == FLAG:
        flag = {"yes": 1, "1": 1, "no": 0, "0": 0}.get(lower(given))
        if flag is None:
            raise Bad("Illegal socket option", "it is a switch: write 1 or 0")
        return side, name, flag
    numbers = [integer(part) for part in (given.split(":", 1) if kind == PAIR else [given])]
    if None in numbers:
        raise Bad("Illegal socket option", "its value is a number")
    return side, name, numbers[0] or 0


def ticket_key(words: str) -> Reader:
    """Return a reader of 16 or 32 bytes in hexadecimal, colons between bytes allowed."""

    def read(value: str) -> str:
        if not re.fullmatch("([0-9A-Fa-f]{2}:?){16}(([0-9A-Fa-f]{2}:?){16})?", value, re.ASCII):
            raise Bad(words, "write 32 or 64 hexadecimal digits, or remove the line: it is for servers")
        return value

    return read


def ocsp_flag(value: str) -> str:
    return str(
        choice(
            "Illegal OCSP flag", "nocerts", "nointern", "nosigs", "nochain", "noverify", "noexplicit", "nocasign",
            "nodelegated", "nochecks", "trustother", "respid_key", "notime",
        )(value)
    )  # fmt: skip


def command(value: str) -> tuple[str, object]:
    """``COMMAND[:PARAMETER]`` of OpenSSL's SSL_CONF: (command in small letters, what it says)."""
    name, colon, parameter = value.partition(":")
    name = lower(name)
    if name in ("minprotocol", "maxprotocol"):
        if parameter not in _PROTOCOLS:
            raise Bad(f"Invalid protocol version for {shown(name)}", "write TLSv1.2 or TLSv1.3, in these letters")
        return name, _PROTOCOLS[parameter]
    if name == "cipherstring" and colon:
        return name, parameter
    return name, None
