"""codec: every protocol keeps the contract that the loop relies on."""

from __future__ import annotations

import math
import ssl

import pytest

from _udp2tls import codec, tls
from _udp2tls.codec import Codec
from _udp2tls.framing import Framing
from tests import authority


@pytest.fixture(params=["framing", "tls"])
def pair(request: pytest.FixtureRequest, certs: authority.Authority) -> tuple[Codec, Codec]:
    """A client and a server ready to exchange messages."""
    if request.param == "framing":
        return Framing(), Framing()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.server_cert, certs.server_key)
    session = tls.Session(tls.client_context(certs.ca_file), authority.NAME)
    ends = (tls.Tls.client(Framing(), session), tls.Tls.server(Framing(), context))
    for _ in range(3):
        carry(*ends)
        carry(*reversed(ends))
    return ends


def carry(source: Codec, target: Codec) -> list[bytes]:
    return target.receive(source.outgoing(), 1.0)


def test_a_ready_codec_has_room_and_no_deadline(pair: tuple[Codec, Codec]) -> None:
    for end in pair:
        assert end.room > 0
        assert end.deadline == math.inf
        assert end.closing is False


def test_messages_arrive_in_order_in_both_directions(pair: tuple[Codec, Codec]) -> None:
    client, server = pair
    client.send([b"one", b"two"], 1.0)
    client.send((b"three",), 1.0)
    assert carry(client, server) == [b"one", b"two", b"three"]
    server.send([b"four"], 1.0)
    assert carry(server, client) == [b"four"]


def test_outgoing_hands_every_chunk_over_once(pair: tuple[Codec, Codec]) -> None:
    client, server = pair
    client.send([b"one"], 1.0)
    chunks = client.outgoing()
    assert chunks
    assert client.outgoing() == []
    client.send([b"two"], 1.0)
    later = client.outgoing()
    assert later is not chunks
    chunks.append(b"")  # the list is the caller's
    assert client.outgoing() == []
    assert server.receive([*chunks, *later], 1.0) == [b"one", b"two"]


def test_passing_time_alone_changes_nothing(pair: tuple[Codec, Codec]) -> None:
    client, server = pair
    for end in pair:
        assert end.receive((), 2.0) == []
        assert end.outgoing() == []
    client.send([b"one"], 3.0)
    chunk = b"".join(client.outgoing())
    assert server.receive((chunk[:1],), 3.0) == []
    assert server.receive((), 4.0) == []
    assert server.receive((chunk[1:],), 5.0) == [b"one"]


def test_sending_nothing_says_nothing(pair: tuple[Codec, Codec]) -> None:
    pair[0].send([], 1.0)
    assert carry(*pair) == []


def test_after_close_the_other_end_may_end_too(pair: tuple[Codec, Codec]) -> None:
    client, server = pair
    client.send([b"last"], 1.0)
    chunks = client.outgoing()
    client.close()
    assert server.receive([*chunks, *client.outgoing()], 1.0) == [b"last"]
    assert server.eof(1.0) == []


def test_an_end_inside_a_message_is_a_codec_error(pair: tuple[Codec, Codec]) -> None:
    client, server = pair
    client.send([b"message"], 1.0)
    chunk = b"".join(client.outgoing())
    assert server.receive((chunk[:-1],), 1.0) == []
    with pytest.raises(codec.ConnectionLost) as caught:
        server.eof(1.0)
    assert str(caught.value)


def test_one_except_clause_catches_every_error() -> None:
    for error in (codec.ProtocolError, codec.CertificateError, codec.ConnectionLost):
        assert issubclass(error, codec.CodecError)
    assert issubclass(codec.CertificateError, codec.ProtocolError)
