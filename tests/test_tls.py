"""tls: client and server in memory, their streams cut in every way."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from _udp2tls import tls
from _udp2tls.codec import CertificateError, Codec, CodecError, ConnectionLost, ProtocolError
from _udp2tls.config import ConfigError
from _udp2tls.framing import Framing
from tests.authority import NAME, Authority

SECRET = b"a query nobody else may see"
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
each_version = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
CUTS = {"whole": 1 << 20, "byte by byte": 1, "7 bytes": 7}


def server_context(cert: str, key: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture
def good(certs: Authority) -> ssl.SSLContext:
    return server_context(certs.server_cert, certs.server_key)


@pytest.fixture
def session(certs: Authority) -> tls.Session:
    return tls.Session(tls.client_context(certs.ca_file), NAME)


def carry(source: Codec, target: Codec, cut: int = 1 << 20) -> list[bytes]:
    """Move what ``source`` has to say, ``cut`` bytes at a time; return the messages."""
    data = b"".join(source.outgoing())
    return [m for at in range(0, len(data), cut) for m in target.receive((data[at : at + cut],), 0.0)]


def shake_hands(client: tls.Tls, server: tls.Tls, cut: int = 1 << 20) -> None:
    for _ in range(3):
        carry(client, server, cut)
        carry(server, client, cut)


def connect(session: tls.Session, context: ssl.SSLContext, cut: int = 1 << 20) -> tuple[tls.Tls, tls.Tls]:
    client, server = tls.Tls.client(Framing(), session), tls.Tls.server(Framing(), context)
    shake_hands(client, server, cut)
    assert client.authenticated
    assert server.authenticated
    return client, server


def ask(client: tls.Tls, server: tls.Tls, cut: int = 1 << 20) -> None:
    client.send([SECRET], 0.0)
    assert carry(client, server, cut) == [SECRET]
    server.send([b"answer"], 0.0)
    assert carry(server, client, cut) == [b"answer"]


def refusal(session: tls.Session, cert: str, key: str, version: ssl.TLSVersion | None = None) -> str:
    """Connect to a server that must be refused; return what the user is told."""
    client, server = tls.Tls.client(Framing(), session), tls.Tls.server(Framing(), server_context(cert, key, version))
    with pytest.raises(CertificateError) as caught:
        shake_hands(client, server)
    assert not client.authenticated
    assert client.room == 0
    with pytest.raises(RuntimeError):
        client.send([SECRET], 0.0)
    return str(caught.value)


@each_version
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_messages_pass_however_the_stream_is_cut(
    certs: Authority, session: tls.Session, cut: int, version: ssl.TLSVersion
) -> None:
    client, server = connect(session, server_context(certs.server_cert, certs.server_key, version), cut)
    for _ in range(3):
        ask(client, server, cut)
    assert client.description["version"] == version.name.replace("_", ".")
    assert client.description["name"] == NAME


@each_version
def test_there_is_no_room_before_the_peer_is_authenticated(
    certs: Authority, session: tls.Session, version: ssl.TLSVersion
) -> None:
    client = tls.Tls.client(Framing(), session)
    server = tls.Tls.server(Framing(), server_context(certs.server_cert, certs.server_key, version))
    while not client.authenticated:
        assert client.room == 0
        with pytest.raises(RuntimeError):
            client.send([SECRET], 0.0)
        carry(client, server)
        for byte in b"".join(server.outgoing()):
            assert client.authenticated == (client.room > 0)
            client.receive((bytes((byte,)),), 0.0)
    assert client.room > 0


def test_no_application_byte_leaves_before_the_handshake_is_done(session: tls.Session, good: ssl.SSLContext) -> None:
    """Not even one that somebody slipped past ``send``."""
    inner = Framing()
    client, server = tls.Tls.client(inner, session), tls.Tls.server(Framing(), good)
    inner.send([SECRET], 0.0)
    hello = b"".join(client.outgoing())
    assert hello
    assert SECRET not in hello
    assert client.outgoing() == []
    server.receive((hello,), 0.0)
    carry(server, client)
    assert client.authenticated
    assert carry(client, server) == [SECRET]


@each_version
@pytest.mark.parametrize(
    ("kind", "words"),
    [("expired", "expired"), ("wrong_name", NAME), ("other", "unable to get local issuer"), ("self_signed", "self")],
)
def test_a_bad_certificate_is_refused_and_the_user_told_why(
    certs: Authority, session: tls.Session, kind: str, words: str, version: ssl.TLSVersion
) -> None:
    said = refusal(session, getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key"), version)
    assert said.startswith("certificate refused: ")
    assert words in said


def test_a_refused_server_is_told_so_by_an_alert(certs: Authority, session: tls.Session) -> None:
    client = tls.Tls.client(Framing(), session)
    server = tls.Tls.server(Framing(), server_context(certs.expired_cert, certs.expired_key, TLS12))
    carry(client, server)
    with pytest.raises(CertificateError):
        carry(server, client)
    with pytest.raises(ProtocolError, match="certificate expired"):
        carry(client, server)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_in_the_certificate_is_a_name(certs: Authority, session: tls.Session, address: str) -> None:
    session.name = address
    ask(*connect(session, server_context(certs.server_cert, certs.server_key)))
    session.name = "192.0.2.1"
    assert "192.0.2.1" in refusal(session, certs.server_cert, certs.server_key)


def pin(path: str) -> bytes:
    return tls.spki_digest(ssl.PEM_cert_to_DER_cert(Path(path).read_text()))


@pytest.mark.parametrize("kind", ["server_cert", "ca_file"])
def test_a_pin_of_the_chain_matches(
    certs: Authority, session: tls.Session, good: ssl.SSLContext, kind: str
) -> None:
    session.pins = frozenset({pin(getattr(certs, kind)), bytes(32)})
    ask(*connect(session, good))


def test_a_wrong_pin_is_refused_and_the_right_ones_are_shown(certs: Authority, session: tls.Session) -> None:
    session.pins = frozenset({bytes(32), pin(certs.other_ca_file)})
    said = refusal(session, certs.server_cert, certs.server_key)
    assert said.startswith("certificate refused: no pin matches")
    for path in (certs.server_cert, certs.ca_file):
        assert tls.format_pin(pin(path)) in said
    assert session.ticket is None


def test_a_pin_does_not_replace_the_other_checks(certs: Authority, session: tls.Session) -> None:
    for kind in ("expired", "wrong_name", "other", "self_signed"):
        session.pins = frozenset({pin(getattr(certs, f"{kind}_cert"))})
        assert "pin" not in refusal(session, getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key"))


def tbs(path: str) -> bytes:
    """Take it out of the certificate with nothing but the rules of DER."""
    der = ssl.PEM_cert_to_DER_cert(Path(path).read_text())
    assert der[0] == der[4] == 0x30  # a SEQUENCE that begins with a SEQUENCE,
    assert der[1] == der[5] == 0x82  # the length of either in two bytes
    return hashlib.sha256(der[4 : 8 + int.from_bytes(der[6:8], "big")]).digest()


@pytest.mark.parametrize("kind", ["server_cert", "ca_file"])
def test_a_stamps_hash_of_the_chain_matches(
    certs: Authority, session: tls.Session, good: ssl.SSLContext, kind: str
) -> None:
    session.hashes = frozenset({tbs(getattr(certs, kind)), bytes(32)})
    for _ in range(2):  # the second time resumed
        ask(*connect(session, good))


def test_a_wrong_hash_is_refused_and_so_is_the_hash_of_something_else(certs: Authority, session: tls.Session) -> None:
    whole = hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(certs.server_cert).read_text())).digest()
    session.hashes = frozenset({tbs(certs.other_ca_file), tbs(certs.expired_cert), pin(certs.server_cert), whole})
    said = refusal(session, certs.server_cert, certs.server_key)
    assert said.startswith("certificate refused: no hash of the stamp matches")
    for path in (certs.server_cert, certs.ca_file):
        assert tbs(path).hex() in said
    assert session.ticket is None


def test_a_hash_replaces_neither_pins_nor_the_other_checks(certs: Authority, session: tls.Session) -> None:
    session.hashes, session.pins = frozenset({tbs(certs.server_cert)}), frozenset({bytes(32)})
    assert "no pin matches" in refusal(session, certs.server_cert, certs.server_key)
    session.hashes, session.pins = frozenset({bytes(32)}), frozenset({pin(certs.server_cert)})
    assert "no hash of the stamp" in refusal(session, certs.server_cert, certs.server_key)
    session.pins = frozenset()
    for kind in ("expired", "wrong_name", "other", "self_signed"):
        session.hashes = frozenset({tbs(getattr(certs, f"{kind}_cert"))})
        assert "hash" not in refusal(session, getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key"))


def test_without_a_way_to_the_chain_only_the_leaf_counts(
    certs: Authority, session: tls.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf = ssl.PEM_cert_to_DER_cert(Path(certs.server_cert).read_text())
    monkeypatch.setattr(tls, "chain_of", lambda tls: [leaf])
    session.hashes = frozenset({tbs(certs.ca_file)})
    assert "no hash of the stamp" in refusal(session, certs.server_cert, certs.server_key)


@each_version
@pytest.mark.parametrize("pinned", [False, True])
def test_the_next_connection_resumes_the_session(
    certs: Authority, session: tls.Session, version: ssl.TLSVersion, pinned: bool
) -> None:
    session.pins = frozenset({pin(certs.server_cert)} if pinned else ())
    context = server_context(certs.server_cert, certs.server_key, version)
    client, server = connect(session, context)
    assert client.description["resumed"] == "new session"
    assert session.ticket is None  # nothing is learned before the first answer
    ask(client, server)
    for _ in range(3):
        client, server = connect(session, context)
        assert client.description["resumed"] == "resumed"
        ask(client, server)


def test_a_server_that_lost_its_tickets_is_authenticated_anew(certs: Authority, session: tls.Session) -> None:
    for _ in range(2):
        client, server = connect(session, server_context(certs.server_cert, certs.server_key))
        assert client.description["resumed"] == "new session"
        ask(client, server)
    assert "expired" in refusal(session, certs.expired_cert, certs.expired_key)


def test_a_server_without_tickets_is_served_too(session: tls.Session, good: ssl.SSLContext) -> None:
    good.num_tickets = 0
    for _ in range(2):
        client, server = connect(session, good)
        assert client.description["resumed"] == "new session"
        ask(client, server)


def test_a_close_notify_closes_without_spinning(session: tls.Session, good: ssl.SSLContext) -> None:
    client, server = connect(session, good)
    server.send([b"one", b"last"], 0.0)
    data = b"".join(server.outgoing())
    server.close()
    assert client.receive((data, *server.outgoing()), 0.0) == [b"one", b"last"]
    assert (client.closing, client.room) == (True, 0)
    for _ in range(3):  # SSLObject.read would return b"" for ever
        assert client.receive((), 0.0) == []
        assert client.receive((b"more",), 0.0) == []
    assert (client.closing, client.room) == (True, 0)
    assert client.eof(0.0) == []


def test_both_ends_may_close_twice_and_at_once(session: tls.Session, good: ssl.SSLContext) -> None:
    client, server = connect(session, good)
    for end in (client, server, client, server):
        end.close()
    assert carry(client, server) == carry(server, client) == []
    assert client.closing
    assert server.closing
    client.close()
    assert client.eof(0.0) == server.eof(0.0) == []


def test_an_end_without_close_notify_is_a_lost_connection(session: tls.Session, good: ssl.SSLContext) -> None:
    """An attacker could cut the stream; a TLS close cannot be forged."""
    client, server = connect(session, good)
    ask(client, server)
    for end in (client, server):
        with pytest.raises(ConnectionLost, match="without a TLS close"):
            end.eof(0.0)


def test_a_close_notify_inside_a_message_is_a_lost_connection(session: tls.Session, good: ssl.SSLContext) -> None:
    client, server = connect(session, good)
    server._tls.write(b"\0\4ab")
    server.close()
    assert carry(server, client) == []
    with pytest.raises(ConnectionLost, match="into a message"):
        client.eof(0.0)


def test_an_end_during_the_handshake_is_a_lost_connection(session: tls.Session, good: ssl.SSLContext) -> None:
    client, server = tls.Tls.client(Framing(), session), tls.Tls.server(Framing(), good)
    for end in (client, server):
        end.close()  # has no word for it yet, and must not fail
        with pytest.raises(ConnectionLost, match="during the TLS handshake"):
            end.eof(0.0)


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(200), b"\x16\x03\x03\0\5abcde", b"\x15\x03\x03\0\2\2\x28"]
)
def test_garbage_instead_of_a_handshake_is_a_protocol_error(session: tls.Session, garbage: bytes) -> None:
    client = tls.Tls.client(Framing(), session)
    with pytest.raises(ProtocolError) as caught:
        client.receive((garbage,), 0.0)
    assert str(caught.value).startswith("TLS handshake: ")
    assert not client.authenticated


def test_garbage_on_a_connection_is_a_protocol_error(session: tls.Session, good: ssl.SSLContext) -> None:
    client, server = connect(session, good)
    server.send([b"answer"], 0.0)
    data = bytearray(b"".join(server.outgoing()))
    data[-1] ^= 1
    with pytest.raises(ProtocolError, match=r"^TLS: ") as caught:
        client.receive((bytes(data),), 0.0)
    assert not isinstance(caught.value, CertificateError)


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=200))
@example(b"\x80")
def test_random_bytes_raise_codec_errors_at_worst(certs: Authority, data: bytes) -> None:
    client = tls.Tls.client(Framing(), tls.Session(tls.client_context(certs.ca_file), NAME))
    with contextlib.suppress(CodecError):
        assert client.receive((data,), 0.0) == []
    with pytest.raises(CodecError):
        client.eof(0.0)
    assert not client.authenticated


def test_an_old_tls_version_is_refused(certs: Authority) -> None:
    assert tls.client_context(certs.ca_file).minimum_version == TLS12


@each_version
def test_a_server_may_require_a_client_certificate(certs: Authority, version: ssl.TLSVersion) -> None:
    context = server_context(certs.server_cert, certs.server_key, version)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certs.ca_file)
    shown = tls.client_context(certs.ca_file, certs.client_cert, certs.client_key)
    client, server = connect(tls.Session(shown, NAME), context)
    ask(client, server)
    bare = tls.Tls.client(Framing(), tls.Session(tls.client_context(certs.ca_file), NAME))
    server = tls.Tls.server(Framing(), context)
    carry(bare, server)
    carry(server, bare)
    with pytest.raises(ProtocolError):
        carry(bare, server)
    with pytest.raises(ProtocolError, match=r"alert (certificate required|handshake failure)"):
        carry(server, bare)


@each_version
@pytest.mark.parametrize("cut", [1 << 20, 16384, 1000])
def test_large_batches_arrive_whole(
    certs: Authority, session: tls.Session, cut: int, version: ssl.TLSVersion
) -> None:
    ends = connect(session, server_context(certs.server_cert, certs.server_key, version))
    batch = [bytes((n,)) * size for n, size in enumerate((16380, 16381, 16382, 16383, 16384, 65535, 1, 65535, 40000))]
    for source, target in (ends, ends[::-1]):
        source.send(batch, 0.0)
        assert carry(source, target, cut) == batch


def test_the_application_protocol_dot_is_offered(session: tls.Session, good: ssl.SSLContext) -> None:
    good.set_alpn_protocols(["h2", "dot"])
    client, server = connect(session, good)
    assert client._tls.selected_alpn_protocol() == server._tls.selected_alpn_protocol() == "dot"


def test_the_name_is_told_to_the_server(session: tls.Session, good: ssl.SSLContext) -> None:
    seen: list[str | None] = []
    good.sni_callback = lambda tls, name, context: seen.append(name)
    connect(session, good)
    assert seen == [NAME]


@pytest.mark.parametrize(("sni", "told"), [(None, NAME), ("elsewhere.example", "elsewhere.example"), ("", None)])
def test_the_server_may_be_told_another_name_or_none(
    session: tls.Session, good: ssl.SSLContext, sni: str | None, told: str | None
) -> None:
    session.context.check_hostname = False
    session.sni = sni
    seen: list[str | None] = []
    good.sni_callback = lambda tls, name, context: seen.append(name)
    client, _ = connect(session, good)
    assert seen == [told]
    assert client.description["name"] == NAME


@each_version
def test_a_check_of_the_callers_own_comes_after_every_handshake(
    certs: Authority, session: tls.Session, version: ssl.TLSVersion
) -> None:
    seen: list[bool] = []

    def check(peer: ssl.SSLObject) -> None:
        seen.append(bool(peer.session_reused))
        if len(seen) == 3:
            raise CertificateError("certificate refused: enough")

    session.check = check
    context = server_context(certs.server_cert, certs.server_key, version)
    for _ in range(2):
        ask(*connect(session, context))
    client, server = tls.Tls.client(Framing(), session), tls.Tls.server(Framing(), context)
    with pytest.raises(CertificateError, match="enough"):
        shake_hands(client, server)
    assert seen == [False, True, True]
    assert (client.authenticated, client.room) == (False, 0)
    with pytest.raises(RuntimeError):
        client.send([SECRET], 0.0)
    assert "expired" in refusal(session, certs.expired_cert, certs.expired_key)
    assert len(seen) == 3


@each_version
def test_a_session_need_not_be_resumed(certs: Authority, session: tls.Session, version: ssl.TLSVersion) -> None:
    session.resume = False
    context = server_context(certs.server_cert, certs.server_key, version)
    for _ in range(2):
        client, server = connect(session, context)
        ask(client, server)
        assert not client.resumed
    assert session.ticket is None


@pytest.mark.parametrize(
    ("option", "files"),
    [
        ("--ca-file", ("missing.pem", "", "")),
        ("--ca-file", ("server_key", "", "")),
        ("--client-cert", ("ca_file", "missing.pem", "")),
        ("--client-cert", ("ca_file", "client_cert", "")),
        ("--client-cert", ("ca_file", "client_cert", "server_key")),
        ("--client-cert", ("ca_file", "client_cert", "encrypted")),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    certs: Authority, option: str, files: tuple[str, str, str], tmp_path: Path
) -> None:
    secret = tmp_path / "encrypted.pem"
    secret.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    paths = [str(secret) if file == "encrypted" else getattr(certs, file, file) for file in files]
    with pytest.raises(ConfigError) as caught:
        tls.client_context(*paths)
    assert str(caught.value).startswith(f"{option}: cannot use ")
    assert [path for path in paths if path][1 if option == "--client-cert" else 0] in str(caught.value)
    assert caught.value.remedy
