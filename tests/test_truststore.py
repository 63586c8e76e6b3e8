"""Windows verifies in place of OpenSSL, through truststore: where, and that nothing is weaker.

On Linux truststore has OpenSSL verify with the system's files, so that the way through it
can be tried here: SSL_CERT_FILE stands for the system's store.
"""

from __future__ import annotations

import ssl
import sys
from pathlib import Path

import pytest

from _udp2tls import tls
from tests.authority import NAME, Authority
from tests.test_tls import ask, connect, refusal, server_context

truststore = pytest.importorskip("truststore")
unix = pytest.mark.skipif(sys.platform == "win32", reason="there is no system's store to put an authority into")


@pytest.fixture
def session(certs: Authority, monkeypatch: pytest.MonkeyPatch) -> tls.Session:
    """Trust the tests' authority as if the system did."""
    monkeypatch.setenv("SSL_CERT_FILE", certs.ca_file)
    return tls.Session(tls.client_context(by_system=True), NAME)


def test_it_is_for_windows_and_for_those_who_say_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = ("", "", frozenset[bytes](), dict[str, str]())
    monkeypatch.setattr(tls, "_wine", lambda: False)
    assert tls.system_verifies(*nothing, platform="win32")
    assert not tls.system_verifies(*nothing, platform="linux")
    for said in (
        ("ca.pem", *nothing[1:]), ("", "me.pem", *nothing[2:]), ("", "", frozenset([bytes(32)]), {}),
        ("", "", frozenset(), {"SSL_CERT_FILE": "x"}), ("", "", frozenset(), {"SSL_CERT_DIR": "x"}),
    ):  # fmt: skip
        assert not tls.system_verifies(*said, platform="win32")
    monkeypatch.setattr(tls, "_wine", lambda: True)
    assert not tls.system_verifies(*nothing, platform="win32"), "Wine would believe anybody"
    monkeypatch.setattr(tls, "_wine", lambda: False)
    monkeypatch.setattr(tls, "find_spec", lambda name: None)
    assert not tls.system_verifies(*nothing, platform="win32")


@unix
def test_it_is_another_context(session: tls.Session) -> None:
    assert type(session.context).__module__.startswith("truststore")
    assert session.context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert session.context.verify_mode == ssl.CERT_REQUIRED
    assert session.context.check_hostname
    assert not session.context.hostname_checks_common_name


@unix
def test_who_is_trusted_is_asked_and_asked_again_on_a_resumed_connection(
    certs: Authority, session: tls.Session
) -> None:
    context = server_context(certs.server_cert, certs.server_key)
    for resumed in (False, True):
        client, server = connect(session, context)
        ask(client, server)
        assert client.resumed is resumed


@unix
def test_an_authority_the_system_does_not_know_is_refused(certs: Authority, session: tls.Session) -> None:
    assert "unable to get local issuer certificate" in refusal(session, certs.other_cert, certs.other_key)
    assert "self-signed certificate" in refusal(session, certs.self_signed_cert, certs.self_signed_key)


@unix
def test_names_and_dates_are_checked(certs: Authority, session: tls.Session) -> None:
    assert f"not valid for '{NAME}'" in refusal(session, certs.wrong_name_cert, certs.wrong_name_key)
    assert "expired" in refusal(session, certs.expired_cert, certs.expired_key)
    address = tls.Session(session.context, "192.0.2.1")
    assert "IP address mismatch" in refusal(address, certs.server_cert, certs.server_key)


@unix
def test_a_refusal_after_the_handshake_is_a_refusal(
    certs: Authority, session: tls.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: OpenSSL checks nothing, and the system is asked when the handshake is over."""
    from truststore import _api

    def refuse(*arguments: object, server_hostname: str) -> None:
        assert server_hostname == NAME
        raise ssl.SSLCertVerificationError("not trusted by the system")

    monkeypatch.setattr(_api, "_verify_peercerts_impl", refuse)
    assert "not trusted by the system" in refusal(session, certs.server_cert, certs.server_key)


@pytest.mark.skipif(sys.platform != "win32" or not tls._wine(), reason="Wine only")
def test_wine_is_known() -> None:
    assert not tls.system_verifies("", "", frozenset(), {})


def test_a_file_of_authorities_is_the_only_trust(certs: Authority, tmp_path: Path) -> None:
    context = tls.client_context(certs.other_ca_file)
    assert type(context) is ssl.SSLContext
    assert "unable to get" in refusal(tls.Session(context, NAME), certs.server_cert, certs.server_key)
