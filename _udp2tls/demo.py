"""An embedded resolver for ``--demo``: it answers everything, from a throwaway certificate.

A for every name is 192.0.2.1 and AAAA 2001:db8::1 (addresses for documentation), TXT says
so; names beginning with "large." have a 4 KB TXT record. Serves one machine, for a look.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from _udp2tls import wire
from _udp2tls.codec import Codec
from _udp2tls.config import ConfigError
from _udp2tls.framing import Framing
from _udp2tls.tls import Tls

NAME = "resolver.demo.example"

_TEXT = b"\x14udp2tls demo answers"
_DATA = {
    1: ipaddress.IPv4Address("192.0.2.1").packed,
    28: ipaddress.IPv6Address("2001:db8::1").packed,
    16: _TEXT,
}


@dataclass(frozen=True)
class Files:
    """PEM files of the throwaway authority and the resolver's certificate with its key."""

    ca_file: str
    server_file: str


def answer(query: bytes) -> bytes:
    """Answer one query; malformed ones get FORMERR or NOTIMP."""
    try:
        end, opt = wire.parse_query(query)
    except wire.Malformed as error:
        return wire.respond(query, wire.HEADER, error.rcode)
    data = _DATA.get(query[end - 4] << 8 | query[end - 3], b"")
    if data is _TEXT and query[12:19].lower() == b"\x05large" + query[18:19]:
        data = _TEXT * 200
    tail = b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if opt > 0 else b""
    plain = wire.respond(query, end, wire.NOERROR)
    if not data:
        return plain[:10] + (b"\0\1" if tail else b"\0\0") + plain[12:] + tail
    record = b"\xc0\x0c" + query[end - 4 : end] + b"\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    return plain[:6] + b"\0\1\0\0" + (b"\0\1" if tail else b"\0\0") + plain[12:] + record + tail


def codec_factory(files: Files) -> Callable[[], Codec]:
    """Return what makes a server's codec for each connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_file)
    context.set_alpn_protocols(["dot"])
    return lambda: Tls.server(Framing(), context)


def certificates(folder: str) -> Files:
    """Make an authority and a certificate for ``NAME`` and 127.0.0.1, good for a day, in ``folder``."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise ConfigError("--demo needs the package cryptography", remedy="pip install cryptography") from None

    now = datetime.datetime.now(datetime.UTC)

    def builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            issuer_name=issuer, subject_name=subject, public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1), not_valid_after=now + datetime.timedelta(days=1),
        )  # fmt: skip

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = name("udp2tls demo, throwaway")
    ca = (
        builder(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        builder(name(NAME), ca_name, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = Files(os.path.join(folder, "ca.pem"), os.path.join(folder, "server.pem"))
    for path, content in ((files.ca_file, ca.public_bytes(pem)), (files.server_file, private + leaf.public_bytes(pem))):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(content)
    return files
