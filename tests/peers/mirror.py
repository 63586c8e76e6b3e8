"""A mirror of signed lists: a real HTTPS server on loopback, as slow and as false as a test says."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests import authority
from tests.peers import scripted

# Writes the answer, headers and all, by itself.
Script = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.mirror.asked.append(self.path)
        self.server.mirror.names.append(self.headers["Host"])
        found = self.server.mirror.files.get(self.path)
        with contextlib.suppress(OSError):
            if callable(found):
                found(self)
            elif found is None:
                self.send_error(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

    def log_message(self, *arguments: object) -> None:
        pass

    @property
    def wanted(self) -> bool:
        """False when the test is over."""
        return not self.server.mirror.over.is_set()


class _Server(http.server.ThreadingHTTPServer):
    mirror: Mirror

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # who does not trust us goes away


class Mirror:
    """Serves ``files`` while the ``with`` block runs."""

    def __init__(self, certs: authority.Authority, kind: str = "server") -> None:
        self.files: dict[str, bytes | Script] = {}
        self.asked: list[str] = []
        self.names: list[str] = []
        self.over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.mirror = self
        context = scripted.context_for(getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key"))
        context.set_alpn_protocols(["http/1.1"])
        # The handshake is the first read's, in the request's own thread.
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )  # fmt: skip
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def url(self, path: str = "/list.md") -> str:
        return f"https://{authority.NAME}:{self.port}{path}"

    def serve(self, pair: tuple[bytes, bytes], path: str = "/list.md") -> None:
        self.files[path], self.files[path + ".minisig"] = pair


def silence(handler: Handler) -> None:
    """Say nothing, and keep the connection."""
    handler.server.mirror.over.wait(60)


def drip(handler: Handler) -> None:
    """Send a byte now and then, which keeps every timeout of a single read from coming."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
    while handler.wanted:
        handler.wfile.write(b"#")
        time.sleep(0.02)


def flood(handler: Handler) -> None:
    """Send as fast as can be, in chunks of a byte."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunks = b"1\r\n#\r\n" * 10_000
    while handler.wanted:
        handler.wfile.write(chunks)
