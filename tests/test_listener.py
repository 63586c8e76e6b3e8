"""A UDP listener: how many datagrams a turn reads, and how crowds are read and answered."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections import Counter
from typing import Any

import pytest

from _udp2tls.listener import BATCH, CROWD, Listener, calls_of, readable
from tests.fakes import CLIENT, Udp, World, answer, query

RAW = socket.AF_INET.to_bytes(2, "little") + (4000).to_bytes(2, "big") + bytes((192, 0, 2, 7)) + bytes(8)


class Calls:
    """In place of mmsg's: what comes is in ``inbox``, what is sent in ``sent``."""

    def __init__(self) -> None:
        self.inbox: list[tuple[bytes, bytes]] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self.unusable = 0
        self.failing = 0
        self.error: OSError | None = None
        self.fds: list[int] = []

    def receive(self, fd: int) -> tuple[list[tuple[bytes, bytes]], int]:
        if self.error:
            raise self.error
        if not self.inbox:
            raise BlockingIOError
        found, self.inbox = self.inbox[:BATCH], self.inbox[BATCH:]
        return found, self.unusable

    def send(self, fd: int, datagrams: list[tuple[bytes, bytes]]) -> int:
        self.fds.append(fd)
        self.sent += datagrams
        return self.failing


class Socket(Udp):
    fd = 7

    def fileno(self) -> int:
        return self.fd


class Scene:
    def __init__(self, calls: Calls | None = None) -> None:
        self.calls = calls or Calls()
        self.sock = Socket()
        self.counts: Counter[str] = Counter()
        self.dirty: list[Any] = []
        self.asked = 0
        self.turn = 0
        self.listener = Listener(self.sock, False, self.counts, self.dirty, self._find)

    def _find(self, sock: object) -> Any:
        self.asked += 1
        return self.calls

    def receive(self, *datagrams: bytes) -> list[tuple[bytes, Any]]:
        self.turn += 1
        self.sock.inbox.extend((one, CLIENT) for one in datagrams)
        return self.listener.receive(self.turn)

    def make_crowd(self) -> None:
        """Have so many come, one turn after the other, that they are read at once."""
        for _ in range(4):
            self.calls.inbox = [(b"q", RAW)] * CROWD
            self.receive(*(b"q",) * CROWD)
        assert self.calls.inbox == []
        self.sock.inbox.clear()


def test_queries_that_come_one_by_one_are_read_one_by_one() -> None:
    scene = Scene()
    for number in range(20):
        ((message, (hand_over, address)),) = scene.receive(b"%d" % number)
        assert message == b"%d" % number
        assert address == CLIENT
        hand_over(b"an answer", address)
        scene.turn += 1  # the answers' own
    assert scene.sock.reads == 20
    assert scene.sock.sent == [(b"an answer", CLIENT)] * 20
    assert scene.asked == 0


def test_it_reads_more_when_the_turn_before_left_some_and_fewer_at_the_end() -> None:
    scene = Scene()
    scene.calls = None  # type: ignore[assignment]
    scene.sock.inbox.extend([(b"q", CLIENT)] * 20)
    assert [len(scene.receive()) for _ in range(4)] == [1, 1, 4, 14]
    scene.sock.inbox.extend([(b"q", CLIENT)] * 20)
    assert [len(scene.receive()) for _ in range(3)] == [14, 6, 0]
    assert [len(scene.receive()) for _ in range(3)] == [0, 0, 0]
    reads = scene.sock.reads
    for _ in range(3):
        scene.turn += 1  # an answer's
        assert len(scene.receive(b"q")) == 1
    assert scene.sock.reads == reads + 3


def test_a_sender_without_a_port_is_dropped() -> None:
    scene = Scene()
    scene.sock.inbox.append((b"q", ("192.0.2.7", 0)))
    assert scene.listener.receive(1) == []
    assert scene.counts["dropped"] == 1


def test_an_error_that_belongs_to_an_earlier_answer_costs_nothing_else() -> None:
    scene = Scene()
    scene.sock.inbox.append(OSError(errno.ECONNREFUSED, "refused"))
    scene.sock.inbox.append((b"q", CLIENT))
    assert scene.listener.receive(1) == []
    assert len(scene.listener.receive(2)) == 1
    assert scene.counts["dropped"] == 1


def test_a_crowd_is_read_at_once_and_answered_at_the_end_of_the_turn() -> None:
    scene = Scene()
    scene.make_crowd()
    scene.calls.inbox = [(b"%d" % number, RAW) for number in range(CROWD)]
    received = scene.receive()
    assert [message for message, _ in received] == [b"%d" % number for number in range(CROWD)]
    for message, (hand_over, address) in received:
        hand_over(b"answer to " + message, address)
    assert scene.calls.sent == []
    assert scene.dirty == [scene.listener]
    scene.listener.flush_answers()
    assert scene.calls.sent == [(b"answer to %d" % number, RAW) for number in range(CROWD)]
    assert scene.calls.fds == [Socket.fd]
    assert scene.asked == 1
    scene.listener.flush_answers()
    assert len(scene.calls.fds) == 1


def test_when_the_crowd_has_gone_queries_are_read_one_by_one_again() -> None:
    scene = Scene()
    scene.make_crowd()
    scene.calls.inbox = [(b"last", RAW)]
    assert len(scene.receive()) == 1
    assert [len(scene.receive(b"q")) for _ in range(2)] == [1, 1]
    scene.make_crowd()
    scene.calls.inbox = []
    assert scene.receive() == []
    assert len(scene.receive(b"q")) == 1


def test_without_such_calls_a_crowd_is_read_one_by_one_and_they_are_not_looked_for_again() -> None:
    scene = Scene()
    scene.calls = None  # type: ignore[assignment]
    scene.sock.inbox.extend([(b"q", CLIENT)] * 200)
    assert sum(len(scene.receive()) for _ in range(12)) == 200
    assert scene.asked == 1


def test_what_was_unusable_or_could_not_be_sent_is_counted() -> None:
    scene = Scene()
    scene.make_crowd()
    scene.calls.inbox, scene.calls.unusable, scene.calls.failing = [(b"q", RAW)] * CROWD, 3, 2
    for _, (hand_over, address) in scene.receive():
        hand_over(b"a", address)
    scene.listener.flush_answers()
    assert scene.counts["dropped"] == 3
    assert scene.counts["unsendable"] == 2
    scene.calls.error = OSError(errno.ENOBUFS, "")
    assert scene.receive() == []
    assert scene.counts["dropped"] == 4


def test_a_closed_sockets_number_which_may_be_anothers_by_now_gets_no_answers() -> None:
    scene = Scene()
    scene.make_crowd()
    scene.calls.inbox = [(b"q", RAW)] * CROWD
    received = scene.receive()
    scene.sock.fd = -1  # what a closed socket says
    for _, (hand_over, address) in received:
        hand_over(b"a", address)
    scene.listener.flush_answers()
    assert scene.calls.sent == []
    assert scene.counts["unsendable"] == CROWD


def test_a_socket_of_another_kind_has_no_such_calls() -> None:
    assert calls_of(Udp()) is None


@pytest.mark.skipif(not hasattr(socket, "AF_INET6"), reason="without IPv6")
def test_addresses_are_readable_in_either_form() -> None:
    assert readable(None) is None
    assert readable(CLIENT) == CLIENT
    assert readable(RAW) == ("192.0.2.7", 4000)
    ipv6 = RAW[:2] + (53).to_bytes(2, "big") + bytes(4) + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(4)
    assert readable(ipv6) == ("2001:db8::1", 53)


def test_a_crowds_queries_are_answered_through_the_whole_program_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inbox(Calls):
        def receive(self, fd: int) -> tuple[list[tuple[bytes, bytes]], int]:
            return [(world.udp.recvfrom(0)[0], RAW) for _ in range(min(BATCH, len(world.udp.inbox)))], 0

    calls = Inbox()
    monkeypatch.setattr("_udp2tls.listener.calls_of", lambda sock: calls)
    monkeypatch.setattr(Udp, "fileno", lambda self: 7, raising=False)
    world = World()
    world.ask(*(query(id=number) for number in range(200)), query(id=200)[:-1], b"short")
    world.turns(12)
    world.link.feed(*map(answer, world.link.frames()))
    world.turns()
    replies = Counter(reply[:2] for reply, _ in (*world.replies(), *calls.sent))
    assert replies == {number.to_bytes(2, "big"): 1 for number in range(201)}
    assert len(calls.sent) > BATCH
    assert world.forwarder.statistics()["dropped"] == 1


def test_answers_that_wait_for_the_end_of_the_turn_are_sent_before_the_program_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = Calls()
    calls.inbox = [(query(id=number), RAW) for number in range(CROWD)]
    monkeypatch.setattr("_udp2tls.listener.calls_of", lambda sock: calls)
    monkeypatch.setattr(Udp, "fileno", lambda self: 7, raising=False)
    world = World()
    world.ask(*(query(id=number) for number in range(100, 140)))
    world.turns(12)
    world.forwarder.close()
    assert [reply[3] & 15 for reply, _ in calls.sent] == [2] * CROWD  # SERVFAIL


def test_who_may_ask_does_not_depend_on_the_form_of_the_address() -> None:
    clients = World(allow=(ipaddress.ip_network("192.0.2.0/29"),)).forwarder.clients
    strangers = RAW[:7] + b"\x08" + bytes(8), ("192.0.2.8", 4000)
    assert [clients._may_ask(address) for address in (RAW, readable(RAW), *strangers)] == [True, True, False, False]
