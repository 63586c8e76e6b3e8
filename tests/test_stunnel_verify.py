"""stunnel_compat.verify, contexts and pins: who is let through, under each kind of configuration.

The verdicts written here are those of the real stunnel; tests/peers/test_stunnel_verdicts.py asks it.
"""

from __future__ import annotations

import datetime
import shutil
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from _udp2tls.codec import CertificateError, CodecError, ProtocolError
from _udp2tls.config import ConfigError
from _udp2tls.framing import Framing
from _udp2tls.tls import Session, Tls
from stunnel_compat import pins
from stunnel_compat.service import Checks, Service, Target
from stunnel_compat.verify import Verifier
from tests.stunnel_pki import LEAVES, Pki
from tests.test_tls import SECRET, ask, connect, each_version, shake_hands

TARGET = Target("127.0.0.1", 853)
OTHER_CA = {"other_ca", "renewed"}
ALL = set(LEAVES)
# What OpenSSL verifies up to the root "ca".
CHAIN = ALL - OTHER_CA - {
    "expired", "future", "via_inter", "self_signed", "rsa1024", "sha1", "client_eku", "any_eku", "unknown_critical",
    "renewed_expired",
}  # fmt: skip
SAME_KEY = {"good", "renewed", "renewed_case", "renewed_other_name"}
# Every leaf is pinned: what is still refused in the certificate itself.
PINNED = ALL - {"expired", "future", "rsa1024", "client_eku", "any_eku", "unknown_critical", "renewed_expired"}
PROPER = {name for name, leaf in LEAVES.items() if "dns.test," in leaf.sans}

ACCEPTED: dict[str, set[str]] = {
    "nothing": ALL,
    "cafile alone": ALL,
    "chain": CHAIN,
    "chain, two roots": CHAIN | OTHER_CA,
    "chain, leaves for roots": {"self_signed"},
    "chain, intermediate for a root": set(),
    "chain, root and intermediate": CHAIN | {"via_inter"},
    "chain, directory": CHAIN,
    "chain, directory without hashes": set(),
    "chain, CRL": CHAIN - {"revoked", "via_inter_full"},
    "peer": SAME_KEY,
    "peer, root only": set(),
    "peer, root and leaf": SAME_KEY,
    "peer, all leaves": PINNED,
    "peer, everything": PINNED - {"sha1"},  # with its issuer at hand its signature counts
    "peer, directory": SAME_KEY,
    "peer, name": (PINNED & PROPER) | {"cn_only", "cn_ipsan"},
    "peer, address": (PINNED & PROPER) | {"cn_ipsan", "ip_only"},
    "peer, CRL": CHAIN - {"revoked", "via_inter_full"},
    "peer, CRL, leaf only": set(),
    "both": SAME_KEY & CHAIN,
    "both, leaf only": set(),
    "name: dns.test": (CHAIN & PROPER) | {"cn_only", "cn_ipsan"},
    "name: DNS.TEST": (CHAIN & PROPER) | {"cn_only", "cn_ipsan"},
    "name: dns.test.": set(),
    "name: .test": CHAIN - {"ip_only", "ip_in_cn", "ip_as_dns", "email"},
    "name: .dns.test": {"cn_wildcard", "wildcard", "partial_wildcard"},
    "name: *.test": {"short_wildcard"},
    "name: ab.dns.test": {"cn_wildcard", "wildcard", "partial_wildcard"},
    "name: a.b.dns.test": set(),
    "name: host 127.0.0.1": {"ip_in_cn", "ip_as_dns"},
    "name: empty host": set(),
    "name: second host": (CHAIN & PROPER) | {"cn_only", "cn_ipsan"},
    "name: 127.0.0.1": (CHAIN & PROPER) | {"cn_ipsan", "ip_only"},
    "name: long 127.0.0.1": (CHAIN & PROPER) | {"cn_ipsan", "ip_only"},
    "name: mapped 127.0.0.1": set(),
    "name: long IPv6": {"ipv6"},
    "name: no address": set(),
    "name: email": (CHAIN & PROPER) | {"email"},
    "name: Email": set(),
    "name: any of all": (CHAIN & PROPER) | {"cn_ipsan", "ip_only"},
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("stunnel_pki"))


def server_context(pki: Pki, name: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(pki.path(f"{name}.pem"), pki.path(f"{name}.key"))
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def service(checks: Checks = Checks(), **more: Any) -> Service:  # noqa: B008  (frozen)
    return Service("dns", (), (TARGET,), checks, **more)


def verifier(checks: Checks = Checks(), **more: Any) -> Verifier:  # noqa: B008
    return Verifier(service(checks, **more))


def session(checks: Checks = Checks(), **more: Any) -> Session:  # noqa: B008
    return verifier(checks, **more).session(TARGET)


def judge(session: Session, context: ssl.SSLContext) -> str:
    """Shake hands; return why the server was refused, "" if it was not."""
    client, server = Tls.client(Framing(), session), Tls.server(Framing(), context)
    try:
        shake_hands(client, server)
    except CertificateError as error:
        assert not client.authenticated
        assert client.room == 0
        with pytest.raises(RuntimeError):
            client.send([SECRET], 0.0)
        return str(error)
    ask(client, server)
    return ""


def verdict(pki: Pki, checks: Checks, leaf: str) -> str:
    return judge(session(checks), server_context(pki, leaf))


@pytest.mark.parametrize("name", ACCEPTED)
def test_who_is_let_through(pki: Pki, name: str) -> None:
    used = session(pki.configurations()[name])
    accepted = set()
    for leaf in LEAVES:
        said = judge(used, server_context(pki, leaf))
        assert not said or said.startswith("certificate refused: ")
        if not said:
            accepted.add(leaf)
        used.ticket = None
    assert accepted == ACCEPTED[name]


def test_the_table_is_complete(pki: Pki) -> None:
    assert list(ACCEPTED) == list(pki.configurations())


@each_version
@pytest.mark.parametrize("peer", [False, True])
def test_a_refused_server_gets_no_query_and_the_user_the_reason(pki: Pki, version: ssl.TLSVersion, peer: bool) -> None:
    checks = pki.checks(
        chain=not peer, peer=peer, ca_file="everything.pem", hosts=("dns.test",), addresses=("192.0.2.1",)
    )
    said = judge(session(checks), server_context(pki, "cn_san_mismatch", version))
    assert said == (
        "certificate refused: no name matches: checkHost dns.test, checkIP 192.0.2.1;"
        " the certificate is for DNS:other.test"
    )


def test_the_reasons_of_a_pin_are_told(pki: Pki) -> None:
    everything = pki.checks(peer=True, ca_file="everything.pem")
    for leaf, reason in {
        "expired": "has expired", "future": "not yet valid", "rsa1024": "key too weak", "client_eku": "purpose",
        "unknown_critical": "critical extension", "sha1": "digest algorithm too weak",
    }.items():  # fmt: skip
        assert reason in verdict(pki, everything, leaf)
    assert "verifyPeer" in verdict(pki, pki.checks(peer=True, ca_file="good.pem"), "other_ca")


def test_a_pinned_certificate_is_dated_by_the_clock_given(pki: Pki) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=40)
    made = Verifier(service(pki.checks(peer=True, ca_file="all_leaves.pem")), now=lambda: later)
    assert "has expired" in judge(made.session(TARGET), server_context(pki, "good"))
    assert not judge(made.session(TARGET), server_context(pki, "future"))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("by_ciphers", [False, True])
def test_the_security_level_decides_on_weak_certificates(pki: Pki, level: int, by_ciphers: bool) -> None:
    """Of chains and of pins alike; a level in ``ciphers`` comes later and wins."""
    more: dict[str, Any] = {"ciphers": f"ALL:!aNULL:@SECLEVEL={level}"} if by_ciphers else {"security_level": level}
    for checks in pki.checks(chain=True, ca_file="ca.pem"), pki.checks(peer=True, ca_file="everything.pem"):
        for leaf, highest in ("good", 3), ("rsa1024", 1), ("sha1", 0):
            accepted = not judge(session(checks, **more), server_context(pki, leaf))
            assert accepted == (level <= highest), leaf


def test_no_certificate_at_all_is_refused(pki: Pki) -> None:
    """Anonymous ciphers show none; OpenSSL verifies nothing then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("aNULL:@SECLEVEL=0")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    weak: dict[str, Any] = {"ciphers": "aNULL", "security_level": 0}
    assert not judge(session(**weak), context)
    for checks in pki.checks(chain=True, ca_file="ca.pem"), pki.checks(peer=True, ca_file="good.pem"):
        assert "showed none" in judge(session(checks, **weak), context)


def test_a_certificate_that_cannot_be_read_is_refused(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(leaf: object) -> object:
        raise ValueError("odd \x1b[31m bytes")

    monkeypatch.setattr("stunnel_compat.names.from_ssl", broken)
    said = verdict(pki, pki.checks(chain=True, ca_file="ca.pem"), "good")
    assert said == "certificate refused: it cannot be read: odd ?[31m bytes"


def test_certificates_beside_crls_are_not_trusted(pki: Pki, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes((pki.folder / "ca2.pem").read_bytes() + (pki.folder / "crl.pem").read_bytes())
    checks = pki.checks(chain=True, ca_file="ca.pem", crl_file=str(both))
    assert not verdict(pki, checks, "good")
    assert "revoked" in verdict(pki, checks, "revoked")
    assert "issuer" in verdict(pki, checks, "other_ca")


def test_a_directory_of_crls(pki: Pki, tmp_path: Path) -> None:
    checks = pki.checks(chain=True, ca_file="ca.pem", crl_path=str(tmp_path))
    assert "unable to get certificate CRL" in verdict(pki, checks, "good")
    shutil.copy(pki.folder / "crl.pem", tmp_path)
    pki.openssl("rehash", str(tmp_path))
    assert not verdict(pki, checks, "good")
    assert "revoked" in verdict(pki, checks, "revoked")


def test_a_directory_is_looked_into_again(pki: Pki, tmp_path: Path) -> None:
    shutil.copy(pki.folder / "ca.pem", tmp_path)
    used = session(pki.checks(peer=True, ca_path=str(tmp_path)))
    assert judge(used, server_context(pki, "good"))
    shutil.copy(pki.folder / "same_subject_other_key.pem", tmp_path / "1.pem")
    shutil.copy(pki.folder / "good.pem", tmp_path / "2.pem")
    pki.openssl("rehash", str(tmp_path))
    assert not judge(used, server_context(pki, "good"))
    for link in tmp_path.glob("*.[0-9]"):
        link.rename(link.with_stem("00000000"))
    assert judge(used, server_context(pki, "renewed"))


@pytest.mark.parametrize("option", ["chain", "peer"])
def test_cafile_may_be_der_or_name_its_blocks_x509(pki: Pki, tmp_path: Path, option: str) -> None:
    name = "ca" if option == "chain" else "good"
    pem = (pki.folder / f"{name}.pem").read_text()
    (tmp_path / "file.cer").write_bytes(ssl.PEM_cert_to_DER_cert(pem))
    (tmp_path / "x509.pem").write_text("some words\r\n" + pem.replace(" CERT", " X509 CERT"))
    for file in "file.cer", "x509.pem":
        given: dict[str, Any] = {option: True, "ca_file": str(tmp_path / file)}
        checks = pki.checks(**given)
        assert not verdict(pki, checks, "good")
        assert verdict(pki, checks, "other_ca")


def test_without_cryptography_a_pin_is_the_whole_certificate(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    pinned = pki.checks(peer=True, ca_file="all_leaves.pem", hosts=("dns.test",))
    root = pki.checks(peer=True, ca_file="root_and_leaf.pem")
    assert not verdict(pki, pinned, "good")
    assert not verdict(pki, pinned, "other_ca")
    assert "expired" in verdict(pki, pinned, "expired")
    assert "no name matches" in verdict(pki, pinned, "cn_san_mismatch")
    assert "install the Python package cryptography" in verdict(pki, root, "renewed_case")
    with pytest.raises(ConfigError, match="needs the Python package cryptography"):
        verifier(pki.checks(peer=True, ca_path="hashed_leaf"))


@each_version
def test_sessions_are_resumed_and_checked_again(pki: Pki, version: ssl.TLSVersion) -> None:
    named = pki.checks(chain=True, ca_file="ca.pem", hosts=("dns.test",))
    for checks in named, pki.checks(peer=True, ca_file="good.pem"):
        made, context = verifier(checks), server_context(pki, "good", version)
        used = made.session(TARGET)
        for resumed in False, True, True:
            client, server = connect(used, context)
            ask(client, server)
            assert client.resumed == resumed
        made.service = service(pki.checks(chain=True, hosts=("nope.test",)))
        assert "no name matches" in judge(used, context)


@each_version
def test_session_resumption_can_be_switched_off(pki: Pki, version: ssl.TLSVersion) -> None:
    used, context = session(resume=False), server_context(pki, "good", version)
    for _ in range(2):
        client, server = connect(used, context)
        ask(client, server)
        assert not client.resumed
    assert used.ticket is None


@pytest.mark.parametrize(
    ("sni", "hosts", "told"),
    [
        (None, ("dns.test", "other.test"), "dns.test"), (None, ("192.0.2.1", "dns.test"), None),
        (None, ("2001:db8::1",), None), (None, ("localhost",), "localhost"), ("", ("dns.test",), None),
        ("x_y.test", ("192.0.2.1",), "x_y.test"),
    ],
)  # fmt: skip
def test_what_name_the_server_is_told(pki: Pki, sni: str | None, hosts: tuple[str, ...], told: str | None) -> None:
    targets = tuple(Target(host, 853) for host in hosts)
    made = Verifier(Service("dns", (), targets, pki.checks(chain=True, ca_file="ca.pem"), sni=sni))
    seen: list[str | None] = []
    context = server_context(pki, "wildcard")
    context.sni_callback = lambda tls, name, context: seen.append(name)
    for target in targets:
        used = made.session(target)
        assert used.name == target.host
        connect(used, context)
    assert seen == [told] * len(targets)


def test_no_application_protocol_is_offered(pki: Pki) -> None:
    """A server that knows others only would end the handshake (RFC 7301 section 3.2)."""
    context = server_context(pki, "good")
    context.set_alpn_protocols(["dot"])
    client, _ = connect(session(), context)
    assert client.description["alpn"] == "none"


def test_what_is_asked_is_said(pki: Pki) -> None:
    assert "whoever is in between" in session().requirement
    assert session().name == "127.0.0.1"
    both = session(pki.checks(chain=True, peer=True, ca_file="ca.pem", hosts=("a", "b"), addresses=("::1",)))
    assert both.requirement == (
        f"certificate must lead to a root in {pki.path('ca.pem')} and be in {pki.path('ca.pem')} by subject and key"
        " and match any of checkHost a, checkHost b, checkIP ::1"
    )
    assert both.name == "a, b, ::1"


@pytest.mark.parametrize(
    ("more", "server", "version"),
    [
        ({}, None, "TLSv1.3"), ({"newest": ssl.TLSVersion.TLSv1_2}, None, "TLSv1.2"),
        ({"flags": ssl.OP_NO_TLSv1_3}, None, "TLSv1.2"), ({"flags": ssl.OP_NO_TLSv1_2}, None, "TLSv1.3"),
        ({"oldest": ssl.TLSVersion.TLSv1_3}, ssl.TLSVersion.TLSv1_2, ""),
        ({"flags": ssl.OP_NO_TLSv1_2}, ssl.TLSVersion.TLSv1_2, ""),
        ({"oldest": ssl.TLSVersion.MINIMUM_SUPPORTED, "newest": ssl.TLSVersion.MAXIMUM_SUPPORTED}, None, "TLSv1.3"),
        ({"flags": ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1 | ssl.OP_NO_TICKET}, None, "TLSv1.3"),
        ({"ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"}, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ({"ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}, ssl.TLSVersion.TLSv1_2, ""),
        ({"ciphers": "DEFAULT:!RC4"}, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ({"curve": "prime256v1"}, None, "TLSv1.3"), ({"curve": "X25519"}, None, "TLSv1.3"),
    ],
)  # fmt: skip
def test_versions_and_ciphers(pki: Pki, more: dict[str, Any], server: ssl.TLSVersion | None, version: str) -> None:
    client, other = Tls.client(Framing(), session(**more)), Tls.server(Framing(), server_context(pki, "good", server))
    if version:
        shake_hands(client, other)
        assert client.description["version"] == version
    else:
        with pytest.raises(ProtocolError):
            shake_hands(client, other)


def test_versions_are_never_older_than_1_2() -> None:
    context = verifier(oldest=ssl.TLSVersion.MINIMUM_SUPPORTED).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert not context.check_hostname


def test_the_client_shows_its_certificate(pki: Pki) -> None:
    context = server_context(pki, "good")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(pki.path("ca.pem"))
    ask(*connect(session(cert=pki.path("client_eku.pem"), key=pki.path("client_eku.key")), context))
    combined = pki.folder / "combined.pem"
    combined.write_bytes(b"".join((pki.folder / f"client_eku.{end}").read_bytes() for end in ("key", "pem")))
    ask(*connect(session(cert=str(combined)), context))
    client, server = Tls.client(Framing(), session(key=pki.path("client_eku.key"))), Tls.server(Framing(), context)
    with pytest.raises(CodecError):
        shake_hands(client, server)


NO_ANCHORS = "No trusted certificates found"


@pytest.mark.parametrize("option", ["chain", "peer"])
@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, 'Either "CAfile" or "CApath" has to be configured'),
        ({"ca_file": "missing.pem"}, "CAfile = .*missing.pem: No such file"),
        ({"ca_file": "empty.pem"}, NO_ANCHORS), ({"ca_file": "garbage.pem"}, NO_ANCHORS),
        ({"ca_file": "good.key"}, NO_ANCHORS), ({"ca_file": "crl.pem"}, NO_ANCHORS),
        ({"ca_file": "trusted.pem"}, NO_ANCHORS), ({"ca_file": "half.pem"}, NO_ANCHORS),
        ({"ca_file": "sequence.der"}, NO_ANCHORS), ({"ca_file": "hashed"}, "Is a directory"),
        ({"ca_path": "missing"}, NO_ANCHORS), ({"ca_path": "empty"}, NO_ANCHORS), ({"ca_path": "junk"}, NO_ANCHORS),
        ({"ca_path": "ca.pem"}, NO_ANCHORS), ({"ca_file": "missing.pem", "ca_path": "hashed"}, "missing.pem"),
        ({"ca_file": "ca.pem", "crl_file": "missing.pem"}, "CRLfile = .*missing.pem: No such file"),
        ({"ca_file": "ca.pem", "crl_file": "ca.pem"}, "Failed to load CRLfile = .*ca.pem: no CRL found"),
        ({"ca_file": "ca.pem", "crl_file": "bad_crl.pem"}, "Failed to load CRLfile"),
    ],
)  # fmt: skip
def test_files_to_verify_by_must_be_usable(pki: Pki, option: str, files: dict[str, Any], problem: str) -> None:
    certificate = (pki.folder / "ca.pem").read_text()
    for name, text in {
        "empty.pem": "", "garbage.pem": "not a certificate",
        "trusted.pem": certificate.replace(" CERT", " TRUSTED CERT"),
        "half.pem": certificate + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "bad_crl.pem": "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    }.items():  # fmt: skip
        (pki.folder / name).write_text(text)
    (pki.folder / "sequence.der").write_bytes(b"\x30\x82\1\0" + bytes(256))
    for folder in "empty", "junk":
        (pki.folder / folder).mkdir(exist_ok=True)
    (pki.folder / "junk" / "note.txt").write_text("junk")
    with pytest.raises(ConfigError, match=problem) as caught:
        verifier(pki.checks(**files | {option: True}))
    assert caught.value.where == "Service [dns]"
    assert caught.value.remedy


def test_where_nothing_is_verified_files_to_verify_by_do_not_matter(pki: Pki) -> None:
    verifier(pki.checks(ca_file="missing.pem", ca_path="missing"))
    verifier(pki.checks(chain=True, ca_file="ca.pem", ca_path="missing"))
    with pytest.raises(ConfigError, match="CRLfile"):
        verifier(pki.checks(crl_file="missing.pem"))


@pytest.mark.parametrize("pool", ["hosts", "addresses", "emails"])
def test_names_without_a_verified_certificate_are_a_mistake(pki: Pki, pool: str) -> None:
    given: dict[str, Any] = {pool: ("",), "ca_file": "ca.pem"}
    with pytest.raises(ConfigError, match='Either "verifyChain" or "verifyPeer" has to be enabled'):
        verifier(pki.checks(**given))


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"cert": "missing.pem"}, "cert = .*missing.pem: No such file"), ({"cert": "good.pem"}, "cert = "),
        ({"cert": "good.pem", "key": "missing.key"}, "with key = .*missing.key"),
        ({"cert": "good.pem", "key": "expired.key"}, "mismatch"), ({"cert": "good.key", "key": "good.key"}, "cert = "),
        ({"cert": "good.pem", "key": "encrypted.key"}, "encrypted"), ({"cert": "client.p12"}, "PKCS #12"),
        ({"ciphers": "FOO"}, "no cipher match"), ({"ciphers": ""}, "no cipher match"),
        ({"ciphers": "TLS_AES_128_GCM_SHA256"}, "no cipher match"), ({"ciphers": "A\0B"}, "no cipher match"),
        ({"curve": "nope"}, "Unknown curve"), ({"sni": "a..b"}, "sni = a..b"), ({"sni": ".b"}, "sni"),
        ({"sni": "a\0b"}, "sni"),
        ({"oldest": ssl.TLSVersion.TLSv1_3, "newest": ssl.TLSVersion.TLSv1_2}, "no TLS version"),
        ({"newest": ssl.TLSVersion.MINIMUM_SUPPORTED}, "no TLS version"),
        ({"flags": ssl.OP_NO_TLSv1_2 | ssl.OP_NO_TLSv1_3}, "no TLS version"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(pki: Pki, more: dict[str, Any], problem: str) -> None:
    if not (pki.folder / "encrypted.key").exists():
        pki.openssl("pkcs8", "-topk8", "-in", "good.key", "-out", "encrypted.key", "-passout", "pass:x")
    files = {name: pki.path(str(value)) for name, value in more.items() if name in ("cert", "key")}
    with pytest.raises(ConfigError, match=problem) as caught:
        verifier(**more | files)
    assert caught.value.where == "Service [dns]"
    assert caught.value.remedy


def test_subjects_are_compared_as_openssl_does(pki: Pki, tmp_path: Path) -> None:
    """The hash is the one that openssl gives the file, for every kind of name."""
    oids = x509.NameOID
    names = [
        [], [(oids.COMMON_NAME, "a")], [(oids.COUNTRY_NAME, "DE"), (oids.ORGANIZATION_NAME, "  Ä  \t Gmb H ")],
        [(oids.EMAIL_ADDRESS, "A@B.test"), (x509.ObjectIdentifier("1.2.840.113556.1.4.656"), "x" * 300)],
    ]  # fmt: skip
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in name])
        pki.write(str(folder / "one.pem"), pki.signed_for(subject))
        pki.openssl("rehash", str(folder))
        found = list(pins.Store((), str(folder)).find(subject))
        assert len(found) == 1
