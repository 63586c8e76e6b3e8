"""DNS stamps: a resolver or a relay as one line of text, ``sdns://...``, read and written.

Owns the text and binary form (draft-denis-dns-stamps); what the fields may hold is in
``stamp_fields``. ``format`` is the inverse of ``parse``. Strict: no padding, no stray bits,
no bytes left over. Four things may be written in two ways, and ``format`` writes the first:
``sdns://`` or ``sdns:``; no list of bootstrap addresses, or an empty one; a list without or
with empty entries; unknown property bits zero, or not.

No input, however bad, raises anything but StampError. And no hash of a certificate is lost
on the way to an upstream: a stamp that cannot be held to all it says is refused.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from _udp2tls.config import Endpoint, UpstreamSpec
from _udp2tls.stamp_fields import FIELDS, NAMES, PROPERTIES, Kind, Pair, Stamp, StampError, check_field, check_pair

__all__ = ["Kind", "Pair", "Stamp", "StampError", "format", "is_pair", "parse", "parse_pair", "upstream"]

_REMEDY = (
    "give the stamp of a DNSCrypt or DNS-over-TLS resolver (they begin with sdns://AQ and sdns://Aw),"
    " or tls://HOST[:853][#NAME]"
)
_UNSUITABLE = {
    Kind.PLAIN: "plain DNS is not encrypted, and udp2tls asks nobody in plain text",
    Kind.DNSCRYPT_RELAY: "a relay answers no queries itself",
    Kind.ODOH_RELAY: "a relay answers no queries itself",
}

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


class _Reader:
    """The bytes of a stamp, taken field by field."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes; raises StampError when there are fewer."""
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            missing = size - len(taken)
            self.at = len(self.data)
            raise StampError(
                f"it ends {missing} byte{'s' * (missing > 1)} too early", remedy="was it copied whole?"
            )  # fmt: skip
        self.at += size
        return taken

    def field(self, field: str) -> Any:
        """Return the next field in the form ``Stamp`` has it; properties as a number."""
        if field == "properties":
            return int.from_bytes(self.take(8), "little")
        if field in ("hashes", "bootstrap"):
            if field == "bootstrap" and self.at == len(self.data):
                return ()
            found = self.entries()
            return tuple(found) if field == "hashes" else tuple(map(_text, found))
        one = self.take(self.take(1)[0])
        return one if field == "key" else _text(one)

    def entries(self) -> list[bytes]:
        """Return the entries of a list: each length but the last has its highest bit set."""
        found = []
        more = True
        while more:
            size = self.take(1)[0]
            more = size >= 0x80
            if one := self.take(size & 0x7F):
                found.append(one)
        return found


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise StampError("it is not UTF-8 text", remedy="was it copied whole?") from None


def parse(text: str, where: str = "") -> Stamp:
    """Read one stamp; ``where`` is said in the StampError that a bad one raises."""
    start = _body_of(text, where)
    if "/" in text[start:]:
        raise StampError("these are two stamps: a relay and a server", remedy="give one").place(
            text, start + text[start:].index("/"), len(text), where
        )
    return _parse(text, start, len(text), where)


def parse_pair(text: str, where: str = "") -> Pair:
    """Read ``sdns://RELAY/SERVER``; raises StampError, also when the two do not go together."""
    start = _body_of(text, where)
    parts = text[start:].split("/")
    if len(parts) != 2:
        raise StampError("this is not one relay and one server", remedy="write sdns://RELAY/SERVER").place(
            text, start, len(text), where
        )
    middle = start + len(parts[0])
    pair = Pair(_parse(text, start, middle, where), _parse(text, middle + 1, len(text), where))
    try:
        check_pair(pair)
    except StampError as error:
        raise error.place(text, start, len(text), where) from None
    return pair


def is_pair(text: str) -> bool:
    """True for what ``parse_pair`` is for, good or bad."""
    return "/" in text.removeprefix("sdns:").removeprefix("//")


def _body_of(text: str, where: str) -> int:
    """Return where the base64url of a stamp begins."""
    if not text.startswith("sdns:"):
        raise StampError("a stamp begins with sdns://", remedy="copy it whole").place(text, 0, min(7, len(text)), where)
    return 7 if text.startswith("sdns://") else 5


def _parse(text: str, start: int, end: int, where: str) -> Stamp:
    reader = _Reader(_decode(text, start, end, where))
    began = 0
    try:
        number = reader.take(1)[0]
        if number not in FIELDS:
            known = ", ".join(f"0x{kind:02x} {name}" for kind, name in NAMES.items())
            raise StampError(f"kind 0x{number:02x} is unknown", remedy=f"known are {known}")
        kind = Kind(number)
        values: dict[str, Any] = {}
        for field in FIELDS[kind]:
            began = reader.at
            value = reader.field(field)
            if field == "properties":
                values |= {name: bool(value >> bit & 1) for bit, name in enumerate(PROPERTIES)}
            else:
                check_field(field, value, kind)
                values[field] = value
        began = reader.at
        if began < len(reader.data):
            reader.at = len(reader.data)
            raise StampError("something follows its end", remedy="was another stamp copied with it?")
    except StampError as error:
        # Three bytes are four characters.
        first, last = start + began * 4 // 3, start - (-reader.at * 4 // 3)
        raise error.place(text, min(first, end), min(last, end), where) from None
    return Stamp(kind, **values)


def _decode(text: str, start: int, end: int, where: str) -> bytes:
    """Decode unpadded base64url (RFC 4648 section 5), the one way to write these bytes."""
    body = text[start:end]
    good = _BASE64URL.match(body)
    stop = good.end() if good else 0
    if stop < len(body):
        padded = not body[stop:].strip("=")
        raise StampError(
            "a stamp has no padding" if padded else f"{body[stop]!r} does not belong in a stamp",
            remedy="leave the = out" if padded else "it consists of letters, digits, - and _",
        ).place(text, start + stop, end if padded else start + stop + 1, where)
    if not body:
        raise StampError("the stamp is empty", remedy="copy it whole").place(text, start, end, where)
    if len(body) % 4 != 1:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        if base64.urlsafe_b64encode(data).rstrip(b"=") == body.encode():
            return data
    raise StampError("the last character cannot be the last", remedy="was it copied whole?").place(
        text, end - 1, end, where
    )


def format(stamp: Stamp | Pair) -> str:
    """Write a stamp, or a relay and its server in one."""
    if isinstance(stamp, Pair):
        return f"{format(stamp.relay)}/{format(stamp.server).removeprefix('sdns://')}"
    data = bytes([stamp.kind])
    for field in FIELDS[stamp.kind]:
        if field == "properties":
            data += sum(getattr(stamp, name) << bit for bit, name in enumerate(PROPERTIES)).to_bytes(8, "little")
        elif field in ("hashes", "bootstrap"):
            entries = [one if isinstance(one, bytes) else one.encode() for one in getattr(stamp, field)]
            for one in entries[:-1]:
                data += bytes([0x80 | len(one)]) + one
            if entries or field == "hashes":
                last = entries[-1] if entries else b""
                data += bytes([len(last)]) + last
        else:
            value = getattr(stamp, field)
            value = value if isinstance(value, bytes) else value.encode()
            data += bytes([len(value)]) + value
    return "sdns://" + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def upstream(text: str, where: str = "--upstream") -> UpstreamSpec:
    """Read the stamp of a resolver that can be asked, perhaps with ?tcp; raises StampError for every other."""
    via, whole = None, text
    text = text.removesuffix("?tcp")
    if is_pair(text):
        pair = parse_pair(text, where)
        stamp, via = pair.server, Endpoint(pair.relay.ip, pair.relay.port)
        if stamp.kind is not Kind.DNSCRYPT:
            problem = f"{NAMES[stamp.kind]} through a relay is not supported as an upstream in this version"
            raise StampError(problem, remedy=_REMEDY).place(text, 0, len(text), where)
        if via.host == stamp.ip:
            raise StampError(
                f"the relay is at the server's own address, {stamp.ip}: it would see who asks and what",
                remedy="choose a relay of another operator",
            ).place(text, 0, len(text), where)
    else:
        stamp = parse(text, where)
    if stamp.kind is Kind.DNSCRYPT:
        tcp = text != whole
        return UpstreamSpec(stamp.ip, stamp.port, stamp.provider, key=stamp.key, relay=via, prefer_tcp=tcp)
    if text != whole:
        problem = "?tcp goes with DNSCrypt, which is asked over UDP otherwise"
        raise StampError(problem, remedy="leave it out").place(whole, len(text), len(whole), where)
    problem = _UNSUITABLE.get(stamp.kind, f"{NAMES[stamp.kind]} is not supported as an upstream in this version")
    if stamp.kind is not Kind.DOT:
        raise StampError(problem, remedy=_REMEDY).place(text, 0, len(text), where)
    if not stamp.agrees:
        raise StampError(
            f"its address {stamp.address} and its host {stamp.host} name different ports",
            remedy=f"say which: tls://{stamp.address or stamp.name}#{stamp.name}",
        ).place(text, 0, len(text), where)
    return UpstreamSpec(stamp.ip or stamp.name, stamp.port, stamp.name, frozenset(stamp.hashes))
