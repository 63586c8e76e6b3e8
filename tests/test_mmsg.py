"""Many datagrams in one system call, on real sockets: the calls are the kernel's."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator

import pytest

from _udp2tls.listener import readable

if sys.platform != "linux":
    pytest.skip("Linux alone has these calls", allow_module_level=True)

from _udp2tls import mmsg

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Yield our socket and a client's."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as clients:
        for sock in (ours, clients):
            sock.bind((request.param, 0))
            sock.settimeout(5)
        ours.setblocking(False)
        clients.connect(ours.getsockname())
        yield ours, clients


def test_datagrams_and_their_senders_come_whole_and_in_order(pair: Pair) -> None:
    ours, client = pair
    calls = mmsg.Calls(ours.family)
    sizes = [1, 12, 39, 512, 1232, mmsg.ROOM_IN - 1, 0, 7]
    for round_ in range(3):
        sent = [bytes([number + round_]) * size for number, size in enumerate(sizes)]
        for datagram in sent:
            client.send(datagram)
        received, unusable = calls.receive(ours.fileno())
        assert [message for message, _ in received] == sent
        assert {readable(address) for _, address in received} == {client.getsockname()[:2]}
        assert unusable == 0


def test_an_empty_socket_blocks_and_a_bad_one_fails(pair: Pair) -> None:
    ours, _ = pair
    calls = mmsg.Calls(ours.family)
    with pytest.raises(BlockingIOError):
        calls.receive(ours.fileno())
    with pytest.raises(OSError, match=str(errno.EBADF)):
        calls.receive(-1)


def test_a_batch_has_a_most_and_the_rest_comes_next(pair: Pair) -> None:
    ours, client = pair
    calls = mmsg.Calls(ours.family)
    for number in range(mmsg.MOST + 3):
        client.send(b"%d" % number)
    first, _ = calls.receive(ours.fileno())
    second, _ = calls.receive(ours.fileno())
    assert [message for message, _ in first + second] == [b"%d" % number for number in range(mmsg.MOST + 3)]
    assert len(first) == mmsg.MOST


def test_a_datagram_longer_than_its_place_is_unusable_and_harms_no_other(pair: Pair) -> None:
    ours, client = pair
    calls = mmsg.Calls(ours.family)
    for datagram in (b"before", b"x" * (mmsg.ROOM_IN + 1), b"y" * 60000, b"after"):
        client.send(datagram)
    received, unusable = calls.receive(ours.fileno())
    assert [message for message, _ in received] == [b"before", b"after"]
    assert unusable == 2


def test_answers_go_to_who_asked_whole_and_in_order(pair: Pair) -> None:
    ours, client = pair
    calls = mmsg.Calls(ours.family)
    client.send(b"q")
    ((_, address),), _ = calls.receive(ours.fileno())
    for lengths in ([1, 1280, 3], [1280] * mmsg.MOST, range(1, mmsg.MOST * 2 + 2), [40]):
        answers = [bytes([size % 251]) * size for size in lengths]
        assert calls.send(ours.fileno(), [(one, address) for one in answers]) == 0
        assert [client.recv(4096) for _ in answers] == answers


def test_what_cannot_be_sent_is_counted_and_the_others_are_sent(pair: Pair) -> None:
    ours, client = pair
    calls = mmsg.Calls(ours.family)
    client.send(b"q")
    ((_, address),), _ = calls.receive(ours.fileno())
    nowhere = address[:2] + b"\0\0" + address[4:]  # port 0
    datagrams = [(b"1", nowhere), (b"2", address), (b"3", address), (b"4", nowhere)]
    assert calls.send(ours.fileno(), datagrams) == 2
    assert [client.recv(4096) for _ in range(2)] == [b"2", b"3"]
    assert calls.send(-1, datagrams) == len(datagrams)


def test_each_family_has_addresses_of_its_own_and_others_have_no_such_calls() -> None:
    assert mmsg.Calls(socket.AF_INET).namelen != mmsg.Calls(socket.AF_INET6).namelen
    with pytest.raises(OSError, match="not here"):
        mmsg.Calls(-1)
