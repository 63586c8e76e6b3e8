"""verifyPeer: the server's own certificate must be in CAfile or CApath.

In there means: a certificate with the same subject and the same public key. So one that was
renewed with the old key passes, whoever signed it; stunnel ignores that its issuer is unknown,
and no flag of OpenSSL that Python has does the same. So the handshake verifies nothing then,
and here is done what OpenSSL would still have refused in the certificate itself: its dates, its
purpose, a weak key or signature, an extension it does not know. Where in doubt, refused.

Subjects are compared in OpenSSL's canonical form, of which the file names in CApath are hashes.
All this needs the package cryptography; without it see ``verify``.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from _udp2tls.tls import spki_digest

if TYPE_CHECKING:
    from cryptography import x509

# "TRUSTED CERTIFICATE" is not among them: stunnel does not count it, and it may say "not trusted".
_BLOCK = re.compile(rb"-----BEGIN (X509 |)CERTIFICATE-----\s.*?-----END \1CERTIFICATE-----", re.DOTALL)

# Security bits that levels 0 to 5 ask for, and that keys of so many bits have (SP 800-57).
_LEVELS = (0, 80, 112, 128, 192, 256)
_FACTORING = ((15360, 256), (7680, 192), (3072, 128), (2048, 112), (1024, 80))
_CURVES = ((512, 256), (384, 192), (256, 128), (224, 112), (160, 80))
_BROKEN_HASHES = {"md5": 39, "sha1": 63}  # less than half of their size

# What a server may be: serverAuth or one of its two forerunners; "any purpose" is none of them.
_SERVER = {"1.3.6.1.5.5.7.3.1", "1.3.6.1.4.1.311.10.3.3", "2.16.840.1.113730.4.1"}
_NETSCAPE_TYPE = "2.16.840.1.113730.1.1"
# Extensions that OpenSSL understands, so that they may be critical.
_UNDERSTOOD = {f"2.5.29.{number}" for number in (15, 17, 19, 30, 31, 32, 33, 36, 37, 54)} | {_NETSCAPE_TYPE}


def certificates(data: bytes) -> list[bytes]:
    """Return the certificates in a PEM file, as DER; raise ValueError for a damaged one."""
    return [
        ssl.PEM_cert_to_DER_cert(block.group().replace(b"X509 CERT", b"CERT").decode("ascii"))
        for block in _BLOCK.finditer(data)
    ]


def is_der(data: bytes) -> bool:
    """Say whether a file is one SEQUENCE and nothing else, as Windows exports a certificate."""
    return data[:2] == b"\x30\x82" and len(data) == 4 + int.from_bytes(data[2:4], "big")


class Store:
    """The certificates in CAfile, and those in CApath, which are looked up each time as OpenSSL does."""

    def __init__(self, file: Sequence[bytes], folder: str) -> None:
        from cryptography import x509

        self._folder = folder
        self._file: dict[bytes, list[bytes]] = {}
        for der in file:
            try:
                subject = canonical(x509.load_der_x509_certificate(der).subject)
            except ValueError:
                continue  # too odd for cryptography, if not for OpenSSL: then it is nobody's pin
            self._file.setdefault(subject, []).append(der)

    def find(self, subject: x509.Name) -> Iterator[bytes]:
        """Give every certificate with that subject."""
        from cryptography import x509

        wanted = canonical(subject)
        yield from self._file.get(wanted, ())
        if self._folder:
            for der in self._hashed(wanted):
                if canonical(x509.load_der_x509_certificate(der).subject) == wanted:
                    yield der

    def has(self, leaf: bytes) -> bool:
        """Say whether a certificate with that subject and key is in here."""
        from cryptography import x509

        key = spki_digest(leaf)
        return any(spki_digest(der) == key for der in self.find(x509.load_der_x509_certificate(leaf).subject))

    def _hashed(self, subject: bytes) -> Iterator[bytes]:
        name = f"{int.from_bytes(hashlib.sha1(subject, usedforsecurity=False).digest()[:4], 'little'):08x}"
        for number in itertools.count():
            try:
                data = (Path(self._folder) / f"{name}.{number}").read_bytes()
            except OSError:
                return
            yield from certificates(data)


def fault(leaf: x509.Certificate, now: datetime, level: int, *, issuer_known: bool) -> str:
    """Return what OpenSSL would refuse in the certificate itself at that security level; "" if nothing.

    A signature counts where there is an issuer to verify it by; the rest always does.
    """
    if now < leaf.not_valid_before_utc:
        return "certificate is not yet valid"
    if now > leaf.not_valid_after_utc:
        return "certificate has expired"
    if not _is_for_servers(leaf):
        return "unsuitable certificate purpose"
    if any(one.critical and one.oid.dotted_string not in _UNDERSTOOD for one in leaf.extensions):
        return "unhandled critical extension"
    bits = _LEVELS[min(level, 5)]
    if _key_bits(leaf) < bits:
        return "key too weak"
    if issuer_known and _signature_bits(leaf) < bits:
        return "signature digest algorithm too weak"
    return ""


def _is_for_servers(leaf: x509.Certificate) -> bool:
    from cryptography import x509

    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and not any(use.dotted_string in _SERVER for use in value):
            return False
        if isinstance(value, x509.KeyUsage) and not (
            value.digital_signature or value.key_encipherment or value.key_agreement
        ):
            return False
        if extension.oid.dotted_string == _NETSCAPE_TYPE:  # a BIT STRING of one byte
            raw = value.public_bytes()
            if len(raw) != 4 or not raw[3] & 0x40:
                return False
    return True


def _key_bits(leaf: x509.Certificate) -> int:
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    key = leaf.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return 128
    if isinstance(key, ed448.Ed448PublicKey):
        return 224
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        return 0
    table = _FACTORING if isinstance(key, rsa.RSAPublicKey) else _CURVES
    return next((bits for size, bits in table if key.key_size >= size), 0)


def _signature_bits(leaf: x509.Certificate) -> int:
    digest = leaf.signature_hash_algorithm
    if digest is None:  # Ed25519, the weaker of the two that have none
        return 128
    return _BROKEN_HASHES.get(digest.name, digest.digest_size * 4)


def canonical(name: x509.Name) -> bytes:
    """Return a name as OpenSSL compares it: UTF-8, ASCII letters small, white space once and inside only."""
    return b"".join(_tlv(0x31, *sorted(map(_attribute, part))) for part in name.rdns)


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> bytes:
    value = attribute.value
    if isinstance(value, str):
        encoded = _tlv(0x0C, b" ".join(value.encode().split()).lower())
    else:
        encoded = _tlv(0x03, b"\0" + value)
    return _tlv(0x30, _tlv(0x06, _oid(attribute.oid.dotted_string)), encoded)


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(number) for number in dotted.split("."))
    encoded = b""
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        encoded += bytes(reversed(groups))
    return encoded


def _tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
