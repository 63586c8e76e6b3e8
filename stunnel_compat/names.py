"""checkHost, checkIP and checkEmail: OpenSSL's X509_check_host, _ip_asc and _email, byte for byte.

Python's own matcher will not do: it knows neither the common name nor partial wildcards nor
a leading dot, and cannot be asked for any of several names. The rules, with their traps:

* A common name counts only where the certificate has no DNS name; an address in it does not
  block the common name. Likewise the subject's emailAddress and e-mail names.
* Wildcards stand in the certificate, for one whole label or the start or end of the leftmost
  one, with two dots to the right. In checkHost an asterisk is a mere character.
* A checkHost that begins with a dot matches every name with that end, but not the bare domain.
* ASCII letters alone are folded; nothing is normalised, so a final dot matches nothing.
* An address is compared as bytes: never with a host name, whatever that looks like.

Everything is bytes here: what is not ASCII in a certificate is nobody's name by accident.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stunnel_compat.service import Checks

if TYPE_CHECKING:
    from cryptography import x509

# A wildcard must be at the start or the end of the first label, which is no "xn--" label then,
# in front of two good labels at least. Anything else with an asterisk in it is taken literally.
_LABEL = rb"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_WILDCARD = re.compile(
    rb"(?:\*(?:[a-z0-9-]*[a-z0-9])?|(?!xn--)" + _LABEL + rb"\*)(?:\." + _LABEL + rb"){2,}", re.IGNORECASE
)
_PART_OF_LABEL = re.compile(rb"[a-z0-9-]*", re.IGNORECASE)


@dataclass(frozen=True)
class Names:
    """What a certificate calls its owner. ``addresses`` are 4 or 16 bytes each."""

    hosts: tuple[bytes, ...] = ()
    addresses: tuple[bytes, ...] = ()
    emails: tuple[bytes, ...] = ()
    common: tuple[bytes, ...] = ()  # the subject's commonName
    subject_emails: tuple[bytes, ...] = ()  # the subject's emailAddress

    def __str__(self) -> str:
        told = [f"DNS:{_text(host)}" for host in self.hosts]
        told += [f"IP:{ipaddress.ip_address(address)}" for address in self.addresses]
        told += [f"email:{_text(email)}" for email in self.emails]
        told += [f"CN={_text(name)}" for name in self.common if not self.hosts]
        return ", ".join(told) or "nobody"


def matches(names: Names, checks: Checks) -> bool:
    """Say whether any of the wanted names is one of the certificate's."""
    return (
        any(_is_host(names, _bytes(host)) for host in checks.hosts)
        or any(_is_email(names, _bytes(email)) for email in checks.emails)
        or any(packed(address) in names.addresses for address in checks.addresses)
    )


def wanted(checks: Checks) -> str:
    """Return the pool in words."""
    pools = ("checkHost", checks.hosts), ("checkIP", checks.addresses), ("checkEmail", checks.emails)
    return ", ".join(f"{option} {value}" for option, values in pools for value in values)


def packed(address: str) -> bytes:
    """Return an address as bytes; b"", which no certificate has, for what is none."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+){3}", address):  # leading zeros are decimal to OpenSSL
        address = ".".join(part.lstrip("0") or "0" for part in address.split("."))
    try:
        return b"" if "%" in address else ipaddress.ip_address(address).packed
    except ValueError:
        return b""


def from_ssl(leaf: Mapping[str, Any]) -> Names:
    """Take the names from what ``getpeercert`` says."""
    alternatives: list[tuple[str, str]] = list(leaf.get("subjectAltName", ()))
    subject = [pair for part in leaf.get("subject", ()) for pair in part]
    addresses = [packed(value) for kind, value in alternatives if kind == "IP Address"]
    return Names(
        tuple(value.encode() for kind, value in alternatives if kind == "DNS"),
        tuple(address for address in addresses if address),
        tuple(value.encode() for kind, value in alternatives if kind == "email"),
        tuple(value.encode() for kind, value in subject if kind == "commonName"),
        tuple(value.encode() for kind, value in subject if kind == "emailAddress"),
    )


def from_certificate(leaf: x509.Certificate) -> Names:
    """Take the names from a certificate that ``getpeercert`` does not show, because OpenSSL did not verify it."""
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = x509.SubjectAlternativeName([])

    def subject(oid: x509.ObjectIdentifier) -> tuple[bytes, ...]:
        values = [attribute.value for attribute in leaf.subject.get_attributes_for_oid(oid)]
        return tuple(value.encode() for value in values if isinstance(value, str))

    return Names(
        tuple(value.encode() for value in found.get_values_for_type(x509.DNSName)),
        # A network, which only name constraints may hold, is no address.
        tuple(value.packed for value in found.get_values_for_type(x509.IPAddress) if hasattr(value, "packed")),
        tuple(value.encode() for value in found.get_values_for_type(x509.RFC822Name)),
        subject(x509.NameOID.COMMON_NAME),
        subject(x509.NameOID.EMAIL_ADDRESS),
    )


def _is_host(names: Names, host: bytes) -> bool:
    if not host or b"\0" in host:
        return False
    return any(_host_matches(name, host) for name in names.hosts or names.common)


def _host_matches(name: bytes, host: bytes) -> bool:
    name, host = name.lower(), host.lower()
    if host.startswith(b".") and len(host) > 1:
        return name.endswith(host) and b"\0" not in name
    if _WILDCARD.fullmatch(name):
        return _wildcard_matches(name, host)
    return name == host


def _wildcard_matches(name: bytes, host: bytes) -> bool:
    start, _, end = name.partition(b"*")
    if len(host) < len(start) + len(end) or not (host.startswith(start) and host.endswith(end)):
        return False
    part = host[len(start) : len(host) - len(end)]
    if not start and end.startswith(b"."):
        if not part:
            return False
    elif host.startswith(b"xn--"):  # its letters are not the ones that are read
        return False
    return part == b"*" or bool(_PART_OF_LABEL.fullmatch(part))


def _is_email(names: Names, email: bytes) -> bool:
    if not email or b"\0" in email:
        return False
    return any(_email_key(name) == _email_key(email) for name in names.emails or names.subject_emails)


def _email_key(email: bytes) -> bytes:
    """Fold the domain; who is before the last "@" is the domain's own business."""
    local, at, domain = email.rpartition(b"@")
    return local + at + domain.lower() if local else email


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # which no certificate matches then


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
