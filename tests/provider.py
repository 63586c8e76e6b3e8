"""A DNSCrypt provider in memory: signs certificates, opens queries, seals answers.

``Provider`` holds the Ed25519 key whose public half a stamp has; a ``Resolver`` is one
short-term key of it. Of ``_udp2tls.box`` only the ciphers are used, which ``test_box``
holds against libsodium (``Sodium``).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import hmac
import os
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from _udp2tls import box

NAME = "2.dnscrypt-cert.test.example"
NOW = 1_790_000_000
DAY = 86400
PROFILE = bytes.fromhex("505144010003010104c00460")
TICKET = bytes(range(130))


@dataclass(frozen=True)
class Provider:
    """The provider's signing key; from 32 bytes, so that tests repeat."""

    seed: bytes = b"p" * 32

    @property
    def public(self) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def sign(
        self, key: bytes, magic: bytes = b"magic-01", *, es_version: int = 2, minor: int = 0, serial: int = 1,
        begins: int = NOW - 3600, ends: int = NOW + DAY, extensions: bytes | None = None,
    ) -> bytes:  # fmt: skip
        """Return a certificate: the bytes of one TXT record."""
        if extensions is None:
            extensions = PROFILE if es_version == 3 else b""
        times = b"".join(number.to_bytes(4, "big") for number in (serial, begins, ends))
        signed = key + magic + times + extensions
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(signed)
        return b"".join((b"DNSC", es_version.to_bytes(2, "big"), minor.to_bytes(2, "big"), signature, signed))


def strings(data: bytes, size: int = 255) -> bytes:
    """Return a TXT record's data: character-strings of at most ``size`` bytes."""
    parts = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(bytes((len(part),)) + part for part in parts)


def record(rdata: bytes, rtype: int = 16, owner: bytes = b"\xc0\x0c") -> bytes:
    return b"".join((owner, rtype.to_bytes(2, "big"), b"\0\1\0\0\x0e\x10", len(rdata).to_bytes(2, "big"), rdata))


def reply(asked: bytes, *certificates: bytes, flags: bytes = b"\x81\0", others: tuple[bytes, ...] = ()) -> bytes:
    """Return the answer to a certificate query; ``others`` are whole records before the certificates."""
    end = asked.index(b"\0\x10\0\1", 12) + 4
    sections = (*others, *(record(strings(one)) for one in certificates))
    counts = b"\0\1" + len(sections).to_bytes(2, "big") + b"\0\0\0\0"
    return b"".join((asked[:2], flags, counts, asked[12:end], *sections))


@dataclass
class Resolver:
    """A short-term key of a server of one es_version. ``served`` counts how queries were sealed."""

    es_version: int = 2
    seed: bytes = b"r" * 32
    magic: bytes = b"magic-01"
    ticket: bytes = TICKET
    lifetime: int = 600
    served: list[str] = field(default_factory=list)
    secret: bytes = b""

    def __post_init__(self) -> None:
        spread = hashlib.shake_256(self.seed).digest(96)  # draft-connolly-cfrg-xwing-kem section 5.2
        self.curve = X25519PrivateKey.from_private_bytes(spread[64:] if self.es_version == 3 else self.seed)
        self.key = self.curve.public_key().public_bytes_raw()
        if self.es_version == 3:
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

            self.lattice = MLKEM768PrivateKey.from_seed_bytes(spread[:64])
            self.key = self.lattice.public_key().public_bytes_raw() + self.key

    def certificate(self, provider: Provider, **options: Any) -> bytes:
        """Return a certificate for this key; ``options`` are ``Provider.sign``'s."""
        self.signed = provider.sign(self.key, self.magic, es_version=self.es_version, **options)
        return self.signed

    def open(self, packet: bytes) -> tuple[bytes, Sealed]:
        """Return the padded plain text of a query, and what its answer is sealed with."""
        if packet[:8] == b"PQResume":
            end = 10 + int.from_bytes(packet[8:10], "big")
            assert packet[10:end] == self.ticket
            nonce = packet[end : end + 12]
            key = derive(
                self.magic + nonce, self.secret,
                b"DNSCrypt-PQ-resumed-query-v1" + hashlib.sha256(self.ticket).digest(),
            )  # fmt: skip
            return self._opened("resumed", key, nonce, packet[end + 12 :], b"")
        assert packet[:8] == self.magic
        if self.es_version == 3:
            text, nonce = packet[8:1128], packet[1128:1140]
            bound = b"DNSCrypt-PQ-v1" + self.signed[4:8] + self.signed[72:]
            key = derive(b"\0\3" + self.magic, self.decapsulate(text), bound + text)
            self.secret = derive(self.magic + nonce, key, b"DNSCrypt-PQ-resume-secret-v1")
            control = b"".join((
                b"PQDR\1", self.lifetime.to_bytes(4, "big"), len(self.ticket).to_bytes(2, "big"), self.ticket,
            ))  # fmt: skip
            return self._opened("text", key, nonce, packet[1140:], control)
        shared = box.KeyPair(self.seed).cipher(self.es_version, packet[8:40])
        self.served.append("shared")
        return shared.open(packet[40:52] + bytes(12), packet[52:]), Sealed(shared, packet[40:52], None)

    def _opened(self, how: str, key: bytes, nonce: bytes, sealed: bytes, control: bytes) -> tuple[bytes, Sealed]:
        cipher = box.XChaCha20Poly1305(key)
        self.served.append(how)
        return cipher.open(nonce + bytes(12), sealed), Sealed(cipher, nonce, control)

    def decapsulate(self, text: bytes) -> bytes:
        public = self.curve.public_key().public_bytes_raw()
        classic = self.curve.exchange(X25519PublicKey.from_public_bytes(text[1088:]))
        lattice = self.lattice.decapsulate(text[:1088])
        return hashlib.sha3_256(lattice + classic + text[1088:] + public + rb"\.//^" + b"\\").digest()


@dataclass(frozen=True)
class Sealed:
    """How the answer to one query is sealed. ``control``: None but in es_version 3."""

    cipher: box.Cipher
    nonce: bytes
    control: bytes | None

    def answer(self, message: bytes, half: bytes = b"h" * 12, padding: bytes = b"\x80") -> bytes:
        head = b"" if self.control is None else len(self.control).to_bytes(2, "big") + self.control
        nonce = self.nonce + half
        return b"r6fnvWj8" + nonce + self.cipher.seal(nonce, head + message + padding)


def derive(salt: bytes, secret: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")


class Sodium:
    """libsodium through ctypes: what the product's ciphers are held against."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        assert library.sodium_init() >= 0

    def call(self, name: str, size: int, *arguments: bytes | int) -> bytes | None:
        """Call a function that fills ``size`` bytes; None when it says no."""
        out = ctypes.create_string_buffer(max(1, size))
        given = [ctypes.c_ulonglong(one) if isinstance(one, int) else one for one in arguments]
        return out.raw[:size] if getattr(self._library, name)(out, *given) == 0 else None

    def seal(self, kind: str, key: bytes, nonce: bytes, plain: bytes) -> bytes:
        sealed = self.call(f"crypto_secretbox_{kind}easy", len(plain) + 16, plain, len(plain), nonce, key)
        assert sealed is not None
        return sealed

    def open(self, kind: str, key: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
        return self.call(f"crypto_secretbox_{kind}open_easy", len(sealed) - 16, sealed, len(sealed), nonce, key)


def sodium() -> Sodium:
    """Return libsodium. Without it the test is skipped, but fails where CI is set."""
    for name in (ctypes.util.find_library("sodium"), "libsodium.so.23", "libsodium.so.26"):
        try:
            if name:
                return Sodium(ctypes.CDLL(name))
        except OSError:
            pass
    return _missing()


def _missing() -> Sodium:
    said = "libsodium is not installed"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


def bytes_of(seed: int) -> box.Random:
    """Return what gives random bytes, the same in every run."""
    return random.Random(seed).randbytes
