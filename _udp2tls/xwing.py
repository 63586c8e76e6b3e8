"""es_version 3: boxes that a quantum computer does not open later.

Owns the key encapsulation X-Wing (ML-KEM-768 and X25519 together, of which one must hold),
the keys made of its secret, and the tickets by which later queries do without its cipher
text. Everything else about a box is ``box``'s.

A ticket is secret from everybody but the resolver, and known by it: two queries with one
ticket come from one client.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Callable

from _udp2tls.box import BLOCK, Box, Cipher, KeyPair, Random, Refused, WeakKey, XChaCha20Poly1305, response_nonce, unpad

_MLKEM_KEY = 1184  # an X-Wing key begins with an ML-KEM-768 key, an X25519 key ends it
_LABEL = b"\\.//^\\"  # draft-connolly-cfrg-xwing-kem section 5.3
_RESUME, _CONTROL = b"PQResume", b"PQDR\1"
_RESUMED_LEAST = 256
# A ticket goes into every query until it expires: no datagram may get too large by it.
_MAX_TICKET = 2048


def check_key(key: bytes) -> None:
    """Raise WeakKey unless ``key`` is an X-Wing public key whose secrets are secret."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    try:
        MLKEM768PublicKey.from_public_bytes(key[:_MLKEM_KEY])
    except ValueError:
        raise WeakKey("the resolver's key is none of ML-KEM") from None
    KeyPair(bytes(32)).exchange(key[_MLKEM_KEY:])


def encapsulate(key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Return an X-Wing secret for a public key, and its cipher text (draft-connolly-cfrg-xwing-kem section 5.4).

    ``secret``: 32 random bytes, for the X25519 half; ML-KEM's takes its own. Raises WeakKey.
    """
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    pair = KeyPair(secret)
    classic = pair.exchange(key[_MLKEM_KEY:])
    lattice, text = MLKEM768PublicKey.from_public_bytes(key[:_MLKEM_KEY]).encapsulate()
    both = lattice + classic + pair.public + key[_MLKEM_KEY:]
    return hashlib.sha3_256(both + _LABEL).digest(), text + pair.public


def _derive(salt: bytes, secret: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 of 32 bytes (RFC 5869): extract, and expand once."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), info + b"\1", "sha256")


class PostQuantum:
    """es_version 3: queries carry a cipher text of 1120 bytes until an answer brought a ticket.

    Tickets are taken for queries from then on, each with a key of its own. Resolvers answer
    over UDP with no more bytes than they were asked with. With ``ephemeral`` there is a new
    cipher text in every query and no ticket is taken, for by both a client is known again.
    """

    def __init__(self, key: bytes, magic: bytes, context: bytes, random: Random, *, ephemeral: bool = False) -> None:
        self._key, self._magic, self._context, self._random = key, magic, context, random
        self._ephemeral = ephemeral
        self._under_way = (b"", b"")  # a shared key, and what stands before the nonce with it
        self._ticket = self._secret = b""
        self._expires = 0.0
        check_key(key)

    def box(self, nonce: bytes, now: float) -> Box:
        if self._ticket and now < self._expires:
            info = b"DNSCrypt-PQ-resumed-query-v1" + hashlib.sha256(self._ticket).digest()
            key = _derive(self._magic + nonce, self._secret, info)
            head = b"".join((_RESUME, len(self._ticket).to_bytes(2, "big"), self._ticket))
            return _ControlledBox(XChaCha20Poly1305(key), head, _RESUMED_LEAST)
        if self._ephemeral or not self._under_way[0]:
            secret, text = encapsulate(self._key, self._random(32))
            shared = _derive(b"\0\3" + self._magic, secret, self._context + text)
            self._under_way = shared, self._magic + text
        under_way = self._under_way
        learn = None if self._ephemeral else functools.partial(self._learn, under_way, now)
        return _ControlledBox(XChaCha20Poly1305(under_way[0]), under_way[1], BLOCK, learn)

    def forget(self) -> None:
        self._ticket, self._under_way = b"", (b"", b"")

    def _learn(self, asked_with: tuple[bytes, bytes], asked: float, control: bytes, nonce: bytes) -> None:
        """Take a ticket, if there is one; its time is counted from before it was issued."""
        if asked_with is not self._under_way:  # it came late: there is one, or all was forgotten
            return
        size = int.from_bytes(control[9:11], "big")
        ticket = control[11 : 11 + size]
        if control.startswith(_CONTROL) and 0 < len(ticket) == size <= _MAX_TICKET:
            self._secret = _derive(self._magic + nonce, self._under_way[0], b"DNSCrypt-PQ-resume-secret-v1")
            self._ticket, self._expires = ticket, asked + int.from_bytes(control[5:9], "big")
            self._under_way = (b"", b"")


class _ControlledBox(Box):
    """A box of es_version 3: before the message of an answer stands what is for the client itself."""

    def __init__(
        self, cipher: Cipher, head: bytes, least: int, learn: Callable[[bytes, bytes], None] | None = None
    ) -> None:
        super().__init__(cipher, head)
        self.least = least
        self._learn = learn

    def open(self, packet: bytes) -> bytes:
        nonce = response_nonce(packet)
        if not nonce:
            raise Refused("not an answer's first bytes, or too few of them")
        plain = self._open(packet[8:32], packet[32:])
        end = 2 + int.from_bytes(plain[:2], "big")
        message = unpad(plain[end:])
        if self._learn and end > 2:
            self._learn(plain[2:end], nonce)
        return message
