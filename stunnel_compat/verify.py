"""A service's verification, exactly as stunnel does it; here, what is left after the handshake.

What stunnel asks of a server is not what ``_udp2tls.tls.client_context`` asks:

* Nothing asked, nothing checked.
* verifyChain: OpenSSL, inside the handshake, see ``contexts``; CRLs too, of the leaf.
* verifyPeer: see ``pins``. With verifyChain, or with CRLs (which need the chain), both must pass.
* Names are one pool, see ``names``; without any, every certificate of those authorities passes.

So ``check_hostname`` is off, and a connection counts as authenticated only after ``Verifier.check``,
which runs before the first byte of a query. That no certificate came, as with an anonymous cipher,
is a refusal whenever anything is to be checked.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from _udp2tls.codec import CertificateError
from _udp2tls.identity import clean
from _udp2tls.tls import Session, chain_of
from stunnel_compat import contexts, names, pins
from stunnel_compat.service import Service, Target

if TYPE_CHECKING:
    from cryptography import x509


class Verifier:
    """One service's context, shared by all its targets. Raises ConfigError for what cannot be used.

    ``now`` dates what is pinned; what leads to a root is dated by OpenSSL.
    """

    def __init__(self, service: Service, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        checks = service.checks
        self.service = service
        self._now = now
        self._verifies = checks.chain or checks.peer
        if checks.subject and not self._verifies:
            raise contexts.wrong(
                service, 'Either "verifyChain" or "verifyPeer" has to be enabled',
                "a name in a certificate that anybody can make proves nothing",
            )  # fmt: skip
        anchors = contexts.anchors_of(service) if self._verifies else []
        chain = checks.chain or bool(checks.crl_file or checks.crl_path)
        self._store: pins.Store | None = None
        self._exact: frozenset[bytes] | None = None
        if checks.peer and _have_cryptography():
            self._store = pins.Store(anchors, checks.ca_path)
        elif checks.peer:
            self._exact = frozenset(anchors)
            if checks.ca_path:
                raise contexts.wrong(
                    service, "verifyPeer with CApath needs the Python package cryptography",
                    "install it, or put the server's certificate into CAfile",
                )  # fmt: skip
        # OpenSSL would refuse a renewed certificate whose issuer it does not know.
        self._by_ourselves = self._store is not None and not chain
        self.context = contexts.make(
            service, anchors,
            verify=self._verifies and not self._by_ourselves, partial=self._exact is not None and not chain,
        )  # fmt: skip
        self._sni = contexts.sni_of(self.context, service)

    def session(self, target: Target) -> Session:
        """Describe one ``connect`` of the service."""
        checks = self.service.checks
        return Session(
            self.context, ", ".join((*checks.hosts, *checks.addresses, *checks.emails)) or target.host,
            check=self.check if self._verifies else None, resume=self.service.resume, sni=self._sni,
            requirement=self.requirement,
        )  # fmt: skip

    @property
    def requirement(self) -> str:
        """Say what is asked of the server."""
        checks = self.service.checks
        if not self._verifies:
            return "no certificate is asked for: whoever is in between can read and answer everything"
        place = " or ".join(path for path in (checks.ca_file, checks.ca_path) if path)
        asked = [f"lead to a root in {place}"] if checks.chain else []
        asked += [f"be in {place} by subject and key"] if checks.peer else []
        asked += [f"match any of {names.wanted(checks)}"] if checks.subject else []
        return f"certificate must {' and '.join(asked)}"

    def check(self, tls: ssl.SSLObject) -> None:
        """Check what the handshake did not; raise CertificateError."""
        try:
            reason = self._fault(tls)
        except Exception as error:  # a certificate that breaks a parser is no reason to end, nor to go on
            reason = f"it cannot be read: {error}"
        if reason:
            raise CertificateError(f"certificate refused: {clean(reason, 400)}")

    def _fault(self, tls: ssl.SSLObject) -> str:
        leaf = tls.getpeercert(binary_form=True)
        if not leaf:
            return "the server showed none"
        if self._store and not self._store.has(leaf):
            return "not in CAfile or CApath, by subject and public key (verifyPeer)"
        if self._exact is not None and leaf not in self._exact:
            return "not in CAfile (verifyPeer; to find renewed ones install the Python package cryptography)"
        if self._store and self._by_ourselves:
            from cryptography import x509

            certificate = x509.load_der_x509_certificate(leaf)
            if reason := self._own_fault(tls, certificate, self._store):
                return reason
            found = names.from_certificate(certificate)
        else:
            found = names.from_ssl(tls.getpeercert() or {})
        checks = self.service.checks
        if checks.subject and not names.matches(found, checks):
            return f"no name matches: {names.wanted(checks)}; the certificate is for {found}"
        return ""

    def _own_fault(self, tls: ssl.SSLObject, leaf: x509.Certificate, store: pins.Store) -> str:
        # OpenSSL looks at a signature's strength where the chain goes on, with what it has or what was sent.
        goes_on = leaf.issuer != leaf.subject and (any(store.find(leaf.issuer)) or len(chain_of(tls, "unverified")) > 1)
        return pins.fault(leaf, self._now(), self.context.security_level, issuer_known=goes_on)


def _have_cryptography() -> bool:
    try:
        import cryptography  # noqa: F401  (only whether it is there)
    except ImportError:
        return False
    return True
