"""DNSCrypt's certificates: asking for them, reading the answer, choosing one.

A resolver's short-term key comes in a TXT record that nobody protects on its way: only the
Ed25519 signature by the provider key, which the user's stamp holds, says whose it is. So
everything in an answer is hostile until its signature was checked, and es_version, which
no signature covers, stays so: who changes it gets a query that nobody can open.

The bytes of a TXT record are binary and never become text here. Times are seconds since
1970 by the wall clock, given as arguments; so is what is random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from _udp2tls import box, wire

MAGIC = b"DNSC"
CLASSIC_SIZE, XWING_SIZE = 124, 1320
TXT = 16

# How often to look for another certificate, and how soon again when the time is nearly over.
REFRESH, SOONEST = 3600.0, 10.0
# The longest part of a certificate's last hour that is left for fetching the next one.
_MARGIN = 600.0
# A forged answer may hold hundreds of records, and each costs a signature check of 60 us.
_MOST_RECORDS = 24
_MOST_REASONS = 4

_OPT = b"\0\0\x29\x10\0\0\0\0\0"  # UDP size 4096: certificates of two systems are over 1,500 bytes
_QUESTION_TAIL = b"\0\x10\0\1"
# An es_version 3 certificate says what its key is (DNSCRYPT-V2-PROTOCOL): X-Wing and XChaCha20.
_PROFILE = b"PQD\1\0\3\1\1" + box.XWING_KEY.to_bytes(2, "big") + box.XWING_TEXT.to_bytes(2, "big")

# What a query must not begin with, for somebody on its way would take it for something else.
_TAKEN = {
    b"\xff" * 8: "an anonymized query",
    b"PQResume": "a resumed query",
    box.RESOLVER_MAGIC: "an answer",
}


_UNSIGNED = (
    "a certificate is not signed by the provider's key: the stamp is wrong or outdated,"
    " or somebody stands between you and the server"
)


class NoCertificate(Exception):
    """Nothing usable; ``str()`` says why. ``truncated``: over TCP there may be more."""

    def __init__(self, said: str, *, truncated: bool = False) -> None:
        super().__init__(said)
        self.truncated = truncated


class _Unusable(Exception):
    """Why one certificate is out."""


@dataclass(frozen=True)
class Certificate:
    """A certificate whose signature is good. ``begins`` and ``ends`` are inclusive.

    ``key`` is the resolver's, 32 bytes or X-Wing's 1216; ``context`` is what binds an
    es_version 3 key to this certificate.
    """

    es_version: int
    minor: int
    key: bytes
    magic: bytes
    serial: int
    begins: int
    ends: int
    context: bytes = b""

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """What says which of two is better: some servers' serials never grow, so the rest decides."""
        return self.serial, self.es_version, self.ends, self.begins

    @property
    def fingerprint(self) -> str:
        """The first half of the SHA-256 of the resolver's key, in hex."""
        return sha256(self.key).hexdigest()[:32]

    def boxes(self, random: box.Random, pair: box.KeyPair | None) -> box.Boxes:
        """Return what seals queries for this certificate; see ``box.boxes``."""
        return box.boxes(self.es_version, self.key, self.magic, random, pair=pair, context=self.context)

    def describe(self) -> str:
        """Say in one line what it is."""
        minor = f".{self.minor}" if self.minor else ""
        return (
            f"serial {self.serial}, es_version {self.es_version}{minor}"
            f" ({box.NAMES[self.es_version]}), valid {_date(self.begins)} to {_date(self.ends)} UTC,"
            f" key {self.fingerprint}"
        )


def query(provider: str, id: bytes, *, size: int = 0) -> bytes:
    """Return the query for the certificates of ``provider``, the name as the stamp has it.

    ``id`` is two random bytes. With ``size`` the query is padded to so many bytes (RFC 7830),
    if it is not longer: relays pass no answer that is longer than its query.
    Raises ValueError when the name cannot be one.
    """
    name = _encode(provider)
    bare = b"".join((id, b"\1\0\0\1\0\0\0\0\0\0", name, _QUESTION_TAIL))
    padding = size - len(bare) - len(_OPT) - 6
    if padding < 0:
        return bare
    options = b"\0\x0c" + padding.to_bytes(2, "big") + bytes(padding)
    return b"".join((bare[:11], b"\1", bare[12:], _OPT, len(options).to_bytes(2, "big"), options))


def _encode(name: str) -> bytes:
    """Return a name as RFC 1035 section 3.1 has it. Nothing in it is an escape."""
    labels = name.removesuffix(".").encode("ascii", "replace").split(b".")
    if not name.isascii() or not all(0 < len(one) < 64 for one in labels) or sum(map(len, labels)) + len(labels) > 254:
        raise ValueError(f"{name!r} is not the name of a DNSCrypt provider: not ASCII, too long or an empty label")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def is_answer(asked: bytes, message: bytes) -> bool:
    """True when ``message`` claims to answer the query ``asked``; anything else is to be passed over."""
    end = wire.question_end(asked)
    return (
        len(message) >= end
        and message[:2] == asked[:2]
        and message[2] & 0xF8 == 0x80
        and message[4:6] == b"\0\1"
        and wire.same_question(asked, message, end)
    )


def records(answer: bytes) -> list[bytes]:
    """Return the data of an answer's TXT records, the strings of each joined.

    An answer that does not add up ends where it stops to: of one cut short (TC), what is
    whole may be all that is needed.
    """
    found: list[bytes] = []
    try:
        at = wire.question_end(answer)
        for _ in range(min(_MOST_RECORDS, answer[6] << 8 | answer[7])):
            start = at
            rtype, at = wire.skip_record(answer, start)
            while 0 < answer[start] < 0xC0:
                start += answer[start] + 1
            start += 2 if answer[start] else 1
            if rtype == TXT and answer[start + 2 : start + 4] == b"\0\1":
                found.append(_joined(answer[start + 10 : at]))
    except (wire.Malformed, IndexError):
        pass
    return found


def _joined(rdata: bytes) -> bytes:
    """Return the character-strings of a TXT record as one (RFC 1035 section 3.3.14)."""
    parts, at = [], 0
    while at < len(rdata):
        parts.append(rdata[at + 1 : at + 1 + rdata[at]])
        at += 1 + rdata[at]
    return b"".join(parts)


def _verifier(provider_key: bytes) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = Ed25519PublicKey.from_public_bytes(provider_key)

    def verify(signature: bytes, signed: bytes) -> bool:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return verify


@dataclass(frozen=True)
class Offer:
    """What one TXT record of an answer offers. ``why``: why it cannot be used; empty, it can.

    ``certificate`` is None where the record is none that this program reads, and what it says
    is nobody's word unless ``signed``. ``unknown``: of a system nobody here knows, which is no fault.
    """

    es_version: int = 0
    certificate: Certificate | None = None
    signed: bool = False
    why: str = ""
    unknown: bool = False


def offers(answer: bytes, provider_key: bytes, now: float | None, *, xsalsa20: bool = True) -> list[Offer]:
    """Return what an answer that ``is_answer`` took offers; ``now`` None: at no time in particular.

    Raises ValueError when ``provider_key`` is no Ed25519 key.
    """
    verify = _verifier(provider_key)
    return [_offer(data, verify, now, xsalsa20) for data in records(answer)]


def _offer(data: bytes, verify: Callable[[bytes, bytes], bool], now: float | None, xsalsa20: bool) -> Offer:
    if not data.startswith(MAGIC) or len(data) < CLASSIC_SIZE:
        return Offer(why="a TXT record is no certificate")
    es_version = data[4] << 8 | data[5]
    size = XWING_SIZE if es_version == box.XWING else CLASSIC_SIZE
    if es_version not in box.NAMES:
        return Offer(es_version, why="this program does not know its encryption system", unknown=True)
    if len(data) < size:
        return Offer(why=f"a certificate of es_version {es_version} is cut off")
    one = _read(data, es_version)
    if not verify(data[8:72], data[72:]):
        return Offer(es_version, one, why=_UNSIGNED)
    if es_version == box.XWING and data[1308:XWING_SIZE] != _PROFILE:
        return Offer(es_version, why="this program does not know its post-quantum profile", unknown=True)
    try:
        _check(one, now, xsalsa20)
    except _Unusable as why:
        return Offer(es_version, one, signed=True, why=str(why))
    return Offer(es_version, one, signed=True)


def _read(data: bytes, es_version: int) -> Certificate:
    at = 72 + (box.XWING_KEY if es_version == box.XWING else 32)
    serial, begins, ends = (int.from_bytes(data[at + n : at + n + 4], "big") for n in (8, 12, 16))
    context = b"DNSCrypt-PQ-v1" + data[4:8] + data[72:XWING_SIZE] if es_version == box.XWING else b""
    minor = data[6] << 8 | data[7]
    return Certificate(es_version, minor, data[72:at], data[at : at + 8], serial, begins, ends, context)


def choose(
    answer: bytes, provider_key: bytes, now: float, *,
    xsalsa20: bool = True, xwing: bool = True, check_time: bool = True,
) -> Certificate:  # fmt: skip
    """Return the best certificate of an answer that ``is_answer`` took.

    ``xsalsa20``: whether es_version 1 is good enough. ``xwing``: whether es_version 3 gets
    through. ``check_time`` False is for machines whose clock is wrong until they can resolve
    names. Raises NoCertificate, and ValueError when ``provider_key`` is no Ed25519 key.
    """
    truncated = bool(answer[2] & 0x02)
    if rcode := answer[3] & 0x0F:
        raise NoCertificate(f"the server answered with rcode {rcode}: is the provider's name right?")
    if said := box.why_not(box.XCHACHA20):
        raise NoCertificate(said)
    found = offers(answer, provider_key, now if check_time else None, xsalsa20=xsalsa20)
    if best := best_of(found, xwing=xwing):
        return best
    reasons = [one.why for one in found if not one.unknown]
    raise NoCertificate(_in_words(reasons, any(one.unknown for one in found), truncated), truncated=truncated)


def best_of(found: Iterable[Offer], *, xwing: bool = True) -> Certificate | None:
    """Return the best certificate that can be used."""
    usable = [one.certificate for one in found if one.certificate and not one.why]
    if not xwing:
        usable = [one for one in usable if one.es_version != box.XWING]
    return max(usable, key=lambda one: one.rank, default=None)


def _check(one: Certificate, now: float | None, xsalsa20: bool) -> None:
    """Raise _Unusable unless ``one`` can be used now."""
    called = f"the certificate with serial {one.serial}"
    if one.begins >= one.ends:
        raise _Unusable(f"{called} ends before it begins")
    if now is not None and now >= one.ends + 1:
        raise _Unusable(f"{called} expired on {_date(one.ends)} UTC, and this machine's clock says {_date(now)} UTC")
    if now is not None and now < one.begins:
        raise _Unusable(f"{called} begins on {_date(one.begins)} UTC, and this machine's clock says {_date(now)} UTC")
    if said := box.why_not(one.es_version):
        raise _Unusable(said)
    if one.es_version == box.XSALSA20 and not xsalsa20:
        raise _Unusable(f"es_version 1 ({box.NAMES[1]}) is not allowed")
    if one.magic.startswith(bytes(7)):
        raise _Unusable(f"{called} begins its queries like QUIC's")
    if one.magic in _TAKEN:
        raise _Unusable(f"{called} begins its queries like {_TAKEN[one.magic]}")
    try:
        box.check_key(one.es_version, one.key)
    except box.WeakKey as error:
        raise _Unusable(f"{called} cannot be used: {error}") from None


def _in_words(reasons: list[str], unknown: bool, truncated: bool) -> str:
    if reasons:
        return "no usable certificate: " + "; ".join(list(dict.fromkeys(reasons))[:_MOST_REASONS])
    if unknown:
        return "there are only certificates of encryption systems that this program does not know"
    return "the answer holds no certificate" + (" and was cut short" if truncated else "")


def _date(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):  # a clock far off, which is just what is to be said
        return f"{seconds:.0f} s after 1970"


def refresh_in(one: Certificate, now: float, random: float) -> float:
    """Return in how many seconds to look for another certificate: an hour, or before this one ends.

    ``random`` in [0, 1) takes off up to a tenth, so that clients do not all ask at once.
    """
    left = one.ends - now
    due = min(REFRESH, left - min(_MARGIN, left / 4))
    if left <= 0:  # chosen without a look at the time, so the clock is wrong
        due = REFRESH
    return max(SOONEST, due * (1 - random / 10))
