"""TLS as a layer over another codec (RFC 7858, RFC 8310).

An ``SSLObject`` between two memory BIOs: bytes from the network go into one,
bytes for the network come out of the other, and OpenSSL never sees a socket.

What must never happen here: a byte of a query is handed to OpenSSL before the
peer is authenticated. ``room`` is 0 until then, and ``send`` refuses. Chain,
validity and name are checked by OpenSSL inside the handshake, pins and whatever else
the session asks for right after it; any failure is a CertificateError and the end of
the connection.

Two traps this file steps around. After a close_notify ``SSLObject.read`` returns
b"" for ever. And an exception per ``read`` is dearer than the read, so the loop
stops when both buffers say that nothing is left.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from _udp2tls.codec import CertificateError, Codec, ConnectionLost, ProtocolError
from _udp2tls.config import ConfigError

# One read returns one record, of 16 KiB at most (RFC 8446 section 5.1).
_READ = 65536


@dataclass
class Session:
    """What outlives a connection: how to authenticate the peer, and the last ticket.

    ``pins`` are SHA-256 digests of SubjectPublicKeyInfo (RFC 7858 section 4.2); one of
    them must be in the verified chain, besides everything else that is checked. ``hashes``
    likewise, but of TBSCertificates, as DNS stamps have them.
    The ticket comes from a fully authenticated connection and goes with one name
    and one set of pins and hashes, so resuming passes around none of the checks.
    ``check`` is for a context that leaves something unchecked: it is called after every
    handshake, resumed or not, and raises CertificateError. ``sni`` is the name told to
    the server: None for ``name``, empty for none.
    """

    context: ssl.SSLContext
    name: str
    pins: frozenset[bytes] = frozenset()
    ticket: ssl.SSLSession | None = None
    check: Callable[[ssl.SSLObject], None] | None = None
    resume: bool = True
    sni: str | None = None
    hashes: frozenset[bytes] = frozenset()
    requirement: str = ""  # what is asked of the peer, in words, where that is more or less than its name


class Tls:
    """The codec: ``inner``'s messages inside TLS, at either end of the connection."""

    def __init__(self, inner: Codec, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self.inner = inner
        self.room = 0
        self.deadline = inner.deadline
        self.closing = False
        self.authenticated = False
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False  # the peer's close_notify has come
        self._session: Session | None = None
        self._wants_ticket = True

    @classmethod
    def client(cls, inner: Codec, session: Session) -> Tls:
        """Begin a connection to the peer that ``session`` describes."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        told = session.name if session.sni is None else session.sni or None
        tls = session.context.wrap_bio(
            incoming, outgoing, server_hostname=told, session=session.ticket
        )  # fmt: skip
        codec = cls(inner, tls, incoming, outgoing)
        codec._session = session
        codec._wants_ticket = session.resume
        codec._handshake()
        return codec

    @classmethod
    def server(cls, inner: Codec, context: ssl.SSLContext) -> Tls:
        """Await a client."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(inner, context.wrap_bio(incoming, outgoing, server_side=True), incoming, outgoing)

    def send(self, messages: Sequence[bytes], now: float) -> None:
        if not self.authenticated:
            raise RuntimeError("a query before the peer is authenticated: hold it while room is 0")
        self.inner.send(messages, now)

    def receive(self, chunks: Sequence[bytes], now: float) -> list[bytes]:
        tls, incoming = self._tls, self._incoming
        for chunk in chunks:
            incoming.write(chunk)
        if not self.authenticated and not self._handshake():
            return []
        plain = []
        try:
            while not self._closed:
                if data := tls.read(_READ):
                    plain.append(data)
                    # One read takes a whole record, so nothing is left inside OpenSSL either.
                    if not incoming.pending:
                        break
                else:
                    self._closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._closed = True
        except ssl.SSLError as error:
            raise ProtocolError(f"TLS: {_words(error)}") from error
        if self._wants_ticket and plain and self._session:
            # In TLS 1.3 tickets come after the handshake, at the latest with the first answer.
            # Once: reading ``session`` copies the whole of it, certificates and all.
            self._session.ticket = tls.session or self._session.ticket
            self._wants_ticket = False
        inner = self.inner
        messages = inner.receive(plain, now)
        self.room, self.closing, self.deadline = inner.room, inner.closing, inner.deadline
        if self._closed:
            self.room, self.closing = 0, True
        return messages

    def outgoing(self) -> list[bytes]:
        if self.authenticated and (chunks := self.inner.outgoing()):
            plain = b"".join(chunks)
            try:
                written = self._tls.write(plain)
                while written < len(plain):  # OpenSSL may stop after a record, 16 KiB
                    written += self._tls.write(memoryview(plain)[written:])
            except ssl.SSLError as error:
                raise ProtocolError(f"TLS: {_words(error)}") from error
        return [self._outgoing.read()] if self._outgoing.pending else []

    def close(self) -> None:
        if self.authenticated:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it wants the peer's close_notify, for which nobody waits

    def eof(self, now: float) -> list[bytes]:
        if not self.authenticated:
            raise ConnectionLost("the peer closed the connection during the TLS handshake")
        if not self._closed:
            raise ConnectionLost("the peer closed the connection without a TLS close")
        return self.inner.eof(now)

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLCertVerificationError as error:
            why = getattr(error, "verify_message", "") or str(error)  # truststore does not always set it
            raise CertificateError(f"certificate refused: {why}") from error
        except ssl.SSLError as error:
            raise ProtocolError(f"TLS handshake: {_words(error)}") from error
        if self._session and self._session.pins and not self._tls.session_reused:
            _check_pins(self._tls, self._session.pins)
        if self._session and self._session.hashes and not self._tls.session_reused:
            _check_hashes(self._tls, self._session.hashes)
        if self._session and self._session.check:
            self._session.check(self._tls)
        self.authenticated = True
        self.room = self.inner.room
        return True

    @property
    def resumed(self) -> bool:
        """True when the handshake took up an earlier session."""
        return bool(self._tls.session_reused)

    @property
    def description(self) -> dict[str, str]:
        """What a log line says of the connection: version, cipher, expiry, resumed or not."""
        certificate = self._tls.getpeercert() or {}
        cipher = self._tls.cipher()
        return {
            "version": self._tls.version() or "?",
            "cipher": cipher[0] if cipher else "?",
            "alpn": self._tls.selected_alpn_protocol() or "none",
            "name": self._session.name if self._session else "",
            "expires": str(certificate.get("notAfter", "?")),
            "resumed": "resumed" if self._tls.session_reused else "new session",
        }

    @property
    def certificates(self) -> tuple[dict[str, Any], list[bytes]]:
        """What the peer was authenticated by: its certificate as ``ssl`` reads it, and the verified chain."""
        return self._tls.getpeercert() or {}, chain_of(self._tls)


def _words(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in lower case words."""
    return (error.reason or str(error)).replace("_", " ").lower()


def _check_pins(tls: ssl.SSLObject, pins: frozenset[bytes]) -> None:
    seen = [spki_digest(der) for der in chain_of(tls)]
    if not pins.intersection(seen):
        found = ", ".join(format_pin(digest) for digest in seen)
        raise CertificateError(f"certificate refused: no pin matches; the server's chain has {found}")


def _check_hashes(tls: ssl.SSLObject, hashes: frozenset[bytes]) -> None:
    seen = [tbs_digest(der) for der in chain_of(tls)]
    if not hashes.intersection(seen):
        found = ", ".join(digest.hex() for digest in seen)
        raise CertificateError(f"certificate refused: no hash of the stamp matches; the server's chain has {found}")


def chain_of(tls: ssl.SSLObject, kind: str = "verified") -> list[bytes]:
    """Return the chain OpenSSL verified, as DER, leaf first; or ("unverified") what the peer sent.

    Public from Python 3.13 on; 3.11 and 3.12 have it one object deeper. Without
    either, the leaf alone: fewer certificates to match is the safe side.
    """
    get = getattr(tls, f"get_{kind}_chain", None)
    if get is not None:
        return list(get())
    get = getattr(getattr(tls, "_sslobj", None), f"get_{kind}_chain", None)
    if get is not None:
        return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in get() or ()]
    leaf = tls.getpeercert(binary_form=True)
    return [leaf] if leaf else []


def spki_digest(der: bytes) -> bytes:
    """Return the SHA-256 of a certificate's SubjectPublicKeyInfo."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_der_x509_certificate(der).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def tbs_digest(der: bytes) -> bytes:
    """Return the SHA-256 of a certificate's TBSCertificate, the part that is signed."""
    from cryptography import x509

    return hashlib.sha256(x509.load_der_x509_certificate(der).tbs_certificate_bytes).digest()


def format_pin(digest: bytes) -> str:
    """Return a digest as ``--pin`` takes it."""
    return "sha256/" + base64.b64encode(digest).decode("ascii")


def system_verifies(
    ca_file: str, certificate: str, pins: Set[bytes], environment: Mapping[str, str], platform: str = sys.platform
) -> bool:
    """True where Windows shall verify in place of OpenSSL, through the package truststore.

    Windows fetches many authorities only when it verifies something itself; OpenSSL would
    not know them. Not when the user says whom to trust; nor with pins or hashes, for there is no
    chain verified here that they could be looked for in; nor with a client certificate, which
    would be sent before the server's is looked at.
    """
    said = ca_file or certificate or pins or environment.get("SSL_CERT_FILE") or environment.get("SSL_CERT_DIR")
    return platform == "win32" and not said and find_spec("truststore") is not None and not _wine()


def _wine() -> bool:
    """True under Wine, which finds nothing wrong with a chain whose authority it does not know (seen with 8.0)."""
    import ctypes

    return hasattr(getattr(getattr(ctypes, "windll", None), "ntdll", None), "wine_get_version")


def client_context(
    ca_file: str = "", certificate: str = "", key: str = "", *, by_system: bool = False
) -> ssl.SSLContext:
    """Make a context that authenticates servers; raise ConfigError when a file cannot be used.

    TLS 1.2 and 1.3. Trust is the system's store, or ``ca_file`` alone. ``by_system``: truststore
    has the system verify, in the same call that ends the handshake. Names are taken
    from subjectAltName only, never from the common name (RFC 8310 section 8.1).
    The flags are set one by one: ``ssl.create_default_context`` sets others on each
    Python version.
    """
    context = _context_of_truststore() if by_system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["dot"])
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        elif not by_system:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"--ca-file: cannot use {ca_file}: {_file_error(error)}",
            remedy="it must be a readable PEM file with the certificates to trust",
        ) from error
    if certificate:
        try:
            context.load_cert_chain(certificate, key or None, password=_no_password)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"--client-cert: cannot use {certificate}{' with ' + key if key else ''}: {_file_error(error)}",
                remedy="both must be readable PEM files, the key unencrypted and the certificate's own",
            ) from error
    return context


def _context_of_truststore() -> ssl.SSLContext:
    import truststore

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _no_password() -> str:
    raise OSError("the key is encrypted, and a service cannot be asked for a password")


def _file_error(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return _words(error)
    return getattr(error, "strerror", None) or str(error)
