"""Minisign signatures: whether a file is what the holder of a key signed.

Owns the two text forms (a public key; a signature of four lines) and the two checks that a
good signature does not make: that the file is the one meant, and no older than the last.
Each form has one spelling here, though minisign itself forgives some more: a changed byte
anywhere is refused, except in the text of an untrusted comment, which nobody signs and
nothing here reads. It must never open a file, ask the time, or return anything out of a
signature that has not been verified.

    untrusted comment: <text>
    base64(algorithm 2 | key ID 8 | Ed25519 signature 64)
    trusted comment: <text>
    base64(Ed25519 signature 64 over: signature 64 | text of the trusted comment)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

# Twice what minisign writes at most: comments of 1,024 and 8,192 bytes.
MAX_SIGNATURE = 16384

UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "

# What the signature is over. The two bytes are not signed themselves, so whoever has a
# prehashed signature has a plain one of the 64 bytes of the hash too; those are no list.
PLAIN, PREHASHED = b"Ed", b"ED"

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class MinisignError(ValueError):
    """A key or signature that cannot be read, or does not fit: one sentence that says why."""


@dataclass(frozen=True, slots=True)
class TrustedComment:
    """What the signer said about the file, signed with it.

    ``timestamp`` is in seconds since 1970, ``file`` a name without folders; None: not said.
    """

    text: str
    timestamp: int | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> TrustedComment:
        """Read ``timestamp:SECONDS`` and ``file:NAME``, among other fields and tabs; raise MinisignError."""
        found: dict[str, str] = {}
        for field in text.split("\t"):
            name, colon, value = field.partition(":")
            if colon and name in ("timestamp", "file"):
                if name in found:
                    raise MinisignError(f"the trusted comment says {name} twice")
                found[name] = value
        timestamp = found.get("timestamp", "")
        known = re.fullmatch(r"[0-9]{1,19}", timestamp) is not None
        return cls(text, int(timestamp) if known else None, found.get("file") or None)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key: the 8 bytes that name it, and the 32 bytes of the Ed25519 key."""

    id: bytes
    key: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the base64 alone, or the two lines of a ``minisign.pub``; raise MinisignError."""
        if text.startswith(UNTRUSTED):
            _, text = _lines(text, 2, "public key")
        raw = _decode(text, 42, "public key")
        if raw[:2] != PLAIN:
            raise MinisignError("the public key is of an unknown kind")
        return cls(raw[2:10], raw[10:])

    def __str__(self) -> str:
        return _id(self.id)


def verify(key: PublicKey, data: bytes, signature: bytes) -> TrustedComment:
    """Return the trusted comment of a signature that ``key`` made over ``data``.

    ``signature`` is the content of the ``.minisig`` file. Anything else raises MinisignError.
    """
    if len(signature) > MAX_SIGNATURE:
        raise MinisignError(f"the signature has {len(signature)} bytes, and {MAX_SIGNATURE} are the most")
    try:
        text = signature.decode("utf-8")
    except UnicodeDecodeError:
        raise MinisignError("the signature is no text") from None
    untrusted, first, trusted, second = _lines(text, 4, "signature")
    if not untrusted.startswith(UNTRUSTED) or not trusted.startswith(TRUSTED):
        raise MinisignError("the signature lacks the comments of one")
    signed, whole = _decode(first, 74, "signature"), _decode(second, 64, "global signature")
    algorithm, made_with, one = signed[:2], signed[2:10], signed[10:]
    if algorithm not in (PLAIN, PREHASHED):
        raise MinisignError("the signature is of an unknown kind")
    if made_with != key.id:
        raise MinisignError(f"signed with the key {_id(made_with)}, not with {key}")
    comment = trusted.removeprefix(TRUSTED)
    if not _signed(key, one, data if algorithm == PLAIN else hashlib.blake2b(data).digest()):
        raise MinisignError("the signature is not one of this file")
    if not _signed(key, whole, one + comment.encode()):
        raise MinisignError("the trusted comment is not the one that was signed")
    return TrustedComment.parse(comment)


def check_file(comment: TrustedComment, expected: Collection[str]) -> None:
    """Raise MinisignError unless the file was signed under one of the expected names.

    One key signs many lists: without this, whoever serves them can give one for another.
    """
    if comment.file is None:
        raise MinisignError("the trusted comment does not say which file was signed (file:NAME)")
    if comment.file not in expected:
        raise MinisignError(f"signed as {comment.file!r}, expected {' or '.join(map(repr, sorted(expected)))}")


def check_order(comment: TrustedComment, before: TrustedComment | None) -> None:
    """Raise MinisignError if the signature is older than the one accepted before.

    An old list has a good signature for ever: without this, whoever serves it can bring back
    a server that has been taken off. The same second again is no step back.
    """
    if before is None or before.timestamp is None:
        return
    if comment.timestamp is None:
        raise MinisignError("the trusted comment has no timestamp, and that of the file before has one")
    if comment.timestamp < before.timestamp:
        seconds = before.timestamp - comment.timestamp
        raise MinisignError(f"signed {seconds} seconds earlier than the file that is already here")


def _signed(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise MinisignError("signatures need the package cryptography: pip install cryptography") from None

    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _lines(text: str, count: int, what: str) -> list[str]:
    """Split into just so many lines, which all end in the same way; the last one's end may lack."""
    end = "\r\n" if "\r" in text else "\n"
    lines = text.removesuffix(end).split(end)
    if len(lines) != count:
        raise MinisignError(f"the {what} has not {count} lines")
    if any(map(_CONTROL.search, lines)):
        raise MinisignError(f"the {what} has control characters")
    return lines


def _decode(text: str, size: int, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MinisignError(f"the {what} is not base64") from None
    # Encoded again, since the last character carries bits that decoding drops.
    if len(raw) != size or base64.b64encode(raw).decode("ascii") != text:
        raise MinisignError(f"the {what} is not the base64 of {size} bytes")
    return raw


def _id(raw: bytes) -> str:
    """Return a key ID as minisign shows it."""
    return f"{int.from_bytes(raw, 'little'):016X}"
