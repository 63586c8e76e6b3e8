"""DNSCrypt's boxes: a query becomes a sealed packet, a sealed packet an answer.

Owns the encryption systems (DNSCRYPT-V2-PROTOCOL, by es_version; the third's own part is
``xwing``), the padding, and what a key is good for. Two storeys: a *cipher* seals bytes under a key of 32 bytes, as
libsodium's secretbox does; a *box* makes whole DNSCrypt packets of messages and back.
What makes the boxes of one certificate is a ``Boxes``: one box for all queries, one for
each, or (es_version 3) whatever the last ticket allows.

Nothing here reads a clock or picks a nonce. A nonce must never come twice with one box for
different plain text: that gives the key stream away. Nothing that fails its tag gets out.
The packages are imported where they are used, for plain DNS over TLS needs none.
Sizes are in bytes.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

XSALSA20, XCHACHA20, XWING = 1, 2, 3
NAMES = {1: "X25519-XSalsa20Poly1305", 2: "X25519-XChaCha20Poly1305", 3: "XWing-XChaCha20Poly1305"}

RESOLVER_MAGIC = b"r6fnvWj8"
NONCE = 12  # the client's half; the other half is zeros in a query, the server's in an answer
TAG = 16
RESPONSE_OVERHEAD = len(RESOLVER_MAGIC) + 2 * NONCE + TAG

# What a padded query is a multiple of, what it is at least over UDP, and how long its padding
# may be over TCP (DNSCRYPT-V2-PROTOCOL sections 5 and 6).
BLOCK, MIN_QUERY, MAX_PADDING = 64, 256, 256

XWING_KEY, XWING_TEXT = 1216, 1120  # draft-connolly-cfrg-xwing-kem section 5.1

_MIN_MESSAGE = 12  # a DNS header
_MIN_RESPONSE = RESPONSE_OVERHEAD + _MIN_MESSAGE + 1
_ZEROS12, _ZEROS32, _ZEROS64 = bytes(12), bytes(32), bytes(64)

Random = Callable[[int], bytes]


class Refused(Exception):
    """A packet that nobody with the key has sealed, or that holds no message; it proves nothing."""


class Unavailable(Exception):
    """An encryption system this installation lacks; ``str()`` says what to install."""


class WeakKey(Exception):
    """A resolver key that gives everybody the same shared key (RFC 7748 section 6.1), or is none."""


@functools.cache
def why_not(es_version: int) -> str:
    """Say why an encryption system cannot be used here; empty: it can."""
    name = NAMES.get(es_version)
    if name is None:
        return f"es_version {es_version} is no encryption system that this program knows"
    try:
        import cryptography  # noqa: F401  (only whether it is there)
    except ImportError:
        return "DNSCrypt needs the package cryptography: pip install cryptography"
    if es_version == XSALSA20:
        try:
            import nacl.bindings  # noqa: F401
        except ImportError:
            return f"es_version 1 ({name}) needs the package PyNaCl: pip install 'udp2tls[xsalsa20]'"
    if es_version == XWING:
        try:
            from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

            MLKEM768PrivateKey.from_seed_bytes(bytes(64))
        except Exception:  # too old, or built on a library without it: UnsupportedAlgorithm
            return f"es_version 3 ({name}) needs the package cryptography, 47 or newer, with ML-KEM"
    return ""


def udp_size(length: int, least: int, most: int) -> int:
    """Return the padded size of a message of ``length`` bytes over UDP, or 0: too large, ask over TCP.

    ``least`` is the minimum query length now in force, ``most`` what the datagram holds
    besides the box's overhead; neither need be a multiple of 64.
    """
    size = max(length + BLOCK, least + BLOCK - 1) & -BLOCK
    most &= -BLOCK
    return size if size <= most else most if length < most else 0


def tcp_size(length: int, random: int) -> int:
    """Return the padded size of a message of ``length`` bytes over TCP: padding of 1 to 256 bytes.

    ``random`` is any random number; four sizes are possible.
    """
    return (length + BLOCK & -BLOCK) + BLOCK * (random % (MAX_PADDING // BLOCK))


def response_nonce(packet: bytes) -> bytes:
    """Return the nonce of the query that ``packet`` claims to answer, or nothing: it is no answer."""
    if len(packet) >= _MIN_RESPONSE and packet.startswith(RESOLVER_MAGIC):
        return packet[8:20]
    return b""


class Cipher(Protocol):
    """libsodium's secretbox with one key: tag and cipher text, nonces of 24 bytes."""

    def seal(self, nonce: bytes, plain: bytes) -> bytes:
        """Return the tag and the cipher text."""

    def open(self, nonce: bytes, sealed: bytes) -> bytes:
        """Return the plain text; raises Refused."""


# HChaCha20 is a block of ChaCha20 without its last addition (draft-irtf-cfrg-xchacha section
# 2.2), so the block less what was added, in eight lanes of 32 bits. Lanes must not borrow
# from each other: subtract with the top bits out of the way, then put those right.
_SIGMA = b"expand 32-byte k"
_TOPS = int.from_bytes(b"\0\0\0\x80" * 8, "little")
_RESTS = int.from_bytes(b"\xff\xff\xff\x7f" * 8, "little")


class XChaCha20Poly1305:
    """crypto_secretbox_xchacha20poly1305, which is not the AEAD of that name.

    One ChaCha20 context is kept: with another nonce it is a seventh of the price of a new one.
    """

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
        from cryptography.hazmat.primitives.poly1305 import Poly1305

        self._chacha, self._cipher, self._tag = ChaCha20, Cipher, Poly1305.generate_tag
        kept = Cipher(ChaCha20(key, bytes(16)), None).encryptor()
        self._reset, self._update = kept.reset_nonce, kept.update

    def subkey(self, nonce: bytes) -> bytes:
        """Return HChaCha20 of the key and 16 bytes of nonce."""
        self._reset(nonce)
        block = self._update(_ZEROS64)
        x = int.from_bytes(block[:16] + block[48:], "little")
        y = int.from_bytes(_SIGMA + nonce, "little")
        return ((x | _TOPS) - (y & _RESTS) ^ (x ^ y ^ _TOPS) & _TOPS).to_bytes(32, "little")

    def seal(self, nonce: bytes, plain: bytes) -> bytes:
        # Block counter and nonce, eight bytes each: ChaCha20 as it was before RFC 8439.
        stream = self._chacha(self.subkey(nonce[:16]), b"\0\0\0\0\0\0\0\0" + nonce[16:])
        out = self._cipher(stream, None).encryptor().update(_ZEROS32 + plain)
        text = out[32:]  # the first half block is the tag's key
        return self._tag(out[:32], text) + text

    def open(self, nonce: bytes, sealed: bytes) -> bytes:
        text = sealed[16:]
        stream = self._chacha(self.subkey(nonce[:16]), b"\0\0\0\0\0\0\0\0" + nonce[16:])
        out = self._cipher(stream, None).encryptor().update(_ZEROS32 + text)
        if not hmac.compare_digest(self._tag(out[:32], text), sealed[:16]):
            raise Refused("the tag is wrong")
        return out[32:]


class XSalsa20Poly1305:
    """crypto_secretbox_xsalsa20poly1305, from PyNaCl."""

    def __init__(self, key: bytes) -> None:
        from nacl.bindings import crypto_secretbox, crypto_secretbox_open
        from nacl.exceptions import CryptoError

        self._key, self._seal, self._open, self._error = key, crypto_secretbox, crypto_secretbox_open, CryptoError

    def seal(self, nonce: bytes, plain: bytes) -> bytes:
        return self._seal(plain, nonce, self._key)

    def open(self, nonce: bytes, sealed: bytes) -> bytes:
        try:
            return self._open(sealed, nonce, self._key)
        except self._error:
            raise Refused("the tag is wrong") from None


class Box:
    """One key at work. ``head`` is what stands before the nonce of every query.

    ``overhead``: what a query grows by, besides its padding. ``least``: what a padded query
    is at least, over TCP too.
    """

    least = BLOCK

    def __init__(self, cipher: Cipher, head: bytes) -> None:
        self.overhead = len(head) + NONCE + TAG
        self._head = head
        self._seal, self._open = cipher.seal, cipher.open

    def seal(self, message: bytes, nonce: bytes, size: int) -> bytes:
        """Return the packet of a query, padded to ``size`` (``udp_size``, ``tcp_size``). ``nonce`` is 12 bytes."""
        if size <= len(message):
            raise ValueError("no room for the padding")
        padded = (message + b"\x80").ljust(size, b"\0")  # ISO/IEC 7816-4
        return b"".join((self._head, nonce, self._seal(nonce + _ZEROS12, padded)))

    def open(self, packet: bytes) -> bytes:
        """Return the message of an answer. Raises Refused."""
        if not response_nonce(packet):
            raise Refused("not an answer's first bytes, or too few of them")
        return unpad(self._open(packet[8:32], packet[32:]))


def unpad(padded: bytes) -> bytes:
    """Return a DNS message without its padding (ISO/IEC 7816-4). Raises Refused."""
    end = padded.rfind(b"\x80")
    if end < _MIN_MESSAGE or not padded.endswith(bytes(len(padded) - end - 1)):
        raise Refused("the padding is wrong, or there is no message before it")
    return padded[:end]


class KeyPair:
    """An X25519 key pair of ours; ``public`` is what goes on the wire."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: 32 random bytes."""
        from cryptography.hazmat.primitives.asymmetric import x25519

        self._secret: X25519PrivateKey = x25519.X25519PrivateKey.from_private_bytes(secret)
        self._read = x25519.X25519PublicKey.from_public_bytes
        self.public = self._secret.public_key().public_bytes_raw()

    def exchange(self, key: bytes) -> bytes:
        """Return the X25519 secret with another's public key. Raises WeakKey."""
        try:
            return self._secret.exchange(self._read(key))
        except ValueError:
            raise WeakKey("the resolver's key is a weak one") from None

    def cipher(self, es_version: int, key: bytes) -> Cipher:
        """Return the cipher shared with a resolver of es_version 1 or 2. Raises WeakKey, Unavailable."""
        secret = self.exchange(key)
        if es_version == XCHACHA20:
            return XChaCha20Poly1305(XChaCha20Poly1305(secret).subkey(bytes(16)))
        if said := why_not(XSALSA20):
            raise Unavailable(said)
        from nacl.bindings import crypto_box_beforenm

        return XSalsa20Poly1305(crypto_box_beforenm(key, self._secret.private_bytes_raw()))


def check_key(es_version: int, key: bytes) -> None:
    """Raise WeakKey unless boxes can be made with a resolver's public key."""
    if es_version == XWING:
        from _udp2tls import xwing  # which stands on this file

        xwing.check_key(key)
    else:
        KeyPair(_ZEROS32).exchange(key)


class Boxes(Protocol):
    """What makes the boxes for one certificate."""

    def box(self, nonce: bytes, now: float) -> Box:
        """Return the box for a query under ``nonce``; its answer is opened with the same one."""

    def forget(self) -> None:
        """Drop what the server gave us or may have lost: tickets and secrets under way."""


def boxes(
    es_version: int, key: bytes, magic: bytes, random: Random, *, pair: KeyPair | None, context: bytes = b""
) -> Boxes:
    """Return what makes the boxes for a resolver's key. Raises WeakKey, Unavailable.

    ``magic`` and ``context`` are the certificate's; ``pair`` is our key pair, and None: a
    new one for every query, which costs some 50 us, 110 us in es_version 3.
    ``random(n)`` returns n random bytes.
    """
    if said := why_not(es_version):
        raise Unavailable(said)
    if es_version == XWING:
        from _udp2tls.xwing import PostQuantum

        return PostQuantum(key, magic, context, random, ephemeral=pair is None)
    return Classic(es_version, key, magic, random, pair)


class Classic:
    """es_version 1 and 2: the one box of our key pair or, without one, a box and a key pair for each query.

    The latter, so that the resolver cannot tell that two queries came from one client.
    """

    def __init__(self, es_version: int, key: bytes, magic: bytes, random: Random, pair: KeyPair | None) -> None:
        self._es_version, self._key, self._magic, self._random = es_version, key, magic, random
        made = self._make(pair or KeyPair(random(32)))  # in any case: what can be raised is raised here
        self._shared = made if pair else None

    def _make(self, pair: KeyPair) -> Box:
        return Box(pair.cipher(self._es_version, self._key), self._magic + pair.public)

    def box(self, nonce: bytes, now: float) -> Box:
        return self._shared or self._make(KeyPair(self._random(32)))

    def forget(self) -> None:
        pass
