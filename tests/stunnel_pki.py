"""Certificates as stunnel meets them, and configurations to meet them with."""

from __future__ import annotations

import datetime
import ipaddress
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stunnel_compat.service import Checks

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
PROPER = "DNS:dns.test,DNS:alt.test,IP:127.0.0.1,email:op@dns.test"


@dataclass(frozen=True)
class Leaf:
    """How one certificate differs from a good one."""

    sans: str = PROPER
    common: str = "dns.test"
    issuer: str = "ca"  # empty: itself
    days: tuple[int, int] = (-1, 30)
    purpose: x509.ObjectIdentifier | None = SERVER
    key: str = ""  # another's
    extra: x509.ExtensionType | None = None
    weak: str = ""


LEAVES = {
    "good": Leaf(),
    "expired": Leaf(days=(-60, -1)),
    "future": Leaf(days=(10, 60)),
    "cn_only": Leaf(sans=""),
    "cn_san_mismatch": Leaf(sans="DNS:other.test"),
    "cn_ipsan": Leaf(sans="IP:127.0.0.1"),
    "cn_wildcard": Leaf(sans="", common="*.dns.test"),
    "wildcard": Leaf(sans="DNS:*.dns.test", common="w"),
    "partial_wildcard": Leaf(sans="DNS:a*.dns.test", common="w"),
    "short_wildcard": Leaf(sans="DNS:*.test", common="w"),
    "ip_only": Leaf(sans="IP:127.0.0.1", common="x"),
    "ip_in_cn": Leaf(sans="", common="127.0.0.1"),
    "ip_as_dns": Leaf(sans="DNS:127.0.0.1", common="x"),
    "ipv6": Leaf(sans="IP:2001:db8::1,DNS:v6.test", common="x"),
    "email": Leaf(sans="email:op@dns.test", common="x"),
    "other_ca": Leaf(issuer="ca2"),
    "via_inter": Leaf(issuer="inter"),
    "via_inter_full": Leaf(issuer="inter"),  # the server sends its issuer too
    "self_signed": Leaf(issuer=""),
    "rsa1024": Leaf(weak="key"),
    "sha1": Leaf(weak="signature"),
    "revoked": Leaf(),
    "client_eku": Leaf(purpose=CLIENT),
    "any_eku": Leaf(purpose=ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE),
    "no_eku": Leaf(purpose=None),
    "unknown_critical": Leaf(extra=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")),
    "renewed": Leaf(key="good", issuer="ca2"),
    "renewed_case": Leaf(key="good", common=" DNS.test"),
    "renewed_expired": Leaf(key="good", days=(-60, -1)),
    "renewed_other_name": Leaf(key="good", sans="DNS:other.test"),
    "same_key_other_subject": Leaf(key="good", common="else.test"),
    "same_subject_other_key": Leaf(),
}  # fmt: skip


class Pki:
    """Everything as PEM files in ``folder``: NAME.pem and NAME.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, Key] = {}
        self.certificates: dict[str, x509.Certificate] = {}
        for name, common, issuer in ("ca", "Test Root", ""), ("ca2", "Other Root", ""), ("inter", "Between", "ca"):
            self._make(name, Leaf("", common, issuer, purpose=None), ca=True)
        for name, leaf in LEAVES.items():
            self._make(name, leaf)
        self._sign_with_sha1()
        self._revoke()
        self._bundle()

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _make(self, name: str, leaf: Leaf, *, ca: bool = False) -> None:
        key: Key = (
            self.keys[leaf.key] if leaf.key
            else rsa.generate_private_key(65537, 1024 if leaf.weak == "key" else 2048) if leaf.weak
            else ec.generate_private_key(ec.SECP256R1())
        )  # fmt: skip
        signer = self.keys[leaf.issuer] if leaf.issuer else key
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, leaf.common)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificates[leaf.issuer].subject if leaf.issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=-2 if ca else leaf.days[0]))
            .not_valid_after(now + datetime.timedelta(days=90 if ca else leaf.days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if leaf.sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(leaf.sans)), critical=False)
        if leaf.purpose:
            builder = builder.add_extension(x509.ExtendedKeyUsage([leaf.purpose]), critical=False)
        if leaf.extra:
            builder = builder.add_extension(leaf.extra, critical=True)
        self.keys[name] = key
        self.certificates[name] = builder.sign(signer, hashes.SHA256())
        self.write(f"{name}.pem", self.certificates[name])
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))  # fmt: skip

    def signed_for(self, subject: x509.Name) -> x509.Certificate:
        """Return a certificate of somebody by that name."""
        now = datetime.datetime.now(datetime.UTC)
        days = datetime.timedelta(days=1)
        key = self.keys["ca"]
        issuer = self.certificates["ca"].subject
        return x509.CertificateBuilder(issuer, subject, key.public_key(), 1, now - days, now + days).sign(
            key, hashes.SHA256()
        )

    def write(self, file: str, *certificates: x509.Certificate) -> None:
        (self.folder / file).write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates))

    def _sign_with_sha1(self) -> None:
        """With openssl: cryptography does not sign so any more."""
        extensions = "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth", f"subjectAltName={PROPER}"
        (self.folder / "sha1.cnf").write_text("\n".join(("[e]", *extensions, "")))
        self.openssl("req", "-new", "-key", "sha1.key", "-subj", "/CN=dns.test", "-out", "sha1.csr")
        self.openssl(
            "x509", "-req", "-in", "sha1.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7", "-sha1",
            "-days", "30", "-extfile", "sha1.cnf", "-extensions", "e", "-out", "sha1.pem",
        )  # fmt: skip
        self.certificates["sha1"] = x509.load_pem_x509_certificate((self.folder / "sha1.pem").read_bytes())

    def _revoke(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificates["ca"].subject)
            .last_update(now - datetime.timedelta(days=1))
            .next_update(now + datetime.timedelta(days=30))
        )
        one = x509.RevokedCertificateBuilder(self.certificates["revoked"].serial_number, now).build()
        revoked = builder.add_revoked_certificate(one).sign(self.keys["ca"], hashes.SHA256())
        (self.folder / "crl.pem").write_bytes(revoked.public_bytes(serialization.Encoding.PEM))

    def _bundle(self) -> None:
        get = self.certificates.__getitem__
        self.write("via_inter_full.pem", get("via_inter_full"), get("inter"))
        self.write("both_roots.pem", get("ca2"), get("ca"))
        self.write("root_and_inter.pem", get("ca"), get("inter"))
        self.write("root_and_leaf.pem", get("ca"), get("good"))
        self.write("all_leaves.pem", *map(get, LEAVES))
        self.write("everything.pem", *map(get, self.certificates))
        for folder, name in ("hashed", "ca"), ("hashed_leaf", "good"), ("unhashed", "ca"):
            (self.folder / folder).mkdir()
            shutil.copy(self.folder / f"{name}.pem", self.folder / folder)
            if folder != "unhashed":
                self.openssl("rehash", folder)

    def openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def checks(self, **given: str | bool | tuple[str, ...]) -> Checks:
        """Return Checks with the files of this folder."""
        files = ("ca_file", "ca_path", "crl_file", "crl_path")
        return Checks(**{k: self.path(str(v)) if k in files else v for k, v in given.items()})  # type: ignore[arg-type]

    def configurations(self) -> dict[str, Checks]:
        """Return what is asked of the server, by name."""
        checks = self.checks
        made = {
            "nothing": checks(),
            "cafile alone": checks(ca_file="ca.pem"),
            "chain": checks(chain=True, ca_file="ca.pem"),
            "chain, two roots": checks(chain=True, ca_file="both_roots.pem"),
            "chain, leaves for roots": checks(chain=True, ca_file="all_leaves.pem"),
            "chain, intermediate for a root": checks(chain=True, ca_file="inter.pem"),
            "chain, root and intermediate": checks(chain=True, ca_file="root_and_inter.pem"),
            "chain, directory": checks(chain=True, ca_path="hashed"),
            "chain, directory without hashes": checks(chain=True, ca_path="unhashed"),
            "chain, CRL": checks(chain=True, ca_file="both_roots.pem", crl_file="crl.pem"),
            "peer": checks(peer=True, ca_file="good.pem"),
            "peer, root only": checks(peer=True, ca_file="ca.pem"),
            "peer, root and leaf": checks(peer=True, ca_file="root_and_leaf.pem"),
            "peer, all leaves": checks(peer=True, ca_file="all_leaves.pem"),
            "peer, everything": checks(peer=True, ca_file="everything.pem"),
            "peer, directory": checks(peer=True, ca_path="hashed_leaf"),
            "peer, name": checks(peer=True, ca_file="all_leaves.pem", hosts=("dns.test",)),
            "peer, address": checks(peer=True, ca_file="all_leaves.pem", addresses=("127.0.0.1",)),
            "peer, CRL": checks(peer=True, ca_file="everything.pem", crl_file="crl.pem"),
            "peer, CRL, leaf only": checks(peer=True, ca_file="good.pem", crl_file="crl.pem"),
            "both": checks(peer=True, chain=True, ca_file="root_and_leaf.pem"),
            "both, leaf only": checks(peer=True, chain=True, ca_file="good.pem"),
        }
        pools: dict[str, dict[str, tuple[str, ...]]] = {
            "dns.test": {"hosts": ("dns.test",)},
            "DNS.TEST": {"hosts": ("DNS.TEST",)},
            "dns.test.": {"hosts": ("dns.test.",)},
            ".test": {"hosts": (".test",)},
            ".dns.test": {"hosts": (".dns.test",)},
            "*.test": {"hosts": ("*.test",)},
            "ab.dns.test": {"hosts": ("ab.dns.test",)},
            "a.b.dns.test": {"hosts": ("a.b.dns.test",)},
            "host 127.0.0.1": {"hosts": ("127.0.0.1",)},
            "empty host": {"hosts": ("",)},
            "second host": {"hosts": ("nope.test", "dns.test")},
            "127.0.0.1": {"addresses": ("127.0.0.1",)},
            "long 127.0.0.1": {"addresses": ("127.000.0.01",)},
            "mapped 127.0.0.1": {"addresses": ("::ffff:127.0.0.1",)},
            "long IPv6": {"addresses": ("2001:0DB8:0:0::0001",)},
            "no address": {"addresses": ("dns.test",)},
            "email": {"emails": ("op@DNS.test",)},
            "Email": {"emails": ("OP@dns.test",)},
            "any of all": {"hosts": ("nope.test",), "addresses": ("192.0.2.9", "127.0.0.1"), "emails": ("x@y.test",)},
        }
        made |= {f"name: {k}": checks(chain=True, ca_file="ca.pem", **pool) for k, pool in pools.items()}
        return made


def _general_names(text: str) -> list[x509.GeneralName]:
    made: list[x509.GeneralName] = []
    for item in text.split(","):
        kind, _, value = item.partition(":")
        if kind == "DNS":
            made.append(x509.DNSName(value))
        elif kind == "IP":
            made.append(x509.IPAddress(ipaddress.ip_address(value)))
        else:
            made.append(x509.RFC822Name(value))
    return made
