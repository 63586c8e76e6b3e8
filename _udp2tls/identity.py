"""Certificates in words: whose, from whom, how long, under which names, with which pin.

Everything here was written by the other side, who may be anybody: what goes to a
terminal is cleaned and cut first. Without the package cryptography the leaf is shown as
``ssl`` reads it, and neither the rest of the chain nor pins.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from _udp2tls.codec import CertificateError
from _udp2tls.config import Endpoint, UpstreamSpec
from _udp2tls.tls import format_pin, spki_digest

# What a hostile server may make us print: so many characters, names, certificates.
LONGEST_TEXT, MOST_NAMES, MOST_CERTIFICATES = 160, 12, 8

# OpenSSL's X509_V_ERR_*: the ones with a remedy of their own.
_NOT_YET, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
_OTHER_NAME = {62, 64}


@dataclass(frozen=True)
class Certificate:
    """One certificate, ready to print. ``pin`` is empty where it cannot be computed."""

    subject: str
    issuer: str
    begins: datetime | None = None
    ends: datetime | None = None
    names: tuple[str, ...] = ()
    pin: str = ""

    def validity(self, now: datetime) -> str:
        """Say from when to when, and what that means now."""
        if self.begins is None or self.ends is None:
            return "unknown"
        if now < self.begins:
            said = "NOT YET VALID by this machine's clock"
        elif now > self.ends:
            said = f"EXPIRED {_days(now, self.ends)} ago"
        else:
            said = f"{_days(self.ends, now)} left"
        return f"{self.begins:%Y-%m-%d %H:%M} to {self.ends:%Y-%m-%d %H:%M} UTC, {said}"


def _days(later: datetime, earlier: datetime) -> str:
    hours = int((later - earlier).total_seconds() // 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"


def clean(text: str, limit: int = LONGEST_TEXT) -> str:
    """Return ``text`` as it may be printed: hostile bytes must not move a terminal's cursor."""
    shown = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[:limit] + "..."


def read(chain: Sequence[bytes], leaf: Mapping[str, Any]) -> list[Certificate]:
    """Read a chain of DER certificates, leaf first; ``leaf`` is what ``getpeercert`` said, or empty."""
    try:
        import cryptography  # noqa: F401  (only whether it is there)
    except ImportError:
        return [_from_ssl(leaf)] if leaf else []
    return [_from_der(der) for der in chain[:MOST_CERTIFICATES]]


def _from_der(der: bytes) -> Certificate:
    from cryptography import x509

    try:
        one = x509.load_der_x509_certificate(der)
        names: list[str] = []
        try:
            extension = one.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            pass
        else:
            names = [str(name.value) for name in extension.value if isinstance(name, (x509.DNSName, x509.IPAddress))]
        return Certificate(
            clean(one.subject.rfc4514_string()) or "(empty)", clean(one.issuer.rfc4514_string()) or "(empty)",
            one.not_valid_before_utc, one.not_valid_after_utc,
            tuple(clean(name) for name in names), format_pin(spki_digest(der)),
        )  # fmt: skip
    except Exception as error:  # whatever a hostile certificate does to a parser, the report goes on
        return Certificate(f"cannot be read: {clean(str(error))}", "?")


def _from_ssl(leaf: Mapping[str, Any]) -> Certificate:
    def name(field: str) -> str:
        return clean(", ".join(f"{key}={value}" for part in leaf.get(field, ()) for key, value in part)) or "(empty)"

    def moment(field: str) -> datetime | None:
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(leaf[field]), UTC) if field in leaf else None

    names = tuple(clean(value) for kind, value in leaf.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    return Certificate(name("subject"), name("issuer"), moment("notBefore"), moment("notAfter"), names)


def names_in_words(names: Sequence[str]) -> str:
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) + more) or "none: such a certificate fits no server"


def role(place: int, chain: Sequence[Certificate]) -> str:
    """Say what the certificate at ``place`` is in its chain."""
    if place == 0:
        return "leaf: the server's own" + (", signed by itself" if chain[0].subject == chain[0].issuer else "")
    root = ", a root authority" if chain[place].subject == chain[place].issuer else ""
    return f"signs certificate {place}{root}"


def pin_advice(chain: Sequence[Certificate]) -> str:
    """Say which pins to use: one alone locks the user out on the day the server changes its key."""
    if not any(one.pin for one in chain):
        return ""
    if len(chain) > 1:
        return (
            "to pin, give two: the leaf's, and certificate 2's as a spare. Servers change their own key, often"
            " with each renewal; with the leaf's pin alone nothing would be answered from that day on"
        )
    return (
        "to pin, give this one and a spare: ask the operator for the pin of the next key. With one pin alone"
        " nothing would be answered from the day the server changes its key"
    )


def remedy(
    error: CertificateError, spec: UpstreamSpec, address: Endpoint, chain: Sequence[Certificate], now: datetime
) -> str:
    """Say what to do about a certificate that was refused."""
    cause = error.__cause__
    if "no hash of the stamp matches" in str(error):
        return (
            "another authority signed it than the stamp says, or it is not the server the stamp is for. Get the"
            " operator's present stamp; if it says the same, choose another upstream"
        )
    if not isinstance(cause, ssl.SSLCertVerificationError) and "no pin matches" not in str(error):
        return "the stunnel.conf asks for something else; correct it there, if this is the server you mean"
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return (
            "the server has a new key, or it is not the server you pinned. Compare with the pins its operator"
            " publishes, and only if they agree add: --pin PIN"
        )
    code = cause.verify_code
    if code in (_NOT_YET, _EXPIRED):
        return (
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC: if that is wrong, set it;"
            " if it is right, only the server's operator can help, so choose another upstream meanwhile"
        )
    if code in _OTHER_NAME:
        # A stranger wrote these names, and the line is there to be pasted into a shell.
        names = chain[0].names if chain else ()
        usable = next((name for name in names if re.fullmatch(r"[A-Za-z0-9.:_-]+", name, re.ASCII)), "")
        suggestion = UpstreamSpec(spec.host, spec.port, usable or "NAME")
        return (
            f"the server at {address} is not {spec.name}, or goes by another name. If you know that it is the"
            f" one you mean, ask for a name it carries: --upstream {suggestion}"
        )
    if code in _UNKNOWN_ISSUER:
        return (
            "no authority you trust signed it. For a server of your own, give its authority's certificate:"
            " --ca-file FILE. For a public one, install the system's certificates (ca-certificates); if they"
            " are there, somebody between you and the server may be reading along"
        )
    return "the server's operator must mend the certificate; choose another upstream meanwhile"
