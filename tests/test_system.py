"""The system's side: the own selector, and errors that name their remedy."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
from pathlib import Path

import pytest

from _udp2tls import loop, system
from _udp2tls.config import BindError, Endpoint


def test_reading_and_writing_are_called_as_selectors_calls_them() -> None:
    assert (loop.READ, loop.WRITE) == (selectors.EVENT_READ, selectors.EVENT_WRITE)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll on this system")
def test_the_own_selector_says_what_the_standard_one_says() -> None:
    both = system.Epoll(), selectors.DefaultSelector()

    def ready() -> int:
        own, standard = ([(key.data, mask) for key, mask in one.select(0)] for one in both)
        assert own == standard
        return own[0][1] if own else 0

    near, far = socket.socketpair()
    with near, far:
        for one in both:
            one.register(near, selectors.EVENT_READ, "data")
        assert ready() == 0
        far.send(b"x")
        assert ready() == selectors.EVENT_READ
        for one in both:
            one.modify(near, selectors.EVENT_READ | selectors.EVENT_WRITE, "more")
        assert ready() == selectors.EVENT_READ | selectors.EVENT_WRITE
        for one in both:
            one.modify(near, selectors.EVENT_WRITE, "write")
        assert ready() == selectors.EVENT_WRITE
        far.close()
        for events in (selectors.EVENT_READ, selectors.EVENT_WRITE):
            for one in both:
                one.modify(near, events, "hung up")
            assert ready() == events
        for one in both:
            one.unregister(near)
            assert not one.select(0)
            one.close()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.EACCES, "CAP_NET_BIND_SERVICE"), (10013, "another program"), (errno.EADDRNOTAVAIL, "does not have")],
)
def test_every_bind_error_has_its_remedy(code: int, remedy: str) -> None:
    assert remedy in str(BindError(Endpoint("192.0.2.1", 53), "UDP", OSError(code, "injected")))


def test_a_waiting_connection_has_its_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with system.open_blocking(Endpoint(*server.getsockname()), 5.0) as sock:
            assert sock.gettimeout() == 5.0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        address = Endpoint(*server.getsockname())
    with pytest.raises(ConnectionRefusedError):
        system.open_blocking(address, 5.0)


def test_the_service_manager_is_told_where_there_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    system.notify("READY=1")
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        system.notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody-listens-there")
    system.notify("STOPPING=1")


def test_sockets_of_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    assert system.inherited() == {}


def test_the_way_to_an_address_starts_at_one_of_ours() -> None:
    assert system.local_address_towards(Endpoint("127.0.0.1", 853)) == "127.0.0.1"
    assert system.local_address_towards(Endpoint("not an address", 853)) == ""
