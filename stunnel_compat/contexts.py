"""A service's SSLContext: what OpenSSL verifies and offers, from the files the service names.

Trust is CAfile and CApath alone, never the system's store; verifyChain ends at a self-signed
root. Whatever cannot be used is a ConfigError at start. stunnel starts in some of these cases
(a CAfile damaged half-way, or missing beside a good CApath) and then rejects everybody: nobody
is served either way.

CRLs need care. OpenSSL loads certificates from the same files, and would trust them.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

from _udp2tls.config import ConfigError
from stunnel_compat import pins
from stunnel_compat.service import Service

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
# Versions are bounded, not switched off one by one: ssl warns of these flags.
_OLD_VERSIONS = ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
_CRL = re.compile(rb"-----BEGIN X509 CRL-----\s.*?-----END X509 CRL-----", re.DOTALL)
_ANY_CERTIFICATE = re.compile(rb"-----BEGIN (X509 |TRUSTED |)CERTIFICATE-----")


def make(service: Service, anchors: Sequence[bytes], *, verify: bool, partial: bool = False) -> ssl.SSLContext:
    """Make the context; ``verify`` is for the handshake, ``partial`` lets a leaf in CAfile vouch for itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    # Not as found: on some Python versions an intermediate would do for a root.
    context.verify_flags = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST
    if partial:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    _set_versions(context, service)
    _set_ciphers(context, service)
    if anchors or verify:
        _trust(context, service, anchors)
    _load_crls(context, service)
    _load_own(context, service)
    return context


def wrong(service: Service, problem: str, remedy: str) -> ConfigError:
    place = f"{service.where}: " if service.where else ""
    return ConfigError(problem, where=f"{place}Service [{service.name}]", remedy=remedy)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def _read(service: Service, option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise wrong(service, f"{option} = {path}: {_why(error)}", "it must be a readable file") from error


def anchors_of(service: Service) -> list[bytes]:
    """Return CAfile's certificates as DER; raise ConfigError if there would be nothing to verify by."""
    checks = service.checks
    if not checks.ca_file and not checks.ca_path:
        raise wrong(
            service, 'Either "CAfile" or "CApath" has to be configured',
            "verifyChain and verifyPeer trust the certificates in there and no others",
        )  # fmt: skip
    if not checks.ca_file:
        _look_into(service, checks.root + checks.ca_path)
        return []
    data = _read(service, "CAfile", checks.ca_file)
    try:
        # stunnel takes PEM only, but a file that is one certificate can mean nothing else.
        found = [data] if pins.is_der(data) else pins.certificates(data)
    except ValueError as error:
        raise _no_anchors(service, f"CAfile = {checks.ca_file}", f" ({error})") from error
    if not found:
        raise _no_anchors(service, f"CAfile = {checks.ca_file}")
    return found


def _look_into(service: Service, folder: str) -> None:
    """Make sure that some file in CApath has a certificate; OpenSSL would not mind."""
    try:
        files = sorted(Path(folder).iterdir())
    except (OSError, ValueError) as error:
        raise _no_anchors(service, f"CApath = {folder}", f" ({_why(error)})") from error
    if not any(map(_has_certificate, files)):
        raise _no_anchors(service, f"CApath = {folder}")


def _has_certificate(file: Path) -> bool:
    try:
        return file.is_file() and _ANY_CERTIFICATE.search(file.read_bytes()) is not None
    except OSError:
        return False


def _no_anchors(service: Service, setting: str, detail: str = "") -> ConfigError:
    return wrong(
        service, f"{setting}: No trusted certificates found{detail}",
        "CAfile must be a PEM file with the certificates to trust, CApath a directory of such files,"
        " one each, named by openssl rehash",
    )  # fmt: skip


def _trust(context: ssl.SSLContext, service: Service, anchors: Sequence[bytes]) -> None:
    checks = service.checks
    if checks.ca_file:
        try:
            if pins.is_der(_read(service, "CAfile", checks.ca_file)):
                context.load_verify_locations(cadata=b"".join(anchors))
            else:
                context.load_verify_locations(checks.ca_file)  # as a file: it may hold CRLs as well
        except (OSError, ssl.SSLError, ValueError) as error:
            raise _no_anchors(service, f"CAfile = {checks.ca_file}", f" ({_why(error)})") from error
    if checks.ca_path:
        context.load_verify_locations(capath=checks.ca_path)


def _load_crls(context: ssl.SSLContext, service: Service) -> None:
    checks = service.checks
    if checks.crl_file:
        data = _read(service, "CRLfile", checks.crl_file)
        lists = _CRL.findall(data)
        try:
            if not lists:
                raise ValueError("no CRL found")
            if _ANY_CERTIFICATE.search(data):
                _load_lists_alone(context, lists)
            else:
                context.load_verify_locations(checks.crl_file)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise wrong(
                service, f"Failed to load CRLfile = {checks.crl_file}: {_why(error)}",
                "it must be a PEM file with the revocation list of every authority whose certificates may come",
            ) from error  # fmt: skip
    if checks.crl_path:
        context.load_verify_locations(capath=checks.crl_path)
    if (checks.crl_file or checks.crl_path) and context.verify_mode == ssl.CERT_REQUIRED:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF


def _load_lists_alone(context: ssl.SSLContext, lists: Sequence[bytes]) -> None:
    """Load CRLs without the certificates beside them: OpenSSL would trust those from then on."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crl.pem"
        file.write_bytes(b"\n".join(lists) + b"\n")
        context.load_verify_locations(file)


def _set_versions(context: ssl.SSLContext, service: Service) -> None:
    oldest = max(service.oldest, TLS12)
    newest = TLS13 if service.newest == ssl.TLSVersion.MAXIMUM_SUPPORTED else service.newest
    if service.flags & ssl.OP_NO_TLSv1_2:
        oldest = TLS13
    if service.flags & ssl.OP_NO_TLSv1_3:
        newest = min(newest, TLS12)
    if oldest > newest:
        raise wrong(
            service, "Invalid protocol version: no TLS version is left",
            "sslVersion, sslVersionMin, sslVersionMax and options must leave TLSv1.2 or TLSv1.3",
        )  # fmt: skip
    context.minimum_version, context.maximum_version = oldest, newest
    flags = service.flags & ~(_OLD_VERSIONS | ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3)
    # After a renegotiation nobody would check the new certificate.
    context.options |= flags | ssl.OP_NO_RENEGOTIATION | (0 if service.resume else ssl.OP_NO_TICKET)


def _set_ciphers(context: ssl.SSLContext, service: Service) -> None:
    # A level among the ciphers wins, as it does with stunnel. Ours goes to the end: DEFAULT must stand first.
    level = "" if "@SECLEVEL=" in service.ciphers else f":@SECLEVEL={service.security_level}"
    try:
        context.set_ciphers(service.ciphers + level)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise wrong(
            service, f"ciphers = {service.ciphers}: no cipher match",
            "it is a list for TLS 1.2 as 'openssl ciphers' takes it; leave it away for the default",
        ) from error  # fmt: skip
    try:
        if service.curve:
            context.set_ecdh_curve(service.curve)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise wrong(
            service, f"curve = {service.curve}: Unknown curve", "leave it away for the default, X25519 first"
        ) from error


def _load_own(context: ssl.SSLContext, service: Service) -> None:
    """Load the client certificate; a key without one is ignored, as with stunnel."""
    if not service.cert:
        return
    if service.cert.lower().endswith((".p12", ".pfx")):
        raise wrong(
            service, f"cert = {service.cert}: PKCS #12 files cannot be read here",
            "convert it: openssl pkcs12 -in FILE -nodes -out client.pem",
        )  # fmt: skip
    try:
        context.load_cert_chain(service.cert, service.key or None, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        key = f" with key = {service.key}" if service.key else ""
        raise wrong(
            service, f"cert = {service.cert}{key}: {_why(error)}",
            "both must be readable PEM files, the key unencrypted and the certificate's own",
        ) from error  # fmt: skip


def _no_password() -> str:
    raise OSError("the key is encrypted, and a service cannot be asked for a password")


def sni_of(context: ssl.SSLContext, service: Service) -> str:
    """Return the name to tell every target: the host of the first, if the file names no other."""
    name = service.sni if service.sni is not None else service.connect[0].host if service.connect else ""
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name or None)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise wrong(
            service, f"sni = {name}: {_why(error)}", "it must be a host name; 'sni =' with nothing sends none"
        ) from error
    return name
