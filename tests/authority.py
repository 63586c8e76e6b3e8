"""A throwaway certificate authority, and certificates good and bad, as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "dot.test.example"
ADDRESSES = ("127.0.0.1", "::1")

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """Paths of PEM files. ``other_cert`` is good, but for the trust: ``other_ca_file`` signed it."""

    ca_file: str
    server_cert: str
    server_key: str
    expired_cert: str
    expired_key: str
    wrong_name_cert: str
    wrong_name_key: str
    self_signed_cert: str
    self_signed_key: str
    other_ca_file: str
    other_cert: str
    other_key: str
    client_cert: str
    client_key: str


@dataclass(frozen=True)
class _Issuer:
    certificate: x509.Certificate
    key: Key


def make(folder: Path) -> Authority:
    """Write everything into ``folder``, which must exist."""
    ca, other = _issuer("udp2tls test CA"), _issuer("udp2tls other CA")
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    expired = (datetime.timedelta(days=-30), datetime.timedelta(days=-1))
    files = {"ca_file": _pem(folder / "ca.pem", ca.certificate)}
    files["other_ca_file"] = _pem(folder / "other_ca.pem", other.certificate)
    for kind, key, certificate in (
        ("server", *_leaf(ca, NAME, server)),
        ("expired", *_leaf(ca, NAME, server, valid=expired)),
        ("wrong_name", *_leaf(ca, "elsewhere.example", server, addresses=("192.0.2.99",))),
        ("self_signed", *_leaf(None, NAME, server)),
        ("other", *_leaf(other, NAME, server)),
        ("client", *_leaf(ca, "client.example", client, addresses=())),
    ):
        files[f"{kind}_cert"] = _pem(folder / f"{kind}.pem", certificate)
        files[f"{kind}_key"] = _secret(folder / f"{kind}.key", key)
    return Authority(**files)


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder(issuer_name=issuer, subject_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _issuer(text: str) -> _Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        _builder(_name(text), _name(text), key)
        .not_valid_before(now - datetime.timedelta(days=60))
        .not_valid_after(now + datetime.timedelta(days=60))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Issuer(certificate, key)


def _leaf(
    issuer: _Issuer | None, name: str, purpose: x509.ObjectIdentifier, *, addresses: tuple[str, ...] = ADDRESSES,
    valid: tuple[datetime.timedelta, datetime.timedelta] = (datetime.timedelta(days=-1), datetime.timedelta(days=30)),
) -> tuple[Key, x509.Certificate]:  # fmt: skip
    """Make a key and its certificate; it signs itself without an ``issuer``."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)]
    certificate = (
        _builder(_name(name), issuer.certificate.subject if issuer else _name(name), key)
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return key, certificate


def _pem(path: Path, certificate: x509.Certificate) -> str:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(path)


def _secret(path: Path, key: Key) -> str:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(0o600)
    return str(path)
