"""Errors as only Windows gives them, raised by fake sockets: none ends anything but what it is about.

Wine does not give them (see ``tests/windows``), and Linux has other numbers. Here the numbers
are Windows' own; there Python makes the same exceptions of them as the errno of that name.
"""

from __future__ import annotations

import errno
import logging
import sys

import pytest

from _udp2tls.config import BindError, Endpoint
from tests.fakes import CLIENT, Tcp, World, answer, query


def winsock(code: int, kind: type[OSError] = OSError) -> OSError:
    """Return the error as a socket raises it: on Windows with winerror, which is what tells 13 from 10013."""
    if sys.platform == "win32":
        return OSError(0, "injected", None, code)  # Python finds the kind and the errno
    error = kind(code, "injected")
    error.__dict__["winerror"] = code
    return error


@pytest.mark.parametrize("code", [10052, 10054, 10040, 10055, 10022, 10051])
def test_a_listener_reads_on_after_every_error(code: int) -> None:
    world = World()
    for number in range(100):
        world.udp.inbox.append(winsock(code, ConnectionResetError if code == 10054 else OSError))
        world.ask(query(id=number))
    world.turns(250)
    assert len(world.link.frames()) == 100
    assert world.forwarder.statistics()["dropped"] == 100


def test_nothing_there_is_no_error() -> None:
    world = World()
    world.udp.inbox.append(winsock(10035, BlockingIOError))
    world.turns()
    assert world.forwarder.statistics()["dropped"] == 0
    stream = world.client()
    stream.error = winsock(10035, BlockingIOError)
    world.turns()
    assert not stream.closed


@pytest.mark.parametrize("code", [10022, 10040, 10054, 10055, 10065, 10013])
def test_an_answer_that_cannot_be_sent_is_one_answer(code: int) -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.udp.send_error = winsock(code)
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    world.udp.send_error = None
    world.ask(query(id=2))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert world.replies() == [(answer(query(id=2)), CLIENT)]
    assert world.forwarder.statistics()["unsendable"] == 1


class Full(Tcp):
    """The system has no buffers for a write, ``times`` times."""

    def __init__(self, code: int, times: int = 3) -> None:
        super().__init__()
        self.code, self.times = code, times

    def send(self, data: bytes) -> int:
        if self.times:
            self.times -= 1
            raise winsock(self.code)
        return super().send(data)


@pytest.mark.parametrize("code", [errno.ENOBUFS, 10055])
def test_a_write_without_buffers_waits(code: int) -> None:
    world = World()
    world.on_open = lambda address: Full(code)
    world.ask(query())
    world.turns(12)
    assert len(world.opened) == 1
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert world.replies() == [(answer(query()), CLIENT)]


@pytest.mark.parametrize("code", [10024, 10055])
def test_a_client_that_cannot_be_accepted_costs_the_quietest(code: int) -> None:
    world = World()
    first = world.client()
    world.tcp.queue.append(winsock(code))
    second = world.client()
    assert first.closed
    assert not second.closed


@pytest.mark.parametrize("code", [10054, 10053])
def test_a_client_that_hung_up_before_it_was_accepted_costs_nothing(code: int) -> None:
    world = World()
    first = world.client()
    world.tcp.queue.append(winsock(code))
    second = world.client()
    assert not first.closed
    assert not second.closed


class Refused(Tcp):
    """A failed connect as Windows shows it: writable; SO_ERROR knows the reason, a write says 10057."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def getsockopt(self, level: int, option: int) -> int:
        super().getsockopt(level, option)
        code, self.code = self.code, 0  # reading it clears it
        return code

    def send(self, data: bytes) -> int:
        raise winsock(10057)


@pytest.mark.parametrize(
    ("code", "words"), [(10061, "connection refused"), (10060, "connection timed out"), (10065, "no route to host")]
)
def test_a_failed_connect_says_why(code: int, words: str, caplog: pytest.LogCaptureFixture) -> None:
    world = World("tls://192.0.2.1", "tls://192.0.2.2")
    world.on_open = lambda address: Refused(code) if address.host == "192.0.2.1" else Tcp()
    with caplog.at_level(logging.WARNING, "udp2tls"):
        world.ask(query())
        world.turns()
    assert f"cannot use tls://192.0.2.1 at 192.0.2.1:853: {words}" in caplog.messages
    assert "10057" not in caplog.text
    assert world.opened[0][1].closed
    assert world.opened[-1][0].host == "192.0.2.2"
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert len(world.replies()) == 1
    assert world.forwarder.statistics()["failed_connections"] == 1


def test_the_reason_reaches_the_client_that_waited() -> None:
    world = World()
    world.on_open = lambda address: Refused(10061)
    world.ask(query(size=1232))
    world.later(4.2)
    ((reply, _),) = world.replies()
    assert b"connection refused" in reply


@pytest.mark.parametrize("code", [10013, 10048])
@pytest.mark.parametrize("kind", ["UDP", "TCP"])
def test_a_port_that_is_held_has_words_for_finding_the_holder(
    code: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = winsock(code, PermissionError if code == 10013 else OSError)
    if code == 10013:
        error.errno = errno.EACCES  # as Python on Windows has it
    monkeypatch.setattr(sys, "platform", "win32")
    said = str(BindError(Endpoint("127.0.0.1", 53), kind, error))
    assert f"cannot listen on 127.0.0.1:53 ({kind})" in said
    assert "Get-NetUDPEndpoint -LocalPort 53" in said
    assert "Get-NetTCPConnection -State Listen -LocalPort 53" in said
    assert "Internet Connection Sharing" in said
    assert "CAP_NET" not in said


def test_an_address_this_machine_lacks_is_known_by_windows_number() -> None:
    error = BindError(Endpoint("::1", 53), "UDP", winsock(10049))
    assert error.no_such_address
    assert "does not have the address" in str(error)


def test_a_clock_that_stands_still_for_a_while_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """time.monotonic before Python 3.13: steps of 15.6 ms, so that things take no time at all."""
    world = World(timeout=4.0)
    step = 1 / 64
    monkeypatch.setattr(world.forwarder, "_clock", lambda: world.clock.now // step * step)
    for number in range(200):
        world.ask(query(id=number))
        world.serve(0.007)
    assert len(world.replies()) == 200
    first = len(world.opened)
    world.ask(query(id=1000))
    world.turns()
    world.later(4.2)  # it fell silent: doubted, asked, replaced, given up
    ((reply, _),) = world.replies()
    assert reply[3] & 15 == 2
    assert len(world.opened) > first
    world.ask(query(id=1001))
    world.serve(3.0)
    assert answer(query(id=1001)) in [reply for reply, _ in world.replies()]
