"""The system's side: the own selector, and errors that name their remedy."""

from __future__ import annotations

import errno
import select
import selectors
import socket

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
