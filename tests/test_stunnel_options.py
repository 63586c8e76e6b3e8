"""The table: every option of stunnel has its row, and every row its reason."""

from __future__ import annotations

import pytest

from stunnel_compat import values
from stunnel_compat.options import BOTH, BY_KEY, GLOBAL, HONOURED, IGNORED, REFUSED, SERVICE, TABLE
from stunnel_compat.parser import lower

# As "stunnel -help" of 5.68 lists them, and what 5.70 to 5.75 and Windows have besides.
GLOBALS = [
    "chroot", "compression", "EGD", "engine", "engineCtrl", "engineDefault", "foreground", "log", "output", "pid",
    "RNDbytes", "RNDfile", "RNDoverwrite", "syslog", "fips", "iconActive", "iconError", "iconIdle", "taskbar",
    "provider", "providerParameter", "setEnv",
]  # fmt: skip
SERVICES = [
    "accept", "CAengine", "CApath", "CAfile", "cert", "checkEmail", "checkHost", "checkIP", "ciphers",
    "ciphersuites", "client", "config", "connect", "CRLpath", "CRLfile", "curves", "curve", "delay", "engineId",
    "engineNum", "exec", "execArgs", "failover", "ident", "key", "libwrap", "local", "logId", "OCSP", "OCSPaia",
    "OCSPflag", "OCSPnonce", "options", "protocol", "protocolAuthentication", "protocolDomain", "protocolHeader",
    "protocolHost", "protocolPassword", "protocolUsername", "PSKidentity", "PSKsecrets", "pty", "redirect",
    "renegotiation", "requireCert", "reset", "retry", "securityLevel", "sessionCacheSize", "sessionCacheTimeout",
    "session", "sessionResume", "sessiond", "sni", "socket", "sslVersion", "sslVersionMax", "sslVersionMin",
    "stack", "ticketKeySecret", "ticketMacSecret", "TIMEOUTbusy", "TIMEOUTclose", "TIMEOUTconnect", "TIMEOUTidle",
    "transparent", "verify", "verifyChain", "verifyPeer", "CAstore", "OCSPrequire", "TIMEOUTocsp",
]  # fmt: skip
BOTHS = [
    "debug", "service", "setgid", "setuid",
]  # fmt: skip
LISTS = [
    "accept", "connect", "checkHost", "checkIP", "checkEmail", "config", "socket", "options", "OCSPflag",
    "protocolHeader", "CAengine",
]  # fmt: skip


@pytest.mark.parametrize(("level", "names"), [(GLOBAL, GLOBALS), (SERVICE, SERVICES), (BOTH, BOTHS)])
def test_every_option_has_a_row_on_its_level(level: str, names: list[str]) -> None:
    assert {lower(name) for name in names} == {key for key, option in BY_KEY.items() if option.level == level}


def test_every_row_has_a_reason() -> None:
    for option in TABLE:
        assert option.weigh or option.why, option.name
        assert option.treatment in (HONOURED, IGNORED, REFUSED)
        assert option.treatment != REFUSED or option.remedy


def test_lists_add_up() -> None:
    assert {option.name for option in TABLE if option.many} >= set(LISTS)


def treatment(name: str, text: str) -> str:
    option = BY_KEY[lower(name)]
    said, why, remedy = option.treat(option.read(text))
    assert why or said == HONOURED
    assert (said == REFUSED) == bool(said == REFUSED and remedy)
    return said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        *(("options", text, HONOURED) for text in (
            "NO_SSLv2", "NO_SSLv3", "NO_TLSv1", "NO_TLSv1_1", "NO_TLSv1.1", "NO_TLSv1_2", "NO_TLSv1_3", "NO_TICKET",
            "NO_COMPRESSION", "NO_RENEGOTIATION", "CIPHER_SERVER_PREFERENCE", "-NO_TICKET")),
        *(("options", text, IGNORED) for text in (
            "ALL", "SINGLE_DH_USE", "SINGLE_ECDH_USE", "DONT_INSERT_EMPTY_FRAGMENTS", "MICROSOFT_SESS_ID_BUG", "-ALL")),
        *(("options", text, REFUSED) for text in (
            "-NO_SSLv3", "-NO_TLSv1", "-NO_COMPRESSION", "LEGACY_SERVER_CONNECT", "ALLOW_UNSAFE_LEGACY_RENEGOTIATION",
            "NO_SSL_MASK")),
        ("socket", "r:TCP_NODELAY=1", HONOURED), ("socket", "a:SO_BINDTODEVICE=eth0", REFUSED),
        ("socket", "l:SO_LINGER=1:60", IGNORED),
        ("fips", "no", IGNORED), ("fips", "yes", REFUSED), ("libwrap", "no", IGNORED), ("libwrap", "yes", REFUSED),
        ("OCSPaia", "no", IGNORED), ("OCSPaia", "yes", REFUSED), ("OCSP", "http://192.0.2.1/", REFUSED),
        ("OCSPrequire", "yes", REFUSED), ("transparent", "none", IGNORED), ("transparent", "source", REFUSED),
        ("ident", "me", REFUSED), ("protocol", "smtp", REFUSED), ("exec", "sh", REFUSED), ("engine", "auto", REFUSED),
        ("PSKsecrets", "f", REFUSED), ("CAengine", "x", REFUSED), ("redirect", "1", REFUSED),
        ("config", "MinProtocol:TLSv1.2", HONOURED), ("config", "Options:Bugs", REFUSED),
        ("curve", "prime256v1", HONOURED), ("curves", "X25519:P-256:X448:P-521:P-384", HONOURED),
        ("curves", "P-256:P-384", IGNORED), ("curves", "brainpoolP256r1", IGNORED),
        ("ciphersuites", ":".join(values.SUITES[:3]), HONOURED), ("ciphersuites", values.SUITES[0], IGNORED),
        ("compression", "zlib", IGNORED), ("syslog", "yes", IGNORED), ("requireCert", "yes", IGNORED),
    ],
)  # fmt: skip
def test_what_becomes_of_a_value(name: str, text: str, said: str) -> None:
    assert treatment(name, text) == said


def test_nothing_that_checks_or_restricts_is_ignored() -> None:
    """The rule behind the table: ignored is only what cannot make the result weaker."""
    checking = ("verify", "check", "crl", "ca", "ocsp", "libwrap", "ident", "cert", "setuid", "setgid", "chroot")
    for key, option in BY_KEY.items():
        if key.startswith(checking) and option.treatment == IGNORED:
            assert option.name in ("OCSPflag", "OCSPnonce"), option.name
