"""A DNS-over-TLS server for faults: it does with each connection what a script says, and notes everything."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tests import authority
from tests.peers import asking

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: close sends RST


class Connection:
    """A connection after its handshake. Reading ends at the peer's end, and when the server is stopped."""

    def __init__(self, server: Server, sock: ssl.SSLSocket) -> None:
        self.server = server
        self.sock = sock
        self.answered = 0

    def read(self) -> bytes:
        """Return the next query, b"" when there will be none."""
        message = asking.read_frame(self.sock)
        if message:
            self.server.queries.append(message)
        return message

    def queries(self) -> Iterator[bytes]:
        while message := self.read():
            yield message

    def write(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send(self, *messages: bytes) -> None:
        self.write(b"".join(asking.framed(message) for message in messages))

    def answer(self, query: bytes) -> None:
        self.send(right_answer(query))
        self.answered += 1

    def say_goodbye(self) -> None:
        """Close as TLS asks for."""
        self.sock.settimeout(1)
        with contextlib.suppress(OSError, ValueError):
            self.sock.unwrap()

    def finish(self) -> None:
        """Close the stream without a TLS close."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sock.close()


Script = Callable[[Connection], None]


def serve(connection: Connection) -> None:
    """Answer everything rightly."""
    for query in connection.queries():
        connection.answer(query)


def serve_one(connection: Connection) -> None:
    """Answer one query and close."""
    connection.answer(connection.read())
    connection.say_goodbye()


def swallow(connection: Connection) -> None:
    """Read everything, say nothing."""
    for _ in connection.queries():
        pass


class Server:
    """Listens on loopback while the ``with`` block runs; one thread a connection.

    Without a ``context`` it accepts connections and says nothing at all on them.
    """

    def __init__(self, script: Script, context: ssl.SSLContext | None, port: int = 0, host: str = "127.0.0.1") -> None:
        self.script = script
        self.accepted = 0
        self.refused: list[str] = []  # why handshakes failed
        self.resumed = 0
        self.queries: list[bytes] = []  # decrypted
        self._context = context
        self._listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
        self.port: int = self._listener.getsockname()[1]
        self._socks: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopped = True
            for sock in (self._listener, *self._socks):
                with contextlib.suppress(OSError):
                    # The socket's own: ssl's would pull the session away from its thread.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._stopped:
                    sock.close()
                    return
                self.accepted += 1
                self._socks.add(sock)
            self._start(self._run, sock)

    def _run(self, plain: socket.socket) -> None:
        sock = plain
        try:
            plain.settimeout(60)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is None:
                while plain.recv(65536):
                    pass
                return
            tls = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                self._socks.discard(plain)
                self._socks.add(tls)
                sock = tls
                if self._stopped:
                    return
            try:
                tls.do_handshake()
            except OSError as error:
                self.refused.append(str(error))
                return
            self.resumed += bool(tls.session_reused)
            self.script(Connection(self, tls))
        except OSError:
            pass  # the forwarder or the test ended the connection
        finally:
            with self._lock:
                self._socks.discard(sock)
                sock.close()


def right_answer(query: bytes) -> bytes:
    """Answer as asking.is_right wants it; FORMERR for what cannot be read."""
    question = asking.question_of(query)
    if not question:
        return query[:2] + b"\x80\x01" + bytes(8)
    kind = int.from_bytes(question[-4:-2], "big")
    head = query[:2] + bytes((0x80 | query[2] & 1, 0x80)) + b"\0\1"
    if kind != asking.A:
        return head + bytes(6) + question
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + asking.address_for(question)
    return head + b"\0\1\0\0\0\1" + question + record + asking.opt_record()


def context_for(
    certificate: str, key: str, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2, client_ca: str = "",
) -> ssl.SSLContext:  # fmt: skip
    """Return a server's context; with ``client_ca`` it demands a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.1, to see it refused
        context.minimum_version = oldest
        context.maximum_version = newest
    if newest < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL 3 would not speak it at all
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def good_context(certs: authority.Authority) -> ssl.SSLContext:
    return context_for(certs.server_cert, certs.server_key)


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Listen without ever accepting, the backlog full: connecting gets no reply at all. Gives the port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(("127.0.0.1", port))
        yield port


class Relay:
    """Passes TCP through to ``target`` on loopback and counts the connections it accepted."""

    def __init__(self, target: int) -> None:
        self.accepted = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self._listener, *self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)
        for sock in (self._listener, *self._socks):
            sock.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._socks.append(inside)
            try:
                outside = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                continue
            self._socks.append(outside)
            self._start(_pump, inside, outside)
            self._start(_pump, outside, inside)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # either end is gone; the other learns it by itself


def wait_until(true: Callable[[], object], seconds: float = 8.0) -> None:
    """Wait until ``true()`` is; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
