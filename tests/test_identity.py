"""Certificates in words, and what hostile ones may not do."""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from _udp2tls import identity
from _udp2tls.codec import CertificateError
from _udp2tls.config import Endpoint, parse_pin, parse_upstream
from _udp2tls.identity import Certificate
from _udp2tls.tls import spki_digest
from tests import authority

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
AT = Endpoint("192.0.2.53", 853)
SPEC = parse_upstream("tls://192.0.2.53#dot.example")


def der(path: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(Path(path).read_text())


def test_a_chain_is_read_leaf_first_with_pins_to_paste(certs: authority.Authority) -> None:
    leaf, ca = identity.read([der(certs.server_cert), der(certs.ca_file)], {})
    assert (leaf.subject, leaf.issuer, ca.subject) == ("CN=dot.test.example", "CN=udp2tls test CA", leaf.issuer)
    assert leaf.names == ("dot.test.example", "127.0.0.1", "::1")
    assert parse_pin(leaf.pin) == spki_digest(der(certs.server_cert))
    assert leaf.pin != ca.pin
    assert identity.role(0, [leaf, ca]) == "leaf: the server's own"
    assert identity.role(1, [leaf, ca]) == "signs certificate 1, a root authority"
    assert "certificate 2's as a spare" in identity.pin_advice([leaf, ca])


def test_a_certificate_alone_has_no_spare(certs: authority.Authority) -> None:
    (own,) = identity.read([der(certs.self_signed_cert)], {})
    assert identity.role(0, [own]).endswith("signed by itself")
    assert "ask the operator" in identity.pin_advice([own])
    assert identity.pin_advice([]) == ""


def test_without_cryptography_the_leaf_is_shown_without_a_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    leaf = {
        "subject": ((("commonName", "dot.example"),),),
        "issuer": ((("organizationName", "An Authority"),), (("commonName", "CA"),)),
        "notBefore": "Nov 28 12:00:00 2026 GMT", "notAfter": "Dec 28 12:00:00 2026 GMT",
        "subjectAltName": (("DNS", "dot.example"), ("IP Address", "192.0.2.1"), ("URI", "x:y")),
    }  # fmt: skip
    (one,) = identity.read([b"unread"], leaf)
    assert (one.subject, one.issuer) == ("commonName=dot.example", "organizationName=An Authority, commonName=CA")
    assert one.names == ("dot.example", "192.0.2.1")
    assert one.pin == ""
    assert one.validity(NOW) == "2026-11-28 12:00 to 2026-12-28 12:00 UTC, 29 days left"
    assert identity.read([b"unread"], {}) == []


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(-1, 30, "30 days left"), (-1, 1, "24 hours left"), (-30, -3, "EXPIRED 3 days ago"), (1, 30, "NOT YET VALID")],
)
def test_validity_is_said_against_the_clock(begins: int, ends: int, said: str) -> None:
    one = Certificate("s", "i", NOW + timedelta(days=begins), NOW + timedelta(days=ends))
    assert said in one.validity(NOW)
    assert Certificate("s", "i").validity(NOW) == "unknown"


def hostile(subject: str, *names: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_what_a_stranger_wrote_cannot_move_the_cursor_or_fill_the_screen() -> None:
    (one,) = identity.read([hostile("\x1b[2J\u202eevil\n", "\x1b]0;title\x07", "x" * 500)], {})
    assert all(text.isprintable() for text in (one.subject, one.issuer, *one.names))
    assert "evil" in one.subject
    assert max(map(len, one.names)) <= identity.LONGEST_TEXT + 3
    assert len(identity.read([hostile("x")] * 100, {})) == identity.MOST_CERTIFICATES
    assert identity.names_in_words(["a"] * 100).endswith("and 88 more")
    assert identity.names_in_words(()).startswith("none")


def test_a_certificate_that_cannot_be_read_is_said() -> None:
    (one,) = identity.read([b"\x30\x03nonsense"], {})
    assert one.subject.startswith("cannot be read")
    assert one.pin == ""


def refused(code: int) -> CertificateError:
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_code = code
    error = CertificateError("certificate refused")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (9, "clock says 2026-11-29 12:00 UTC"), (10, "clock says 2026-11-29 12:00 UTC"), (18, "--ca-file"),
        (20, "--ca-file"), (62, "--upstream tls://192.0.2.53#NAME"), (64, "--upstream"), (68, "operator must mend"),
    ],
)  # fmt: skip
def test_every_refusal_has_its_remedy(code: int, said: str) -> None:
    assert said in identity.remedy(refused(code), SPEC, AT, [], NOW)


def test_a_hash_that_does_not_match_is_not_talked_away() -> None:
    said = identity.remedy(CertificateError("certificate refused: no hash of the stamp matches; x"), SPEC, AT, [], NOW)
    assert "not the server the stamp is for" in said


def test_a_pin_that_does_not_match_is_not_talked_away() -> None:
    said = identity.remedy(CertificateError("no pin matches"), SPEC, AT, [], NOW)
    assert "not the server you pinned" in said
    assert "only if they agree" in said


def test_the_name_suggested_is_one_the_certificate_carries_and_safe_to_paste() -> None:
    names = ("*.evil.example", "x;reboot", "$(reboot)", "fe80::1%;reboot", "dns.example")
    said = identity.remedy(refused(62), SPEC, AT, [Certificate("s", "i", names=names)], NOW)
    assert said.endswith("--upstream tls://192.0.2.53#dns.example")
    assert "reboot" not in said
