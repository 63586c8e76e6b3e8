"""A stream: bytes between a socket and a codec."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from _udp2tls.codec import ConnectionLost
from _udp2tls.framing import Framing
from _udp2tls.stream import Datagrams, Stream, TcpClient
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


class Connected:
    """A connected UDP socket. What ``said`` holds is received or raised, what ``refuse`` holds is raised on sending."""

    def __init__(self, *said: bytes | OSError) -> None:
        self.said = list(said)
        self.refuse: list[OSError | None] = []
        self.sent: list[bytes] = []

    def recv(self, size: int) -> bytes:
        if not self.said:
            raise BlockingIOError
        said = self.said.pop(0)
        if isinstance(said, OSError):
            raise said
        return said

    def send(self, data: bytes) -> int:
        if self.refuse and (error := self.refuse.pop(0)):
            raise error
        self.sent.append(data)
        return len(data)

    def close(self) -> None:
        pass


class Packets:
    """A codec of datagrams: what comes in is a message, what goes out is given."""

    def __init__(self, *out: bytes, room: int = 1) -> None:
        self.out, self.room = list(out), room

    def receive(self, chunks: list[bytes], now: float) -> list[bytes]:
        return list(chunks)

    def outgoing(self) -> list[bytes]:
        out, self.out = self.out, []
        return out


def datagrams(sock: Connected, codec: Any) -> Datagrams:
    return Datagrams(sock, codec)


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "injected")


def test_datagrams_stay_apart_both_ways() -> None:
    sock = Connected(b"one", b"two")
    stream = datagrams(sock, Packets(b"a", b"b"))
    assert stream.receive(0.0) == [b"one", b"two"]
    assert stream.receive(0.0) == []
    assert not stream.ended
    assert stream.flush() == 0
    assert sock.sent == [b"a", b"b"]


def test_of_datagrams_that_cannot_be_sent_only_those_are_lost() -> None:
    sock = Connected()
    sock.refuse = [REFUSED, None, OSError(errno.EMSGSIZE, "injected"), None]
    assert datagrams(sock, Packets(b"a", b"b", b"c", b"d")).flush() == 0
    assert sock.sent == [b"b", b"d"]
    sock.refuse = [BlockingIOError()]
    assert datagrams(sock, Packets(b"e", b"f")).flush() == 0, "the kernel's buffer is full: no use to go on"
    assert sock.sent == [b"b", b"d"]


def test_a_complaint_that_nobody_listens_counts_only_before_there_is_a_certificate() -> None:
    assert datagrams(Connected(REFUSED), Packets()).receive(0.0) == []
    assert datagrams(Connected(b"one", REFUSED, b"two"), Packets(room=0)).receive(0.0) == [b"one"]
    with pytest.raises(ConnectionRefusedError):
        datagrams(Connected(REFUSED), Packets(room=0)).receive(0.0)
    sock = Connected()
    sock.refuse = [REFUSED]
    with pytest.raises(ConnectionRefusedError):
        datagrams(sock, Packets(b"a", room=0)).flush()


def test_a_network_that_is_gone_is_said() -> None:
    sock = Connected()
    sock.refuse = [OSError(errno.ENETUNREACH, "injected")]
    with pytest.raises(OSError, match="injected"):
        datagrams(sock, Packets(b"a")).flush()
