"""Which TLS a section asks for."""

from __future__ import annotations

import ssl

import pytest

from stunnel_compat.service import Service
from tests.stunnel_confs.reading import problems, service

OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("lines", "oldest", "newest"),
    [
        ("", OLD, NEW), ("sslVersion = all", OLD, NEW), ("sslVersion = TLSv1.3", NEW, NEW),
        ("sslVersion = TLSv1.2", OLD, OLD), ("sslVersionMin = TLSv1.3", NEW, NEW),
        ("sslVersionMax = TLSv1.2", OLD, OLD),
        ("sslVersionMin = SSLv3", OLD, NEW), ("sslVersionMin = TLSv1\nsslVersionMax = TLSv1.2", OLD, OLD),
        ("sslVersion = TLSv1.2\nsslVersionMax = TLSv1.3", OLD, NEW), ("sslVersion = TLSv1\nsslVersion = all", OLD, NEW),
        ("options = NO_TLSv1_3", OLD, OLD), ("options = NO_TLSv1_2", NEW, NEW),
        ("options = NO_TLSv1_3\noptions = -NO_TLSv1_3", OLD, NEW),
        ("config = MaxProtocol:TLSv1.2", OLD, OLD), ("sslVersion = TLSv1\nconfig = maxprotocol:TLSv1.3", OLD, NEW),
        ("config = MinProtocol:TLSv1.3\nsslVersionMin = TLSv1.2", NEW, NEW), ("config = MinProtocol:None", OLD, NEW),
    ],
)  # fmt: skip
def test_versions(lines: str, oldest: ssl.TLSVersion, newest: ssl.TLSVersion) -> None:
    made = service(lines)
    assert (made.oldest, made.newest) == (oldest, newest)


@pytest.mark.parametrize(
    "lines",
    ["sslVersion = TLSv1", "sslVersion = SSLv3", "sslVersionMax = TLSv1.1",
     "options = NO_TLSv1_2\noptions = NO_TLSv1_3",
     "sslVersion = TLSv1.2\noptions = NO_TLSv1_2", "config = MaxProtocol:TLSv1.1"],
)  # fmt: skip
def test_what_leaves_no_version_is_refused(lines: str) -> None:
    (said,) = problems(lines)
    assert "neither TLS 1.2 nor TLS 1.3 is allowed" in said


def test_a_range_that_is_none() -> None:
    lines = "sslVersionMin = TLSv1.3\nsslVersionMax = TLSv1.2"
    assert problems(lines) == ["Service [dns]: Invalid protocol version range"]
    assert problems("", lines) == ["Service [dns]: Invalid protocol version range"]


def test_older_versions_are_left_out_with_a_note() -> None:
    assert any("older than 1.2" in note for note in service("sslVersionMin = TLSv1").notes)
    assert not service("sslVersionMin = TLSv1.2").notes


def test_flags() -> None:
    assert service("").flags == 0
    assert service("options = NO_TICKET").flags == ssl.OP_NO_TICKET
    assert service("options = no_ticket\noptions = -NO_TICKET").flags == 0
    assert service("options = CIPHER_SERVER_PREFERENCE").flags == ssl.OP_CIPHER_SERVER_PREFERENCE
    assert service("renegotiation = no").flags == service("options = NO_RENEGOTIATION").flags == ssl.OP_NO_RENEGOTIATION
    assert service("renegotiation = yes").flags == 0


@pytest.mark.parametrize(
    ("lines", "ciphers", "level"),
    [
        ("", Service.ciphers, 2), ("ciphers = ECDHE+AESGCM", "ECDHE+AESGCM", 2),
        ("securityLevel = 3", Service.ciphers, 3),
        ("ciphers = HIGH\nconfig = CipherString:ECDHE+AESGCM", "ECDHE+AESGCM", 2),
        ("ciphers = DEFAULT:@SECLEVEL=1\nsecurityLevel = 3", "DEFAULT:@SECLEVEL=1", 1),
        ("securityLevel = 5", Service.ciphers, 5),
    ],
)  # fmt: skip
def test_ciphers_and_level(lines: str, ciphers: str, level: int) -> None:
    made = service(lines)
    assert (made.ciphers, made.security_level) == (ciphers, level)
    assert any("security level" in warning for warning in made.warnings) == (level < 2)


@pytest.mark.parametrize("lines", ["ciphers = FOO", "ciphers =", "config = CipherString:FOO", "ciphers = \udcff"])
def test_ciphers_that_match_nothing(lines: str) -> None:
    assert problems(lines) == ["no cipher match"]


def test_curves_and_suites() -> None:
    assert service("").curve == service("curves = P-256:P-384").curve == ""
    assert service("curve = P-256").curve == "prime256v1"
    assert service("curves = P-384\ncurve = X25519").curve == "X25519"
    assert service("ciphersuites = TLS_AES_128_GCM_SHA256").ciphersuites == "TLS_AES_128_GCM_SHA256"
    assert any("curves" in note for note in service("curves = P-256:P-384").notes)
