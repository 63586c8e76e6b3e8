"""The system's side: the own selector, and errors that name their remedy."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from pathlib import Path

import pytest

from _udp2tls import system
from _udp2tls.config import BindError, Endpoint


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


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="Unix only: no AF_UNIX here")
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


def test_the_socket_knows_why_a_connection_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Endpoint(*server.getsockname())
        with system.open_stream_to(address) as sock, selectors.SelectSelector() as waiting:
            waiting.register(sock, selectors.EVENT_WRITE)
            assert waiting.select(5)
            assert system.connect_error(sock) is None
    with system.open_stream_to(address) as sock, selectors.SelectSelector() as waiting:
        waiting.register(sock, selectors.EVENT_WRITE)
        assert waiting.select(5)
        error = system.connect_error(sock)
    assert isinstance(error, ConnectionRefusedError)
    assert str(error.strerror).lower() == "connection refused"


@pytest.mark.parametrize(("code", "words"), [(10061, "connection refused"), (10060, "timed out"), (10065, "no route")])
def test_errors_of_windows_have_words(code: int, words: str) -> None:
    error = system._os_error(code)
    assert error.errno == code
    assert words in str(error)


def test_listening_sockets_get_the_options_that_are_asked_for() -> None:
    keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    nodelay = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    udp, tcp = system.bind_both(Endpoint("127.0.0.1", 0), (keepalive, nodelay))
    with udp, tcp:
        assert tcp.getsockopt(*keepalive[:2])
        assert not tcp.getsockopt(*nodelay[:2])
    with pytest.raises(BindError):
        system.bind_both(Endpoint("127.0.0.1", 0), ((socket.SOL_SOCKET, 54321, 1),))
