"""The operating system's side: sockets bound and opened, and what waits for them.

The one room that makes sockets. It decides nothing about them: whoever asked for one
reads, writes and closes it. It never reads a clock, and but for what serves ``--doctor``,
``--demo`` and downloads it never blocks.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from _udp2tls.config import BindError, Endpoint

# A burst of 5000 queries fits; the kernel may give less (net.core.rmem_max).
SOCKET_BUFFER = 4 << 20

# Errors of Windows' sockets in words; strerror there knows only those of the C library.
WINSOCK = {
    10013: "forbidden, perhaps by a firewall", 10048: "address already in use", 10049: "no such address here",
    10050: "the network is down", 10051: "network is unreachable", 10053: "connection aborted",
    10054: "connection reset by peer", 10055: "no buffer space available", 10060: "connection timed out",
    10061: "connection refused", 10064: "the host is down", 10065: "no route to host",
}  # fmt: skip


# Windows sleeps for half a millisecond at the least, and often for many.
FINE_TIMERS = sys.platform != "win32"


def make_timers_exact() -> None:
    """Have Linux end a short sleep in time, not up to 50 us late (PR_SET_TIMERSLACK)."""
    try:
        with open("/proc/self/timerslack_ns", "wb") as file:
            file.write(b"1000")
    except OSError:
        pass  # another system, or forbidden: pauses are a little longer


def connect_error(sock: Any) -> OSError | None:
    """Return why a connection that was begun has failed, None if it has not.

    Asks the socket: on Windows a write would only say "not connected" (10057).
    """
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return _os_error(code) if code else None


def _os_error(code: int) -> OSError:
    return OSError(code, WINSOCK.get(code) or os.strerror(code))


def open_stream_to(
    address: Endpoint, local: str = "", options: Sequence[tuple[int, int, int]] = (), *, datagrams: bool = False
) -> socket.socket:
    """Return a non-blocking socket that is connecting to ``address``, or for datagrams is connected; raises OSError.

    ``local`` is an address of this machine to connect from; ``options`` are (level, option, value).
    """
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, kind)
    try:
        sock.setblocking(False)
        if datagrams:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in options:
                sock.setsockopt(*option)
        if local:
            sock.bind((local, 0))
        code = sock.connect_ex(address)
        # 10035 (WSAEWOULDBLOCK) is how Windows says EINPROGRESS.
        if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK, 10035):
            raise _os_error(code)
    except OSError:
        sock.close()
        raise
    return sock


def port_of(service: str) -> int:
    """Return the port of a service's name; raises OSError."""
    return socket.getservbyname(service)


def addresses_of(host: str) -> list[str]:
    """Return the addresses of a host name, by the system's resolver; raises OSError. Blocks."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(str(error)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def constant(name: str) -> int | None:
    """Return a constant of the socket interface, None where this system lacks it."""
    value = getattr(socket, name, None)
    return int(value) if isinstance(value, int) else None


def notify(state: str) -> None:
    """Tell the service manager, as systemd's sd_notify does: READY=1, STOPPING=1. Without one, nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path and hasattr(socket, "AF_UNIX"):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            pass  # whoever wanted to know is gone


def inherited() -> dict[Endpoint, tuple[socket.socket | None, socket.socket | None]]:
    """Return the sockets that systemd has bound for us (LISTEN_FDS): by address, UDP and TCP."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    found: dict[Endpoint, dict[int, socket.socket]] = {}
    for number in range(3, 3 + int(os.environ.get("LISTEN_FDS") or 0)):
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock.setblocking(False)
            host, port = sock.getsockname()[:2]
            found.setdefault(Endpoint(host, port), {})[sock.type] = sock
        else:
            sock.close()
    return {at: (kinds.get(socket.SOCK_DGRAM), kinds.get(socket.SOCK_STREAM)) for at, kinds in found.items()}


def local_address_towards(address: Endpoint) -> str:
    """Return this machine's address on the way to ``address``, "" when there is no way. Sends nothing."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(tuple(address))  # of a datagram socket: a look at the routes
            return str(sock.getsockname()[0])
    except OSError:
        return ""


def open_blocking(address: Endpoint, timeout: float) -> socket.socket:
    """Return a connected socket that waits, for ``--doctor`` and threads; raises OSError, in ``timeout`` at most."""
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def open_datagrams(address: Endpoint, timeout: float) -> socket.socket:
    """Return a UDP socket that is connected to ``address`` and waits for so long, for ``--doctor``; raises OSError."""
    sock = open_stream_to(address, datagrams=True)
    sock.settimeout(timeout)
    return sock


def open_demo_listener() -> tuple[socket.socket, int]:
    """Bind a loopback TCP port for the demo's resolver."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock, sock.getsockname()[1]


def ask_both(server: Endpoint) -> None:
    """Ask one query over UDP and one over TCP, print both answers, and say what to try. Blocks; for the demo."""
    question = b"\x03www\x07example\0\0\1\0\1"
    for said, kind, id in ("UDP", socket.SOCK_DGRAM, b"\x12\x34"), ("TCP", socket.SOCK_STREAM, b"\x43\x21"):
        query = id + b"\1\0\0\1\0\0\0\0\0\0" + question
        with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET, kind) as sock:
            sock.settimeout(10)
            sock.connect(tuple(server))
            if kind == socket.SOCK_STREAM:
                query = len(query).to_bytes(2, "big") + query
            sock.sendall(query)
            answer = sock.recv(65535)
        print(f"{said}: www.example has address {socket.inet_ntoa(answer[-4:])}", flush=True)
    print(f"Now try: dig @{server.host} -p {server.port} www.example, with +tcp, or large.example TXT.", flush=True)
    print("It keeps running; Ctrl-C ends it.", flush=True)


def bind_both(
    endpoint: Endpoint, options: Sequence[tuple[int, int, int]] = ()
) -> tuple[socket.socket, socket.socket]:
    """Bind one address for UDP and, on the same port, for TCP. Raises BindError.

    ``options`` are (level, option, value); those of TCP's own level are for TCP alone.
    """
    for _ in range(10 if endpoint.port == 0 else 1):
        try:
            return _bind_once(endpoint, options)
        except BindError as error:
            taken = error  # perhaps only of the port that UDP was given, by a TCP socket
    raise taken


def _bind_once(
    endpoint: Endpoint, options: Sequence[tuple[int, int, int]]
) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    udp = tcp = None
    kind = "UDP"
    try:
        udp = socket.socket(family, socket.SOCK_DGRAM)
        _prepare(udp, family)
        _ask_for_buffer(udp)
        for level, option, value in options:
            if level != socket.IPPROTO_TCP:
                udp.setsockopt(level, option, value)
        udp.bind(tuple(endpoint))
        port = udp.getsockname()[1]
        kind = "TCP"
        tcp = socket.socket(family, socket.SOCK_STREAM)
        _prepare(tcp, family)
        if sys.platform != "win32":
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
        for level, option, value in options:
            tcp.setsockopt(level, option, value)
        tcp.bind((endpoint.host, port))
        tcp.listen(1024)
    except OSError as error:
        for sock in (udp, tcp):
            if sock is not None:
                sock.close()
        raise BindError(endpoint, kind, error) from error
    return udp, tcp


def _prepare(sock: socket.socket, family: int) -> None:
    sock.setblocking(False)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # [::] must not take IPv4's port
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
        # On Windows another program could otherwise bind the same port beside us.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)


def _ask_for_buffer(sock: socket.socket) -> None:
    # 33 is SO_RCVBUFFORCE on Linux: above rmem_max for those with CAP_NET_ADMIN.
    for option in (33, socket.SO_RCVBUF) if sys.platform == "linux" else (socket.SO_RCVBUF,):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
            return
        except OSError:
            continue
