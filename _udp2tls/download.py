"""One file over HTTPS, for a thread that may wait.

Owns the way from a URL to its bytes: addresses in turn, TLS with certificate and name
verified, one GET by the standard library's ``http.client``, redirects to https alone. The
server is a stranger: whatever it does, and however slowly, the call ends within its time, has
read no more than its share, and either returns the file or raises a DownloadError, one sentence.

``http.client`` knows no time and no end. So it is given, in place of the socket, a ``_Wire``,
which before each wait sets what is left of the time, and counts what comes. Only the
system's resolver, where ``find`` asks it, waits as long as it likes.
"""

from __future__ import annotations

import http.client
import io
import os
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from _udp2tls import system, tls
from _udp2tls.config import Config, Endpoint, ascii_name, is_address

# Seconds for one file with all redirects. The largest list there is has 400,000 bytes.
LIMIT = 30.0

REDIRECTS = 3
MOVED = frozenset((301, 302, 303, 307, 308))

# Of a name: whoever answers for it must not make us knock at a thousand doors.
ADDRESSES = 8

# Bytes beside the body: the header, and borders of chunks, for which there is an eighth of the body
# too. A server that sends headers without end, or chunks of one byte each, which cost time of
# the interpreter that the loop wants, comes to the end of this.
HEADER = 1 << 16

# Characters of a URL that are sent as they are; "%" for what is quoted already.
SAFE = "/%:@!$&'()*+,;=~-._"

Find = Callable[[str], tuple[list[str], str]]


class DownloadError(ValueError):
    """A file that could not be had: one sentence that says why. Nothing of what the server sent is in it."""


class End(Exception):
    """The time is up, or the bytes. No ValueError, which ``http.client`` would take for one of its own."""


class Target(NamedTuple):
    """An https URL, ready to be asked for."""

    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read a URL; raise DownloadError."""
        try:
            parts = urlsplit(url)
            port = 443 if parts.port is None else parts.port
        except ValueError:
            raise DownloadError("this is no URL") from None
        if parts.scheme != "https" or not parts.hostname:
            raise DownloadError("this is not https://HOST/PATH")
        if parts.username is not None or parts.password is not None:
            raise DownloadError("a URL with a user's name or password is not asked for")
        host = parts.hostname if is_address(parts.hostname) else ascii_name(parts.hostname)
        if not host or not port:
            raise DownloadError("the host or port of the URL is none")
        try:
            query = "?" + quote(parts.query, safe=SAFE + "?") if parts.query else ""
            return cls(host, port, quote(parts.path or "/", safe=SAFE) + query)
        except UnicodeError:  # surrogates
            raise DownloadError("this is no URL") from None


def context(config: Config) -> ssl.SSLContext:
    """Return what verifies the servers of files: the upstreams' trust, without our certificate. Raises ConfigError."""
    by_system = tls.system_verifies(config.ca_file, "", frozenset(), os.environ)
    made = tls.client_context(config.ca_file, by_system=by_system)
    made.set_alpn_protocols(["http/1.1"])
    return made


class Downloader:
    """Gets files. For one thread, and a short time: it remembers the addresses it was told.

    ``find`` gives a name's addresses, or why there are none; ``clock`` monotonic seconds;
    ``connect`` a connected socket, within so many seconds.
    """

    def __init__(
        self, find: Find, context: ssl.SSLContext, clock: Callable[[], float], *,
        connect: Callable[[Endpoint, float], Any] = system.open_blocking, limit: float = LIMIT,
    ) -> None:  # fmt: skip
        self._find, self._context, self._clock = find, context, clock
        self._connect, self._limit = connect, limit
        self._found: dict[str, list[str]] = {}

    def get(self, url: str, most: int) -> bytes:
        """Return the file at ``url``, of at most so many bytes; raise DownloadError. Blocks."""
        end = self._clock() + self._limit

        def left() -> float:
            rest = end - self._clock()
            if rest <= 0:
                raise End(f"it took longer than {self._limit:g} s")
            return rest

        try:
            return self._get(url, most, left)
        except End as error:
            raise DownloadError(str(error)) from None

    def _get(self, url: str, most: int, left: Callable[[], float]) -> bytes:
        for _ in range(REDIRECTS + 1):
            target = Target.parse(url)
            sock = self._open(target, left)
            try:
                found, body = exchange(_Wire(sock, left, most + most // 8 + HEADER), target, most)
            finally:
                sock.close()
            if not found:
                return body
            try:
                url = urljoin(url, found)
            except ValueError:
                raise DownloadError("the server sends us to something that is no URL") from None
            if not url.startswith("https://"):
                raise DownloadError("the server sends us to something that is not https")
        raise DownloadError(f"the server sends us to another place more than {REDIRECTS} times")

    def _open(self, target: Target, left: Callable[[], float]) -> Any:
        """Return a TLS connection whose peer is who it should be; each address has its share of the time."""
        addresses = [target.host] if is_address(target.host) else self._addresses(target.host)
        problems: dict[str, None] = {}
        for number, address in enumerate(addresses):
            share = left() / (len(addresses) - number)
            try:
                return self._secure(Endpoint(address, target.port), target.host, share)
            except OSError as error:  # ssl.SSLError is one
                problems[f"{address}: {_said(error)}"] = None
        left()
        raise DownloadError("; ".join(problems))

    def _addresses(self, host: str) -> list[str]:
        if host not in self._found:
            addresses, reason = self._find(host)
            if not addresses:
                raise DownloadError(f"cannot find the address of {host}: {reason}")
            self._found[host] = list(dict.fromkeys(addresses))[:ADDRESSES]
        return self._found[host]

    def _secure(self, endpoint: Endpoint, host: str, share: float) -> Any:
        until = self._clock() + share
        sock = self._connect(endpoint, share)
        try:
            sock.settimeout(max(0.001, until - self._clock()))
            secure = self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        except BaseException:
            sock.close()
            raise
        try:
            secure.do_handshake()  # asked for: else a peer that is gone already leaves a socket without TLS
        except BaseException:
            secure.close()
            raise
        return secure


class _Wire:
    """A connection as ``http.client`` sees it: every wait is bounded, and so is what comes."""

    def __init__(self, sock: Any, left: Callable[[], float], most: int) -> None:
        self._sock, self._left, self._most = sock, left, most

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._left())
        self._sock.sendall(data)  # its timeout is for the whole of it

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Answer(self._sock, self._left, self._most))

    def close(self) -> None:
        """Do nothing: ``http.client`` closes before it reads, as the file of a socket lives on."""


class _Answer(io.RawIOBase):
    """What comes on a connection; see _Wire."""

    def __init__(self, sock: Any, left: Callable[[], float], most: int) -> None:
        self._sock, self._left, self._most = sock, left, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._left())
        count: int = self._sock.recv_into(buffer)
        self._most -= count
        if self._most < 0:
            raise End("the server sends without end")
        return count


class _Connection(http.client.HTTPConnection):
    default_port = 443  # so that the Host header names any other
    auto_open = 0


def exchange(wire: Any, target: Target, most: int) -> tuple[str, bytes]:
    """Ask for ``target`` on an open connection; return where it has moved to, or "" and the body.

    Raises DownloadError, and End when ``wire`` does.
    """
    connection = _Connection(target.host, target.port)
    connection.sock = wire
    try:
        connection.request("GET", target.path, headers={"User-Agent": "udp2tls", "Connection": "close"})
        with connection.getresponse() as response:
            return _read(response, most)
    except DownloadError:
        raise
    except (OSError, EOFError) as error:
        raise DownloadError(_said(error)) from None
    except (http.client.HTTPException, ValueError) as error:  # their words may be the server's
        raise DownloadError(f"the server's answer cannot be read ({type(error).__name__})") from None
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, most: int) -> tuple[str, bytes]:
    if response.status in MOVED:
        location = response.headers.get("Location", "")
        if not location:
            raise DownloadError(f"the server says {response.status} and not where to go")
        return location, b""
    if response.status != 200:
        raise DownloadError(f"the server says {response.status}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise DownloadError("the server has packed the file, which nobody asked for")
    if response.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        raise DownloadError("the server sends the file in an encoding that nobody asked for")
    length = response.length
    if length is not None and length > most:
        raise DownloadError(f"the file has {length} bytes, and {most} are the most")
    body = response.read(most + 1)
    if len(body) > most:
        raise DownloadError(f"the file has more than {most} bytes")
    if length is not None and len(body) < length:
        raise DownloadError(f"the connection ended after {len(body)} of {length} bytes")
    return "", body


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {getattr(error, 'verify_message', '') or error}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return (isinstance(error, OSError) and error.strerror) or str(error) or "the connection ended"
