"""A stream: bytes between a socket and a codec."""

from __future__ import annotations

import pytest

from _udp2tls.codec import ConnectionLost
from _udp2tls.framing import Framing
from _udp2tls.stream import Stream, TcpClient
from tests.fakes import Tcp


def test_bytes_the_kernel_does_not_take_wait_in_order() -> None:
    sock = Tcp()
    stream = Stream(sock, Framing())
    sock.window = 3
    stream.codec.send([b"first", b"second"], 0.0)
    assert stream.flush() == 12
    stream.codec.send([b"third"], 0.0)
    sock.window = 5
    assert stream.flush() == 14
    sock.window = 100
    assert stream.flush() == 0
    assert sock.frames() == [b"first", b"second", b"third"]
    assert stream.flush() == 0


def test_nothing_to_read_is_no_message_and_no_end() -> None:
    stream = Stream(Tcp(), Framing())
    assert stream.receive(0.0) == []
    assert not stream.ended


def test_the_end_is_noted_and_an_end_inside_a_message_raised() -> None:
    sock = Tcp()
    sock.ended = True
    stream = Stream(sock, Framing())
    assert stream.receive(0.0) == []
    assert stream.ended
    sock.inbox.append(b"\0\5ab")
    assert stream.receive(0.0) == []
    with pytest.raises(ConnectionLost):
        stream.receive(0.0)


def test_farewell_sends_what_was_queued_before_the_goodbye() -> None:
    class Polite(Framing):
        def close(self) -> None:
            assert not self.outgoing()
            self.send([b"goodbye"], 0.0)

    sock = Tcp()
    stream = Stream(sock, Polite())
    stream.codec.send([b"last"], 0.0)
    stream.farewell()
    assert sock.frames() == [b"last", b"goodbye"]


def test_farewell_closes_whatever_the_socket_says() -> None:
    sock = Tcp()
    stream = Stream(sock, Framing())
    stream.codec.send([b"last"], 0.0)
    stream.farewell()
    assert sock.frames() == [b"last"]
    assert sock.closed
    broken = Tcp()
    broken.error = ConnectionResetError("injected")
    stream = Stream(broken, Framing())
    stream.codec.send([b"last"], 0.0)
    stream.farewell()
    assert broken.closed


def test_a_delivery_to_a_tcp_client_is_framed_and_noted() -> None:
    dirty: list[TcpClient] = []
    sock = Tcp()
    client = TcpClient(sock, Framing(), None, dirty, TcpClient.flush, 0.0)  # type: ignore[arg-type]
    client.waiting = 1
    client.deliver(b"answer")
    assert dirty == [client]
    assert client.waiting == 0
    client.flush()
    assert sock.frames() == [b"answer"]
